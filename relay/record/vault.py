"""The source's own record store: originals, salts and patient openings, encrypted at rest.

    records/<2 hex>/<commitment hex>.sealed    one file per record
    records/<2 hex>/<commitment hex>.erased    empty: it was here and was erased
    patients/<2 hex>                           entries of 64 bytes: keyed hash, commitment

Files are those of relay.record.sealed. Patients are found by an HMAC of their identifier under a
key derived from the vault's: the directory alone shows neither who nor, by trying, whether.

Writing a batch: all files under temporary names, then flushed, then the patients' entries (at
most 256 flushes), then the files renamed, then the directories flushed. A crash leaves either the
record, or an entry that leads to none, which `find` passes over; what lies under a temporary name
is removed when the vault is opened again. When `put` returns, the batch is on the disk.

Erasure destroys the salts with everything that opens: the file is overwritten, flushed and
removed, and leaves the mark `.erased`. What lies in the file system's own journal, in snapshots and
in backups is beyond this program: keep the vault on a volume whose key you can destroy, and let
backups expire. On the ledger, only hashes that nobody can open any more remain.

One process owns a vault. Methods are safe to call from several threads.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from relay.disk import flush_path, writing
from relay.errors import Exhausted, LianqiaoError, NotFound, Reason, Refused
from relay.record.parts import commit
from relay.record.seal import Entropy, VaultKeys
from relay.record.sealed import Description, KeptRecord, Sealer

MAX_FOUND = 10_000
"""Records that one query for a patient may find."""

_HASH = 32
_ENTRY = 2 * _HASH


class Vault:
    """A directory of sealed records. `entropy` is os.urandom or, in tests, a seeded source."""

    def __init__(self, directory: Path, key: bytes, ledger: str, entropy: Entropy) -> None:
        self._directory = directory
        self._keys = VaultKeys(key, ledger)
        self._sealer = Sealer(ledger, self._keys.records, entropy)
        self._entropy = entropy
        self._lock = threading.Lock()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("records", "patients"):
            (directory / name).mkdir(mode=0o700, exist_ok=True)
        # What an interrupted batch has left holds records and salts under names that nobody would
        # ever erase: who repeats the batch may draw other salts, and so have another commitment.
        for left in directory.glob("records/*/*.new"):
            with suppress(OSError):
                left.unlink()

    # --- writing

    def put(self, records: Sequence[KeptRecord]) -> None:
        """Keeps a batch, durably. A record that is there already is left as it is.

        The parts must make the commitment. Raises Refused(RECORD_ERASED) where one of them was
        erased, Exhausted(LIMIT_EXCEEDED) where the disk refuses; nothing is kept then.
        """
        with self._lock:
            fresh = {}
            for record in records:
                assert commit(record.parts) == record.commitment, (
                    "the parts do not make the commitment"
                )
                if self._erased(record.commitment).exists():
                    raise _was_erased(record.commitment)
                if not self._sealed(record.commitment).exists():
                    fresh[record.commitment] = record
            try:
                with writing("the vault"):
                    self._keep(list(fresh.values()))
            except Exhausted:
                for record in fresh.values():
                    with suppress(OSError):  # a disk that is full has room again by this
                        self._temporary(record.commitment).unlink(missing_ok=True)
                raise

    def _keep(self, records: Sequence[KeptRecord]) -> None:
        written = [(self._write(record), record) for record in records]
        for temporary, _ in written:
            flush_path(temporary)
        self._list(records)
        for temporary, record in written:
            temporary.replace(self._sealed(record.commitment))
        for directory in {temporary.parent for temporary, _ in written}:
            flush_path(directory)

    def _write(self, record: KeptRecord) -> Path:
        temporary = self._temporary(record.commitment)
        temporary.parent.mkdir(mode=0o700, exist_ok=True)
        with open(temporary, "wb", opener=_private) as file:
            file.write(self._sealer.encode(record, self._patients(record)))
        return temporary

    def _list(self, records: Sequence[KeptRecord]) -> None:
        shards: dict[Path, list[bytes]] = defaultdict(list)
        for record in records:
            for patient in self._patients(record):
                shards[self._shard(patient)].append(patient + record.commitment)
        for path, entries in shards.items():
            with open(path, "r+b" if path.exists() else "w+b", opener=_private) as file:
                # What an interrupted write left of an entry is overwritten.
                file.seek(os.fstat(file.fileno()).st_size // _ENTRY * _ENTRY)
                file.write(b"".join(entries))
                file.flush()
                os.fsync(file.fileno())
        flush_path(self._directory / "patients")
        flush_path(self._directory / "records")

    def _patients(self, record: KeptRecord) -> list[bytes]:
        named = {(record.patient.scheme, record.patient.value), *record.identifiers}
        return sorted(self._keys.patient(scheme, value) for scheme, value in named)

    def erase(self, commitment: bytes) -> None:
        """Destroys a record's salts and content for good. Erasing what is erased is a no-op.

        Raises NotFound(RECORD_NOT_FOUND).
        """
        with self._lock, writing("the vault", "erase it again"):
            path, mark = self._sealed(commitment), self._erased(commitment)
            if not path.exists():
                if mark.exists():
                    return
                raise _unknown(commitment)
            try:
                patients = self.describe(commitment).patients
            except LianqiaoError:
                patients = ()  # what does not open can be destroyed all the same
            mark.touch(mode=0o600)
            with path.open("r+b") as file:
                file.write(self._entropy(os.fstat(file.fileno()).st_size))
                file.flush()
                os.fsync(file.fileno())
            path.unlink()
            flush_path(path.parent)
            self._unlist(commitment, patients)

    def _unlist(self, commitment: bytes, patients: Sequence[bytes]) -> None:
        """Takes an erased record out of the patients' entries."""
        for patient in patients:
            path, entry = self._shard(patient), patient + commitment
            left = [e for e in _entries(path) if e != entry]
            temporary = path.with_suffix(".new")
            with open(temporary, "wb", opener=_private) as file:
                file.write(b"".join(left))
            flush_path(temporary)
            temporary.replace(path)
        flush_path(self._directory / "patients")

    # --- reading

    def get(self, commitment: bytes) -> KeptRecord:
        """A whole record, checked against its commitment.

        Raises NotFound(RECORD_NOT_FOUND), Refused(RECORD_ERASED), Invalid(VAULT_CORRUPT).
        """
        return self._sealer.open_record(self._read(commitment), commitment)

    def describe(self, commitment: bytes) -> Description:
        """The patient opening and items of a record, without opening its parts. Raises as `get`."""
        return self._sealer.open_description(self._read(commitment), commitment)

    def find(self, scheme: str, value: str) -> tuple[bytes, ...]:
        """Commitments of one patient's kept records, in order of keeping, at most MAX_FOUND."""
        patient = self._keys.patient(scheme, value)
        seen = dict.fromkeys(
            entry[_HASH:] for entry in _entries(self._shard(patient)) if entry[:_HASH] == patient
        )
        return tuple(c for c in seen if self._sealed(c).exists())[:MAX_FOUND]

    def commitments(self, after: bytes = b"", limit: int = 1000) -> tuple[bytes, ...]:
        """Commitments of kept records greater than `after`, ascending, at most `limit`."""
        found: list[bytes] = []
        for directory in sorted((self._directory / "records").iterdir()):
            if directory.name < after.hex()[:2] or len(found) >= limit:
                continue
            names = sorted(path.stem for path in directory.glob("*.sealed"))
            found += [bytes.fromhex(name) for name in names if name > after.hex()]
        return tuple(found[:limit])

    def _read(self, commitment: bytes) -> bytes:
        try:
            return self._sealed(commitment).read_bytes()
        except FileNotFoundError:
            if self._erased(commitment).exists():
                raise _was_erased(commitment) from None
            raise _unknown(commitment) from None

    # --- paths

    def _sealed(self, commitment: bytes) -> Path:
        if len(commitment) != _HASH:
            raise _unknown(commitment[:_HASH])
        name = commitment.hex()
        return self._directory / "records" / name[:2] / f"{name}.sealed"

    def _temporary(self, commitment: bytes) -> Path:
        return self._sealed(commitment).with_suffix(".new")

    def _erased(self, commitment: bytes) -> Path:
        return self._sealed(commitment).with_suffix(".erased")

    def _shard(self, patient: bytes) -> Path:
        return self._directory / "patients" / patient[:1].hex()


def _entries(path: Path) -> Iterator[bytes]:
    data = path.read_bytes() if path.exists() else b""
    for start in range(0, len(data) // _ENTRY * _ENTRY, _ENTRY):
        yield data[start : start + _ENTRY]


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _unknown(commitment: bytes) -> NotFound:
    return NotFound(Reason.RECORD_NOT_FOUND, f"no record {commitment.hex()} is kept here")


def _was_erased(commitment: bytes) -> Refused:
    return Refused(
        Reason.RECORD_ERASED,
        f"record {commitment.hex()} was erased",
        hint="its salts are destroyed; what the ledger holds can no longer be opened",
    )
