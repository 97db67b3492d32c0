"""What a block header, a commit and a vote are, and how they are encoded, hashed and signed.

Sources: cometbft v0.38.25 `types/block.go`, `types/vote.go`, `types/canonical.go`,
`proto/tendermint/types/*.proto`; the formats are the same in 0.40.

    header hash  RFC 6962 root over the 14 encoded fields, each alone (an empty value: empty leaf)
    sign bytes   length ‖ CanonicalVote{1 type, 2 height, 3 round, 4 block id, 5 time, 6 chain id}

Times are Timestamp{1 seconds, 2 nanos}; Go's zero time is the year 1. A block id that names nothing
is empty and is still written in a header.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from adapters.cometbft.light import proto
from adapters.cometbft.light.proto import Fields
from relay.errors import Malformed
from relay.light.merkle import leaf_hash, root
from relay.light.types import MAX_INT, MAX_ROOT_BYTES, MAX_VALIDATORS, NANOS

BLOCK_PROTOCOL = 11
"""The one block protocol: of 0.34 to 0.40 and 1.x."""
MAX_CHAIN_ID = 50
MAX_SIGNATURE_BYTES = 64
ADDRESS_BYTES = 20
ABSENT, COMMIT, NIL = 1, 2, 3
PRECOMMIT = 2
_MIN_SECONDS, _MAX_SECONDS = -62_135_596_800, 253_402_300_799
"""Years 1 to 9999, what a protobuf Timestamp can say."""


@dataclass(frozen=True, slots=True, order=True)
class Timestamp:
    """A moment in seconds since 1970 UTC and nanoseconds."""

    seconds: int = _MIN_SECONDS
    nanos: int = 0


ZERO_TIME = Timestamp()


@dataclass(frozen=True, slots=True)
class BlockId:
    """The hash of a header, and number and root of the parts in which its block is spread."""

    hash: bytes = b""
    parts: int = 0
    parts_hash: bytes = b""


@dataclass(frozen=True, slots=True)
class BlockHeader:
    """The fourteen fields of a header."""

    block_protocol: int = 0
    app_protocol: int = 0
    chain_id: str = ""
    height: int = 0
    time: Timestamp = ZERO_TIME
    last_block_id: BlockId = field(default_factory=BlockId)
    last_commit_hash: bytes = b""
    data_hash: bytes = b""
    validators_hash: bytes = b""
    next_validators_hash: bytes = b""
    consensus_hash: bytes = b""
    app_hash: bytes = b""
    last_results_hash: bytes = b""
    evidence_hash: bytes = b""
    proposer_address: bytes = b""


@dataclass(frozen=True, slots=True)
class CommitSig:
    """One validator's place in a commit, at its index in the set."""

    flag: int
    address: bytes = b""
    time: Timestamp = ZERO_TIME
    signature: bytes = b""


NOBODY = CommitSig(ABSENT)
"""The place of a validator whose vote is not shown."""


@dataclass(frozen=True, slots=True)
class BlockCommit:
    """The precommits for a block, one place for each validator of the set."""

    height: int
    round: int
    block_id: BlockId
    signatures: tuple[CommitSig, ...]


# --- hashing and signing


def header_hash(header: BlockHeader) -> bytes:
    """32 bytes; nothing for a header that names no validator set, which is no header yet."""
    return root([leaf_hash(leaf) for leaf in leaves(header)]) if header.validators_hash else b""


def leaves(header: BlockHeader) -> tuple[bytes, ...]:
    """The fourteen leaves of the header hash."""
    return (
        _encode_version(header),
        proto.data(1, header.chain_id.encode()),
        proto.integer(1, header.height),
        encode_time(header.time),
        encode_block_id(header.last_block_id),
        proto.data(1, header.last_commit_hash),
        proto.data(1, header.data_hash),
        proto.data(1, header.validators_hash),
        proto.data(1, header.next_validators_hash),
        proto.data(1, header.consensus_hash),
        proto.data(1, header.app_hash),
        proto.data(1, header.last_results_hash),
        proto.data(1, header.evidence_hash),
        proto.data(1, header.proposer_address),
    )


