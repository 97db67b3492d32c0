"""Validator sets as CometBFT names them, and the keys that may stand in one.

    leaf     SimpleValidator{1: PublicKey{1 ed25519 | 2 secp256k1}, 2: power}
    hash     RFC 6962 root over the leaves, by power descending, then by address ascending
    address  ed25519: SHA-256(key)[:20]; secp256k1: RIPEMD-160(SHA-256(key)), key of 33 bytes

Sources: cometbft v0.38.25 `types/validator.go`, `types/validator_set.go`, `crypto/*`.
A validator's name is its address in upper-case hex, as the RPC shows it. Its algorithm is
`ed25519-zip215` (adapters.cometbft.light.zip215) or `secp256k1` (relay.light.keys, whose rule is
CometBFT's). Sets that hold any other key (bls12381, ml-dsa-65, secp256k1eth, sr25519) are refused
as a whole, UNSUPPORTED_VERSION: their hash could be computed, but not who signed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from adapters.cometbft.light import proto
from adapters.cometbft.light.proto import Fields
from adapters.cometbft.light.zip215 import ED25519
from relay.errors import Malformed, Reason
from relay.light.merkle import leaf_hash, root
from relay.light.types import MAX_VALIDATORS, Validator, ValidatorSet

SECP256K1 = "secp256k1"
MAX_TOTAL_POWER = (2**63 - 1) // 8
_KINDS = {ED25519: (1, 32), SECP256K1: (2, 33)}
_REFUSED = {3: "bls12381", 4: "ml-dsa-65", 5: "secp256k1eth"}


def address(algorithm: str, key: bytes) -> bytes:
    """The 20 bytes by which CometBFT names the holder of a key. Raises Malformed."""
    field, length = _kind(algorithm)
    if len(key) != length:
        raise Malformed(f"a public key of {algorithm} has {length} bytes")
    digest = hashlib.sha256(key).digest()
    if field == 1:
        return digest[:20]
    try:
        return hashlib.new("ripemd160", digest).digest()
    except ValueError:  # an OpenSSL without its legacy algorithms
        raise Malformed(
            "this Python cannot compute RIPEMD-160, which names secp256k1 validators",
            reason=Reason.UNSUPPORTED_VERSION,
            hint="take OpenSSL 3.0.7 or later, or activate its legacy provider in openssl.cnf",
        ) from None


def make_validator(algorithm: str, key: bytes, power: int) -> Validator:
    """A validator named by its address. Raises Malformed."""
    return Validator(address(algorithm, key).hex().upper(), power, ((algorithm, key),))


def make_set(validators: Iterable[Validator]) -> ValidatorSet:
    """The set in CometBFT's order, every rule checked. Raises Malformed."""
    ordered = ValidatorSet(tuple(sorted(validators, key=lambda v: (-v.power, v.name))))
    check_set(ordered)
    return ordered


def check_set(validators: ValidatorSet) -> None:
    """Raises Malformed unless the set is one that CometBFT can have, in its order."""
    if not 1 <= len(validators.validators) <= MAX_VALIDATORS:
        raise Malformed(f"a validator set holds 1 to {MAX_VALIDATORS} validators")
    previous: tuple[int, str] | None = None
    for validator in validators.validators:
        if len(validator.keys) != 1:
            raise Malformed("a validator of CometBFT has one key")
        algorithm, key = validator.keys[0]
        if validator.name != address(algorithm, key).hex().upper():
            raise Malformed("a validator is named by the address of its key")
        if not 1 <= validator.power <= MAX_TOTAL_POWER:
            raise Malformed("a validator's power lies between 1 and (2^63 - 1) / 8")
        place = (-validator.power, validator.name)
        if previous is not None and place <= previous:
            raise Malformed("validators stand by power descending, then by address, each once")
        previous = place
    if len({validator.name for validator in validators.validators}) < len(validators.validators):
        raise Malformed("a validator stands in a set once, whatever its power")
    if validators.power > MAX_TOTAL_POWER:
        raise Malformed("the total power exceeds (2^63 - 1) / 8")


def hash_set(validators: ValidatorSet) -> bytes:
    """32 bytes. Raises Malformed for a set that is none (`check_set`)."""
    check_set(validators)
    return root([leaf_hash(encode_validator(v)) for v in validators.validators])


def encode_validator(validator: Validator) -> bytes:
    """SimpleValidator."""
    algorithm, key = validator.keys[0]
    return proto.message(1, proto.data(_kind(algorithm)[0], key)) + proto.integer(
        2, validator.power
    )


def decode_validator(raw: bytes) -> Validator:
    """The validator in a SimpleValidator. Raises Malformed, UNSUPPORTED_VERSION for its key."""
    fields = Fields(raw, "validator")
    key, power = Fields(fields.message(1), "public key"), fields.integer(2)
    for field, name in _REFUSED.items():
        if key.data(field):
            raise Malformed(
                f"a validator has a key of {name}, which this program does not verify",
                reason=Reason.UNSUPPORTED_VERSION,
            )
    found = [(name, value) for name, (field, _) in _KINDS.items() if (value := key.data(field))]
    if not 1 <= power <= MAX_TOTAL_POWER:
        raise Malformed("a validator's power lies between 1 and (2^63 - 1) / 8")
    if len(found) != 1:
        raise Malformed("a validator has exactly one public key")
    validator = make_validator(*found[0], power)
    proto.check_encoding(raw, encode_validator(validator), "validator")
    return validator


def _kind(algorithm: str) -> tuple[int, int]:
    kind = _KINDS.get(algorithm)
    if kind is None:
        raise Malformed(
            f"keys of {algorithm[:32]!r} are not known", reason=Reason.UNSUPPORTED_VERSION
        )
    return kind
