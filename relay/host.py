"""What a contract sees of its node: relay.contract.State over one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from relay.contract import Head
from relay.errors import NotFound, Reason, Refused
from relay.journal import Kind, check_value, host_path, record_path
from relay.light.checkpoint import chain_name
from relay.light.types import ABLE, Claim
from relay.packet import Payload
from relay.store import Direction, PacketRow, Transaction

if TYPE_CHECKING:
    from relay.channel import Channel

MAX_SCAN = 10_000
_NOTHING: Mapping[bytes, bytes] = {}


class HostState:
    """One contract's window: its own keys, sends, proofs; nothing else."""

    def __init__(
        self,
        channel: Channel,
        tx: Transaction,
        port: str,
        now: int,
        proven: Mapping[bytes, bytes] = _NOTHING,
    ) -> None:
        """`proven`: entries of the sending chain that were verified with the packet received."""
        self.chain_id = channel.chain_id
        self._proven = proven
        self._channel = channel
        self._tx = tx
        self._port = port
        self._now = now

    def get(self, key: bytes) -> bytes | None:
        """See relay.contract.State."""
        return self._tx.get(self._path(key))

    def scan(
        self, prefix: bytes, *, after: bytes = b"", limit: int = 1000
    ) -> Sequence[tuple[bytes, bytes]]:
        """See relay.contract.State. At most MAX_SCAN pairs."""
        return scan_records(self._tx, self._port, prefix, after, min(limit, MAX_SCAN))

    def last(self, prefix: bytes) -> tuple[bytes, bytes] | None:
        """See relay.contract.State."""
        return last_record(self._tx, self._port, prefix)

    def put(self, key: bytes, value: bytes) -> None:
        """See relay.contract.State."""
        path = self._path(key)
        check_value(value)
        if self._tx.get(path) != value:
            self._tx.append(path, value)

    def send(self, client_id: str, payload: Payload, timeout_timestamp: int) -> int:
        """See relay.contract.State."""
        if payload.source_port != self._port:
            raise Refused(Reason.NOT_PERMITTED, "a contract sends from its own port only")
        return self._channel.send(self._tx, client_id, [payload], timeout_timestamp, self._now)

    def acknowledge(self, client_id: str, sequence: int, acknowledgement: bytes) -> None:
        """See relay.contract.State. Raises NotFound(PACKET_NOT_FOUND), or
        Refused(NOT_PERMITTED) for a packet of another port or one that is not deferred."""
        row = self._tx.load(PacketRow, client_id, Direction.IN, sequence)
        if row is None:
            raise NotFound(Reason.PACKET_NOT_FOUND, "no such packet was received")
        self._channel.acknowledge_deferred(self._tx, row, self._port, acknowledgement, self._now)

    def head(self, client_id: str) -> Head:
        """See relay.contract.State."""
        client = self._channel.clients.load(self._tx, client_id)
        chain_id = chain_name(client.row.chain_id)
        row = client.row
        return Head(
            client_id,
            chain_id,
            row.latest_height,
            row.latest_time,
            row.complete_time,
            getattr(client.type, "abilities", ABLE),
        )

    def client_of(self, chain_id: str) -> str:
        """See relay.contract.State."""
        return self._channel.clients.of_chain(self._tx, chain_id)

    def proven(self, path: bytes) -> bytes | None:
        """See relay.contract.State."""
        return self._proven.get(path)

    def verify_membership(
        self, client_id: str, height: int, path: bytes, value: bytes, proof: bytes
    ) -> None:
        """See relay.contract.State."""
        clients = self._channel.clients
        client = clients.load(self._tx, client_id)
        client.check_active(clients.latest(self._tx, client), self._now)
        consensus = clients.consensus(self._tx, client, height)
        client.type.verify_membership(client.state, consensus, proof, [Claim(path, value)])

    def _path(self, key: bytes) -> bytes:
        return record_path(self._port, key)


def scan_records(
    tx: Transaction, port: str, prefix: bytes, after: bytes, limit: int
) -> list[tuple[bytes, bytes]]:
    """(key, value) pairs of one contract, `after` exclusive, in byte order."""
    base = host_path(Kind.RECORD, port)
    start = max(base + prefix, base + after + b"\x00" if after else b"")
    found = tx.scan(start, _after_prefix(base + prefix), limit)
    return [(path[len(base) :], value) for path, value in found]


def last_record(tx: Transaction, port: str, prefix: bytes) -> tuple[bytes, bytes] | None:
    """The pair of one contract with the greatest key under `prefix`."""
    base = host_path(Kind.RECORD, port)
    found = tx.last(base + prefix, _after_prefix(base + prefix))
    return None if found is None else (found[0][len(base) :], found[1])


def _after_prefix(prefix: bytes) -> bytes:
    """The least bytes greater than everything that starts with `prefix`."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes((stripped[-1] + 1,))