def vote_sign_bytes(
    chain_id: str,
    height: int,
    round_: int,
    block_id: BlockId | None,
    time: Timestamp,
    kind: int = PRECOMMIT,
) -> bytes:
    """The bytes that a validator signs; `block_id` None: a vote for nil."""
    vote = proto.integer(1, kind) + proto.sfixed64(2, height) + proto.sfixed64(3, round_)
    if block_id is not None:
        vote += proto.message(4, encode_block_id(block_id))
    vote += proto.message(5, encode_time(time)) + proto.data(6, chain_id.encode())
    return proto.delimited(vote)


# --- encoding


def encode_time(time: Timestamp) -> bytes:
    """Timestamp."""
    return proto.integer(1, time.seconds) + proto.integer(2, time.nanos)


def encode_block_id(block_id: BlockId) -> bytes:
    """BlockID, and CanonicalBlockID, whose encoding is the same."""
    parts = proto.integer(1, block_id.parts) + proto.data(2, block_id.parts_hash)
    return proto.data(1, block_id.hash) + proto.message(2, parts)


def encode_header(header: BlockHeader) -> bytes:
    """Header, whole, as it travels."""
    return (
        proto.message(1, _encode_version(header))
        + proto.data(2, header.chain_id.encode())
        + proto.integer(3, header.height)
        + proto.message(4, encode_time(header.time))
        + proto.message(5, encode_block_id(header.last_block_id))
        + proto.data(6, header.last_commit_hash)
        + proto.data(7, header.data_hash)
        + proto.data(8, header.validators_hash)
        + proto.data(9, header.next_validators_hash)
        + proto.data(10, header.consensus_hash)
        + proto.data(11, header.app_hash)
        + proto.data(12, header.last_results_hash)
        + proto.data(13, header.evidence_hash)
        + proto.data(14, header.proposer_address)
    )


def encode_commit(commit: BlockCommit) -> bytes:
    """Commit."""
    places = (
        proto.integer(1, place.flag)
        + proto.data(2, place.address)
        + proto.message(3, encode_time(place.time))
        + proto.data(4, place.signature)
        for place in commit.signatures
    )
    return (
        proto.integer(1, commit.height)
        + proto.integer(2, commit.round)
        + proto.message(3, encode_block_id(commit.block_id))
        + proto.messages(4, places)
    )


def encode_signed_header(header: BlockHeader, commit: BlockCommit) -> bytes:
    """SignedHeader."""
    return proto.message(1, encode_header(header)) + proto.message(2, encode_commit(commit))


def decode_signed_header(raw: bytes) -> tuple[BlockHeader, BlockCommit]:
    """(header, commit), every rule checked. Raises Malformed."""
    fields = Fields(raw, "signed header")
    header, commit = _read_header(fields.message(1)), _read_commit(fields.message(2))
    proto.check_encoding(raw, encode_signed_header(header, commit), "signed header")
    check_header(header)
    check_commit(commit)
    if commit.height != header.height or commit.block_id.hash != header_hash(header):
        raise Malformed("signed header: the commit is for another header")
    return header, commit


def decode_header(raw: bytes) -> BlockHeader:
    """A header alone, every rule checked. Raises Malformed."""
    header = _read_header(raw)
    proto.check_encoding(raw, encode_header(header), "block header")
    check_header(header)
    return header


# --- rules


def check_header(header: BlockHeader) -> None:
    """Header.ValidateBasic, and what this program needs beside. Raises Malformed."""
    if header.block_protocol != BLOCK_PROTOCOL:
        raise Malformed(f"block header: block protocol {header.block_protocol} is not known")
    chain_id = header.chain_id
    if not 1 <= len(chain_id) <= MAX_CHAIN_ID or not all("!" <= c <= "~" for c in chain_id):
        raise Malformed("block header: a chain id is 1-50 printable ASCII characters")
    if not 1 <= header.height <= MAX_INT:
        raise Malformed("block header: heights begin with 1")
    check_time(header.time)
    if header.time.seconds < 0:
        raise Malformed("block header: time lies before 1970")
    _check_block_id(header.last_block_id)
    for name in ("last_commit_hash", "data_hash", "consensus_hash", "last_results_hash"):
        _check_hash(getattr(header, name), name)
    _check_hash(header.evidence_hash, "evidence_hash")
    if len(header.validators_hash) != 32 or len(header.next_validators_hash) != 32:
        raise Malformed("block header: the validator sets are named by 32 bytes each")
    if len(header.app_hash) > MAX_ROOT_BYTES:
        raise Malformed(f"block header: an app hash is at most {MAX_ROOT_BYTES} bytes long")
    if len(header.proposer_address) != ADDRESS_BYTES:
        raise Malformed("block header: an address is 20 bytes long")


