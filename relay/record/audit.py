"""The off-ledger audit store: who read what of whom, when, why and with what outcome.

On the ledger an access entry is a salted commitment, the institution and a purpose code (DESIGN
§7). Here lies what it commits to, readable by the patient: names, items, outcome.

    audit/<yyyy-mm>.log    one line per entry: base64(seal of the entry) LF

An entry is RFC 8785 JSON with its salt; its commitment is

    H("lianqiao/access/1" ‖ 0x00 ‖ salt32 ‖ entry JSON without the salt)

Each line is sealed (relay.record.seal) with magic ‖ month ‖ BE64(line number) as associated data:
lines cannot be changed, moved or taken out of the middle. That the last lines are there, the
ledger's commitments show. The month is that of the entry's time at +08:00. Lines are only appended;
a line that a crash cut short is dropped at the next start, since nobody was told of it.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from pathlib import Path

from relay.canonical import Json, decode, encode
from relay.disk import flush_path, writing
from relay.errors import LianqiaoError, Malformed, Reason
from relay.record.parts import SALT_BYTES
from relay.record.seal import Entropy, VaultKeys, corrupt
from relay.record.times import CHINA

MARK_LINES = 256
MAX_LOOKED_AT = 20_000
"""Lines opened for one page."""
MAX_TEXT = 256
MAX_ITEMS = 512
MAX_TIME = 253_402_300_799 - CHINA
"""The end of the year 9999 at +08:00."""

_MONTH_LINES = 10**10
"""A place is the month, as the number yyyymm, times this, and the line in it."""
_TAG = b"lianqiao/access/1\x00"
_MAGIC = b"LQAUDIT1"
_MONTH = re.compile(r"\d{4}-\d\d\.log")


class Act(StrEnum):
    """What was done."""

    FIND = "find"
    FETCH = "fetch"
    GRANT = "grant"
    OUTCOME = "outcome"
    ERASE = "erase"


@dataclass(frozen=True, slots=True)
class Access:
    """One access, or one refused. Texts are 0-256 characters."""

    act: Act
    time: int
    """Seconds since 1970 UTC."""
    institution: str
    who: str
    """The person, as the institution named him; may be a name, since it never leaves the source."""
    purpose: str
    record: str
    """Commitment of the record in hex; empty for a query that found none."""
    patient: str
    """Keyed hash of the patient's identifier in hex (AuditStore.patient); empty where unknown."""
    items: tuple[str, ...]
    """`system|code` of what was asked for or given."""
    outcome: str
    """`OK`, or the reason of the refusal."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An access with the salt of its commitment."""

    access: Access
    salt: bytes

    @property
    def commitment(self) -> bytes:
        """What the ledger holds of it, 32 bytes."""
        return sha256(_TAG + self.salt + encode(_json(self.access))).digest()


