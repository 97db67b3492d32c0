"""One node with its relayers, as a process: killed at any effect, opened again on its database.

Its store is the product's, on a file in memory where there is such a place. Two things are added
from outside: commits ask the fate what becomes of them, and SQLite does not wait for a disk (an
option of this engine, set after the product's own; the product has no such switch).
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import event

from relay.actions import Action
from relay.contract import Contract
from relay.cosigning import Cosigning
from relay.errors import Conflict, Reason, Unavailable
from relay.light.checkpoint import Signer
from relay.light.checkpoint_client import CHECKPOINT
from relay.light.types import ClientType, Validator, ValidatorSet
from relay.light.validators import validator_set
from relay.local import LocalChain
from relay.node import Node, create
from relay.relayer import Relayer
from relay.signing import CheckpointSigner, HighWaterMark
from relay.store import Store, Transaction
from relay.store.cosignatures import AT_ONCE, Shown
from relay.witness import Witness
from tests.databases import share_statements, template
from tests.simulation.cheap import signer
from tests.simulation.fate import Act, Crash, Fate

VALIDATORS = 4
NOTHING = "nothing"
"""A batch without an action: what a failure has left is signed before it."""
T = TypeVar("T")
TYPES: Mapping[str, ClientType] = {"checkpoint": CHECKPOINT}
Signed = Callable[["Process", bytes], None]
"""Told of every body that a key of a process is about to sign."""


def memory_directory() -> Path:
    """A new directory, in memory where the machine has such a place."""
    shared = Path("/dev/shm")
    root = shared if os.access(shared, os.W_OK) else None
    return Path(tempfile.mkdtemp(prefix="lianqiao-simulation-", dir=root))


class Disk(Store):
    """The product's store of one process; its commits have a fate, and each says what it is."""

    def __init__(self, path: Path, name: str, fate: Fate) -> None:
        super().__init__(f"sqlite:///{path}")
        self._name = name
        self._fate = fate
        self._what = NOTHING
        event.listen(self.engine, "connect", _do_not_wait)
        share_statements(self.engine)

    def run(self, work: Callable[[Transaction], T]) -> T:
        """See Store; `save_note` is what the closure of a function of that name commits."""
        with self.committing(work.__qualname__.partition(".<locals>")[0]):
            return super().run(work)

    @contextmanager
    def committing(self, what: str) -> Iterator[None]:
        """What is committed meanwhile is called that."""
        before, self._what = self._what, what
        try:
            yield
        finally:
            self._what = before

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """See Store."""
        act = None
        with super().transaction() as tx:
            yield tx
            act = self._fate.commit(f"{self._name} {self._what}")
            if act is Act.CONFLICT:
                raise Conflict(Reason.CONFLICT, "simulated: another writer won")
            if act is Act.CRASH_BEFORE:
                raise Crash(self._name)
            if act is Act.LOST:
                raise _unreachable()
        if act is Act.CRASH_AFTER:
            raise Crash(self._name)
        if act is Act.UNSURE:
            raise _unreachable()


def _unreachable() -> Unavailable:
    return Unavailable(Reason.DATABASE_UNREACHABLE, "simulated: the database does not answer")


