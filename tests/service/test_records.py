"""RecordService through its client: who gets what, who does not and why, and who is told of it."""

from __future__ import annotations

from dataclasses import replace

import grpc
import pytest

from lianqiao.ledger.v1 import record_service_pb2 as pb
from lianqiao.ledger.v1 import record_service_pb2_grpc
from relay import canonical
from relay import query as node_query
from relay.contracts.payloads import Purpose, Signer
from relay.contracts.policy.values import DatedKey
from relay.contracts.registry import UNAUTHENTICATED_CALLER, Role
from relay.disclosure import desk
from relay.disclosure.asks import Fetched, Withheld
from relay.disclosure.nonces import Nonces
from relay.disclosure.refusals import MAX_A_MINUTE, Refusals
from relay.errors import Denied, Exhausted, Malformed, Reason, Refused
from relay.record.audit import Act
from relay.record.parts import Hidden, Opened, patient_reference
from tests.contracts import world
from tests.contracts.world import ASKING, DAY, GLUCOSE, HOSPITAL, NOW, PATIENT, STRANGER
from tests.refusals import refusing
from tests.service import region as made
from tests.service.region import (
    Region,
    amended,
    consent,
    deposit,
    fetch,
    opening,
    query,
    retraction,
)


def on_ledger(region: Region) -> list[tuple[str, str, str]]:
    """(commitment, kind, institution) of the access entries that lie on the ledger."""
    found = node_query.list_records(region.zj.node.store, "registry", b"access/")
    entries = [canonical.decode(value) for _, value in found]
    return [(e["commitment"], e["kind"], e["institution"]) for e in entries]


def log(region: Region, **filters):
    return [e.access for e in region.zj.client.access_log(**filters)]


# --- fetching


def test_what_was_granted_is_fetched_and_entered(region: Region) -> None:
    given, decision = region.granted(items=2)
    (answer,) = region.zj.client.fetch_records([fetch(decision)])
    assert isinstance(answer, Fetched)
    report, first, second = answer.parts
    assert isinstance(report, Hidden)
    assert first == given.parts[1]
    assert isinstance(second, Hidden)
    (entry,) = region.zj.client.access_log(commitment=decision.commitment)
    access = entry.access
    assert (access.act, access.institution, access.who) == (Act.FETCH, "sh-h1", "Dr Li")
    assert (access.outcome, access.purpose, access.items) == ("OK", "TREAT", (GLUCOSE,))
    assert on_ledger(region) == [(entry.commitment.hex(), "fetched", "sh-h1")]
    assert log(region, patient=(made.SCHEME, made.PATIENT)) == [access]
    assert log(region, patient=(made.SCHEME, "another")) == []
    assert log(region, commitment=bytes(32)) == []


def test_several_fetches_each_by_itself(region: Region) -> None:
    _, decision = region.granted()
    _, other = region.granted()
    answers = list(
        region.zj.client.fetch_records(
            [fetch(decision), fetch(decision, by=STRANGER), fetch(other)]
        )
    )
    assert [type(a) for a in answers] == [Fetched, Withheld, Fetched]
    assert answers[1].reason == Reason.UNAUTHENTICATED
    assert [kind for _, kind, _ in on_ledger(region)] == ["fetched", "fetched"]


STRANGERS = [
    ({"grant": bytes(32)}, Reason.NO_GRANT),
    ({"institution": "sh-h2"}, Reason.NO_GRANT),
    ({"commitment": bytes(32)}, Reason.NO_GRANT),
    ({"by": STRANGER}, Reason.UNAUTHENTICATED),
    ({"ledger": "sh-medical"}, Reason.UNAUTHENTICATED),
    ({"time": NOW - 301}, Reason.UNAUTHENTICATED),
    ({"time": NOW + 301}, Reason.UNAUTHENTICATED),
]


def test_a_stranger_gets_nothing_and_is_not_entered(region: Region) -> None:
    _, decision = region.granted()
    for changes, reason in STRANGERS:
        (answer,) = region.zj.client.fetch_records([fetch(decision, **changes)])
        assert isinstance(answer, Withheld)
        assert answer.reason == reason, changes
    assert on_ledger(region) == []


def test_a_changed_fetch_is_no_fetch(region: Region) -> None:
    _, decision = region.granted()
    signed = fetch(decision)
    for changed in (replace(signed, nonce=bytes(16)), replace(signed, time=NOW - 1)):
        (answer,) = region.zj.client.fetch_records([changed])
        assert isinstance(answer, Withheld)
        assert answer.reason == Reason.UNAUTHENTICATED