class AuditStore:
    """The audit log of one ledger's source. One process owns it; safe to call from threads."""

    def __init__(self, directory: Path, key: bytes, ledger: str, entropy: Entropy) -> None:
        self._directory = directory
        self._keys = VaultKeys(key, ledger)
        self._entropy = entropy
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._sizes: dict[str, int] = {}
        self._marks: dict[str, list[int]] = {}
        """By month, where every MARK_LINES-th line begins."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self._months():
            month = path.stem
            self._counts[month], self._sizes[month], self._marks[month] = _repair(path)

    def patient(self, scheme: str, value: str) -> str:
        """How a patient is named in entries of this store."""
        return self._keys.patient(scheme, value).hex()

    def append(self, accesses: Sequence[Access]) -> list[Entry]:
        """Writes entries durably, each with a fresh salt, and returns them in order.

        Raises Malformed for a text or time out of its bounds; then nothing is written. Raises
        Exhausted(LIMIT_EXCEEDED) where the disk refuses.
        """
        for access in accesses:
            _check(access)
        entries = [Entry(access, self._entropy(SALT_BYTES)) for access in accesses]
        months: dict[str, list[Entry]] = {}
        for entry in entries:
            months.setdefault(_month(entry.access.time), []).append(entry)
        with self._lock, writing("the audit log", "the access did not take place"):
            for month, found in months.items():
                first, size = self._counts.get(month, 0), self._sizes.get(month, 0)
                lines = [self._line(month, first + i, e) for i, e in enumerate(found)]
                path = self._directory / f"{month}.log"
                try:
                    _append(path, size, b"".join(lines))
                except OSError:
                    # What was written may be whole, and nobody was told of it.
                    with suppress(OSError):
                        os.truncate(path, size)
                    raise
                marks = self._marks.setdefault(month, [0])
                for line in lines:
                    size += len(line)
                    first += 1
                    if not first % MARK_LINES:
                        marks.append(size)
                self._counts[month], self._sizes[month] = first, size
        return entries

    def _line(self, month: str, number: int, entry: Entry) -> bytes:
        plain = encode({**_json(entry.access), "salt": entry.salt.hex()})
        sealed = self._keys.audit.seal(self._entropy, plain, _bound(month, number))
        return base64.b64encode(sealed) + b"\n"

    def entries(
        self, *, patient: str = "", record: str = "", newest_first: bool = False
    ) -> Iterator[Entry]:
        """Entries in order of writing, of one patient or record where given.

        Raises Invalid(VAULT_CORRUPT) at a line that is not what and where this store wrote it.
        """
        months = self._months()
        for path in reversed(months) if newest_first else months:
            found = self._read(path)
            for entry in reversed(list(found)) if newest_first else found:
                if patient in ("", entry.access.patient) and record in ("", entry.access.record):
                    yield entry

    def page(
        self, start: int, limit: int, *, patient: str = "", record: str = ""
    ) -> tuple[list[tuple[int, Entry]], int | None]:
        """(entries from place `start` on, each with the place after it; where to go on, or None).

        A place is a number of this store: 0 is the first, and any other that is no place of an
        entry means the next one after it. Looks at MAX_LOOKED_AT lines at most, so that a page may
        hold fewer than `limit` entries, or none, and still not be the last. Raises as `entries`.
        """
        found: list[tuple[int, Entry]] = []
        month, line = divmod(start, _MONTH_LINES)
        looked = 0
        for path in self._months():
            number = int(path.stem.replace("-", ""))
            if number < month:
                continue
            first = line if number == month else 0
            for at, entry in enumerate(self._read(path, first), first + 1):
                looked += 1
                if patient in ("", entry.access.patient) and record in ("", entry.access.record):
                    found.append((number * _MONTH_LINES + at, entry))
                if len(found) == limit or looked == MAX_LOOKED_AT:
                    return found, number * _MONTH_LINES + at
        return found, None

    def _months(self) -> list[Path]:
        return sorted(p for p in self._directory.iterdir() if _MONTH.fullmatch(p.name))

    def _read(self, path: Path, first: int = 0) -> Iterator[Entry]:
        """The entries of a month from line `first` on; what lies before is not opened."""
        lines = self._counts.get(path.stem, 0)
        with path.open("rb") as file:
            marks = self._marks.get(path.stem, [0])
            begin = min(first, lines) // MARK_LINES
            file.seek(marks[begin])
            for _ in range(begin * MARK_LINES, min(first, lines)):
                file.readline()
            for number in range(first, lines):
                what = f"line {number + 1} of {path.name}"
                sealed = _unbase64(file.readline(), what)
                yield _entry(self._keys.audit.open(sealed, _bound(path.stem, number), what), what)


def _unbase64(line: bytes, what: str) -> bytes:
    try:
        sealed = base64.b64decode(line.removesuffix(b"\n"), validate=True)
    except (binascii.Error, ValueError):
        raise corrupt(what) from None
    if base64.b64encode(sealed) + b"\n" != line:
        raise corrupt(what)
    return sealed


def _check(access: Access) -> None:
    texts = [getattr(access, f.name) for f in fields(access) if f.name not in ("time", "items")]
    if any(len(text) > MAX_TEXT for text in (*texts, *access.items)):
        raise Malformed("a text is too long for the audit store", reason=Reason.LIMIT_EXCEEDED)
    if len(access.items) > MAX_ITEMS:
        raise Malformed("too many items for one entry", reason=Reason.LIMIT_EXCEEDED)
    if not 0 <= access.time <= MAX_TIME:
        raise Malformed("time is out of its bounds")
    encode(_json(access))


def _json(access: Access) -> dict[str, Json]:
    return {
        "act": access.act.value,
        "institution": access.institution,
        "items": list(access.items),
        "outcome": access.outcome,
        "patient": access.patient,
        "purpose": access.purpose,
        "record": access.record,
        "time": access.time,
        "who": access.who,
    }


def _entry(plain: bytes, what: str) -> Entry:
    """It was sealed by this store, so its form is known; what differs is corruption."""
    try:
        value = decode(plain)
        assert isinstance(value, dict)
        items = value["items"]
        assert isinstance(items, list)
        texts = {
            name: str(value[name])
            for name in ("institution", "outcome", "patient", "purpose", "record", "who")
        }
        access = Access(
            act=Act(str(value["act"])),
            time=int(str(value["time"])),
            items=tuple(str(item) for item in items),
            **texts,
        )
        return Entry(access, bytes.fromhex(str(value["salt"])))
    except (LianqiaoError, AssertionError, KeyError, TypeError, ValueError):
        raise corrupt(what) from None


def _bound(month: str, number: int) -> bytes:
    return _MAGIC + month.encode() + number.to_bytes(8, "big")


def _month(time: int) -> str:
    return datetime.fromtimestamp(time + CHINA, UTC).strftime("%Y-%m")


def _append(path: Path, size: int, raw: bytes) -> None:
    with open(path, "ab", opener=_private) as file:
        # What a write that failed (a full disk) has left would push every later line out of the
        # place it is sealed for.
        file.truncate(size)
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
    if not size:
        flush_path(path.parent)  # the name of a new month must outlive a power cut


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _repair(path: Path) -> tuple[int, int, list[int]]:
    """(whole lines, bytes, marks) of a file, after dropping a line that a crash cut short."""
    marks = [0]
    with path.open("r+b") as file:
        whole = count = 0
        for line in file:
            if line.endswith(b"\n"):
                whole += len(line)
                count += 1
                if not count % MARK_LINES:
                    marks.append(whole)
        file.truncate(whole)
    return count, whole, marks
