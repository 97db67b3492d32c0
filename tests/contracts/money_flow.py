"""Relays and money ledgers in memory; a test holds back or ends each packet as it likes.

`Flow` knows each packet that was sent and where it stands; `actions` are what can happen next, and
`explore` does all of it in every order. `check` is the oracle: it knows the rules of DESIGN §8 and
nothing of how the contracts keep them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from functools import lru_cache, partial
from math import floor
from typing import Any

from relay.canonical import Json, decode, encode
from relay.contract import Audited, Contract
from relay.contracts.escrow import CONTRACT as ESCROW
from relay.contracts.escrow import Held, find_end, last_line
from relay.contracts.payloads import Ended, Instruction, SignedInstruction
from relay.contracts.settlement import CONTRACT as SETTLEMENT
from relay.contracts.settlement import find_settlement
from relay.errors import LianqiaoError
from relay.money import exponent
from relay.packet import ERROR_ACKNOWLEDGEMENT, Packet
from tests.contracts.ledger import Ledger, Network
from tests.contracts.money_world import COINSURER, HK, HUB, INSURER, MAKER, MO, OWNERS, RATE, SZ
from tests.contracts.world import NOW, Person, digest

PLENTY = 100_000_000
SENT, RECEIVED, DONE, EXPIRED = "sent", "received", "done", "expired"
NO_LIMITS = {"counterparty": 0, "daily": 0, "officer": 0, "regulator": 0}
ACCOUNTS: dict[str, dict[str, tuple[str, str, Person]]] = {
    HK: {
        "insurer": ("HKD", "hk-insurer", INSURER),
        "maker-hkd": ("HKD", "maker-1", MAKER),
        "hk-fees": ("HKD", "hk-bank", INSURER),
    },
    SZ: {
        "maker-cny": ("CNY", "maker-1", MAKER),
        "hospital": ("CNY", "sz-hospital", OWNERS[SZ, "hospital"]),
    },
    MO: {
        "coinsurer": ("HKD", "mo-coinsurer", COINSURER),
        "maker-mo": ("HKD", "maker-1", MAKER),
    },
}
"""By ledger: account → currency, owner, who signs."""


def terms(
    account: str, code: str, owner: str, by: Person, version: int = 1, **changes: Any
) -> dict[str, Any]:
    base: dict[str, Any] = {
        "account": account,
        "closed": False,
        "cosigners": [],
        "currency": code,
        "keys": [by.dated()],
        "limits": NO_LIMITS,
        "owner": owner,
        "version": version,
    }
    limits = {**NO_LIMITS, **changes.pop("limits", {})}
    return {**base, **changes, "limits": limits}


def policy(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "bill": "CNY",
        "collar": 10_000,
        "effective_from": 0,
        "max_age_days": 5,
        "mode": "firm",
        "name": "cny-hkd",
        "payable": "HKD",
        "provenance": "made for tests",
        "reference": {"denominator": RATE.denominator, "numerator": RATE.numerator},
        "source": "ECB",
        "version": 1,
    }
    return {**base, **changes}


class Flow(Network):
    """Ledgers of money around relays, at NOW, with accounts, funds and a rate policy."""

    def __init__(
        self,
        *,
        ledgers: Sequence[str] = (HK, SZ),
        relays: Sequence[str] = (HUB,),
        accounts: dict[str, dict[str, tuple[str, str, Person]]] | None = None,
        funds: dict[str, int] | None = None,
        escrow: Contract = ESCROW,
        settlement: Contract = SETTLEMENT,
    ) -> None:
        self.relays = [Ledger(name, settlement) for name in relays]
        self.money = {name: Ledger(name, escrow) for name in ledgers}
        super().__init__([*self.relays, *self.money.values()])
        self.at(NOW)
        self.state: dict[tuple[str, int], tuple[str, bytes]] = {}
        """(relay, index of packet) → where it stands, and its acknowledgement."""
        self.accounts = accounts or ACCOUNTS
        for relay in self.relays:
            for ledger in self.money.values():
                self.connect(relay, ledger, NOW)
            relay.call("rates.policy", encode(policy()))
        for name, ledger in self.money.items():
            for account, (code, owner, person) in self.accounts[name].items():
                self.open(name, terms(account, code, owner, person))
                amount = (funds or {}).get(account, PLENTY)
                if amount:
                    self.deposit(ledger, account, code, amount)

    @property
    def hub(self) -> Ledger:
        return self.relays[0]

    def open(self, ledger: str, asked: dict[str, Any]) -> None:
        """Opens an account, or its next version, on a ledger and at every relay."""
        self.money[ledger].call("currency.open", encode({"currency": asked["currency"]}))
        self.money[ledger].call("account.open", encode(asked))
        for relay in self.relays:
            relay.call("account.register", encode({**asked, "ledger": ledger}))

    def deposit(self, ledger: Ledger, account: str, code: str, amount: int, name: str = "") -> None:
        reference = digest(f"deposit {ledger.chain_id} {account} {name}").hex()
        body: Json = {
            "account": account,
            "amount": amount,
            "currency": code,
            "reference": reference,
        }
        ledger.call("deposit", encode(body))

    def instruct(self, given: SignedInstruction, relay: Ledger | None = None) -> bytes:
        return (relay or self.hub).call("instruct", encode({"signed": given.to_json()}))

    def balance(self, ledger: str, account: str) -> int:
        return last_line(self.money[ledger], account).balance

    def balances(self) -> dict[str, tuple[int, int]]:
        """(balance, held) of every account there is."""
        return {
            account: (line.balance, line.held)
            for name, ledger in self.money.items()
            for account in self.accounts[name]
            for line in [last_line(ledger, account)]
        }

    # --- packets, one by one

    def packets(self) -> list[tuple[Ledger, int, Packet]]:
        return [(r, i, p) for r in self.relays for i, p in enumerate(r.sent)]

    def stands(self, relay: Ledger, index: int) -> str:
        return self.state.get((relay.chain_id, index), (SENT, b""))[0]

    def there(self, relay: Ledger, packet: Packet) -> Ledger:
        return self.ledgers[relay.peers[packet.source_client].chain_id]

    def receive(self, relay: Ledger, index: int) -> bytes:
        packet = relay.sent[index]
        answer = self.try_receive(relay, packet)
        self.state[relay.chain_id, index] = (RECEIVED, answer)
        return answer

    def try_receive(self, relay: Ledger, packet: Packet) -> bytes:
        try:
            return self.there(relay, packet).receive(packet, relay.entries(packet))
        except LianqiaoError:
            return ERROR_ACKNOWLEDGEMENT

    def acknowledge(self, relay: Ledger, index: int) -> None:
        relay.end(relay.sent[index], self.state[relay.chain_id, index][1])
        self.state[relay.chain_id, index] = (DONE, self.state[relay.chain_id, index][1])

    def expire(self, relay: Ledger, index: int) -> None:
        """The destination will never take it, and the relay has proof of that."""
        self.state[relay.chain_id, index] = (EXPIRED, b"")
        relay.end(relay.sent[index], None)

    def settle(self) -> None:
        """Carries everything to its end, in order."""
        moving = True
        while moving:
            moving = False
            for relay, index, _ in self.packets():
                if self.stands(relay, index) == SENT:
                    self.receive(relay, index)
                    moving = True
                if self.stands(relay, index) == RECEIVED:
                    self.acknowledge(relay, index)
                    moving = True

    # --- everything that can happen next

    def actions(self, resends: int = 1) -> list[tuple[str, int, str]]:
        """(relay, index of packet, what). Locks expire from their timeout on, and are received
        before it; a decision may expire at any time, `resends` times for each ledger."""
        found = []
        for relay, index, packet in self.packets():
            stands, kind = self.stands(relay, index), kind_of(packet)
            late = self.hub.now >= packet.timeout_timestamp
            if stands == RECEIVED:
                found.append((relay.chain_id, index, "acknowledge"))
            elif stands == SENT:
                if not late:
                    found.append((relay.chain_id, index, "receive"))
                same = sum(
                    kind_of(p) == kind and p.source_client == packet.source_client
                    for p in relay.sent
                )
                if late or (kind == "decision_notice" and same <= resends):
                    found.append((relay.chain_id, index, "expire"))
        return found

    def act(self, action: tuple[str, int, str]) -> None:
        name, index, what = action
        relay = self.ledgers[name]
        if what == "receive":
            self.receive(relay, index)
        elif what == "acknowledge":
            self.acknowledge(relay, index)
        else:
            self.expire(relay, index)

    def save(self) -> Any:
        """All there is, to be brought back by `load`."""
        ledgers = {n: (dict(x.written), list(x.sent), x.now) for n, x in self.ledgers.items()}
        return ledgers, dict(self.state)

    def load(self, saved: Any) -> None:
        ledgers, state = saved
        for name, (written, sent, now) in ledgers.items():
            ledger = self.ledgers[name]
            ledger.written, ledger.sent, ledger.now = dict(written), list(sent), now
        self.state = dict(state)

    def key(self) -> Any:
        """Equal where everything is."""
        return (
            tuple(frozenset(x.written.items()) for x in self.ledgers.values()),
            tuple(tuple(x.sent) for x in self.relays),
            frozenset(self.state.items()),
            self.hub.now,
        )


def kind_of(packet: Packet) -> str:
    return str(_body(packet.payloads[0].value)["type"])


@lru_cache(maxsize=4096)
def _body(raw: bytes) -> dict[str, Any]:
    """A record or payload, read once however many states hold it."""
    body = decode(raw)
    assert isinstance(body, dict)
    return body


# --- the oracle


def instructions(flow: Flow) -> Iterable[tuple[Ledger, Instruction]]:
    for relay in flow.relays:
        for key in relay.keys("instruction/"):
            settlement = bytes.fromhex(key.rpartition("/")[2])
            yield relay, find_settlement(relay, settlement).signed.instruction


def check(flow: Flow) -> None:
    """What must hold after every step."""
    for name, ledger in flow.money.items():
        _once(ledger, partial(books, flow, name, ledger))
    for relay in flow.relays:
        _once(relay, partial(audited, relay))
    used: Counter[tuple[str, str, str]] = Counter()
    for relay, instruction in instructions(flow):
        check_both_or_neither(flow, relay, instruction)
        quote = instruction.quote
        check_rounding(instruction)
        view = find_settlement(relay, instruction.settlement)
        assert view.accepted < quote.expires, "an expired quote was accepted"
        for ledger in instruction.ledgers:
            raw = flow.money[ledger].get(lock_key(relay, view.under))
            if raw is None:
                continue
            used[ledger, quote.maker, quote.id] += 1
            due = instruction.deadline if instruction.window else quote.expires
            assert Held.decode(raw).time < due, "locked after the quote had expired"
    assert all(count == 1 for count in used.values()), f"a quote was used twice: {used}"


def books(flow: Flow, name: str, ledger: Ledger) -> None:
    """Nothing below zero, nothing that came or went, and the contract's own audit."""
    totals: Counter[str] = Counter()
    last = {key.split("/")[1]: key.encode() for key in ledger.keys("line/")}
    for account, key in last.items():
        body = _body(ledger.written[key])
        if ":" in account:
            code = account.partition(":")[2]
        else:
            code = flow.accounts[name][account][0]
            right = 0 <= body["held"] <= body["balance"]
            assert right, f"{account} below zero: {body}"
        totals[code] += body["balance"]
    assert not any(totals.values()), f"{name}: money came or went: {totals}"
    audited(ledger)


