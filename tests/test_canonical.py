"""RFC 8785 and nothing else: the package rfc8785 is the oracle, hostile bytes are Malformed."""

from __future__ import annotations

import contextlib
import json

import pytest
import rfc8785
from hypothesis import example, given, settings
from hypothesis import strategies as st

from relay.canonical import MAX_DEPTH, MAX_INTEGER, Json, _pairs, decode, encode, parse
from relay.errors import Malformed, Reason
from tests.refusals import refusing

integers = st.integers(-MAX_INTEGER, MAX_INTEGER)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | integers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(values)
@example({"\ue000": 1, "\U00010000": 2})  # code point order differs from UTF-16 order
@example({'\u0000\u001f\u007f\u2028"\\/\b\f\n\r\t€': '\u0000\u001f\u007f\u2028"\\/\b\f\n\r\t€'})
def test_encodes_as_the_published_package(value: Json) -> None:
    assert encode(value) == rfc8785.dumps(value)


@settings(max_examples=60, deadline=None)
@given(values)
def test_round_trip(value: Json) -> None:
    raw = encode(value)
    assert decode(raw) == value
    assert encode(decode(raw)) == raw
    assert parse(json.dumps(value, indent=1).encode()) == value


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=64))
def test_any_bytes_are_a_value_or_malformed(raw: bytes) -> None:
    try:
        value = decode(raw)
    except Malformed:
        return
    assert encode(value) == raw


@settings(max_examples=60, deadline=None)
@given(values, st.data())
def test_any_changed_byte_is_another_value_or_malformed(value: Json, data: st.DataObject) -> None:
    raw = bytearray(encode(value))
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(Malformed):
        assert decode(bytes(raw)) != value


def test_rfc_8785_key_order() -> None:
    """The example of RFC 8785 §3.2.3, without its fractions."""
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    raw = encode(dict.fromkeys(keys, 0))
    found = list(json.loads(raw))
    assert found == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", Reason.MALFORMED),
        (b"\xef\xbb\xbf{}", Reason.MALFORMED),
        (b'{"a":1,"a":1}', Reason.MALFORMED),
        (b'{"a":{"b":1,"b":2}}', Reason.MALFORMED),
        (b"1.0", Reason.MALFORMED),
        (b"1e3", Reason.MALFORMED),
        (b"NaN", Reason.MALFORMED),
        (b"-Infinity", Reason.MALFORMED),
        (b"9007199254740992", Reason.MALFORMED),
        (b"-9007199254740992", Reason.MALFORMED),
        (b"9" * 5000, Reason.MALFORMED),
        (b"{}{}", Reason.MALFORMED),
        (b"[1,]", Reason.MALFORMED),
        (b"\xff", Reason.MALFORMED),
        (b'"\\ud800"', Reason.MALFORMED),
        (b"{} ", Reason.NOT_CANONICAL),
        (b" {}", Reason.NOT_CANONICAL),
        (b'{"b":1,"a":1}', Reason.NOT_CANONICAL),
        (b'"\\u0041"', Reason.NOT_CANONICAL),
        (b'"\\/"', Reason.NOT_CANONICAL),
        (b"-0", Reason.NOT_CANONICAL),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), Reason.LIMIT_EXCEEDED),
        (b"[" * 100_000, Reason.LIMIT_EXCEEDED),
        (b'{"a":' * 100_000, Reason.LIMIT_EXCEEDED),
    ],
)
def test_refused(raw: bytes, reason: Reason) -> None:
    with pytest.raises(Malformed) as err:
        decode(raw)
    assert err.value.reason is reason


def test_a_byte_order_mark_is_named_as_what_it_is() -> None:
    with pytest.raises(Malformed) as err:
        decode(b"\xef\xbb\xbf{}")
    assert "byte order mark" in err.value.detail
    assert err.value.hint


def test_depth_boundary() -> None:
    raw = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert encode(decode(raw)) == raw


def test_length_limit() -> None:
    assert decode(b'"12345"', limit=7) == "12345"
    with pytest.raises(Malformed) as err:
        decode(b'"123456"', limit=7)
    assert err.value.reason is Reason.LIMIT_EXCEEDED


@pytest.mark.parametrize(
    "value", [1.0, float("nan"), 2**53, -(2**53), {1: 2}, (1,), b"x", {"a": {2}}, "\ud800"]
)
def test_what_is_not_ours_is_not_encoded(value: object) -> None:
    with refusing(Reason.MALFORMED):
        encode(value)  # type: ignore[arg-type]


def test_parse_takes_any_layout_but_no_ambiguity() -> None:
    assert parse(b' {"b" : 1,\n "a": [ ] } ') == {"b": 1, "a": []}
    for raw in (b'{"a":1,"a":2}', b"\xef\xbb\xbf{}", b"1.5", b"{} x"):
        with pytest.raises(Malformed) as err:
            parse(raw)
        assert err.value.reason is Reason.MALFORMED


def test_a_key_that_stands_twice_is_found_in_one_pass() -> None:
    """A quarter of a mebibyte of keys, the last of them twice, took twenty seconds."""
    compared = 0

    class Key(str):
        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    names = [*range(2000), 1999]
    with refusing(Reason.MALFORMED, said="the same key twice"):
        _pairs([(Key(name), 0) for name in names])
    assert compared < 10 * len(names)
