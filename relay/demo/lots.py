"""Many records at once: in lots, a few lots side by side, each through the whole story.

While one lot's packets are on their way another is signed or fetched, so that no process waits for
another for long, and a record's time from attestation to delivery is that of its lot.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from relay.demo.delivery import deliver_all, find_some, report_outcomes
from relay.demo.side_by_side import side_by_side
from relay.demo.stage import Stage
from relay.demo.story import Case, Progress, attest_all, request_all, wait_announced

MIN_LOT, MAX_LOT, LOTS = 8, 50, 6
"""A lot is large enough to share a head among many packets, and no larger than makes few wait."""
LOTS_AT_ONCE = 3


class Overall:
    """The progress of all lots together, out of that of each."""

    def __init__(self, tell: Progress, sizes: Sequence[int]) -> None:
        self._tell = tell
        self._sizes = list(sizes)
        self._lock = threading.Lock()
        self._steps: dict[str, dict[int, tuple[int, int]]] = {}

    def of(self, lot: int) -> Progress:
        """What one lot tells its progress to."""

        def tell(step: str, done: int, of: int) -> None:
            with self._lock:
                told = self._steps.setdefault(step, {})
                told[lot] = (max(done, told.get(lot, (0, 0))[0]), of)
                total = sum(
                    told[number][1] if number in told else size
                    for number, size in enumerate(self._sizes)
                )
                self._tell(step, sum(done for done, _ in told.values()), total)

        return tell


def tell_story(stage: Stage, cases: Sequence[Case], now: int, tell: Progress) -> None:
    """Everything from attestation to outcome, for all cases."""
    size = max(MIN_LOT, min(MAX_LOT, len(cases) // LOTS))
    lots = [cases[i : i + size] for i in range(0, len(cases), size)]
    overall = Overall(tell, [len(lot) for lot in lots])

    def run(numbered: tuple[int, Sequence[Case]]) -> None:
        number, lot = numbered
        progress = overall.of(number)
        attest_all(stage, lot, now, progress)
        wait_announced(stage, [case for case in lot if case.attested is not None], progress)
        find_some(stage, lot, now, progress)
        request_all(stage, lot, now, progress)
        deliver_all(stage, lot, progress)
        report_outcomes(stage, lot, progress)

    side_by_side(stage, run, list(enumerate(lots)), LOTS_AT_ONCE)
