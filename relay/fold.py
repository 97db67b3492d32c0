"""The tables as a fold over the journal: what the entries alone say, in order.

Used by fsck (and by restore): nothing here reads a table but `entry`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from relay.channel import CLOSED_BY_ACKNOWLEDGEMENT, CLOSED_BY_TIMEOUT
from relay.clients import decode_creation
from relay.epoch import Opening, decode_opening
from relay.errors import Malformed
from relay.journal import Kind, parse_host_path
from relay.light.checkpoint import chain_name
from relay.light.sent import decode_sent
from relay.light.states import decode_client_state, decode_consensus_state
from relay.light.validators import decode_set, set_hash
from relay.packet import ABSENT
from relay.recovery import decode_proposal
from relay.sent import decode_complete
from relay.store import Direction, PacketState, client_of_lineage, lineage_of

_COMMITMENT, _RECEIPT, _ACKNOWLEDGEMENT = 1, 2, 3
_SUFFIX = 9
"""One kind byte and BE64(sequence)."""


@dataclass(frozen=True, slots=True)
class FoldedClient:
    """A client as the journal tells it."""

    state: bytes
    chain_id: str
    client_type: str
    counterparty: str = ""
    frozen: int = 0
    latest_height: int = 0
    latest_time: int = 0
    next_sequence: int = 1
    recovery: int = 0
    recovered: int = 0
    stated: int = 0
    complete_time: int = 0
    complete_sequence: int = 0
    floor: int = 0
    """No entry raises it yet, so any other is not the journal's."""
    number: int = 0


@dataclass(frozen=True, slots=True)
class FoldedPacket:
    """A packet as the journal tells it: only hashes, since payloads are not on the journal."""

    state: PacketState
    commitment: bytes
    acknowledgement: bytes = b""
    index: int = -1
    closed_index: int = -1


