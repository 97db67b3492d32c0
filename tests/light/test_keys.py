from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from relay.errors import Invalid, Reason
from relay.keys import SIGNING_ALGORITHMS, SigningKey
from relay.light import keys
from relay.light.keys import ED25519_L, P256_N, SECP256K1_N
from tests.refusals import refused
from tests.vectors_dir import vectors

ORDERS = {"p256": P256_N, "secp256k1": SECP256K1_N}

# RFC 8032 §7.1, tests 1-3: (public key, message, signature).
RFC_8032 = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]


invalid = partial(refused, kind=Invalid)


def reason_of(call: Callable[[], None]) -> Reason | None:
    try:
        call()
    except Invalid as err:
        return err.reason
    return None


def weak(algorithm: str, key: bytes) -> None:
    with pytest.raises(Invalid) as err:
        keys.check_public_key(algorithm, key)
    assert err.value.reason == Reason.WEAK_KEY
    invalid(Reason.WEAK_KEY, keys.verify, algorithm, key, b"message", bytes(64))


@pytest.mark.parametrize(("public", "message", "signature"), RFC_8032)
def test_published_values_of_rfc_8032(public: str, message: str, signature: str) -> None:
    values = [bytes.fromhex(v) for v in (public, message, signature)]
    keys.check_public_key("ed25519", values[0])
    keys.verify("ed25519", *values)
    invalid(
        Reason.INVALID_SIGNATURE, keys.verify, "ed25519", values[0], values[1] + b"x", values[2]
    )


@pytest.mark.parametrize("algorithm", SIGNING_ALGORITHMS)
def test_a_signature_verifies_and_no_changed_one_does(algorithm: str) -> None:
    key = SigningKey.from_seed(bytes(range(32)), algorithm)
    message = b"a body\n"
    signature = key.sign(message)
    assert signature == key.sign(message)
    keys.check_public_key(algorithm, key.public)
    keys.verify(algorithm, key.public, message, signature)
    other = SigningKey.from_seed(bytes(32), algorithm)
    invalid(Reason.INVALID_SIGNATURE, keys.verify, algorithm, other.public, message, signature)
    invalid(Reason.INVALID_SIGNATURE, keys.verify, algorithm, key.public, b"a body", signature)
    for at in range(64):
        changed = bytearray(signature)
        changed[at] ^= 1 << at % 8
        invalid(
            Reason.INVALID_SIGNATURE, keys.verify, algorithm, key.public, message, bytes(changed)
        )
    for length in (signature[:63], signature + b"\0", b""):
        invalid(Reason.INVALID_SIGNATURE, keys.verify, algorithm, key.public, message, length)


def test_ed25519_s_must_be_below_the_group_order() -> None:
    key = SigningKey.from_seed(bytes(32))
    signature = key.sign(b"m")
    s = int.from_bytes(signature[32:], "little") + ED25519_L
    invalid(
        Reason.INVALID_SIGNATURE,
        keys.verify,
        "ed25519",
        key.public,
        b"m",
        signature[:32] + s.to_bytes(32, "little"),
    )


def small_order_points() -> list[bytes]:
    """Every 32-byte encoding of a point of small order, canonical or not."""
    ys = [0, 1, 2**255 - 20, 2**255 - 19, 2**255 - 18]
    points = [y.to_bytes(32, "little") for y in ys]
    points += [
        bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
        bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    ]
    return points + [p[:31] + bytes([p[31] | 0x80]) for p in points]


@pytest.mark.parametrize("point", small_order_points(), ids=lambda p: p.hex()[-4:])
def test_points_of_small_order_are_neither_keys_nor_r(point: bytes) -> None:
    weak("ed25519", point)
    key = SigningKey.from_seed(bytes(32))
    invalid(Reason.INVALID_SIGNATURE, keys.verify, "ed25519", key.public, b"m", point + bytes(32))


def test_ed25519_keys_that_are_not_canonical_or_too_short() -> None:
    for y in range(2**255 - 19, 2**255):
        weak("ed25519", y.to_bytes(32, "little"))
    weak("ed25519", bytes([9] * 31))


def test_a_key_that_is_no_point_verifies_nothing() -> None:
    for first in range(2, 12):
        no_point = bytes([first]) + bytes(31)
        keys.check_public_key("ed25519", no_point)
        signature = SigningKey.from_seed(bytes(32)).sign(b"m")
        invalid(Reason.INVALID_SIGNATURE, keys.verify, "ed25519", no_point, b"m", signature)


@pytest.mark.parametrize("curve", ORDERS)
def test_ecdsa_high_s_and_numbers_out_of_range(curve: str) -> None:
    key = SigningKey.from_seed(bytes(32), curve)
    order = ORDERS[curve]
    signature = key.sign(b"m")
    r, s = signature[:32], int.from_bytes(signature[32:], "big")
    assert s <= order // 2
    number = [n.to_bytes(32, "big") for n in (0, order, order - s, order - 1, 2**256 - 1)]
    for bad in number:
        invalid(Reason.INVALID_SIGNATURE, keys.verify, curve, key.public, b"m", r + bad)
    for bad in (number[0], number[1], number[4]):
        invalid(
            Reason.INVALID_SIGNATURE, keys.verify, curve, key.public, b"m", bad + signature[32:]
        )


