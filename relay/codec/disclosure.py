"""Queries, fetches, and the access log that tells of them."""

from __future__ import annotations

from lianqiao.ledger.v1 import record_pb2 as rpb
from lianqiao.ledger.v1 import record_service_pb2 as pb
from relay.codec.fields import (
    blob,
    digest,
    document,
    each,
    identifier,
    integer,
    malformed,
    name,
    present,
    text,
)
from relay.codec.records import opening_from_pb, opening_to_pb, part_from_pb, part_to_pb
from relay.contracts.payloads import Consent, Purpose
from relay.contracts.payloads import fields as payload
from relay.contracts.payloads.consent import scope_entry
from relay.disclosure.asks import (
    MAX_ITEMS,
    MAX_NONCE_BYTES,
    MAX_PERSON,
    MIN_NONCE_BYTES,
    Fetch,
    FindQuery,
    FoundItem,
    FoundRecord,
    Withheld,
)
from relay.errors import Malformed
from relay.record.audit import MAX_ITEMS as MAX_ENTRY_ITEMS
from relay.record.audit import MAX_TEXT as MAX_ENTRY_TEXT
from relay.record.audit import Access, Act, Entry
from relay.record.parts import MAX_PARTS, Hidden, Opened

MAX_SIGNATURE_BYTES = payload.MAX_SIGNATURE_BYTES


def _person(value: str, field: str) -> str:
    return text(value, field, MAX_PERSON)


def _purpose(value: str, field: str) -> Purpose:
    return payload.word({field: value}, field, Purpose)


def _item(value: str, field: str) -> str:
    return scope_entry({field: value}, field)


def query_to_pb(query: FindQuery) -> pb.FindRecordsRequest:
    """FindQuery as a message."""
    return pb.FindRecordsRequest(
        institution=query.institution,
        person=query.person,
        purpose=query.purpose.value,
        patient=opening_to_pb(query.patient),
        items=query.items,
        consent=query.consent.encode(),
        nonce=query.nonce,
        time_seconds=query.time,
        algorithm=query.algorithm,
        key=query.key,
        signature=query.signature,
    )


def query_from_pb(message: pb.FindRecordsRequest) -> FindQuery:
    """FindQuery; nothing of it is verified here."""
    present(message, "patient")
    items = each(message.items, "items", MAX_ITEMS, _item, least=1)
    if list(items) != sorted(set(items)):
        raise malformed("items", "must ascend, each once")
    return FindQuery(
        institution=identifier(message.institution, "institution"),
        person=_person(message.person, "person"),
        purpose=_purpose(message.purpose, "purpose"),
        patient=opening_from_pb(message.patient, "patient"),
        items=items,
        consent=document(message.consent, "consent", Consent.decode),
        nonce=blob(message.nonce, "nonce", MAX_NONCE_BYTES, least=MIN_NONCE_BYTES),
        time=integer(message.time_seconds, "time_seconds"),
        algorithm=name(message.algorithm, "algorithm", 32),
        key=blob(message.key, "key", payload.MAX_KEY_BYTES, least=1),
        signature=blob(message.signature, "signature", MAX_SIGNATURE_BYTES),
    )


def found_to_pb(record: FoundRecord) -> pb.FoundRecord:
    """FoundRecord as a message."""
    return pb.FoundRecord(
        commitment=record.commitment,
        patient=opening_to_pb(record.patient),
        items=[pb.FoundItem(part=i.part, code=i.code) for i in record.items],
    )


def found_item_from_pb(message: pb.FoundItem, where: str = "item") -> FoundItem:
    """FoundItem."""
    return FoundItem(
        integer(message.part, f"{where}.part", 0, MAX_PARTS - 1),
        _item(message.code, f"{where}.code"),
    )


def found_from_pb(message: pb.FoundRecord, where: str = "record") -> FoundRecord:
    """FoundRecord."""
    return FoundRecord(
        digest(message.commitment, f"{where}.commitment"),
        opening_from_pb(message.patient, f"{where}.patient"),
        each(message.items, f"{where}.items", MAX_PARTS, found_item_from_pb),
    )


