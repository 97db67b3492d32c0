"""Which test runs which line of the core, and how long each test takes: measured once a run.

A mutant is shown to the tests that run its line and to no others; the quickest come first.
"""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import coverage
import pytest
from _pytest.runner import runtestprotocol

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


def measure(items: list[pytest.Item], out: Path) -> Map:
    """Runs every test once, in a child so that nothing of it stays here."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _measure(items, out)
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError("the tests could not be run once without a mutant")
    return _read(out)


def _measure(items: list[pytest.Item], out: Path) -> None:
    data = out.with_suffix(".coverage")
    data.unlink(missing_ok=True)
    measured = coverage.Coverage(
        data_file=str(data), include=[str(p) for p in targets()], config_file=False
    )
    seconds, failed = {}, []
    measured.start()
    for position, item in enumerate(items):
        following = items[position + 1] if position + 1 < len(items) else None
        measured.switch_context(item.nodeid)
        before = time.monotonic()
        if not run_one(item, following):
            failed.append(item.nodeid)
        seconds[item.nodeid] = time.monotonic() - before
    measured.stop()
    measured.save()
    out.write_text(json.dumps({"seconds": seconds, "failed": failed}), encoding="utf-8")


def run_one(item: pytest.Item, following: pytest.Item | None) -> bool:
    """Runs one test with its fixtures; whether nothing of it failed."""
    reports = runtestprotocol(item, nextitem=following, log=False)
    return not any(report.failed for report in reports)


def _read(out: Path) -> Map:
    body: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    found = Map(seconds=body["seconds"], failed=body["failed"])
    data = coverage.CoverageData(basename=str(out.with_suffix(".coverage")))
    data.read()
    for path in data.measured_files():
        file = Path(path).relative_to(ROOT).as_posix()
        for line, contexts in data.contexts_by_lineno(path).items():
            found.lines[(file, line)] |= {c for c in contexts if c}
    return found
