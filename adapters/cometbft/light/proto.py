"""The protobuf wire format, read and written strictly, for what CometBFT hashes, signs and proves.

A message has one encoding here: fields ascending, varints minimal, scalars of value zero and empty
bytes left out, nothing unknown and nothing after the end. `Fields` takes a message apart; whoever
decodes one encodes what he took again and compares (`check_encoding`), so that everything else
(fields that are unknown, another order, defaults that are spelled out) is refused.

Raises Malformed and nothing else. Integers are those of proto3: int32 and int64 are varints of the
64-bit two's complement, uint64 varints, sfixed64 eight bytes little-endian.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from relay.errors import Malformed

VARINT, FIXED64, BYTES = 0, 1, 2
MAX_FIELDS = 4096
"""Fields of one message, repeated ones counted each."""
_U64 = 2**64
_I64 = 2**63


def varint(number: int) -> bytes:
    """The minimal varint of an unsigned number, or of the two's complement of a negative one."""
    if not -_I64 <= number < _U64:
        raise Malformed("a number does not fit 64 bits")
    number %= _U64
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def integer(field: int, number: int) -> bytes:
    """A varint field; nothing for zero."""
    return varint(field << 3 | VARINT) + varint(number) if number else b""


def sfixed64(field: int, number: int) -> bytes:
    """An sfixed64 field; nothing for zero."""
    if not number:
        return b""
    try:
        return varint(field << 3 | FIXED64) + number.to_bytes(8, "little", signed=True)
    except OverflowError as error:
        raise Malformed("a number does not fit 64 bits") from error


def data(field: int, value: bytes) -> bytes:
    """A bytes or string field; nothing for an empty one."""
    return message(field, value) if value else b""


def message(field: int, value: bytes) -> bytes:
    """An embedded message, written even if it is empty."""
    return varint(field << 3 | BYTES) + varint(len(value)) + value


def messages(field: int, values: Iterable[bytes]) -> bytes:
    """A repeated embedded message."""
    return b"".join(message(field, value) for value in values)


def delimited(value: bytes) -> bytes:
    """The message after its own length."""
    return varint(len(value)) + value


def check_encoding(raw: bytes, encoded: bytes, what: str) -> None:
    """Raises Malformed unless `raw` is the one encoding."""
    if raw != encoded:
        raise Malformed(f"{what}: not in its one encoding")


def read_varint(raw: bytes, at: int, what: str) -> tuple[int, int]:
    """(number below 2^64, place behind it)."""
    number = shift = 0
    while True:
        if at >= len(raw) or shift > 63:
            raise Malformed(f"{what}: a varint does not end")
        byte = raw[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    if number >= _U64 or (byte == 0 and shift):
        raise Malformed(f"{what}: a varint is not minimal or exceeds 64 bits")
    return number, at


class Fields:
    """The fields of one message, each taken once; what is left, `check_encoding` refuses."""

    __slots__ = ("_found", "_what")

    def __init__(self, raw: bytes, what: str) -> None:
        self._what = what
        self._found: dict[tuple[int, int], list[int | bytes]] = {}
        at = count = 0
        while at < len(raw):
            key, at = read_varint(raw, at, what)
            kind, value = key & 7, b""
            count += 1
            if count > MAX_FIELDS:
                raise Malformed(f"{what}: more than {MAX_FIELDS} fields")
            if kind == VARINT:
                number, at = read_varint(raw, at, what)
                self._found.setdefault((key >> 3, kind), []).append(number)
                continue
            if kind != BYTES:
                raise Malformed(f"{what}: wire type {kind} is not used")
            length, at = read_varint(raw, at, what)
            value = raw[at : at + length]
            if len(value) != length:
                raise Malformed(f"{what}: ends in the middle of a field")
            at += length
            self._found.setdefault((key >> 3, kind), []).append(value)

    def integer(self, field: int, *, signed: bool = True) -> int:
        """A varint field, zero where it is left out."""
        (number,) = self._take(field, VARINT) or [0]
        assert isinstance(number, int)
        return number - _U64 if signed and number >= _I64 else number

    def data(self, field: int) -> bytes:
        """A bytes field, empty where it is left out."""
        (value,) = self._take(field, BYTES) or [b""]
        assert isinstance(value, bytes)
        return value

    def optional(self, field: int) -> bytes | None:
        """An embedded message, None where it is left out."""
        values = self._take(field, BYTES)
        value = values[0] if values else None
        assert value is None or isinstance(value, bytes)
        return value

    def message(self, field: int) -> bytes:
        """An embedded message that must be there, be it empty."""
        value = self.optional(field)
        if value is None:
            raise Malformed(f"{self._what}: field {field} is missing")
        return value

    def messages(self, field: int) -> list[bytes]:
        """A repeated embedded message."""
        return cast(list[bytes], self._found.pop((field, BYTES), []))

    def text(self, field: int) -> str:
        """A string field, UTF-8."""
        try:
            return self.data(field).decode()
        except UnicodeDecodeError as error:
            raise Malformed(f"{self._what}: field {field} is not UTF-8") from error

    def _take(self, field: int, kind: int) -> list[int | bytes]:
        values = self._found.pop((field, kind), [])
        if len(values) > 1:
            raise Malformed(f"{self._what}: field {field} stands twice")
        return values
