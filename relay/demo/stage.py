"""Three nodes in processes of their own on loopback, started by the commands a user would type.

Everything lies below one directory, marked as the demonstration's, so that a second run may replace
what the first one left and nothing else is ever removed.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from relay.client import NodeClient, connect
from relay.errors import Reason, Refused, Unavailable
from relay.keys import SigningKey
from relay.trust import Trust, decode_trust

SOURCE, RELAY, ASKING = "zj-medical", "relay", "sh-medical"
ROLES = {SOURCE: "ledger", ASKING: "ledger", RELAY: "relay"}
START_SECONDS, STOP_SECONDS = 60, 15
CALL_SECONDS = 120.0
_MARK = ".lianqiao-demo"
_LEFT = ("nodes", "keys", "bundles", "records", "trust.json", _MARK)


@dataclass(slots=True)
class Process:
    """One served node."""

    directory: Path
    address: str
    running: subprocess.Popen[bytes]
    log: Path


class Stage:
    """The network of the demonstration. A context: leaving it stops every process."""

    def __init__(self, directory: Path, keep: bool) -> None:
        self.directory = directory.absolute()
        self.keep = keep
        self.processes: dict[str, Process] = {}
        self.keys: dict[str, SigningKey] = {}
        self._clients: dict[str, NodeClient] = {}
        self._failed = False

    # --- the directory

    def prepare(self) -> None:
        """An empty directory, what an earlier demonstration left removed.

        Raises Refused(CONFLICT) where it holds something else.
        """
        if self.directory.exists() and any(self.directory.iterdir()):
            if not (self.directory / _MARK).exists():
                raise Refused(
                    Reason.CONFLICT,
                    f"{self.directory} holds something that no demonstration left there",
                    hint="choose another directory: lianqiao demo --dir DIR",
                )
            self._remove(_LEFT)
        for name in ("nodes", "keys", "bundles", "records"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        (self.directory / _MARK).write_text("made by lianqiao demo; may be removed\n")

    def _remove(self, names: Sequence[str]) -> None:
        for name in names:
            path = self.directory / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    # --- the processes

    def start(self) -> None:
        """Makes and serves the three nodes. Raises Unavailable(CHAIN_UNREACHABLE)."""
        ports = _free_ports(len(ROLES))
        made = {}
        for (name, role), port in zip(ROLES.items(), ports, strict=True):
            address = f"127.0.0.1:{port}"
            where = self.directory / "nodes" / name
            arguments = ["--chain-id", name, "--role", role, "--listen", address]
            made[name] = (where, address, _spawn(["init", str(where), *arguments]))
        for name, (where, address, init) in made.items():
            output, _ = init.communicate(timeout=START_SECONDS)
            if init.returncode:
                raise Unavailable(
                    Reason.CHAIN_UNREACHABLE, f"init {name}: {output.decode()[-500:]}"
                )
            self.processes[name] = self._serve(name, where, address)
        for name in self.processes:
            self._wait_serving(name)

    def _serve(self, name: str, where: Path, address: str) -> Process:
        log = self.directory / "nodes" / f"{name}.log"
        with log.open("ab") as file:
            config = str(where / "config.toml")
            running = _spawn(["serve", "--config", config], output=file)
        return Process(where, address, running, log)

    def _wait_serving(self, name: str) -> None:
        process = self.processes[name]
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and process.running.poll() is None:
            try:
                self.node(name).status()
                return
            except Unavailable:
                self._drop(name)
                time.sleep(0.05)
        raise Unavailable(
            Reason.CHAIN_UNREACHABLE,
            f"{name} does not serve",
            hint=f"its log says why: {process.log}",
        )

    def kill(self, name: str) -> None:
        """kill -9: what a power cut does to one node."""
        self._drop(name)
        self.processes[name].running.kill()
        self.processes[name].running.wait(STOP_SECONDS)

    def restart(self, name: str) -> None:
        """Starts a killed node again on its own database."""
        old = self.processes[name]
        self.processes[name] = self._serve(name, old.directory, old.address)
        self._wait_serving(name)

    def command(self, *arguments: str) -> str:
        """Runs one `lianqiao` command to its end; what it printed. Raises Refused."""
        done = _spawn(list(arguments))
        output, _ = done.communicate(timeout=START_SECONDS)
        text = output.decode(errors="replace")
        if done.returncode:
            raise Refused(Reason.CONTRACT_REFUSED, f"lianqiao {arguments[0]}: {text[-500:]}")
        return text

    # --- what is reached through them

    def node(self, name: str) -> NodeClient:
        """A client of one node, as a hospital's system would use it."""
        if name not in self._clients:
            self._clients[name] = connect(self.processes[name].address, CALL_SECONDS)
        return self._clients[name]

    def _drop(self, name: str) -> None:
        client = self._clients.pop(name, None)
        if client is not None:
            client.close()

    def key(self, name: str) -> SigningKey:
        """The key of an institution or a person of the story, made at first use and kept."""
        if name not in self.keys:
            self.keys[name] = SigningKey.generate()
            self.keys[name].save(self.directory / "keys" / f"{name}.pem")
        return self.keys[name]

    def validators(self, name: str) -> list[tuple[str, SigningKey]]:
        """The keys that sign a node's heads: here they all lie in one directory."""
        found = sorted((self.processes[name].directory / "keys").glob(f"{name}-*.pem"))
        return [(path.name.partition(".")[0], SigningKey.load(path)) for path in found]

    @property
    def trust_file(self) -> Path:
        """What a reader of the bundles trusts."""
        return self.directory / "trust.json"

    def trust(self) -> Trust:
        """The same, decoded."""
        return decode_trust(self.trust_file.read_bytes())

    # --- the end

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for name in list(self._clients):
            self._drop(name)
        for process in self.processes.values():
            process.running.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.running.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.running.kill()
                process.running.wait()
        if not self.keep and error is None and not self._failed:
            self._remove(("nodes", "keys"))

    def keep_for_inquiry(self) -> None:
        """Something was not as it should be: databases and logs stay, whatever `--keep` says."""
        self._failed = True


def _free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _spawn(
    arguments: Sequence[str], output: int | IO[bytes] = subprocess.PIPE
) -> subprocess.Popen[bytes]:
    settings = {k: v for k, v in os.environ.items() if not k.startswith("LIANQIAO_")}
    return subprocess.Popen(  # noqa: S603 - our own interpreter and our own module
        [sys.executable, "-P", "-m", "relay.cli", *arguments],
        stdout=output,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        env=settings,
        start_new_session=True,
    )
