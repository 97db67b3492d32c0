"""`python -m tests.deep`: the deep tier, one part after the other, each by its own command.

    seeds      ten thousand seeds of the simulation
    money      a quarter as many with settlement beside the rest
    fuzz       ten million inputs, over all decoders
    points     the whole table of fault points, and every planted bug within its stated seeds
    mutation   every mutant of the core
    kills      real processes, killed a hundred times under load

`--share 0.1` runs a tenth of each (the table of fault points is run whole); `--only seeds,fuzz`
some of them. What was run, when, on what and how it ended is written into tests/README.md, in place
of the figures before. Exit 1 where anything failed; the parts after it are run all the same.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "tests" / "README.md"
BEGIN, END = "<!-- deep tier: begin -->", "<!-- deep tier: end -->"
SEEDS, INPUTS, KILLS = 10_000, 10_000_000, 100
_PYTEST = ("-m", "pytest", "-m", "slow", "--timeout=3600", "-q")


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the tier."""

    name: str
    what: str
    command: tuple[str, ...]
    """Arguments of Python."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a part ended."""

    part: Part
    passed: bool
    minutes: float
    processor_minutes: float
    last: str
    """The last line that it printed."""
    day: str


def parts(share: float, jobs: int, first: int) -> list[Part]:
    """The parts at a share of their size."""
    seeds, inputs = max(1, round(SEEDS * share)), max(1, round(INPUTS * share))
    kills, every = max(1, round(KILLS * share)), max(1, round(1 / share))
    simulation = f"--seeds {first}-{first + seeds - 1} --quiet --jobs {jobs}"
    with_money = max(1, seeds // 4)
    money = f"--money --seeds {first}-{first + with_money - 1} --quiet --jobs {jobs}"
    table = tuple(
        f"tests/simulation/test_{name}.py" for name in ("fault_points", "planted", "money")
    )
    return [
        Part("seeds", f"{seeds} seeds", ("-m", "tests.simulation", *simulation.split())),
        Part(
            "money",
            f"{with_money} seeds with settlement",
            ("-m", "tests.simulation", *money.split()),
        ),
        Part(
            "fuzz",
            f"{inputs} inputs",
            ("-m", "tests.fuzz", "--count", str(inputs), "--jobs", str(jobs)),
        ),
        Part("points", "all fault points and planted bugs", (*_PYTEST, "-n", str(jobs), *table)),
        Part("mutation", f"every {every}. mutant", ("-m", "tests.mutation", "--every", str(every))),
        Part(
            "kills",
            f"{kills} kills",
            ("-m", "tests.e2e.kills", "--count", str(kills), "--seed", "1"),
        ),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the tier."""
    parser = argparse.ArgumentParser(prog="python -m tests.deep", description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of each part (default: all)")
    parser.add_argument("--only", default="", help="names of parts, with commas")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    options = parser.parse_args(arguments)
    wanted = set(options.only.split(",")) - {""}
    ended = []
    for part in parts(options.share, options.jobs, options.first):
        if not wanted or part.name in wanted:
            ended.append(_run(part))
            write(README, ended)
    return 0 if all(one.passed for one in ended) else 1


def _run(part: Part) -> Ended:
    print(f"== {part.what}: python {' '.join(part.command)}", flush=True)
    started, before = time.monotonic(), _processor()
    last = ""
    process = subprocess.Popen(
        [sys.executable, *part.command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        last = line.strip() or last
    code = process.wait()
    wall, spent = time.monotonic() - started, _processor() - before
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    return Ended(part, code == 0, wall / 60, spent / 60, last, day)


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def write(readme: Path, ended: Sequence[Ended]) -> None:
    """Puts the figures between their marks; those of parts that were not run stay."""
    text = readme.read_text()
    head, _, rest = text.partition(BEGIN)
    old, _, tail = rest.partition(END)
    rows = dict(re.findall(r"^\| (\w+) \|(.*)$", old, flags=re.MULTILINE))
    rows.pop("part", None)
    for one in ended:
        cells = (
            one.part.what,
            "passed" if one.passed else "FAILED",
            f"{one.minutes:.1f}",
            f"{one.processor_minutes:.1f}",
            one.day,
            _machine(),
            one.last.replace("|", "/")[:100],
        )
        rows[one.part.name] = " " + " | ".join(cells) + " |"
    lines = [
        BEGIN,
        "| part | what | ended | minutes | of processor time | on | with | last line |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *(f"| {name} |{cells}" for name, cells in rows.items()),
    ]
    readme.write_text(head + "\n".join(lines) + "\n" + END + tail)


def _machine() -> str:
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} cores at load {load:.0f}, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())
