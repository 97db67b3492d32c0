"""What a contract is, and all that it may touch.

A contract is deterministic: the same packets in the same order give the same writes on every
node and on every re-execution. It reads its own keys, writes once, sends packets, and asks for
proofs; no clock (`now` is the time of the batch, integer seconds), no store, no randomness, no
float. Third parties supply one by an entry point `lianqiao.contracts`, named by its port.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from relay.errors import LianqiaoError
from relay.light.types import ABLE, Abilities
from relay.packet import Packet, Payload

CONTRACT_FAILURES = (
    LianqiaoError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    RuntimeError,
)
"""What a contract may fail with. Errors of the database, the disk or the machine are not its own
and end the whole transaction instead."""


@dataclass(frozen=True, slots=True)
class Deferred:
    """Returned by `receive`: the acknowledgement comes later, by `state.acknowledge`."""


@dataclass(frozen=True, slots=True)
class HeadNeed:
    """A delivery wants all that the chain of `client_id` had sent before `time`, seconds, to be
    here, and this known (`Head.complete_time`)."""

    client_id: str
    time: int


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of a client's chain: its youngest verified header, and what is here of it."""

    client_id: str
    chain_id: str
    height: int
    time: int
    """Seconds, of that header. It says nothing of the packets below it: whoever brought the header
    may have left some out."""
    complete_time: int = 0
    """Seconds: everything that the chain had sent before then is here; 0 while that is not known.
    What was not revoked as of then is known not to have been."""
    abilities: Abilities = ABLE
    """What the escrow of a ledger of that kind can do."""


class Reader(Protocol):
    """The part of State that only reads; what services hand to the readers of a contract."""

    def get(self, key: bytes) -> bytes | None:
        """The value written at `key`, or None."""
        ...

    def scan(
        self, prefix: bytes, *, after: bytes = b"", limit: int = 1000
    ) -> Sequence[tuple[bytes, bytes]]:
        """(key, value) pairs under `prefix`, greater than `after`, in byte order."""
        ...

    def last(self, prefix: bytes) -> tuple[bytes, bytes] | None:
        """The pair with the greatest key under `prefix`, or None."""
        ...


class State(Protocol):
    """A contract's window on its host. Keys are bytes, 1-512 long; the host prefixes the port."""

    chain_id: str
    """Global id of the ledger this contract runs on, without the epoch."""

    def get(self, key: bytes) -> bytes | None:
        """The value written at `key`, or None."""
        ...

    def scan(
        self, prefix: bytes, *, after: bytes = b"", limit: int = 1000
    ) -> Sequence[tuple[bytes, bytes]]:
        """(key, value) pairs whose key starts with `prefix`, above `after`, in byte order."""
        ...

    def last(self, prefix: bytes) -> tuple[bytes, bytes] | None:
        """The (key, value) pair of the greatest key that starts with `prefix`, or None.

        How what changes is read where nothing is written twice: versions under ascending keys, of
        which the last counts. It costs one look-up however many there are.
        """
        ...

    def put(self, key: bytes, value: bytes) -> None:
        """Writes once. Raises Refused(PATH_WRITTEN) where `key` holds another value; the same
        value again is a no-op."""
        ...

    def send(self, client_id: str, payload: Payload, timeout_timestamp: int) -> int:
        """Sends a packet of one payload to the counterparty of `client_id`; its sequence.

        Raises what the verb *send* raises (CLIENT_NOT_FOUND, CLIENT_FROZEN, TIMEOUT_ELAPSED …).
        """
        ...

    def acknowledge(self, client_id: str, sequence: int, acknowledgement: bytes) -> None:
        """Writes the acknowledgement of a packet that `receive` deferred."""
        ...

    def head(self, client_id: str) -> Head:
        """The youngest verified head of a client. Raises NotFound(CLIENT_NOT_FOUND)."""
        ...

    def client_of(self, chain_id: str) -> str:
        """The client that speaks for `chain_id` (without epoch), if it is active: there is one
        with a counterparty at most, so the chain's id and the client's are bound one to one.

        Raises NotFound(CLIENT_NOT_FOUND).
        """
        ...

    def proven(self, path: bytes) -> bytes | None:
        """The entry at `path` of the sending chain's journal that came with the packet that is
        received and was proven beside it (relay.paths.record_path of its port and key); else None.

        None as well for an entry of another packet, and wherever no packet is received.
        """
        ...

    def verify_membership(
        self, client_id: str, height: int, path: bytes, value: bytes, proof: bytes
    ) -> None:
        """Verifies an inclusion proof under a stored consensus state. Raises as a receive does."""
        ...


