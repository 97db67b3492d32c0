"""A chain of four institutions as its operators run it: the real commands, the real CometBFT."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from relay.client import NodeClient, connect
from relay.demo.ports import free_ports
from relay.errors import LianqiaoError
from relay.keeper import end, keep, kill

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lianqiao/bin"
PATIENCE = 300.0


def binary() -> Path:
    """The `cometbft` binary; skips the test, visibly, where there is none."""
    found = shutil.which("cometbft", path=f"{CACHE}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        if os.environ.get("LIANQIAO_NEVER_SKIP"):
            pytest.fail("no cometbft binary: CI never skips it")
        pytest.skip(
            "no cometbft binary: GOBIN=~/.cache/lianqiao/bin go install "
            "github.com/cometbft/cometbft/cmd/cometbft@v0.38.25"
        )
    return Path(found)


def ran(*arguments: str | Path, database: str = "") -> subprocess.CompletedProcess[str]:
    """Runs a command to its end, whatever comes of it."""
    command = [sys.executable, "-m", "relay.cli", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE, env=environment(database)
    )


def environment(database: str) -> dict[str, str]:
    """That of a command; with a database by URL, where there is one."""
    return {**os.environ, **({"LIANQIAO_DATABASE": database} if database else {})}


def lianqiao(*arguments: str | Path, database: str = "") -> str:
    """Runs a command to its end; what it printed. Fails with all that it said."""
    done = ran(*arguments, database=database)
    assert done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
    return done.stdout


def eventually(holds: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """The first true answer. An error of a node that is not there yet counts as no."""
    limit, last = time.monotonic() + patience, None
    while time.monotonic() < limit:
        try:
            found = holds()
            if found:
                return found
        except (LianqiaoError, OSError) as err:
            last = err
        time.sleep(0.2)
    raise AssertionError(f"did not happen within {patience} seconds: {last}")


@dataclass
class Served:
    """One `lianqiao serve`, which is killed and started again as the test likes."""

    directory: Path
    address: str
    process: subprocess.Popen[bytes] | None = None
    database: str = ""
    """By URL; empty for a file."""

    def start(self) -> None:
        """Starts it; does not wait."""
        with (self.directory.parent / f"{self.directory.name}.log").open("ab") as log:
            config = str(self.directory / "config.toml")
            self.process = keep(
                [sys.executable, "-m", "relay.cli", "serve", "--config", config],
                told=log,
                env=environment(self.database),
            )

    def kill(self) -> None:
        """kill -9 of this process alone."""
        assert self.process is not None
        kill(self.process)

    def stop(self) -> None:
        """As an operator stops it."""
        if self.process is not None and self.process.poll() is None:
            end(self.process, 30)

    def client(self) -> NodeClient:
        """A connection to it."""
        return connect(self.address, 60.0)


@dataclass
class Validator(Served):
    """One institution's replica: its application, and its CometBFT in a process of its own."""

    comet: subprocess.Popen[bytes] | None = None
    rpc: str = ""

    @property
    def home(self) -> Path:
        """CometBFT's files."""
        return self.directory / "cometbft"

    def start_comet(self) -> None:
        """Starts CometBFT alone."""
        with (self.directory.parent / f"{self.directory.name}.comet.log").open("ab") as log:
            self.comet = keep([str(binary()), "start", "--home", str(self.home)], told=log)

    def revive(self) -> None:
        """Starts CometBFT again where it has ended, as a service manager would."""
        if self.comet is not None and self.comet.poll() is not None:
            self.start_comet()

    def kill_comet(self) -> None:
        """kill -9 of CometBFT alone."""
        assert self.comet is not None
        kill(self.comet)

    def stop(self) -> None:
        """Both."""
        if self.comet is not None and self.comet.poll() is None:
            end(self.comet, 20)
        super().stop()


@dataclass
class Network:
    """The validators of one chain."""

    path: Path
    role: str = "relay"
    chain: str = "hub"
    quorum: int = 1
    interval: int = 0
    databases: dict[int, str] = field(default_factory=dict)
    """By number: the URL of a replica's database, where it is no file."""
    validators: list[Validator] = field(default_factory=list)
    _joins: list[Path] = field(default_factory=list)

    def make(self, count: int) -> None:
        """`init` for so many more institutions; they join by `found`."""
        for number in range(len(self.validators), len(self.validators) + count):
            listen, abci, rpc, p2p = free_ports(4)
            directory = self.path / f"{self.chain}-{number}"
            lianqiao(
                "init", directory, "--chain-id", self.chain, "--role", self.role,
                "--engine", "cometbft", "--name", f"op-{number}",
                "--listen", f"127.0.0.1:{listen}", "--peer", f"127.0.0.1:{p2p}",
                "--set", f"abci=127.0.0.1:{abci}", "--set", f"rpc=127.0.0.1:{rpc}",
                "--set", f"p2p=127.0.0.1:{p2p}", "--set", "binary=", "--set", "pace=100ms",
                "--set", f"snapshot_interval={self.interval}",
                database=self.databases.get(number, ""),
            )  # fmt: skip
            made = Validator(
                directory,
                f"127.0.0.1:{listen}",
                rpc=f"127.0.0.1:{rpc}",
                database=self.databases.get(number, ""),
            )
            self.validators.append(made)
            self._joins.append(directory / "join.json")

    def found(self) -> None:
        """`found` at every institution: all have the same genesis."""
        said = {
            lianqiao(
                "found", "--config", one.directory / "config.toml",
                "--quorum", str(self.quorum), *self._joins, database=one.database,
            ).split("\n")[0]
            for one in self.validators
        }  # fmt: skip
        assert len(said) == 1

    def start(self) -> None:
        """Every process; waits until blocks are made."""
        for one in self.validators:
            one.start()
            one.start_comet()
        for one in self.validators:
            eventually(lambda one=one: self.head(one))  # type: ignore[misc]

    def head(self, one: Validator) -> int:
        """Height of the newest header at one replica."""
        with one.client() as node:
            head = node.status().head
            return head.size if head else 0

    def stop(self) -> None:
        """Every process."""
        for one in self.validators:
            one.stop()

    def eventually(self, holds: Callable[[], Any]) -> Any:
        """As `eventually`, while every CometBFT that ends is started again: one that lost its
        application does end, and a service manager stands behind each."""

        def revived() -> Any:
            for one in self.validators:
                one.revive()
            return holds()

        return eventually(revived)

    def join_late(self) -> Validator:
        """One more replica that begins from a snapshot of those that run."""
        from adapters.cometbft.engine.local_rpc import LocalRpc

        running = self.validators[:2]
        self.eventually(lambda: all(LocalRpc(one.rpc).status() for one in running))
        height = self.head(running[0]) - 1
        header = LocalRpc(running[0].rpc).commit(height)["signed_header"]
        self.make(1)
        late = self.validators[-1]
        shutil.copy(running[0].home / "config/genesis.json", late.home / "config/genesis.json")
        lianqiao(
            "found", "--config", late.directory / "config.toml", *self._joins,
            "--sync-from", ",".join(one.rpc for one in running),
            "--sync-height", str(height), "--sync-hash", header["commit"]["block_id"]["hash"],
        )  # fmt: skip
        late.start()
        late.start_comet()
        return late


def ledger(path: Path, chain: str) -> Served:
    """A single-node ledger, made and not started."""
    (port,) = free_ports(1)
    directory = path / chain
    lianqiao(
        "init", directory, "--chain-id", chain, "--role", "ledger",
        "--listen", f"127.0.0.1:{port}", "--validators", "1",
    )  # fmt: skip
    return Served(directory, f"127.0.0.1:{port}")
