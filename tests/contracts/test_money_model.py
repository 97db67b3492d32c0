"""Anything in any order: instructions, windows, timeouts, crashes, replays, owners who move money.

Hypothesis looks for a sequence after which the oracle (tests.contracts.money_flow.check) finds
money that came or went, one leg alone, a quote used twice, a balance below zero. At the end
everything is delivered, and everything must have ended.
"""

from __future__ import annotations

from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from relay.canonical import Json, encode
from relay.contract import State
from relay.contracts.escrow import Escrow, endings, last_line, locks
from relay.contracts.escrow.books import Books
from relay.contracts.escrow.keys import Held
from relay.contracts.payloads import Fee, Lock, Money
from relay.contracts.settlement import Settlement
from relay.contracts.undelivered import payload_for
from relay.errors import LianqiaoError
from relay.money import convert
from relay.packet import Packet, Payload
from tests.contracts.money_flow import (
    ACCOUNTS,
    SENT,
    Flow,
    check,
    check_end,
    kind_of,
    replay,
    terms,
)
from tests.contracts.money_world import HK, HUB, RATE, SZ, instruction, quote, signed, withdrawal
from tests.contracts.world import digest

HUBS = (HUB, "hub-2")
FUNDS = dict.fromkeys(("insurer", "maker-hkd", "hk-fees", "maker-cny", "hospital"), 300_000)
OWNER = {(ledger, name): who for ledger, rows in ACCOUNTS.items() for name, who in rows.items()}


class Crash(BaseException):
    """The machine stops in the middle of a step."""


class Falling(Settlement):
    """Does all of a step, and falls before it is committed, when it is told to."""

    falls = False

    def acknowledge(self, *given: Any) -> None:
        super().acknowledge(*given)
        if Falling.falls:
            raise Crash

    def timeout(self, *given: Any) -> None:
        super().timeout(*given)
        if Falling.falls:
            raise Crash


