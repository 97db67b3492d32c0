"""Three nodes in processes of their own on loopback, started by the commands a user would type.

Everything lies below one directory, marked as the demonstration's, so that a second run may replace
what the first one left and nothing else is ever removed:

    bundles/ records/ trust.json    always left
    nodes/NAME/ nodes/NAME.log      configuration, keys, database, log; left by --keep, by failure
    keys/                           of the institutions and clinicians of the story; the same

Leaving the context stops every process, whatever happened. The processes form sessions of their
own, so that Ctrl-C reaches this program alone, which then stops them in order; where it is killed,
they end by themselves (relay.demo.child).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, MappingProxyType, TracebackType
from typing import IO

from relay.client import NodeClient, connect
from relay.demo.ports import free_ports
from relay.errors import Malformed, Reason, Refused, Unavailable
from relay.keys import SigningKey
from relay.trust import Trust, decode_trust

SOURCE, RELAY, ASKING = "zj-medical", "relay", "sh-medical"
ROLES = {SOURCE: "ledger", ASKING: "ledger", RELAY: "relay"}
START_SECONDS, STOP_SECONDS = 180, 15
"""Bounds for what hangs; no measures of speed."""
CALL_SECONDS = 120.0
MAX_TOLD = 600
"""Characters of a failed command's output that are repeated."""
MARK = ".lianqiao-demo"
_ENDED = ("nodes", "keys")
_LEFT = (*_ENDED, "bundles", "records", "trust.json", "books.json", "bill.json")


@dataclass(slots=True)
class Process:
    """One served node."""

    directory: Path
    address: str
    running: subprocess.Popen[bytes]
    log: Path


@dataclass(slots=True)
class Command:
    """One command that is under way, and the files that it writes to."""

    running: subprocess.Popen[bytes]
    told: IO[bytes]
    errors: IO[bytes]


