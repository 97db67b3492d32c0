"""`python -m tests.deep`: the deep tier, one part after the other, each by its own commands.

    seeds      ten thousand seeds of the simulation
    money      a quarter as many with settlement beside the rest
    fuzz       ten million inputs, over all decoders
    points     the whole table of fault points, and every planted bug within its stated seeds
    mutation   every mutant of the core
    solidity   every check of the contracts in Solidity, taken out
    suite      the whole everyday suite on PostgreSQL, and with serialization failures on both
    kills      real processes, killed a hundred times under load

It takes hours, so it is cut into pieces and goes on where it was stopped: what has passed is kept
in `tests/deep.json` until `--anew`. `--share 0.1` runs a tenth of each (but the whole table of
fault points, and the whole suite); `--only seeds,fuzz` some of them; `--within 30` begins no piece
after thirty minutes. What was run, when, on which sources and how it ended is written into
tests/README.md, in place of the figures before. Exit 1 where anything failed or is left; what comes
after a failure is run all the same.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "tests" / "README.md"
KEPT = ROOT / "tests" / "deep.json"
MAP = ROOT / ".deep.map"
BEGIN, END = "<!-- deep tier: begin -->", "<!-- deep tier: end -->"
SEEDS, INPUTS, KILLS = 10_000, 10_000_000, 100
_COLUMNS = (
    "what",
    "pieces",
    "ended",
    "minutes",
    "of processor time",
    "on",
    "sources",
    "with",
    "last line",
)
PIECES = 20
"""Of seeds, inputs and mutants."""
_PYTEST = ("-m", "pytest", "-m", "slow", "--timeout=3600", "-q")
_POINTS = (
    *(
        f"fault_points.py -k every_point[{scenario}-{part}]"
        for scenario in ("records", "money", "upkeep", "stolen", "witnessed", "lapsed")
        for part in range(8)
    ),
    "fault_points.py --deselect tests/simulation/test_fault_points.py::test_every_point",
    "planted.py",
    "money.py",
)
_SUITES = (("--on", "postgresql"), ("--conflicts",), ("--on", "postgresql", "--conflicts"))

Command = tuple[str, ...]
"""Arguments of Python."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the tier."""

    name: str
    what: str
    pieces: tuple[Command, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a piece ended."""

    passed: bool
    minutes: float
    processor_minutes: float
    last: str
    """The last line that it printed."""
    day: str
    sources: str
    """The commit, shortened; with a star where files differ from it."""


def parts(share: float, jobs: int, first: int) -> list[Part]:
    """The parts at a share of their size."""
    seeds, inputs = max(1, round(SEEDS * share)), max(1, round(INPUTS * share))
    kills, every = max(1, round(KILLS * share)), max(1, round(1 / share))
    with_money = max(1, seeds // 4)
    at_once = ("--jobs", str(jobs))
    simulation = ("-m", "tests.simulation", "--quiet", *at_once)
    fuzz = ("-m", "tests.fuzz", *at_once)
    mutation = ("-m", "tests.mutation", "--map", str(MAP), "--every", str(every))
    return [
        Part(
            "seeds",
            f"{seeds} seeds",
            tuple((*simulation, "--seeds", one) for one in _cut(first, seeds)),
        ),
        Part(
            "money",
            f"{with_money} seeds with settlement",
            tuple((*simulation, "--money", "--seeds", one) for one in _cut(first, with_money)),
        ),
        Part(
            "fuzz",
            f"{inputs} inputs",
            tuple(
                (*fuzz, "--seed", str(n), "--count", str(-(-inputs // PIECES)))
                for n in range(PIECES)
            ),
        ),
        Part(
            "points",
            "all fault points and planted bugs",
            tuple(
                (*_PYTEST, "-n", str(jobs), *f"tests/simulation/test_{one}".split())
                for one in _POINTS
            ),
        ),
        Part(
            "mutation",
            "every mutant" if every == 1 else f"every {every}th mutant",
            tuple((*mutation, "--share", f"{n}/{PIECES}") for n in range(1, PIECES + 1)),
        ),
        Part(
            "solidity",
            "every check of the contracts" if every == 1 else f"every {every}th check of them",
            (("-m", "tests.mutation.solidity", *at_once, "--share", f"1/{every}"),),
        ),
        Part(
            "suite",
            "the everyday suite on PostgreSQL and with failing commits",
            tuple(("-m", "tests.suite", "-n", str(jobs), *words) for words in _SUITES),
        ),
        Part(
            "kills",
            f"{kills} kills",
            (("-m", "tests.e2e.kills", "--count", str(kills), "--seed", "1"),),
        ),
    ]


def _cut(first: int, count: int) -> list[str]:
    """Ranges of seeds, each `A-B`, both included."""
    size = -(-count // PIECES)
    starts = range(first, first + count, size)
    return [f"{at}-{min(at + size, first + count) - 1}" for at in starts]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what has not passed yet."""
    parser = argparse.ArgumentParser(prog="python -m tests.deep", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--share", type=float, default=1.0, help="of each part (default: all)")
    parser.add_argument("--only", default="", help="names of parts, with commas")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--within", type=float, default=float("inf"), help="minutes")
    parser.add_argument("--anew", action="store_true", help="forget what has passed before")
    options = parser.parse_args(arguments)
    if options.anew:
        KEPT.unlink(missing_ok=True)
        MAP.unlink(missing_ok=True)
    wanted = set(options.only.split(",")) - {""}
    chosen = [
        part
        for part in parts(options.share, options.jobs, options.first)
        if not wanted or part.name in wanted
    ]
    ended = load(KEPT)
    until = time.monotonic() + 60 * options.within
    for part in chosen:
        for piece in part.pieces:
            before = ended.get(key(piece))
            if (before is None or not before.passed) and time.monotonic() < until:
                ended[key(piece)] = _run(part, piece)
                save(KEPT, ended)
                write(README, chosen, ended)
    return 0 if all(passed(part, ended) for part in chosen) else 1


def key(piece: Command) -> str:
    """What a piece is known by: its command but for how many processes it may use."""
    return re.sub(r" (--jobs|-n) \d+", "", " ".join(piece)).replace(f"{ROOT}/", "")


def passed(part: Part, ended: Mapping[str, Ended]) -> bool:
    """Whether each piece of a part was run and passed."""
    return all(key(one) in ended and ended[key(one)].passed for one in part.pieces)


def load(path: Path) -> dict[str, Ended]:
    """What is kept of former runs."""
    known = json.loads(path.read_text()) if path.exists() else {}
    return {name: Ended(**one) for name, one in known.items()}


def save(path: Path, ended: Mapping[str, Ended]) -> None:
    """Keeps it, whole or not at all."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps({name: asdict(one) for name, one in ended.items()}, indent=1))
    new.replace(path)


def _run(part: Part, piece: Command) -> Ended:
    print(f"== {part.what}: python {' '.join(piece)}", flush=True)
    started, before = time.monotonic(), _processor()
    last = ""
    process = subprocess.Popen(
        [sys.executable, *piece],
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
    return Ended(code == 0, wall / 60, spent / 60, last, day, _sources())


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _sources() -> str:
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout

    differs = git(
        "status", "--porcelain", "--", ".", ":!tests/README.md", ":!tests/deep.json"
    ).strip()
    return git("rev-parse", "--short", "HEAD").strip() + ("*" if differs else "")


def write(readme: Path, chosen: Sequence[Part], ended: Mapping[str, Ended]) -> None:
    """Puts the figures between their marks; those of parts that were not run stay."""
    text = readme.read_text()
    head, _, rest = text.partition(BEGIN)
    old, _, tail = rest.partition(END)
    rows = dict(re.findall(r"^\| (\w+) \|(.*)$", old, flags=re.MULTILINE))
    rows.pop("part", None)
    for part in chosen:
        if any(key(piece) in ended for piece in part.pieces):
            rows[part.name] = f" {' | '.join(_cells(part, ended))} |"
    lines = [
        BEGIN,
        f"| part | {' | '.join(_COLUMNS)} |",
        "| --- " * (1 + len(_COLUMNS)) + "|",
        *(f"| {name} |{cells}" for name, cells in rows.items()),
    ]
    readme.write_text(head + "\n".join(lines) + "\n" + END + tail)


def _cells(part: Part, ended: Mapping[str, Ended]) -> tuple[str, ...]:
    done = [ended[key(piece)] for piece in part.pieces if key(piece) in ended]
    word = "passed" if passed(part, ended) else "not yet whole"
    failed = [one for one in done if not one.passed]
    days = sorted({one.day for one in done})
    sources = sorted({one.sources for one in done})
    return (
        part.what,
        f"{len(done) - len(failed)} of {len(part.pieces)}",
        f"FAILED ({len(failed)})" if failed else word,
        f"{sum(one.minutes for one in done):.1f}",
        f"{sum(one.processor_minutes for one in done):.1f}",
        ", ".join(days),
        ", ".join(sources),
        f"{os.cpu_count()} cores, Python {platform.python_version()}",
        (failed or done)[-1].last.replace("|", "/")[:100],
    )


if __name__ == "__main__":
    sys.exit(main())
