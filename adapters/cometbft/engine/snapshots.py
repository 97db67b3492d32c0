"""Snapshots: where a replica that joins late begins, instead of executing every block.

Every `interval` blocks the state is written to files beside the database, in chunks that gRPC
carries. Whoever restores one trusts none of it: chunks are compared with the hashes that were
offered, and before anything counts, the whole database is checked as `fsck` does, proofs and
signatures included, and its root compared with the app hash that CometBFT's light client verified.
"""

from __future__ import annotations

import shutil
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import Any

import structlog

from relay.contract import CONTRACT_FAILURES
from relay.errors import (
    Exhausted,
    Invalid,
    LianqiaoError,
    Malformed,
    NotFound,
    Reason,
    Refused,
)
from relay.fsck import Finding
from relay.store import BlockRow, Store, Transaction
from relay.store.blocks import app_hash, last_block
from relay.store.dump import dump, restore

FORMAT = 1
CHUNK_BYTES = 2 * 1024 * 1024
"""Before compression; what does not compress stays below the 4 MiB of CometBFT's gRPC client."""
MAX_CHUNK_BYTES = CHUNK_BYTES + 64 * 1024
"""Of one that is brought: what does not compress grows by less."""
MAX_CHUNKS = 10_000
KEPT = 2
DEFAULT_INTERVAL = 1000
_log = structlog.get_logger("lianqiao.snapshots")

Check = Callable[[Any], list[Finding]]
"""Checks what was restored, on the connection that restored it."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One snapshot: its height and the hashes of its chunks."""

    height: int
    chunks: tuple[bytes, ...]
    format: int = FORMAT

    @property
    def hash(self) -> bytes:
        """SHA-256 over the hashes of the chunks."""
        return sha256(b"".join(self.chunks)).digest()


@dataclass(slots=True)
class _Incoming:
    snapshot: Snapshot
    app_hash: bytes
    have: set[int]


