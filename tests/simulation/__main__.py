"""`python -m tests.simulation`: seeds, one after the other, until one fails."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.simulation.cheap import CHEAP
from tests.simulation.options import TICKS
from tests.simulation.run import Failure, run_seed


def main() -> int:
    """Runs the seeds that were asked for; 1 where one fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", default="0-9", help="A-B, both included, or one (default 0-9)")
    parser.add_argument("--ticks", type=int, default=TICKS, help="of the phase of faults")
    parser.add_argument("--keys", default=CHEAP, help="algorithm, e.g. ed25519")
    parser.add_argument("--quiet", action="store_true", help="one line a hundred seeds")
    parser.add_argument("--marks", action="store_true", help="what happened, counted, at the end")
    options = parser.parse_args()
    first, _, last = options.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    total: Counter[str] = Counter()
    started = time.monotonic()
    for done, seed in enumerate(seeds, 1):
        try:
            total += run_seed(seed, options.ticks, options.keys, quiet=options.quiet)
        except Failure as failure:
            print(failure, file=sys.stderr)
            return 1
        if not options.quiet or done % 100 == 0 or done == len(seeds):
            pace = done / (time.monotonic() - started)
            print(f"seed {seed} passed ({done} of {len(seeds)}, {pace:.2f} a second)", flush=True)
    if options.marks:
        for name, count in sorted(total.items()):
            print(f"{count:9d}  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
