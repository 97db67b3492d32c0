"""Shows every mutant to the tests that run its line: one forked child a mutant.

The tests are collected once, in the parent; a child exchanges one function's code and runs tests
until one fails, dies or hangs. So a mutant costs about as much as the first test that notices it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from tests.mutation.apply import apply
from tests.mutation.cover import Map, run_one
from tests.mutation.mutants import Mutant

FACTOR = 8
BASE = 15
"""A child may use this many times what its tests took without the mutant, and so many seconds of
processor time: on a busy machine a loop is told from a slow test by that alone."""
WAITING = 20
"""For as many times longer a test may take on the clock: what waits for ever uses no processor."""
_PASSED, _SURVIVED = b".", b"-"
MEMORY_BYTES = 6 * 1024**3


@dataclass(slots=True)
class Verdict:
    """What became of one mutant."""

    mutant: Mutant
    noticed_by: str
    """The first test that failed, `hangs`, `dies`; empty for a survivor."""
    tests: int
    """How many tests run its line."""
    seconds: float


@dataclass(slots=True)
class _Child:
    mutant: Mutant
    tests: int
    pid: int
    pipe: int
    started: float
    patience: float
    """Seconds for one test."""
    deadline: float
    said: bytes = field(default=b"")


def judge(
    items: dict[str, pytest.Item],
    covered: Map,
    mutants: Sequence[Mutant],
    children: int,
    most_seconds: float,
) -> Iterator[Verdict]:
    """Verdicts as they come. `most_seconds` bounds the tests that one mutant is shown to."""
    waiting = list(reversed(mutants))
    running: list[_Child] = []
    while waiting or running:
        while waiting and len(running) < children:
            mutant = waiting.pop()
            chosen = _within(covered, covered.tests_of(mutant), most_seconds)
            if not chosen:
                yield Verdict(mutant, "", 0, 0.0)
                continue
            took = [covered.seconds.get(t, 1.0) for t in chosen]
            running.append(_start(mutant, [items[t] for t in chosen], max(took), sum(took)))
        yield from _ended(running)


def _within(covered: Map, tests: Sequence[str], most_seconds: float) -> list[str]:
    chosen: list[str] = []
    spent = 0.0
    for test in tests:
        spent += covered.seconds.get(test, 0.0)
        if chosen and spent > most_seconds:
            break
        chosen.append(test)
    return chosen


def _start(mutant: Mutant, tests: Sequence[pytest.Item], slowest: float, together: float) -> _Child:
    out, into = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        os.close(out)
        os.setsid()
        _quietly(lambda: _show(mutant, tests, into), int(BASE + FACTOR * together))
        os._exit(0)
    os.close(into)
    now = time.monotonic()
    patience = WAITING * (BASE + slowest)
    return _Child(mutant, len(tests), pid, out, now, patience, now + patience)


def _quietly(what: Callable[[], None], seconds: int) -> None:
    faulthandler.disable()
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    try:
        what()
    except BaseException:
        os._exit(3)


def _show(mutant: Mutant, tests: Sequence[pytest.Item], into: int) -> None:
    try:
        apply(mutant)
    except Exception:  # it could not be put in, so nobody has noticed it
        os.write(into, _SURVIVED)
        return
    for position, item in enumerate(tests):
        following = tests[position + 1] if position + 1 < len(tests) else None
        if not run_one(item, following):
            os.write(into, item.nodeid.encode())
            os._exit(1)
        os.write(into, _PASSED)
    os.write(into, _SURVIVED)


def _ended(running: list[_Child]) -> Iterator[Verdict]:
    """Waits for a child to end, or to have taken too long."""
    first = min(child.deadline for child in running)
    ready, _, _ = select.select(
        [child.pipe for child in running], [], [], max(0.0, first - time.monotonic())
    )
    for child in list(running):
        late = time.monotonic() >= child.deadline
        if child.pipe in ready:
            read = os.read(child.pipe, 65536)
            child.said = read.lstrip(_PASSED)
            if read and not child.said:  # one test more, and time for another
                child.deadline = time.monotonic() + child.patience
                continue
        elif not late:
            continue
        with contextlib.suppress(ProcessLookupError):
            if late or child.said:
                os.killpg(child.pid, signal.SIGKILL)
        _, status = os.waitpid(child.pid, 0)
        late = late or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU)
        with contextlib.suppress(ProcessLookupError):  # what its tests had started
            os.killpg(child.pid, signal.SIGKILL)
        os.close(child.pipe)
        running.remove(child)
        said = child.said.decode(errors="replace")
        by = "" if child.said == _SURVIVED else said or ("hangs" if late else "dies")
        yield Verdict(child.mutant, by, child.tests, time.monotonic() - child.started)
