"""Salted parts and the patient reference: what a ledger may know of a record, and how it is opened.

    leaf data of part i of n = H("lianqiao/part/1"    ‖ 0x00 ‖ BE32(i) ‖ BE32(n) ‖ salt32 ‖ bytes)
    commitment               = RFC 6962 root over the leaf data of all parts, in order
    patient reference        = H("lianqiao/patient/1" ‖ 0x00 ‖ salt32
                                 ‖ BE32(len scheme) ‖ scheme ‖ BE32(len value) ‖ value)

(DESIGN §7, with the place of a part in its tag: an RFC 6962 root does not bind its own size, so
without i and n a recipient could pass an inner node for a hidden leaf and show a result in the
place of another.) Every salt is fresh and 32 random bytes, so that neither a value nor a person can
be found by trying; destroying the salts makes commitment and reference meaningless. Salts are
arguments here: randomness is the caller's.

A record file (`*.record.json`, RFC 8785 JSON) holds each part opened (salt and content, base64) or
hidden (its leaf hash), so that one result can be shown without the rest:

    {"commitment": "<64 hex>", "format": "lianqiao-record/1",
     "parts": [{"content": "<base64>", "salt": "<base64>"}, {"leaf": "<64 hex>"}, …]}
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest

from relay.canonical import Json, decode, encode
from relay.errors import Invalid, Malformed, Reason
from relay.light import merkle

FORMAT = "lianqiao-record/1"
SALT_BYTES = 32
MAX_PARTS = 512
MAX_FILE_BYTES = 24 * 1024 * 1024
"""A record file; base64 of the door's 16 MiB record fits."""
MAX_SCHEME_BYTES = 256
MAX_VALUE_BYTES = 256

_PART = b"lianqiao/part/1\x00"
_PATIENT = b"lianqiao/patient/1\x00"


@dataclass(frozen=True, slots=True)
class Opened:
    """A part with what opens it."""

    salt: bytes
    content: bytes


@dataclass(frozen=True, slots=True)
class Hidden:
    """A part that is not shown: only its leaf hash, 32 bytes."""

    leaf: bytes


@dataclass(frozen=True, slots=True)
class PatientOpening:
    """What opens a patient reference; handed to the patient, or in answer to a consented query."""

    salt: bytes
    scheme: str
    value: str


@dataclass(frozen=True, slots=True)
class Shown:
    """What a verified record file shows."""

    commitment: bytes
    count: int
    """Parts of the record, shown and hidden."""
    parts: tuple[tuple[int, bytes], ...]
    """(index, content) of each part that is shown, ascending."""


def _be32(number: int) -> bytes:
    return number.to_bytes(4, "big")


def _check_salt(salt: bytes) -> None:
    if len(salt) != SALT_BYTES:
        raise Malformed(f"a salt is {SALT_BYTES} bytes")


def part_leaf(index: int, count: int, salt: bytes, content: bytes) -> bytes:
    """The leaf hash of part `index` of `count`. Raises Malformed(MALFORMED, LIMIT_EXCEEDED)."""
    _check_salt(salt)
    if not 0 <= index < count:
        raise Malformed("a part's index is below their number")
    if count > MAX_PARTS:
        raise _too_many()
    place = _be32(index) + _be32(count)
    return merkle.leaf_hash(sha256(_PART + place + salt + content).digest())


def _too_many() -> Malformed:
    return Malformed(f"a record has at most {MAX_PARTS} parts", reason=Reason.LIMIT_EXCEEDED)


def commit(parts: Sequence[Opened | Hidden]) -> bytes:
    """The commitment over all parts in order, 32 bytes. Raises Malformed."""
    if not parts:
        raise Malformed("a record has at least one part")
    return merkle.root(
        [
            part.leaf
            if isinstance(part, Hidden)
            else part_leaf(index, len(parts), part.salt, part.content)
            for index, part in enumerate(parts)
        ]
    )


def show(parts: Sequence[Opened], indices: Collection[int]) -> tuple[Opened | Hidden, ...]:
    """The same record with only the parts at `indices` shown. Raises Malformed."""
    if any(not 0 <= index < len(parts) for index in indices):
        raise Malformed("the record has no such part")
    return tuple(
        part if index in indices else Hidden(part_leaf(index, len(parts), part.salt, part.content))
        for index, part in enumerate(parts)
    )


