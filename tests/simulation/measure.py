"""`python -m tests.simulation.measure`: in which seeds each planted bug is found.

    .venv/bin/python -m tests.simulation.measure --finds 3 --most 80 [--only WORDS]

Each bug is planted and seeds are run from 0 on until `--finds` of them have found it, or `--most`
were run. A line for each bug: the seeds that found it, how many were run, and the limit that
follows: as many seeds as miss a bug of that likelihood once in a thousand times. A limit taken
from the first find alone would be missed by the next change of anything that draws.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import dataclass

from tests.simulation.money.planted import MONEY_BUGS
from tests.simulation.planted import BUGS
from tests.simulation.planting import Bug, planted
from tests.simulation.run import Failure, run_seed

MISSED = 1000
"""A limit is missed once in so many draws."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was seen of one bug."""

    bug: Bug
    finds: tuple[tuple[int, str], ...]
    """(seed, invariant)."""
    runs: int
    seconds: float
    """Of processor time."""

    @property
    def limit(self) -> int:
        """Seeds that miss it once in MISSED times, if each finds it as often as was seen; rounded
        up to fives. 0 where nothing was found."""
        if not self.finds:
            return 0
        share = len(self.finds) / (self.runs + 1)  # one more that finds nothing: no share is 1
        return math.ceil(math.log(MISSED) / -math.log(1 - share) / 5) * 5

    def line(self) -> str:
        """As it is printed."""
        found = " ".join(str(seed) for seed, _ in self.finds) or "-"
        by = ", ".join(sorted({invariant for _, invariant in self.finds})) or "-"
        wrong = {i for _, i in self.finds} - set(self.bug.invariants)
        said = f" (not stated: {', '.join(sorted(wrong))})" if wrong else ""
        return (
            f"{self.limit:4d} (states {self.bug.within:3d})  in {found} of {self.runs}, "
            f"{self.seconds:.0f} s, by {by}{said}: {self.bug.name}"
        )


def measure(bug: Bug, finds: int, most: int, money: bool) -> Measured:
    """Runs seeds until enough of them have found the bug."""
    found: list[tuple[int, str]] = []
    runs, started = 0, time.process_time()
    with planted(bug):
        while len(found) < finds and runs < most:
            try:
                run_seed(runs, quiet=True, money=money)
            except Failure as failure:
                found.append((runs, failure.invariant))
            runs += 1
    return Measured(bug, tuple(found), runs, time.process_time() - started)


def main() -> int:
    """Measures; 1 where a bug was not found at all, or by what is not stated."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.measure", description=__doc__)
    parser.add_argument("--finds", type=int, default=3, help="seeds that find a bug")
    parser.add_argument("--most", type=int, default=80, help="seeds to run at most")
    parser.add_argument("--only", default="", help="bugs whose name holds this")
    parser.add_argument("--skip", type=int, default=0, help="bugs to pass over, from the first")
    parser.add_argument("--part", default="", choices=("", "money", "rest"))
    options = parser.parse_args()
    missed = 0
    bugs = {"": (*BUGS, *MONEY_BUGS), "money": MONEY_BUGS, "rest": BUGS}[options.part]
    for bug in bugs[options.skip :]:
        if options.only in bug.name:
            measured = measure(bug, options.finds, options.most, bug in MONEY_BUGS)
            missed += not measured.finds
            print(measured.line(), flush=True)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
