"""kill -9 of real processes under load; the hundred is `python -m tests.e2e.kills --count 100`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.e2e.kills import run


def _judge(figures: dict[str, object], kills: int) -> None:
    struck = figures["kills"]
    assert isinstance(struck, dict)
    assert sum(struck.values()) == kills
    assert figures["records"] == figures["recognised"] != 0
    assert figures["fsck"] == "clean"


@pytest.mark.timeout(240)
def test_every_day_two_kills(tmp_path: Path) -> None:
    """Without PostgreSQL, for whose server one waits longer than for everything else."""
    _judge(run(tmp_path, 2, 1, postgresql=False), 2)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_dozen_kills_the_database_server_too(place: Path) -> None:
    seed = int.from_bytes(os.urandom(3), "big")
    print(f"seed {seed}: python -m tests.e2e.kills --count 12 --seed {seed}")
    figures = run(place, 12, seed, say=print)
    _judge(figures, 12)
    assert figures["kills"].keys() >= {"postgresql", "relay"}  # type: ignore[attr-defined]
