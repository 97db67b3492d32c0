"""Reading decoded JSON strictly: exact members, bounded strings, exact lengths of hex.

Every reader raises Malformed with the field's name and nothing else. Identifiers are narrow on
purpose: they become parts of keys, are shown to people, and must leave no room for a name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from enum import StrEnum
from itertools import pairwise
from typing import NoReturn, TypeVar

from relay.canonical import MAX_INTEGER, Json, decode
from relay.errors import Malformed, Reason
from relay.packet import MAX_PAYLOAD_BYTES

Object = dict[str, Json]
T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

HASH = 32
MAX_KEY_BYTES = 256
MAX_SIGNATURE_BYTES = 256
MAX_ITEMS = 256
"""Items in an attestation or a request, and entries in a scope."""
MAX_PARTS = 512
"""Parts in a record; a part's index is smaller."""
MAX_HOPS = 8

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,63}")
_CODE = re.compile(r"[!-{}~]{1,64}")
_SYSTEM = re.compile(r"[!-{}~]{0,128}")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_HEX = re.compile(r"[0-9a-f]*")


def names(words: str) -> frozenset[str]:
    """The names in `words`, separated by blanks."""
    return frozenset(words.split())


def refuse(field: str, rule: str, *, reason: Reason = Reason.MALFORMED) -> NoReturn:
    """Raises Malformed for one field."""
    raise Malformed(f"{field}: {rule}", reason=reason, field=field)


def document(raw: bytes, limit: int = MAX_PAYLOAD_BYTES) -> Object:
    """The object in canonical bytes. Raises Malformed."""
    value = decode(raw, limit)
    if type(value) is not dict:
        raise Malformed("not an object")
    return value


def members(value: Json, expected: Collection[str], what: str) -> Object:
    """`value` as an object with exactly the `expected` members. Raises Malformed."""
    if type(value) is not dict:
        refuse(what, "must be an object")
    if len(value) != len(expected) or not all(name in value for name in expected):
        unknown, missing = sorted(value.keys() - expected), sorted(set(expected) - value.keys())
        raise Malformed(f"{what}: unknown {unknown}, missing {missing}"[:200], field=what)
    return value


def kind(value: Object, expected: str) -> None:
    """Checks the member `type`. Raises Malformed."""
    if value.get("type") != expected:
        refuse("type", f"must be {expected}")


def _matching(pattern: re.Pattern[str], rule: str) -> Callable[[Object, str], str]:
    fullmatch = pattern.fullmatch

    def read(value: Object, field: str) -> str:
        text = value[field]
        if type(text) is not str or fullmatch(text) is None:
            refuse(field, rule)
        return text

    return read


identifier = _matching(
    _ID, "must be 1-64 letters, digits or ._:@-, beginning with one of the first"
)
"""Reads an id of an institution, a person, a laboratory, a ledger, a region or an agreement."""
code = _matching(_CODE, "must be 1-64 printable ASCII characters without space or |")
system = _matching(_SYSTEM, "must be at most 128 printable ASCII characters without space or |")
name = _matching(_NAME, "must be 1-32 lower-case letters, digits or -")


def optional_identifier(value: Object, field: str) -> str:
    """Reads an id, or the empty string where there is none."""
    return "" if value[field] == "" else identifier(value, field)


def optional_code(value: Object, field: str) -> str:
    """Reads a code, or the empty string where there is none."""
    return "" if value[field] == "" else code(value, field)


def integer(value: Object, field: str, low: int = 0, high: int = MAX_INTEGER) -> int:
    """Reads an integer between `low` and `high`, both included."""
    number = value[field]
    if type(number) is not int or not low <= number <= high:
        refuse(field, f"must be an integer between {low} and {high}")
    return number


def boolean(value: Object, field: str) -> bool:
    """Reads true or false."""
    answer = value[field]
    if type(answer) is not bool:
        refuse(field, "must be true or false")
    return answer


def octets(value: Object, field: str, low: int = HASH, high: int = HASH) -> bytes:
    """Reads lower-case hex of `low` to `high` bytes."""
    text = value[field]
    if (
        type(text) is not str
        or not 2 * low <= len(text) <= 2 * high
        or len(text) % 2
        or _HEX.fullmatch(text) is None
    ):
        refuse(field, f"must be {low} to {high} bytes in lower-case hex")
    return bytes.fromhex(text)


def optional_octets(value: Object, field: str) -> bytes:
    """Reads 32 bytes in hex, or nothing where the string is empty."""
    return b"" if value[field] == "" else octets(value, field)


def word(value: Object, field: str, words: type[E]) -> E:
    """Reads one word of an enumeration."""
    text = value[field]
    try:
        if type(text) is str:
            return words(text)
    except ValueError:
        pass
    refuse(field, f"must be one of {', '.join(words)}")


def sequence(
    value: Object, field: str, read: Callable[[Json], T], high: int = MAX_ITEMS, low: int = 0
) -> tuple[T, ...]:
    """Reads an array of `low` to `high` elements, each by `read`."""
    array = value[field]
    if type(array) is not list:
        refuse(field, "must be an array")
    if not low <= len(array) <= high:
        refuse(field, f"must hold {low} to {high} elements", reason=Reason.LIMIT_EXCEEDED)
    return tuple([read(element) for element in array])


def ascending(
    value: Object,
    field: str,
    read: Callable[[Object, str], T],
    high: int = MAX_ITEMS,
    low: int = 0,
) -> tuple[T, ...]:
    """Reads an array of scalars that must ascend strictly: a set has one order only."""
    found = sequence(value, field, lambda element: read({field: element}, field), high, low)
    if any(not a < b for a, b in pairwise(found)):  # type: ignore[operator]
        refuse(field, "must ascend, each element once")
    return found


def part(value: Object, field: str) -> int:
    """Reads the index of a part."""
    return integer(value, field, 0, MAX_PARTS - 1)


def signature(value: Object) -> tuple[str, bytes, bytes]:
    """Reads the members `algorithm`, `key` and `signature`. None of them is verified here."""
    return (
        name(value, "algorithm"),
        octets(value, "key", 1, MAX_KEY_BYTES),
        octets(value, "signature", 0, MAX_SIGNATURE_BYTES),
    )
