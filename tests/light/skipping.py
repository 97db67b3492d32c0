"""A client type of tests that skips headers, as CometBFT does, and an algorithm that counts.

Headers are `relay.light.wire` fields; a link is not needed. The algorithm `test-hmac` is registered
by this module alone: a signature is H(key ‖ message), so it is cheap, and each verification counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from relay.errors import Invalid, Malformed, Reason, Refused
from relay.light import keys
from relay.light.types import (
    Claim,
    ClientState,
    ConsensusState,
    Header,
    Signature,
    Validator,
    ValidatorSet,
    Witness,
)
from relay.light.validators import decode_set, encode_set, set_hash
from relay.light.wire import Reader, Writer

ALGORITHM = "test-hmac"
verifications: list[bytes] = []
"""One item, the key, for each verification since it was cleared."""


def secret_of(name: str) -> bytes:
    return sha256(b"key of " + name.encode()).digest()


def sign(key: bytes, message: bytes) -> bytes:
    return sha256(key + message).digest()


def _verify(key: bytes, message: bytes, signature: bytes) -> None:
    verifications.append(key)
    if signature != sign(key, message):
        raise Invalid(Reason.INVALID_SIGNATURE, "wrong")


def _check(key: bytes) -> None:
    if len(key) != 32 or not any(key):
        raise Invalid(Reason.WEAK_KEY, "wrong length or zero")


keys.register(keys.Algorithm(ALGORITHM, _check, _verify))


def make_set(names: Sequence[str], power: int = 1) -> ValidatorSet:
    return ValidatorSet(
        tuple(Validator(n, power, ((ALGORITHM, secret_of(n)),)) for n in sorted(names))
    )


class SkippingClient:
    """Implements ClientType; strictly increasing time, no witnesses, no membership."""

    name = "test-skipping"
    skips = True
    proves_absence = False
    equal_time = False
    strict_drift = False
    links = False

    def decode_header(self, raw: bytes) -> Header:
        reader = Reader(raw, "test header")
        body = reader.data(4096)
        validators = decode_set(reader.data(65536))
        signatures = tuple(
            Signature(reader.text(64), ALGORITHM, reader.data(64)) for _ in range(reader.count(64))
        )
        shown = reader.data(65536)
        reader.end()
        fields = Reader(body, "test body")
        header = Header(
            chain_id=fields.text(64),
            height=fields.u64(),
            time=fields.u64(),
            root=fields.data(64),
            hash=sha256(body).digest(),
            validators=validators,
            set_hash=fields.fixed(32),
            next_set_hash=fields.fixed(32),
            signatures=signatures,
            body=body,
            trusted_validators=decode_set(shown) if shown else None,
        )
        fields.end()
        return header

    def encode_header(self, header: Header) -> bytes:
        writer = Writer().data(header.body, 4096).data(encode_set(header.validators), 65536)
        writer.count(len(header.signatures), 64)
        for signature in header.signatures:
            writer.text(signature.signer, 64).data(signature.value, 64)
        shown = header.trusted_validators
        return writer.data(encode_set(shown) if shown else b"", 65536).done()

    def check_pinned(self, state: ClientState, header: Header) -> None:
        return None

    def succeeds(self, trusted: ConsensusState, untrusted_header: Header) -> bool:
        return False

    def hash_validators(self, validators: ValidatorSet) -> bytes:
        return set_hash(validators)

    def sign_bytes(self, header: Header, signer: Validator, signature: Signature) -> bytes:
        return header.body

    def witness_of(self, signature: Signature, witnesses: Sequence[Witness]) -> Witness | None:
        return None

    def cosign_bytes(self, header: Header, witness: Witness, signature: Signature) -> bytes:
        raise Malformed("this type has no witnesses")

    def verify_link(self, trusted: ConsensusState, untrusted_header: Header) -> None:
        return None

    def verify_membership(
        self, state: ClientState, consensus: ConsensusState, proof: bytes, claims: Sequence[Claim]
    ) -> None:
        raise Refused(Reason.INVALID_PROOF, "this type proves nothing")

    def narrow_membership(
        self,
        state: ClientState,
        consensus: ConsensusState,
        proof: bytes,
        claims: Sequence[Claim],
        wanted: Sequence[int],
    ) -> bytes:
        raise Refused(Reason.INVALID_PROOF, "this type proves nothing")


SKIPPING = SkippingClient()


def raw_header(
    height: int,
    names: Sequence[str],
    *,
    signers: Sequence[str] | None = None,
    following: Sequence[str] | None = None,
    time: int | None = None,
    chain_id: str = "test-1",
    power: int = 1,
    root: bytes = bytes(32),
    shown: Sequence[str] = (),
) -> bytes:
    """A header of `height` by the set `names`, signed by `signers` (default: all of them).

    `shown`: the set that it brings along as the trusted one.
    """
    validators = make_set(names, power)
    body = (
        Writer()
        .text(chain_id, 64)
        .u64(height)
        .u64(1000 + height if time is None else time)
        .data(root, 64)
        .fixed(set_hash(validators), 32)
        .fixed(set_hash(make_set(names if following is None else following, power)), 32)
        .done()
    )
    writer = Writer().data(body, 4096).data(encode_set(validators), 65536)
    signing = sorted(names if signers is None else signers)
    writer.count(len(signing), 64)
    for name in signing:
        writer.text(name, 64).data(sign(secret_of(name), body), 64)
    return writer.data(encode_set(make_set(shown, power)) if shown else b"", 65536).done()
