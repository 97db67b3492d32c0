"""How many refusals of strangers are entered: enough to be seen, too few to fill a disk.

Whoever signs under no registered key can ask as often as he likes, and every entry is kept for
good, on the ledger and in the audit store. Past the limit a refusal is counted, and the next entry
says how many there were. What a known institution asks is entered always: it answers for it.
"""

from __future__ import annotations

import threading

MAX_A_MINUTE = 30
SECONDS = 60


class Refusals:
    """Thread-safe. What is counted and not yet told is lost when the process ends."""

    def __init__(self, limit: int = MAX_A_MINUTE) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._began = 0
        self._entered = 0
        self._passed_over = 0

    def take(self, now: int) -> int | None:
        """None where this one is only counted; else it is entered, and so many were passed over
        since the last entry."""
        with self._lock:
            if not self._began <= now < self._began + SECONDS:
                self._began, self._entered = now, 0
            if self._entered >= self._limit:
                self._passed_over += 1
                return None
            self._entered += 1
            passed, self._passed_over = self._passed_over, 0
            return passed
