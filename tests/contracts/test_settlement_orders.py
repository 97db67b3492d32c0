"""Every order of lock, refusal, timeout, decision, release and refund: both legs or neither.

Not sampled: every state that can be reached is reached, and the oracle looks at each. Then bugs are
planted, one at a time, and the same oracle must find each of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from relay.contract import Deferred, State
from relay.contracts import quotes
from relay.contracts.escrow import Escrow, endings, find_held, locks
from relay.contracts.escrow.books import Books
from relay.contracts.escrow.keys import Held
from relay.contracts.payloads import Ruling, SettlementDecision, decision_key
from relay.contracts.settlement import accept, decide, find_settlement
from relay.contracts.settlement.sending import send_decision
from relay.errors import Reason, Refused
from relay.packet import Packet, Payload
from tests.contracts.money_flow import Flow, check, check_end, explore, replay
from tests.contracts.money_world import (
    EXPIRES,
    HK,
    HUB,
    MO,
    SZ,
    instruction,
    quote,
    shared_bill,
    signed,
)

LATE = EXPIRES + 1


def two(funds: dict[str, int] | None = None, **kinds: Any) -> Flow:
    flow = Flow(funds=funds, **kinds)
    flow.instruct(signed(instruction(fee=500)))
    return flow


def three(funds: dict[str, int] | None = None) -> Flow:
    flow = Flow(ledgers=(HK, SZ, MO), funds=funds)
    flow.instruct(signed(shared_bill()))
    return flow


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "poor",
    [
        (),
        ("insurer",),
        pytest.param(("maker-cny",), marks=SLOW),
        pytest.param(("insurer", "maker-cny"), marks=SLOW),
    ],
)
def test_two_legs_in_every_order(poor: tuple[str, ...]) -> None:
    """Locks accepted or refused, each packet received, answered, or timed out, at any moment."""
    flow = two(dict.fromkeys(poor, 100))
    assert explore(flow, until=LATE, resends=0, each=replay if not poor else None) > 50


def test_a_decision_that_timed_out_is_sent_again_in_every_order() -> None:
    assert explore(two(), resends=1, each=replay) > 50


@pytest.mark.parametrize("poor", [(), pytest.param(("coinsurer",), marks=SLOW)])
def test_three_legs_in_every_order_of_answers(poor: tuple[str, ...]) -> None:
    assert explore(three(dict.fromkeys(poor, 100)), resends=0) > 50


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("poor", [(), ("coinsurer",), ("insurer", "maker-cny")])
def test_three_legs_in_every_order(poor: tuple[str, ...]) -> None:
    assert explore(three(dict.fromkeys(poor, 100)), until=LATE, resends=0) > 1000


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_legs_in_every_order_with_everything_sent_again() -> None:
    assert explore(two(), until=LATE, resends=1, each=replay) > 500


# --- planted bugs: each is found by what has just passed without them

Plant = Callable[[pytest.MonkeyPatch], Flow]


def released_on_one_leg_only(patch: pytest.MonkeyPatch) -> Flow:
    real = endings._release

    def release(held: Held, books: Books, state: State) -> None:
        if state.chain_id != SZ:
            real(held, books, state)

    patch.setattr(endings, "_release", release)
    return two()


def released_twice(patch: pytest.MonkeyPatch) -> Flow:
    """Whoever sends a decision again is paid again, out of what others have deposited."""
    patch.setattr(endings, "find_end", lambda *_: None)

    def release(held: Held, books: Books, state: State) -> None:
        for one in held.movements:
            freed = min(one.amount, books.last(one.debtor).held)
            books.post(one.entry, one.debtor, one.creditor, one.amount, held=freed)

    patch.setattr(endings, "_release", release)
    return two()


class Impatient(Escrow):
    """Gives locked money back when the quote has expired."""

    def receive(self, packet: Packet, payload: Payload, state: State, now: int) -> bytes | Deferred:
        settlement = instruction(fee=500).settlement
        held = find_held(state, HUB, settlement)
        books = Books(state, now, settlement, HUB)
        for hold in held.holds if held and now >= EXPIRES else ():
            if books.last(hold.account).held >= hold.amount:
                books.refund(hold.account, hold.amount, hold.gross, held.time if held else 0)
        return super().receive(packet, payload, state, now)


def a_lock_that_ends_by_time(patch: pytest.MonkeyPatch) -> Flow:
    return two(escrow=Impatient())


def _two_faced(state: State, ledger: str, decision: SettlementDecision, now: int) -> None:
    if ledger == SZ and decision.ruling is Ruling.COMMIT:
        first, second = decision.answers
        refused = replace(second, reason=Reason.TIMED_OUT)
        decision = replace(decision, ruling=Ruling.ABORT, answers=(first, refused))
    send_decision(state, ledger, decision, now)


def a_decision_shown_differently_to_two_ledgers(patch: pytest.MonkeyPatch) -> Flow:
    """The escrow checks the record, so the second ledger does nothing and never closes."""
    patch.setattr(decide, "send_decision", _two_faced)
    return two()


class Credulous(Escrow):
    """Believes the packet and not the record."""

    def receive(self, packet: Packet, payload: Payload, state: State, now: int) -> bytes | Deferred:
        body = payload.value
        if b'"decision_notice"' in body:
            from relay.contracts.payloads import DecisionNotice
            from relay.paths import record_path

            decision = DecisionNotice.decode(body).decision
            path = record_path("settlement", decision_key(decision.settlement))
            state.shown = {path: decision.encode()}  # type: ignore[attr-defined]
        return super().receive(packet, payload, state, now)


def a_ledger_that_believes_such_a_decision(patch: pytest.MonkeyPatch) -> Flow:
    patch.setattr(decide, "send_decision", _two_faced)
    return two(escrow=Credulous())


def rounding_in_the_payers_favour(patch: pytest.MonkeyPatch) -> Flow:
    patch.setattr(quotes, "check_conversion", lambda *_: None)
    flow = Flow()
    # 1.004 … HKD are due for every … CNY: half up gives one more than cutting off.
    offer = quote(33, id="q-low")
    low = replace(offer, payable=replace(offer.payable, amount=offer.payable.amount - 1))
    flow.instruct(signed(instruction(quote=low)))
    return flow


def an_expired_quote_accepted(patch: pytest.MonkeyPatch) -> Flow:
    patch.setattr(quotes, "check_unexpired", lambda *_: None)
    patch.setattr(accept, "send_lock", lambda *_: {"client": "c", "ledger": "l", "sequence": 1})
    flow = Flow()
    flow.at(EXPIRES)
    flow.instruct(signed())
    return flow


def one_quote_used_through_two_relays(patch: pytest.MonkeyPatch) -> Flow:
    patch.setattr(locks, "_use_quote", lambda *_: None)
    flow = Flow(relays=(HUB, "hub-2"))
    for relay in flow.relays:
        given = instruction(relay.chain_id, quote=quote(id="q-once"), relay=relay.chain_id)
        flow.instruct(signed(given), relay)
    return flow


def a_lock_that_forgets_the_fee(patch: pytest.MonkeyPatch) -> Flow:
    real = locks._write

    def write(plan: Any, held: dict[str, int], *rest: Any) -> Any:
        return real(plan, {name: amount - 500 for name, amount in held.items()}, *rest)

    patch.setattr(locks, "_write", write)
    return two()


def a_commit_before_every_lock(patch: pytest.MonkeyPatch) -> Flow:
    real = decide.ledgers_of
    patch.setattr(decide, "ledgers_of", lambda *given: real(*given)[:1])
    return two()


PLANTED = {
    released_on_one_leg_only: "principal of maker-cny not at all",
    released_twice: "received twice, done twice",
    a_lock_that_ends_by_time: "decided and not done everywhere",
    a_decision_shown_differently_to_two_ledgers: "decided and not done everywhere",
    a_ledger_that_believes_such_a_decision: "one leg alone",
    rounding_in_the_payers_favour: "rounded by another rule",
    an_expired_quote_accepted: "an expired quote was accepted",
    one_quote_used_through_two_relays: "a quote was used twice",
    a_lock_that_forgets_the_fee: "holds something else than it would release",
    a_commit_before_every_lock: "commits without every ledger's lock",
}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda p: p.__name__)
def test_a_planted_bug_is_found(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = plant(monkeypatch)
    with pytest.raises(AssertionError) as err:
        if len(flow.relays) > 1:
            flow.settle()  # every order of two relays takes longer than an everyday test may
            check(flow)
        else:
            by_time = plant is a_lock_that_ends_by_time
            explore(flow, until=LATE * by_time, resends=0, each=None if by_time else replay)
    assert PLANTED[plant] in str(err.value)


def test_without_the_bugs_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same worlds, unplanted: what the oracle said above was about the bugs."""
    flow = Flow(relays=(HUB, "hub-2"))
    for relay in flow.relays:
        given = instruction(relay.chain_id, quote=quote(id="q-once"), relay=relay.chain_id)
        flow.instruct(signed(given), relay)
    flow.settle()
    check_end(flow)
    first, second = (
        find_settlement(relay, instruction(relay.chain_id).settlement) for relay in flow.relays
    )
    assert first.status == "SETTLED"
    assert second.status == "RETURNED"
    assert second.decision is not None
    assert second.decision.reason is Reason.QUOTE_USED
    flow = Flow()
    flow.at(EXPIRES)
    with pytest.raises(Refused) as err:
        flow.instruct(signed())
    assert err.value.reason is Reason.QUOTE_EXPIRED
    check_end(flow)
