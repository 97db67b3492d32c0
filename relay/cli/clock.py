"""The machine's clock, watched: a step while the node runs stops it until somebody has looked.

The time in a head never decreases, so an hour that was wrong for a moment stays in the journal, and
others refuse heads from the future until it is past. Against the time since the machine was
started, which no operator and no time server can set, a step shows at once. Then nothing is
committed any more, and calls are answered CLOCK_JUMPED, until the clock is right again, or until
the node is started anew by somebody who found that it is right now.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from relay.errors import Reason, Unavailable

MAX_STEP = 300
"""Seconds that a clock may be corrected by at once; time servers correct less on a healthy
machine, and a restart accepts any time."""


def _since_boot() -> float:
    """Seconds since the machine was started, those that it slept through included."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Clock:
    """Integer seconds since 1970 UTC. Thread-safe."""

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        since_boot: Callable[[], float] = _since_boot,
    ) -> None:
        self._wall = wall
        self._since_boot = since_boot
        self._lock = threading.Lock()
        self._offset = wall() - since_boot()

    def __call__(self) -> int:
        """Raises Unavailable(CLOCK_JUMPED) while it is further from where it should be than
        MAX_STEP. Lesser corrections are taken over one by one."""
        with self._lock:
            wall = self._wall()
            offset = wall - self._since_boot()
            step = round(offset - self._offset)
            if abs(step) <= MAX_STEP:
                self._offset = offset
                return int(wall)
        raise Unavailable(
            Reason.CLOCK_JUMPED,
            f"the clock was set {'forward' if step > 0 else 'back'} by {abs(step)} s while this "
            "node ran",
            hint="set the clock right and the node goes on; if it was wrong before and is right "
            "now, start the node again; nothing was committed in between",
            seconds=step,
        )
