"""Group commit: calls that arrive together share one transaction, one checkpoint, one signature.

The first caller leads: it runs all that wait as one group, while those who arrive meanwhile form
the next group, which the first of them leads. With one caller there is no queue and no delay, and
everything runs in the caller's own thread, so that a simulation stays deterministic.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from relay.errors import Exhausted, Reason

Step = TypeVar("Step")

MAX_WAITING = 10_000
MAX_GROUP = 256


class _Waiting(Generic[Step]):
    """One call; `ready` is set when it is answered, or when its turn to lead has come."""

    __slots__ = ("answer", "done", "error", "ready", "step")

    def __init__(self, step: Step) -> None:
        self.step = step
        self.ready = threading.Event()
        self.done = False
        self.answer: Any = None
        self.error: BaseException | None = None


class Groups(Generic[Step]):
    """Collects steps and hands them in groups to `run`, one group at a time."""

    def __init__(self, run: Callable[[Sequence[Step]], Sequence[Any]]) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._waiting: deque[_Waiting[Step]] = deque()
        self._led = False

    def submit(self, step: Step) -> Any:
        """Runs `step` in some group and returns its answer, or raises what it raised.

        `run` gives one answer a step; an answer that is an Exception is raised here. Where `run`
        itself raises, every step of the group raises that. Raises Exhausted(LIMIT_EXCEEDED).
        """
        mine = _Waiting(step)
        with self._lock:
            if len(self._waiting) >= MAX_WAITING:
                raise Exhausted(Reason.LIMIT_EXCEEDED, "too many calls wait; try again later")
            self._waiting.append(mine)
            lead, self._led = not self._led, True
        if not lead:
            mine.ready.wait()
        if not mine.done:
            self._lead()
        if mine.error is not None:
            raise mine.error
        if isinstance(mine.answer, Exception):
            raise mine.answer
        return mine.answer

    def _lead(self) -> None:
        """Runs the group that waits now, then lets the first of the next group lead."""
        with self._lock:
            size = min(len(self._waiting), MAX_GROUP)
            group = [self._waiting.popleft() for _ in range(size)]
        try:
            answers = self._run([one.step for one in group])
            for one, answer in zip(group, answers, strict=True):
                one.answer = answer
        except BaseException as err:
            for one in group:
                one.error = err
        for one in group:
            one.done = True
        with self._lock:
            following = self._waiting[0] if self._waiting else None
            self._led = following is not None
        for one in group:
            one.ready.set()
        if following is not None:
            following.ready.set()
