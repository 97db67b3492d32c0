"""RLP, canonical only (Ethereum yellow paper, appendix B): there is one encoding of each item.

An item is bytes or a list of items. Refused as Malformed: a length that could be shorter, a single
byte below 0x80 with a prefix, bytes after the end, nesting beyond MAX_DEPTH, and more than
MAX_ITEMS items, so that hostile bytes cost no more than their own size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from relay.errors import Malformed

MAX_DEPTH = 16
MAX_ITEMS = 65_536

Item: TypeAlias = "bytes | list[Item]"
Encodable: TypeAlias = "bytes | Sequence[Encodable]"


def decode(raw: bytes) -> Item:
    """The one item that `raw` is. Raises Malformed."""
    budget = [MAX_ITEMS]
    item, end = _item(raw, 0, len(raw), MAX_DEPTH, budget)
    if end != len(raw):
        raise Malformed("RLP: bytes after the end")
    return item


def encode(item: Encodable) -> bytes:
    """The encoding of an item."""
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < 0x80:
            return item
        return _prefix(len(item), 0x80) + item
    payload = b"".join(encode(one) for one in item)
    return _prefix(len(payload), 0xC0) + payload


def encode_integer(number: int) -> bytes:
    """The bytes of a scalar: big-endian without leading zeros, nothing for zero."""
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def fields(item: Item, what: str) -> list[Item]:
    """The elements of a list. Raises Malformed."""
    if not isinstance(item, list):
        raise Malformed(f"{what}: must be a list")
    return item


def octets(item: Item, what: str, *lengths: int) -> bytes:
    """Bytes, of one of `lengths` where any is given. Raises Malformed."""
    if not isinstance(item, bytes) or (lengths and len(item) not in lengths):
        raise Malformed(f"{what}: must be bytes of the right length")
    return item


def integer(item: Item, what: str, maximum: int) -> int:
    """A scalar without leading zeros. Raises Malformed."""
    data = octets(item, what)
    if len(data) > 32 or data[:1] == b"\0":
        raise Malformed(f"{what}: must be a number without leading zeros")
    number = int.from_bytes(data, "big")
    if number > maximum:
        raise Malformed(f"{what}: exceeds {maximum}")
    return number


def _prefix(length: int, base: int) -> bytes:
    if length < 56:
        return bytes((base + length,))
    size = encode_integer(length)
    return bytes((base + 55 + len(size),)) + size


def _item(raw: bytes, at: int, end: int, depth: int, budget: list[int]) -> tuple[Item, int]:
    budget[0] -= 1
    if at >= end or budget[0] < 0:
        raise Malformed("RLP: ends too early, or holds too many items")
    first = raw[at]
    if first < 0x80:
        return raw[at : at + 1], at + 1
    if first < 0xC0:
        start, stop = _extent(raw, at, end, first - 0x80)
        if stop - start == 1 and raw[start] < 0x80:
            raise Malformed("RLP: a single byte has no prefix")
        return raw[start:stop], stop
    start, stop = _extent(raw, at, end, first - 0xC0)
    if depth <= 1:
        raise Malformed("RLP: nested too deep")
    items: list[Item] = []
    while start < stop:
        item, start = _item(raw, start, stop, depth - 1, budget)
        items.append(item)
    return items, stop


def _extent(raw: bytes, at: int, end: int, tag: int) -> tuple[int, int]:
    """(first byte, byte after the last) of a payload, by the low part of its prefix."""
    start, length = at + 1, tag
    if tag > 55:
        start += tag - 55
        size = raw[at + 1 : start]
        length = int.from_bytes(size, "big")
        if start > end or size[0] == 0 or length < 56:
            raise Malformed("RLP: a length that is not in its shortest form")
    if start + length > end:
        raise Malformed("RLP: ends too early")
    return start, start + length
