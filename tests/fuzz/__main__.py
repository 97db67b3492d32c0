"""`python -m tests.fuzz`: inputs for every decoder, how many a second, and what was found."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from multiprocessing import get_context

from tests.fuzz.run import Part, Told, run_part
from tests.fuzz.targets import targets

DEEP = 10_000_000
_PART = 2_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Feeds the decoders; 1 where one does what none may do."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=DEEP // 100, help="inputs, over all targets")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other inputs")
    parser.add_argument("--only", default="", help="targets whose name holds this")
    options = parser.parse_args(arguments)
    started, inputs, accepted, spent = time.monotonic(), Counter[str](), Counter[str](), 0.0
    for told in _told(_parts(options.count, options.seed, options.only), options.jobs):
        inputs[told.target] += told.inputs
        accepted[told.target] += told.accepted
        spent += told.seconds
        if told.found:
            print(told.found, file=sys.stderr)
            return 1
    for name, count in inputs.items():
        print(f"{count:9d} inputs, {accepted[name]:8d} taken  {name}")
    total, wall = sum(inputs.values()), time.monotonic() - started
    print(f"{total} inputs, {total / wall:.0f} a second, {total / spent:.0f} a processor second")
    return 0


def _parts(count: int, seed: int, only: str) -> Iterator[Part]:
    """Equal shares, in pieces, so that processes stay busy to the end."""
    names = [target.name for target in targets() if only in target.name]
    share, number = -(-count // len(names)), 0
    while share > 0:
        for name in names:
            yield Part(name, seed * 1_000_003 + number, min(_PART, share))
        share, number = share - _PART, number + 1


def _told(parts: Iterator[Part], jobs: int) -> Iterator[Told]:
    if jobs == 1:
        yield from map(run_part, parts)
        return
    with get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(run_part, parts)


if __name__ == "__main__":
    sys.exit(main())
