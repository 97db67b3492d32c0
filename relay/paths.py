"""Where entries of a journal are written that are no packet's. Pure: a verifier recomputes them.

Packet paths are those of IBC v2 (relay.packet) and begin with a printable client id; every other
path begins with 0x00 and is built by the host, so that no contract can write what looks like a
packet:

    0x00 || kind (1 byte) || len(owner) (1 byte) || owner || key
"""

from __future__ import annotations

from enum import IntEnum
from hashlib import sha256

from relay.errors import Malformed, Reason

MAX_KEY_BYTES = 512
MAX_PATH_BYTES = 3 + 255 + MAX_KEY_BYTES


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
    SENT = 14
    """owner: client id; key: BE64(index); value: what it had sent by then (relay.light.sent)."""
    COMPLETE = 15
    """owner: client id; key: BE64(index); value: BE64(time) || BE64(sequence): everything that the
    chain of the client had sent before is here (relay.sent)."""
    OPERATION = 20
    """owner: operator; key: nonce; value: H(action). What an operator of a replicated chain asked
    for, done or refused; the path is written once, so it is never asked for twice."""
    APPROVAL = 21
    """owner: operator; key: H(action) || BE64(round) || BE64(index); value: BE64(time). He wants
    what only several operators together may do."""
    DECIDED = 22
    """owner: chain id; key: H(action) || BE64(round); value: BE64(time). Enough of them did."""
    POWERS = 23
    """owner: chain id; key: BE64(index); value: all who make blocks, with their powers
    (relay.powers)."""
    QUORUM = 24
    """owner: chain id; key: BE64(index); value: BE64(how many operators must agree from then on)
    (relay.deciding)."""
    REQUEST = 25
    """owner: chain id; key: H(request id); value: H(call) || H(answer). What a replicated chain
    answers a call that is asked again under one request id."""


def host_path(kind: Kind, owner: str, key: bytes = b"") -> bytes:
    """A path of the host. Raises Malformed(LIMIT_EXCEEDED) past the limits."""
    name = owner.encode()
    if not 1 <= len(name) <= 255 or len(key) > MAX_KEY_BYTES:
        raise Malformed("an entry's owner or key is too long", reason=Reason.LIMIT_EXCEEDED)
    return bytes((0, kind, len(name))) + name + key


def record_path(port: str, key: bytes) -> bytes:
    """Where the contract on `port` writes `key`, on this chain or any other lianqiao node.

    Raises Malformed for an empty key, Malformed(LIMIT_EXCEEDED) past the limits.
    """
    if not key:
        raise Malformed("a contract's key is not empty")
    return host_path(Kind.RECORD, port, key)


def request_path(chain_id: str, request_id: str) -> bytes:
    """Where a replicated chain writes what it answers under a request id."""
    return host_path(Kind.REQUEST, chain_id, sha256(request_id.encode()).digest())


def request_value(body_hash: bytes, response: bytes) -> bytes:
    """What it writes there, 64 bytes; `body_hash` is that of the call."""
    return body_hash + sha256(response).digest()


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