def test_a_signature_is_used_once(region: Region) -> None:
    _, decision = region.granted()
    signed = fetch(decision)
    first, second = region.zj.client.fetch_records([signed, signed])
    assert isinstance(first, Fetched)
    assert isinstance(second, Withheld)
    assert second.reason == Reason.UNAUTHENTICATED


def test_authenticated_refusals_are_entered(region: Region) -> None:
    given, decision = region.granted()
    region.zj.client.retract([retraction(given)], ["relay-1"])
    (answer,) = region.zj.client.fetch_records([fetch(decision)])
    assert isinstance(answer, Withheld)
    assert answer.reason == Reason.RECORD_REVISED
    given, decision = region.granted()
    region.zj.client.amend([amended(given)], ["relay-1"])
    (answer,) = region.zj.client.fetch_records([fetch(decision)])
    assert answer.reason == Reason.RECORD_REVISED
    given, decision = region.granted()
    region.vault.erase(decision.commitment)
    (answer,) = region.zj.client.fetch_records([fetch(decision)])
    assert answer.reason == Reason.RECORD_ERASED
    given, decision = region.granted()
    region.clock.now = decision.expires
    (answer,) = region.zj.client.fetch_records([fetch(decision, time=region.clock.now)])
    assert answer.reason == Reason.NO_GRANT
    assert [kind for _, kind, _ in on_ledger(region)] == ["refused"] * 4
    assert [a.outcome for a in log(region)] == [
        "RECORD_REVISED",
        "RECORD_REVISED",
        "RECORD_ERASED",
        "NO_GRANT",
    ]


def test_nothing_leaves_that_cannot_be_entered(region: Region, monkeypatch) -> None:
    _, decision = region.granted()
    signed = fetch(decision)

    def refuse(*_: object) -> bytes:
        raise Refused(Reason.CONFLICT, "the ledger does not write")

    monkeypatch.setattr(region.zj.node, "call", refuse)
    with pytest.raises(Refused) as err:
        list(region.zj.client.fetch_records([signed]))
    assert err.value.reason == Reason.CONFLICT


def test_the_report_needs_its_own_consent(region: Region) -> None:
    given = deposit()
    region.attest(given)
    scope = tuple(sorted(("report", GLUCOSE)))
    decision = region.decide(made.request(given, consent=consent(given, scope=scope)))
    (answer,) = region.zj.client.fetch_records([fetch(decision)])
    assert isinstance(answer, Fetched)
    assert [type(p) for p in answer.parts] == [Opened, Opened]


def test_an_answer_has_a_size(region: Region, monkeypatch) -> None:
    _, decision = region.granted()
    _, other = region.granted()
    monkeypatch.setattr(desk, "MAX_ANSWER_BYTES", 1000)
    answers = list(region.zj.client.fetch_records([fetch(decision), fetch(other)]))
    assert isinstance(answers[0], Fetched)
    assert isinstance(answers[1], Withheld)
    assert answers[1].reason == Reason.LIMIT_EXCEEDED
    assert isinstance(next(region.zj.client.fetch_records([fetch(other)])), Fetched)


# --- finding


def test_a_consenting_patient_is_found(region: Region) -> None:
    given, other = deposit(), deposit("another")
    region.attest(given, other)
    (found,) = region.zj.client.find_records(query())
    assert found.commitment == given.attestation.commitment
    assert patient_reference(found.patient) == given.attestation.patient
    assert [(i.part, i.code) for i in found.items] == [(1, GLUCOSE)]
    (access,) = log(region)
    assert (access.act, access.outcome, access.record) == (Act.FIND, "OK", found.commitment.hex())
    assert [kind for _, kind, _ in on_ledger(region)] == ["found"]
    mrn = replace(opening(), scheme="urn:mrn", value=f"MRN-{made.PATIENT}")
    assert len(region.zj.client.find_records(query(patient=mrn))) == 1


def test_only_what_is_current_and_asked_for_is_found(region: Region) -> None:
    first = deposit()
    region.attest(first)
    second = amended(first)
    region.zj.client.amend([second], ["relay-1"])
    (found,) = region.zj.client.find_records(query())
    assert found.commitment == second.attestation.commitment
    other = f"{world.LOINC}|5196-1"
    assert region.zj.client.find_records(query(items=(other,))) == []
    region.zj.client.retract([retraction(second)])
    assert region.zj.client.find_records(query()) == []
    assert [a.outcome for a in log(region)] == ["OK"] * 3
    assert [a.record for a in log(region)][1:] == ["", ""]


def test_what_was_never_attested_is_not_found(region: Region) -> None:
    from relay.record.sealed import KeptItem, KeptRecord

    given = deposit()
    items = (KeptItem(1, world.LOINC, "14749-6"),)
    region.vault.put([KeptRecord(given.attestation.commitment, given.parts, given.patient, items)])
    assert region.zj.client.find_records(query()) == []