def fetch_to_pb(fetch: Fetch) -> pb.Fetch:
    """Fetch as a message."""
    return pb.Fetch(
        commitment=fetch.commitment,
        grant=fetch.grant,
        institution=fetch.institution,
        person=fetch.person,
        nonce=fetch.nonce,
        time_seconds=fetch.time,
        algorithm=fetch.algorithm,
        key=fetch.key,
        signature=fetch.signature,
    )


def fetch_from_pb(message: pb.Fetch, where: str = "fetch") -> Fetch:
    """Fetch; nothing of it is verified here."""
    return Fetch(
        commitment=digest(message.commitment, f"{where}.commitment"),
        grant=digest(message.grant, f"{where}.grant"),
        institution=identifier(message.institution, f"{where}.institution"),
        person=_person(message.person, f"{where}.person"),
        nonce=blob(message.nonce, f"{where}.nonce", MAX_NONCE_BYTES, least=MIN_NONCE_BYTES),
        time=integer(message.time_seconds, f"{where}.time_seconds"),
        algorithm=name(message.algorithm, f"{where}.algorithm", 32),
        key=blob(message.key, f"{where}.key", payload.MAX_KEY_BYTES, least=1),
        signature=blob(message.signature, f"{where}.signature", MAX_SIGNATURE_BYTES),
    )


def withheld_to_pb(number: int, withheld: Withheld) -> pb.FetchRecordResponse:
    """Why fetch `number` was refused, as a message."""
    return pb.FetchRecordResponse(fetch=number, reason=withheld.reason, detail=withheld.detail)


def fetched_part_to_pb(
    number: int, index: int, count: int, part: Opened | Hidden
) -> pb.FetchRecordResponse:
    """One part of what fetch `number` gave, as a message."""
    if isinstance(part, Hidden):
        return pb.FetchRecordResponse(fetch=number, index=index, count=count, leaf=part.leaf)
    return pb.FetchRecordResponse(fetch=number, index=index, count=count, part=part_to_pb(part))


def fetched_part_from_pb(message: pb.FetchRecordResponse) -> Opened | Hidden:
    """A part, opened or hidden: one of them and not both."""
    if message.HasField("part") == bool(message.leaf):
        raise malformed("part", "must be opened or hidden")
    if message.leaf:
        return Hidden(digest(message.leaf, "leaf"))
    return part_from_pb(message.part)


def entry_to_pb(entry: Entry) -> rpb.AccessEntry:
    """An entry of the audit store as a message."""
    access = entry.access
    return rpb.AccessEntry(
        commitment=entry.commitment,
        salt=entry.salt,
        act=access.act.value,
        time_seconds=access.time,
        institution=access.institution,
        person=access.who,
        purpose=access.purpose,
        record=access.record,
        patient=access.patient,
        items=access.items,
        outcome=access.outcome,
    )


def entry_from_pb(message: rpb.AccessEntry, where: str = "entry") -> Entry:
    """An entry whose commitment is recomputed and compared."""

    def line(value: str, field: str) -> str:
        return text(value, f"{where}.{field}", MAX_ENTRY_TEXT)

    try:
        act = Act(message.act)
    except ValueError:
        raise malformed(f"{where}.act", "is not known to this version") from None
    access = Access(
        act=act,
        time=integer(message.time_seconds, f"{where}.time_seconds"),
        institution=line(message.institution, "institution"),
        who=line(message.person, "person"),
        purpose=line(message.purpose, "purpose"),
        record=line(message.record, "record"),
        patient=line(message.patient, "patient"),
        items=each(
            message.items,
            f"{where}.items",
            MAX_ENTRY_ITEMS,
            lambda v, f: text(v, f, MAX_ENTRY_TEXT),
        ),
        outcome=line(message.outcome, "outcome"),
    )
    entry = Entry(access, digest(message.salt, f"{where}.salt"))
    if entry.commitment != message.commitment:
        raise Malformed("the entry is not what its commitment says", field=f"{where}.commitment")
    return entry
