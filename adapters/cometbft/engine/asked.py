"""What operators ask of a replicated chain: an action, signed by one of them. Pure.

    u8 version = 1, text chain id (`id/epoch`), text operator, u64 expiry (seconds), 16 bytes nonce,
    data action (relay.action_bytes), data signature

The signature is over `lianqiao/operator/v1`, a line feed, and the bytes before the signature's
length, by the operator's key in the set of operators that is in force. An action that is asked for
twice under one nonce is done once; after its expiry it is never done, so whoever asked knows when
he may ask again.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from relay.action_bytes import decode_action, encode_action
from relay.actions import Action
from relay.errors import Denied, Malformed, Reason, Refused
from relay.light.keys import verify
from relay.light.types import ValidatorSet
from relay.light.validators import MAX_NAME_BYTES
from relay.light.wire import Reader, Writer

MAX_TX_BYTES = 3 * 1024 * 1024
"""gRPC clients of CometBFT take 4 MiB, and a proposal comes back through one."""
MAX_EXPIRY = 3600
"""Seconds after the block time."""
NONCE_BYTES = 16
_TAG = b"lianqiao/operator/v1\n"
_VERSION = 1
_MAX_CHAIN_ID = 64
_MAX_SIGNATURE = 512


class Key(Protocol):
    """What signs (relay.keys.SigningKey)."""

    algorithm: str
    public: bytes

    def sign(self, message: bytes) -> bytes:
        """The signature over `message`."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """One transaction of the chain, decoded."""

    chain_id: str
    operator: str
    expiry: int
    nonce: bytes
    action: Action
    encoded: bytes
    """The action's encoding."""
    digest: bytes
    """SHA-256 of it."""
    signed: bytes
    """What the signature is over."""
    signature: bytes


def encode_asked(
    chain_id: str, operator: str, key: Key, expiry: int, nonce: bytes, action: Action
) -> bytes:
    """The signed bytes. Raises Malformed(LIMIT_EXCEEDED) for an action that is too long."""
    writer = Writer().u8(_VERSION).text(chain_id, _MAX_CHAIN_ID).text(operator, MAX_NAME_BYTES)
    writer.u64(expiry).fixed(nonce, NONCE_BYTES)
    encoded = encode_action(action)
    if len(encoded) > MAX_TX_BYTES - 1024:
        raise Malformed(
            f"an action of {len(encoded)} bytes does not fit into a block of this chain",
            reason=Reason.LIMIT_EXCEEDED,
            hint="deliver less at a time",
        )
    signed = writer.data(encoded, MAX_TX_BYTES).done()
    return signed + Writer().data(key.sign(_TAG + signed), _MAX_SIGNATURE).done()


def decode_asked(raw: bytes) -> Asked:
    """Raises Malformed."""
    if len(raw) > MAX_TX_BYTES:
        raise Malformed("a transaction is too long", reason=Reason.LIMIT_EXCEEDED)
    reader = Reader(raw, "transaction")
    if reader.u8() != _VERSION:
        raise Malformed("transaction: unknown version")
    chain_id, operator = reader.text(_MAX_CHAIN_ID), reader.text(MAX_NAME_BYTES)
    expiry, nonce = reader.u64(), reader.fixed(NONCE_BYTES)
    encoded, signature = reader.data(MAX_TX_BYTES), reader.data(_MAX_SIGNATURE)
    reader.end()
    action = decode_action(encoded)
    return Asked(
        chain_id,
        operator,
        expiry,
        nonce,
        action,
        encoded,
        sha256(encoded).digest(),
        raw[: len(raw) - 4 - len(signature)],
        signature,
    )


def verify_asked(
    asked: Asked, chain_id: str, operators: ValidatorSet, now: int, *, latest: int | None = None
) -> None:
    """`now`: block time. `latest`: the latest time that the block may have, where it is not
    known yet.

    1. for this chain: CHAIN_ID_MISMATCH  2. by an operator in force: UNAUTHENTICATED
    3. not expired, and not for ever: TIMEOUT_ELAPSED, TIMEOUT_TOO_FAR  4. signed:
    INVALID_SIGNATURE.
    """
    if asked.chain_id != chain_id:
        raise Refused(Reason.CHAIN_ID_MISMATCH, "this was signed for another chain")
    found = next((v for v in operators.validators if v.name == asked.operator), None)
    if found is None:
        raise Denied(Reason.UNAUTHENTICATED, "nobody of that name is an operator of this chain")
    if now >= asked.expiry:
        raise Refused(Reason.TIMEOUT_ELAPSED, "this was asked for too long ago", now=now)
    if asked.expiry > (now if latest is None else latest) + MAX_EXPIRY:
        raise Refused(Reason.TIMEOUT_TOO_FAR, f"at most {MAX_EXPIRY} seconds ahead", now=now)
    algorithm, key = found.keys[0]
    verify(algorithm, key, _TAG + asked.signed, asked.signature)
