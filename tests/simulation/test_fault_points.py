"""Every commit and every call out of one scenario fails once in each way; nothing is lost."""

from __future__ import annotations

from datetime import date

import pytest

from tests.simulation.fate import Act
from tests.simulation.points import points, run_point

EVERYDAY_POINTS = 12
"""Points in one everyday run; each day begins at another one, so that all have their day."""
PARTS = 8


def test_the_scenario_passes_undisturbed_and_has_effects_of_every_kind() -> None:
    seen = run_point(-1, None)
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


def test_a_spread_of_points() -> None:
    every = list(points())
    step = len(every) // EVERYDAY_POINTS | 1  # odd: acts alternate from point to point
    for at, act, what in every[date.today().toordinal() % step :: step]:
        _run(at, act, what)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_every_point(part: int) -> None:
    for at, act, what in list(points())[part::PARTS]:
        _run(at, act, what)


def _run(at: int, act: Act, what: str) -> None:
    try:
        seen = run_point(at, act)
    except Exception as err:
        raise AssertionError(f"effect {at} ({what}) {act}: {err}") from err
    assert len(seen) > at
