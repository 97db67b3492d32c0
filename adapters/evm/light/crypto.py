"""Keccak-256 and seals: the compiled libraries, each under one written rule.

Keccak by `safe-pysha3` (the reference C code behind hashlib's interface; seven times as fast as
pycryptodome on what a trie proof hashes), recovery by `coincurve` (libsecp256k1). Both come with
the extra `lianqiao[evm]`; without them this type of client is not installed, and says so.

A seal (`qbft-seal`, `ibft2-seal`, `ibft1-seal`; three names, so that a client that pins one counts
no other) is secp256k1 over a 32-byte digest, without prefix or second hash:

    * public key: the 20 bytes of an address, not all zero;
    * signature: 65 bytes r ‖ s ‖ v with v 0 or 1, 1 <= r < n and 1 <= s <= (n - 1) / 2. Seals lie
      under no hash, so whoever presents one with a high s turns it (s to n - s, v to 1 - v);
    * the key that is recovered has the address: last 20 bytes of Keccak-256 of its 64 bytes.
"""

from __future__ import annotations

from typing import cast

from relay.errors import Invalid, NotFound, Reason
from relay.light import keys
from relay.light.keys import SECP256K1_N, Algorithm

try:
    import coincurve
    import sha3
except ImportError as missing:
    raise NotFound(
        Reason.CLIENT_TYPE_UNKNOWN,
        f"client type 'evm' needs the package {missing.name!r}, which is not installed",
        hint="pip install 'lianqiao[evm]', or '.[evm]' in a clone",
        client_type="evm",
    ) from missing

ADDRESS_BYTES = 20
SEAL_BYTES = 65
EMPTY_HASH = bytes.fromhex("c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470")
"""Keccak-256 of nothing: the code hash of an account without code."""


def keccak(data: bytes) -> bytes:
    """Keccak-256 as Ethereum uses it (not SHA3-256)."""
    return cast(bytes, sha3.keccak_256(data).digest())


def recover(digest: bytes, seal: bytes) -> bytes:
    """The address whose key sealed `digest`. Raises Invalid(INVALID_SIGNATURE)."""
    if len(seal) != SEAL_BYTES or len(digest) != 32:
        raise _bad("is not 65 bytes over a digest of 32")
    r, s, v = int.from_bytes(seal[:32], "big"), int.from_bytes(seal[32:64], "big"), seal[64]
    if not 1 <= r < SECP256K1_N or not 1 <= s <= SECP256K1_N // 2 or v > 1:
        raise _bad("has r, s or v out of range, or a high s")
    try:
        key = coincurve.PublicKey.from_signature_and_message(seal, digest, hasher=None)
    except Exception as error:  # the library names no type for a point that does not exist
        raise _bad("recovers to no key") from error
    return address_of(key.format(compressed=False))


def address_of(uncompressed: bytes) -> bytes:
    """The address of a public key of 65 bytes (0x04 ‖ x ‖ y)."""
    return keccak(uncompressed[1:])[-ADDRESS_BYTES:]


def low_s(seal: bytes) -> bytes:
    """The same seal with a low s; whatever is no seal is returned as it is."""
    s = int.from_bytes(seal[32:64], "big")
    if len(seal) != SEAL_BYTES or not SECP256K1_N // 2 < s < SECP256K1_N or seal[64] > 1:
        return seal
    return seal[:32] + (SECP256K1_N - s).to_bytes(32, "big") + bytes((1 - seal[64],))


def _bad(why: str) -> Invalid:
    return Invalid(Reason.INVALID_SIGNATURE, f"seal {why}")


def _check_address(key: bytes) -> None:
    if len(key) != ADDRESS_BYTES or not any(key):
        raise Invalid(Reason.WEAK_KEY, "a validator's key is an address of 20 bytes, not zero")


def _verify_seal(key: bytes, message: bytes, signature: bytes) -> None:
    _check_address(key)
    if recover(message, signature) != key:
        raise _bad("is by another key than the validator's")


for _name in ("qbft-seal", "ibft2-seal", "ibft1-seal"):
    keys.register(Algorithm(_name, _check_address, _verify_seal))
