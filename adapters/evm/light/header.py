"""Headers of QBFT, IBFT2 and IBFT1: fields, seals, and the two hashes that each has.

Sources: Besu `BftExtraDataCodec`, `QbftExtraDataCodec`, `IbftExtraDataCodec`, `BftBlockHashing`;
GoQuorum `consensus/istanbul`. An RLP list of 15 fields, then as many of OPTIONAL as the chain has.

    extra data                                             block hash          what seals are over
    qbft   [vanity, [address…], vote, round, [seal…]]      round 0, no seals   no seals
           vote [] or [address, ff or empty]; round a number
    ibft2  [vanity, [address…], vote, round, [seal…]]      first 3 elements    first 4 elements
           vote empty or [address, ff or 00]; round 4 bytes
    ibft1  vanity ‖ [[address…], proposer seal, [seal…]]   no committed seals  Keccak(hash ‖ 2)
           the vote is coinbase and nonce

*Body* here is the header without its committed seals, in the form that seals are over: seals lie
under no hash, and a light client is shown as many as it needs, each with the name of its signer.
"""

from __future__ import annotations

from dataclasses import dataclass

from adapters.evm.light import rlp
from adapters.evm.light.crypto import ADDRESS_BYTES, SEAL_BYTES, keccak
from relay.errors import Malformed
from relay.light.types import MAX_INT, MAX_VALIDATORS

QBFT, IBFT2, IBFT1 = "qbft-seal", "ibft2-seal", "ibft1-seal"
VARIANTS = (QBFT, IBFT2, IBFT1)
VANITY_BYTES = 32
MIX_HASH = bytes.fromhex("63746963616c2062797a616e74696e65206661756c7420746f6c6572616e6365")
NO_OMMERS = bytes.fromhex("1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347")
MAX_RLP_BYTES = 64 * 1024
_U256 = 2**256 - 1
_EXTRA = 12
_ADD, _DROP = b"\xff" * 8, bytes(8)

_HASH, _NUMBER = 32, 0
OPTIONAL = (_NUMBER, _HASH, _NUMBER, _NUMBER, _HASH, _HASH, _HASH, _NUMBER)
"""baseFee, withdrawalsRoot, blobGasUsed, excessBlobGas, parentBeaconBlockRoot, requestsHash,
blockAccessListHash, slotNumber: each present only where all before it are."""


@dataclass(frozen=True, slots=True)
class Vote:
    """What the proposer of a header asks for."""

    subject: bytes
    """Address."""
    add: bool
    """True to add it to the validators, False to drop it."""


@dataclass(frozen=True, slots=True)
class Block:
    """A header, decoded; nothing of it is verified but its form."""

    variant: str
    body: bytes
    """RLP without committed seals."""
    number: int
    time: int
    parent: bytes
    state_root: bytes
    transactions_root: bytes
    receipts_root: bytes
    hash: bytes
    """What the next header names as its parent."""
    digest: bytes
    """What committed seals are over."""
    validators: tuple[bytes, ...]
    """Addresses, put in ascending order; empty where a contract keeps them."""
    vote: Vote | None


def decode_body(variant: str, body: bytes) -> Block:
    """The block whose header without seals is `body`. Raises Malformed."""
    if variant not in VARIANTS or len(body) > MAX_RLP_BYTES:
        raise Malformed("a header of an unknown variant, or too long")
    items = rlp.fields(rlp.decode(body), "header")
    _check_fields(items, variant)
    extra = rlp.octets(items[_EXTRA], "extra data")
    addresses, vote, hashed = _read_extra(variant, extra)
    if variant == IBFT1:
        vote = _vote_of_nonce(items)
    block_hash = keccak(rlp.encode([*items[:_EXTRA], hashed, *items[_EXTRA + 1 :]]))
    digest = keccak(block_hash + b"\x02") if variant == IBFT1 else keccak(body)
    return Block(
        variant=variant,
        body=body,
        number=rlp.integer(items[8], "number", MAX_INT),
        time=rlp.integer(items[11], "timestamp", MAX_INT),
        parent=rlp.octets(items[0], "parent hash", 32),
        state_root=rlp.octets(items[3], "state root", 32),
        transactions_root=rlp.octets(items[4], "transactions root", 32),
        receipts_root=rlp.octets(items[5], "receipts root", 32),
        hash=block_hash,
        digest=digest,
        validators=_read_validators(addresses),
        vote=vote,
    )


