"""Every commit and every call out of a scenario fails once in each way; nothing is lost."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

import pytest

from tests.simulation.effects import all_kinds, kind_of
from tests.simulation.fate import Act
from tests.simulation.points import SCENARIOS, points, run_point

EVERYDAY_POINTS = 12
"""Points in one everyday run; each day begins at another one, so that all have their day."""
LONGER_POINTS = 30
"""Of each scenario, in the longer tier: another set each day."""
PARTS = 8
NAMES = tuple(SCENARIOS)
NOT_MET = {
    "call chain_id": "an adapter knows it, and asks nobody",
    "call doubt": "changes the order in which this process asks nodes, and nothing else",
    "commit ChangeOperators": "of a replicated engine: tests/adapters/engine",
    "commit ChangePowers": "of a replicated engine: tests/adapters/engine",
    "commit Leases.has": "two processes on one database: tests/e2e/test_two_relays.py",
    "commit Leases.give_back": "two processes on one database: tests/e2e/test_two_relays.py",
    "commit Outbox.rewind": "nothing calls it yet but tests",
    "commit write_genesis": "there is no node before it: lianqiao init is repeated as a whole",
    "commit Store.set_meta": "as write_genesis, and migration",
    "file _write": "the list of lanes, made by connect: tests/service/test_operator.py",
}
"""What no scenario does, and why."""


def test_a_scenario_passes_undisturbed() -> None:
    seen = _kinds("records")
    assert {kind for kind in seen if kind.startswith("commit")} >= {"commit Deliver", "commit Call"}


@pytest.mark.slow
def test_every_kind_of_commit_and_of_call_is_met() -> None:
    """Of all that the sources can commit, write beside a key and ask of another chain."""
    seen = set[str]().union(*map(_kinds, NAMES))
    there = all_kinds()
    assert seen <= there
    assert sorted(there - seen) == sorted(NOT_MET)


@pytest.mark.slow
def test_a_spread_of_points() -> None:
    _run("records", _spread("records", EVERYDAY_POINTS))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_wider_spread_of_points(name: str) -> None:
    _run(name, _spread(name, LONGER_POINTS))


@pytest.mark.slow
@pytest.mark.deep
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("name", NAMES)
def test_every_point(name: str, part: int) -> None:
    _run(name, list(points(SCENARIOS[name]))[part::PARTS])


Point = tuple[int, Act, str]


def _kinds(name: str) -> set[str]:
    return set(map(kind_of, run_point(SCENARIOS[name], -1, None)))


def _spread(name: str, count: int) -> Iterable[Point]:
    every = list(points(SCENARIOS[name]))
    step = len(every) // count | 1  # odd: acts alternate from point to point
    return every[date.today().toordinal() % step :: step]


def _run(name: str, chosen: Iterable[Point]) -> None:
    for at, act, what in chosen:
        try:
            seen = run_point(SCENARIOS[name], at, act)
        except Exception as err:
            raise AssertionError(f"{name}: effect {at} ({what}) {act}: {err}") from err
        assert len(seen) > at