_GOOD: set[tuple[str, frozenset[tuple[bytes, bytes]]]] = set()


def _once(ledger: Ledger, look: Callable[[], None]) -> None:
    """Looks at what a ledger holds, unless one that holds just this was found good before: the
    states of several ledgers are combinations of few states of each."""
    name = (ledger.chain_id, frozenset(ledger.written.items()))
    if name not in _GOOD:
        look()
        if len(_GOOD) > 50_000:
            _GOOD.clear()
        _GOOD.add(name)


def audited(ledger: Ledger) -> None:
    assert isinstance(ledger.contract, Audited)
    found = list(ledger.contract.audit(ledger, ledger.chain_id))
    assert not found, f"audit of {ledger.chain_id}: {found}"


def lock_key(relay: Ledger, settlement: bytes) -> bytes:
    return f"lock/{relay.chain_id}/{settlement.hex()}".encode()


def ended_on(flow: Flow, relay: Ledger, settlement: bytes, ledger: str) -> str:
    raw = flow.money[ledger].get(f"ended/{relay.chain_id}/{settlement.hex()}".encode())
    if raw is None:
        return ""
    return str(_body(raw)["ended"])


def check_both_or_neither(flow: Flow, relay: Ledger, instruction: Instruction) -> None:
    """Never one leg alone, whatever the record of it says: money that moved is counted."""
    under = find_settlement(relay, instruction.settlement).under
    ends = {ledger: ended_on(flow, relay, under, ledger) for ledger in instruction.ledgers}
    assert not {"released", "refunded"} <= set(ends.values()), f"one leg alone: {ends}"
    assert not {"released", "nothing"} <= set(ends.values()), f"one leg alone: {ends}"
    if instruction.window:
        return
    for leg in instruction.legs:
        paid = sum(
            body["amount"]
            for key in flow.money[leg.ledger].keys(f"line/{leg.creditor}/")
            if (body := _body(flow.money[leg.ledger].written[key.encode()]))
            and body["reference"] == instruction.settlement.hex()
            and body["relay"] == relay.chain_id
            and body["twin"] == leg.debtor
        )
        suspended = f"suspense:{leg.currency}"
        if ends[leg.ledger] == "released" and not flow.money[leg.ledger].keys(f"line/{suspended}/"):
            assert paid == leg.amount, f"{leg.creditor} got {paid} of {leg.amount}"
        else:
            assert paid in (0, leg.amount), f"{leg.creditor} got {paid} of {leg.amount}"


