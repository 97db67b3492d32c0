"""The floor: what the same hashes, signatures and durable commits cost by themselves, here and now.

Nothing of the product runs: hashlib, the signatures of pyca/cryptography, SQLite's own module with
WAL and synchronous=FULL, one row of as many bytes as the work wrote in that commit; and for what is
flushed outside of databases a page in a file of its own, all written before the first is flushed,
as the vault does. One thread.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256

from tests.bench.count import Counts

PAGE = 4096
_CURVES: dict[str, ec.EllipticCurve] = {"p256": ec.SECP256R1(), "secp256k1": ec.SECP256K1()}


@dataclass(frozen=True, slots=True)
class Floor:
    """Seconds."""

    hashes: float
    signatures: float
    """Made and verified."""
    commits: float
    """Of databases, and what else was flushed."""
    cpu: float
    """Processor time of all of it: the part that other programs of the machine do not change."""

    @property
    def total(self) -> float:
        """All of it, by the clock."""
        return self.hashes + self.signatures + self.commits


def median(floors: Sequence[Floor]) -> Floor:
    """The median of each part over several measurements."""
    names = ("hashes", "signatures", "commits", "cpu")
    return Floor(*(statistics.median(getattr(f, name) for f in floors) for name in names))


def measure(counts: Counts, folder: Path) -> Floor:
    """What `counts` costs by itself; `folder` lies on the disk that the nodes use."""
    cpu = process_time()
    hashes = _hashes(counts.hashes.items())
    signatures = _signed(counts.signed.items()) + _verified(counts.verified.items())
    commits = _commits([s for sizes in counts.commits.values() for s in sizes], folder)
    commits += _flushes(counts.synced, folder)
    return Floor(hashes, signatures, commits, process_time() - cpu)


def _hashes(wanted: Iterable[tuple[int, int]]) -> float:
    sha256, spent = hashlib.sha256, 0.0
    for size, times in wanted:
        data = bytes(size)
        start = perf_counter()
        for _ in range(times):
            sha256(data).digest()
        spent += perf_counter() - start
    return spent


def _signed(wanted: Iterable[tuple[tuple[str, int], int]]) -> float:
    spent = 0.0
    for (algorithm, size), times in wanted:
        sign, _, message = *_pair(algorithm), bytes(size)
        start = perf_counter()
        for _ in range(times):
            sign(message)
        spent += perf_counter() - start
    return spent


def _verified(wanted: Iterable[tuple[tuple[str, int], int]]) -> float:
    spent = 0.0
    for (algorithm, size), times in wanted:
        sign, verify = _pair(algorithm)
        message = bytes(size)
        signature = sign(message)
        start = perf_counter()
        for _ in range(times):
            verify(signature, message)
        spent += perf_counter() - start
    return spent


def _pair(algorithm: str):  # type: ignore[no-untyped-def]
    """(sign a message, verify a signature over a message)."""
    if algorithm == "ed25519":
        key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
        return key.sign, key.public_key().verify
    private, digest = ec.derive_private_key(7, _CURVES[algorithm]), ec.ECDSA(SHA256())
    public = private.public_key()
    return lambda m: private.sign(m, digest), lambda s, m: public.verify(s, m, digest)


def _commits(sizes: Sequence[int], folder: Path) -> float:
    path = folder / "floor.db"
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE row (number INTEGER PRIMARY KEY, value BLOB NOT NULL)")
        start = perf_counter()
        for size in sizes:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO row (value) VALUES (?)", (bytes(size),))
            connection.execute("COMMIT")
        return perf_counter() - start
    finally:
        connection.close()
        path.unlink()


def _flushes(count: int, folder: Path) -> float:
    with TemporaryDirectory(dir=folder) as name:
        start = perf_counter()
        paths = [Path(name, str(number)) for number in range(count)]
        for path in paths:
            path.write_bytes(bytes(PAGE))
        for path in paths:
            with path.open("rb") as file:
                os.fsync(file.fileno())
        return perf_counter() - start
