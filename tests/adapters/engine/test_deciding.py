"""How many operators must agree is itself agreed upon, by as many as had to until then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.actions import AnnounceSet
from relay.deciding import ChangeOperators, operators_of, quorum_of
from relay.light.types import Validator, ValidatorSet
from relay.powers import ChangePowers, Power
from tests.adapters.engine.replicas import CHAIN, OPERATORS, Replica, asked
from tests.echo import Echo
from tests.world import keys_of, set_of

FOUR = set_of(OPERATORS, "operator")
POWERS = ChangePowers((Power("ed25519", keys_of("maker", 5)[4].public, 10),))
PENDING = "APPROVAL_PENDING"


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Replica]:
    made = Replica(tmp_path / "one.db", [Echo()])
    made.init(quorum=2)
    yield made
    assert made.fsck() == []
    made.stop()


def logs(replica: Replica, height: int, *transactions: bytes) -> list[str]:
    return [r.log for r in replica.block(height, list(transactions)).tx_results]


def in_force(replica: Replica) -> tuple[int, ValidatorSet]:
    with replica.store.reading() as tx:
        return quorum_of(tx, CHAIN), operators_of(tx, CHAIN)


def test_the_old_quorum_decides_on_the_new_one(one: Replica) -> None:
    """From the very next transaction on, in the same block; also after a restart."""
    raised = ChangeOperators(FOUR, 3)
    told = logs(
        one, 1, asked(raised, 1, 0), asked(raised, 2, 1), asked(POWERS, 3, 0), asked(POWERS, 4, 1)
    )
    assert told == [PENDING, "", PENDING, PENDING]
    one.restart()
    assert in_force(one) == (3, FOUR)
    assert logs(one, 2, asked(POWERS, 5, 2)) == [""]
    # and the new one on the next: two are no longer enough to lower it
    lowered = ChangeOperators(FOUR, 1)
    assert logs(one, 3, *(asked(lowered, 10 + n, n) for n in range(3))) == [PENDING, PENDING, ""]
    assert logs(one, 4, asked(ChangeOperators(FOUR, 4), 20, 0)) == [""]
    assert in_force(one)[0] == 4


def test_who_decides_and_how_many_change_in_one_step(one: Replica) -> None:
    few = set_of(OPERATORS[:1], "operator")
    assert logs(one, 1, asked(AnnounceSet(few), 1, 0)) == ["LIMIT_EXCEEDED"]
    alone = ChangeOperators(few, 1)
    assert logs(one, 2, asked(alone, 2, 0), asked(alone, 3, 3)) == [PENDING, ""]
    assert in_force(one) == (1, few)
    assert logs(one, 3, asked(POWERS, 4, 0), asked(POWERS, 5, 1)) == ["", "UNAUTHENTICATED"]


def test_other_numbers_are_other_proposals(one: Replica) -> None:
    asked_for = [asked(ChangeOperators(FOUR, n), n, n - 1) for n in (1, 3, 4)]
    assert logs(one, 1, *asked_for, asked(AnnounceSet(FOUR), 5, 1)) == [PENDING] * 4
    assert in_force(one)[0] == 2


def test_what_waited_begins_anew_under_the_new_quorum(one: Replica) -> None:
    """An approval was given under the rule of then: two voices of a time when three were needed
    must not suddenly be enough."""
    three, two = ChangeOperators(FOUR, 3), ChangeOperators(FOUR, 2)
    assert logs(one, 1, asked(three, 1, 0), asked(three, 2, 1)) == [PENDING, ""]
    assert logs(one, 2, asked(POWERS, 3, 0), asked(POWERS, 4, 1)) == [PENDING] * 2
    assert logs(one, 3, *(asked(two, 10 + n, n) for n in range(3))) == [PENDING, PENDING, ""]
    assert logs(one, 4, asked(POWERS, 5, 2), asked(POWERS, 6, 0)) == [PENDING, ""]


def test_later_sets_have_as_many_as_the_new_quorum_asks(one: Replica) -> None:
    three = ChangeOperators(FOUR, 3)
    assert logs(one, 1, asked(three, 1, 0), asked(three, 2, 1)) == [PENDING, ""]
    two = AnnounceSet(set_of(OPERATORS[:2], "operator"))
    assert logs(one, 2, asked(two, 3, 0)) == ["LIMIT_EXCEEDED"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (ChangeOperators(FOUR, 0), "MALFORMED"),
        (ChangeOperators(FOUR, 5), "LIMIT_EXCEEDED"),
        (
            ChangeOperators(ValidatorSet((Validator("a", 2, FOUR.validators[0].keys),)), 1),
            "MALFORMED",
        ),
        (
            ChangeOperators(ValidatorSet((Validator("a", 1, (("ed25519", bytes(32)),)),)), 1),
            "WEAK_KEY",
        ),
    ],
    ids=["nobody must agree", "more than there are", "two voices", "weak key"],
)
def test_a_quorum_that_could_not_be_reached_is_refused_at_once(
    one: Replica, change: ChangeOperators, reason: str
) -> None:
    assert logs(one, 1, asked(change, 1, 0)) == [reason]
    assert in_force(one) == (2, FOUR)


def test_all_replicas_decide_the_same_whatever_was_restarted(tmp_path: Path, one: Replica) -> None:
    other = Replica(tmp_path / "other.db", [Echo()])
    other.init(quorum=2)
    three = ChangeOperators(FOUR, 3)
    blocks = [
        [asked(three, 1, 0), asked(POWERS, 2, 0)],
        [asked(three, 3, 3), asked(POWERS, 4, 1)],
        [asked(POWERS, 5, 2), asked(POWERS, 6, 3)],
    ]
    for height, block in enumerate(blocks, 1):
        hashes = {replica.block(height, block).app_hash for replica in (one, other)}
        assert len(hashes) == 1
        other.restart()
    assert other.fsck() == []
    other.stop()
