"""Validator sets: their one encoding, their hash, and the rules that every set keeps.

Encoding (`relay.light.wire`), which the set hash covers completely:

    u8  version = 1
    u32 count, 1 to 200
      text name      1-64 printable ASCII without space and plus; ascending, each once
      u64  power     1 to 2^32
      u32  count     1 to 8
        text algorithm   1-32 of a-z 0-9 -; ascending, each once
        data key         1 to 256 bytes

    set hash = SHA-256("lianqiao/validator-set/v1\\n" ‖ encoding)

No key stands twice in a set, so that nobody has two voices by two names. Other client types may
hash their sets as their chains do (`ClientType.hash_validators`).
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from relay.errors import Malformed
from relay.light.keys import MAX_KEY_BYTES, check_public_key
from relay.light.types import MAX_VALIDATORS, Validator, ValidatorSet
from relay.light.wire import Reader, Writer

MAX_NAME_BYTES = 64
MAX_POWER = 2**32
MAX_KEYS = 8
MAX_ALGORITHM_BYTES = 32
MAX_SET_BYTES = 96 * 1024

_VERSION = 1
_DOMAIN = b"lianqiao/validator-set/v1\n"
_ALGORITHM_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")


def validator_set(validators: Sequence[Validator]) -> ValidatorSet:
    """A set from validators in any order, every rule checked.

    Raises Malformed, and Invalid(WEAK_KEY) for a key that may not be pinned.
    """
    ordered = ValidatorSet(
        tuple(
            Validator(v.name, v.power, tuple(sorted(v.keys)))
            for v in sorted(validators, key=lambda v: v.name)
        )
    )
    encode_set(ordered)
    check_keys(ordered)
    return ordered


def set_hash(validators: ValidatorSet) -> bytes:
    """The 32 bytes that name a set; every field is under it. Raises Malformed as `encode_set`."""
    return sha256(_DOMAIN + encode_set(validators)).digest()


def check_keys(validators: ValidatorSet) -> None:
    """Raises Invalid(WEAK_KEY) for the first key that may not be pinned."""
    for validator in validators.validators:
        for algorithm, key in validator.keys:
            check_public_key(algorithm, key)


def check_name(name: str) -> None:
    """The rule for names of validators and witnesses, who sign notes by it. Raises Malformed."""
    if not 1 <= len(name) <= MAX_NAME_BYTES or not all("!" <= c <= "~" and c != "+" for c in name):
        raise Malformed("a signer's name is 1-64 printable ASCII characters without space and plus")


def check_algorithm_name(name: str) -> None:
    """The rule for names of signature algorithms. Raises Malformed."""
    if not 1 <= len(name) <= MAX_ALGORITHM_BYTES or not set(name) <= _ALGORITHM_CHARACTERS:
        raise Malformed("an algorithm's name is 1-32 characters of a-z, 0-9 and hyphen")


def encode_set(validators: ValidatorSet) -> bytes:
    """The one encoding of a set (module docstring). Raises Malformed for one that has none."""
    _check_form(validators)
    writer = Writer().u8(_VERSION).count(len(validators.validators), MAX_VALIDATORS)
    for validator in validators.validators:
        writer.text(validator.name, MAX_NAME_BYTES).u64(validator.power)
        writer.count(len(validator.keys), MAX_KEYS)
        for algorithm, key in validator.keys:
            writer.text(algorithm, MAX_ALGORITHM_BYTES).data(key, MAX_KEY_BYTES)
    return writer.done()


def decode_set(raw: bytes) -> ValidatorSet:
    """The set in `raw`. Raises Malformed; keys are judged by `check_keys`, not here."""
    reader = Reader(raw, "validator set")
    if reader.u8() != _VERSION:
        raise Malformed("validator set: unknown version")
    validators = []
    for _ in range(reader.count(MAX_VALIDATORS)):
        name, power = reader.text(MAX_NAME_BYTES), reader.u64()
        keys = tuple(
            (reader.text(MAX_ALGORITHM_BYTES), reader.data(MAX_KEY_BYTES))
            for _ in range(reader.count(MAX_KEYS))
        )
        validators.append(Validator(name, power, keys))
    reader.end()
    decoded = ValidatorSet(tuple(validators))
    _check_form(decoded)
    return decoded


def _check_form(validators: ValidatorSet) -> None:
    if not validators.validators:
        raise Malformed("a validator set must not be empty")
    previous = ""
    seen: set[tuple[str, bytes]] = set()
    for validator in validators.validators:
        check_name(validator.name)
        if validator.name <= previous:
            raise Malformed("validators must ascend by name, each once")
        previous = validator.name
        if not 1 <= validator.power <= MAX_POWER:
            raise Malformed("a validator's power lies between 1 and 2^32")
        algorithms = [algorithm for algorithm, _ in validator.keys]
        if not algorithms or algorithms != sorted(set(algorithms)):
            raise Malformed("a validator's keys must ascend by algorithm, each once, at least one")
        for algorithm, key in validator.keys:
            check_algorithm_name(algorithm)
            if not key:
                raise Malformed("a public key must not be empty")
            if (algorithm, key) in seen:
                raise Malformed("one key stands twice in a validator set")
            seen.add((algorithm, key))
