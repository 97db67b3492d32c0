"""`python -m tests.mutation`: see README.md beside this file."""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.mutation.cover import measure
from tests.mutation.mutants import Mutant, mutants_of, targets
from tests.mutation.near import near
from tests.mutation.run import Verdict, judge
from tests.mutation.survivors import explained

NOT_SHOWN = (
    "tests/e2e",
    "tests/bench",
    "tests/mutation",
    "tests/fuzz",
    "tests/test_architecture.py",
    "tests/test_proto_style.py",
)
"""Tests in processes of their own, which the mutant is not in, and tests of the source's form."""


class Collector:
    """Takes what pytest collected and runs the mutants instead of the tests."""

    def __init__(self, options: argparse.Namespace, mutants: list[Mutant]) -> None:
        self.options = options
        self.mutants = mutants
        self.survivors = 0
        self.said = "no mutant was shown to a test"
        """The last line, for when pytest has had its own."""

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """In place of the tests."""
        items = {item.nodeid: item for item in session.items}
        mutants = self.mutants
        print(f"{len(items)} tests, {len(mutants)} mutants", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            covered = measure(session.items, Path(folder), self.options.map)
        for test in covered.failed:
            print(f"fails without a mutant, so it shows nothing: {test}")
        verdicts = []
        started = time.monotonic()
        for verdict in judge(items, covered, mutants, self.options.children, self.options.seconds):
            verdicts.append(verdict)
            self.show(verdict, len(verdicts), len(mutants))
        self.summary(verdicts, time.monotonic() - started)
        return True

    def show(self, verdict: Verdict, done: int, of: int) -> None:
        """One line a mutant: who noticed it."""
        if verdict.noticed_by:
            if self.options.all:
                print(f"{verdict.mutant.name}\n    {verdict.noticed_by}", flush=True)
        else:
            why = explained(verdict.mutant)
            if why is None or self.options.all:
                word = "SURVIVES" if why is None else "explained"
                print(
                    f"{word} ({verdict.tests} tests) line {verdict.mutant.line}: "
                    f"{verdict.mutant.name}",
                    flush=True,
                )
        if done % 100 == 0:
            print(f"  {done} of {of}", flush=True)

    def summary(self, verdicts: list[Verdict], seconds: float) -> None:
        """The closing lines."""
        lost = [v for v in verdicts if not v.noticed_by]
        unexplained = [v for v in lost if explained(v.mutant) is None]
        self.survivors = len(unexplained)
        by = Counter(v.noticed_by.split("::")[0] for v in verdicts if v.noticed_by)
        for file, count in by.most_common(12):
            print(f"  {count:5} first noticed by {file}")
        self.said = (
            f"{len(verdicts)} mutants: {len(verdicts) - len(lost)} noticed, "
            f"{len(lost) - len(unexplained)} explained, {len(unexplained)} survive; in "
            f"{seconds:.0f} s ({_processor():.0f} s of processor time with all tests once)"
        )


def _processor() -> float:
    """Seconds that this process and its children have had of processors."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def chosen(options: argparse.Namespace) -> list[Mutant]:
    """The mutants of this run: all, those of some files, every n-th, one of m parts."""
    found = [m for path in targets() for m in mutants_of(path)]
    if not options.edges:
        found = [m for m in found if m.kind != "edge"]
    if options.only:
        found = [m for m in found if any(part in m.name for part in options.only)]
    found = found[options.seed % options.every :: options.every]
    number, parts = options.share
    return found[len(found) * (number - 1) // parts : len(found) * number // parts]


def share(text: str) -> tuple[int, int]:
    """(n, m) of `n/m`: the n-th of m parts. Raises ValueError."""
    number, parts = (int(one) for one in text.split("/"))
    if not 1 <= number <= parts:
        raise ValueError("a share is n/m, with n from 1 to m")
    return number, parts


def main() -> int:
    """Exit 0 where every mutant was noticed or is explained."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutation",
        description="Takes out, inverts and weakens each check of the core, one at a time, and "
        "shows which tests notice.",
        epilog="example: python -m tests.mutation --only relay/light/merkle",
    )
    parser.add_argument("--only", nargs="*", help="mutants whose name holds one of these")
    parser.add_argument("--every", type=int, default=1, help="every n-th mutant (a sample)")
    parser.add_argument("--seed", type=int, default=0, help="where the sample starts")
    parser.add_argument(
        "--share", type=share, default=(1, 1), metavar="N/M", help="the n-th of m parts, in order"
    )
    parser.add_argument("--edges", action="store_true", help="move bounds by one as well")
    parser.add_argument("--children", type=int, default=2, help="mutants at once")
    parser.add_argument("--seconds", type=float, default=60, help="of tests for one mutant")
    parser.add_argument("--all", action="store_true", help="show who noticed each")
    parser.add_argument("--map", type=Path, help="keep here what each test runs, for the next run")
    parser.add_argument("--tests", nargs="*", help="show these (default: those near the module)")
    options = parser.parse_args()
    mutants = chosen(options)
    collector = Collector(options, mutants)
    arguments = [
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:timeout",
        "-o",
        "addopts=",
        "-m",
        "not slow",
        "-q",
        "--no-header",
        "--hypothesis-seed=0",  # what is noticed today is noticed tomorrow
    ]
    arguments += [f"--ignore={path}" for path in NOT_SHOWN]
    tests = options.tests or near(dict.fromkeys(mutant.file for mutant in mutants))
    code = pytest.main([*arguments, *tests], plugins=[collector])
    print(collector.said, flush=True)
    return 1 if collector.survivors or code not in (0, 5) else 0


if __name__ == "__main__":
    sys.exit(main())