def split_header(variant: str, raw: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """(body, committed seals) of a header as the chain gives it. Raises Malformed."""
    if len(raw) > MAX_RLP_BYTES:
        raise Malformed("header: too long")
    items = rlp.fields(rlp.decode(raw), "header")
    if len(items) < 15:
        raise Malformed("header: has too few fields")
    extra = rlp.octets(items[_EXTRA], "extra data")
    tail = extra[VANITY_BYTES:] if variant == IBFT1 else extra
    parts = rlp.fields(rlp.decode(tail), "extra data")
    if len(parts) != (3 if variant == IBFT1 else 5):
        raise Malformed("extra data: has another number of elements")
    seals = tuple(rlp.octets(seal, "seal", SEAL_BYTES) for seal in rlp.fields(parts[-1], "seals"))
    if len(seals) > MAX_VALIDATORS:
        raise Malformed(f"extra data: more than {MAX_VALIDATORS} seals")
    if variant == IBFT1:
        bare = extra[:VANITY_BYTES] + rlp.encode([*parts[:-1], []])
    else:
        bare = rlp.encode(parts[:-1] if variant == IBFT2 else [*parts[:-1], []])
    body = rlp.encode([*items[:_EXTRA], bare, *items[_EXTRA + 1 :]])
    decode_body(variant, body)
    return body, seals


def hashed_header(variant: str, body: bytes) -> bytes:
    """The RLP whose Keccak-256 is the block hash. Raises Malformed."""
    items = rlp.fields(rlp.decode(body), "header")
    hashed = _read_extra(variant, rlp.octets(items[_EXTRA], "extra data"))[2]
    return rlp.encode([*items[:_EXTRA], hashed, *items[_EXTRA + 1 :]])


def read_parent(raw: bytes) -> tuple[int, bytes]:
    """(number, state root) of a header in the form that its block hash is over."""
    if len(raw) > MAX_RLP_BYTES:
        raise Malformed("parent header: too long")
    items = rlp.fields(rlp.decode(raw), "parent header")
    _check_plain(items)
    return (
        rlp.integer(items[8], "number", MAX_INT),
        rlp.octets(items[3], "state root", 32),
    )


def _check_plain(items: list[rlp.Item]) -> None:
    """Lengths and forms that every header of these chains has."""
    if not 15 <= len(items) <= 15 + len(OPTIONAL):
        raise Malformed("header: has another number of fields")
    for at in (0, 1, 3, 4, 5, 13):
        rlp.octets(items[at], "hash in a header", 32)
    rlp.octets(items[2], "coinbase", ADDRESS_BYTES)
    rlp.octets(items[6], "bloom", 256)
    for at in (7, 8, 9, 10, 11):
        rlp.integer(items[at], "number in a header", MAX_INT)
    rlp.octets(items[14], "nonce", 8)
    for item, kind in zip(items[15:], OPTIONAL, strict=False):
        if kind:
            rlp.octets(item, "hash in a header", kind)
        else:
            rlp.integer(item, "number in a header", _U256)


def _check_fields(items: list[rlp.Item], variant: str) -> None:
    _check_plain(items)
    if items[1] != NO_OMMERS or items[13] != MIX_HASH:
        raise Malformed("header: not of a BFT chain (mix hash, or ommers)")
    if rlp.integer(items[7], "difficulty", MAX_INT) != 1:
        raise Malformed("header: a BFT chain has difficulty 1")
    if items[14] not in ((_ADD, _DROP) if variant == IBFT1 else (_DROP,)):
        raise Malformed("header: nonce must be zero, or a vote of IBFT1")


def _vote_of_nonce(items: list[rlp.Item]) -> Vote | None:
    subject = rlp.octets(items[2], "coinbase", ADDRESS_BYTES)
    return Vote(subject, items[14] == _ADD) if any(subject) else None


def _read_extra(variant: str, extra: bytes) -> tuple[rlp.Item, Vote | None, bytes]:
    """(addresses, vote, extra data in the form of the block hash) of extra data without seals."""
    if variant == IBFT1:
        parts = rlp.fields(rlp.decode(extra[VANITY_BYTES:]), "extra data")  # so all of it is there
        if len(parts) != 3 or parts[2] != []:
            raise Malformed("extra data: vanity, validators, proposer seal, no committed seals")
        rlp.octets(parts[1], "proposer seal", SEAL_BYTES)
        return parts[0], None, extra
    parts = rlp.fields(rlp.decode(extra), "extra data")
    if len(parts) != (5 if variant == QBFT else 4):
        raise Malformed("extra data: has another number of elements")
    vanity = rlp.octets(parts[0], "vanity", VANITY_BYTES)
    vote = _read_vote(variant, parts[2])
    if variant == IBFT2:
        rlp.octets(parts[3], "round", 4)
        return parts[1], vote, rlp.encode(parts[:3])
    rlp.integer(parts[3], "round", 2**32 - 1)
    if parts[4] != []:
        raise Malformed("extra data: a body carries no committed seals")
    return parts[1], vote, rlp.encode([vanity, parts[1], parts[2], b"", []])


def _read_vote(variant: str, item: rlp.Item) -> Vote | None:
    if item == ([] if variant == QBFT else b""):
        return None
    parts = rlp.fields(item, "vote")
    drop = b"" if variant == QBFT else b"\0"
    if len(parts) != 2 or parts[1] not in (b"\xff", drop):
        raise Malformed("vote: an address, and whether to add or to drop it")
    return Vote(rlp.octets(parts[0], "vote", ADDRESS_BYTES), parts[1] == b"\xff")


def _read_validators(item: rlp.Item) -> tuple[bytes, ...]:
    found = tuple(rlp.octets(a, "validator", ADDRESS_BYTES) for a in rlp.fields(item, "validators"))
    if len(found) > MAX_VALIDATORS or len(set(found)) != len(found):
        raise Malformed("validators: addresses, each once, at most 200")
    return tuple(sorted(found))
