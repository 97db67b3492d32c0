"""Checks of single fields, shared by all codecs. Each raises Malformed with the field's name.

protobuf itself guarantees types, UTF-8 and the range of an integer's wire type; what is added
here are our own ranges and lengths, so that nothing behind the border needs to be afraid of size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from relay.contracts.payloads import fields as payload
from relay.errors import Malformed, Reason
from relay.light.types import MAX_INT
from relay.packet import MAX_PAYLOAD_BYTES

MAX_TEXT = 4096
MAX_NAME = 128

_T = TypeVar("_T")
_M = TypeVar("_M")
_E = TypeVar("_E", bound=int)


def malformed(field: str, problem: str, reason: Reason = Reason.MALFORMED) -> Malformed:
    """The error for one field."""
    return Malformed(f"{field} {problem}", reason=reason, field=field)


def integer(value: int, field: str, low: int = 0, high: int = MAX_INT) -> int:
    """An integer of a range, both ends included."""
    if not low <= value <= high:
        raise malformed(field, f"must be between {low} and {high}")
    return value


def text(value: str, field: str, limit: int = MAX_TEXT) -> str:
    """Any text up to `limit` characters, possibly empty."""
    if len(value) > limit:
        raise malformed(field, f"must have at most {limit} characters", Reason.LIMIT_EXCEEDED)
    return value


def name(value: str, field: str, limit: int = MAX_NAME) -> str:
    """Printable ASCII without space, 1 to `limit` characters: ids, ports, request ids."""
    if len(value) > limit:
        raise malformed(field, f"must have at most {limit} characters", Reason.LIMIT_EXCEEDED)
    if not value or not all("!" <= c <= "~" for c in value):
        raise malformed(field, f"must be 1 to {limit} printable ASCII characters without space")
    return value


def identifier(value: str, field: str) -> str:
    """An id of an institution, a ledger or an item, by the rule of the payloads it stands in."""
    return payload.identifier({field: value}, field)


def document(
    value: bytes, field: str, decode: Callable[[bytes], _T], limit: int = MAX_PAYLOAD_BYTES
) -> _T:
    """A payload in its canonical bytes, decoded by its own strict reader."""
    blob(value, field, limit, least=1)
    try:
        return decode(value)
    except Malformed as error:
        inner = error.data.get("field")
        where = f"{field}.{inner}" if inner else field
        raise Malformed(
            f"{field}: {error.detail}", reason=error.reason, hint=error.hint, field=where
        ) from None


def blob(value: bytes, field: str, limit: int, *, least: int = 0) -> bytes:
    """Bytes of `least` to `limit` length."""
    if len(value) > limit:
        raise malformed(field, f"must have at most {limit} bytes", Reason.LIMIT_EXCEEDED)
    if len(value) < least:
        raise malformed(field, f"must have at least {least} bytes")
    return value


def digest(value: bytes, field: str) -> bytes:
    """Exactly 32 bytes."""
    if len(value) != 32:
        raise malformed(field, "must have exactly 32 bytes")
    return value


def count(values: Sequence[object], field: str, limit: int, *, least: int = 0) -> None:
    """How many elements a repeated field has."""
    if len(values) > limit:
        raise malformed(field, f"must have at most {limit} elements", Reason.LIMIT_EXCEEDED)
    if len(values) < least:
        raise malformed(field, f"must have at least {least} elements")


def each(
    values: Sequence[_M],
    field: str,
    limit: int,
    decode: Callable[[_M, str], _T],
    *,
    least: int = 0,
) -> tuple[_T, ...]:
    """A repeated field, each element decoded under its own name."""
    count(values, field, limit, least=least)
    return tuple(decode(value, f"{field}[{i}]") for i, value in enumerate(values))


def blobs(
    values: Sequence[bytes], field: str, many: int, limit: int, *, least: int = 0, few: int = 0
) -> tuple[bytes, ...]:
    """`few` to `many` byte strings of `least` to `limit` length each."""
    return each(values, field, many, lambda v, where: blob(v, where, limit, least=least), least=few)


def member(value: _E, field: str, meanings: Mapping[_E, _T]) -> _T:
    """An enum value that is stated and known. Unspecified is known only where `meanings` has it."""
    try:
        return meanings[value]
    except KeyError:
        problem = "must be stated" if value == 0 else f"has the unknown value {value}"
        raise malformed(field, problem) from None


def present(parent: object, field: str) -> None:
    """A sub-message that must be there. `field` is the plain name in `parent`."""
    if not parent.HasField(field):  # type: ignore[attr-defined]
        raise malformed(field, "is missing")
