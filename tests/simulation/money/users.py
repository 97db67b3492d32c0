"""Who wants money moved: payers and makers with instructions, owners, and the relays' operators.

Every call here may be repeated as it is (a settlement, a deposit, a withdrawal and a window have
ids of their own), so each is repeated until it is answered or refused. What is right is refused for
what a network can be blamed for and for nothing else; what is wrong is never accepted by a relay
that runs our program.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from relay.canonical import Json, encode
from relay.contracts.payloads import BillLines, Instruction, SignedInstruction
from relay.errors import Conflict, Exhausted, LianqiaoError, Reason, Unavailable
from tests.contracts.money_world import withdrawal
from tests.contracts.world import digest
from tests.simulation.fate import Crash
from tests.simulation.money.options import LAX, Money
from tests.simulation.money.records import ESCROW, SETTLEMENT
from tests.simulation.money.town import (
    ACCOUNTS,
    FUNDED,
    WRONG,
    Cosigned,
    Kind,
    account_terms,
    asked,
    lines_of,
    offer,
    returned,
    sign,
)
from tests.simulation.oracle import Broken
from tests.simulation.process import Process

MAX_BILL = 200_000
R = Reason
_NO_WAY = {R.CLIENT_NOT_FOUND, R.CLIENT_EXPIRED, R.CLIENT_FROZEN, R.RECOVERY_PENDING}
"""There is no active client at the moment."""
_TOO_LATE = {R.QUOTE_EXPIRED, R.TIMEOUT_ELAPSED, R.WINDOW_CLOSED}
_MAY = {
    "instruct": {*_NO_WAY, *_TOO_LATE, R.QUOTE_USED},
    "withdraw": {R.FUNDS_MISSING, R.TIMEOUT_ELAPSED},
    "deposit": set(),
    "account.open": set(),
    "window.open": {R.TIMEOUT_ELAPSED},
    "window.cut_off": _NO_WAY,
    "retry": {
        *_NO_WAY,
        R.NOT_FOUND,
        R.SETTLEMENT_DECIDED,
        R.WINDOW_CLOSED,
        R.LIMIT_EXCEEDED,
    },
    "resend": set(),
}
_MUST = {
    Kind.SHORT: {R.RATE_INVALID},
    Kind.LONG: {R.RATE_INVALID},
    Kind.UNSIGNED: {R.UNKNOWN_SIGNER},
    Kind.ALTERED: {R.INVALID_SIGNATURE},
    Kind.LINES: {R.AMOUNT_INVALID},
}


@dataclass(slots=True)
class Wish:
    """One call that somebody repeats until it is answered."""

    node: str
    port: str
    method: str
    body: bytes
    instruction: Instruction | None = None
    kind: Kind = Kind.RIGHT
    amount: int = 0
    """Of a deposit; negative for a withdrawal."""
    window: str = ""
    answered: bool = False
    refused: str = ""

    @property
    def pending(self) -> bool:
        """Whether it is to be repeated."""
        return not (self.answered or self.refused)


@dataclass(slots=True)
class _Window:
    name: str
    deadline: int
    opened: Wish
    cut_off: Wish | None = None


@dataclass(slots=True)
class MoneyUsers:
    """See the module docstring."""

    options: Money
    processes: Mapping[str, Process]
    neighbours: Mapping[str, Sequence[str]]
    random: Random
    marks: Counter[str]
    wishes: list[Wish] = field(default_factory=list)
    signed: dict[bytes, tuple[SignedInstruction, Kind]] = field(default_factory=dict)
    """Settlement → everything that was ever signed, right or wrong."""
    cosigned: dict[bytes, Cosigned] = field(default_factory=dict)
    """Settlement → who co-signed it."""
    versions: dict[str, int] = field(default_factory=dict)
    """Ledger → the version of the payer's terms that was asked for last."""
    _windows: dict[str, _Window] = field(default_factory=dict)
    """Relay → its last window."""

    def want(self, now: int) -> None:
        """New wishes."""
        random, options = self.random, self.options
        for name in self.processes:
            if random.random() < options.traffic:
                self._instruct(name, now)
            if random.random() < options.netting and name not in self._windows:
                self.open_window(name, now + random.randint(60, 600))
            elif name in self._windows and random.random() < 0.2:
                self.cut_off(name)
            if random.random() < options.movements:
                self._move(name, now)
            if self.signed and random.random() < options.movements:
                signed, _ = random.choice(list(self.signed.values()))
                self.retry(signed.instruction.relay, signed.instruction.settlement)
            if random.random() < options.changes:
                self._change_terms(name)

    @property
    def resting(self) -> bool:
        """Whether nobody waits for an answer and no window is open."""
        return not self._windows and not any(wish.pending for wish in self.wishes)

    # --- instructions

    def _instruct(self, relay: str, now: int) -> None:
        random, near = self.random, list(self.neighbours[relay])
        if random.random() < self.options.returns and self._give_back(relay, now):
            return
        random.shuffle(near)
        payee = near[0] if len(near) == 1 or random.random() < 0.1 else near[-1]
        payers = near[:2] if len(near) > 2 and random.random() < 0.3 else near[:1]
        kind = Kind.RIGHT
        if random.random() < self.options.wrong:
            kind = random.choice([k for k in WRONG if k is not Kind.LINES or len(payers) == 1])
        bill = random.choice((random.randint(10, 999), random.randint(1000, MAX_BILL)))
        quoted = f"q-{len(self.signed)}"
        if self.signed and random.random() < self.options.reuse:
            quoted = random.choice(list(self.signed.values()))[0].instruction.quote.id
        # Some have expired when they come, or will have before they are locked.
        expires = now + random.randint(-5, self.options.life_seconds)
        fee = random.choice((0, 0, 7))
        lines = None
        if kind is Kind.LINES or (len(payers) == 1 and random.random() < self.options.itemised):
            lines = lines_of(bill, kind, random)
        self.instruct(relay, payers, payee, bill, quoted, expires, kind=kind, fee=fee, lines=lines)

    def _give_back(self, relay: str, now: int) -> bool:
        """Gives back, wholly or in part, what may or may not have been settled; whether any is."""
        random = self.random
        mine = [
            done.instruction
            for done, kind in self.signed.values()
            if done.instruction.relay == relay and kind is Kind.RIGHT
            if not done.instruction.returns
        ]
        if not mine:
            return False
        original = random.choice(mine[: max(1, len(mine) // 2)])  # what may be settled by now
        part = 0
        if len(original.legs) == 2 and original.quote.bill.amount > 20 and random.random() < 0.5:
            part = random.randint(10, original.quote.bill.amount)
        name = f"{relay}-{len(self.signed)}"
        expires = now + random.randint(10, self.options.life_seconds)
        given = returned(original, name, f"q-{len(self.signed)}", expires, part)
        self._hand_in(relay, given, Kind.RIGHT, "return")
        return True

    def _hand_in(self, relay: str, given: Instruction, kind: Kind, what: str) -> Instruction:
        """Has an instruction signed and co-signed as drawn, and wants it instructed."""
        who = Cosigned.NOBODY
        if self.options.officer and self.random.random() < self.options.cosigned:
            forged = self.random.random() < 1 / 3
            who = Cosigned.FORGED if forged else Cosigned.OFFICER
        done = sign(given, kind, who)
        self.signed[given.settlement] = (done, kind)
        self.cosigned[given.settlement] = who
        body = encode({"signed": done.to_json()})
        self._wish(Wish(relay, SETTLEMENT, "instruct", body, done.instruction, kind))
        self.marks[f"money: instruction {what}"] += 1
        self.marks["money: instruction itemised"] += given.itemised is not None
        self.marks[f"money: co-signed by {who}"] += bool(self.options.officer)
        return done.instruction

    def instruct(
        self,
        relay: str,
        payers: Sequence[str],
        payee: str,
        bill: int,
        quoted: str,
        expires: int,
        *,
        kind: Kind = Kind.RIGHT,
        fee: int = 0,
        netted: bool | None = None,
        lines: BillLines | None = None,
    ) -> Instruction:
        """One instruction more is wanted; `netted`: with the open window, else as drawn."""
        window = self._windows.get(relay)
        joins = window is not None and window.opened.answered and window.cut_off is None
        if joins and netted is None:
            joins = self.random.random() < 0.6
        bound = (window.name, window.deadline) if window and joins and netted is not False else None
        if bound:
            expires = min(expires, bound[1])
        given = asked(
            f"{relay}-{len(self.signed)}",
            relay,
            payers,
            payee,
            offer(bill, quoted, expires, kind),
            fee=fee,
            window=bound or ("", 0),
            lines=lines,
        )
        return self._hand_in(relay, given, kind, f"{kind}{' netted' if bound else ''}")

    # --- terms

    def _change_terms(self, ledger: str) -> None:
        """The payer's limits are halved or doubled, by the ledger's operator, who names no relay:
        it tells those that it knows."""
        factor = self.random.choice((0.5, 2))
        version = self.versions.get(ledger, 1) + 1
        last = [w for w in self.wishes if w.node == ledger and w.method == "account.open"]
        if last and not last[-1].answered:
            return
        self.versions[ledger] = version
        changed = replace(
            self.options,
            daily=int(self.options.daily * factor),
            counterparty=int(self.options.counterparty * factor),
            officer=int(self.options.officer * factor),
        )
        body = encode(account_terms("payer", changed, version))
        self._wish(Wish(ledger, ESCROW, "account.open", body))

    # --- windows

    def open_window(self, relay: str, deadline: int) -> None:
        """A window more."""
        name = f"w-{relay}-{len(self.wishes)}"
        times: dict[str, Json] = {"deadline": deadline, "window": name}
        if self.random.random() < 0.5:
            times["cut_off"] = deadline - self.random.randint(0, 50)
        body = encode(times)
        wish = self._wish(Wish(relay, SETTLEMENT, "window.open", body, window=name))
        self._windows[relay] = _Window(name, deadline, wish)

    def cut_off(self, relay: str) -> None:
        """The window of a relay is closed, again and again until that succeeds."""
        window = self._windows[relay]
        if window.opened.refused:
            del self._windows[relay]
            return
        done = window.cut_off
        if window.opened.pending or (done is not None and done.pending):
            return
        if done is None or done.refused:
            body = encode({"window": window.name})
            wish = Wish(relay, SETTLEMENT, "window.cut_off", body, window=window.name)
            window.cut_off = self._wish(wish)
        else:
            self.marks["money: window cut off"] += 1
            del self._windows[relay]

    def finish_windows(self) -> None:
        """Nobody opens more."""
        for relay in list(self._windows):
            self.cut_off(relay)

    def retry(self, relay: str, settlement: bytes) -> None:
        """An operator who asks again, whether anything is missing or not."""
        body = encode({"settlement": settlement.hex()})
        self._wish(Wish(relay, SETTLEMENT, "retry", body))

    # --- money that comes and goes

    def _move(self, ledger: str, now: int) -> None:
        random = self.random
        if random.random() < 0.4:
            self.deposit(ledger, random.choice(FUNDED), random.randint(1, 100_000))
        else:
            self.withdraw(ledger, random.choice(list(ACCOUNTS)), random.randint(1, 150_000), now)

    def deposit(self, ledger: str, account: str, amount: int) -> Wish:
        """An operator got money at the bank."""
        reference = digest(f"deposit {len(self.wishes)}").hex()
        body: Json = {
            "account": account,
            "amount": amount,
            "currency": ACCOUNTS[account][0],
            "reference": reference,
        }
        return self._wish(Wish(ledger, ESCROW, "deposit", encode(body), amount=amount))

    def withdraw(self, ledger: str, account: str, amount: int, now: int) -> Wish:
        """An owner wants money paid out."""
        code, _, person = ACCOUNTS[account]
        given = withdrawal(
            person,
            ledger=ledger,
            account=account,
            currency=code,
            amount=amount,
            time=now,
            withdrawal=digest(f"withdrawal {len(self.wishes)}"),
        )
        body = encode({"withdrawal": given.to_json()})
        return self._wish(Wish(ledger, ESCROW, "withdraw", body, amount=-amount))

    # --- calls

    def call(self) -> None:
        """Makes every call that is not answered yet."""
        for wish in self.wishes:
            if wish.pending:
                self._try(wish)

    def call_once(self, wish: Wish) -> None:
        """A call of an operator, made now and not repeated."""
        self._try(wish)

    def _wish(self, wish: Wish) -> Wish:
        self.wishes.append(wish)
        return wish

    def _try(self, wish: Wish) -> None:
        process = self.processes[wish.node]
        if process.node is None:
            return
        try:
            process.node.call(wish.port, wish.method, wish.body)
        except Crash:
            process.crash()
        except (Unavailable, Conflict, Exhausted):
            return
        except LianqiaoError as err:
            wish.refused = err.reason.value
            self.marks[f"money: {wish.method} {err.reason}"] += 1
            self._judge(wish, err.reason)
        else:
            wish.answered = True
            self.marks[f"money: {wish.method}"] += 1
            self._judge(wish, None)

    def _judge(self, wish: Wish, reason: Reason | None) -> None:
        lax = self.options.program == LAX and self.options.programmed == wish.node
        may = _MAY[wish.method] | _MUST.get(wish.kind, set())
        given = wish.instruction
        if given is not None and self.options.limited:
            may |= {R.LIMIT_REACHED}
            if self.cosigned[given.settlement] is not Cosigned.OFFICER:
                may |= {R.COSIGNATURE_MISSING}
        if given is not None and given.returns:
            may |= {R.NOT_FOUND, R.SETTLEMENT_DECIDED}
        if lax:
            may.add(R.PATH_WRITTEN)  # it looks for no quote that was used
        if reason is not None and reason not in may:
            raise Broken("users", f"{wish.node} refuses {wish.kind} {wish.method} with {reason}")
        if reason is None and wish.kind is not Kind.RIGHT and not lax:
            raise Broken("terms", f"{wish.node} accepts an instruction that is {wish.kind}")
        self.marks["money: lax"] += reason is None and wish.kind is not Kind.RIGHT
