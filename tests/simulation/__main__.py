"""`python -m tests.simulation`: seeds until one fails; then its options, and how to repeat it."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from multiprocessing import get_context

from tests.simulation.cheap import CHEAP
from tests.simulation.options import TICKS
from tests.simulation.run import attempt

DEEP = 10_000


def main() -> int:
    """Runs the seeds that were asked for; 1 where one fails."""
    options = parser().parse_args()
    seeds = range(DEEP) if options.deep else _range(options.seeds)
    quiet = options.quiet or options.deep or options.jobs > 1
    total: Counter[str] = Counter()
    started = time.monotonic()
    run = partial(
        attempt, ticks=options.ticks, algorithm=options.keys, quiet=quiet, money=options.money
    )
    for done, (seed, marks, failed) in enumerate(_each(run, seeds, options.jobs), 1):
        if failed:
            print(failed, file=sys.stderr)
            return 1
        total += marks
        if not quiet or done % 100 == 0 or done == len(seeds):
            pace = done / (time.monotonic() - started)
            print(f"seed {seed} passed ({done} of {len(seeds)}, {pace:.2f} a second)", flush=True)
    if options.marks:
        for name, count in sorted(total.items()):
            print(f"{count:9d}  {name}")
    return 0


def parser() -> argparse.ArgumentParser:
    """What can be asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", default="0-9", help="A-B, both included, or one (default 0-9)")
    parser.add_argument("--deep", action="store_true", help=f"the first {DEEP} seeds")
    parser.add_argument("--ticks", type=int, default=TICKS, help="of the phase of faults")
    parser.add_argument("--keys", default=CHEAP, help="algorithm, e.g. ed25519")
    parser.add_argument("--money", action="store_true", help="with settlement beside the rest")
    parser.add_argument("--jobs", type=int, default=1, help="seeds at a time; implies --quiet")
    parser.add_argument("--quiet", action="store_true", help="one line a hundred seeds")
    parser.add_argument("--marks", action="store_true", help="what happened, counted, at the end")
    return parser


def _range(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def _each(
    run: partial[tuple[int, Counter[str], str]], seeds: range, jobs: int
) -> Iterator[tuple[int, Counter[str], str]]:
    if jobs == 1:
        yield from map(run, seeds)
        return
    with get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(run, seeds)


if __name__ == "__main__":
    sys.exit(main())
