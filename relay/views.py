"""What a node shows of itself: the frozen values that queries return and the API carries.

They stand apart from `relay.query`, which makes them, so that the client and the CLI can speak of
them without loading SQL or gRPC. Times are integer seconds since 1970 UTC, heights tree sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from relay.chain import Step
from relay.light.checkpoint import chain_name
from relay.light.types import ClientState, ConsensusState, Witness
from relay.packet import Packet


class Direction(StrEnum):
    """Which end of a packet a node is."""

    OUT = "out"
    IN = "in"


class PacketState(StrEnum):
    """Where a packet stands on the node that is asked: three states outbound, two inbound."""

    SENT = "sent"
    ACKNOWLEDGED = "acknowledged"
    TIMED_OUT = "timed_out"
    DEFERRED = "deferred"
    """Received; the contract acknowledges later."""
    RECEIVED = "received"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class RecoveryView:
    """A proposal to give a client a new state and anchor (relay.recovery)."""

    state: ClientState
    """What would be pinned."""
    proposed: int
    """Seconds since 1970 UTC."""
    due: int
    """From when it may be completed."""


@dataclass(frozen=True, slots=True)
class ClientView:
    """A client as its node sees it."""

    client_id: str
    state: ClientState
    latest: ConsensusState
    counterparty_client_id: str
    """Empty until it is registered."""
    frozen: bool
    expires: int
    """When the trusting period of the latest header ends."""
    recovery: RecoveryView | None = None
    """The recovery that waits for its delay."""
    complete_time: int = 0
    """Seconds: everything that its chain had sent before then is here; 0 while unknown."""

    @property
    def chain(self) -> str:
        """Global id of the chain that it follows, without the epoch."""
        return chain_name(self.state.chain_id)


@dataclass(frozen=True, slots=True)
class PacketView:
    """A packet as this node sees it. Its name here is (client_id, sequence, direction)."""

    direction: Direction
    state: PacketState
    packet: Packet
    acknowledgements: tuple[bytes, ...]
    """One a payload; empty where there are none yet."""
    height: int
    """Lowest height whose header covers the last step here."""
    time: int
    """Time of the last step here."""

    @property
    def client_id(self) -> str:
        """The client of this node that the packet belongs to."""
        if self.direction is Direction.OUT:
            return self.packet.source_client
        return self.packet.destination_client


@dataclass(frozen=True, slots=True)
class TraceStep:
    """One entry of this node's journal about a packet."""

    step: Step
    index: int
    height: int
    time: int
    verified_height: int
    """Height of the other chain's header it was verified under; 0 for a send."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class HeadView:
    """The newest signed head."""

    origin: str
    size: int
    """For a replicated chain, the height of the header."""
    root: bytes
    time: int
    note: bytes
    """The C2SP signed note, exactly as signed; empty for a replicated chain."""


@dataclass(frozen=True, slots=True)
class WitnessView:
    """How it stands with one witness of a node."""

    witness: Witness
    address: str
    """`host:port`, or the URL of its HTTP form."""
    size: int
    """Greatest size that it has co-signed; 0 where there is none."""
    reason: str = ""
    """Why the last question was not answered by a co-signature; empty where it was."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class StatusView:
    """A node in one glance."""

    chain_id: str
    role: str
    version: str
    head: HeadView | None
    """None while nothing is signed yet."""
    clients: int
    packets_open: int
    """Packets sent from here that are neither acknowledged nor timed out."""
    outbox: int
    """Deliveries that wait here for the relayer; 0 on a ledger."""
    ports: tuple[str, ...]
    """Ports of the contracts that run here."""
    signed_size: int = 0
    """Size of the newest signed head; `head` may wait for its witnesses behind it."""
    witness_quorum: int = 0
    """Witnesses that must have co-signed a head before it is shown; 0: shown at once."""
    witnesses: tuple[WitnessView, ...] = ()
    """Who is asked to co-sign this node's heads."""
    own_witness: Witness | None = None
    """By which key this node itself co-signs the heads of others."""
    client_type: str = "checkpoint"
    """Entry point in the group `lianqiao.clients` by which others follow this node."""
    proof_kind: str = "rfc6962"
    """Kind of the proofs under its heads, to be pinned with it."""
    algorithm: str = ""
    """Algorithm to be pinned with it; empty: whoever pins may choose."""


@dataclass(frozen=True, slots=True)
class PolicyView:
    """One version of a policy document, without its content."""

    kind: str
    name: str
    version: int
    effective_from: int
    digest: bytes
    """SHA-256 of the document."""
    in_force: bool
    """Whether it is the version of its kind and name that is in force now."""


@dataclass(frozen=True, slots=True)
class Cleared:
    """What an operator's request to clear a client's packets took up again."""

    waiting: int
    """Steps that waited for their next attempt."""
    dead: int
    """Steps that had been given up."""
    forgotten: int
    """Open packets of the node that waited nowhere."""
    reread: bool
    """Whether the other chain's steps are read again from the first."""


@dataclass(frozen=True, slots=True)
class Undelivered:
    """One step of a packet that a relayer could not finish."""

    client_id: str
    """Of this node, and so is the name (client_id, sequence, direction)."""
    sequence: int
    direction: Direction
    step: Step
    """What is asked for: any but SEND."""
    attempts: int
    next_attempt: int
    """Seconds since 1970 UTC; 0 where it was given up."""
    given_up: bool
    """Whether it is tried again only when an operator asks for it."""
    reason: str
    """Of the last refusal, with its detail behind a colon; empty where there was none."""
    commitment: bytes
    """Of the packet: two histories of one chain have two packets of one name."""


@dataclass(frozen=True, slots=True)
class LaneView:
    """How a relay reaches one chain. What is trusted of it is in the client."""

    client_id: str
    """The relay's client of that chain."""
    adapter: str
    """Entry point in the group `lianqiao.chains`."""
    address: str
    """`host:port`."""
    reason: str = ""
    """Why its last turn stopped; empty where it did not."""
    detail: str = ""
    settings: tuple[tuple[str, str], ...] = ()
    """What the adapter needs beside the address: (name, value) in ascending order of name."""


@dataclass(frozen=True, slots=True)
class Cosigned:
    """What a witness answers to a head that it was shown."""

    lines: tuple[bytes, ...]
    """Its signature lines, each with its LF; empty where it needs a proof from another size."""
    size: int
    """The size that it co-signed, or the one from which it needs a proof."""
