"""The tables of `registry` and `escrow` out of an EVM ledger's logs, by the contracts themselves.

What was posted is called again on the contract that every lianqiao ledger runs, with the block's
time; notices are received by it, answers and timeouts told to it. What it would send, the chain has
sent: a `Plan` says under which sequence. What the contract refuses leaves the packet alone: it was
sent, whoever wrote it there, and the relay judges it by its signatures.

What was done to the escrow is done again on the contract `escrow` (adapters.evm.books). The steps
are kept, for whoever wants to do so himself; what came out otherwise is kept and told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import structlog

from adapters.evm.books.fold import do, shown_with
from adapters.evm.books.steps import EMPTY, BookStep
from adapters.evm.engine.logs import (
    Answered,
    Block,
    Lapsed,
    Place,
    Recorded,
    Told,
    book_step,
    is_of,
)
from adapters.evm.light.state import CLIENT_ID
from relay.canonical import Json, encode
from relay.chain import PacketStep, Step
from relay.channel import CLOSED_BY_ACKNOWLEDGEMENT, CLOSED_BY_TIMEOUT, Channel
from relay.clients import Client, Clients
from relay.contract import CONTRACT_FAILURES, Contract
from relay.contracts import undelivered
from relay.contracts.base import key
from relay.contracts.escrow import QUIET
from relay.contracts.payloads import ESCROW_PORT, REGISTRY_PORT, fields
from relay.errors import LianqiaoError, NotFound, Reason, Refused
from relay.host import HostState
from relay.light.checkpoint import chain_name
from relay.packet import (
    ERROR_ACKNOWLEDGEMENT,
    Packet,
    Payload,
    acknowledgement_commitment,
    commitment_path,
    packet_commitment,
    receipt_path,
)
from relay.packet_bytes import decode_packet, encode_acknowledgements
from relay.packet_rows import new_row
from relay.store import ClientRow, Direction, PacketRow, PacketState, Transaction

READ_PORT = "evm"
"""Under which the node keeps how far it has read; no contract runs there."""
UNSENT = 2**52
"""What a call answers as a sequence while nothing is sent."""
MAX_SECONDS = 86_400
_ACTIONS = {"new": "attest", "amend": "amend", "retract": "retract"}
_log = structlog.get_logger("lianqiao.evm")


@dataclass(slots=True)
class Plan:
    """What becomes of the packets that a contract sends within one transaction."""

    given: deque[int] | None = None
    """The sequences that they have; None: they are collected."""
    expected: Payload | None = None
    """Of the one packet that may be sent; another is refused."""
    refused: bool = False
    """The chain could not send it."""
    sent: list[tuple[Payload, int]] = field(default_factory=list)
    """(payload, timeout) of each that was collected."""

    def send(self, payload: Payload, timeout: int) -> int:
        """The packet's sequence. Raises Refused."""
        if self.refused:
            raise Refused(Reason.CLIENT_FROZEN, "the endpoint could not send it")
        if self.expected is not None and payload != self.expected:
            raise Refused(Reason.CONTRACT_REFUSED, "something else was posted")
        if self.given is None:
            self.sent.append((payload, timeout))
            return UNSENT + len(self.sent)
        if not self.given:
            raise Refused(Reason.CONTRACT_REFUSED, "fewer packets were posted")
        return self.given.popleft()


class _OneClient(Clients):
    """The endpoint's client of the relay: verified on the chain, named here."""

    def __init__(self, origin: str) -> None:
        super().__init__({})
        self._origin = origin

    def load(self, tx: Transaction, client_id: str) -> Client:
        """See Clients."""
        if client_id != CLIENT_ID:
            raise NotFound(Reason.CLIENT_NOT_FOUND, f"an endpoint has one client, {CLIENT_ID}")
        row = ClientRow(CLIENT_ID, 0, "checkpoint", self._origin, b"", "", 0, 0, 0, 1, 0)
        return Client(row, None, None)  # type: ignore[arg-type]

    def of_chain(self, tx: Transaction, chain_id: str) -> str:
        """See Clients."""
        if chain_id != chain_name(self._origin):
            raise NotFound(
                Reason.CLIENT_NOT_FOUND,
                f"the endpoint follows {chain_name(self._origin)}, and no other relay",
                chain_id=chain_id,
            )
        return CLIENT_ID


