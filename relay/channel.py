"""The five verbs on packets, each with its order of checks (DESIGN §3).

Everything happens inside one transaction that the caller commits. Replay is a successful no-op.
A contract's failure undoes the contract's own writes and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import structlog

from relay.chain import Delivery, DeliveryResult, Item, Outcome, Step, Submission
from relay.clients import Client, Clients
from relay.contract import CONTRACT_FAILURES, Contract, Deferred
from relay.entries import require_entries, values_of
from relay.errors import Conflict, Invalid, LianqiaoError, NotFound, Reason, Refused, Unavailable
from relay.host import HostState
from relay.journal import Kind, host_path
from relay.packet import (
    ABSENT,
    ERROR_ACKNOWLEDGEMENT,
    MAX_TIMEOUT_AHEAD,
    Packet,
    Payload,
    acknowledgement_commitment,
    acknowledgement_path,
    be64,
    check_packet,
    commitment_path,
    packet_commitment,
    receipt_path,
)
from relay.packet_bytes import (
    MAX_ACKNOWLEDGEMENT_BYTES,
    decode_packet,
    encode_acknowledgements,
)
from relay.packet_rows import new_row, prefetch
from relay.proven import Proven
from relay.sent import read_sent, take_sent
from relay.store import Direction, PacketRow, PacketState, Transaction

CLOSED_BY_ACKNOWLEDGEMENT, CLOSED_BY_TIMEOUT = b"\x01", b"\x02"
_log = structlog.get_logger()


class Channel:
    """Packets between this node and its counterparties."""

    ticks = True
    """Whether contracts may send in a tick: not where packets are sent by another ledger."""

    def __init__(self, chain_id: str, clients: Clients, contracts: Mapping[str, Contract]) -> None:
        self.chain_id = chain_id
        self.clients = clients
        self.contracts = contracts

    # --- send

    def send(
        self,
        tx: Transaction,
        client_id: str,
        payloads: Sequence[Payload],
        timeout_timestamp: int,
        now: int,
    ) -> int:
        """Commits to a packet; its sequence.

        1. the counterparty is known  2. the client is active  3. now < timeout, at most 24 h ahead
        4. the next sequence  5. the commitment.
        """
        client = self.clients.load(tx, client_id)
        if not client.row.counterparty:
            raise Refused(
                Reason.COUNTERPARTY_UNKNOWN,
                "the client has no counterparty yet",
                hint="lianqiao connect registers counterparties on both sides",
                client_id=client_id,
            )
        client.check_active(self.clients.latest(tx, client), now)
        if timeout_timestamp <= now:
            raise Refused(Reason.TIMEOUT_ELAPSED, "the timeout lies in the past", now=now)
        if timeout_timestamp > now + MAX_TIMEOUT_AHEAD:
            raise Refused(Reason.TIMEOUT_TOO_FAR, "a timeout may lie 24 hours ahead", now=now)
        sequence = client.row.next_sequence
        packet = Packet(
            sequence, client_id, client.row.counterparty, timeout_timestamp, tuple(payloads)
        )
        check_packet(packet)
        path = commitment_path(client_id, sequence)
        index = tx.append(path, packet_commitment(packet), fresh=True)
        tx.add(new_row(packet, Direction.OUT, PacketState.SENT, index=index, time=now))
        tx.save(replace(client.row, next_sequence=sequence + 1))
        return sequence

    # --- deliveries

    def deliver(self, tx: Transaction, delivery: Delivery, now: int) -> DeliveryResult:
        """Updates the client, runs each item, takes the statement of what was sent; what is
        refused leaves no trace.

        Raises NotFound(CLIENT_NOT_FOUND); everything else is in the result.
        """
        client_id = delivery.client_id
        self.clients.load(tx, client_id)
        mark = tx.mark()
        try:
            new = self.clients.update(tx, client_id, delivery.headers, now)
            headers = Submission(Outcome.DONE if new else Outcome.NOOP)
        except LianqiaoError as err:
            tx.rollback(mark)
            headers = _refusal(err)
        client = self.clients.load(tx, client_id)
        prefetch(tx, delivery)
        proven = Proven(self.clients, tx, client, delivery, now)
        items, kept = [], False
        for item in delivery.items:
            mark = tx.mark()
            try:
                done = self._run(tx, item, proven, now)
                items.append(Submission(Outcome.DONE if done else Outcome.NOOP))
                kept = kept or done
            except (Conflict, Unavailable):
                raise
            except LianqiaoError as err:
                tx.rollback(mark)
                items.append(_refusal(err))
        stated = self._take_sent(tx, delivery, proven)
        if kept or stated.outcome is Outcome.DONE:
            proven.keep()
        return DeliveryResult(headers, tuple(items), stated)

    def _take_sent(self, tx: Transaction, delivery: Delivery, proven: Proven) -> Submission:
        """The statement of a delivery, after its items: as of when everything is here."""
        if not delivery.sent:
            return Submission(Outcome.NOOP)
        mark = tx.mark()
        try:
            client = self.clients.load(tx, delivery.client_id)
            consensus = self.clients.consensus(tx, client, delivery.height)
            sent = read_sent(client, consensus, delivery.sent)
            if sent.time <= client.row.complete_time:
                return Submission(Outcome.NOOP)
            proven.require()
            take_sent(tx, client, sent)
        except (Conflict, Unavailable):
            raise
        except LianqiaoError as err:
            tx.rollback(mark)
            return _refusal(err)
        return Submission(Outcome.DONE)

    def _run(self, tx: Transaction, item: Item, proven: Proven, now: int) -> bool:
        check_packet(item.packet)
        if item.step is Step.RECEIVE:
            return self.receive(tx, item, proven, now)
        if item.step is Step.ACKNOWLEDGE:
            return self.acknowledge(tx, item.packet, item.acknowledgements, proven, now)
        if item.step is Step.TIMEOUT:
            return self.timeout(tx, item.packet, proven, now)
        if item.step is Step.EXPIRE:
            return self.expire(tx, item.packet, proven, now)
        raise Refused(Reason.INVALID_PACKET, f"{item.step} is not delivered")

    # --- as a receiver

    def receive(self, tx: Transaction, item: Item, proven: Proven, now: int) -> bool:
        """1. counterparty  2. floor  3. receipt: no-op for this very packet  4. sentinel
        5. now < timeout  6. membership of the commitment and of the entries  7. the entries that
        contracts need are among them  8. receipt  9. contract  10. acknowledgement.

        False where it was received before. Raises COUNTERPARTY_MISMATCH, PRUNED, TIMED_OUT,
        COMMITMENT_MISMATCH, TIMEOUT_ELAPSED, what Proven.require raises, and ENTRY_MISSING.
        """
        packet = item.packet
        client_id = self._check_counterparty(packet, proven.client)
        path = receipt_path(client_id, packet.sequence)
        written = tx.get(path)
        if written == ABSENT:
            raise Refused(
                Reason.TIMED_OUT, "this packet was expired here", sequence=packet.sequence
            )
        if written is not None:
            return self._check_received(packet, written)
        if now >= packet.timeout_timestamp:
            raise Refused(
                Reason.TIMEOUT_ELAPSED,
                "the packet's timeout has passed",
                now=now,
                timeout=packet.timeout_timestamp,
            )
        _, delivery = proven.require()
        require_entries(self.contracts, item)
        receipt = tx.append(path, packet_commitment(packet))
        row = replace(
            new_row(packet, Direction.IN, PacketState.DEFERRED, index=-1, time=now),
            delivery=delivery,
            closed_index=receipt,
            closed_time=now,
        )
        tx.add(row)
        acknowledgements, error = self._run_contracts(tx, item, now)
        if acknowledgements is not None:
            self.write_acknowledgement(tx, row, acknowledgements, error, now)
        return True

    def _check_received(self, packet: Packet, receipt: bytes) -> bool:
        """False for the packet that the receipt is of. A ledger that lost what it had sent may
        use a sequence again: what it sends then must not pass for what was received."""
        if receipt != packet_commitment(packet):
            raise Invalid(
                Reason.COMMITMENT_MISMATCH,
                "another packet was received under that sequence",
                hint="its ledger has lost what it sent: it skips the sequences it has used",
                sequence=packet.sequence,
            )
        return False

    def _check_counterparty(self, packet: Packet, client: Client) -> str:
        row = client.row
        if packet.destination_client != row.client_id or packet.source_client != row.counterparty:
            raise Refused(
                Reason.COUNTERPARTY_MISMATCH,
                "the packet is not between this client and its counterparty",
                expected=row.counterparty,
                found=packet.source_client,
            )
        if packet.sequence < row.floor:
            raise Refused(Reason.PRUNED, "the sequence lies below the floor", floor=row.floor)
        return row.client_id

    def _run_contracts(
        self, tx: Transaction, item: Item, now: int
    ) -> tuple[list[bytes] | None, str]:
        """The acknowledgements, or None where deferred; and why it failed, for the operator.

        A packet of several payloads is atomic: if one errs, the writes of all are undone and the
        list is exactly [error constant].
        """
        mark, packet = tx.mark(), item.packet
        try:
            acknowledgements = []
            for payload in packet.payloads:
                contract = self._contract(payload.destination_port)
                state = HostState(self, tx, contract.port, now, values_of(item))
                answer = contract.receive(packet, payload, state, now)
                if isinstance(answer, Deferred):
                    if len(packet.payloads) > 1:
                        raise Refused(
                            Reason.CONTRACT_REFUSED, "only a packet of one payload can be deferred"
                        )
                    return None, ""
                _check_acknowledgement(answer)
                acknowledgements.append(answer)
        except (Conflict, Unavailable):
            raise
        except CONTRACT_FAILURES as err:
            tx.rollback(mark)
            return [ERROR_ACKNOWLEDGEMENT], _why(err)
        return acknowledgements, ""

    def _contract(self, port: str) -> Contract:
        contract = self.contracts.get(port)
        if contract is None:
            raise NotFound(Reason.PORT_NOT_FOUND, "no contract runs on this port", port=port)
        return contract

    def write_acknowledgement(
        self,
        tx: Transaction,
        row: PacketRow,
        acknowledgements: Sequence[bytes],
        error: str,
        now: int,
    ) -> None:
        """Writes the commitment to an acknowledgement, and its packet row."""
        path = acknowledgement_path(row.client_id, row.sequence)
        index = tx.append(path, acknowledgement_commitment(acknowledgements))
        tx.save(
            replace(
                row,
                state=PacketState.RECEIVED,
                acknowledgements=encode_acknowledgements(acknowledgements),
                index=index,
                time=now,
                error=error,
            )
        )

    def acknowledge_deferred(
        self, tx: Transaction, row: PacketRow, port: str, acknowledgement: bytes, now: int
    ) -> None:
        """Writes the acknowledgement of a packet that the contract on `port` deferred."""
        payload = decode_packet(row.packet).payloads[0]
        if row.state is not PacketState.DEFERRED or payload.destination_port != port:
            raise Refused(Reason.NOT_PERMITTED, "the packet is not deferred on this port")
        _check_acknowledgement(acknowledgement)
        self.write_acknowledgement(tx, row, [acknowledgement], "", now)

    def expire(self, tx: Transaction, packet: Packet, proven: Proven, now: int) -> bool:
        """1. counterparty  2. floor  3. receipt: RECEIVED  4. sentinel: no-op  5. own time
        6. membership of the commitment  7. the sentinel.

        For receivers that cannot prove absence. Verifying the packet first is what keeps
        strangers from blocking sequences that were not sent yet.
        """
        client_id = self._check_counterparty(packet, proven.client)
        path = receipt_path(client_id, packet.sequence)
        written = tx.get(path)
        if written == ABSENT:
            return False
        if written is not None:
            raise Refused(Reason.RECEIVED, "the packet was received", sequence=packet.sequence)
        if now < packet.timeout_timestamp:
            raise Refused(
                Reason.TIMEOUT_NOT_REACHED,
                "the packet's timeout has not passed here",
                now=now,
                timeout=packet.timeout_timestamp,
            )
        _, delivery = proven.require()
        index = tx.append(path, ABSENT)
        row = new_row(packet, Direction.IN, PacketState.EXPIRED, index=index, time=now)
        tx.add(replace(row, delivery=delivery, closed_index=index, closed_time=now))
        return True

    # --- as a sender

    def acknowledge(
        self,
        tx: Transaction,
        packet: Packet,
        acknowledgements: Sequence[bytes],
        proven: Proven,
        now: int,
    ) -> bool:
        """1. no open commitment: no-op  2. it equals the recomputed one  3. membership of the
        acknowledgement  4. closing  5. callback."""
        row = self._open(tx, packet, proven.client)
        if row is None:
            return False
        _, delivery = proven.require()
        value = CLOSED_BY_ACKNOWLEDGEMENT + acknowledgement_commitment(acknowledgements)
        encoded = encode_acknowledgements(acknowledgements)
        row = replace(row, state=PacketState.ACKNOWLEDGED, acknowledgements=encoded)
        row = self._close(tx, row, value, delivery, now)
        # The error constant stands alone whatever the number of payloads: each hears of it.
        failed = tuple(acknowledgements) == (ERROR_ACKNOWLEDGEMENT,)
        answers = list(acknowledgements) * (len(packet.payloads) if failed else 1)
        self._call_back(tx, row, packet, answers, now)
        return True

    def timeout(self, tx: Transaction, packet: Packet, proven: Proven, now: int) -> bool:
        """1. no open commitment: no-op  2. it equals the recomputed one  3. proof of absence
        4. proof time >= timeout  5. closing  6. callback."""
        row = self._open(tx, packet, proven.client)
        if row is None:
            return False
        consensus, delivery = proven.require()
        if consensus.time < packet.timeout_timestamp:
            raise Refused(
                Reason.TIMEOUT_NOT_REACHED,
                "the proof is from before the timeout",
                proof_time=consensus.time,
                timeout=packet.timeout_timestamp,
            )
        row = replace(row, state=PacketState.TIMED_OUT)
        row = self._close(tx, row, CLOSED_BY_TIMEOUT, delivery, now)
        self._call_back(tx, row, packet, None, now)
        return True

    def _open(self, tx: Transaction, packet: Packet, client: Client) -> PacketRow | None:
        if packet.source_client != client.row.client_id:
            raise Refused(
                Reason.COUNTERPARTY_MISMATCH,
                "the packet was not sent by this client",
                expected=client.row.client_id,
                found=packet.source_client,
            )
        row = tx.load(PacketRow, packet.source_client, Direction.OUT, packet.sequence)
        if row is None or row.state is not PacketState.SENT:
            return None
        if tx.get(commitment_path(packet.source_client, packet.sequence)) != packet_commitment(
            packet
        ):
            raise Invalid(
                Reason.COMMITMENT_MISMATCH,
                "this is not the packet that was sent under that sequence",
                sequence=packet.sequence,
            )
        return row

    def _close(
        self, tx: Transaction, row: PacketRow, value: bytes, delivery: int, now: int
    ) -> PacketRow:
        index = tx.append(host_path(Kind.CLOSED, row.client_id, be64(row.sequence)), value)
        row = replace(row, closed_index=index, closed_time=now, closed_delivery=delivery)
        tx.save(row)
        return row

    def _call_back(
        self,
        tx: Transaction,
        row: PacketRow,
        packet: Packet,
        acknowledgements: Sequence[bytes] | None,
        now: int,
    ) -> None:
        """Tells each payload's contract how it ended. A failure undoes what the contract wrote;
        the packet stays closed, since it is true that it ended so."""
        mark = tx.mark()
        try:
            if acknowledgements is not None and len(acknowledgements) != len(packet.payloads):
                raise Invalid(Reason.MALFORMED, "an acknowledgement for each payload is missing")
            for i, payload in enumerate(packet.payloads):
                contract = self._contract(payload.source_port)
                state = HostState(self, tx, contract.port, now)
                if acknowledgements is None:
                    contract.timeout(packet, payload, state, now)
                else:
                    contract.acknowledge(packet, payload, acknowledgements[i], state, now)
        except (Conflict, Unavailable):
            raise
        except CONTRACT_FAILURES as err:
            tx.rollback(mark)
            tx.save(replace(row, error=_why(err)))


def _check_acknowledgement(answer: bytes) -> None:
    if not isinstance(answer, bytes) or not answer or answer == ERROR_ACKNOWLEDGEMENT:
        raise Refused(Reason.CONTRACT_REFUSED, "a contract may not answer nothing or the error")
    if len(answer) > MAX_ACKNOWLEDGEMENT_BYTES:
        raise Refused(Reason.LIMIT_EXCEEDED, "the acknowledgement is too long")


def _refusal(err: LianqiaoError) -> Submission:
    return Submission(Outcome.REFUSED, err.reason.value, err.detail)


def _why(err: Exception) -> str:
    """A contract's failure for the operator: our own reasons, or only the kind of a bug."""
    if isinstance(err, LianqiaoError):
        # Not every database keeps a zero, and a contract may repeat a stranger's words.
        return f"{err.reason}: {err.detail}"[:500].replace("\0", "?")
    _log.error("contract_failed", kind=type(err).__name__, exc_info=err)
    return f"{Reason.INTERNAL}: {type(err).__name__}"
