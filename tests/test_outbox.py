"""The outbox: cursors and unfinished steps move together, and nothing is dropped silently."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from relay.chain import MAX_BATCH, Item, Outcome, PacketStep, Step, Submission
from relay.errors import LianqiaoError, Malformed, Reason
from relay.outbox import NEVER, Outbox, Waiting
from relay.packet import (
    MAX_PAYLOAD_BYTES,
    Packet,
    Payload,
    acknowledgement_path,
    commitment_path,
    receipt_path,
)
from relay.steps import (
    MAX_DELAY,
    MAX_DELIVERY_BYTES,
    after_answer,
    check_steps,
    fitting,
    item_bytes,
    item_of,
    later,
    proven_path,
)
from tests.databases import everyday_url, new_store

LANE, NOW, TIMEOUT = "checkpoint-0", 1_000, 2_000
PACKET = Packet(7, "a-0", "b-0", TIMEOUT, (Payload("p", "p", "v", "e", b"value"),))


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    store = new_store(everyday_url(tmp_path / "node.db"))
    yield Outbox(store)
    store.close()


def _waiting(cursor: int = 5, step: Step = Step.RECEIVE, **changed: object) -> Waiting:
    one = Waiting(cursor, Item(step, PACKET), height=9)
    return replace(one, **changed)  # type: ignore[arg-type]


# --- the tables


def test_a_side_begins_at_zero_with_nothing_waiting(outbox: Outbox) -> None:
    assert outbox.cursor(LANE, "in") == 0
    assert outbox.due(LANE, "in", NEVER, 10) == []
    assert outbox.letters() == []


def test_cursors_of_sides_and_lanes_are_apart_and_never_go_back(outbox: Outbox) -> None:
    outbox.save(LANE, "in", cursor=8)
    outbox.save(LANE, "out", cursor=3)
    outbox.save("checkpoint-1", "in", cursor=2)
    outbox.save(LANE, "in", cursor=5)
    sides = [(LANE, "in"), (LANE, "out"), ("checkpoint-1", "in")]
    assert [outbox.cursor(*side) for side in sides] == [8, 3, 2]


def test_rewind_goes_back_and_only_back(outbox: Outbox) -> None:
    outbox.save(LANE, "in", cursor=8)
    outbox.rewind(LANE, "in", 9)
    assert outbox.cursor(LANE, "in") == 8
    outbox.rewind(LANE, "in", 0)
    assert outbox.cursor(LANE, "in") == 0


def test_what_waits_comes_back_as_it_was(outbox: Outbox) -> None:
    kept = Waiting(5, Item(Step.ACKNOWLEDGE, PACKET, (b"one", b"two")), 9, 3, NOW, "WHY: detail")
    outbox.save(LANE, "in", cursor=5, waiting=[kept])
    assert outbox.due(LANE, "in", NOW, 10) == [kept]
    assert outbox.due(LANE, "in", NOW - 1, 10) == []
    assert outbox.due(LANE, "out", NOW, 10) == []


def test_longest_waiting_first_and_no_more_than_asked(outbox: Outbox) -> None:
    rows = [_waiting(1, not_before=30), _waiting(2, not_before=10), _waiting(3, not_before=10)]
    outbox.save(LANE, "in", waiting=rows)
    assert [w.cursor for w in outbox.due(LANE, "in", NOW, 10)] == [2, 3, 1]
    assert [w.cursor for w in outbox.due(LANE, "in", NOW, 2)] == [2, 3]


def test_saving_again_replaces_and_finishing_drops(outbox: Outbox) -> None:
    outbox.save(LANE, "in", waiting=[_waiting(1), _waiting(2)])
    outbox.save(LANE, "in", waiting=[_waiting(1, attempts=4)], finished=[2])
    assert outbox.due(LANE, "in", NOW, 10) == [_waiting(1, attempts=4)]


def test_a_save_is_all_or_nothing(outbox: Outbox) -> None:
    """The cursor does not pass a step that could not be kept."""
    bad = replace(PACKET, sequence=-1)
    with pytest.raises(LianqiaoError) as err:
        outbox.save(
            LANE, "in", cursor=5, waiting=[_waiting(1), Waiting(5, Item(Step.RECEIVE, bad), 9)]
        )
    assert err.value.reason is Reason.MALFORMED
    assert outbox.cursor(LANE, "in") == 0
    assert outbox.letters() == []


def test_dead_letters_are_never_due_but_listed_with_their_reason(outbox: Outbox) -> None:
    dead = _waiting(1, not_before=NEVER, reason="PRUNED: below the floor")
    outbox.save(LANE, "in", waiting=[dead, _waiting(2)])
    assert [w.cursor for w in outbox.due(LANE, "in", NEVER, 10)] == [2]
    letters = outbox.letters(dead=True)
    assert [(x.client_id, x.side, x.waiting) for x in letters] == [(LANE, "in", dead)]
    assert outbox.size(LANE, "in") == 2


def test_a_dead_letter_can_be_tried_again_and_dropped(outbox: Outbox) -> None:
    outbox.save(LANE, "in", waiting=[_waiting(1, not_before=NEVER)])
    assert outbox.revive_all(LANE, "in", NOW, (1, 1 << 40)) == (0, 1)
    assert [w.cursor for w in outbox.due(LANE, "in", NOW, 10)] == [1]
    outbox.save(LANE, "in", finished=[1])
    assert outbox.size(LANE, "in") == 0


def test_letters_are_paged_by_key(outbox: Outbox) -> None:
    for lane in ("checkpoint-0", "checkpoint-1"):
        for side in ("in", "out"):
            outbox.save(lane, side, waiting=[_waiting(1), _waiting(2)])
    seen, after = [], ("", "", -1)
    while page := outbox.letters(after, 3):
        seen += [(x.client_id, x.side, x.waiting.cursor) for x in page]
        after = seen[-1]
    assert len(seen) == 8
    assert seen == sorted(set(seen))


# --- what follows from an answer


def _refused(reason: Reason) -> Submission:
    return Submission(Outcome.REFUSED, reason.value, "because")


@pytest.mark.parametrize("outcome", [Outcome.DONE, Outcome.NOOP])
def test_done_and_done_before_are_finished(outcome: Outcome) -> None:
    assert after_answer(_waiting(), Submission(outcome), NOW) is None


@pytest.mark.parametrize(
    ("step", "reason"), [(Step.RECEIVE, Reason.TIMED_OUT), (Step.EXPIRE, Reason.RECEIVED)]
)
def test_what_the_other_verb_decided_is_finished(step: Step, reason: Reason) -> None:
    assert after_answer(_waiting(step=step), _refused(reason), NOW) is None


def test_a_receive_after_the_timeout_becomes_an_expire_at_once() -> None:
    left = after_answer(_waiting(attempts=3), _refused(Reason.TIMEOUT_ELAPSED), NOW)
    assert left is not None
    assert (left.item.step, left.not_before, left.attempts) == (Step.EXPIRE, NOW, 0)
    assert left.item.packet == PACKET


@pytest.mark.parametrize("step", [Step.EXPIRE, Step.ACKNOWLEDGE, Step.TIMEOUT])
def test_only_a_receive_becomes_an_expire(step: Step) -> None:
    left = after_answer(_waiting(step=step), _refused(Reason.TIMEOUT_ELAPSED), NOW)
    assert left is not None
    assert left.item.step is step


@pytest.mark.parametrize(
    "reason", [Reason.COMMITMENT_MISMATCH, Reason.PRUNED, Reason.INVALID_PACKET]
)
def test_terminal_refusals_become_dead_letters(reason: Reason) -> None:
    left = after_answer(_waiting(), _refused(reason), NOW)
    assert left is not None
    assert left.dead
    assert left.reason == f"{reason}: because"


@pytest.mark.parametrize("reason", [Reason.INVALID_PROOF, Reason.COUNTERPARTY_MISMATCH])
def test_other_refusals_wait(reason: Reason) -> None:
    left = after_answer(_waiting(), _refused(reason), NOW)
    assert left is not None
    assert not left.dead
    assert left.not_before == NOW + 1
    assert left.reason == f"{reason}: because"


def test_an_unknown_reason_waits() -> None:
    left = after_answer(_waiting(), Submission(Outcome.REFUSED, "NEW_IN_V9"), NOW)
    assert left is not None
    assert (left.reason, left.dead) == ("NEW_IN_V9", False)


def test_delays_double_up_to_a_bound() -> None:
    one, delays = _waiting(step=Step.ACKNOWLEDGE), []
    for _ in range(40):
        one = later(one, "WHY", NOW)
        delays.append(one.not_before - NOW)
    assert delays[:10] == [1, 2, 4, 8, 16, 32, 64, 128, 256, MAX_DELAY]
    assert set(delays[10:]) == {MAX_DELAY}


def test_a_receive_waits_no_longer_than_its_timeout() -> None:
    tired = _waiting(attempts=20)
    assert later(tired, "WHY", TIMEOUT - 10).not_before == TIMEOUT
    assert later(tired, "WHY", TIMEOUT).not_before == TIMEOUT + MAX_DELAY


# --- steps and items


def _step(step: Step, cursor: int = 5, height: int = 9, packet: Packet = PACKET) -> PacketStep:
    return PacketStep(cursor, height, step, packet, (b"ack",) if step is Step.RECEIVE else ())


@pytest.mark.parametrize(
    ("step", "verb", "path"),
    [
        (Step.SEND, Step.RECEIVE, commitment_path("a-0", 7)),
        (Step.RECEIVE, Step.ACKNOWLEDGE, acknowledgement_path("b-0", 7)),
        (Step.EXPIRE, Step.TIMEOUT, receipt_path("b-0", 7)),
    ],
)
def test_each_step_has_its_verb_and_its_path(step: Step, verb: Step, path: bytes) -> None:
    item = item_of(_step(step))
    assert (item.step, proven_path(item)) == (verb, path)
    assert item.acknowledgements == _step(step).acknowledgements


def test_an_expire_is_proven_by_the_commitment() -> None:
    assert proven_path(Item(Step.EXPIRE, PACKET)) == commitment_path("a-0", 7)


@pytest.mark.parametrize("step", [Step.ACKNOWLEDGE, Step.TIMEOUT])
def test_a_step_that_ends_where_it_is_is_not_carried(step: Step) -> None:
    with pytest.raises(Malformed) as err:
        item_of(_step(step))
    assert err.value.reason is Reason.MALFORMED


def test_a_listing_in_order_between_the_two_clients_passes() -> None:
    check_steps([_step(Step.SEND, 6), _step(Step.SEND, 7)], 5, "a-0", "b-0")
    check_steps([_step(Step.RECEIVE, 6), _step(Step.EXPIRE, 7)], 5, "b-0", "a-0")


@pytest.mark.parametrize(
    "steps",
    [
        [_step(Step.SEND, 5)],
        [_step(Step.SEND, 7), _step(Step.SEND, 7)],
        [_step(Step.SEND, 7), _step(Step.SEND, 6)],
        [_step(Step.SEND, NEVER)],
        [_step(Step.SEND, 6, height=0)],
        [_step(Step.SEND, 6, height=NEVER)],
        [_step(Step.RECEIVE, 6)],
        [_step(Step.SEND, 6, packet=replace(PACKET, source_client="a-1"))],
        [_step(Step.SEND, 6, packet=replace(PACKET, destination_client="b-1"))],
    ],
)
def test_any_other_listing_is_refused(steps: list[PacketStep]) -> None:
    with pytest.raises(Malformed) as err:
        check_steps(steps, 5, "a-0", "b-0")
    assert err.value.reason is Reason.MALFORMED


def test_a_delivery_is_bounded_in_bytes_but_never_empty() -> None:
    large = Payload("p", "p", "v", "e", bytes(MAX_PAYLOAD_BYTES))
    item = Item(Step.RECEIVE, replace(PACKET, payloads=(large,)))
    waiting = [Waiting(i, item, 9) for i in range(100)]
    count = fitting(waiting)
    assert count * item_bytes(item) <= MAX_DELIVERY_BYTES < (count + 1) * item_bytes(item)
    huge = Item(Step.ACKNOWLEDGE, PACKET, (bytes(MAX_DELIVERY_BYTES),) * 2)
    assert fitting([Waiting(0, huge, 9), Waiting(1, huge, 9)]) == 1
    assert fitting([_waiting(i) for i in range(MAX_BATCH)]) == MAX_BATCH
    assert fitting([_waiting(i) for i in range(MAX_BATCH + 1)]) == MAX_BATCH
    assert fitting([]) == 0
