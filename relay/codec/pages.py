"""Page sizes and page tokens (AIP-158): opaque, keyset, and bound to the question they continue.

A token is base64url of version ‖ filter hash ‖ cursor: one byte, eight bytes, the rest. The hash
covers the RPC and its filters, so that a token cannot continue another listing by mistake. It is
no secret and no capability: a forged one only starts at another key of the same listing.
"""

from __future__ import annotations

import base64
import binascii
from hashlib import sha256

from relay.codec.fields import malformed
from relay.light.types import MAX_INT

DEFAULT_PAGE = 100
MAX_PAGE = 1000
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
    """The text in a cursor; empty where there is none."""
    try:
        return (cursor or b"").decode()
    except UnicodeDecodeError:
        raise malformed("page_token", "is not a token of this listing") from None
