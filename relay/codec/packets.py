"""Packets, steps, deliveries and their answers.

A packet's own invariants (no empty field, no sequence 0) are the channel's to judge, for each
item by itself; here only the sizes are bounded, so that one odd packet does not sink its batch.
"""

from __future__ import annotations

from collections.abc import Sequence

from lianqiao.relay.v1 import packet_pb2 as pb
from lianqiao.relay.v1 import packet_service_pb2 as spb
from relay.chain import (
    MAX_BATCH,
    MAX_ENTRIES,
    MAX_ENTRY_BYTES,
    MAX_SENT_CLAIMS,
    Delivery,
    DeliveryResult,
    Item,
    Outcome,
    PacketStep,
    Step,
    Submission,
)
from relay.codec.fields import blob, blobs, each, integer, malformed, member, name, text
from relay.errors import Reason
from relay.light.types import MAX_HEADER_BYTES, MAX_INT, MAX_PROOF_BYTES, Claim
from relay.packet import MAX_NAME_BYTES, MAX_PAYLOAD_BYTES, MAX_PAYLOADS, Packet, Payload
from relay.paths import MAX_PATH_BYTES
from relay.views import Direction, PacketState, PacketView, TraceStep

MAX_HEADERS = 1000
MAX_DELIVERIES = 64

STEPS = {
    pb.STEP_SEND: Step.SEND,
    pb.STEP_RECEIVE: Step.RECEIVE,
    pb.STEP_ACKNOWLEDGE: Step.ACKNOWLEDGE,
    pb.STEP_TIMEOUT: Step.TIMEOUT,
    pb.STEP_EXPIRE: Step.EXPIRE,
}
OUTCOMES = {
    pb.OUTCOME_DONE: Outcome.DONE,
    pb.OUTCOME_NOOP: Outcome.NOOP,
    pb.OUTCOME_REFUSED: Outcome.REFUSED,
}
DIRECTIONS = {pb.DIRECTION_OUT: Direction.OUT, pb.DIRECTION_IN: Direction.IN}
STATES = {
    pb.PACKET_STATE_SENT: PacketState.SENT,
    pb.PACKET_STATE_ACKNOWLEDGED: PacketState.ACKNOWLEDGED,
    pb.PACKET_STATE_TIMED_OUT: PacketState.TIMED_OUT,
    pb.PACKET_STATE_RECEIVED: PacketState.RECEIVED,
    pb.PACKET_STATE_EXPIRED: PacketState.EXPIRED,
    pb.PACKET_STATE_DEFERRED: PacketState.DEFERRED,
}
_STEPS = {value: key for key, value in STEPS.items()}
_OUTCOMES = {value: key for key, value in OUTCOMES.items()}
_DIRECTIONS = {value: key for key, value in DIRECTIONS.items()}
_STATES = {value: key for key, value in STATES.items()}


def _write_payload(payload: Payload, message: pb.Payload) -> None:
    message.source_port = payload.source_port
    message.destination_port = payload.destination_port
    message.version = payload.version
    message.encoding = payload.encoding
    message.value = payload.value


def _write_packet(packet: Packet, message: pb.Packet) -> None:
    """Fills a message in its place: a message inside another would be copied otherwise."""
    message.sequence = packet.sequence
    message.source_client = packet.source_client
    message.destination_client = packet.destination_client
    message.timeout_timestamp_seconds = packet.timeout_timestamp
    for payload in packet.payloads:
        _write_payload(payload, message.payloads.add())


def packet_to_pb(packet: Packet) -> pb.Packet:
    """Packet as a message."""
    message = pb.Packet()
    _write_packet(packet, message)
    return message


def payload_from_pb(message: pb.Payload, where: str = "payload") -> Payload:
    """Payload of bounded size."""
    source, destination = message.source_port, message.destination_port
    version, encoding, value = message.version, message.encoding, message.value
    if (
        max(len(source), len(destination), len(version), len(encoding)) > MAX_NAME_BYTES
        or len(value) > MAX_PAYLOAD_BYTES
    ):
        # Which one it is, is asked only where something is wrong: this runs for every packet.
        text(source, f"{where}.source_port", MAX_NAME_BYTES)
        text(destination, f"{where}.destination_port", MAX_NAME_BYTES)
        text(version, f"{where}.version", MAX_NAME_BYTES)
        text(encoding, f"{where}.encoding", MAX_NAME_BYTES)
        blob(value, f"{where}.value", MAX_PAYLOAD_BYTES)
    return Payload(source, destination, version, encoding, value)


