"""What becomes of one effect. An effect is a commit of a node or a call of a relayer to a chain.

              a commit                                 a call to another chain
LOST          fails, and nothing is written            the request never arrives
UNSURE        is written, and yet an error comes back  done, and the reply is lost
CRASH_BEFORE  the process ends before it               the caller ends before it
CRASH_AFTER   the process ends when it is durable      the caller ends when it was answered
CONFLICT      another writer won                       -
DUPLICATE     -                                        arrives twice
LATE          -                                        arrives after the next one
SLOW          -                                        takes seconds
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from enum import StrEnum
from random import Random
from typing import Protocol


class Act(StrEnum):
    """See the module docstring."""

    LOST = "lost"
    UNSURE = "unsure"
    CRASH_BEFORE = "crash_before"
    CRASH_AFTER = "crash_after"
    CONFLICT = "conflict"
    DUPLICATE = "duplicate"
    LATE = "late"
    SLOW = "slow"


CRASHES = (Act.CRASH_BEFORE, Act.CRASH_AFTER)
OF_COMMITS = (Act.LOST, Act.UNSURE, *CRASHES, Act.CONFLICT)
OF_CALLS = (Act.LOST, Act.UNSURE, *CRASHES, Act.DUPLICATE, Act.LATE, Act.SLOW)
EXHAUSTED = (Act.LOST, Act.UNSURE, *CRASHES)
"""What every effect point meets in the exhaustive table."""


class Crash(BaseException):
    """A process ended here. No handler of the product may catch it."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} was killed")
        self.name = name


class Fate(Protocol):
    """Asked before every effect."""

    def commit(self, name: str) -> Act | None:
        """What becomes of a commit, `PROCESS WHAT`; asked when all is staged."""
        ...

    def file(self, name: str) -> Act | None:
        """What becomes of a file that a process writes beside its keys, `PROCESS WHAT`."""
        ...

    def call(self, owner: str, target: str, name: str) -> Act | None:
        """What becomes of a call of `owner`'s relayer to `target`."""
        ...


class Chance:
    """Faults drawn with the given likelihoods while it is enabled."""

    def __init__(
        self,
        random: Random,
        commits: Mapping[Act, float],
        calls: Mapping[Act, float],
        marks: Counter[str],
        delay: Callable[[], object],
    ) -> None:
        self._random = random
        self._commits = dict(commits)
        self._calls = dict(calls)
        self._marks = marks
        self._delay = delay
        self.enabled = False

    def commit(self, name: str) -> Act | None:
        """See Fate."""
        return self._draw("commit", self._commits)

    def file(self, name: str) -> Act | None:
        """See Fate; draws nothing: a crash here is one at the commit before it or after it."""
        return None

    def call(self, owner: str, target: str, name: str) -> Act | None:
        """See Fate."""
        act = self._draw("call", self._calls)
        if act is Act.SLOW:
            self._delay()
            return None
        return act

    def _draw(self, kind: str, acts: Mapping[Act, float]) -> Act | None:
        if not self.enabled:
            return None
        drawn = self._random.random()
        for act, likelihood in acts.items():
            drawn -= likelihood
            if drawn < 0:
                self._marks[f"{kind} {act}"] += 1
                return act
        return None


class Single:
    """One act at one effect, counted from the start; without an act it only counts."""

    def __init__(self, at: int = -1, act: Act | None = None) -> None:
        self._at = at
        self._act = act
        self.enabled = False
        self.seen: list[str] = []
        """Every effect so far: `commit PROCESS WHAT`, `file PROCESS WHAT` or
        `call OWNER>TARGET NAME`."""

    @property
    def reached(self) -> bool:
        """Whether the effect was met."""
        return len(self.seen) > self._at

    def commit(self, name: str) -> Act | None:
        """See Fate."""
        return self._next(f"commit {name}")

    def file(self, name: str) -> Act | None:
        """See Fate."""
        return self._next(f"file {name}")

    def call(self, owner: str, target: str, name: str) -> Act | None:
        """See Fate."""
        return self._next(f"call {owner}>{target} {name}")

    def _next(self, what: str) -> Act | None:
        if not self.enabled:
            return None
        self.seen.append(what)
        return self._act if len(self.seen) - 1 == self._at else None