class Snapshots:
    """The snapshots of one replica, in one directory."""

    FORMAT = FORMAT

    def __init__(
        self, store: Store, directory: Path, interval: int, check: Check, chain_id: str
    ) -> None:
        """`interval` 0 makes none."""
        self._store = store
        self._directory = directory
        self._interval = interval
        self._check = check
        self._chain_id = chain_id
        self._incoming: _Incoming | None = None
        self._making: threading.Thread | None = None

    # --- made here

    def committed(self, block: BlockRow) -> None:
        """Makes a snapshot of the state after this block where one is due, beside the chain."""
        if not self._interval or not block.height or block.height % self._interval:
            return
        if self._making is not None and self._making.is_alive():
            return  # the disk is behind; the next one will do
        opened = threading.Event()
        self._making = threading.Thread(
            target=self._make, args=(block, opened), name="snapshot", daemon=True
        )
        self._making.start()
        opened.wait()  # its view of the database is taken before the next block is written

    def _make(self, block: BlockRow, opened: threading.Event) -> None:
        try:
            with self._store.read() as connection:
                last = last_block(connection)
                opened.set()
                if last is None or last.height != block.height:
                    return
                self._write(block.height, _chunks(dump(connection)))
            for old in self.list()[:-KEPT]:
                shutil.rmtree(self._directory / str(old.height), ignore_errors=True)
        except (OSError, LianqiaoError) as err:
            _log.error("snapshot_failed", height=block.height, detail=str(err))
        finally:
            opened.set()

    def wait(self) -> None:
        """Until the one that is being made is finished."""
        if self._making is not None:
            self._making.join()

    def _write(self, height: int, chunks: Iterator[bytes]) -> None:
        building = self._directory / f".{height}.new"
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True, mode=0o700)
        hashes = []
        for number, chunk in enumerate(chunks):
            (building / str(number)).write_bytes(chunk)
            hashes.append(sha256(chunk).digest())
        (building / "hashes").write_bytes(b"".join(hashes))
        building.replace(self._directory / str(height))

    def list(self) -> list[Snapshot]:
        """Those that are whole, ascending by height."""
        found = []
        if self._directory.is_dir():
            for path in self._directory.iterdir():
                if path.name.isdigit():
                    with suppress(OSError, Malformed):  # it is being removed
                        hashes = _split((path / "hashes").read_bytes())
                        found.append(Snapshot(int(path.name), hashes))
        return sorted(found, key=lambda one: one.height)

    def chunk(self, height: int, number: int) -> bytes:
        """One chunk; empty where there is none any more, which CometBFT takes for missing."""
        try:
            return (self._directory / str(height) / str(number)).read_bytes()
        except OSError:
            return b""

    # --- brought from elsewhere

    def offer(
        self, height: int, chunks: int, digest: bytes, metadata: bytes, trusted: bytes
    ) -> None:
        """Begins to restore a snapshot. `trusted`: the app hash that was verified for it.

        One that was begun is dropped. Raises Refused(CONFLICT) where this database holds a chain
        already, Malformed, Exhausted.
        """
        snapshot = Snapshot(height, _split(metadata))
        if not 1 <= chunks == len(snapshot.chunks) <= MAX_CHUNKS or snapshot.hash != digest:
            raise Malformed("a snapshot's hashes are not those it was offered with")
        with self._store.read() as connection:
            if last_block(connection) is not None:
                raise Refused(Reason.CONFLICT, "this replica has a state already")
        self._drop()
        try:
            self._incoming_path.mkdir(parents=True, mode=0o700)
        except OSError as err:
            raise Exhausted(
                Reason.LIMIT_EXCEEDED, f"a snapshot cannot be kept: {err.strerror}"
            ) from err
        self._incoming = _Incoming(snapshot, trusted, set())

    @property
    def _incoming_path(self) -> Path:
        return self._directory / ".incoming"

    def apply(self, number: int, chunk: bytes) -> bool:
        """Takes one chunk; True when it was the last and the database is restored and checked.

        Raises Malformed for a chunk that is not the one that was offered, NotFound where nothing
        was, Refused(LIMIT_EXCEEDED) for one that is too long, Invalid(JOURNAL_CORRUPT) where the
        whole is not the state of that app hash, Exhausted where it cannot be written. In all cases
        but the first nothing is left of the snapshot, and another may be offered.
        """
        incoming = self._incoming
        if incoming is None:
            raise NotFound(Reason.NOT_FOUND, "no snapshot was offered")
        chunks = incoming.snapshot.chunks
        if number >= len(chunks) or sha256(chunk).digest() != chunks[number]:
            raise Malformed("a chunk is not the one that was offered")
        try:
            if len(chunk) > MAX_CHUNK_BYTES:
                raise Refused(Reason.LIMIT_EXCEEDED, "a chunk is too long")
            (self._incoming_path / str(number)).write_bytes(chunk)
            incoming.have.add(number)
            if len(incoming.have) < len(chunks):
                return False
            rows = self._store.run(lambda tx: self._restore(tx, incoming))
        except OSError as err:
            self._drop()
            raise Exhausted(
                Reason.LIMIT_EXCEEDED, f"a snapshot cannot be kept: {err.strerror}"
            ) from err
        except LianqiaoError:
            self._drop()
            raise
        self._drop()
        self._store.set_meta("chain_id", self._chain_id)
        _log.info("snapshot_restored", height=incoming.snapshot.height, rows=rows)
        return True

    def _drop(self) -> None:
        """Nothing is being restored any more."""
        self._incoming = None
        shutil.rmtree(self._incoming_path, ignore_errors=True)

    def _restore(self, tx: Transaction, incoming: _Incoming) -> int:
        """Writes all rows and judges them; how many. Raises Invalid(JOURNAL_CORRUPT)."""
        count = len(incoming.snapshot.chunks)
        stream = BufferedReader(_Chunks(self._incoming_path, count), CHUNK_BYTES)
        try:
            rows = restore(tx.connection, stream.read)
            last = last_block(tx.connection)
            if last is None or (last.height, app_hash(last)) != (
                incoming.snapshot.height,
                incoming.app_hash,
            ):
                raise Invalid(Reason.JOURNAL_CORRUPT, "the snapshot is of another state")
            findings = self._check(tx.connection)
        except Malformed as err:
            raise Invalid(Reason.JOURNAL_CORRUPT, err.detail) from None
        except CONTRACT_FAILURES as err:
            if isinstance(err, LianqiaoError):
                raise
            # rows of the right kinds that mean nothing
            detail = f"the snapshot is no state: {type(err).__name__}"
            raise Invalid(Reason.JOURNAL_CORRUPT, detail) from err
        if findings:
            first = findings[0]
            raise Invalid(Reason.JOURNAL_CORRUPT, f"{first.where}: {first.detail}")
        return rows


class _Chunks(RawIOBase):
    """The decompressed chunks of a directory, one after another."""

    def __init__(self, directory: Path, count: int) -> None:
        self._directory = directory
        self._count = count
        self._at = 0
        self._left = b""

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """See io.RawIOBase. Raises Malformed for what does not decompress, or to too much."""
        if not self._left and self._at < self._count:
            self._left = _inflate((self._directory / str(self._at)).read_bytes())
            self._at += 1
        taken = self._left[: len(buffer)]
        buffer[: len(taken)] = taken
        self._left = self._left[len(taken) :]
        return len(taken)


def _inflate(raw: bytes) -> bytes:
    decompress = zlib.decompressobj()
    try:
        data = decompress.decompress(raw, CHUNK_BYTES + 1)
    except zlib.error:
        raise Malformed("snapshot: a chunk does not decompress") from None
    if not data or len(data) > CHUNK_BYTES or not decompress.eof or decompress.unused_data:
        raise Malformed("snapshot: a chunk is not whole, or too long")
    return data


def _chunks(rows: Iterator[bytes]) -> Iterator[bytes]:
    held = bytearray()
    for row in rows:
        held += row
        while len(held) >= CHUNK_BYTES:
            yield zlib.compress(bytes(held[:CHUNK_BYTES]), 6)
            del held[:CHUNK_BYTES]
    if held:
        yield zlib.compress(bytes(held), 6)


def _split(raw: bytes) -> tuple[bytes, ...]:
    if not raw or len(raw) % 32:
        raise Malformed("a snapshot's metadata is a list of hashes")
    return tuple(raw[at : at + 32] for at in range(0, len(raw), 32))