class Stage:
    """The network of the demonstration. A context: leaving it stops every process."""

    replicated = False
    """Whether several institutions run the relay: then it has headers, and no witnesses."""

    def __init__(
        self, directory: Path, keep: bool, roles: Mapping[str, str] = MappingProxyType(ROLES)
    ) -> None:
        """`roles`: the nodes by name, each a ledger or a relay."""
        self.roles = roles
        self.directory = directory.absolute()
        self.keep = keep
        self.processes: dict[str, Process] = {}
        self.keys: dict[str, SigningKey] = {}
        self._clients: dict[str, NodeClient] = {}
        self._commands: list[Command] = []
        self._made: dict[str, tuple[Path, str, Command]] = {}
        self._failed = False
        self._abandoned = False
        self._nothing_happened = False
        self._lock: IO[str] | None = None

    @property
    def others(self) -> Sequence[str]:
        """Replicas of the relay beside the one that is called; none where one process is it."""
        return ()

    @property
    def foreign(self) -> Mapping[str, str] | None:
        """How the source's chain is reached by its adapter, where it is of another kind."""
        return None

    # --- the directory

    def prepare(self) -> None:
        """An empty directory, what an earlier demonstration left removed.

        Raises Refused(CONFLICT) where it holds something else or another demonstration runs in it,
        Malformed where it cannot be written.
        """
        try:
            self._claim()
            self._remove(_LEFT)
            for name in ("nodes", "bundles", "records"):
                (self.directory / name).mkdir(exist_ok=True)
            (self.directory / "keys").mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise Malformed(
                f"{self.directory}: {error.strerror}",
                hint="choose another directory: lianqiao demo --dir DIR",
            ) from None

    def _claim(self) -> None:
        """Marks the directory as ours and holds it until the end."""
        mark = self.directory / MARK
        if self.directory.exists() and not mark.exists() and any(self.directory.iterdir()):
            raise Refused(
                Reason.CONFLICT,
                f"{self.directory} holds something that no demonstration left there",
                hint="choose another directory: lianqiao demo --dir DIR",
            )
        self.directory.mkdir(parents=True, exist_ok=True)
        self._lock = mark.open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            self._lock = None
            raise Refused(
                Reason.CONFLICT,
                f"another demonstration runs in {self.directory}",
                hint="wait for it, or choose another directory: lianqiao demo --dir DIR",
            ) from None
        self._lock.truncate(0)
        self._lock.write("Made by lianqiao demo, which replaces what lies here.\n")
        self._lock.flush()

    def _remove(self, names: Sequence[str]) -> None:
        for name in names:
            path = self.directory / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    # --- the processes

    def begin(self) -> None:
        """Begins to make the three nodes, in processes that this does not wait for."""
        addresses = [f"127.0.0.1:{port}" for port in free_ports(len(self.roles))]
        for (name, role), address in zip(self.roles.items(), addresses, strict=True):
            where = self.directory / "nodes" / name
            arguments = ["--chain-id", name, "--role", role, "--listen", address]
            init = self.begin_command(["init", str(where), *arguments])
            self._made[name] = (where, address, init)

    def start(self) -> None:
        """Serves the three nodes once they are made. Raises Unavailable(CHAIN_UNREACHABLE)."""
        if not self._made:
            self.begin()
        for name, (where, address, init) in self._made.items():
            self.end_command(f"init {name}", init)
            self.processes[name] = self._serve(name, where, address)
        for name in self._made:
            self._wait_serving(name)

    def _serve(self, name: str, where: Path, address: str) -> Process:
        log = self.directory / "nodes" / f"{name}.log"
        with log.open("ab") as file:
            serve = ["serve", "--config", str(where / "config.toml")]
            running = spawn(serve, file, file)
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

    def join(self) -> None:
        """Joins the ledgers and the relay."""
        relay = self.processes[RELAY].address
        addresses = [self.processes[name].address for name in (SOURCE, ASKING)]
        self.commands(*(["connect", "--node", a, "--relay", relay] for a in addresses))

    def check(self) -> None:
        """Raises Unavailable(CHAIN_UNREACHABLE) where a node has ended by itself."""
        for name, process in self.processes.items():
            if process.running.poll() is not None:
                raise Unavailable(
                    Reason.CHAIN_UNREACHABLE,
                    f"{name} ended by itself, exit {process.running.returncode}",
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
        return self.commands(arguments)[0]

    def commands(self, *each: Sequence[str]) -> list[str]:
        """Runs `lianqiao` commands side by side; what each printed. Raises Refused."""
        begun = [self.begin_command(arguments) for arguments in each]
        return [self.end_command(a[0], running) for a, running in zip(each, begun, strict=True)]

    def begin_command(self, arguments: Sequence[str]) -> Command:
        """Starts a `lianqiao` command that `end_command` waits for."""
        # Into files: commands that run side by side must not wait for one another's reader.
        told, errors = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        self._commands.append(Command(spawn(arguments, told, errors), told, errors))
        return self._commands[-1]

    def end_command(self, what: str, command: Command) -> str:
        """What a command printed, once it has ended; `what` names it. Raises Refused."""
        try:
            code = command.running.wait(CALL_SECONDS)
        except subprocess.TimeoutExpired:
            raise Unavailable(
                Reason.CHAIN_UNREACHABLE, f"lianqiao {what} did not end in time"
            ) from None
        self._commands.remove(command)
        output, errors = (_text(file) for file in (command.told, command.errors))
        if code:
            raise Refused(Reason.CONTRACT_REFUSED, f"lianqiao {what}: {errors.strip()[-MAX_TOLD:]}")
        return output

    # --- what is reached through them

    def node(self, name: str) -> NodeClient:
        """A client of one node, as a hospital's system would use it.

        Raises Unavailable(SHUTTING_DOWN) once the stage was abandoned.
        """
        if self._abandoned:
            raise Unavailable(Reason.SHUTTING_DOWN, "the demonstration is ending")
        if name not in self._clients:
            self._clients[name] = connect(self.processes[name].address, CALL_SECONDS)
        return self._clients[name]

    def abandon(self) -> None:
        """Fails every call under way and every later one: something went wrong, or Ctrl-C."""
        self._abandoned = True
        for name in list(self._clients):
            self._drop(name)

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
        self.abandon()
        nodes = [process.running for process in self.processes.values()]
        stop([*(command.running for command in self._commands), *nodes])
        if self._nothing_happened or not (self.keep or self._failed or error is not None):
            self._remove(_ENDED)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def forget(self) -> None:
        """It ended before anything happened on the nodes: nothing of them is left to be read."""
        self._nothing_happened = True

    def keep_for_inquiry(self) -> None:
        """Something was not as it should be: databases and logs stay, whatever `--keep` says."""
        self._failed = True


class Stoppable:
    """A context in which SIGTERM and SIGHUP end the program as Ctrl-C does: in order."""

    _NUMBERS = (signal.SIGTERM, signal.SIGHUP)

    def __enter__(self) -> None:
        self._before = [signal.signal(number, _interrupt) for number in self._NUMBERS]

    def __exit__(self, *raised: object) -> None:
        for number, before in zip(self._NUMBERS, self._before, strict=True):
            signal.signal(number, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ends processes in order; those that do not end in time, or at a second Ctrl-C, at once."""
    try:
        for one in processes:
            one.send_signal(signal.SIGTERM)
        for one in processes:
            one.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        for one in processes:
            one.kill()
            one.wait()


def spawn(arguments: Sequence[str], told: IO[bytes], errors: IO[bytes]) -> subprocess.Popen[bytes]:
    """Starts a `lianqiao` command with what this process can import, and no setting of the user's.

    `told` and `errors` take what it prints. It ends when this process does (relay.demo.child).
    What lies in the folder where it is started is none of that (-P): a clone of this very project
    there has the name of a package of ours.
    """
    settings = {k: v for k, v in os.environ.items() if not k.startswith("LIANQIAO_")}
    settings["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    return subprocess.Popen(  # noqa: S603 (our own interpreter and our own module)
        [sys.executable, "-P", "-m", "relay.demo.child", *arguments],
        stdin=subprocess.PIPE,
        stdout=told,
        stderr=errors,
        env=settings,
        start_new_session=True,
    )


def _text(file: IO[bytes]) -> str:
    """All that a command wrote to a file, which is closed."""
    with file:
        file.seek(0)
        return file.read().decode(errors="replace")
