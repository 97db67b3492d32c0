"""The border with protobuf: what goes out comes back, and whatever comes in is bounded."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

import pytest
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from lianqiao.relay.v1 import client_pb2, packet_pb2, packet_service_pb2
from relay import errors
from relay.chain import (
    MAX_BATCH,
    Delivery,
    DeliveryResult,
    Item,
    Outcome,
    PacketStep,
    Step,
    Submission,
)
from relay.codec import clients, packets, pages
from relay.codec.errors import DOMAIN, error_from_status, error_to_status, internal_status
from relay.codec.undelivered import undelivered_from_pb, undelivered_to_pb
from relay.errors import Malformed, Reason
from relay.light.types import (
    MAX_HEADER_BYTES,
    MAX_INT,
    MAX_PROOF_BYTES,
    ClientState,
    ConsensusState,
    Threshold,
    Witness,
)
from relay.packet import MAX_PAYLOAD_BYTES, MAX_PAYLOADS, Packet, Payload
from relay.views import ClientView, Direction, PacketState, PacketView, TraceStep, Undelivered
from tests.refusals import refusal

NAMES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=128)
SHORT = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=32)
TEXTS = st.text(max_size=128)
INTS = st.integers(0, MAX_INT)
HASHES = st.binary(min_size=32, max_size=32)
BYTES = st.binary(max_size=64)
PAYLOADS = st.builds(Payload, TEXTS, TEXTS, TEXTS, TEXTS, BYTES)
PACKETS = st.builds(
    Packet, INTS, TEXTS, TEXTS, INTS, st.lists(PAYLOADS, max_size=MAX_PAYLOADS).map(tuple)
)
ACKS = st.lists(BYTES, max_size=MAX_PAYLOADS).map(tuple)
STEPS = st.builds(PacketStep, INTS, INTS, st.sampled_from(Step), PACKETS, ACKS)
ITEMS = st.builds(Item, st.sampled_from([s for s in Step if s is not Step.SEND]), PACKETS, ACKS)
DELIVERIES = st.builds(
    Delivery,
    NAMES,
    st.lists(st.binary(min_size=1, max_size=64), max_size=4).map(tuple),
    INTS,
    BYTES,
    st.lists(ITEMS, max_size=4).map(tuple),
)
SUBMISSIONS = st.builds(Submission, st.sampled_from(Outcome), TEXTS, TEXTS)
RESULTS = st.builds(DeliveryResult, SUBMISSIONS, st.lists(SUBMISSIONS, max_size=4).map(tuple))
THRESHOLDS = st.builds(
    lambda n, extra: Threshold(n, n + extra, True), st.integers(1, 99), st.integers(1, 99)
)
WITNESSES = st.builds(Witness, st.just("w"), SHORT, st.binary(min_size=1, max_size=64))
STATES = st.lists(WITNESSES, max_size=3).flatmap(
    lambda ws: st.builds(
        ClientState,
        NAMES,
        NAMES,
        SHORT,
        SHORT,
        SHORT,
        THRESHOLDS,
        THRESHOLDS,
        st.integers(1, MAX_INT),
        INTS,
        TEXTS,
        st.just(tuple(ws)),
        st.integers(0, len(ws)),
    )
)
CONSENSUS = st.builds(ConsensusState, INTS, INTS, HASHES, HASHES, HASHES, HASHES)
CLIENTS = st.builds(
    ClientView, NAMES, STATES, CONSENSUS, st.one_of(st.just(""), NAMES), st.booleans(), INTS
)
NAMED = st.builds(
    Packet, st.integers(1, MAX_INT), NAMES, NAMES, INTS, st.lists(PAYLOADS, max_size=2).map(tuple)
)
VIEWS = st.builds(
    PacketView,
    st.sampled_from(Direction),
    st.sampled_from(PacketState),
    NAMED,
    ACKS,
    INTS,
    INTS,
)
TRACES = st.builds(TraceStep, st.sampled_from(Step), INTS, INTS, INTS, INTS, TEXTS)
UNDELIVERED = st.builds(
    Undelivered,
    NAMES,
    st.integers(1, MAX_INT),
    st.sampled_from(Direction),
    st.sampled_from(Step),
    st.integers(0, 2**32 - 1),
    INTS,
    st.just(False),
    TEXTS,
    HASHES,
)

ROUND_TRIPS = [
    (PACKETS, packets.packet_to_pb, packets.packet_from_pb),
    (STEPS, packets.step_to_pb, packets.step_from_pb),
    (ITEMS, packets.item_to_pb, packets.item_from_pb),
    (DELIVERIES, packets.delivery_to_pb, packets.delivery_from_pb),
    (SUBMISSIONS, packets.submission_to_pb, packets.submission_from_pb),
    (RESULTS, packets.result_to_pb, packets.result_from_pb),
    (VIEWS, packets.view_to_pb, packets.view_from_pb),
    (TRACES, packets.trace_to_pb, packets.trace_from_pb),
    (UNDELIVERED, undelivered_to_pb, undelivered_from_pb),
    (THRESHOLDS, clients.threshold_to_pb, clients.threshold_from_pb),
    (WITNESSES, clients.witness_to_pb, clients.witness_from_pb),
    (STATES, clients.client_state_to_pb, clients.client_state_from_pb),
    (CONSENSUS, clients.consensus_to_pb, clients.consensus_from_pb),
    (CLIENTS, lambda c: clients.client_to_pb(c, now=c.expires - 1), clients.client_from_pb),
]


@pytest.mark.parametrize(("values", "to_pb", "from_pb"), ROUND_TRIPS)
def test_what_goes_out_comes_back(values, to_pb, from_pb) -> None:
    @settings(max_examples=30, deadline=None)
    @given(values)
    def check(value) -> None:
        message = to_pb(value)
        back = from_pb(type(message).FromString(message.SerializeToString()))
        assert back == value
        assert to_pb(back) == message

    check()


DECODERS = [
    (packet_pb2.Packet, packets.packet_from_pb),
    (packet_pb2.PacketStep, packets.step_from_pb),
    (packet_pb2.Delivery, packets.delivery_from_pb),
    (packet_pb2.DeliveryResult, packets.result_from_pb),
    (packet_service_pb2.PacketView, packets.view_from_pb),
    (packet_service_pb2.TraceStep, packets.trace_from_pb),
    (client_pb2.ClientState, clients.client_state_from_pb),
    (client_pb2.Client, clients.client_from_pb),
]


@pytest.mark.parametrize(("kind", "from_pb"), DECODERS)
def test_any_message_is_a_value_or_malformed(kind, from_pb) -> None:
    @settings(max_examples=50, deadline=None)
    @given(st.binary(max_size=200))
    def check(raw: bytes) -> None:
        try:
            message = kind.FromString(raw)
        except DecodeError:
            return
        with suppress(Malformed):
            from_pb(message)

    check()


malformed = partial(refusal, kind=Malformed)


PACKET = Packet(7, "checkpoint-0", "checkpoint-1", 99, (Payload("a", "b", "1", "json", b"x"),))


def with_packet(**fields) -> packet_pb2.Packet:
    message = packets.packet_to_pb(PACKET)
    for name, value in fields.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    ("message", "field", "reason"),
    [
        (with_packet(sequence=2**63), "packet.sequence", Reason.MALFORMED),
        (
            with_packet(timeout_timestamp_seconds=2**64 - 1),
            "packet.timeout_timestamp_seconds",
            Reason.MALFORMED,
        ),
        (with_packet(source_client="c" * 129), "packet.source_client", Reason.LIMIT_EXCEEDED),
        (
            packet_pb2.Packet(payloads=[packet_pb2.Payload()] * (MAX_PAYLOADS + 1)),
            "packet.payloads",
            Reason.LIMIT_EXCEEDED,
        ),
        (
            packet_pb2.Packet(payloads=[packet_pb2.Payload(value=bytes(MAX_PAYLOAD_BYTES + 1))]),
            "packet.payloads[0].value",
            Reason.LIMIT_EXCEEDED,
        ),
        (
            packet_pb2.Packet(
                payloads=[packet_pb2.Payload(value=bytes(MAX_PAYLOAD_BYTES // 2 + 1))] * 2
            ),
            "packet.payloads",
            Reason.LIMIT_EXCEEDED,
        ),
    ],
)
def test_packet_limits(message, field, reason) -> None:
    error = malformed(packets.packet_from_pb, message)
    assert (error.data["field"], error.reason) == (field, reason)


def delivery(**fields) -> packet_pb2.Delivery:
    return packet_pb2.Delivery(**{"client_id": "checkpoint-0", **fields})


SEND = packet_pb2.Item(step=packet_pb2.STEP_SEND, packet=packets.packet_to_pb(PACKET))
ITEM = packet_pb2.Item(step=packet_pb2.STEP_RECEIVE, packet=packets.packet_to_pb(PACKET))


@pytest.mark.parametrize(
    ("message", "field", "reason"),
    [
        (delivery(client_id=""), "delivery.client_id", Reason.MALFORMED),
        (delivery(client_id="with space"), "delivery.client_id", Reason.MALFORMED),
        (delivery(client_id="連橋"), "delivery.client_id", Reason.MALFORMED),
        (delivery(headers=[b""]), "delivery.headers[0]", Reason.MALFORMED),
        (
            delivery(headers=[bytes(MAX_HEADER_BYTES + 1)]),
            "delivery.headers[0]",
            Reason.LIMIT_EXCEEDED,
        ),
        (
            delivery(headers=[b"h"] * (packets.MAX_HEADERS + 1)),
            "delivery.headers",
            Reason.LIMIT_EXCEEDED,
        ),
        (delivery(height=2**63), "delivery.height", Reason.MALFORMED),
        (delivery(proof=bytes(MAX_PROOF_BYTES + 1)), "delivery.proof", Reason.LIMIT_EXCEEDED),
        (delivery(items=[SEND]), "delivery.items[0].step", Reason.MALFORMED),
        (delivery(items=[packet_pb2.Item()]), "delivery.items[0].step", Reason.MALFORMED),
        (delivery(items=[packet_pb2.Item(step=99)]), "delivery.items[0].step", Reason.MALFORMED),
        (delivery(items=[ITEM] * (MAX_BATCH + 1)), "delivery.items", Reason.LIMIT_EXCEEDED),
    ],
)
def test_delivery_limits(message, field, reason) -> None:
    error = malformed(packets.delivery_from_pb, message)
    assert (error.data["field"], error.reason) == (field, reason)


def test_a_call_of_no_or_too_many_deliveries() -> None:
    assert malformed(packets.deliveries_from_pb, []).reason == Reason.MALFORMED
    many = [delivery()] * (packets.MAX_DELIVERIES + 1)
    assert malformed(packets.deliveries_from_pb, many).reason == Reason.LIMIT_EXCEEDED
    halves = [delivery(items=[ITEM] * (MAX_BATCH // 2 + 1))] * 2
    assert malformed(packets.deliveries_from_pb, halves).reason == Reason.LIMIT_EXCEEDED


def test_a_view_names_its_own_packet() -> None:
    view = PacketView(Direction.IN, PacketState.RECEIVED, PACKET, (), 1, 1)
    message = packets.view_to_pb(view)
    message.key.sequence = 8
    assert malformed(packets.view_from_pb, message).data["field"] == "packet.key"


def state(**fields) -> client_pb2.ClientState:
    message = clients.client_state_to_pb(ClientState("checkpoint", "zj-medical/0"))
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def fraction(n: int, d: int, strict: bool) -> client_pb2.Threshold:
    return client_pb2.Threshold(numerator=n, denominator=d, strict=strict)


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (state(client_type=""), "state.client_type"),
        (state(chain_id=""), "state.chain_id"),
        (state(algorithm=""), "state.algorithm"),
        (state(tree_hash=""), "state.tree_hash"),
        (state(proof_kind=""), "state.proof_kind"),
        (state(trusting_period_seconds=0), "state.trusting_period_seconds"),
        (state(clock_drift_seconds=2**63), "state.clock_drift_seconds"),
        (state(assurance="x" * 501), "state.assurance"),
        (state(witness_quorum=1), "state.witness_quorum"),
    ],
)
def test_client_state_limits(message, field) -> None:
    assert malformed(clients.client_state_from_pb, message).data["field"] == field


def test_nothing_pinned_comes_from_a_default() -> None:
    for field in ("threshold", "trust_level"):
        message = state()
        message.ClearField(field)
        assert malformed(clients.client_state_from_pb, message).data["field"] == f"state.{field}"


@pytest.mark.parametrize(
    "message",
    [fraction(0, 3, True), fraction(1, 0, True), fraction(4, 3, False), fraction(3, 3, True)],
)
def test_a_threshold_that_none_or_nobody_reaches(message) -> None:
    assert malformed(clients.threshold_from_pb, message).reason == Reason.MALFORMED


def test_all_of_the_power_may_be_asked_for() -> None:
    assert clients.threshold_from_pb(fraction(3, 3, False)) == Threshold(3, 3, False)


# --- pages


@given(st.binary(max_size=100), TEXTS)
def test_tokens_round_trip_in_their_own_listing(cursor, which) -> None:
    listing = pages.filter_hash("ListPackets", which, None)
    token = pages.encode_token(listing, cursor)
    assert pages.decode_token(token, listing) == cursor
    other = pages.filter_hash("ListPackets", which, "sent")
    assert malformed(pages.decode_token, token, other).data["field"] == "page_token"


@given(st.text(min_size=1, max_size=60))
def test_any_token_is_a_cursor_or_malformed(token) -> None:
    listing = pages.filter_hash("ListClients")
    with suppress(Malformed):
        cursor = pages.decode_token(token, listing)
        assert cursor is not None
        assert pages.encode_token(listing, cursor) == token


@pytest.mark.parametrize("token", ["x" * 1025, "====", "AA==", "連橋", " ", "AQ"])
def test_bad_tokens(token) -> None:
    error = malformed(pages.decode_token, token, pages.filter_hash("ListClients"))
    assert error.reason == Reason.MALFORMED


def test_no_token_starts_the_listing() -> None:
    assert pages.decode_token("", pages.filter_hash("ListClients")) is None
    assert pages.decode_number(None, 5) == 5
    assert pages.decode_number(pages.encode_number(MAX_INT)) == MAX_INT
    for cursor in (b"short", (2**63).to_bytes(8, "big")):
        assert malformed(pages.decode_number, cursor).reason == Reason.MALFORMED
    assert malformed(pages.decode_text, b"\xff").reason == Reason.MALFORMED
    assert malformed(pages.decode_text, b"a\0b").reason == Reason.MALFORMED


def test_page_sizes() -> None:
    assert [pages.page_size(n) for n in (0, 1, 1000, 1001)] == [100, 1, 1000, 1000]
    assert malformed(pages.page_size, -1).data["field"] == "page_size"


# --- errors

CODES = {
    errors.NotFound: code_pb2.NOT_FOUND,
    errors.Invalid: code_pb2.INVALID_ARGUMENT,
    errors.Refused: code_pb2.FAILED_PRECONDITION,
    errors.Denied: code_pb2.PERMISSION_DENIED,
    errors.Conflict: code_pb2.ABORTED,
    errors.Exhausted: code_pb2.RESOURCE_EXHAUSTED,
    errors.Unavailable: code_pb2.UNAVAILABLE,
}
FREE = [
    r
    for r in Reason
    if r not in {Reason.UNAUTHENTICATED, Reason.REQUEST_ID_REUSED, Reason.NOT_ENOUGH_TRUST}
]


def details(status, kind):
    found = [d for d in status.details if d.Is(kind.DESCRIPTOR)]
    out = []
    for detail in found:
        message = kind()
        assert detail.Unpack(message)
        out.append(message)
    return out


FORM = {
    Reason.MALFORMED,
    Reason.LIMIT_EXCEEDED,
    Reason.UNSUPPORTED_VERSION,
    Reason.DEADLINE_MISSING,
    Reason.NOT_CANONICAL,
}


@pytest.mark.parametrize("kind", list(CODES))
def test_every_reason_survives_the_wire(kind) -> None:
    for reason in FREE:
        if kind is errors.Invalid and reason in FORM:
            continue  # INVALID_ARGUMENT with such a reason is Malformed
        error = kind(reason, "what was wrong", hint="what helps", client_id="checkpoint-0")
        status = status_pb2.Status.FromString(error_to_status(error).SerializeToString())
        assert status.code == CODES[kind]
        (info,) = details(status, error_details_pb2.ErrorInfo)
        assert (info.reason, info.domain) == (reason.value, DOMAIN)
        assert dict(info.metadata) == {"client_id": "checkpoint-0", "hint": "what helps"}
        retry = details(status, error_details_pb2.RetryInfo)
        assert bool(retry) == (kind in (errors.Exhausted, errors.Unavailable))
        back = error_from_status(status)
        assert type(back) is kind
        assert (back.reason, back.detail) == (error.reason, error.detail)
        assert (back.hint, back.data) == (error.hint, error.data)


def test_malformed_names_its_field() -> None:
    error = malformed(pages.page_size, -1)
    status = error_to_status(error)
    (bad,) = details(status, error_details_pb2.BadRequest)
    assert bad.field_violations[0].field == "page_size"
    assert type(error_from_status(status)) is Malformed


def test_reasons_that_have_a_code_or_class_of_their_own() -> None:
    nobody = error_to_status(errors.Denied(Reason.UNAUTHENTICATED, "who"))
    assert nobody.code == code_pb2.UNAUTHENTICATED
    assert type(error_from_status(nobody)) is errors.Denied
    reused = error_to_status(errors.Refused(Reason.REQUEST_ID_REUSED, "again"))
    assert reused.code == code_pb2.INVALID_ARGUMENT
    assert type(error_from_status(reused)) is errors.Refused
    more = error_to_status(errors.NotEnoughTrust("more headers"))
    assert more.code == code_pb2.FAILED_PRECONDITION
    assert type(error_from_status(more)) is errors.NotEnoughTrust


def test_a_reason_from_the_future_is_kept_in_words() -> None:
    status = error_to_status(errors.Refused(Reason.PRUNED, "gone"))
    info = error_details_pb2.ErrorInfo(reason="MOON_IN_HOUSE", domain=DOMAIN)
    status.details[0].Pack(info)
    back = error_from_status(status)
    assert back.reason == Reason.INTERNAL
    assert "MOON_IN_HOUSE" in back.detail


def test_a_status_of_someone_else_is_not_ours() -> None:
    assert error_from_status(status_pb2.Status(code=5, message="no such page")) is None


def test_internal_faults_show_nothing() -> None:
    status = internal_status()
    assert error_from_status(status).reason == Reason.INTERNAL
    assert len(status.details) == 1
    assert "standard error" in error_from_status(status).hint, "whoever asks can do something next"


def test_long_errors_fit_into_trailing_metadata() -> None:
    data = {f"k{i}": "v" * 999 for i in range(50)}
    error = errors.Refused(Reason.CONTRACT_REFUSED, "d" * 99_999, hint="h" * 99_999, **data)
    assert len(error_to_status(error).SerializeToString()) < 7000