def test_an_answer_names_so_many_records(region: Region, monkeypatch) -> None:
    region.attest(*(deposit() for _ in range(3)))
    monkeypatch.setattr(desk, "MAX_FOUND", 2)
    assert len(region.zj.client.find_records(query())) == 2


PERSON = opening()
COVERS = {"patients": (patient_reference(PERSON),)}


QUERIES = [
    ({"institution": "sh-h9"}, Reason.NOT_PERMITTED),
    ({"by": STRANGER}, Reason.UNAUTHENTICATED),
    ({"ledger": "sh-medical"}, Reason.UNAUTHENTICATED),
    ({"time": NOW - 301}, Reason.UNAUTHENTICATED),
    ({"consent": consent(**COVERS, grantee="sh-h2")}, Reason.CONSENT_INVALID),
    ({"consent": consent(**COVERS, end=NOW)}, Reason.CONSENT_INVALID),
    ({"consent": consent(**COVERS, start=NOW + 1)}, Reason.CONSENT_INVALID),
    ({"consent": consent(**COVERS, purposes=(Purpose.HRESCH,))}, Reason.CONSENT_INVALID),
    ({"consent": consent(patients=(bytes(32),))}, Reason.CONSENT_INVALID),
    ({"consent": consent(**COVERS, scope=("report",))}, Reason.CONSENT_INVALID),
    (
        {"consent": replace(consent(**COVERS), revocation=bytes(32))},
        Reason.CONSENT_INVALID,
    ),
    (
        {"consent": consent(by=STRANGER, **COVERS, signer=Signer.INSTITUTION, signed_by="sh-h1")},
        Reason.CONSENT_INVALID,
    ),
    (
        {"consent": consent(by=STRANGER, **COVERS, signer=Signer.INSTITUTION, signed_by="sh-h9")},
        Reason.CONSENT_INVALID,
    ),
    ({"items": (f"{world.LOINC}|99999-9",)}, Reason.CONSENT_INVALID),
]


def test_refused_queries_are_entered_too(region: Region) -> None:
    region.attest(deposit())
    for changes, reason in QUERIES:
        with pytest.raises((Denied, Refused)) as err:
            region.zj.client.find_records(query(patient=PERSON, **changes))
        assert err.value.reason == reason, changes
    accesses = log(region)
    assert [(a.act, a.outcome, a.record) for a in accesses] == [
        (Act.FIND, reason, "") for _, reason in QUERIES
    ]
    assert [kind for _, kind, _ in on_ledger(region)] == ["refused"] * len(QUERIES)
    for access, (changes, reason) in zip(accesses, QUERIES, strict=True):
        known, named = reason == Reason.CONSENT_INVALID, changes.get("institution", "sh-h1")
        assert access.institution == ("sh-h1" if known else UNAUTHENTICATED_CALLER)
        assert access.who == ("Dr Li" if known else f"claims to be {named}")
    assert {who for _, _, who in on_ledger(region)} == {"sh-h1", UNAUTHENTICATED_CALLER}


def test_nobody_fills_the_log_in_anothers_name(region: Region) -> None:
    """Past the limit they are counted, and the next entry says so; who is known is entered."""

    def ask(reason: Reason = Reason.UNAUTHENTICATED, **changes: object) -> None:
        with refusing(reason):
            region.zj.client.find_records(query(**changes))

    for _ in range(MAX_A_MINUTE + 5):
        ask(by=STRANGER)
    ask(Reason.CONSENT_INVALID, items=(f"{world.LOINC}|99999-9",))
    strangers = [UNAUTHENTICATED_CALLER] * MAX_A_MINUTE
    assert [a.institution for a in log(region)] == [*strangers, "sh-h1"]
    region.zj.clock.now += 61
    ask(by=STRANGER, time=region.zj.clock.now)
    assert log(region)[-1].who == "claims to be sh-h1; 5 more of the kind since the entry before"
    assert len(on_ledger(region)) == MAX_A_MINUTE + 2


def test_refusals_are_counted_by_the_minute() -> None:
    refusals = Refusals(2)
    asked = (0, 59, 59, 59, 60, 61, 61, 10)
    answers = [0, 0, None, None, 2, 0, None, 1]
    assert [refusals.take(now) for now in asked] == answers, "set back, a clock begins anew"


