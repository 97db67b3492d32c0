"""That a transaction stands in a block, and what became of it.

Inclusion alone (`data_hash`) says that validators ordered it, not that it succeeded. What became of
it is under `last_results_hash` of the *next* header, and events are committed nowhere. So a proof
is verified under the header of height H + 1, which names header H as its last block:

    header H + 1 (trusted) ── last_block_id ── header H ── data_hash ── SHA-256(transaction)
                          └── last_results_hash ── ExecTxResult{1 code, 2 data,
                                                      5 gas wanted, 6 gas used}

Sources: cometbft v0.38.25 `types/tx.go`, `types/results.go`, `crypto/merkle/proof.go`.

A claim is path = SHA-256 of the transaction, value = that encoding of its result. Encoding of a
proof (`relay.light.wire`), nothing of which is unused:

    u8   version = 1
    data Header H + 1, data Header H      protobuf
    u32  count, for each claim: u64 index, u64 total, u32 count and 32 bytes an aunt from the
         transaction up, u32 count and 32 bytes an aunt from the result up
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adapters.cometbft.light import proto
from adapters.cometbft.light.block import (
    BlockHeader,
    decode_header,
    encode_header,
    header_hash,
)
from adapters.cometbft.light.proto import Fields
from relay.errors import Invalid, Malformed, Reason, Refused
from relay.light.merkle import leaf_hash, verify_inclusion
from relay.light.types import Claim, ConsensusState
from relay.light.wire import Reader, Writer

MAX_AUNTS = 63
MAX_CLAIMS = 1000
_MAX_HEADER = 2048
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Result:
    """What is committed of a transaction's result."""

    code: int
    """0: it succeeded."""
    data: bytes = b""
    gas_wanted: int = 0
    gas_used: int = 0


@dataclass(frozen=True, slots=True)
class TxPlace:
    """One transaction's place in its block and its siblings in both trees."""

    index: int
    total: int
    aunts: tuple[bytes, ...]
    result_aunts: tuple[bytes, ...]


def encode_result(result: Result) -> bytes:
    """ExecTxResult, the deterministic fields alone."""
    return (
        proto.integer(1, result.code)
        + proto.data(2, result.data)
        + proto.integer(5, result.gas_wanted)
        + proto.integer(6, result.gas_used)
    )


def decode_result(raw: bytes) -> Result:
    """The result in the value of a claim. Raises Malformed."""
    fields = Fields(raw, "result")
    result = Result(
        fields.integer(1, signed=False), fields.data(2), fields.integer(5), fields.integer(6)
    )
    proto.check_encoding(raw, encode_result(result), "result")
    if result.code >= 2**32:
        raise Malformed("result: a code has 32 bits")
    return result


def verify_tx(data_hash: bytes, tx_hash: bytes, place: TxPlace) -> None:
    """Raises Invalid(INVALID_PROOF) unless the transaction stands at its place in a block."""
    verify_inclusion(data_hash, place.total, place.index, leaf_hash(tx_hash), place.aunts)


def encode_tx_proof(
    next_header: BlockHeader, header: BlockHeader, places: Sequence[TxPlace]
) -> bytes:
    """The proof (module docstring). Raises Malformed."""
    writer = Writer().u8(_VERSION)
    for one in (next_header, header):
        writer.data(encode_header(one), _MAX_HEADER)
    writer.count(len(places), MAX_CLAIMS)
    for place in places:
        writer.u64(place.index).u64(place.total)
        for aunts in (place.aunts, place.result_aunts):
            writer.count(len(aunts), MAX_AUNTS)
            for aunt in aunts:
                writer.fixed(aunt, 32)
    return writer.done()


def decode_tx_proof(raw: bytes) -> tuple[BlockHeader, BlockHeader, tuple[TxPlace, ...]]:
    """(header H + 1, header H, places in the order of claims). Raises Malformed."""
    reader = Reader(raw, "transaction proof")
    if reader.u8() != _VERSION:
        raise Malformed("transaction proof: unknown version")
    next_header = decode_header(reader.data(_MAX_HEADER))
    header = decode_header(reader.data(_MAX_HEADER))
    places = tuple(
        TxPlace(reader.u64(), reader.u64(), _read_aunts(reader), _read_aunts(reader))
        for _ in range(reader.count(MAX_CLAIMS))
    )
    reader.end()
    return next_header, header, places


def verify(consensus: ConsensusState, proof: bytes, claims: Sequence[Claim]) -> None:
    """Raises unless each claim's transaction had that result in the block before the trusted one.

    Malformed, Invalid(INVALID_PROOF), Refused(ABSENCE_NOT_PROVABLE).
    """
    next_header, header, places = decode_tx_proof(proof)
    if header_hash(next_header) != consensus.header_hash:
        raise Invalid(Reason.INVALID_PROOF, "transaction proof: under another header")
    if header_hash(header) != next_header.last_block_id.hash:
        raise Invalid(Reason.INVALID_PROOF, "transaction proof: the headers do not follow")
    if not places or len(places) != len(claims):
        raise Invalid(Reason.INVALID_PROOF, "transaction proof: one place for each claim")
    for claim, place in zip(claims, places, strict=True):
        if claim.value is None:
            raise Refused(
                Reason.ABSENCE_NOT_PROVABLE, "a block cannot show that something is not in it"
            )
        if len(claim.path) != 32:
            raise Invalid(Reason.INVALID_PROOF, "a transaction is claimed by its SHA-256")
        decode_result(claim.value)
        verify_tx(header.data_hash, claim.path, place)
        verify_inclusion(
            next_header.last_results_hash,
            place.total,
            place.index,
            leaf_hash(claim.value),
            place.result_aunts,
        )


def narrow(proof: bytes, wanted: Sequence[int]) -> bytes:
    """The proof for some of its claims."""
    next_header, header, places = decode_tx_proof(proof)
    return encode_tx_proof(next_header, header, [places[position] for position in wanted])


def _read_aunts(reader: Reader) -> tuple[bytes, ...]:
    return tuple(reader.fixed(32) for _ in range(reader.count(MAX_AUNTS)))
