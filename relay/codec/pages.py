"""Page sizes and page tokens (AIP-158): opaque, keyset, and bound to the question they continue.

A token is base64url of version ‖ filter hash ‖ cursor: one byte, eight bytes, the rest. The hash
covers the RPC and its filters, so that a token cannot continue another listing by mistake. It is
no secret and no capability: a forged one only starts at another key of the same listing.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import TypeVar

from google.protobuf.message import Message

from relay.codec.fields import malformed
from relay.light.types import MAX_INT

_T = TypeVar("_T")
_M = TypeVar("_M", bound=Message)

DEFAULT_PAGE = 100
MAX_PAGE = 1000
MAX_PAGE_BYTES = 8 * 1024 * 1024
"""A page ends early rather than grow larger, but for a single item: it must fit into a message."""
MAX_TOKEN = 1024
_VERSION = b"\x01"


def page_size(asked: int) -> int:
    """How many to answer: 0 is the default, more than the most is the most (AIP-158)."""
    if asked < 0:
        raise malformed("page_size", "must not be negative")
    return min(asked or DEFAULT_PAGE, MAX_PAGE)


def filter_hash(rpc: str, *filters: object) -> bytes:
    """Eight bytes that stand for one listing: the RPC and every filter of its request."""
    return sha256(repr((rpc, filters)).encode()).digest()[:8]


def encode_token(listing: bytes, cursor: bytes) -> str:
    """The token that continues a listing after `cursor`."""
    return base64.urlsafe_b64encode(_VERSION + listing + cursor).decode().rstrip("=")


def decode_token(token: str, listing: bytes) -> bytes | None:
    """The cursor in a token of this listing; None for the empty token, which starts it."""
    if not token:
        return None
    if len(token) > MAX_TOKEN:
        raise malformed("page_token", "is not a token of this listing")
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise malformed("page_token", "is not a token of this listing") from None
    if raw[:1] != _VERSION or encode_token(raw[1:9], raw[9:]) != token:
        raise malformed("page_token", "is not a token of this listing")
    if raw[1:9] != listing:
        raise malformed("page_token", "belongs to a listing with other filters")
    return raw[9:]


def cut(
    listing: bytes,
    size: int,
    found: Sequence[_T],
    encode: Callable[[_T], _M],
    cursor: Callable[[_T], bytes],
) -> tuple[list[_M], str]:
    """(messages of one page, token of the next) of what was found for a page of `size`.

    `cursor` gives the key of an item, after which the next page starts.
    """
    messages: list[_M] = []
    total = 0
    for item in found[:size]:
        message = encode(item)
        total += message.ByteSize()
        if messages and total > MAX_PAGE_BYTES:
            break
        messages.append(message)
    if not messages or (len(messages) == len(found) and len(found) < size):
        return messages, ""
    return messages, encode_token(listing, cursor(found[len(messages) - 1]))


def cut_bytes(
    listing: bytes, size: int, found: Sequence[tuple[bytes, bytes]]
) -> tuple[list[bytes], str]:
    """As `cut`, for (key, value) pairs whose values are answered as they are."""
    values: list[bytes] = []
    total = 0
    for _, value in found[:size]:
        total += len(value)
        if values and total > MAX_PAGE_BYTES:
            break
        values.append(value)
    if not values or (len(values) == len(found) and len(found) < size):
        return values, ""
    return values, encode_token(listing, found[len(values) - 1][0])


def encode_number(number: int) -> bytes:
    """A cursor that is one number."""
    return number.to_bytes(8, "big")


def decode_number(cursor: bytes | None, default: int = 0) -> int:
    """The number in a cursor; `default` where there is none."""
    if cursor is None:
        return default
    number = int.from_bytes(cursor, "big")
    if len(cursor) != 8 or number > MAX_INT:
        raise malformed("page_token", "is not a token of this listing")
    return number


def decode_text(cursor: bytes | None) -> str:
    """The text in a cursor; empty where there is none. No key holds a zero, nor can every database
    be asked for one."""
    try:
        text = (cursor or b"").decode()
    except UnicodeDecodeError:
        raise malformed("page_token", "is not a token of this listing") from None
    if "\0" in text:
        raise malformed("page_token", "is not a token of this listing")
    return text
