"""Our JSON: RFC 8785, and nothing that two parsers could read differently.

What is hashed or signed has exactly one encoding, so the rules are narrower than JSON's:

- values are objects, arrays, strings, booleans, null and integers between -(2^53-1) and 2^53-1
  (RFC 8785 §3.2.2.3 takes numbers for IEEE doubles; we have no use for fractions, and a float would
  make two nodes disagree);
- UTF-8 without a byte order mark and without lone surrogates; no duplicate keys; nothing before or
  after the value; at most MAX_DEPTH levels and `limit` bytes.

`decode` reads and then writes again: bytes that differ from what we would have written are refused
as NOT_CANONICAL. `parse` is for files that people write (a policy, a trust file): the same values,
but blanks and any order of keys are allowed.

The fast path is the C encoder of `json`, whose output for these values equals RFC 8785 wherever
code point order equals UTF-16 order, that is wherever no character lies beyond U+FFFF; the package
`rfc8785` takes the rest. A test holds the two equal.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, NoReturn

import rfc8785

from relay.errors import Malformed, Reason
from relay.nesting import nests_deeper

Json = dict[str, "Json"] | list["Json"] | str | int | bool | None
"""What a decoded value can be."""

MAX_BYTES = 1024 * 1024
"""Default limit of one document."""
MAX_DEPTH = 32
_PARSED_DEPTH = 4 * MAX_DEPTH
"""What the parser, which recurses, is given at most. Most documents have fewer brackets in all, so
that theirs need not be matched; MAX_DEPTH is held afterwards, on the value."""
MAX_INTEGER = 2**53 - 1

_ENCODER = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, allow_nan=False, sort_keys=True, separators=(",", ":")
)


_KEYS = frozenset((str,))


def _refuse_number(text: str) -> NoReturn:
    raise Malformed("numbers in our JSON are integers; fractions, exponents and NaN are refused")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        # One pass: a stranger chooses how many keys there are.
        twice = next(k for k, times in Counter(k for k, _ in pairs).items() if times > 1)
        raise Malformed("an object holds the same key twice", key=twice)
    return value


_READER = json.JSONDecoder(parse_float=_refuse_number, parse_constant=_refuse_number)
_STRICT_READER = json.JSONDecoder(
    parse_float=_refuse_number, parse_constant=_refuse_number, object_pairs_hook=_pairs
)


def _check(value: object) -> None:
    """Raises Malformed unless `value` is made of our types, bounded in depth and in integers."""
    level: list[Any] = [value]
    depth = 0
    while level:
        below: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is str or kind is bool or item is None:
                continue
            if kind is int:
                if not -MAX_INTEGER <= item <= MAX_INTEGER:
                    raise Malformed("an integer lies outside -(2^53-1) to 2^53-1")
                continue
            if kind is not list and kind is not dict:
                raise Malformed("not a value of our JSON", type=kind.__name__)
            if depth == MAX_DEPTH:
                raise _too_deep()
            if kind is dict and not _KEYS.issuperset(map(type, item)):
                raise Malformed("an object's keys must be strings")
            below += item if kind is list else item.values()
        level, depth = below, depth + 1


def _too_deep() -> Malformed:
    return Malformed("nested too deeply", reason=Reason.LIMIT_EXCEEDED, levels=MAX_DEPTH)


def _write(value: Json) -> bytes:
    text = _ENCODER.encode(value)
    try:
        if text.isascii() or max(text) <= "\uffff":
            return text.encode()
        return rfc8785.dumps(value)
    except (UnicodeEncodeError, rfc8785.CanonicalizationError) as error:
        raise Malformed("a string holds a lone surrogate") from error


def encode(value: Json) -> bytes:
    """The RFC 8785 bytes of `value`. Raises Malformed where it is not a value of our JSON."""
    _check(value)
    return _write(value)


def _text(raw: bytes, limit: int) -> str:
    if len(raw) > limit:
        raise Malformed("too long", reason=Reason.LIMIT_EXCEEDED, bytes=len(raw), limit=limit)
    if raw.startswith(b"\xef\xbb\xbf"):
        raise Malformed("a byte order mark is not allowed", hint="save the file as plain UTF-8")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise Malformed("not UTF-8", offset=error.start) from error


def _read(text: str, reader: json.JSONDecoder) -> Json:
    if nests_deeper(text, _PARSED_DEPTH):
        raise _too_deep()
    try:
        value: Json = reader.decode(text)
    except json.JSONDecodeError as error:
        raise Malformed(f"not JSON: {error.msg}", offset=error.pos) from error
    except ValueError as error:  # the interpreter's own limit on the digits of an integer
        raise Malformed("an integer lies outside -(2^53-1) to 2^53-1") from error
    _check(value)
    return value


def parse(raw: bytes, limit: int = MAX_BYTES) -> Json:
    """The value in `raw`, in any layout. For files that people write.

    Raises Malformed: MALFORMED, or LIMIT_EXCEEDED where it is too long or too deep.
    """
    return _read(_text(raw, limit), _STRICT_READER)


def decode(raw: bytes, limit: int = MAX_BYTES) -> Json:
    """The value in `raw`, which must be its one encoding; `encode(decode(raw)) == raw`.

    Raises Malformed: MALFORMED, LIMIT_EXCEEDED, or NOT_CANONICAL where the value could be read but
    is written in another way.
    """
    text = _text(raw, limit)
    value = _read(text, _READER)
    if _write(value) != raw:
        _read(text, _STRICT_READER)  # names a duplicate key, the likeliest cause, as what it is
        raise Malformed(
            "not the canonical encoding",
            reason=Reason.NOT_CANONICAL,
            hint="encode by RFC 8785: keys sorted, no blanks, shortest escapes",
        )
    return value
