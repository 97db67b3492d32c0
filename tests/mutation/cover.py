"""Which test runs which line of the core, and how long each test takes.

A mutant is shown to the tests that run its line and to no others; the quickest come first. Seconds
are of processor time: what is shown must not depend on what else the machine does. What was
measured can be kept in a file for the next run (kept.py).
"""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import coverage
import pytest
from _pytest.runner import runtestprotocol

from tests.mutation.kept import load, save
from tests.mutation.mutants import ROOT, Mutant, targets


@dataclass(slots=True)
class Map:
    """Lines to tests, and tests to seconds."""

    lines: dict[tuple[str, int], set[str]] = field(default_factory=lambda: defaultdict(set))
    seconds: dict[str, float] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    """Tests that fail without any mutant: nothing can be shown by them."""

    def tests_of(self, mutant: Mutant) -> list[str]:
        """Node ids of the tests that run the mutant's check: those of its module, the quickest."""
        found: set[str] = set()
        for line in range(mutant.line, mutant.last_line + 1):
            found |= self.lines.get((mutant.file, line), set())
        near = f"test_{Path(mutant.file).stem}"
        return sorted(
            found - set(self.failed),
            key=lambda t: (near not in t, self.seconds.get(t, 0.0), t),
        )


def measure(items: Sequence[pytest.Item], folder: Path, kept: Path | None = None) -> Map:
    """Runs every test once, but for those that `kept` tells of, and writes `kept` anew.

    A child does it, so that nothing of the tests stays here.
    """
    known = Map(*load(kept)) if kept else Map()
    waiting = [item for item in items if item.nodeid not in known.seconds]
    if waiting:
        _in_child(waiting, folder)
        _add(known, folder)
    if kept:
        save(kept, known.lines, known.seconds, known.failed)
    here = {item.nodeid for item in items}
    known.lines = defaultdict(set, {at: tests & here for at, tests in known.lines.items()})
    return known


def run_one(item: pytest.Item, following: pytest.Item | None) -> bool:
    """Runs one test with its fixtures; whether nothing of it failed."""
    reports = runtestprotocol(item, nextitem=following, log=False)
    return not any(report.failed for report in reports)


def _in_child(items: Sequence[pytest.Item], folder: Path) -> None:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _measure(items, folder)
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError("the tests could not be run once without a mutant")


def _measure(items: Sequence[pytest.Item], folder: Path) -> None:
    measured = coverage.Coverage(
        data_file=str(folder / "coverage"),
        include=[str(p) for p in targets()],
        config_file=False,
    )
    seconds, failed = {}, []
    measured.start()
    for position, item in enumerate(items):
        following = items[position + 1] if position + 1 < len(items) else None
        measured.switch_context(item.nodeid)
        before = time.process_time()
        if not run_one(item, following):
            failed.append(item.nodeid)
        seconds[item.nodeid] = time.process_time() - before
    measured.stop()
    measured.save()
    body = json.dumps({"seconds": seconds, "failed": failed})
    (folder / "tests.json").write_text(body, encoding="utf-8")


def _add(known: Map, folder: Path) -> None:
    body: dict[str, Any] = json.loads((folder / "tests.json").read_text(encoding="utf-8"))
    known.seconds |= body["seconds"]
    known.failed += body["failed"]
    data = coverage.CoverageData(basename=str(folder / "coverage"))
    data.read()
    for path in data.measured_files():
        file = Path(path).relative_to(ROOT).as_posix()
        for line, contexts in data.contexts_by_lineno(path).items():
            known.lines[(file, line)] |= {c for c in contexts if c}
