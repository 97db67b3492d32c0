"""Packets, acknowledgements and claims as bytes: one encoding of each, and nothing else is read."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Malformed, Reason
from relay.light.types import Claim
from relay.packet import MAX_PAYLOADS, Packet
from relay.packet_bytes import (
    MAX_CLAIMS,
    decode_acknowledgements,
    decode_claims,
    decode_packet,
    encode_acknowledgements,
    encode_claims,
    encode_packet,
)
from tests.test_packet import PACKET, packets

values = st.one_of(st.none(), st.binary(max_size=20))
claims = st.lists(st.builds(Claim, st.binary(max_size=20), values), max_size=3)


def count(number: int) -> bytes:
    return number.to_bytes(4, "big")


@given(packets, st.lists(st.binary(max_size=20), max_size=3), claims)
def test_what_is_written_is_read(
    packet: Packet, acknowledgements: list[bytes], claimed: list[Claim]
) -> None:
    assert decode_packet(encode_packet(packet)) == packet
    assert decode_acknowledgements(encode_acknowledgements(acknowledgements)) == tuple(
        acknowledgements
    )
    assert decode_claims(encode_claims(claimed)) == tuple(claimed)


def test_nothing_is_written_as_nothing() -> None:
    assert encode_acknowledgements([]) == encode_claims([]) == b""
    assert decode_acknowledgements(b"") == decode_claims(b"") == ()


@pytest.mark.parametrize(
    ("read", "raw"),
    [
        (decode_packet, encode_packet(PACKET) + b"\0"),
        (decode_packet, encode_packet(PACKET)[:-1]),
        (decode_acknowledgements, encode_acknowledgements([b"a"]) + b"\0"),
        (decode_acknowledgements, encode_acknowledgements([b"a"])[:-1]),
        (decode_acknowledgements, count(0)),
        (decode_acknowledgements, count(MAX_PAYLOADS + 1) + count(0) * (MAX_PAYLOADS + 1)),
        (decode_claims, encode_claims([Claim(b"a", b"b")]) + b"\0"),
        (decode_claims, encode_claims([Claim(b"a", b"b")])[:-1]),
        (decode_claims, count(0)),
        (decode_claims, count(MAX_CLAIMS + 1)),
        (decode_claims, count(1) + count(1) + b"a" + b"\x00" + count(1) + b"b"),  # absent, of value
        (decode_claims, count(1) + count(1) + b"a" + b"\x02" + count(1) + b"b"),
    ],
)
def test_anything_else_is_malformed(read: Callable[[bytes], object], raw: bytes) -> None:
    with pytest.raises(Malformed) as err:
        read(raw)
    assert err.value.reason == Reason.MALFORMED
