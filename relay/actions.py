"""Every way into a node as a plain value: what was asked, and how it is applied.

An action is a frozen dataclass with one canonical encoding (relay.action_bytes) and `apply`. The
journal engine runs actions as they come; a replicated engine orders them among its validators
first. Whoever holds the actions of a journal and their times can make it again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Protocol

from relay import recovery, ticking
from relay.chain import Delivery, DeliveryResult
from relay.channel import Channel
from relay.contract import Contract
from relay.errors import Conflict, LianqiaoError, Malformed, NotFound, Reason, Refused
from relay.host import HostState
from relay.journal import Kind, append_tick, host_path
from relay.light.client import anchor
from relay.light.states import encode_client_state
from relay.light.types import ClientState, ConsensusState, ValidatorSet
from relay.light.validators import encode_set, set_hash
from relay.packet import be64
from relay.proposals import creation_digest, recovery_digest
from relay.store import RequestRow, Transaction
from relay.store.identity import save_set

MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_REQUEST_ID = 64


class Action(Protocol):
    """One thing that is asked of a node."""

    def apply(self, channel: Channel, tx: Transaction, now: int) -> Any:
        """Does it in `tx` at batch time `now`, and nothing outside; its answer.

        Deterministic. Raises LianqiaoError; the caller then undoes what was staged.
        """
        ...


@dataclass(frozen=True, slots=True)
class Deliver:
    """Headers and packets with their proofs. Idempotent."""

    deliveries: tuple[Delivery, ...]

    def apply(self, channel: Channel, tx: Transaction, now: int) -> list[DeliveryResult]:
        """Raises NotFound(CLIENT_NOT_FOUND); other refusals are in the results."""
        return [channel.deliver(tx, delivery, now) for delivery in self.deliveries]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a contract by this node's operator or an institution it serves.

    With a `request_id` the same call again gives the stored answer; another body under it is
    Refused(REQUEST_ID_REUSED).
    """

    port: str
    method: str
    body: bytes
    request_id: str = ""

    def apply(self, channel: Channel, tx: Transaction, now: int) -> bytes:
        """Raises PORT_NOT_FOUND, REQUEST_ID_REUSED, and what the contract raises."""
        contract = contract_on(channel, self.port)
        whole = b"\0".join((self.port.encode(), self.method.encode(), self.body))

        def call() -> bytes:
            state = HostState(channel, tx, self.port, now)
            return contract.call(self.method, self.body, state, now)

        return _once(tx, self.request_id, whole, call)


@dataclass(frozen=True, slots=True)
class CallEach:
    """The same call for many bodies; each stands or fails by itself."""

    port: str
    method: str
    bodies: tuple[bytes, ...]

    def apply(self, channel: Channel, tx: Transaction, now: int) -> list[bytes | LianqiaoError]:
        """An answer for each body, or the error that it was refused with."""
        contract = contract_on(channel, self.port)
        state = HostState(channel, tx, self.port, now)
        answers: list[bytes | LianqiaoError] = []
        for body in self.bodies:
            mark = tx.mark()
            try:
                answers.append(contract.call(self.method, body, state, now))
            except LianqiaoError as err:
                tx.rollback(mark)
                if isinstance(err, Conflict):
                    raise
                answers.append(err)
        return answers


@dataclass(frozen=True, slots=True)
class CreateClient:
    """Pins a chain: its id, algorithm, threshold, witnesses and first header."""

    state: ClientState
    anchor_header: bytes
    request_id: str = ""

    def apply(self, channel: Channel, tx: Transaction, now: int) -> str:
        """The client id. Raises what relay.light.client.anchor raises."""

        def create() -> bytes:
            return channel.clients.create(tx, self.state, self.anchor_header, now).encode()

        whole = encode_client_state(self.state) + self.anchor_header
        return _once(tx, self.request_id, whole, create).decode()


@dataclass(frozen=True, slots=True)
class CreateBound:
    """A client together with its counterparty: one decision where several operators decide."""

    state: ClientState
    anchor_header: bytes
    counterparty_client_id: str
    request_id: str = ""

    def apply(self, channel: Channel, tx: Transaction, now: int) -> str:
        """The client id. Raises what CreateClient and RegisterCounterparty raise."""

        def create() -> bytes:
            client_id = channel.clients.create(tx, self.state, self.anchor_header, now)
            channel.clients.register_counterparty(tx, client_id, self.counterparty_client_id)
            return client_id.encode()

        body = encode_client_state(self.state) + self.anchor_header
        whole = b"\0".join((b"bound", self.counterparty_client_id.encode(), body))
        return _once(tx, self.request_id, whole, create).decode()


@dataclass(frozen=True, slots=True)
class RegisterCounterparty:
    """Names the client on the other side, once."""

    client_id: str
    counterparty_client_id: str

    def apply(self, channel: Channel, tx: Transaction, now: int) -> bool:
        """False where it was named so already. Raises COUNTERPARTY_EXISTS."""
        return channel.clients.register_counterparty(
            tx, self.client_id, self.counterparty_client_id
        )


@dataclass(frozen=True, slots=True)
class SubmitMisbehaviour:
    """Freezes a client by evidence."""

    client_id: str
    evidence: bytes

    def apply(self, channel: Channel, tx: Transaction, now: int) -> bool:
        """False where it is frozen already. Raises NOT_MISBEHAVIOUR."""
        return channel.clients.freeze(tx, self.client_id, self.evidence, now)


