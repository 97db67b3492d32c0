from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Invalid, Malformed, Reason
from relay.light.checkpoint import (
    CheckpointBody,
    chain_name,
    cosign_body,
    encode_body,
    make_origin,
    parse_body,
    sign_body,
    split_origin,
    verify_cosignature,
)
from relay.light.types import MAX_INT
from tests.light.ledger import key, witness

BODY = CheckpointBody("zj-medical/0", 5, b"r" * 32, 1_760_000_000, b"s" * 32, b"n" * 32)
ENCODED = b"""zj-medical/0
5
cnJycnJycnJycnJycnJycnJycnJycnJycnJycnJycnI=
time 1760000000
set c3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3M=
next bm5ubm5ubm5ubm5ubm5ubm5ubm5ubm5ubm5ubm5ubm4=
"""

hashes = st.binary(min_size=32, max_size=32)
numbers = st.integers(0, MAX_INT)


def malformed(raw: bytes) -> None:
    with pytest.raises(Malformed) as err:
        parse_body(raw)
    assert err.value.reason == Reason.MALFORMED


def test_the_exact_bytes() -> None:
    assert encode_body(BODY) == ENCODED
    assert parse_body(ENCODED) == BODY


@given(st.builds(CheckpointBody, st.just("a/1"), numbers, hashes, numbers, hashes, hashes))
def test_bodies_round_trip(body: CheckpointBody) -> None:
    assert parse_body(encode_body(body)) == body


@given(st.binary(max_size=200), st.integers(0, len(ENCODED)))
def test_any_bytes_are_a_body_or_malformed(raw: bytes, at: int) -> None:
    for candidate in (raw, ENCODED[:at] + raw, ENCODED[:at] + raw + ENCODED[at + len(raw) :]):
        try:
            body = parse_body(candidate)
        except Malformed:
            continue
        assert encode_body(body) == candidate


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\n5\n", b"\n05\n"),
        (b"\n5\n", b"\n+5\n"),
        (b"\n5\n", b"\n5 \n"),
        (b"\n5\n", b"\n5_0\n"),
        (b"\n5\n", b"\n\n"),
        (b"\n5\n", b"\n9223372036854775808\n"),
        (b"\n5\n", b"\n" + b"9" * 5000 + b"\n"),
        (b"\n5\n", "\n٥\n".encode()),
        (b"\n5\n", b"\r\n5\r\n"),
        (b"time ", b"time  "),
        (b"time ", b"Time "),
        (b"time 1760000000", b"time 01760000000"),
        (b"time 1760000000", b"time 1760000000.0"),
        (b"time 1760000000\n", b""),
        (b"set ", b"next "),
        (b"cnJy", b"cnJ\n"),
        (b"cnI=", b"cnJ="),
        (b"cnI=", b"cnI"),
        (b"cnI=", b"cnJyco=="),
        (b"zj-medical/0", b"zj-medical"),
        (b"zj-medical/0", b"zj-medical/00"),
        (b"zj-medical/0", b"zj-medical/-1"),
        (b"zj-medical/0", b"/0"),
        (b"zj-medical/0", b"0"),
        (b"zj-medical/0", b"zj medical/0"),
        (b"zj-medical/0", b"zj+medical/0"),
        (b"zj-medical/0", b"zj-medical/2147483648"),
        (b"zj-medical/0", b"a" * 65 + b"/0"),
        (b"bm4=\n", b"bm4=\nmore\n"),
        (b"bm4=\n", b"bm4="),
        (b"bm4=\n", b"bm4=\n\n"),
    ],
)
def test_a_body_in_any_other_form_is_malformed(old: bytes, new: bytes) -> None:
    assert old in ENCODED
    malformed(ENCODED.replace(old, new, 1))


def test_lines_in_another_order_are_malformed() -> None:
    lines = ENCODED.splitlines(keepends=True)
    malformed(b"".join([*lines[:4], lines[5], lines[4]]))
    malformed(b"".join([lines[1], lines[0], *lines[2:]]))


