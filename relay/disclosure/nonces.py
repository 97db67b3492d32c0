"""Each signed query or fetch is used once.

A nonce is remembered until its time is too old to be accepted anyway. What was signed before this
process started is refused, since what was seen then is forgotten: its signer signs again.
"""

from __future__ import annotations

import heapq
import threading

from relay.contracts.payloads.access import MAX_AGE
from relay.errors import Denied, Exhausted, Reason

MAX_NONCES = 200_000


class Nonces:
    """The nonces of the last minutes. Safe to call from several threads."""

    def __init__(self, started: int, limit: int = MAX_NONCES) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._seen: set[tuple[str, bytes]] = set()
        self._by_time: list[tuple[int, str, bytes]] = []
        self._forgotten = started
        """Of what was signed before, no nonce is remembered any more."""

    def use(self, institution: str, nonce: bytes, time: int, now: int) -> None:
        """Takes a nonce. Raises Denied(UNAUTHENTICATED) where it was taken or is out of time,
        Exhausted(LIMIT_EXCEEDED) where there is no room to remember it."""
        # A clock that was set back must not make good again what was forgotten before.
        if abs(time - now) > MAX_AGE or time < self._forgotten:
            raise Denied(
                Reason.UNAUTHENTICATED,
                "it was signed too long ago, or in the future",
                hint=f"sign again; the clocks may differ by {MAX_AGE} seconds",
            )
        with self._lock:
            self._forgotten = max(self._forgotten, now - MAX_AGE)
            while self._by_time and self._by_time[0][0] < now - MAX_AGE:
                _, *gone = heapq.heappop(self._by_time)
                self._seen.discard((gone[0], gone[1]))
            if (institution, nonce) in self._seen:
                raise Denied(
                    Reason.UNAUTHENTICATED,
                    "this signature was used before",
                    hint="sign each query and fetch with a nonce of its own",
                )
            if len(self._seen) >= self._limit:
                raise Exhausted(Reason.LIMIT_EXCEEDED, "too many queries at once", hint="ask later")
            self._seen.add((institution, nonce))
            heapq.heappush(self._by_time, (time, institution, nonce))
