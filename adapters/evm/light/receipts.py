"""Receipts: what a call did, shown by the block's receipts root.

A receipts trie is keyed by RLP(index); its values are typed envelopes (a type byte and RLP), or
RLP alone. A receipt says *succeeded* and holds its logs; that a call is in a block says neither.
Packets are proven by storage and need none of this: it serves whoever must show one log.
"""

from __future__ import annotations

from dataclasses import dataclass

from adapters.evm.light import rlp
from adapters.evm.light.trie import Nodes, lookup
from relay.errors import Invalid, Malformed, Reason

MAX_RECEIPTS = 100_000
MAX_RECEIPT_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Log:
    """One log of a receipt."""

    address: bytes
    topics: tuple[bytes, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one call did."""

    succeeded: bool
    gas: int
    """Gas used in the block up to and including this call."""
    logs: tuple[Log, ...]


def verify_receipt(receipts_root: bytes, index: int, listed: list[bytes]) -> Receipt:
    """The receipt at `index` under the receipts root of a verified header.

    Raises Invalid(INVALID_PROOF) where the proof shows none, Malformed for a form it cannot have.
    """
    if not 0 <= index < MAX_RECEIPTS:
        raise Invalid(Reason.INVALID_PROOF, "no block has that many receipts")
    nodes = Nodes(listed)
    raw = lookup(receipts_root, rlp.encode(rlp.encode_integer(index)), nodes)
    nodes.end()
    if raw is None:
        raise Invalid(Reason.INVALID_PROOF, "the block has no receipt of that index")
    return decode_receipt(raw)


def decode_receipt(raw: bytes) -> Receipt:
    """The receipt in an envelope. Raises Malformed."""
    if not 1 <= len(raw) <= MAX_RECEIPT_BYTES:
        raise Malformed("receipt: empty or too long")
    typed = raw[0] < 0x80
    parts = rlp.fields(rlp.decode(raw[1:] if typed else raw), "receipt")
    if len(parts) != 4:
        raise Malformed("receipt: status, gas, bloom, logs")
    rlp.octets(parts[2], "bloom", 256)
    return Receipt(
        succeeded=rlp.integer(parts[0], "status", 1) == 1,
        gas=rlp.integer(parts[1], "gas", 2**63 - 1),
        logs=tuple(_log(item) for item in rlp.fields(parts[3], "logs")),
    )


def _log(item: rlp.Item) -> Log:
    parts = rlp.fields(item, "log")
    if len(parts) != 3:
        raise Malformed("log: address, topics, data")
    topics = tuple(rlp.octets(t, "topic", 32) for t in rlp.fields(parts[1], "topics"))
    if len(topics) > 4:
        raise Malformed("log: has at most four topics")
    return Log(rlp.octets(parts[0], "address", 20), topics, rlp.octets(parts[2], "data"))