def test_who_is_registered_to_ask_attests_nothing(region: Region) -> None:
    """What it attested in another role it may still end."""
    given = deposit()
    region.attest(given)
    key = DatedKey("ed25519", HOSPITAL.public, NOW - DAY, NOW + DAY)
    region.zj.client.register_institution("zj-h1", 2, [key], Role.ASKS)
    for attempt in (
        lambda: region.zj.client.attest([deposit()]),
        lambda: region.zj.client.amend([amended(given)]),
    ):
        with pytest.raises(Denied) as err:
            attempt()
        assert err.value.reason == Reason.NOT_PERMITTED
    region.zj.client.retract([retraction(given)])
    assert region.zj.client.find_records(query(patient=PERSON)) == []
    region.zj.client.register_institution("zj-h1", 3, [key])
    region.attest(deposit())


def test_nobody_is_registered_as_nobody(region: Region) -> None:
    with refusing(Reason.MALFORMED):
        region.zj.client.register_institution(UNAUTHENTICATED_CALLER, 1, [])


def test_an_institution_may_sign_the_consent(region: Region) -> None:
    region.attest(deposit())
    agreed = consent(by=ASKING, **COVERS, signer=Signer.INSTITUTION, signed_by="sh-h1")
    assert len(region.zj.client.find_records(query(patient=PERSON, consent=agreed))) == 1
    assert PATIENT
    assert HOSPITAL


def test_a_query_is_asked_once(region: Region) -> None:
    signed = query()
    region.zj.client.find_records(signed)
    with pytest.raises(Denied) as err:
        region.zj.client.find_records(signed)
    assert err.value.reason == Reason.UNAUTHENTICATED


def test_a_changed_query_is_no_query(region: Region) -> None:
    signed = query(consent=consent(**COVERS), patient=PERSON)
    for changed in (
        replace(signed, person="Dr Wang"),
        replace(signed, items=(f"{world.LOINC}|3016-3",)),
        replace(signed, purpose=Purpose.ETREAT),
        replace(signed, consent=consent(**COVERS, end=NOW + DAY)),
    ):
        with pytest.raises(Denied) as err:
            region.zj.client.find_records(changed)
        assert err.value.reason == Reason.UNAUTHENTICATED


# --- form


def test_malformed(region: Region) -> None:
    channel = region.zj.client._connection.channel
    stub = record_service_pb2_grpc.RecordServiceStub(channel)
    from relay.codec.disclosure import fetch_to_pb, query_to_pb

    _, decision = region.granted()
    for change, field in (
        ({"institution": "a b"}, "institution"),
        ({"purpose": "CURIOSITY"}, "purpose"),
        ({"consent": b"{}"}, "consent.consent"),
        ({"nonce": b"short"}, "nonce"),
        ({"time_seconds": 2**63}, "time_seconds"),
        ({"algorithm": ""}, "algorithm"),
        ({"key": b""}, "key"),
    ):
        message = query_to_pb(query())
        for name, value in change.items():
            setattr(message, name, value)
        with pytest.raises(grpc.RpcError) as err:
            stub.FindRecords(message, timeout=5)
        error = region.zj.client._connection.error(err.value)
        assert isinstance(error, Malformed)
        assert error.data["field"] == field
    for items in ([], ["b|c", "a|b"], ["no bar"]):
        message = query_to_pb(query())
        del message.items[:]
        message.items.extend(items)
        with pytest.raises(grpc.RpcError) as err:
            stub.FindRecords(message, timeout=5)
        assert isinstance(region.zj.client._connection.error(err.value), Malformed)
    good = fetch_to_pb(fetch(decision))
    for fetches, field, reason in (
        ([], "fetches", Reason.MALFORMED),
        ([pb.Fetch()], "fetches[0].commitment", Reason.MALFORMED),
        ([good] * 101, "fetches", Reason.LIMIT_EXCEEDED),
    ):
        with pytest.raises(grpc.RpcError) as err:
            list(stub.FetchRecord(pb.FetchRecordRequest(fetches=fetches), timeout=5))
        error = region.zj.client._connection.error(err.value)
        assert (error.data["field"], error.reason) == (field, reason)
    assert on_ledger(region) == []


# --- nonces


def test_nonces_are_forgotten_only_when_they_are_too_old() -> None:
    nonces = Nonces(started=NOW, limit=2)
    nonces.use("h", b"1", NOW, NOW)
    with refusing(Reason.UNAUTHENTICATED):
        nonces.use("h", b"1", NOW, NOW + 300)
    nonces.use("g", b"1", NOW, NOW)
    with pytest.raises(Exhausted) as full:
        nonces.use("h", b"2", NOW, NOW)
    assert full.value.reason == Reason.LIMIT_EXCEEDED
    nonces.use("h", b"2", NOW + 301, NOW + 301)
    with pytest.raises(Denied) as before:
        nonces.use("h", b"3", NOW - 1, NOW)
    assert before.value.reason == Reason.UNAUTHENTICATED
