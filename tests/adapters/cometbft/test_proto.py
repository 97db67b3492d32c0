"""The protobuf wire format by itself: each rule where nothing else would cover for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.cometbft.light import proto
from adapters.cometbft.light.proto import Fields, read_varint
from relay.errors import Malformed, Reason
from tests.refusals import refusing


@given(st.integers(-(2**63), 2**64 - 1))
def test_varints_round_trip(number: int) -> None:
    raw = proto.varint(number)
    assert read_varint(raw, 0, "x") == (number % 2**64, len(raw))
    assert len(raw) <= 10


@pytest.mark.parametrize("number", [-(2**63) - 1, 2**64])
def test_numbers_that_are_too_large(number: int) -> None:
    with pytest.raises(Malformed, match="64 bits"):
        proto.varint(number)
    with pytest.raises(Malformed, match="64 bits"):
        proto.sfixed64(1, 2**63)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x80",
        b"\x80\x00",
        b"\xff\x80\x00",
        b"\xff" * 9 + b"\x02",
        b"\xff" * 9 + b"\x7f",
        b"\xff" * 10 + b"\x01",
        b"\x80" * 10 + b"\x01",
    ],
)
def test_varints_that_are_none(raw: bytes) -> None:
    with refusing(Reason.MALFORMED):
        read_varint(raw, 0, "x")


def test_zero_is_one_byte() -> None:
    assert read_varint(b"\x00", 0, "x") == (0, 1)
    assert read_varint(b"\xff" * 9 + b"\x01", 0, "x") == (2**64 - 1, 10)


def test_signs() -> None:
    fields = Fields(proto.integer(1, -5) + proto.integer(2, 2**64 - 5), "x")
    assert (fields.integer(1), fields.integer(2, signed=False)) == (-5, 2**64 - 5)


@pytest.mark.parametrize("kind", [1, 3, 4, 5, 6, 7])
def test_other_wire_types(kind: int) -> None:
    with pytest.raises(Malformed, match="wire type"):
        Fields(bytes([8 | kind]) + bytes(9), "x")


def test_fields_that_are_cut_off_missing_or_twice() -> None:
    with pytest.raises(Malformed, match="in the middle"):
        Fields(b"\x0a\x05abc", "x")
    with pytest.raises(Malformed, match="missing"):
        Fields(b"", "x").message(1)
    assert Fields(b"\x0a\x00", "x").message(1) == b""
    for read in (Fields.data, Fields.optional, Fields.message):
        with pytest.raises(Malformed, match="twice"):
            read(Fields(b"\x0a\x01a\x0a\x01b", "x"), 1)
    with pytest.raises(Malformed, match="twice"):
        Fields(b"\x08\x01\x08\x01", "x").integer(1)
    assert Fields(b"\x0a\x01a\x0a\x01b", "x").messages(1) == [b"a", b"b"]
    with pytest.raises(Malformed, match="UTF-8"):
        Fields(b"\x0a\x01\xff", "x").text(1)


def test_a_message_has_a_limit_of_fields() -> None:
    one = b"\x0a\x00"
    Fields(one * proto.MAX_FIELDS, "x")
    with pytest.raises(Malformed, match="fields"):
        Fields(one * (proto.MAX_FIELDS + 1), "x")


def test_one_encoding() -> None:
    proto.check_encoding(b"a", b"a", "x")
    with pytest.raises(Malformed, match="one encoding"):
        proto.check_encoding(b"a", b"b", "x")