@pytest.mark.parametrize("curve", ORDERS)
def test_the_bounds_of_s_are_exact(curve: str) -> None:
    """s is chosen, then the key for which it signs: s = (e + r d) / k, k the nonce."""
    order, nonce, message = ORDERS[curve], 7, b"m"
    kind = {"p256": ec.SECP256R1(), "secp256k1": ec.SECP256K1()}[curve]
    r = ec.derive_private_key(nonce, kind).public_key().public_numbers().x % order
    digest = int.from_bytes(sha256(message).digest(), "big")
    for s, legal in ((1, True), (order // 2, True), (order // 2 + 1, False), (order - 1, False)):
        secret = (s * nonce - digest) * pow(r, -1, order) % order
        public = ec.derive_private_key(secret, kind).public_key()
        key = public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        if legal:
            keys.verify(curve, key, message, signature)
        else:
            invalid(Reason.INVALID_SIGNATURE, keys.verify, curve, key, message, signature)


@pytest.mark.parametrize("curve", ORDERS)
def test_an_ecdsa_signature_has_one_encoding(curve: str) -> None:
    """A zero before s would leave its value as it is."""
    key = SigningKey.from_seed(bytes(32), curve)
    signature = key.sign(b"m")
    keys.verify(curve, key.public, b"m", signature)
    longer = signature[:32] + b"\0" + signature[32:]
    invalid(Reason.INVALID_SIGNATURE, keys.verify, curve, key.public, b"m", longer)


@pytest.mark.parametrize("curve", ORDERS)
def test_ecdsa_keys_have_one_encoding(curve: str) -> None:
    public = SigningKey.from_seed(bytes(32), curve).public
    curve_of = {"p256": ec.SECP256R1(), "secp256k1": ec.SECP256K1()}[curve]
    point = ec.EllipticCurvePublicKey.from_encoded_point(curve_of, public)
    weak(curve, point.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))
    weak(curve, b"\x04" + public[1:])
    weak(curve, b"\x06" + public[1:])
    weak(curve, public[:32])
    weak(curve, public + b"\0")
    weak(curve, b"\x02" + b"\xff" * 32)
    weak(curve, b"\0")
    reasons = [
        reason_of(partial(keys.check_public_key, curve, b"\x02" + x.to_bytes(32, "big")))
        for x in range(1, 50)
    ]
    assert set(reasons) == {None, Reason.WEAK_KEY}, "about half of all x are on no point"


def test_an_algorithm_that_is_not_installed() -> None:
    keys.check_public_key("sm2-of-tomorrow", b"opaque")
    keys.check_public_key("sm2-of-tomorrow", b"k")
    keys.check_public_key("sm2-of-tomorrow", b"k" * keys.MAX_KEY_BYTES)
    for key in (b"", b"k" * (keys.MAX_KEY_BYTES + 1)):
        with pytest.raises(Invalid) as err:
            keys.check_public_key("sm2-of-tomorrow", key)
        assert err.value.reason == Reason.WEAK_KEY
    invalid(Reason.ALGORITHM_NOT_PINNED, keys.verify, "sm2-of-tomorrow", b"opaque", b"m", b"s")


def test_a_name_keeps_its_meaning() -> None:
    known = keys.ALGORITHMS["ed25519"]
    keys.register(known)
    with pytest.raises(RuntimeError):
        keys.register(keys.Algorithm("ed25519", known.check_public_key, known.verify))


def accepted(public: str, message: bytes, signature: str) -> bool:
    parts = bytes.fromhex(public), message, bytes.fromhex(signature)
    reason = reason_of(lambda: keys.verify("ed25519", *parts))
    return {None: True, Reason.WEAK_KEY: False, Reason.INVALID_SIGNATURE: False}[reason]


def test_our_verdicts_on_the_speccheck_cases() -> None:
    """ZIP-215 says T T T T T T F F F T T T; ours is the narrower rule of the module docstring.

    0-2 small-order key or R; 3 mixed order but valid without cofactor; 4-5 valid only with
    cofactor; 6-7 S not below L; 8-9 R not canonical; 10-11 key not canonical.
    """
    cases = json.loads(vectors("ibc", "ed25519", "speccheck_cases.json").read_text())
    verdicts = [accepted(c["pub_key"], bytes.fromhex(c["message"]), c["signature"]) for c in cases]
    assert verdicts == [False, False, False, True] + [False] * 8


def test_everything_that_only_zip_215_accepts_is_refused() -> None:
    cases = json.loads(vectors("ibc", "ed25519", "zip215.json").read_text())
    assert len(cases) == 196
    assert not any(accepted(public, b"Zcash", signature) for public, signature in cases)