@dataclass(slots=True)
class Fold:
    """Entries in, tables out. Raises Malformed for an entry that no node of ours writes."""

    clients: dict[str, FoldedClient] = field(default_factory=dict)
    consensus: dict[tuple[str, int], tuple[bytes, int]] = field(default_factory=dict)
    """(lineage, height) -> (encoded state, index)."""
    pinned: dict[str, bytes] = field(default_factory=dict)
    """lineage -> the encoded client state that its headers were judged by."""
    not_before: dict[int, int] = field(default_factory=dict)
    """index of a completed recovery -> the earliest time that its body may have."""
    packets: dict[tuple[str, Direction, int], FoldedPacket] = field(default_factory=dict)
    sets: dict[int, bytes] = field(default_factory=dict)
    """index -> hash of the set announced there."""
    epochs: dict[int, Opening] = field(default_factory=dict)
    """index -> the epoch that is opened there."""
    stated: dict[int, int] = field(default_factory=dict)
    """index of a statement of what was sent -> its time."""
    complete: list[tuple[str, int, int]] = field(default_factory=list)
    """(lineage, time, sequence) of every statement of another chain that was taken."""
    requests: dict[bytes, bytes] = field(default_factory=dict)
    """H(request id) -> what a replicated chain answers under it (relay.paths.request_value)."""
    _open: dict[str, int] = field(default_factory=dict)
    """client id -> the lowest open sequence in its last statement."""
    _proposals: dict[int, int] = field(default_factory=dict)
    """index of a proposed recovery -> when it is due."""

    def apply(self, index: int, path: bytes, value: bytes) -> None:
        """Takes the next entry."""
        host = parse_host_path(path)
        if host is None:
            self._packet_entry(index, path, value)
            return
        kind, owner, key = host
        if kind in (Kind.GENESIS, Kind.SET):
            self.sets[index] = set_hash(decode_set(value))
        elif kind is Kind.CLIENT:
            self._client(index, owner, value)
        elif kind is Kind.HEADER:
            self._header(index, owner, int.from_bytes(key, "big"), value)
        elif kind is Kind.COUNTERPARTY:
            self._bound(owner, value.decode("utf-8", "replace"))
        elif kind is Kind.MISBEHAVIOUR:
            self._change(owner, frozen=index + 1)
        elif kind is Kind.CLOSED:
            self._closed(index, owner, int.from_bytes(key, "big"), value)
        elif kind is Kind.RECOVERY:
            self._proposed(index, owner, value)
        elif kind is Kind.RECOVERED:
            self._recovered(index, owner, int.from_bytes(key, "big"), value)
        elif kind is Kind.EPOCH:
            self.epochs[index] = decode_opening(value)
        elif kind is Kind.SKIPPED:
            self._skipped(owner, int.from_bytes(value, "big"))
        elif kind is Kind.SENT:
            self._stated(index, owner, value)
        elif kind is Kind.COMPLETE:
            self._complete(owner, value)
        elif kind is Kind.REQUEST:
            self.requests[key] = value

    def _client(self, index: int, client_id: str, value: bytes) -> None:
        encoded, anchor = decode_creation(value)
        state = decode_client_state(encoded)
        number = int(client_id.rpartition("-")[2])
        self.clients[client_id] = FoldedClient(
            encoded, state.chain_id, state.client_type, number=number
        )
        self.pinned[client_id] = encoded
        self._header(index, client_id, decode_consensus_state(anchor).height, anchor)

    def _header(self, index: int, lineage: str, height: int, value: bytes) -> None:
        consensus = decode_consensus_state(value)
        if consensus.height != height:
            raise Malformed("a header entry names another height than its value")
        client_id, recovered = client_of_lineage(lineage)
        if self._client_of(client_id).recovered != recovered:
            raise Malformed("a header entry of a lineage that is not in force")
        self.consensus[(lineage, height)] = (value, index)
        self._change(client_id, latest_height=height, latest_time=consensus.time)

    def _bound(self, client_id: str, counterparty: str) -> None:
        chain = chain_name(self._client_of(client_id).chain_id)
        others = (c for c in self.clients.values() if chain_name(c.chain_id) == chain)
        if any(other.counterparty for other in others):
            raise Malformed("a second client speaks for a chain, or a counterparty is named twice")
        self._change(client_id, counterparty=counterparty)

    def _proposed(self, index: int, client_id: str, value: bytes) -> None:
        if self._client_of(client_id).recovery:
            raise Malformed("a recovery is proposed while another is pending")
        self._proposals[index] = decode_proposal(value).due
        self._change(client_id, recovery=index + 1)

    def _recovered(self, index: int, client_id: str, proposal: int, value: bytes) -> None:
        if self._client_of(client_id).recovery != proposal + 1:
            raise Malformed("a recovery ends that is not pending")
        self._change(client_id, recovery=0)
        if not value:
            return
        encoded, anchor = decode_creation(value)
        lineage = lineage_of(client_id, proposal + 1)
        self.pinned[lineage] = encoded
        self.not_before[index] = self._proposals[proposal]
        chain_id = decode_client_state(encoded).chain_id
        self._change(
            client_id,
            state=encoded,
            chain_id=chain_id,
            frozen=0,
            recovered=proposal + 1,
            complete_time=0,
            complete_sequence=0,
        )
        self._header(index, lineage, decode_consensus_state(anchor).height, anchor)

    def _skipped(self, client_id: str, sequence: int) -> None:
        if sequence <= self._client_of(client_id).next_sequence:
            raise Malformed("sequences are skipped backwards")
        self._change(client_id, next_sequence=sequence)

    def _stated(self, index: int, client_id: str, value: bytes) -> None:
        client, (sent, open_) = self._client_of(client_id), decode_sent(value)
        if sent.next_sequence != client.next_sequence:
            raise Malformed("a statement names another next sequence than its client has")
        if any(
            self.packets[client_id, Direction.OUT, sequence].state is PacketState.SENT
            for sequence in range(self._open.get(client_id, 1), open_)
            if (client_id, Direction.OUT, sequence) in self.packets
        ):
            raise Malformed("a statement passes over a packet that is open")
        self._open[client_id] = open_
        self.stated[index] = sent.time
        self._change(client_id, stated=index + 1)

    def _complete(self, client_id: str, value: bytes) -> None:
        client, (time, sequence) = self._client_of(client_id), decode_complete(value)
        if time <= client.complete_time or sequence < client.complete_sequence:
            raise Malformed("what is here becomes less")
        lineage = lineage_of(client_id, client.recovered)
        self.complete.append((lineage, time, sequence))
        self._change(client_id, complete_time=time, complete_sequence=sequence)

    def _client_of(self, client_id: str) -> FoldedClient:
        client = self.clients.get(client_id)
        if client is None:
            raise Malformed("an entry about a client that was not created")
        return client

    def _change(self, client_id: str, **changes: object) -> None:
        self.clients[client_id] = replace(self._client_of(client_id), **changes)  # type: ignore[arg-type]

    def _packet_entry(self, index: int, path: bytes, value: bytes) -> None:
        if not path[:-_SUFFIX].isascii() or len(path) <= _SUFFIX:
            raise Malformed("a path that is neither the host's nor a packet's")
        client_id = path[:-_SUFFIX].decode()
        kind, sequence = path[-_SUFFIX], int.from_bytes(path[-8:], "big")
        if kind == _COMMITMENT:
            key = (client_id, Direction.OUT, sequence)
            self.packets[key] = FoldedPacket(PacketState.SENT, value, index=index)
            self._change(client_id, next_sequence=sequence + 1)
        elif kind == _RECEIPT and value == ABSENT:
            key = (client_id, Direction.IN, sequence)
            self.packets[key] = FoldedPacket(
                PacketState.EXPIRED, b"", index=index, closed_index=index
            )
        elif kind == _RECEIPT:
            key = (client_id, Direction.IN, sequence)
            self.packets[key] = FoldedPacket(PacketState.DEFERRED, value, closed_index=index)
        elif kind == _ACKNOWLEDGEMENT:
            key = (client_id, Direction.IN, sequence)
            self._packet(key, state=PacketState.RECEIVED, acknowledgement=value, index=index)
        else:
            raise Malformed("a packet entry of an unknown kind")

    def _closed(self, index: int, client_id: str, sequence: int, value: bytes) -> None:
        key = (client_id, Direction.OUT, sequence)
        if value[:1] == CLOSED_BY_ACKNOWLEDGEMENT:
            self._packet(
                key, state=PacketState.ACKNOWLEDGED, acknowledgement=value[1:], closed_index=index
            )
        elif value == CLOSED_BY_TIMEOUT:
            self._packet(key, state=PacketState.TIMED_OUT, closed_index=index)
        else:
            raise Malformed("a closing of an unknown kind")

    def _packet(self, key: tuple[str, Direction, int], **changes: object) -> None:
        packet = self.packets.get(key)
        if packet is None:
            raise Malformed("an entry about a packet that was neither sent nor received")
        self.packets[key] = replace(packet, **changes)  # type: ignore[arg-type]