def packet_from_pb(message: pb.Packet, where: str = "packet") -> Packet:
    """Packet of bounded size; check_packet (relay.packet) judges the rest."""
    sequence, timeout = message.sequence, message.timeout_timestamp_seconds
    source, destination = message.source_client, message.destination_client
    if max(sequence, timeout) > MAX_INT or max(len(source), len(destination)) > MAX_NAME_BYTES:
        integer(sequence, f"{where}.sequence")
        text(source, f"{where}.source_client", MAX_NAME_BYTES)
        text(destination, f"{where}.destination_client", MAX_NAME_BYTES)
        integer(timeout, f"{where}.timeout_timestamp_seconds")
    payloads = each(message.payloads, f"{where}.payloads", MAX_PAYLOADS, payload_from_pb)
    if sum([len(p.value) for p in payloads]) > MAX_PAYLOAD_BYTES:
        raise malformed(
            f"{where}.payloads", f"exceed {MAX_PAYLOAD_BYTES} bytes", Reason.LIMIT_EXCEEDED
        )
    return Packet(sequence, source, destination, timeout, payloads)


def acknowledgements_from_pb(values: Sequence[bytes], where: str) -> tuple[bytes, ...]:
    """Application acknowledgements, one a payload."""
    return blobs(values, where, MAX_PAYLOADS, MAX_PAYLOAD_BYTES)


def key_to_pb(client_id: str, sequence: int, direction: Direction) -> pb.PacketKey:
    """The name of a packet on the node that is asked."""
    return pb.PacketKey(client_id=client_id, sequence=sequence, direction=_DIRECTIONS[direction])


def key_from_pb(message: pb.PacketKey, where: str = "key") -> tuple[str, int, Direction]:
    """(client id, sequence, direction)."""
    return (
        name(message.client_id, f"{where}.client_id"),
        integer(message.sequence, f"{where}.sequence", low=1),
        member(message.direction, f"{where}.direction", DIRECTIONS),
    )


def step_number(step: Step) -> pb.Step:
    """A step as a member of the enum."""
    return _STEPS[step]


def step_to_pb(step: PacketStep) -> pb.PacketStep:
    """PacketStep as a message."""
    message = pb.PacketStep(
        cursor=step.cursor,
        height=step.height,
        step=_STEPS[step.step],
        acknowledgements=step.acknowledgements,
    )
    _write_packet(step.packet, message.packet)
    _write_entries(step.entries, message)
    return message


def _write_entries(entries: Sequence[Claim], message: pb.PacketStep | pb.Item) -> None:
    message.entries.extend(entries_to_pb(entries))


def entries_to_pb(entries: Sequence[Claim]) -> list[pb.Entry]:
    """Claims beside packets as messages."""
    return [pb.Entry(path=e.path, value=e.value or b"", absent=e.value is None) for e in entries]


def entries_from_pb(
    messages: Sequence[pb.Entry], where: str, limit: int = MAX_ENTRIES
) -> tuple[Claim, ...]:
    """Claims of bounded number and size; relay.entries and relay.sent judge the rest."""
    return each(messages, where, limit, _entry_from_pb) if messages else ()


def _entry_from_pb(message: pb.Entry, where: str = "entry") -> Claim:
    value = blob(message.value, f"{where}.value", MAX_ENTRY_BYTES)
    if message.absent and value:
        raise malformed(f"{where}.value", "must be empty where nothing is written")
    path = blob(message.path, f"{where}.path", MAX_PATH_BYTES, least=1)
    return Claim(path, None if message.absent else value)


def step_from_pb(message: pb.PacketStep, where: str = "step") -> PacketStep:
    """PacketStep of bounded size."""
    return PacketStep(
        integer(message.cursor, f"{where}.cursor"),
        integer(message.height, f"{where}.height"),
        member(message.step, f"{where}.step", STEPS),
        packet_from_pb(message.packet, f"{where}.packet"),
        acknowledgements_from_pb(message.acknowledgements, f"{where}.acknowledgements"),
        entries_from_pb(message.entries, f"{where}.entries"),
    )


def _write_item(item: Item, message: pb.Item) -> None:
    message.step = _STEPS[item.step]
    _write_packet(item.packet, message.packet)
    message.acknowledgements.extend(item.acknowledgements)
    _write_entries(item.entries, message)


def item_to_pb(item: Item) -> pb.Item:
    """Item as a message."""
    message = pb.Item()
    _write_item(item, message)
    return message


def item_from_pb(message: pb.Item, where: str = "item") -> Item:
    """Item of bounded size; SEND is nothing that one chain can ask of another."""
    step = member(message.step, f"{where}.step", STEPS)
    if step is Step.SEND:
        raise malformed(f"{where}.step", "cannot be STEP_SEND in a delivery")
    return Item(
        step,
        packet_from_pb(message.packet, f"{where}.packet"),
        acknowledgements_from_pb(message.acknowledgements, f"{where}.acknowledgements"),
        entries_from_pb(message.entries, f"{where}.entries"),
    )


def delivery_to_pb(delivery: Delivery) -> pb.Delivery:
    """Delivery as a message."""
    message = pb.Delivery(
        client_id=delivery.client_id,
        headers=delivery.headers,
        height=delivery.height,
        proof=delivery.proof,
        sent=entries_to_pb(delivery.sent),
    )
    for item in delivery.items:
        _write_item(item, message.items.add())
    return message


