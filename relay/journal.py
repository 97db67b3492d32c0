"""The append-only journal: every state change is an entry, and paths are written once.

Leaf data is H(path) || H(value), 64 bytes (relay.light.membership). Packet paths are those of IBC
v2 (relay.packet); every other path is built by the host (relay.paths).
"""

from __future__ import annotations

from relay.errors import Reason, Refused
from relay.light.checkpoint import CheckpointBody, encode_body
from relay.light.membership import entry_hash
from relay.packet import be64
from relay.paths import Kind, host_path, parse_host_path, record_path
from relay.store import CheckpointRow, Transaction
from relay.tiles import Edge, extend, write_tiles

__all__ = [
    "Kind",
    "append_tick",
    "check_value",
    "host_path",
    "parse_host_path",
    "record_path",
    "seal",
]

MAX_VALUE_BYTES = 2 * 1024 * 1024


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