@dataclass(frozen=True, slots=True)
class ProposeRecovery:
    """Proposes a new state and anchor for a client that can judge no more."""

    client_id: str
    substitute: ClientState
    anchor_header: bytes
    delay: int
    """Seconds until it may be completed."""

    def apply(self, channel: Channel, tx: Transaction, now: int) -> int:
        """When it is due. Raises what relay.recovery.propose raises."""
        return recovery.propose(
            channel.clients,
            tx,
            self.client_id,
            self.substitute,
            self.anchor_header,
            self.delay,
            now,
        ).due


@dataclass(frozen=True, slots=True)
class CancelRecovery:
    """Withdraws what was proposed."""

    client_id: str

    def apply(self, channel: Channel, tx: Transaction, now: int) -> bool:
        """False where nothing is pending."""
        return recovery.cancel(channel.clients, tx, self.client_id)


@dataclass(frozen=True, slots=True)
class CompleteRecovery:
    """Completes what was proposed."""

    client_id: str

    def apply(self, channel: Channel, tx: Transaction, now: int) -> None:
        """Raises what relay.recovery.complete raises."""
        recovery.complete(channel.clients, tx, self.client_id, now)


@dataclass(frozen=True, slots=True)
class CompleteDue:
    """Completes every recovery that is due."""

    def apply(self, channel: Channel, tx: Transaction, now: int) -> list[tuple[str, str]]:
        """(client id, reason) of those that are refused."""
        return recovery.complete_due(channel.clients, tx, now)


@dataclass(frozen=True, slots=True)
class RunDue:
    """Runs what time alone makes due in contracts."""

    def apply(self, channel: Channel, tx: Transaction, now: int) -> list[ticking.Failed]:
        """(port, method, reason) of what failed."""
        return ticking.run_due(channel, tx, now)


@dataclass(frozen=True, slots=True)
class SkipSequences:
    """Passes over sequences that were used and forgotten."""

    client_id: str
    next_sequence: int

    def apply(self, channel: Channel, tx: Transaction, now: int) -> bool:
        """False where it is there already. Raises SEQUENCE_USED."""
        return recovery.skip(channel.clients, tx, self.client_id, self.next_sequence)


@dataclass(frozen=True, slots=True)
class AnnounceSet:
    """Announces the set that decides from the end of this batch on."""

    next_set: ValidatorSet

    def apply(self, channel: Channel, tx: Transaction, now: int) -> bytes:
        """The hash of the set."""
        encoded, digest = encode_set(self.next_set), set_hash(self.next_set)
        tx.append(host_path(Kind.SET, channel.chain_id, be64(tx.size)), encoded)
        save_set(tx, digest, encoded)
        return digest


@dataclass(frozen=True, slots=True)
class Tick:
    """An entry of an idle node."""

    def apply(self, channel: Channel, tx: Transaction, now: int) -> bool:
        """True."""
        append_tick(tx, channel.chain_id, now)
        return True


def agreed(action: Action, encoded: bytes, channel: Channel, now: int) -> bytes:
    """32 bytes that are the same for operators who ask for the same: the digest of the action's
    encoding, but for an anchor header, of which only what is trusted counts (relay.proposals), and
    for the id by which a caller repeats his own call.

    Raises what relay.light.client.anchor raises, CLIENT_TYPE_UNKNOWN.
    """
    if isinstance(action, CreateClient | CreateBound):
        kept = _anchored(channel, action.state, action.anchor_header, now)
        counterparty = action.counterparty_client_id if isinstance(action, CreateBound) else ""
        return creation_digest(action.state, kept, counterparty)
    if isinstance(action, ProposeRecovery):
        kept = _anchored(channel, action.substitute, action.anchor_header, now)
        return recovery_digest(action.client_id, action.substitute, kept, action.delay)
    if isinstance(action, Call) and action.request_id:
        whole = (action.port.encode(), action.method.encode(), action.body)
        return sha256(b"lianqiao/proposal/call/v1\n" + b"\0".join(whole)).digest()
    return sha256(encoded).digest()


def _anchored(channel: Channel, state: ClientState, header: bytes, now: int) -> ConsensusState:
    return anchor(channel.clients.type_of(state.client_type), state, header, now)[0]


def contract_on(channel: Channel, port: str) -> Contract:
    """The contract that runs on `port`. Raises NotFound(PORT_NOT_FOUND)."""
    contract = channel.contracts.get(port)
    if contract is None:
        known = ", ".join(sorted(channel.contracts)) or "none"
        raise NotFound(
            Reason.PORT_NOT_FOUND,
            f"no contract runs on port {port[:128]}",
            hint=f"contracts of this node: {known}; ledgers keep records, relays decide",
            port=port,
        )
    return contract


def _once(tx: Transaction, request_id: str, body: bytes, run: Callable[[], bytes]) -> bytes:
    """`run`, or what is stored for a repeated request id."""
    if not request_id:
        return run()
    if len(request_id) > MAX_REQUEST_ID:
        raise Malformed(
            f"request_id is longer than {MAX_REQUEST_ID} characters", field="request_id"
        )
    digest = sha256(body).digest()
    known = tx.load(RequestRow, request_id)
    if known is not None:
        if known.body_hash != digest:
            raise Refused(
                Reason.REQUEST_ID_REUSED,
                "this request id was used for another call",
                hint="make a new request_id for each call, repeat it only to retry",
            )
        return known.response
    answer = run()
    tx.add(RequestRow(request_id, digest, answer, tx.size))
    return answer