def delivery_from_pb(message: pb.Delivery, where: str = "delivery") -> Delivery:
    """Delivery of bounded size."""
    return Delivery(
        name(message.client_id, f"{where}.client_id"),
        blobs(message.headers, f"{where}.headers", MAX_HEADERS, MAX_HEADER_BYTES, least=1),
        integer(message.height, f"{where}.height"),
        blob(message.proof, f"{where}.proof", MAX_PROOF_BYTES),
        each(message.items, f"{where}.items", MAX_BATCH, item_from_pb),
        entries_from_pb(message.sent, f"{where}.sent", MAX_SENT_CLAIMS),
    )


def deliveries_from_pb(messages: Sequence[pb.Delivery]) -> tuple[Delivery, ...]:
    """1 to MAX_DELIVERIES deliveries with at most MAX_BATCH items in all."""
    if sum(len(m.items) for m in messages) > MAX_BATCH:
        raise malformed("deliveries", f"hold more than {MAX_BATCH} items", Reason.LIMIT_EXCEEDED)
    return each(messages, "deliveries", MAX_DELIVERIES, delivery_from_pb, least=1)


def submission_to_pb(submission: Submission) -> pb.Submission:
    """Submission as a message."""
    return pb.Submission(
        outcome=_OUTCOMES[submission.outcome],
        reason=submission.reason,
        detail=submission.detail,
    )


def submission_from_pb(message: pb.Submission, where: str = "submission") -> Submission:
    """Submission of bounded size."""
    return Submission(
        member(message.outcome, f"{where}.outcome", OUTCOMES),
        text(message.reason, f"{where}.reason", MAX_NAME_BYTES),
        text(message.detail, f"{where}.detail"),
    )


def result_to_pb(result: DeliveryResult) -> pb.DeliveryResult:
    """DeliveryResult as a message."""
    return pb.DeliveryResult(
        headers=submission_to_pb(result.headers),
        items=[submission_to_pb(s) for s in result.items],
        sent=submission_to_pb(result.sent),
    )


def result_from_pb(message: pb.DeliveryResult, where: str = "result") -> DeliveryResult:
    """DeliveryResult of bounded size."""
    return DeliveryResult(
        submission_from_pb(message.headers, f"{where}.headers"),
        each(message.items, f"{where}.items", MAX_BATCH, submission_from_pb),
        submission_from_pb(message.sent, f"{where}.sent"),
    )


def state_to_pb(state: PacketState | None) -> pb.PacketState:
    """State as an enum value; None (any) is unspecified."""
    return pb.PACKET_STATE_UNSPECIFIED if state is None else _STATES[state]


def state_filter_from_pb(value: pb.PacketState, where: str = "state") -> PacketState | None:
    """State to filter by; unspecified is None (any)."""
    return None if value == pb.PACKET_STATE_UNSPECIFIED else member(value, where, STATES)


def view_to_pb(view: PacketView) -> spb.PacketView:
    """PacketView as a message."""
    return spb.PacketView(
        key=key_to_pb(view.client_id, view.packet.sequence, view.direction),
        state=_STATES[view.state],
        packet=packet_to_pb(view.packet),
        acknowledgements=view.acknowledgements,
        height=view.height,
        time_seconds=view.time,
    )


def view_from_pb(message: spb.PacketView, where: str = "packet") -> PacketView:
    """PacketView whose key names its packet."""
    client_id, sequence, direction = key_from_pb(message.key, f"{where}.key")
    view = PacketView(
        direction,
        member(message.state, f"{where}.state", STATES),
        packet_from_pb(message.packet, f"{where}.packet"),
        acknowledgements_from_pb(message.acknowledgements, f"{where}.acknowledgements"),
        integer(message.height, f"{where}.height"),
        integer(message.time_seconds, f"{where}.time_seconds"),
    )
    if (view.client_id, view.packet.sequence) != (client_id, sequence):
        raise malformed(f"{where}.key", "names another packet than the one beside it")
    return view


def trace_to_pb(step: TraceStep) -> spb.TraceStep:
    """TraceStep as a message."""
    return spb.TraceStep(
        step=_STEPS[step.step],
        index=step.index,
        height=step.height,
        time_seconds=step.time,
        verified_height=step.verified_height,
        detail=step.detail,
    )


def trace_from_pb(message: spb.TraceStep, where: str = "step") -> TraceStep:
    """TraceStep of bounded size."""
    return TraceStep(
        member(message.step, f"{where}.step", STEPS),
        integer(message.index, f"{where}.index"),
        integer(message.height, f"{where}.height"),
        integer(message.time_seconds, f"{where}.time_seconds"),
        integer(message.verified_height, f"{where}.verified_height"),
        text(message.detail, f"{where}.detail"),
    )
