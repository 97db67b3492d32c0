"""Inputs for one target, judged."""

from __future__ import annotations

import resource
import signal
import time
from dataclasses import dataclass
from random import Random
from types import FrameType

from tests.fuzz.mutate import mutate
from tests.fuzz.targets import Target, targets

SECONDS = 2.0
"""For one input of at most 64 KiB: a thousand times what the slowest takes on an idle machine."""
MEMORY = 512 << 20
"""Bytes by which a process may grow while it decodes."""


class Found(AssertionError):
    """A decoder that did what none may do; the text holds its input."""


@dataclass(frozen=True, slots=True)
class Part:
    """A share of one target's inputs."""

    target: str
    seed: int
    count: int


@dataclass(frozen=True, slots=True)
class Told:
    """What a part came to."""

    target: str
    inputs: int
    accepted: int
    seconds: float
    """Of processor time."""
    found: str = ""


def run_part(part: Part) -> Told:
    """Feeds a target; stops at the first finding."""
    target = next(one for one in targets() if one.name == part.target)
    random, seeds = Random(f"{part.target} {part.seed}"), target.seeds()
    assert seeds, f"{part.target} has no seeds"
    started, accepted, found, inputs = time.process_time(), 0, "", 0
    before = _peak()
    for _ in range(part.count):
        inputs += 1
        raw = mutate(random, seeds)
        try:
            accepted += feed(target, raw)
        except Found as err:
            found = str(err)
            break
    if _peak() - before > MEMORY:
        found = found or f"{part.target}: memory grew by {(_peak() - before) >> 20} MiB"
    return Told(part.target, inputs, accepted, time.process_time() - started, found)


def feed(target: Target, raw: bytes) -> bool:
    """Whether the target took the input. Raises Found."""
    with _Limit():
        try:
            value = target.decode(raw)
            again = raw if target.encode is None else target.encode(value)
        except target.errors:
            return False
        except Exception as err:
            raise Found(f"{target.name}: {err!r}\n  input: {raw.hex()}") from err
    if again != raw:
        raise Found(f"{target.name}: a second encoding of one value\n  input: {raw.hex()}")
    return True


class _Slow(Exception):
    """Took too long."""


class _Limit:
    """Ends an input that takes too long, by its processor time."""

    def __enter__(self) -> None:
        signal.signal(signal.SIGVTALRM, _ring)
        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _ring(_: int, __: FrameType | None) -> None:
    raise _Slow(f"more than {SECONDS} seconds of processor time")


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