def check_commit(commit: BlockCommit) -> None:
    """Commit.ValidateBasic; votes for nil must have been left out. Raises Malformed."""
    if not 1 <= commit.height <= MAX_INT or not 0 <= commit.round < 2**31:
        raise Malformed("commit: height or round out of range")
    _check_block_id(commit.block_id)
    if not commit.block_id.hash:
        raise Malformed("commit: it is for no block")
    if not 1 <= len(commit.signatures) <= MAX_VALIDATORS:
        raise Malformed(f"commit: it has places for 1 to {MAX_VALIDATORS} validators")
    for place in commit.signatures:
        _check_place(place)


def check_time(time: Timestamp) -> None:
    """A moment that a protobuf Timestamp can say. Raises Malformed."""
    if not _MIN_SECONDS <= time.seconds <= _MAX_SECONDS or not 0 <= time.nanos < NANOS:
        raise Malformed("a time lies outside of the years 1 to 9999")


def _check_place(place: CommitSig) -> None:
    check_time(place.time)
    if place.flag == ABSENT:
        if place != NOBODY:
            raise Malformed("commit: the place of an absent validator is empty")
        return
    if place.flag != COMMIT:
        # A vote for nil counts for nothing, so its bytes would be under no rule.
        raise Malformed("commit: only votes for the block are shown, all others as absent")
    if len(place.address) != ADDRESS_BYTES:
        raise Malformed("commit: an address is 20 bytes long")
    if not 1 <= len(place.signature) <= MAX_SIGNATURE_BYTES:
        raise Malformed("commit: a signature has 1 to 64 bytes")


def _check_block_id(block_id: BlockId) -> None:
    _check_hash(block_id.hash, "block id")
    _check_hash(block_id.parts_hash, "block id")
    if not 0 <= block_id.parts < 2**32:
        raise Malformed("block id: the number of parts is out of range")
    if len({bool(block_id.hash), bool(block_id.parts), bool(block_id.parts_hash)}) != 1:
        raise Malformed("block id: it is neither complete nor empty")


def _check_hash(value: bytes, what: str) -> None:
    if len(value) not in (0, 32):
        raise Malformed(f"{what}: a hash is 32 bytes long")


# --- decoding


def _encode_version(header: BlockHeader) -> bytes:
    return proto.integer(1, header.block_protocol) + proto.integer(2, header.app_protocol)


def _read_time(raw: bytes) -> Timestamp:
    fields = Fields(raw, "time")
    time = Timestamp(fields.integer(1), fields.integer(2))
    return time


def _read_block_id(raw: bytes) -> BlockId:
    fields = Fields(raw, "block id")
    hash_, parts = fields.data(1), Fields(fields.message(2), "parts")
    block_id = BlockId(hash_, parts.integer(1, signed=False), parts.data(2))
    return block_id


def _read_header(raw: bytes) -> BlockHeader:
    fields = Fields(raw, "block header")
    version = Fields(fields.message(1), "version")
    header = BlockHeader(
        block_protocol=version.integer(1, signed=False),
        app_protocol=version.integer(2, signed=False),
        chain_id=fields.text(2),
        height=fields.integer(3),
        time=_read_time(fields.message(4)),
        last_block_id=_read_block_id(fields.message(5)),
        last_commit_hash=fields.data(6),
        data_hash=fields.data(7),
        validators_hash=fields.data(8),
        next_validators_hash=fields.data(9),
        consensus_hash=fields.data(10),
        app_hash=fields.data(11),
        last_results_hash=fields.data(12),
        evidence_hash=fields.data(13),
        proposer_address=fields.data(14),
    )
    return header


def _read_commit(raw: bytes) -> BlockCommit:
    fields = Fields(raw, "commit")
    places = fields.messages(4)
    if len(places) > MAX_VALIDATORS:
        raise Malformed(f"commit: it has places for 1 to {MAX_VALIDATORS} validators")
    commit = BlockCommit(
        height=fields.integer(1),
        round=fields.integer(2),
        block_id=_read_block_id(fields.message(3)),
        signatures=tuple(_read_place(place) for place in places),
    )
    return commit


def _read_place(raw: bytes) -> CommitSig:
    fields = Fields(raw, "vote")
    place = CommitSig(
        fields.integer(1), fields.data(2), _read_time(fields.message(3)), fields.data(4)
    )
    return place
