"""Which reasons an honest relayer may be refused with: what a fault excuses, and nothing more."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.chain import Outcome, Submission
from relay.errors import Reason
from relay.lane_report import LaneReport, SideReport
from tests.simulation.options import CARRIERS, Edge, Options
from tests.simulation.oracle import Broken
from tests.simulation.reasons import Pair, Reasons

OPTIONS = Options(
    seed=0,
    ticks=1,
    nodes=("hub", "zj", "sh"),
    edges=(Edge("hub", "zj", "near"), Edge("hub", "sh", "far")),
    downtime_seconds=300,
)
NEAR, FAR = frozenset(("hub", "zj")), frozenset(("hub", "sh"))
R = Reason
OF_FAULTS = (
    R.HEADER_FROM_FUTURE,
    R.TIMEOUT_NOT_REACHED,
    R.HEIGHT_NOT_TRUSTED,
    R.HEIGHT_NOT_MONOTONIC,
    R.CLIENT_EXPIRED,
    R.RECOVERY_PENDING,
    R.NOT_ENOUGH_TRUST,
    R.VALIDATOR_SET_MISMATCH,
    R.INVALID_PROOF,
    R.CLIENT_FROZEN,
)


def reasons(
    options: Options = OPTIONS, *, rotated: str = "", hasty: str = "", nights: int = 0
) -> Reasons:
    return Reasons(options, [rotated].__contains__, hasty, {"night": nights})


def excused(held: Reasons, pair: Pair, *, split: bool = False) -> set[Reason]:
    """Of OF_FAULTS, what an honest relayer may be answered, and why its side may stop."""
    found = set()
    for reason in OF_FAULTS:
        answer = Submission(Outcome.REFUSED, reason.value, "")
        side = SideReport(reason=reason.value)
        try:
            held.refused(answer, pair, "hub", stranger=False, split=split)
        except Broken:
            with pytest.raises(Broken, match="a side of hub stops"):
                held.stopped(LaneReport("checkpoint-0", side), pair, "hub", split=split)
        else:
            found.add(reason)
    return found


def test_what_no_fault_explains_is_excused_by_none() -> None:
    """A node that is down for a while is none: its clock runs on."""
    assert excused(reasons(), NEAR) == set()


def test_clocks_excuse_what_they_are_off_by() -> None:
    little, more = (replace(OPTIONS, drift_seconds=seconds) for seconds in (5, 6))
    early = {R.TIMEOUT_NOT_REACHED}
    assert excused(reasons(little), NEAR) == early, "clients tolerate ten seconds"
    assert excused(reasons(more), NEAR) == early | {R.HEADER_FROM_FUTURE, R.HEIGHT_NOT_TRUSTED}
    assert excused(reasons(hasty="zj"), NEAR) == early
    assert excused(reasons(hasty="zj"), FAR) == set()


def test_a_change_of_sets_excuses_those_who_follow_it() -> None:
    held = reasons(replace(OPTIONS, rotation=0.5), rotated="zj")
    changed = {R.NOT_ENOUGH_TRUST, R.VALIDATOR_SET_MISMATCH, R.HEIGHT_NOT_TRUSTED}
    assert excused(held, NEAR) == changed
    assert excused(held, FAR) == set()


def test_a_night_excuses_from_when_it_is_over() -> None:
    options = replace(OPTIONS, night=0.5)
    moved = {R.HEIGHT_NOT_TRUSTED, R.HEIGHT_NOT_MONOTONIC}
    assert excused(reasons(options), NEAR) == set()
    assert excused(reasons(options, nights=1), NEAR) == {R.CLIENT_EXPIRED, *moved}


def test_a_recovery_excuses_those_of_its_client() -> None:
    held = reasons()
    held.recovering.add(NEAR)
    assert excused(held, NEAR) == {R.RECOVERY_PENDING}
    assert excused(held, FAR) == set()


@pytest.mark.parametrize("carrier", CARRIERS)
def test_two_relayers_excuse_each_other(carrier: str) -> None:
    held = reasons(replace(OPTIONS, edges=(Edge("hub", "zj", carrier), OPTIONS.edges[1])))
    moved = {R.HEIGHT_NOT_TRUSTED, R.HEIGHT_NOT_MONOTONIC}
    assert excused(held, NEAR) == (moved if carrier == "both" else set())
    assert excused(held, FAR) == set()


def test_a_stranger_and_two_histories_explain_more() -> None:
    answer = Submission(Outcome.REFUSED, R.INVALID_PROOF.value, "")
    reasons().refused(answer, NEAR, "hub", stranger=True, split=False)
    assert {R.CLIENT_FROZEN, R.INVALID_PROOF} < excused(reasons(), NEAR, split=True)