def _do_not_wait(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA synchronous=OFF")


class _Node(Node):
    """Says which actions it commits."""

    def run(self, action: Action) -> Any:
        """See Node."""
        assert isinstance(self.store, Disk)
        with self.store.committing(type(action).__name__):
            return super().run(action)


class _Mark(HighWaterMark):
    """The mark beside the keys of a process; its writes have a fate."""

    def __init__(self, path: Path, name: str, fate: Fate) -> None:
        super().__init__(path)
        self._name = name
        self._fate = fate

    def _write(self, value: dict[str, int | str]) -> None:
        write, way = super()._write, "close" if "closed_at" in value else "raise_to"
        write_file(self._fate, self._name, f"HighWaterMark.{way}", lambda: write(value))


def write_file(fate: Fate, name: str, what: str, write: Callable[[], None]) -> None:
    """Writes a file of a process as its fate wants it."""
    act = fate.file(f"{name} {what}")
    if act is Act.CRASH_BEFORE:
        raise Crash(name)
    if act is Act.LOST:
        raise OSError("simulated: no space is left")
    write()
    if act is Act.CRASH_AFTER:
        raise Crash(name)
    if act is Act.UNSURE:
        raise OSError("simulated: the disk does not answer")


class _Watched:
    """A key that tells what it signs before it signs."""

    def __init__(self, inner: Signer, process: Process, signed: Signed) -> None:
        self.inner = inner
        self._process = process
        self._signed = signed
        self.algorithm = inner.algorithm
        self.public = inner.public

    def sign(self, message: bytes) -> bytes:
        self._signed(self._process, message)
        return self.inner.sign(message)


class Process:
    """A node, its key files and its relayers; `node` is None while it is down."""

    def __init__(
        self,
        name: str,
        role: str,
        directory: Path,
        *,
        clock: Callable[[], int],
        fate: Fate,
        algorithm: str,
        contracts: Sequence[Contract],
        signed: Signed,
        tick_seconds: int,
        shown: Shown = AT_ONCE,
    ) -> None:
        self.name = name
        self.role = role
        self.path = directory / f"{name}.db"
        self.mark_path = directory / f"{name}.mark"
        self.clock = clock
        self.fate = fate
        self.algorithm = algorithm
        self.contracts = {contract.port: contract for contract in contracts}
        self.signed = signed
        self.tick_seconds = tick_seconds
        self.shown = shown
        self.node: Node | None = None
        self.witness: Witness | None = None
        """Its own, of another node's heads; while it runs."""
        self.cosignings: list[Cosigning] = []
        """Of its own heads, by others; while it runs."""
        self.relayers: list[Relayer] = []
        self.epoch = 0
        self.crashes = 0
        self.generation = 0
        """How many validator sets it has keys of."""
        self._keys: list[tuple[str, Signer]] = []

    # --- keys

    def add_keys(self) -> ValidatorSet:
        """Puts keys of the next generation beside those that the process holds; their set."""
        self.generation += 1
        made = []
        for number in range(VALIDATORS):
            seed = f"{self.name}/{self.generation}/{number}".encode().ljust(32, b".")[:32]
            name = f"{self.name}-{self.generation}-{number}"
            made.append((name, _Watched(signer(seed, self.algorithm), self, self.signed)))
        self._keys += made
        return validator_set([Validator(n, 1, ((k.algorithm, k.public),)) for n, k in made])

    def adopt(self, other: Process) -> None:
        """Takes the keys of another process, and tells nobody what it signs with them."""
        self._keys = [(name, key.inner) for name, key in other._keys if isinstance(key, _Watched)]

    # --- life

    def create(self) -> None:
        """Makes the database with its first entry."""
        self.path.write_bytes(template())
        store = Disk(self.path, self.name, self.fate)
        create(store, self.name, self.role, self.add_keys(), epoch=0, now=self.clock())
        store.close()

    def start(self, path: Path | None = None) -> Node:
        """Opens the node on its database (or on another file). Raises as Node does, and Crash."""
        store = Disk(path or self.path, self.name, self.fate)
        try:
            node = _Node(
                chain_id=self.name,
                role=self.role,
                store=store,
                signer=CheckpointSigner(self._keys, self.mark()),
                client_types=TYPES,
                contracts=self.contracts,
                clock=self.clock,
                epoch=self.epoch,
                tick_seconds=self.tick_seconds,
                shown=self.shown,
            )
        except BaseException:
            store.close()
            raise
        self.node = node
        return node

    def disk(self) -> Disk:
        """Its database, for a program that runs while the node does not."""
        return Disk(self.path, self.name, self.fate)

    def mark(self) -> HighWaterMark:
        """The mark beside its keys."""
        return _Mark(self.mark_path, self.name, self.fate)

    @property
    def chain(self) -> LocalChain | None:
        """The node as a chain, while it runs."""
        return None if self.node is None else LocalChain(self.node, self.witness)

    def stop(self) -> None:
        """Ends the process; what is on its disk stays."""
        if self.node is not None:
            self.node.close()
        self.node = self.witness = None
        self.relayers = []
        self.cosignings = []

    def crash(self) -> None:
        """Ends it as if it had been killed."""
        self.crashes += 1
        self.stop()

    def copy(self, to: Path) -> Path:
        """A consistent copy of the database as it is now, as a backup would be."""
        with closing(sqlite3.connect(self.path)) as here, closing(sqlite3.connect(to)) as there:
            here.backup(there)
        return to
