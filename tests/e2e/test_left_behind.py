"""However a replicated demonstration ends, nothing that it started lives on: real CometBFT."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.adapters.engine.network import binary
from tests.e2e.conftest import command, environment, processes_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
VALIDATORS = 4


def eventually(holds: Callable[[], bool], running: subprocess.Popen[bytes] | None = None) -> None:
    """Waits for it, for so long as `running` runs. The limit is one for what hangs."""
    limit = time.monotonic() + 300
    while not holds():
        assert time.monotonic() < limit
        assert running is None or running.poll() is None, "it ended before"
        time.sleep(0.05)


def arguments_of(number: int) -> bytes:
    try:
        return Path(f"/proc/{number}/cmdline").read_bytes()
    except OSError:
        return b""


def chain_programs(directory: Path) -> list[int]:
    """CometBFT itself, not what keeps it."""
    program = os.fsencode(binary()) + b"\0"
    return [n for n in processes_of(directory) if arguments_of(n).startswith(program)]


def replica(directory: Path, name: str) -> list[int]:
    """The process that serves one node."""
    config = os.fsencode(directory / "nodes" / name / "config.toml") + b"\0"
    return [n for n in processes_of(directory) if arguments_of(n).endswith(config)]


def begun(directory: Path, told: Path) -> subprocess.Popen[bytes]:
    """A demonstration under way, with a chain that makes blocks."""
    chains = ("--chains", "cometbft,lianqiao")
    with told.open("wb") as file:
        running = subprocess.Popen(
            command("demo", "settlement", *chains, "--no-faults", "--dir", directory),
            cwd=directory.parent, env=environment(), stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip
    eventually(lambda: len(chain_programs(directory)) == VALIDATORS, running)
    return running


@pytest.mark.parametrize(
    ("number", "started"),
    [
        (signal.SIGINT, "in the story"),
        (signal.SIGTERM, "at once"),
        (signal.SIGKILL, "at once"),
        (signal.SIGKILL, "in the story"),
    ],
)
def test_nothing_stays_behind(tmp_path: Path, number: signal.Signals, started: str) -> None:
    directory, told = tmp_path / "out", tmp_path / "told"
    running = begun(directory, told)
    try:
        if started == "in the story":
            eventually(lambda: b": 1/1" in told.read_bytes(), running)
        running.send_signal(number)
        killed = number is signal.SIGKILL
        assert running.wait(120) == (-number if killed else 130), told.read_text()
        eventually(lambda: not processes_of(directory))
    finally:
        running.kill()
        running.wait()
    if not killed:
        assert "Traceback" not in told.read_text()


def test_a_replica_takes_its_chain_program_along(tmp_path: Path) -> None:
    """Killed alone, all four at once, so that no block ever tells CometBFT that they are gone."""
    directory, told = tmp_path / "out", tmp_path / "told"
    running = begun(directory, told)
    try:
        eventually(lambda: b": 1/1" in told.read_bytes(), running)
        before = chain_programs(directory)
        running.send_signal(signal.SIGSTOP)
        for name in ("hub", "hub-2", "hub-3", "hub-4"):
            (serving,) = replica(directory, name)
            os.kill(serving, signal.SIGKILL)
        eventually(lambda: not set(chain_programs(directory)) & set(before))
    finally:
        running.send_signal(signal.SIGCONT)
        running.kill()
        running.wait()
    eventually(lambda: not processes_of(directory))