@runtime_checkable
class Audited(Protocol):
    """A contract whose own records can be held against each other: what `fsck` asks of it."""

    def audit(self, state: Reader, chain_id: str) -> Iterator[str]:
        """One sentence for each thing that is wrong; nothing where all is as it should be.

        `chain_id` is that of the node, without the epoch. Reads in pages; raises nothing.
        """
        ...


class Contract(Protocol):
    """A contract on one port. Raising LianqiaoError in `receive` rolls back its writes and yields
    the error acknowledgement; a business refusal is a value it returns."""

    port: str
    operator_methods: frozenset[str] = frozenset()
    """Calls that change whom this contract believes, or make what did not come by a packet: where
    several institutions run the node, several of their operators must ask for the very same."""

    def receive(self, packet: Packet, payload: Payload, state: State, now: int) -> bytes | Deferred:
        """Runs one payload of a verified packet; the application acknowledgement."""
        ...

    def acknowledge(
        self, packet: Packet, payload: Payload, acknowledgement: bytes, state: State, now: int
    ) -> None:
        """Learns the proven acknowledgement of a packet it sent."""
        ...

    def timeout(self, packet: Packet, payload: Payload, state: State, now: int) -> None:
        """Learns that a packet it sent was proven never to have been received."""
        ...

    def call(self, method: str, body: bytes, state: State, now: int) -> bytes:
        """Runs one action of this node's own operator or of an institution it serves.

        This is the only way in from outside packets; like a packet it is one step of the journal.
        Raises LianqiaoError: then nothing is written.
        """
        ...

    def due(self, state: Reader, now: int) -> Sequence[tuple[str, bytes]]:
        """Calls of its own, (method, body), that time alone makes due; default: none.

        Asked with every tick of a node and every block of a replicated one, so it must be cheap
        and its answer bounded. Each call stands or fails by itself, and one that failed is asked
        for again. Pure.
        """
        return ()

    def heads_needed(
        self, packet: Packet, payload: Payload, state: State, now: int
    ) -> Iterable[HeadNeed]:
        """Which clients must have a young head before `receive` may answer on the merits.

        Pure: the relayer asks it before a delivery and updates those clients first.
        """
        ...

    def tick(self, state: State, now: int) -> None:
        """What is taken up by itself, whatever the time; default: nothing. `due` is for what a
        moment brings.

        Once in a tick, and whenever a client becomes active; on a replicated chain in every block.
        Deterministic, bounded, and a few look-ups where there is nothing to do. Raising
        LianqiaoError undoes what it wrote.
        """
        return None

    def holds(self, chain_id: str, state: State) -> bool:
        """Whether something that must arrive at a chain (without epoch) waits to be sent: then
        the node does not state to it that it has sent everything (relay.sent). Pure; default: no.
        """
        return False

    def entries(self, packet: Packet, payload: Payload, state: State) -> Sequence[bytes]:
        """Keys of this contract's own records that travel with a packet it sent; default: none.

        Pure. They are written before the packet is sent, or in the same step; what is not is left
        behind. Together at most relay.chain.MAX_ENTRIES, of MAX_ENTRY_BYTES.
        """
        return ()

    def entries_needed(self, packet: Packet, payload: Payload) -> Sequence[bytes]:
        """Paths on the sending chain that must be proven beside a packet; default: none.

        Pure, from the payload alone. A packet that comes without one of them is refused with
        ENTRY_MISSING and leaves no trace; `receive` then sees their values by `state.proven`.
        """
        return ()
