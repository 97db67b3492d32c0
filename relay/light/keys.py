"""Signature algorithms: one written rule each, checked here before any library sees the bytes.

Libraries differ on corner cases of every scheme (encodings that are not canonical, points of small
order, malleable signatures). Two nodes on different libraries would then disagree about a header,
which for a ledger is a fork. So the rules below are narrower than any library's, and what passes
them is judged alike by all that we know of; pyca/cryptography does the arithmetic.

`ed25519` (RFC 8032, cofactorless, as OpenSSL and libsodium verify)
    * public key A: 32 bytes; y below 2^255 - 19; not one of the eight points of small order. A key
      that is no point of the curve passes `check_public_key` and verifies nothing.
    * signature: 64 bytes R ‖ S; S below the group order L; R with y below 2^255 - 19 and not of
      small order.
    * [S]B = R + [k]A without multiplying by the cofactor; R is compared as bytes.
    ZIP-215, which CometBFT uses, accepts more; it is another algorithm, and never this one.

`p256`, `secp256k1` (ECDSA over SHA-256 of the message)
    * public key: 33 bytes, compressed SEC 1 (0x02 or 0x03, then x below p, on the curve).
    * signature: 64 bytes r ‖ s, big-endian; 1 <= r < n and 1 <= s <= (n - 1) / 2 (low s, so that
      nobody can turn one signature into a second).

The registry is open: `register` adds an algorithm (SM2 by a package of its own, a counting one by
tests). Names are stored in client states, so a name is never given another meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from relay.errors import Invalid, Reason

MAX_KEY_BYTES = 256
MAX_SIGNATURE_BYTES = 256

ED25519_L = 2**252 + 27742317777372353535851937790883648493
_P25519 = 2**255 - 19
_Y_MASK = 2**255 - 1
_SMALL_ORDER_Y = frozenset(
    {
        0,
        1,
        _P25519 - 1,
        int.from_bytes(
            bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
            "little",
        ),
        int.from_bytes(
            bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
            "little",
        ),
    }
)
"""The y of the eight points of order 1, 2, 4 and 8; both signs of x are refused."""

P256_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
SECP256K1_N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One signature scheme under one written rule."""

    name: str
    """1-32 characters of a-z, 0-9 and hyphen."""
    check_public_key: Callable[[bytes], None]
    """Raises Invalid(WEAK_KEY) for a key that may not be pinned or registered."""
    verify: Callable[[bytes, bytes, bytes], None]
    """(public key, message, signature); raises Invalid(INVALID_SIGNATURE) or Invalid(WEAK_KEY)."""


ALGORITHMS: dict[str, Algorithm] = {}
"""Registered algorithms by name; change it through `register` only."""


def register(algorithm: Algorithm) -> None:
    """Adds an algorithm. A name that is taken by another one is a programmer's error."""
    if ALGORITHMS.setdefault(algorithm.name, algorithm) is not algorithm:
        raise RuntimeError(f"signature algorithm {algorithm.name} is registered already")


def check_public_key(algorithm: str, key: bytes) -> None:
    """Raises Invalid(WEAK_KEY) unless `key` may be pinned under the rule of `algorithm`.

    Keys of an algorithm that is not registered here pass as opaque bytes: a set may hold keys for
    verifiers that know more algorithms, and such a key is never counted here.
    """
    known = ALGORITHMS.get(algorithm)
    if known is not None:
        known.check_public_key(key)
    elif not 1 <= len(key) <= MAX_KEY_BYTES:
        raise Invalid(Reason.WEAK_KEY, f"a public key holds 1 to {MAX_KEY_BYTES} bytes")


def verify(algorithm: str, key: bytes, message: bytes, signature: bytes) -> None:
    """Raises unless `signature` over `message` is valid under the written rule of `algorithm`.

    Invalid(ALGORITHM_NOT_PINNED) where it is not registered, else WEAK_KEY or INVALID_SIGNATURE.
    """
    known = ALGORITHMS.get(algorithm)
    if known is None:
        raise Invalid(
            Reason.ALGORITHM_NOT_PINNED,
            f"no signature algorithm {algorithm[:32]!r} is installed",
            hint="install the package that supplies it",
        )
    known.verify(key, message, signature)


def _bad_signature(algorithm: str, why: str) -> Invalid:
    return Invalid(Reason.INVALID_SIGNATURE, f"{algorithm} signature {why}", algorithm=algorithm)


def _check_ed25519_key(key: bytes) -> None:
    if len(key) != 32:
        raise Invalid(Reason.WEAK_KEY, "an ed25519 public key is 32 bytes long")
    y = int.from_bytes(key, "little") & _Y_MASK
    if y >= _P25519:
        raise Invalid(Reason.WEAK_KEY, "ed25519 public key is not canonical")
    if y in _SMALL_ORDER_Y:
        raise Invalid(Reason.WEAK_KEY, "ed25519 public key has small order: anyone can sign for it")


def _verify_ed25519(key: bytes, message: bytes, signature: bytes) -> None:
    _check_ed25519_key(key)
    if len(signature) != 64:
        raise _bad_signature("ed25519", "is not 64 bytes long")
    if int.from_bytes(signature[32:], "little") >= ED25519_L:
        raise _bad_signature("ed25519", "has S not below the group order")
    y = int.from_bytes(signature[:32], "little") & _Y_MASK
    if y >= _P25519 or y in _SMALL_ORDER_Y:
        raise _bad_signature("ed25519", "has R not canonical or of small order")
    try:
        _load_ed25519(key).verify(signature, message)
    except InvalidSignature as error:
        raise _bad_signature("ed25519", "does not verify") from error


@lru_cache(maxsize=1024)
def _load_ed25519(key: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(key)


@lru_cache(maxsize=1024)
def _load_ec(curve: str, key: bytes) -> ec.EllipticCurvePublicKey:
    if len(key) != 33 or key[0] not in (2, 3):
        raise Invalid(Reason.WEAK_KEY, f"a {curve} public key is 33 bytes, compressed")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[curve][0], key)
    except ValueError as error:
        raise Invalid(Reason.WEAK_KEY, f"{curve} public key is not a point of the curve") from error


_CURVES: dict[str, tuple[ec.EllipticCurve, int]] = {
    "p256": (ec.SECP256R1(), P256_N),
    "secp256k1": (ec.SECP256K1(), SECP256K1_N),
}


def _ecdsa(curve: str) -> Algorithm:
    order = _CURVES[curve][1]
    digest = ec.ECDSA(SHA256())

    def check(key: bytes) -> None:
        _load_ec(curve, key)

    def verify_signature(key: bytes, message: bytes, signature: bytes) -> None:
        public = _load_ec(curve, key)
        if len(signature) != 64:
            raise _bad_signature(curve, "is not 64 bytes long")
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        if not 1 <= r < order or not 1 <= s <= order // 2:
            raise _bad_signature(curve, "has r or s out of range, or a high s")
        try:
            public.verify(encode_dss_signature(r, s), message, digest)
        except InvalidSignature as error:
            raise _bad_signature(curve, "does not verify") from error

    return Algorithm(curve, check, verify_signature)


register(Algorithm("ed25519", _check_ed25519_key, _verify_ed25519))
register(_ecdsa("p256"))
register(_ecdsa("secp256k1"))
