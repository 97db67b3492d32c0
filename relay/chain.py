"""What a relayer needs of a chain, and nothing more: six calls, all of whose answers are untrusted.

A node itself, another lianqiao node over gRPC, a simulated chain and a foreign chain all look
like this. Adapters supply it by an entry point `lianqiao.chains`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from relay.light.types import Claim, Witness
from relay.packet import Packet

MAX_BATCH = 1000
"""Items in one delivery, and in one answer of `packets`."""
MAX_ENTRIES = 16
"""Entries that travel with one packet."""
MAX_ENTRY_BYTES = 64 * 1024
"""Values of the entries of one packet, together."""
MAX_SENT_CLAIMS = 64
"""Of one statement of what was sent: a foreign chain may need several."""


class Step(StrEnum):
    """What a chain did with a packet, as its journal shows; also what a delivery asks for."""

    SEND = "send"
    RECEIVE = "receive"
    ACKNOWLEDGE = "acknowledge"
    TIMEOUT = "timeout"
    EXPIRE = "expire"


@dataclass(frozen=True, slots=True)
class PacketStep:
    """One packet step found on a chain: a send, an acknowledgement written, a sentinel written.

    `cursor` orders steps on that chain and resumes a listing; `height` is the lowest height whose
    header covers the step.
    """

    cursor: int
    height: int
    step: Step
    """SEND: commitment written here. RECEIVE: receipt and acknowledgement written here (the
    acknowledgements are in `acknowledgements`). EXPIRE: the sentinel was written here."""
    packet: Packet
    acknowledgements: tuple[bytes, ...] = ()
    entries: tuple[Claim, ...] = ()
    """Other entries of the chain's journal that travel with a packet sent (`Item.entries`)."""


@dataclass(frozen=True, slots=True)
class Item:
    """One verb for the receiving chain to run on one packet: every step but SEND."""

    step: Step
    packet: Packet
    acknowledgements: tuple[bytes, ...] = ()
    entries: tuple[Claim, ...] = ()
    """Entries of the source's journal, path and value, that the contract behind the packet wants
    to see proven beside it: at most MAX_ENTRIES, each at a path of the host (relay.journal)."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """Headers and items for one client of the receiving chain, applied in one database transaction.

    One proof, under `height`, covers the claims of all items in order: of each its packet's, then
    its entries. What several items claim alike stands in the proof once, where it comes first.
    """

    client_id: str
    headers: tuple[bytes, ...] = ()
    """Raw headers to update the client with first, ascending; may be all there is."""
    height: int = 0
    proof: bytes = b""
    items: tuple[Item, ...] = ()
    sent: tuple[Claim, ...] = ()
    """What the chain states that it had sent by when (`StatingChain.sent`), claimed in the same
    proof before the items'; taken after them."""


class Outcome(StrEnum):
    """What became of one item."""

    DONE = "done"
    NOOP = "noop"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Submission:
    """The answer to one item; `reason` (relay.errors.Reason) and `detail` where it was refused."""

    outcome: Outcome
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class DeliveryResult:
    """What became of one delivery: of its headers (one answer for all) and of each item."""

    headers: Submission
    items: tuple[Submission, ...]
    sent: Submission = Submission(Outcome.NOOP)
    """Of the statement; NOOP where there was none, or none that is younger than what is known."""


@dataclass(frozen=True, slots=True)
class ClientStatus:
    """A chain's own view of one of its clients, as a relayer needs it (untrusted like the rest)."""

    client_id: str
    counterparty_client_id: str
    chain_id: str
    algorithm: str
    latest_height: int
    latest_time: int
    set_hash: bytes
    """Hash of the set that must sign the next header."""
    trusting_period: int
    frozen: bool
    witnesses: tuple[Witness, ...] = ()
    """Whose co-signatures the client counts."""
    complete_time: int = 0
    """Seconds: everything that was sent to it before then is there; 0 while that is not known."""


@runtime_checkable
class StatingChain(Protocol):
    """A chain that states what its clients have sent (relay.light.types.TellsSent)."""

    def sent(self, client_id: str, height: int, before: int) -> Sequence[Claim]:
        """The youngest statement about packets of `client_id` that can be proven under `height`
        and whose next sequence is at most `before`; empty where there is none.

        Raises NotFound(CLIENT_NOT_FOUND).
        """
        ...


@runtime_checkable
class DoubtedChain(Protocol):
    """A chain that is reached by several nodes."""

    def doubt(self) -> None:
        """Headers that it gave were refused as false: another node is asked first from now on. A
        node that lies is no worse than one that does not answer, and must not hold a lane up."""
        ...


def states_as_of_head(chain: object) -> bool:
    """Whether a chain states what it had sent as of the head that proves it, by its state alone.

    Such a statement has no time of its own: the same words say more under a younger head.
    """
    return bool(getattr(chain, "as_of_head", False))


class Chain(Protocol):
    """I/O with one chain. Every method may raise Unavailable(CHAIN_UNREACHABLE), typed always."""

    @property
    def chain_id(self) -> str:
        """Id of the chain, as it says itself."""
        ...

    def latest_height(self) -> int:
        """The greatest height that has a signed header; 0 where there is none yet."""
        ...

    def headers(
        self,
        trusted_height: int,
        height: int,
        algorithm: str = "ed25519",
        witnesses: Sequence[Witness] = (),
    ) -> Sequence[bytes]:
        """The raw headers that lead a client from `trusted_height` to `height`, ascending.

        The last is that of `height`; before it come those that show a change of the validator set.
        With `trusted_height` 0, only the last. Where signers hold keys of several algorithms, only
        the signatures of `algorithm`, the one that the client pins; and the co-signatures that
        there are of `witnesses`, those that it pins, and of nobody else. Raises
        NotFound(HEIGHT_NOT_FOUND).
        """
        ...

    def client(self, client_id: str) -> ClientStatus:
        """This chain's view of one of its clients. Raises NotFound(CLIENT_NOT_FOUND)."""
        ...

    def packets(self, client_id: str, after: int, limit: int) -> Sequence[PacketStep]:
        """Steps of packets of one of this chain's clients, with cursor > `after`, ascending.

        Fewer than `limit` is no sign that there are no more; none is. Raises
        NotFound(CLIENT_NOT_FOUND).
        """
        ...

    def prove(self, paths: Sequence[bytes], height: int) -> bytes:
        """One proof that all `paths` are written at `height`. Raises NotFound(PATH_NOT_FOUND)."""
        ...

    def submit(self, deliveries: Sequence[Delivery]) -> Sequence[DeliveryResult]:
        """Applies deliveries; idempotent: what was applied before answers NOOP."""
        ...
