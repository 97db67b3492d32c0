"""Running commands as a user does: arguments in, exit code and both streams out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog

from relay.cli.root import run as run_command

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Done:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as the one JSON document that it must be."""
        return json.loads(self.out)

    @property
    def reason(self) -> str:
        """REASON of the error line, which must be followed by a hint."""
        lines = [line for line in self.err.splitlines() if not line.startswith("warning:")]
        assert any(line.startswith("hint: ") for line in lines), self.err
        assert "Traceback" not in self.err
        return lines[-2].partition(":")[0]


Run = Callable[..., Done]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs a command in this process, whose log is for the tests after it as it was before."""
    monkeypatch.delenv("LIANQIAO_NODE", raising=False)
    logged = structlog.get_config()

    def command(*args: object) -> Done:
        capsys.readouterr()
        code = run_command([str(arg) for arg in args])
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    yield command
    structlog.configure(**logged)


def environment() -> dict[str, str]:
    """Of a process that finds this checkout, and none of the user's settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("LIANQIAO_")}
    return kept | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "proto")])}


class Served:
    """A node in a process of its own, made by `init` and run by `serve`."""

    def __init__(self, directory: Path) -> None:
        self.config = directory / "config.toml"
        self._errors = (directory.parent / f"{directory.name}.err").open("ab")
        self.errors = Path(self._errors.name)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "relay.cli", "serve", "--config", str(self.config)],
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment(),
            text=True,
        )
        assert self._process.stdout is not None
        self.line = self._process.stdout.readline().strip()
        assert " listens on " in self.line, self.errors.read_text()
        self.address = self.line.rpartition(" ")[2]

    def stop(self) -> int:
        """Asks it to stop; its exit code."""
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(20)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()
        return code


def make(directory: Path, chain_id: str, role: str, *more: str) -> Path:
    """A node's directory that listens on a free port."""
    args = ["init", directory, "--chain-id", chain_id, "--role", role, "--listen", "127.0.0.1:0"]
    assert run_command([str(arg) for arg in [*args, *more]]) == 0
    return directory
