"""A strict binary encoding for what is hashed, signed or proven, where no standard gives one.

Integers are unsigned, fixed width and big-endian. Bytes and text carry a four-byte length; lists
carry a four-byte count. There is one encoding of each value: nothing optional, nothing padded,
nothing after the end. Every length and count is bounded by the caller, so that hostile bytes cost
no more than their own size.

`Reader` raises Malformed and nothing else. `Writer` refuses what a Reader with the same bounds
would refuse, also as Malformed, so that nothing can be written that cannot be read again.
"""

from __future__ import annotations

from relay.errors import Malformed

MAX_U32 = 2**32 - 1


class Writer:
    """Collects fields in order; `done()` gives the bytes. Its methods return it, to be chained."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def u8(self, number: int) -> Writer:
        """One byte."""
        return self._integer(number, 1)

    def u16(self, number: int) -> Writer:
        """Two bytes, big-endian."""
        return self._integer(number, 2)

    def u32(self, number: int) -> Writer:
        """Four bytes, big-endian."""
        return self._integer(number, 4)

    def u64(self, number: int) -> Writer:
        """Eight bytes, big-endian."""
        return self._integer(number, 8)

    def boolean(self, value: bool) -> Writer:
        """One byte, 0 or 1."""
        return self._integer(1 if value else 0, 1)

    def fixed(self, data: bytes, length: int) -> Writer:
        """Exactly `length` bytes, without a length before them."""
        if len(data) != length:
            raise Malformed(f"expected {length} bytes, got {len(data)}")
        self._parts.append(data)
        return self

    def data(self, data: bytes, maximum: int) -> Writer:
        """At most `maximum` bytes, after their u32 length."""
        if len(data) > maximum:
            raise Malformed(f"{len(data)} bytes exceed the limit of {maximum}")
        self._parts.append(len(data).to_bytes(4, "big"))
        self._parts.append(data)
        return self

    def text(self, text: str, maximum: int) -> Writer:
        """Text as UTF-8 of at most `maximum` bytes, after its u32 length."""
        try:
            encoded = text.encode()
        except UnicodeEncodeError as error:
            raise Malformed("text holds what UTF-8 cannot encode") from error
        return self.data(encoded, maximum)

    def count(self, number: int, maximum: int) -> Writer:
        """The u32 count of a list that follows, at most `maximum`."""
        if number > maximum:
            raise Malformed(f"{number} elements exceed the limit of {maximum}")
        return self.u32(number)

    def done(self) -> bytes:
        """All that was written."""
        return b"".join(self._parts)

    def _integer(self, number: int, width: int) -> Writer:
        try:
            self._parts.append(number.to_bytes(width, "big"))
        except OverflowError as error:
            raise Malformed(f"{number} does not fit {width} unsigned bytes") from error
        return self


class Reader:
    """Takes fields in order from `raw`; `what` names it in errors. Call `end()` when done."""

    __slots__ = ("_at", "_raw", "_what")

    def __init__(self, raw: bytes, what: str = "value") -> None:
        self._raw = raw
        self._what = what
        self._at = 0

    def u8(self) -> int:
        """One byte."""
        return int.from_bytes(self._take(1), "big")

    def u16(self) -> int:
        """Two bytes, big-endian."""
        return int.from_bytes(self._take(2), "big")

    def u32(self) -> int:
        """Four bytes, big-endian."""
        return int.from_bytes(self._take(4), "big")

    def u64(self) -> int:
        """Eight bytes, big-endian."""
        return int.from_bytes(self._take(8), "big")

    def boolean(self) -> bool:
        """One byte, 0 or 1 and nothing else."""
        byte = self.u8()
        if byte > 1:
            raise Malformed(f"{self._what}: a boolean is 0 or 1, not {byte}")
        return byte == 1

    def fixed(self, length: int) -> bytes:
        """Exactly `length` bytes."""
        return self._take(length)

    def data(self, maximum: int) -> bytes:
        """Bytes after their u32 length, at most `maximum`."""
        length = self.u32()
        if length > maximum:
            raise Malformed(f"{self._what}: {length} bytes exceed the limit of {maximum}")
        return self._take(length)

    def text(self, maximum: int) -> str:
        """UTF-8 text after its u32 length, at most `maximum` bytes."""
        try:
            return self.data(maximum).decode()
        except UnicodeDecodeError as error:
            raise Malformed(f"{self._what}: text is not UTF-8") from error

    def count(self, maximum: int) -> int:
        """The u32 count of a list, at most `maximum`."""
        number = self.u32()
        if number > maximum:
            raise Malformed(f"{self._what}: {number} elements exceed the limit of {maximum}")
        return number

    def end(self) -> None:
        """Refuses what follows the last field."""
        left = len(self._raw) - self._at
        if left:
            raise Malformed(f"{self._what}: {left} bytes after the end")

    def _take(self, length: int) -> bytes:
        end = self._at + length
        if end > len(self._raw):
            raise Malformed(f"{self._what}: ends in the middle of a field")
        taken = self._raw[self._at : end]
        self._at = end
        return taken