class Mirror(Channel):
    """relay.channel.Channel, where the chain has done what it does. See the module."""

    ticks = False

    def __init__(
        self,
        chain_id: str,
        origin: str,
        contracts: Mapping[str, Contract],
        endpoint: bytes = bytes(20),
    ) -> None:
        """`origin`: of the relay that the endpoint follows; `endpoint`: its address."""
        # The escrow of the chain sends nothing, and so tells no relay of its accounts.
        quiet = {ESCROW_PORT: QUIET} if ESCROW_PORT in contracts else {}
        super().__init__(chain_id, _OneClient(origin), {**contracts, **quiet})
        self._relay = chain_name(origin)
        self._endpoint = endpoint
        self._plans: dict[int, Plan] = {}

    @contextmanager
    def planned(self, tx: Transaction, plan: Plan) -> Iterator[Plan]:
        """What contracts send in `tx` goes by `plan`."""
        self._plans[id(tx)] = plan
        try:
            yield plan
        finally:
            del self._plans[id(tx)]

    def send(
        self,
        tx: Transaction,
        client_id: str,
        payloads: Sequence[Payload],
        timeout_timestamp: int,
        now: int,
    ) -> int:
        """See Channel: nothing is sent from here; the sequence is the plan's."""
        plan = self._plans.get(id(tx)) or Plan()  # of who only tries what a call would do
        return plan.send(payloads[0], timeout_timestamp)

    def call(
        self, tx: Transaction, method: str, body: bytes, now: int, port: str = REGISTRY_PORT
    ) -> bytes:
        """One call of a contract. Raises what it raises."""
        state = HostState(self, tx, port, now)
        return self.contracts[port].call(method, body, state, now)

    # --- what was told

    def fold(self, tx: Transaction, blocks: Iterable[Block], place: Place) -> None:
        """Writes what the blocks tell, and how far was read."""
        for block in blocks:
            for told in block.told:
                step = book_step(told, block.time, self._endpoint)
                if is_of(told, REGISTRY_PORT):
                    self._fold(tx, told, block.time)
                elif ESCROW_PORT in self.contracts and isinstance(told, PacketStep):
                    if told.step is Step.RECEIVE:
                        self._take(tx, told.packet, told.acknowledgements[0], step, block.time)
                elif ESCROW_PORT in self.contracts and step is not None:
                    self._do(tx, step)
        value: Json = {
            "block": place.block,
            "history": place.history.hex(),
            "steps": place.steps,
        }
        HostState(self, tx, READ_PORT, 0).put(key("read", f"{place.block:016d}"), encode(value))

    def _fold(self, tx: Transaction, told: Told, now: int) -> None:
        if isinstance(told, PacketStep):
            if told.step is Step.SEND:
                self._sent(tx, told.packet, now)
            elif told.step is Step.RECEIVE:
                self._received(tx, told.packet, told.acknowledgements[0], now)
        elif isinstance(told, Answered):
            self._ended(tx, told.sequence, told.acknowledgement, Plan(refused=True), now)
        elif isinstance(told, Lapsed):
            plan = Plan(deque([told.again])) if told.again else Plan(refused=True)
            self._ended(tx, told.sequence, None, plan, now)
        elif isinstance(told, Recorded):
            self._recorded(tx, told, now)

    def _sent(self, tx: Transaction, packet: Packet, now: int) -> None:
        path = commitment_path(CLIENT_ID, packet.sequence)
        index = tx.append(path, packet_commitment(packet))
        tx.add(new_row(packet, Direction.OUT, PacketState.SENT, index=index, time=now))
        payload = packet.payloads[0]
        plan = Plan(deque([packet.sequence]), payload)

        def call() -> None:
            method, body = self._call_of(payload, packet.timeout_timestamp - now)
            self.call(tx, method, encode(body), now)

        self._attempt(tx, plan, call)
        state = HostState(self, tx, REGISTRY_PORT, now)
        undelivered.note_sent(state, self._relay, payload, CLIENT_ID, packet.sequence)

    def _call_of(self, payload: Payload, seconds: int) -> tuple[str, dict[str, Json]]:
        """The call whose packet it is. Raises Malformed."""
        body = fields.document(payload.value)
        kind = body.get("type")
        if kind == "attestation":
            method = _ACTIONS.get(str(body.get("action")), "attest")
            return method, {"attestations": [body], "relays": [self._relay]}
        if kind == "request":
            seconds = min(max(seconds, 1), MAX_SECONDS)
            return "request", {"request": body, "timeout_seconds": seconds}
        return "outcome", {"outcome": body}

    def _receipt(self, tx: Transaction, packet: Packet, now: int) -> PacketRow:
        index = tx.append(receipt_path(CLIENT_ID, packet.sequence), packet_commitment(packet))
        row = replace(
            new_row(packet, Direction.IN, PacketState.DEFERRED, index=-1, time=now),
            closed_index=index,
            closed_time=now,
        )
        tx.add(row)
        return row

    def _take(
        self, tx: Transaction, packet: Packet, answer: bytes, step: BookStep | None, now: int
    ) -> None:
        """A packet that the escrow received; no step where that changed nothing."""
        row = self._receipt(tx, packet, now)
        self.write_acknowledgement(
            tx, row, [answer], "" if step is None else self._do(tx, step), now
        )

    def _do(self, tx: Transaction, step: BookStep) -> str:
        """Does a step of the books again and keeps it; what was different."""
        kept = HostState(self, tx, READ_PORT, 0)
        last = kept.last(b"step/")
        number = 1 if last is None else int(last[0].rpartition(b"/")[2]) + 1
        kept.put(key("step", f"{number:016d}"), step.encode())
        mark = tx.mark()
        found = do(step, HostState(self, tx, ESCROW_PORT, step.time, shown_with(step)))
        if found is None:
            return ""
        tx.rollback(mark)
        if not found.foreseen:
            kept.put(key("differs", f"{number:016d}"), encode({"said": found.said}))
            _log.error("books_differ", step=number, said=found.said)
        return found.said

    def _received(self, tx: Transaction, packet: Packet, answer: bytes, now: int) -> None:
        row = self._receipt(tx, packet, now)
        payload = packet.payloads[0]
        state = HostState(self, tx, REGISTRY_PORT, now)
        contract = self.contracts[REGISTRY_PORT]
        mark = tx.mark()
        why = self._attempt(
            tx, Plan(deque()), lambda: contract.receive(packet, payload, state, now)
        )
        if answer == ERROR_ACKNOWLEDGEMENT:
            tx.rollback(mark)  # the chain has refused it, and says nowhere why
            why = why or str(Reason.CONTRACT_REFUSED)
        self.write_acknowledgement(tx, row, [answer], why, now)

    def _ended(
        self, tx: Transaction, sequence: int, answer: bytes | None, plan: Plan, now: int
    ) -> None:
        row = tx.load(PacketRow, CLIENT_ID, Direction.OUT, sequence)
        if row is None or row.state is not PacketState.SENT:
            return
        packet = decode_packet(row.packet)
        with self.planned(tx, plan):
            if answer is None:
                row = replace(row, state=PacketState.TIMED_OUT)
                row = self._close(tx, row, CLOSED_BY_TIMEOUT, 0, now)
                self._call_back(tx, row, packet, None, now)
                return
            encoded = encode_acknowledgements([answer])
            row = replace(row, state=PacketState.ACKNOWLEDGED, acknowledgements=encoded)
            value = CLOSED_BY_ACKNOWLEDGEMENT + acknowledgement_commitment([answer])
            row = self._close(tx, row, value, 0, now)
            self._call_back(tx, row, packet, [answer], now)

    def _recorded(self, tx: Transaction, told: Recorded, now: int) -> None:
        def call() -> None:
            document = fields.document(told.value)
            self.call(tx, fields.code(document, "method"), encode(document["body"]), now)

        self._attempt(tx, Plan(deque()), call)

    def _attempt(self, tx: Transaction, plan: Plan, run: Callable[[], object]) -> str:
        """Runs a part of the contract; undone, and told, where that fails."""
        mark = tx.mark()
        try:
            with self.planned(tx, plan):
                run()
        except CONTRACT_FAILURES as err:
            tx.rollback(mark)
            reason = str(err.reason) if isinstance(err, LianqiaoError) else type(err).__name__
            _log.warning("not_understood", reason=reason)
            return reason
        return ""


def last_read(tx: Transaction, mirror: Mirror) -> Place:
    """How far was read; block 0 at first."""
    found = HostState(mirror, tx, READ_PORT, 0).last(b"read/")
    if found is None:
        return Place(0)
    document = fields.document(found[1])
    history = fields.octets(document, "history") if "history" in document else EMPTY
    return Place(fields.integer(document, "block"), fields.integer(document, "steps"), history)