def test_nothing_is_written_that_could_not_be_read() -> None:
    for body in (
        replace(BODY, origin="zj"),
        replace(BODY, size=-1),
        replace(BODY, size=MAX_INT + 1),
        replace(BODY, time=-1),
        replace(BODY, time=MAX_INT + 1),
        replace(BODY, root=b"short"),
        replace(BODY, set_hash=b""),
        replace(BODY, next_set_hash=bytes(33)),
    ):
        with pytest.raises(Malformed) as err:
            encode_body(body)
        assert err.value.reason == Reason.MALFORMED


def test_the_greatest_of_each_number_is_legal() -> None:
    body = replace(BODY, origin="!" * 63 + "~/2147483647", size=MAX_INT, time=MAX_INT)
    assert parse_body(encode_body(body)) == body


@pytest.mark.parametrize(
    ("chain_id", "name"),
    [
        ("zj-medical/0", "zj-medical"),
        ("gateway.example/ledger/12", "gateway.example/ledger"),
        ("cosmoshub-4", "cosmoshub-4"),
        ("1", "1"),
        ("gateway.example/ledger", "gateway.example/ledger"),
        ("zj-medical/", "zj-medical/"),
        ("zj-medical/²", "zj-medical/²"),
    ],
)
def test_the_name_of_a_chain_is_what_stands_before_its_epoch(chain_id: str, name: str) -> None:
    assert chain_name(chain_id) == name


def test_origins() -> None:
    assert make_origin("zj-medical") == "zj-medical/0"
    for other in ("zj-medical", "zj-medical/٥", "zj-medical/05", "5"):
        with pytest.raises(Malformed) as no_origin:
            split_origin(other)
        assert no_origin.value.reason == Reason.MALFORMED
    assert split_origin("gateway.example/ledger/12") == ("gateway.example/ledger", 12)
    for chain_id, epoch in (("", 0), ("a" * 65, 0), ("a b", 0), ("é", 0), ("a", -1), ("a", 2**31)):
        with pytest.raises(Malformed) as err:
            make_origin(chain_id, epoch)
        assert err.value.reason == Reason.MALFORMED


@pytest.mark.parametrize("algorithm", ["p256", "secp256k1"])
def test_ecdsa_lines_are_over_the_sha256_of_the_body(algorithm: str) -> None:
    """What `ecrecover(sha256(body), v, r, s)` sees on an EVM chain: one digest, no prefix."""
    signer = key("v", algorithm)
    curve = {"p256": ec.SECP256R1(), "secp256k1": ec.SECP256K1()}[algorithm]
    public = ec.EllipticCurvePublicKey.from_encoded_point(curve, signer.public)
    for line in (sign_body("v", signer, ENCODED), cosign_body("v", signer, ENCODED, 99)):
        r, s = int.from_bytes(line.value[:32], "big"), int.from_bytes(line.value[32:], "big")
        digest = sha256(ENCODED).digest()
        public.verify(encode_dss_signature(r, s), digest, ec.ECDSA(Prehashed(SHA256())))
        assert len(line.value) == 64
    one, other = sign_body("v", signer, ENCODED), cosign_body("v", signer, ENCODED, 99)
    assert one.value == other.value
    assert one.key_id != other.key_id


def test_an_ed25519_cosignature_carries_its_time() -> None:
    line = cosign_body("w", key("w"), ENCODED, 1_760_000_001)
    assert line.value[:8] == (1_760_000_001).to_bytes(8, "big")
    assert len(line.value) == 72


@pytest.mark.parametrize(("algorithm", "time"), [("ed25519", 1_760_000_001), ("secp256k1", 0)])
def test_what_a_witness_signed_is_read_with_its_time(algorithm: str, time: int) -> None:
    line = cosign_body("w", key("w", algorithm), ENCODED, 1_760_000_001)
    assert verify_cosignature(witness("w", algorithm), ENCODED, line.value) == time
    for by, body in ((witness("x", algorithm), ENCODED), (witness("w", algorithm), ENCODED[1:])):
        with pytest.raises(Invalid) as err:
            verify_cosignature(by, body, line.value)
        assert err.value.reason == Reason.INVALID_SIGNATURE