def check_parts(parts: Sequence[Opened | Hidden], commitment: bytes) -> Shown:
    """What `parts` show of the record that `commitment` names.

    Raises Invalid(RECORD_MISMATCH) unless they are exactly that record's, Malformed for their form.
    """
    if not compare_digest(commit(parts), commitment):
        raise Invalid(
            Reason.RECORD_MISMATCH,
            "the parts are not those that were committed to",
            hint="a byte was changed, or this is another record or another version of it",
        )
    shown = tuple((i, part.content) for i, part in enumerate(parts) if isinstance(part, Opened))
    return Shown(bytes(commitment), len(parts), shown)


def encode_record(parts: Sequence[Opened | Hidden]) -> bytes:
    """The record file of `parts`. Raises Malformed."""
    listed: list[Json] = [
        {"leaf": part.leaf.hex()}
        if isinstance(part, Hidden)
        else {"content": _base64(part.content), "salt": _base64(part.salt)}
        for part in parts
    ]
    return encode({"commitment": commit(parts).hex(), "format": FORMAT, "parts": listed})


def decode_record(raw: bytes) -> tuple[bytes, tuple[Opened | Hidden, ...]]:
    """(commitment it claims, parts) of a record file, unverified.

    Raises Malformed (MALFORMED, LIMIT_EXCEEDED, NOT_CANONICAL, UNSUPPORTED_VERSION).
    """
    value = decode(raw, MAX_FILE_BYTES)
    if not isinstance(value, dict) or "format" not in value:
        raise Malformed("not a record file")
    if value["format"] != FORMAT:
        raise Malformed(
            "a record file of another version",
            reason=Reason.UNSUPPORTED_VERSION,
            hint=f"this program reads {FORMAT}",
        )
    parts = value.get("parts")
    if value.keys() != {"commitment", "format", "parts"} or not isinstance(parts, list):
        raise Malformed("not a record file")
    if len(parts) > MAX_PARTS:
        raise _too_many()
    return _hash(value["commitment"], "commitment"), tuple(map(_part, parts))


def verify_record(raw: bytes, commitment: bytes) -> Shown:
    """What a record file shows of the record that `commitment` (from a ledger) names.

    Raises Invalid(RECORD_MISMATCH), and Malformed as `decode_record`.
    """
    claimed, parts = decode_record(raw)
    if not compare_digest(claimed, commitment):
        raise Invalid(
            Reason.RECORD_MISMATCH,
            "the file is of another record",
            hint=f"it says {claimed.hex()}",
        )
    return check_parts(parts, commitment)


def _part(value: Json) -> Opened | Hidden:
    if isinstance(value, dict) and value.keys() == {"leaf"}:
        return Hidden(_hash(value["leaf"], "leaf"))
    if isinstance(value, dict) and value.keys() == {"content", "salt"}:
        salt = _bytes(value["salt"])
        _check_salt(salt)
        return Opened(salt, _bytes(value["content"]))
    raise Malformed("a part has either leaf, or content and salt")


def _hash(value: Json, name: str) -> bytes:
    if isinstance(value, str) and len(value) == 64 and not set(value) - set("0123456789abcdef"):
        return bytes.fromhex(value)
    raise Malformed(f"{name} is 64 lower-case hexadecimal digits")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _bytes(value: Json) -> bytes:
    if isinstance(value, str):
        try:
            data = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            pass
        else:
            if _base64(data) == value:  # one text for each value: no stray bits in the last digit
                return data
    raise Malformed("not base64")


def patient_reference(opening: PatientOpening) -> bytes:
    """The reference that goes on a ledger for this record, 32 bytes. Raises Malformed."""
    _check_salt(opening.salt)
    try:
        scheme, value = opening.scheme.encode(), opening.value.encode()
    except UnicodeEncodeError:
        scheme = value = b""
    if not 1 <= len(scheme) <= MAX_SCHEME_BYTES or not 1 <= len(value) <= MAX_VALUE_BYTES:
        raise Malformed("a patient identifier has a scheme and a value of 1-256 bytes each")
    return sha256(
        _PATIENT + opening.salt + _be32(len(scheme)) + scheme + _be32(len(value)) + value
    ).digest()


def open_patient(reference: bytes, salt: bytes, scheme: str, value: str) -> None:
    """Checks that a patient reference opens to this identifier.

    Raises Invalid(RECORD_MISMATCH) where it is of another person, Malformed for the opening's form.
    """
    if not compare_digest(patient_reference(PatientOpening(salt, scheme, value)), reference):
        raise Invalid(
            Reason.RECORD_MISMATCH,
            "the patient reference does not open to this patient",
            hint="compare scheme and identifier with the card; the salt is fresh for each record",
        )
