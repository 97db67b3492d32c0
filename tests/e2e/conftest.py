"""One run of `lianqiao demo` for all tests here, in a process of its own, whatever runs them."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from relay.demo.attacks import PLANS

ROOT = Path(__file__).parent.parent.parent
COUNT, SEED = 12, 7
DEMO_SECONDS, TEST_SECONDS = 150, 200
"""Limits for a machine on which others compute too; alone, all of it takes seconds."""


@dataclass(frozen=True)
class Ran:
    """A command that ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Demo:
    """What one run of the demonstration printed and left."""

    ran: Ran
    directory: Path
    base: Path
    """Where it was started."""

    @property
    def bundles(self) -> list[Path]:
        return sorted((self.directory / "bundles").glob("*.bundle"))

    @property
    def records(self) -> list[Path]:
        return sorted((self.directory / "records").glob("*.record.json"))

    @property
    def trust(self) -> Path:
        return self.directory / "trust.json"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whichever test comes first waits for the run, so each may take longer than others may."""
    for item in items:
        if item.path.parent == Path(__file__).parent and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(TEST_SECONDS))


def environment() -> dict[str, str]:
    """Of a process that finds this checkout, and none of the user's settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("LIANQIAO_")}
    path = os.pathsep.join([str(ROOT), str(ROOT / "proto")])
    return kept | {"PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"}


def command(*args: object) -> list[str]:
    """`lianqiao` with these arguments."""
    return [sys.executable, "-m", "relay.cli", *(str(arg) for arg in args)]


def lianqiao(*args: object, cwd: Path, seconds: float = DEMO_SECONDS) -> Ran:
    """Runs a command to its end, in a directory."""
    done = subprocess.run(
        command(*args), cwd=cwd, env=environment(), capture_output=True, text=True, timeout=seconds
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def missing(out: str, language: str) -> list[str]:
    """Attacks without a row that names them, their reason and that it was the right one."""
    lines = out.splitlines()
    return [
        plan.name
        for plan in PLANS
        if not any(
            getattr(plan, language) in line and f" {plan.expected} " in line and "✓" in line
            for line in lines
        )
    ]


def processes_of(directory: Path) -> list[int]:
    """Ids of the running processes whose arguments name something below a directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                arguments = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(directory) in arguments:
                found.append(int(entry.name))
    return found


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory into which the user of a database server may go as well: pytest takes that right
    from its own ones, those of other runs included, whenever it starts."""
    with tempfile.TemporaryDirectory(prefix="lianqiao-e2e-", ignore_cleanup_errors=True) as made:
        yield Path(made)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The run, with databases and logs kept. Workers of pytest-xdist share one."""
    own = tmp_path_factory.getbasetemp()
    base = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "demo"
    base.mkdir(exist_ok=True)
    told, directory = base / "told.json", base / "out"
    with (base / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not told.exists():
            args = ["--count", COUNT, "--seed", SEED, "--dir", "out", "--keep"]
            ran = lianqiao("demo", *args, cwd=base)
            told.write_text(json.dumps([ran.code, ran.out, ran.err]))
    code, out, err = json.loads(told.read_text())
    return Demo(Ran(code, out, err), directory, base)
