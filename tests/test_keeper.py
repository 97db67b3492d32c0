"""What is kept ends with its owner, however that ends: real processes, real signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from relay.keeper import NOT_STARTED, end, keep, kill

ROOT = Path(__file__).parent.parent
OWNER = """
import sys, time
from relay.keeper import keep
keeper = keep(sys.argv[1:], told=None)
time.sleep(600)
"""
NAMED = 'echo $$ > "$0.part"; mv "$0.part" "$0"; exec sleep 600'
DEAF = f"trap '' TERM; {NAMED}"
"""`exec` keeps what the trap ignores."""


def eventually(holds: Callable[[], bool]) -> None:
    """A bound for what hangs."""
    limit = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process is there, and not only its remains."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def program(file: Path, script: str = NAMED) -> list[str]:
    """A program that writes its number to a file and then sleeps."""
    return ["/bin/sh", "-c", script, str(file)]


def number(file: Path) -> int:
    """The number that it wrote."""
    eventually(file.exists)
    return int(file.read_text())


def owner(file: Path, script: str = NAMED) -> subprocess.Popen[bytes]:
    """A process that keeps such a program."""
    return subprocess.Popen(
        [sys.executable, "-c", OWNER, *program(file, script)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM], ids=lambda n: n.name)
def test_it_ends_with_its_owner(tmp_path: Path, signum: signal.Signals) -> None:
    ours = owner(tmp_path / "pid")
    try:
        pid = number(tmp_path / "pid")
        assert alive(pid)
        ours.send_signal(signum)
        assert ours.wait(60) == -signum
        eventually(lambda: not alive(pid))
    finally:
        ours.kill()
        ours.wait()


@pytest.mark.slow
def test_what_hears_no_sigterm_ends_with_its_owner_too(tmp_path: Path) -> None:
    ours = owner(tmp_path / "pid", DEAF)
    try:
        pid = number(tmp_path / "pid")
        os.kill(pid, signal.SIGTERM)
        ours.kill()
        ours.wait(60)
        eventually(lambda: not alive(pid))
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_it_is_ended_in_order_and_at_once(tmp_path: Path) -> None:
    keeper = keep(program(tmp_path / "a"), told=None)
    pid = number(tmp_path / "a")
    assert os.getsid(pid) == keeper.pid, "Ctrl-C reaches the owner alone"
    assert end(keeper, 60.0) == 128 + signal.SIGTERM
    assert not alive(pid)

    deaf = keep(program(tmp_path / "b", DEAF), told=None)
    pid = number(tmp_path / "b")
    assert end(deaf, 0.2) == -signal.SIGKILL
    eventually(lambda: not alive(pid))

    third = keep(program(tmp_path / "c"), told=None)
    pid = number(tmp_path / "c")
    assert kill(third) == -signal.SIGKILL
    eventually(lambda: not alive(pid))
    assert kill(third) == -signal.SIGKILL, "once more is nothing"


def test_it_ends_as_its_program_does(tmp_path: Path) -> None:
    assert keep(["/bin/sh", "-c", "exit 7"], told=None).wait(60) == 7
    with (tmp_path / "log").open("w+b") as log:
        assert keep([str(tmp_path / "nothing")], told=log).wait(60) == NOT_STARTED
        log.seek(0)
        assert b"nothing: No such file or directory" in log.read()
