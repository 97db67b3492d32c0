"""The border with protobuf for records, requests, queries and decisions."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from lianqiao.ledger.v1 import record_pb2, record_service_pb2
from lianqiao.relay.v1 import operator_service_pb2, recognition_service_pb2
from relay.codec import decisions, disclosure, evidence, pages, records
from relay.contracts.payloads import Purpose
from relay.contracts.policy.values import DatedKey
from relay.disclosure.asks import Fetch, FindQuery, FoundItem, FoundRecord
from relay.errors import Malformed, Reason
from relay.ledger_views import (
    AnnouncementView,
    AttestedView,
    DecisionView,
    Deposit,
    OutcomeCount,
    RecognitionState,
    RecognitionView,
    RecordState,
    RecordView,
    SentPacket,
)
from relay.record import door
from relay.record.audit import Access, Act, Entry
from relay.record.parts import Hidden, Opened, PatientOpening
from relay.views import HeadView, LaneView, PolicyView, StatusView
from tests.contracts import test_payloads as payloads
from tests.contracts import world
from tests.refusals import refusal

HASHES = payloads.hashes
IDS = payloads.ids
TIMES = st.integers(0, 2**63 - 1)
NUMBERS = st.integers(1, 2**63 - 1)
PRINTABLE = st.characters(min_codepoint=0x21, max_codepoint=0x7E)
NAMES = st.text(PRINTABLE, min_size=1, max_size=32)
PERSONS = st.text(max_size=64)
LINES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)
OPENINGS = st.builds(PatientOpening, HASHES, LINES, LINES)
PARTS = st.builds(Opened, HASHES, st.binary(min_size=1, max_size=99))
FEW_PARTS = st.lists(PARTS, min_size=1, max_size=3).map(tuple)
DEPOSITS = st.builds(
    Deposit,
    payloads.attestations(),
    FEW_PARTS,
    OPENINGS,
    st.lists(st.tuples(LINES, LINES), max_size=2).map(tuple),
)
SENT = st.builds(SentPacket, NAMES, NUMBERS, IDS)
ATTESTED = st.builds(AttestedView, HASHES, st.booleans(), st.lists(SENT, max_size=3).map(tuple))
ANNOUNCEMENTS = st.builds(
    AnnouncementView,
    IDS,
    st.sampled_from(["new", "amend", "retract"]),
    st.booleans(),
    st.sampled_from(["", "SRC_AUTH/CONFLICT", "ERROR"]),
    TIMES,
    NAMES,
    NUMBERS,
)
RECORDS = st.builds(
    RecordView,
    payloads.attestations(),
    st.sampled_from(RecordState),
    HASHES | st.just(b""),
    st.lists(ANNOUNCEMENTS, max_size=2).map(tuple),
)


@st.composite
def recognitions(draw: st.DrawFn) -> RecognitionView:
    state = draw(st.sampled_from(RecognitionState))
    decided = state is RecognitionState.DECIDED
    return RecognitionView(
        draw(payloads.requests),
        state,
        draw(NAMES),
        draw(TIMES),
        draw(payloads.decisions()) if decided else None,
    )


ITEMS = st.lists(
    st.builds("{}|{}".format, payloads.systems, payloads.codes), min_size=1, max_size=3
).map(lambda found: tuple(sorted(set(found))))
NONCES = st.binary(min_size=16, max_size=64)
KEYS = st.binary(min_size=1, max_size=64)
QUERIES = st.builds(
    FindQuery,
    IDS,
    PERSONS,
    st.sampled_from(Purpose),
    OPENINGS,
    ITEMS,
    payloads.consents(),
    NONCES,
    TIMES,
    NAMES,
    KEYS,
    KEYS,
)
FETCHES = st.builds(Fetch, HASHES, HASHES, IDS, PERSONS, NONCES, TIMES, NAMES, KEYS, KEYS)
FOUND = st.builds(
    FoundRecord,
    HASHES,
    OPENINGS,
    st.lists(
        st.builds(
            FoundItem,
            st.integers(0, 511),
            st.builds("{}|{}".format, payloads.systems, payloads.codes),
        ),
        max_size=3,
    ).map(tuple),
)
ACCESSES = st.builds(
    Access,
    st.sampled_from(Act),
    TIMES.filter(lambda t: t < 2**53),
    IDS,
    PERSONS,
    NAMES,
    NAMES,
    NAMES,
    st.lists(NAMES, max_size=3).map(tuple),
    NAMES,
)
HEADS = st.builds(HeadView, NAMES, NUMBERS, HASHES, TIMES, st.binary(min_size=1, max_size=99))
STATUSES = st.builds(
    StatusView,
    NAMES,
    st.sampled_from(["ledger", "relay"]),
    NAMES,
    st.none() | HEADS,
    TIMES,
    TIMES,
    TIMES,
    st.lists(NAMES, max_size=3).map(tuple),
)


def a_key(start: int, extra: int) -> DatedKey:
    return DatedKey("ed25519", b"k" * 32, start, start + extra)


ROUND_TRIPS = {
    "opening": (OPENINGS, records.opening_to_pb, records.opening_from_pb),
    "part": (PARTS, records.part_to_pb, records.part_from_pb),
    "deposit": (DEPOSITS, records.deposit_to_pb, records.deposit_from_pb),
    "key": (
        st.builds(a_key, st.integers(0, 2**60), st.integers(1, 2**60)),
        records.key_to_pb,
        records.key_from_pb,
    ),
    "attested": (ATTESTED, records.attested_to_pb, records.attested_from_pb),
    "record": (RECORDS, records.record_to_pb, records.record_from_pb),
    "recognition": (recognitions(), records.recognition_to_pb, records.recognition_from_pb),
    "query": (QUERIES, disclosure.query_to_pb, disclosure.query_from_pb),
    "found": (FOUND, disclosure.found_to_pb, disclosure.found_from_pb),
    "fetch": (FETCHES, disclosure.fetch_to_pb, disclosure.fetch_from_pb),
    "entry": (
        st.builds(Entry, ACCESSES, HASHES),
        disclosure.entry_to_pb,
        disclosure.entry_from_pb,
    ),
    "fetched part": (
        PARTS | st.builds(Hidden, HASHES),
        lambda part: disclosure.fetched_part_to_pb(0, 0, 1, part),
        disclosure.fetched_part_from_pb,
    ),
    "decision": (
        st.builds(DecisionView, IDS, payloads.decisions()),
        decisions.decision_to_pb,
        decisions.decision_from_pb,
    ),
    "count": (
        st.builds(OutcomeCount, IDS, NAMES, NAMES, TIMES),
        decisions.count_to_pb,
        decisions.count_from_pb,
    ),
    "head": (HEADS, evidence.head_to_pb, evidence.head_from_pb),
    "status": (STATUSES, evidence.status_to_pb, evidence.status_from_pb),
    "policy": (
        st.builds(PolicyView, NAMES, NAMES, NUMBERS, TIMES, HASHES, st.booleans()),
        evidence.policy_to_pb,
        evidence.policy_from_pb,
    ),
    "lane": (
        st.builds(
            LaneView,
            NAMES,
            NAMES,
            NAMES,
            settings=st.lists(st.tuples(NAMES, NAMES), max_size=3).map(tuple),
        ),
        evidence.lane_to_pb,
        evidence.lane_from_pb,
    ),
}


@pytest.mark.parametrize("kind", ROUND_TRIPS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_what_goes_out_comes_back(kind: str, data: st.DataObject) -> None:
    values, to_pb, from_pb = ROUND_TRIPS[kind]
    value = data.draw(values)
    message = to_pb(value)
    back = from_pb(type(message).FromString(message.SerializeToString()))
    assert back == value
    assert to_pb(back) == message


DECODERS = {
    "deposit": (record_pb2.RecordDeposit, records.deposit_from_pb),
    "record": (record_pb2.Record, records.record_from_pb),
    "recognition": (record_pb2.Recognition, records.recognition_from_pb),
    "attested": (record_pb2.AttestedRecord, records.attested_from_pb),
    "entry": (record_pb2.AccessEntry, disclosure.entry_from_pb),
    "query": (record_service_pb2.FindRecordsRequest, disclosure.query_from_pb),
    "found": (record_service_pb2.FoundRecord, disclosure.found_from_pb),
    "fetch": (record_service_pb2.Fetch, disclosure.fetch_from_pb),
    "fetched": (record_service_pb2.FetchRecordResponse, disclosure.fetched_part_from_pb),
    "decision": (recognition_service_pb2.Decision, decisions.decision_from_pb),
    "count": (recognition_service_pb2.OutcomeCount, decisions.count_from_pb),
    "status": (operator_service_pb2.GetStatusResponse, evidence.status_from_pb),
}


@pytest.mark.parametrize("kind", DECODERS)
@settings(max_examples=50, deadline=None)
@given(raw=st.binary(max_size=200))
def test_any_message_is_a_value_or_malformed(kind: str, raw: bytes) -> None:
    message, from_pb = DECODERS[kind]
    try:
        decoded = message.FromString(raw)
    except DecodeError:
        return
    with suppress(Malformed):
        from_pb(decoded)


def not_read(from_pb, message) -> tuple[str, Reason]:
    error = refusal(from_pb, message, kind=Malformed)
    return error.data["field"], error.reason


def test_the_limits_are_the_doors() -> None:
    assert records.MAX_PART_BYTES == door.MAX_PART_BYTES
    assert records.MAX_RECORD_BYTES == door.MAX_RECORD_BYTES


def test_a_record_is_no_larger_than_the_door_lets_in() -> None:
    half = record_pb2.RecordPart(salt=bytes(32), content=bytes(records.MAX_PART_BYTES))
    message = records.deposit_to_pb(
        Deposit(
            world.attestation(), (Opened(bytes(32), b"{}"),), PatientOpening(bytes(32), "s", "v")
        )
    )
    message.parts.extend([half] * 4)
    assert not_read(records.deposit_from_pb, message) == ("record.parts", Reason.LIMIT_EXCEEDED)
    message.parts[0].content += bytes(records.MAX_PART_BYTES)
    where = "record.parts[0].content"
    assert not_read(records.deposit_from_pb, message) == (where, Reason.LIMIT_EXCEEDED)
    message.patient.value = "x" * 257
    del message.parts[:]
    message.parts.add(salt=bytes(32), content=b"{}")
    assert not_read(records.deposit_from_pb, message)[0] == "record.patient.value"


def test_what_is_told_must_agree_with_itself() -> None:
    view = RecordView(world.attestation(), RecordState.CURRENT, b"", ())
    message = records.record_to_pb(view)
    message.commitment = bytes(32)
    assert not_read(records.record_from_pb, message)[0] == "record.commitment"
    asked = RecognitionView(world.request(), RecognitionState.SENT, "c", 1, None)
    message = records.recognition_to_pb(asked)
    message.request_hash = bytes(32)
    assert not_read(records.recognition_from_pb, message)[0] == "recognition.request_hash"
    message = records.recognition_to_pb(replace(asked, state=RecognitionState.DECIDED))
    assert not_read(records.recognition_from_pb, message)[0] == "recognition.decision"
    entry = Entry(Access(Act.FIND, 1, "h", "w", "TREAT", "", "", (), "OK"), bytes(32))
    told = disclosure.entry_to_pb(entry)
    told.institution = "another"
    assert not_read(disclosure.entry_from_pb, told)[0] == "entry.commitment"
    told.act = "peek"
    assert not_read(disclosure.entry_from_pb, told)[0] == "entry.act"
    both = record_service_pb2.FetchRecordResponse(leaf=bytes(32))
    both.part.content = b"x"
    assert not_read(disclosure.fetched_part_from_pb, both)[0] == "part"
    neither = record_service_pb2.FetchRecordResponse()
    assert not_read(disclosure.fetched_part_from_pb, neither)[0] == "part"


def test_a_page_ends_before_it_outgrows_a_message() -> None:
    listing = pages.filter_hash("List")
    third = pages.MAX_PAGE_BYTES // 3
    pairs = [(bytes([n]), bytes(third)) for n in range(5)]
    values, token = pages.cut_bytes(listing, 5, pairs)
    assert len(values) == 3
    assert pages.decode_token(token, listing) == bytes([2])
    messages, token = pages.cut(
        listing, 5, pairs, lambda p: record_pb2.RecordPart(content=p[1]), lambda p: p[0]
    )
    assert len(messages) == 2
    assert pages.decode_token(token, listing) == bytes([1])
    single = [(b"k", bytes(pages.MAX_PAGE_BYTES + 1))] * 2
    assert len(pages.cut_bytes(listing, 2, single)[0]) == 1
    assert pages.cut_bytes(listing, 5, pairs[:3]) == ([v for _, v in pairs[:3]], "")
    assert pages.cut_bytes(listing, 3, pairs[:3])[1]
    assert pages.cut_bytes(listing, 3, []) == ([], "")
    assert pages.cut(listing, 3, [], lambda p: record_pb2.RecordPart(), lambda p: p) == ([], "")
