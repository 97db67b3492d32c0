"""What the tables hold, as frozen values. Rows are made only from these, and only when verified.

Everything but `delivery`, `request` and the notes on `checkpoint` is a fold over the journal's
entries (relay.fold recomputes it); those three keep raw inputs for re-execution and idempotency.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.views import Direction, PacketState

__all__ = [
    "BlockRow",
    "CheckpointRow",
    "ClientRow",
    "ConsensusRow",
    "DeliveryRow",
    "Direction",
    "PacketRow",
    "PacketState",
    "RequestRow",
    "client_of_lineage",
    "lineage_of",
]


def lineage_of(client_id: str, recovered: int) -> str:
    """`client_id` itself, or `client_id@INDEX` after the recovery that was proposed at INDEX."""
    return f"{client_id}@{recovered - 1}" if recovered else client_id


def client_of_lineage(lineage: str) -> tuple[str, int]:
    """(client id, recovered) of a lineage. Ids end with a number after '-', so '@' is the cut."""
    client_id, cut, index = lineage.rpartition("@")
    return (client_id, int(index) + 1) if cut and index.isdigit() else (lineage, 0)


@dataclass(frozen=True, slots=True)
class ClientRow:
    """One client of this node; key: client_id."""

    client_id: str
    number: int
    client_type: str
    chain_id: str
    state: bytes
    """relay.light.encoding of the pinned ClientState."""
    counterparty: str
    """Client id on the other side; empty until registered."""
    frozen: int
    """Journal index of the misbehaviour entry, plus one; 0 while it is not frozen."""
    latest_height: int
    latest_time: int
    next_sequence: int
    floor: int
    """Sequences below it are pruned: receive and expire are refused."""
    recovery: int = 0
    """Journal index of the pending proposal to recover it, plus one; 0 while there is none."""
    recovered: int = 0
    """Journal index of the proposal that gave it its present anchor, plus one; 0: its creation."""
    stated: int = 0
    """Journal index of the last statement of what it had sent, plus one; 0 while there is none."""
    complete_time: int = 0
    """Seconds: everything that was sent to it before then is here; 0 while that is not known."""
    complete_sequence: int = 0
    """Every sequence below it is here, as of the last statement that was taken."""

    @property
    def lineage(self) -> str:
        """The name under which headers since the present anchor are kept."""
        return lineage_of(self.client_id, self.recovered)


@dataclass(frozen=True, slots=True)
class ConsensusRow:
    """One verified header of a client; key: (client_id, height)."""

    client_id: str
    """ClientRow.lineage: heights of another epoch or history are other heights."""
    height: int
    state: bytes
    """relay.light.encoding of the ConsensusState, as journaled."""
    header: bytes
    """The raw header, kept for re-verification."""
    index: int
    """Journal index of the update."""


@dataclass(frozen=True, slots=True)
class PacketRow:
    """One packet seen from this node; key: (client_id, direction, sequence)."""

    client_id: str
    direction: Direction
    sequence: int
    packet: bytes
    """relay.packet_bytes encoding."""
    state: PacketState
    acknowledgements: bytes
    """relay.packet_bytes encoding of the list; empty while there is none."""
    index: int
    """Journal index of the step a relayer carries on: out: the commitment; in: the
    acknowledgement or the sentinel (-1 while deferred)."""
    time: int
    """Batch time of that step, seconds."""
    delivery: int
    """in: the delivery it came with; 0 for out."""
    closed_index: int
    """out: journal index of the closing, -1 while open; in: index of the receipt or sentinel."""
    closed_time: int
    closed_delivery: int
    """out: the delivery that closed it, 0 while open."""
    error: str
    """Why the contract failed, for the operator; never on the journal."""


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """One proof as it came, with what it proved; key: number."""

    number: int
    client_id: str
    """ClientRow.lineage."""
    height: int
    proof: bytes
    claims: bytes
    """relay.packet_bytes encoding of the (path, value) pairs the proof covers, after `sent`."""
    time: int
    sent: bytes = b""
    """The same, of the statement of what the chain had sent; empty where none came with it."""


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """The one body of a size; key: size. `note` is empty between commit and signature."""

    size: int
    time: int
    body: bytes
    note: str
    set_hash: bytes
    next_set_hash: bytes


@dataclass(frozen=True, slots=True)
class RequestRow:
    """A call that has no natural key, and its answer; key: request_id."""

    request_id: str
    body_hash: bytes
    response: bytes
    index: int
    """Journal size when it was answered: which batch it was in."""


@dataclass(frozen=True, slots=True)
class BlockRow:
    """The journal after one block of a replicated engine; key: height. The same on all replicas."""

    height: int
    time: int
    """Of the block, seconds; never decreasing."""
    size: int
    """Entries in the journal once the block was executed."""
    root: bytes
    """RFC 9162 root of that size."""
