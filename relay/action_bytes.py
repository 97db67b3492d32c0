"""The one encoding of each action: u8 version, u8 kind, then its fields (relay.light.wire).

What is encoded here is signed by operators, ordered by a replicated engine and executed again
later: kinds are never renumbered, and decoding is strict. Any bytes give an action that encodes
back to the same bytes, or Malformed.

What an action names is looked up in the database, and databases differ in what they can be asked:
a number of 2^63 fails in SQLite, text with a zero in PostgreSQL. Replicas must not, so neither has
an encoding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from relay.actions import (
    MAX_BODY_BYTES,
    MAX_REQUEST_ID,
    Action,
    AnnounceSet,
    Call,
    CallEach,
    CancelRecovery,
    CompleteDue,
    CompleteRecovery,
    CreateBound,
    CreateClient,
    Deliver,
    ProposeRecovery,
    RegisterCounterparty,
    RunDue,
    SkipSequences,
    SubmitMisbehaviour,
    Tick,
)
from relay.chain import MAX_BATCH, Delivery, Item, Step
from relay.deciding import ChangeOperators
from relay.errors import Malformed
from relay.light import wire
from relay.light.misbehaviour import MAX_EVIDENCE_BYTES
from relay.light.states import decode_client_state, encode_client_state
from relay.light.types import MAX_HEADER_BYTES, MAX_INT, MAX_PROOF_BYTES, ClientState
from relay.light.validators import MAX_SET_BYTES, decode_set, encode_set
from relay.packet import MAX_NAME_BYTES, MAX_PAYLOAD_BYTES, Packet
from relay.packet_bytes import (
    decode_acknowledgements,
    decode_claims,
    decode_packet,
    encode_acknowledgements,
    encode_claims,
    encode_packet,
)
from relay.powers import ChangePowers, Power, encode_powers, read_powers

MAX_DELIVERIES = 64
MAX_HEADERS = 1000
MAX_BODIES = 1000
_VERSION = 1
_MAX_STATE = 1 << 18
_MAX_PACKET = 2 * MAX_PAYLOAD_BYTES
_MAX_ENTRIES = 2 * 1024 * 1024
_MAX_SENT = 8 * 1024 * 1024
_STEPS = (Step.RECEIVE, Step.ACKNOWLEDGE, Step.TIMEOUT, Step.EXPIRE)


class Writer(wire.Writer):
    """Refuses what `Reader` refuses."""

    def u64(self, number: int) -> wire.Writer:
        """See the module docstring."""
        return super().u64(_number(number))

    def text(self, text: str, maximum: int) -> wire.Writer:
        """See the module docstring."""
        return super().text(_text(text), maximum)


class Reader(wire.Reader):
    """Takes what every database can be asked for."""

    def u64(self) -> int:
        """See the module docstring."""
        return _number(super().u64())

    def text(self, maximum: int) -> str:
        """See the module docstring."""
        return _text(super().text(maximum))


def _number(number: int) -> int:
    if number > MAX_INT:
        raise Malformed("action: numbers stay below 2^63")
    return number


def _text(text: str) -> str:
    if "\0" in text:
        raise Malformed("action: text holds a zero")
    return text


def _packet(packet: Packet) -> Packet:
    """A packet that can be looked up; whether it is one, relay.packet.check_packet says."""
    _number(packet.sequence)
    _text(packet.source_client + packet.destination_client)
    return packet


def encode_action(action: Action) -> bytes:
    """Raises Malformed for what no Reader with the same limits would take."""
    kind = _KINDS.get(type(action))
    if kind is None:
        raise Malformed(f"{type(action).__name__} has no encoding")
    writer = Writer().u8(_VERSION).u8(kind)
    _FORMS[kind].write(writer, action)
    return writer.done()


def decode_action(raw: bytes) -> Action:
    """The action in `raw`. Raises Malformed."""
    reader = Reader(raw, "action")
    if reader.u8() != _VERSION:
        raise Malformed("action: unknown version")
    form = _FORMS.get(reader.u8())
    if form is None:
        raise Malformed("action: unknown kind")
    action: Action = form.read(reader)
    reader.end()
    return action


def _write_deliver(writer: wire.Writer, action: Deliver) -> None:
    writer.count(len(action.deliveries), MAX_DELIVERIES)
    for delivery in action.deliveries:
        _write_delivery(writer, delivery)


def _write_delivery(writer: wire.Writer, delivery: Delivery) -> None:
    writer.text(delivery.client_id, MAX_NAME_BYTES).count(len(delivery.headers), MAX_HEADERS)
    for header in delivery.headers:
        writer.data(header, MAX_HEADER_BYTES)
    writer.u64(delivery.height).data(delivery.proof, MAX_PROOF_BYTES)
    writer.count(len(delivery.items), MAX_BATCH)
    for item in delivery.items:
        if item.step not in _STEPS:
            raise Malformed(f"{item.step} is not delivered")
        writer.u8(_STEPS.index(item.step)).data(encode_packet(_packet(item.packet)), _MAX_PACKET)
        writer.data(encode_acknowledgements(item.acknowledgements), _MAX_PACKET)
        writer.data(encode_claims(item.entries), _MAX_ENTRIES)
    writer.data(encode_claims(delivery.sent), _MAX_SENT)


def _read_delivery(reader: Reader) -> Delivery:
    client_id = reader.text(MAX_NAME_BYTES)
    headers = tuple(reader.data(MAX_HEADER_BYTES) for _ in range(reader.count(MAX_HEADERS)))
    height, proof = reader.u64(), reader.data(MAX_PROOF_BYTES)
    items = tuple(_read_item(reader) for _ in range(reader.count(MAX_BATCH)))
    sent = decode_claims(reader.data(_MAX_SENT))
    return Delivery(client_id, headers, height, proof, items, sent)


def _read_item(reader: Reader) -> Item:
    number = reader.u8()
    if number >= len(_STEPS):
        raise Malformed("action: unknown step")
    packet = _packet(decode_packet(reader.data(_MAX_PACKET)))
    acknowledgements = decode_acknowledgements(reader.data(_MAX_PACKET))
    entries = decode_claims(reader.data(_MAX_ENTRIES))
    return Item(_STEPS[number], packet, acknowledgements, entries)


def _write_call_each(writer: wire.Writer, action: CallEach) -> None:
    writer.text(action.port, MAX_NAME_BYTES).text(action.method, MAX_NAME_BYTES)
    writer.count(len(action.bodies), MAX_BODIES)
    for body in action.bodies:
        writer.data(body, MAX_BODY_BYTES)


def _write_state(writer: wire.Writer, state: ClientState, header: bytes) -> wire.Writer:
    return writer.data(encode_client_state(state), _MAX_STATE).data(header, MAX_HEADER_BYTES)


def _read_state(reader: Reader) -> ClientState:
    return decode_client_state(reader.data(_MAX_STATE))


def _powers(raw: bytes) -> tuple[Power, ...]:
    reader = Reader(raw, "powers")
    powers = read_powers(reader)
    reader.end()
    return powers


class _Form(NamedTuple):
    type: type[Any]
    write: Callable[[wire.Writer, Any], object]
    read: Callable[[Reader], Any]


_FORMS: dict[int, _Form] = {
    1: _Form(
        Deliver,
        _write_deliver,
        lambda r: Deliver(tuple(_read_delivery(r) for _ in range(r.count(MAX_DELIVERIES)))),
    ),
    2: _Form(
        Call,
        lambda w, a: (
            w.text(a.port, MAX_NAME_BYTES)
            .text(a.method, MAX_NAME_BYTES)
            .data(a.body, MAX_BODY_BYTES)
            .text(a.request_id, MAX_REQUEST_ID)
        ),
        lambda r: Call(
            r.text(MAX_NAME_BYTES),
            r.text(MAX_NAME_BYTES),
            r.data(MAX_BODY_BYTES),
            r.text(MAX_REQUEST_ID),
        ),
    ),
    3: _Form(
        CallEach,
        _write_call_each,
        lambda r: CallEach(
            r.text(MAX_NAME_BYTES),
            r.text(MAX_NAME_BYTES),
            tuple(r.data(MAX_BODY_BYTES) for _ in range(r.count(MAX_BODIES))),
        ),
    ),
    4: _Form(
        CreateClient,
        lambda w, a: _write_state(w, a.state, a.anchor_header).text(a.request_id, MAX_REQUEST_ID),
        lambda r: CreateClient(_read_state(r), r.data(MAX_HEADER_BYTES), r.text(MAX_REQUEST_ID)),
    ),
    5: _Form(
        RegisterCounterparty,
        lambda w, a: w.text(a.client_id, MAX_NAME_BYTES).text(
            a.counterparty_client_id, MAX_NAME_BYTES
        ),
        lambda r: RegisterCounterparty(r.text(MAX_NAME_BYTES), r.text(MAX_NAME_BYTES)),
    ),
    6: _Form(
        SubmitMisbehaviour,
        lambda w, a: w.text(a.client_id, MAX_NAME_BYTES).data(a.evidence, MAX_EVIDENCE_BYTES),
        lambda r: SubmitMisbehaviour(r.text(MAX_NAME_BYTES), r.data(MAX_EVIDENCE_BYTES)),
    ),
    7: _Form(
        ProposeRecovery,
        lambda w, a: _write_state(
            w.text(a.client_id, MAX_NAME_BYTES), a.substitute, a.anchor_header
        ).u64(a.delay),
        lambda r: ProposeRecovery(
            r.text(MAX_NAME_BYTES), _read_state(r), r.data(MAX_HEADER_BYTES), r.u64()
        ),
    ),
    8: _Form(
        CancelRecovery,
        lambda w, a: w.text(a.client_id, MAX_NAME_BYTES),
        lambda r: CancelRecovery(r.text(MAX_NAME_BYTES)),
    ),
    9: _Form(
        CompleteRecovery,
        lambda w, a: w.text(a.client_id, MAX_NAME_BYTES),
        lambda r: CompleteRecovery(r.text(MAX_NAME_BYTES)),
    ),
    10: _Form(CompleteDue, lambda w, a: w, lambda r: CompleteDue()),
    11: _Form(
        SkipSequences,
        lambda w, a: w.text(a.client_id, MAX_NAME_BYTES).u64(a.next_sequence),
        lambda r: SkipSequences(r.text(MAX_NAME_BYTES), r.u64()),
    ),
    12: _Form(
        AnnounceSet,
        lambda w, a: w.data(encode_set(a.next_set), MAX_SET_BYTES),
        lambda r: AnnounceSet(decode_set(r.data(MAX_SET_BYTES))),
    ),
    13: _Form(Tick, lambda w, a: w, lambda r: Tick()),
    14: _Form(
        ChangePowers,
        lambda w, a: w.data(encode_powers(a.powers), MAX_SET_BYTES),
        lambda r: ChangePowers(_powers(r.data(MAX_SET_BYTES))),
    ),
    15: _Form(
        CreateBound,
        lambda w, a: (
            _write_state(w, a.state, a.anchor_header)
            .text(a.counterparty_client_id, MAX_NAME_BYTES)
            .text(a.request_id, MAX_REQUEST_ID)
        ),
        lambda r: CreateBound(
            _read_state(r),
            r.data(MAX_HEADER_BYTES),
            r.text(MAX_NAME_BYTES),
            r.text(MAX_REQUEST_ID),
        ),
    ),
    16: _Form(RunDue, lambda w, a: w, lambda r: RunDue()),
    17: _Form(
        ChangeOperators,
        lambda w, a: w.data(encode_set(a.operators), MAX_SET_BYTES).u64(a.quorum),
        lambda r: ChangeOperators(decode_set(r.data(MAX_SET_BYTES)), r.u64()),
    ),
}
_KINDS = {form.type: kind for kind, form in _FORMS.items()}
