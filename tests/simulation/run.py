"""One seed, from its options to its end, with everything that is needed to repeat it."""

from __future__ import annotations

import logging
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from tests.simulation.cheap import CHEAP
from tests.simulation.options import TICKS, Options, draw
from tests.simulation.oracle import Broken
from tests.simulation.world import World


class Failure(AssertionError):
    """A seed did not pass; its text repeats it."""

    def __init__(self, options: Options, cause: BaseException, tick: int) -> None:
        self.invariant = cause.invariant if isinstance(cause, Broken) else "no fault of ours"
        self.tick = tick
        shown = traceback.format_exception(cause)
        super().__init__(
            "\n".join(
                [
                    *(f"  {line}" for line in options.lines()),
                    "".join(shown if not isinstance(cause, Broken) else shown[-3:]).rstrip(),
                    f"seed {options.seed} failed in tick {tick}: {cause}",
                    f"repeat it: {command(options)}",
                ]
            )
        )


def command(options: Options) -> str:
    """The exact command that does the same again."""
    parts = [f"python -m tests.simulation --seeds {options.seed} --ticks {options.ticks}"]
    if options.money is not None:
        parts.append("--money")
    if options.algorithm != CHEAP:
        parts.append(f"--keys {options.algorithm}")
    return " ".join(parts)


def run_seed(
    seed: int,
    ticks: int = TICKS,
    algorithm: str = CHEAP,
    *,
    quiet: bool = False,
    money: bool = False,
) -> Counter[str]:
    """Runs a seed; what happened, counted. Raises Failure."""
    options = draw(seed, ticks, algorithm, money=money)
    if not quiet:
        print(f"seed {seed}: {'; '.join(options.lines()[1:])}", flush=True)
    return run_options(options)


def attempt(
    seed: int, *, ticks: int, algorithm: str, quiet: bool, money: bool
) -> tuple[int, Counter[str], str]:
    """As `run_seed`: (seed, what happened, why it failed)."""
    try:
        return seed, run_seed(seed, ticks, algorithm, quiet=quiet, money=money), ""
    except Failure as failure:
        return seed, Counter(), str(failure)


def run_options(options: Options) -> Counter[str]:
    """As `run_seed`, with options that somebody made."""
    world: World | None = None
    try:
        with silence():
            world = World(options)
            world.run()
    except Exception as cause:
        tick = world.marks["ticks"] if world is not None else 0
        raise Failure(options, cause, tick) from cause
    finally:
        if world is not None:
            world.close()
    return world.marks + world.reasons.seen


@contextmanager
def silence() -> Iterator[None]:
    """The product's log would tell of every fault."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)