def check_rounding(instruction: Instruction) -> None:
    """Half up, once, by fractions."""
    quote = instruction.quote
    scale = Fraction(10) ** (exponent(quote.payable.currency) - exponent(quote.bill.currency))
    exact = quote.bill.amount * Fraction(quote.rate.numerator, quote.rate.denominator) * scale
    assert quote.payable.amount == floor(exact + Fraction(1, 2)), "rounded by another rule"


def check_end(flow: Flow) -> None:
    """What must hold when nothing can happen any more."""
    check(flow)
    for relay, instruction in instructions(flow):
        view = find_settlement(relay, instruction.settlement)
        assert view.decision is not None, "undecided for ever"
        assert view.closed, f"decided and not done everywhere: {view.done}"
        committed = view.decision.reason is None
        for done in view.done:
            assert (done.ended is Ended.RELEASED) == committed, f"{done} of {view.decision}"
    for account, (_, held) in flow.balances().items():
        assert held == 0, f"{account} has {held} locked for ever"


def explore(
    flow: Flow,
    *,
    until: int = 0,
    resends: int = 1,
    each: Callable[[Flow], None] | None = None,
    most: int = 100_000,
) -> int:
    """Everything that can happen, in every order; how many different states there were.

    `until`: a time to which the clocks may jump once, at any moment; from then on locks that were
    not received time out. Every state is checked, and every end.
    """
    seen = set()
    stack = [flow.save()]
    while stack:
        saved = stack.pop()
        flow.load(saved)
        state = flow.key()
        if state in seen:
            continue
        seen.add(state)
        assert len(seen) <= most
        check(flow)
        if each is not None:
            each(flow)
            flow.load(saved)
        steps: list[Any] = list(flow.actions(resends))
        if until > flow.hub.now:
            steps.append(until)
        elif not steps:
            check_end(flow)
        for step in steps:
            flow.load(saved)
            if isinstance(step, int):
                flow.at(step)
            else:
                flow.act(step)
            stack.append(flow.save())
    return len(seen)


def replay(flow: Flow) -> None:
    """Whatever was received is received again, under any sequence: the same answer, no effect.

    A lock that was given back since is refused: a relay must not commit on it."""
    for relay, index, packet in flow.packets():
        stands, answer = flow.state.get((relay.chain_id, index), (SENT, b""))
        if stands not in (RECEIVED, DONE):
            continue
        there = flow.there(relay, packet)
        before = dict(there.written)
        again = flow.try_receive(relay, packet)
        assert there.written == before, "received twice, done twice"
        if _accepted(answer) and _given_back(there, relay.chain_id, answer):
            assert _body(again)["reason"] == "SETTLEMENT_DECIDED", again
        elif kind_of(packet) == "decision_notice" or _accepted(answer):
            assert again == answer, (again, answer)


def _given_back(ledger: Ledger, relay: str, answer: bytes) -> bool:
    end = find_end(ledger, relay, bytes.fromhex(str(_body(answer)["settlement"])))
    return end is not None and end.ended is Ended.REFUNDED


def _accepted(answer: bytes) -> bool:
    if answer == ERROR_ACKNOWLEDGEMENT:
        return False
    return _body(answer).get("accepted") is True
