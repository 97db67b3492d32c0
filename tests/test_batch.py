"""Group commit: everybody gets his own answer, in fewer groups than callers."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from relay.batch import Groups


def test_callers_that_arrive_together_share_groups() -> None:
    groups: list[int] = []

    def run(steps: Sequence[int]) -> list[int]:
        time.sleep(0.005)
        groups.append(len(steps))
        return [step * 2 for step in steps]

    collected: Groups[int] = Groups(run)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(collected.submit, range(200)))
    assert answers == [2 * i for i in range(200)]
    assert sum(groups) == 200
    assert len(groups) < 100


def test_an_error_reaches_its_own_caller_only() -> None:
    def run(steps: Sequence[int]) -> list[Any]:
        return [ValueError(str(step)) if step == 3 else step for step in steps]

    collected: Groups[int] = Groups(run)
    assert collected.submit(1) == 1
    with pytest.raises(ValueError, match="3"):
        collected.submit(3)


def test_a_failed_group_fails_for_all_and_the_next_goes_on() -> None:
    calls = 0

    def run(steps: Sequence[int]) -> list[int]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError("disk")
        return list(steps)

    collected: Groups[int] = Groups(run)
    with pytest.raises(OSError, match="disk"):
        collected.submit(1)
    assert collected.submit(2) == 2


def test_groups_never_overlap() -> None:
    inside, overlaps = threading.Lock(), []

    def run(steps: Sequence[int]) -> list[int]:
        overlaps.append(not inside.acquire(blocking=False))
        time.sleep(0.001)
        inside.release()
        return list(steps)

    collected: Groups[int] = Groups(run)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(collected.submit, range(50)))
    assert not any(overlaps)
