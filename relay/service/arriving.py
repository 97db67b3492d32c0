"""Calls whose request has not come yet: each holds a thread of the server, so few may.

Whoever opens a call need not send its request, and gRPC gives the call a thread all the same, for
ever or until a deadline a day ahead: a few dozen calls with nothing in them would keep everybody
out. So where more than `most` calls wait for their request, those are ended that have waited longer
than an honest one takes. A reflection stream waits between its questions, too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import TypeVar

import grpc

T = TypeVar("T")


class Arriving:
    """The calls of one server that wait for a request. Thread-safe."""

    def __init__(self, most: int, seconds: float, monotonic: Callable[[], float]) -> None:
        """`most` calls may wait as long as they like; past that each has `seconds`."""
        self._most = most
        self._seconds = seconds
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._numbers = count()
        self._calls: dict[int, tuple[float, grpc.ServicerContext]] = {}
        self._timer: threading.Timer | None = None

    def each(self, requests: Iterator[T], context: grpc.ServicerContext) -> Iterator[T]:
        """The requests of a call as they come. Raises grpc.RpcError where the call was ended."""
        while True:
            with self._waiting(context):
                request = next(requests, None)
            if request is None:
                return
            yield request

    @contextmanager
    def _waiting(self, context: grpc.ServicerContext) -> Iterator[None]:
        with self._lock:
            number = next(self._numbers)
            self._calls[number] = self._monotonic(), context
            self._look_later()
        try:
            yield
        finally:
            with self._lock:
                self._calls.pop(number, None)

    def _look_later(self) -> None:
        """Has too many be looked at in a while. Under the lock."""
        if len(self._calls) > self._most and self._timer is None:
            self._timer = threading.Timer(self._seconds, self._end_idle)
            self._timer.daemon = True
            self._timer.start()

    def _end_idle(self) -> None:
        with self._lock:
            self._timer = None
            idle: list[int] = []
            if len(self._calls) > self._most:
                until = self._monotonic() - self._seconds
                idle = [number for number, (began, _) in self._calls.items() if began <= until]
            ended = [self._calls.pop(number)[1] for number in idle]
            self._look_later()
        for context in ended:
            context.cancel()