class Money_(RuleBasedStateMachine):
    """One world of two relays and two money ledgers, driven at random."""

    escrow: Any = Escrow()

    def __init__(self) -> None:
        super().__init__()
        Falling.falls = False
        self.flow = Flow(relays=HUBS, funds=FUNDS, escrow=self.escrow, settlement=Falling())
        self.names: list[str] = []
        self.window = 0
        self.open_windows: list[tuple[str, int]] = []

    # --- what parties do

    @rule(
        bill=st.integers(1, 200_000),
        fee=st.sampled_from((0, 0, 7)),
        hub=st.sampled_from(HUBS),
        quoted=st.integers(0, 6),
        short=st.booleans(),
        netted=st.booleans(),
        off=st.sampled_from((0, 0, 0, 0, 1, -1)),
    )
    def instruct(
        self, bill: int, fee: int, hub: str, quoted: int, short: bool, netted: bool, off: int
    ) -> None:
        """A few quotes by number, so that some are used twice, through either relay; sometimes one
        that is over, or an amount that is one off."""
        now = self.flow.hub.now
        due = convert(bill, "CNY", "HKD", RATE)
        if due.amount + off < 1:
            return
        offer = quote(
            bill,
            id=f"q-{quoted}-{bill}",
            expires=now + (0 if short else 100),
            payable=Money("HKD", due.amount + off),
        )
        name = f"{hub}-{len(self.names)}"
        given = instruction(name, quote=offer, relay=hub)
        if netted and hub == HUB and self.open_windows:
            window, deadline = self.open_windows[-1]
            given = replace(given, window=window, deadline=deadline)
        pay, bill_leg = given.legs
        if fee:
            pay = replace(pay, fee=Fee("hk-fees", fee))
        given = replace(given, legs=(pay, bill_leg))
        self._try(hub, "instruct", {"signed": signed(given).to_json()})
        self.names.append(name)

    @rule()
    def open_window(self) -> None:
        self.window += 1
        name, deadline = f"w-{self.window}", self.flow.hub.now + 500
        self._try(HUB, "window.open", {"deadline": deadline, "window": name})
        self.open_windows.append((name, deadline))

    @precondition(lambda self: self.open_windows)
    @rule()
    def cut_off(self) -> None:
        name, _ = self.open_windows.pop()
        self._try(HUB, "window.cut_off", {"window": name})

    @rule(account=st.sampled_from(sorted(OWNER)), amount=st.integers(1, 400_000))
    def withdraw(self, account: tuple[str, str], amount: int) -> None:
        ledger, name = account
        if ledger not in self.flow.money:
            return
        code, _, person = OWNER[account]
        asked = withdrawal(
            person,
            ledger=ledger,
            account=name,
            currency=code,
            amount=amount,
            time=self.flow.hub.now,
            withdrawal=digest(f"{account} {amount} {self.flow.hub.now}"),
        )
        self._try(ledger, "withdraw", {"withdrawal": asked.to_json()})

    @rule(amount=st.integers(1, 100_000), name=st.sampled_from(("insurer", "maker-hkd")))
    def deposit(self, amount: int, name: str) -> None:
        body: Json = {
            "account": name,
            "amount": amount,
            "currency": "HKD",
            "reference": digest(f"more {name} {amount}").hex(),
        }
        self._try(HK, "deposit", body)

    @rule(closed=st.booleans())
    def close_or_open(self, closed: bool) -> None:
        held = last_line(self.flow.money[SZ], "hospital")
        version = 1 + len(self.flow.money[SZ].keys("account/hospital/"))
        _, owner, person = ACCOUNTS[SZ]["hospital"]
        if not held.balance:
            asked = terms("hospital", "CNY", owner, person, version, closed=closed)
            self._try(SZ, "account.open", asked)

    def _try(self, where: str, method: str, body: Json) -> None:
        """A refusal leaves nothing behind."""
        ledger = self.flow.ledgers[where]
        before = dict(ledger.written), list(ledger.sent)
        try:
            ledger.call(method, encode(body))
        except LianqiaoError:
            assert (ledger.written, ledger.sent) == before, "a refusal left something behind"

    # --- what the network does

    @rule(seconds=st.sampled_from((1, 60, 200, 4000, 50_000)))
    def wait(self, seconds: int) -> None:
        self.flow.at(self.flow.hub.now + seconds)

    @precondition(lambda self: self.flow.actions())
    @rule(pick=st.integers(0, 10**6), falls=st.integers(0, 3))
    def carry(self, pick: int, falls: int) -> None:
        """One packet goes one step; sometimes the relay falls in the middle, and does it again."""
        actions = self.flow.actions(resends=3)
        action = actions[pick % len(actions)]
        if falls == 0 and action[2] != "receive":
            saved = self.flow.save()
            Falling.falls = True
            with suppress(Crash):
                self.flow.act(action)
            Falling.falls = False
            self.flow.state = saved[1]
            after = {n: (x.written, x.sent) for n, x in self.flow.ledgers.items()}
            assert after == {n: (w, s) for n, (w, s, _) in saved[0].items()}, "half a step stayed"
        self.flow.act(action)

    @rule()
    def received_again(self) -> None:
        replay(self.flow)

    @precondition(lambda self: any(r.sent for r in self.flow.relays))
    @rule(pick=st.integers(0, 10**6))
    def forged(self, pick: int) -> None:
        """A stranger asks for a lock of what others have signed, changed in the amount."""
        sent = [(r, p) for r, _, p in self.flow.packets() if kind_of(p) == "lock"]
        if not sent:
            return
        relay, packet = sent[pick % len(sent)]
        lock = Lock.decode(packet.payloads[0].value)
        given = lock.signed.instruction
        legs = tuple(replace(leg, amount=leg.amount + 1) for leg in given.legs)
        more = replace(given, legs=legs, settlement=digest(f"forged {pick}"))
        fake = replace(lock, signed=replace(lock.signed, instruction=more))
        payload = payload_for("escrow", "settlement", fake.encode())
        there = self.flow.there(relay, packet)
        before = dict(there.written)
        self.flow.try_receive(relay, replace(packet, payloads=(payload,)))
        assert there.written == before, "a forged instruction moved something"

    # --- what must hold

    @invariant()
    def nothing_comes_or_goes(self) -> None:
        check(self.flow)

    def teardown(self) -> None:
        """The network is good from now on: everything ends."""
        while self.open_windows:
            self.cut_off()
        for _ in range(100):
            late = [
                (r, i)
                for r, i, p in self.flow.packets()
                if self.flow.stands(r, i) == SENT and self.flow.hub.now >= p.timeout_timestamp
            ]
            for relay, index in late:
                self.flow.expire(relay, index)
            self.flow.settle()
            if not self.flow.actions():
                break
        check_end(self.flow)


SETTINGS = settings(
    max_examples=8,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
FOUND = settings(SETTINGS, max_examples=5, phases=[Phase.generate], print_blob=False)
MORE = settings(SETTINGS, max_examples=300, stateful_step_count=40)


class TestMoney(Money_.TestCase):  # type: ignore[misc, name-defined]
    settings = SETTINGS


@pytest.mark.slow
@pytest.mark.timeout(1800)
class TestMoneyLonger(Money_.TestCase):  # type: ignore[misc, name-defined]
    settings = MORE


# --- and it finds what is planted


def _release_one(held: Held, books: Books, state: State) -> None:
    if state.chain_id != SZ:
        _real_release(held, books, state)


_real_release = endings._release


class Trusting(Escrow):
    """Takes a quote as often as it is offered."""

    def receive(self, packet: Packet, payload: Payload, state: State, now: int) -> Any:
        real = locks._use_quote
        locks._use_quote = lambda *_: None
        try:
            return super().receive(packet, payload, state, now)
        finally:
            locks._use_quote = real


@pytest.mark.parametrize("bug", ["", "one leg only", "one quote through two relays"])
def test_planted_bugs_are_found_at_random_too(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Bugged(Money_):
        escrow = Trusting() if bug == "one quote through two relays" else Escrow()

        def __init__(self) -> None:
            super().__init__()
            # The way in, so that a few examples are enough to come upon it.
            for hub in HUBS:
                given = instruction(hub, bill=1000, quote=quote(1000, id="q-same"), relay=hub)
                self._try(hub, "instruct", {"signed": signed(given).to_json()})

    if bug == "one leg only":
        monkeypatch.setattr(endings, "_release", _release_one)
    expected = pytest.raises(AssertionError) if bug else nullcontext()
    with expected:
        run_state_machine_as_test(Bugged, settings=FOUND)  # type: ignore[no-untyped-call]
