"""Every commit and every call out of a scenario fails once in each way; nothing is lost."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

import pytest

from tests.simulation.fate import Act
from tests.simulation.points import SCENARIOS, points, run_point

EVERYDAY_POINTS = 12
"""Points in one everyday run; each day begins at another one, so that all have their day."""
LONGER_POINTS = 30
"""Of each scenario, in the longer tier: another set each day."""
PARTS = 8
NAMES = tuple(SCENARIOS)


@pytest.mark.parametrize("name", [NAMES[0], pytest.param(NAMES[1], marks=pytest.mark.slow)])
def test_a_scenario_passes_undisturbed_and_has_effects_of_every_kind(name: str) -> None:
    seen = run_point(SCENARIOS[name], -1, None)
    kinds = {effect.split()[0] + " " + effect.split()[-1] for effect in seen}
    calls = {"latest_height", "headers", "client", "packets", "prove", "submit"}
    calls |= {"verified_heads", "add_checkpoint"}
    assert kinds >= {f"call {name}" for name in calls}
    assert {effect for effect in seen if effect.startswith("commit")} == {
        "commit hub",
        "commit zj",
        "commit sh",
        "commit zj witness",
        "commit sh witness",
    }


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
