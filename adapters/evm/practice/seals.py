"""Validators that seal headers in each variant, over any roots: all keys in one process."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import coincurve

from adapters.evm.light import rlp
from adapters.evm.light.crypto import address_of
from adapters.evm.light.header import (
    IBFT1,
    MIX_HASH,
    NO_OMMERS,
    QBFT,
    Vote,
    decode_body,
    split_header,
)

START = 1_700_000_000


class Sealer:
    """One validator: a test key."""

    def __init__(self, seed: str) -> None:
        self.key = coincurve.PrivateKey(sha256(seed.encode()).digest())
        self.address = address_of(self.key.public_key.format(compressed=False))

    def seal(self, digest: bytes) -> bytes:
        """r, s, v over a digest."""
        return self.key.sign_recoverable(digest, hasher=None)


def ring(count: int, name: str = "v") -> list[Sealer]:
    """Sealers in order of address."""
    return sorted((Sealer(f"{name}{i}") for i in range(count)), key=lambda s: s.address)


def extra(
    variant: str,
    addresses: Sequence[bytes],
    vote: Vote | None = None,
    seals: Sequence[bytes] | None = None,
    round_: int = 0,
) -> bytes:
    """Extra data with seals (None: the form that they are over)."""
    vanity = bytes(32)
    if variant == IBFT1:
        return vanity + rlp.encode([list(addresses), bytes(65), list(seals or ())])
    asked: rlp.Encodable
    if variant == QBFT:
        asked = [] if vote is None else [vote.subject, b"\xff" if vote.add else b""]
        turn = rlp.encode_integer(round_)
        return rlp.encode([vanity, list(addresses), asked, turn, list(seals or ())])
    asked = b"" if vote is None else [vote.subject, b"\xff" if vote.add else b"\0"]
    parts: list[rlp.Encodable] = [vanity, list(addresses), asked, round_.to_bytes(4, "big")]
    return rlp.encode(parts if seals is None else [*parts, list(seals)])


def header(
    variant: str,
    sealers: Sequence[Sealer],
    *,
    number: int = 10,
    parent: bytes = bytes(32),
    time: int = START,
    root: bytes = b"\x11" * 32,
    listed: Sequence[bytes] | None = None,
    vote: Vote | None = None,
    round_: int = 0,
    signers: Sequence[Sealer] | None = None,
    optional: Sequence[bytes] = (b"\x07",),
) -> bytes:
    """A header as the chain would give it, sealed by `signers` (default: all sealers)."""
    addresses = [s.address for s in sealers] if listed is None else list(listed)
    coinbase, nonce = sealers[0].address, bytes(8)
    if variant == IBFT1:
        coinbase = vote.subject if vote else bytes(20)
        nonce = b"\xff" * 8 if vote and vote.add else bytes(8)

    def encoded(said: bytes) -> bytes:
        return rlp.encode(
            [
                parent,
                NO_OMMERS,
                coinbase,
                root,
                b"\x22" * 32,
                b"\x33" * 32,
                bytes(256),
                b"\x01",
                rlp.encode_integer(number),
                rlp.encode_integer(30_000_000),
                b"",
                rlp.encode_integer(time),
                said,
                MIX_HASH,
                nonce,
                *optional,
            ]
        )

    carried = None if variant == IBFT1 else vote
    body = encoded(extra(variant, addresses, carried, None, round_))
    digest = decode_body(variant, body).digest
    seals = [s.seal(digest) for s in (sealers if signers is None else signers)]
    return encoded(extra(variant, addresses, carried, seals, round_))


def hash_of(variant: str, raw: bytes) -> bytes:
    """The block hash of a header."""
    return decode_body(variant, split_header(variant, raw)[0]).hash
