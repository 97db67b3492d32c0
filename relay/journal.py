"""The append-only journal: every state change is an entry, and paths are written once.

Leaf data is H(path) || H(value), 64 bytes (relay.light.membership). Packet paths are those of IBC
v2 (relay.packet) and begin with a printable client id; every other path begins with 0x00 and is
built here, by the host, so that no contract can write what looks like a packet:

    0x00 || kind (1 byte) || len(owner) (1 byte) || owner || key
"""

from __future__ import annotations

from enum import IntEnum

from relay.errors import Malformed, Reason, Refused
from relay.light.checkpoint import CheckpointBody, encode_body
from relay.light.membership import entry_hash
from relay.packet import be64
from relay.store import CheckpointRow, Transaction
from relay.tiles import Edge, extend, write_tiles

MAX_KEY_BYTES = 512
MAX_VALUE_BYTES = 2 * 1024 * 1024


class Kind(IntEnum):
    """What an entry that is not a packet step is about. Never renumbered."""

    GENESIS = 1
    """owner: chain id; value: the first validator set."""
    SET = 2
    """owner: chain id; key: BE64(index); value: the set that signs every later size."""
    TICK = 3
    """owner: chain id; key: BE64(index); value: BE64(time)."""
    CLIENT = 4
    """owner: client id; value: the pinned state and the anchor."""
    HEADER = 5
    """owner: client id; key: BE64(height); value: the consensus state."""
    COUNTERPARTY = 6
    """owner: client id; value: the client id on the other side."""
    MISBEHAVIOUR = 7
    """owner: client id; key: BE64(index); value: the evidence. The client is frozen by it."""
    CLOSED = 8
    """owner: source client; key: BE64(sequence); value: 0x01 || acknowledgement commitment, or
    0x02 for a timeout."""
    RECORD = 9
    """owner: port; key, value: the contract's own."""
    RECOVERY = 10
    """owner: client id; key: BE64(index); value: a proposed state and anchor (relay.recovery)."""
    RECOVERED = 11
    """owner: client id; key: BE64(index of the proposal); value: as of CLIENT, or empty where the
    proposal was cancelled."""
    SKIPPED = 12
    """owner: client id; key and value: BE64(the next sequence), after others were passed over."""
    EPOCH = 13
    """owner: chain id; key: BE64(epoch); value: which head the epoch continues (relay.epoch)."""


def host_path(kind: Kind, owner: str, key: bytes = b"") -> bytes:
    """A path of the host. Raises Malformed(LIMIT_EXCEEDED) past the limits."""
    name = owner.encode()
    if not 1 <= len(name) <= 255 or len(key) > MAX_KEY_BYTES:
        raise Malformed("an entry's owner or key is too long", reason=Reason.LIMIT_EXCEEDED)
    return bytes((0, kind, len(name))) + name + key


def parse_host_path(path: bytes) -> tuple[Kind, str, bytes] | None:
    """(kind, owner, key) of a host path, or None for a packet's path. Raises Malformed."""
    if path[:1] != b"\x00":
        return None
    if len(path) < 4 or len(path) < 3 + path[2]:
        raise Malformed("a host path ends before its owner does")
    end = 3 + path[2]
    try:
        return Kind(path[1]), path[3:end].decode(), path[end:]
    except ValueError as err:
        raise Malformed("a host path of an unknown kind or owner") from err


def check_value(value: bytes) -> None:
    """Raises Refused(LIMIT_EXCEEDED) for a value no journal should hold."""
    if len(value) > MAX_VALUE_BYTES:
        raise Refused(Reason.LIMIT_EXCEEDED, f"a value may hold {MAX_VALUE_BYTES} bytes")


def append_tick(tx: Transaction, chain_id: str, now: int) -> int:
    """An entry of an idle node, so that its clients elsewhere do not expire."""
    return tx.append(host_path(Kind.TICK, chain_id, be64(tx.size)), be64(now))


def seal(
    tx: Transaction,
    edge: Edge,
    origin: str,
    time: int,
    set_hash: bytes,
    next_set_hash: bytes,
) -> tuple[Edge, CheckpointRow]:
    """Closes a batch: extends the tree by the staged entries and stages the one body of that size.

    The note is signed after the commit (relay.signing); after a crash the same body is signed.
    """
    leaves = [entry_hash(path, value) for path, value in tx.entries]
    edge, touched = extend(edge, leaves)
    tx.at_commit(lambda connection: write_tiles(connection, touched))
    body = encode_body(
        CheckpointBody(
            origin=origin,
            size=edge.size,
            root=edge.root(),
            time=time,
            set_hash=set_hash,
            next_set_hash=next_set_hash,
        )
    )
    row = CheckpointRow(edge.size, time, body, "", set_hash, next_set_hash)
    tx.add(row)
    return edge, row
