"""A settlement that waits for an answer which was lost: asking again ends it, and never wrongly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from relay.canonical import decode, encode
from relay.contracts.payloads import Instruction, Ruling
from relay.contracts.settlement import SettlementStatus, find_settlement, retried_locks
from relay.contracts.settlement.retry import RETRY_SECONDS
from relay.errors import Reason
from relay.packet import ERROR_ACKNOWLEDGEMENT
from tests.contracts.money_flow import DONE, Flow, check_end
from tests.contracts.money_world import EXPIRES, HK, SZ, instruction, signed
from tests.contracts.world import DAY, NOW, digest
from tests.refusals import refused

GIVEN = instruction(fee=500)


def begun(given: Instruction = GIVEN) -> Flow:
    flow = Flow()
    flow.instruct(signed(given))
    return flow


def lose(flow: Flow, index: int, *, received: bool) -> None:
    """The packet is closed and its answer was never taken, as where a callback failed."""
    answer = flow.receive(flow.hub, index) if received else ERROR_ACKNOWLEDGEMENT
    flow.state[flow.hub.chain_id, index] = (DONE, answer)


def retry(flow: Flow, given: Instruction = GIVEN) -> dict[str, Any]:
    answer = decode(flow.hub.call("retry", encode({"settlement": given.settlement.hex()})))
    assert isinstance(answer, dict)
    return answer


def view(flow: Flow, given: Instruction = GIVEN) -> Any:
    return find_settlement(flow.hub, given.settlement)


@pytest.mark.parametrize("late", [False, True])
def test_a_lock_that_was_made_is_answered_as_before_and_commits(late: bool) -> None:
    """Also after the quote: what is locked is locked."""
    flow = begun()
    lose(flow, 0, received=True)
    flow.receive(flow.hub, 1)
    flow.acknowledge(flow.hub, 1)
    assert view(flow).status is SettlementStatus.LOCKING
    if late:
        flow.at(EXPIRES + 1)
    assert [p["ledger"] for p in retry(flow)["packets"]] == [HK], "the other has answered"
    flow.settle()
    check_end(flow)
    assert view(flow).status is SettlementStatus.SETTLED


def test_a_lock_that_was_not_made_is_made_while_the_quote_is_good() -> None:
    flow = begun()
    lose(flow, 0, received=False)
    retry(flow)
    flow.settle()
    check_end(flow)
    assert view(flow).status is SettlementStatus.SETTLED


def test_nothing_is_locked_by_asking_after_the_quote_and_the_other_side_has_its_money_back() -> (
    None
):
    flow = begun()
    before = flow.balances()
    lose(flow, 0, received=False)
    flow.receive(flow.hub, 1)
    flow.acknowledge(flow.hub, 1)
    flow.at(EXPIRES)
    retry(flow)
    flow.settle()
    check_end(flow)
    assert view(flow).decision.reason is Reason.QUOTE_EXPIRED
    assert flow.balances() == before


def test_a_first_lock_that_comes_after_the_second_was_refused_is_given_back() -> None:
    """Asked again while the first packet is still on its way, and the account was empty then."""
    flow = Flow(funds={"insurer": 0})
    flow.instruct(signed(GIVEN))
    retry(flow)
    flow.receive(flow.hub, 2)
    flow.acknowledge(flow.hub, 2)
    assert view(flow).decision.ruling is Ruling.ABORT
    flow.deposit(flow.money[HK], "insurer", "HKD", 10_000_000)
    before = flow.balances()
    flow.settle()
    check_end(flow)
    assert flow.balances() == before


def test_a_decision_whose_answer_was_lost_is_told_again() -> None:
    flow = begun()
    for index in (0, 1):
        flow.receive(flow.hub, index)
        flow.acknowledge(flow.hub, index)
    lose(flow, 2, received=True)
    flow.settle()
    assert view(flow).status is SettlementStatus.COMMITTED
    assert retry(flow) == {"packets": [], "told": 1}
    flow.settle()
    check_end(flow)


def test_it_is_written_down_who_was_asked_to_lock() -> None:
    """And not who was told the decision again: reconcile excuses the former alone."""
    flow = begun()
    lose(flow, 0, received=False)
    flow.receive(flow.hub, 1)
    flow.acknowledge(flow.hub, 1)
    assert retried_locks(flow.hub, GIVEN.settlement) == frozenset()
    retry(flow)
    assert retried_locks(flow.hub, GIVEN.settlement) == {HK}
    flow.receive(flow.hub, 2)
    flow.acknowledge(flow.hub, 2)
    flow.at(NOW + RETRY_SECONDS)
    assert retry(flow) == {"packets": [], "told": 2}
    assert retried_locks(flow.hub, GIVEN.settlement) == {HK}
    flow.hub.written[f"retried/{GIVEN.settlement.hex()}/00000001".encode()] = b'{"time":1}'
    assert retried_locks(flow.hub, GIVEN.settlement) == frozenset(), "of an earlier version"


def test_answers_that_decide_it_decide_it() -> None:
    """Every answer is kept and the decision is missing: no ledger is asked."""
    flow = begun()
    for index in (0, 1):
        flow.receive(flow.hub, index)
        flow.acknowledge(flow.hub, index)
    decision = f"decision/{GIVEN.settlement.hex()}".encode()
    written = flow.hub.written.pop(decision)
    del flow.hub.sent[2:]
    answer = retry(flow)
    assert (answer["packets"], flow.hub.written[decision]) == ([], written)


def test_a_window_is_asked_again_as_a_whole() -> None:
    flow, deadline = Flow(), NOW + DAY // 2
    flow.hub.call("window.open", encode({"deadline": deadline, "window": "w-1"}))
    given = [
        replace(instruction(name, bill=100_000), window="w-1", deadline=deadline)
        for name in ("one", "two")
    ]
    for one in given:
        flow.instruct(signed(one))
    not_retried(flow, given[0].settlement, Reason.WINDOW_CLOSED)
    flow.hub.call("window.cut_off", encode({"window": "w-1"}))
    lose(flow, 0, received=True)
    assert [p["ledger"] for p in retry(flow, given[1])["packets"]] == [HK, SZ]
    flow.settle()
    check_end(flow)
    assert view(flow, given[0]).status is SettlementStatus.SETTLED


def not_retried(flow: Flow, settlement: bytes, reason: Reason) -> None:
    before = flow.key()
    refused(reason, flow.hub.call, "retry", encode({"settlement": settlement.hex()}))
    assert flow.key() == before


def test_it_is_asked_again_only_so_often() -> None:
    """Each asking sends packets; the first answers are waited for."""
    flow = begun()
    retry(flow)
    flow.at(NOW + RETRY_SECONDS - 1)
    not_retried(flow, GIVEN.settlement, Reason.LIMIT_EXCEEDED)
    flow.at(NOW + RETRY_SECONDS)
    assert len(retry(flow)["packets"]) == 2
    flow.settle()
    check_end(flow)


def test_what_is_closed_or_unknown_is_not_asked_again() -> None:
    flow = begun()
    flow.settle()
    not_retried(flow, GIVEN.settlement, Reason.SETTLEMENT_DECIDED)
    not_retried(flow, digest("unknown"), Reason.NOT_FOUND)
    flow = begun()
    for peer in flow.hub.peers.values():
        peer.frozen = True
    not_retried(flow, GIVEN.settlement, Reason.CLIENT_NOT_FOUND)


def test_once_decided_nobody_is_asked_to_lock_any_more() -> None:
    """One ledger has refused, and the other has not answered yet: both are told."""
    flow = Flow(funds={"insurer": 0})
    flow.instruct(signed(GIVEN))
    flow.receive(flow.hub, 0)
    flow.acknowledge(flow.hub, 0)
    assert view(flow).status is SettlementStatus.ABORTED
    assert retry(flow) == {"packets": [], "told": 2}
    flow.settle()
    check_end(flow)


def test_what_was_given_back_is_not_said_to_be_locked() -> None:
    """A relay that has lost its last entries for good asks again (escrow/README.md). One ledger has
    given its money back by the decision that was lost; the other would lock now, and pay."""
    flow = Flow(funds={"maker-cny": 0})
    flow.instruct(signed(GIVEN))
    for index in (0, 1):
        flow.receive(flow.hub, index)
        flow.acknowledge(flow.hub, index)
    assert view(flow).decision.reason is Reason.FUNDS_MISSING
    flow.receive(flow.hub, 2)
    lose(flow, 2, received=True)
    lose(flow, 3, received=False)
    for name in [*flow.hub.keys("answer/"), *flow.hub.keys("decision/")]:
        del flow.hub.written[name.encode()]
    flow.deposit(flow.money[SZ], "maker-cny", "CNY", 10_000_000)
    before = flow.balances()
    assert [p["ledger"] for p in retry(flow)["packets"]] == [HK, SZ]
    flow.settle()
    assert view(flow).decision.reason is Reason.SETTLEMENT_DECIDED
    assert flow.balances() == before
