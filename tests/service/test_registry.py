"""RegistryService and RecognitionService through their client: the whole path over real nodes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lianqiao.ledger.v1 import record_pb2 as mpb
from lianqiao.ledger.v1 import registry_service_pb2 as pb
from lianqiao.ledger.v1 import registry_service_pb2_grpc
from relay.codec import pages
from relay.codec.records import deposit_to_pb
from relay.contracts import undelivered
from relay.contracts.payloads import Decision
from relay.contracts.policy.values import DatedKey
from relay.errors import (
    Denied,
    Exhausted,
    Invalid,
    Malformed,
    NotFound,
    Reason,
    Refused,
)
from relay.ledger_views import Deposit, OutcomeCount, RecognitionState, RecordState, Resent
from relay.record.card import check_card
from relay.record.parts import Opened
from relay.service import operator, recognition, registry
from tests.contracts import world
from tests.contracts.world import ASKING, HOSPITAL, NOW, STRANGER
from tests.service.nodes import Running, fork, rpc_refusal
from tests.service.region import Region, amended, deposit, request, retraction


def stub(running: Running) -> registry_service_pb2_grpc.RegistryServiceStub:
    return registry_service_pb2_grpc.RegistryServiceStub(running.client._connection.channel)


def test_a_record_is_attested_recognised_and_reported(region: Region) -> None:
    given = deposit()
    (done,) = region.zj.client.attest([given], ["relay-1"])
    assert (done.commitment, done.written) == (given.attestation.commitment, True)
    assert [p.relay for p in done.packets] == ["relay-1"]
    region.settle()
    view = region.zj.client.record(done.commitment)
    assert (view.attestation, view.state) == (given.attestation, RecordState.CURRENT)
    (told,) = view.announcements
    assert (told.relay, told.action, told.accepted, told.reason) == ("relay-1", "new", True, "")
    assert told.sequence == done.packets[0].sequence

    asked = request(given)
    (result,) = region.sh.client.request_recognition([asked])
    assert result.recognition is not None
    assert result.recognition.state is RecognitionState.SENT
    region.settle()
    view = region.sh.client.recognition(asked.request)
    assert (view.request, view.state) == (asked, RecognitionState.DECIDED)
    assert isinstance(view.decision, Decision)
    assert view.decision.recognised
    assert region.relay.client.decision("sh-medical", asked.request) == view.decision
    (grant,) = region.zj.client.grants(done.commitment)
    assert grant.grant == view.decision.grant
    assert list(region.zj.client.grants()) == [grant]
    assert list(region.zj.client.grants(bytes(32))) == []

    report = world.outcome(request=asked.request, commitment=done.commitment)
    sent = region.sh.client.report_outcome(report)
    assert sent is not None
    assert sent.relay == "relay-1"
    assert region.sh.client.report_outcome(report) is None
    region.settle()
    assert list(region.relay.client.outcomes()) == [report]
    counted = [OutcomeCount("sh-h1", "GLU", "adopted", 1)]
    assert region.relay.client.count_outcomes() == counted
    assert region.relay.client.count_outcomes("sh-h1") == counted
    assert region.relay.client.count_outcomes("zj-h1") == []


def test_batches_and_pages(region: Region) -> None:
    given = [deposit() for _ in range(5)]
    region.attest(*given)
    asked = [request(d) for d in given]
    results = region.sh.client.request_recognition(asked)
    assert [r.reason for r in results] == [""] * 5
    region.settle()
    wanted = sorted(d.attestation.commitment for d in given)
    assert [r.commitment for r in region.zj.client.records()] == wanted
    assert [r.commitment for r in region.zj.client.records("zj-h1")] == wanted
    assert list(region.zj.client.records("sh-h1")) == []
    requests = sorted(r.request for r in asked)
    assert [v.request.request for v in region.sh.client.recognitions()] == requests
    assert [v.decision.request for v in region.relay.client.decisions()] == requests
    assert [v.origin for v in region.relay.client.decisions("sh-medical")] == ["sh-medical"] * 5
    assert list(region.relay.client.decisions("zj-medical")) == []
    seen, token = [], ""
    while True:
        message = pb.ListRecordsRequest(page_size=2, page_token=token)
        page = stub(region.zj).ListRecords(message, timeout=5)
        seen += [r.commitment for r in page.records]
        token = page.next_page_token
        if not token:
            break
    assert seen == wanted
    first = stub(region.zj).ListRecords(pb.ListRecordsRequest(page_size=2), timeout=5)
    crossed = pb.ListRecordsRequest(institution="zj-h1", page_token=first.next_page_token)
    assert (
        rpc_refusal(region.zj, stub(region.zj).ListRecords, crossed).data["field"] == "page_token"
    )


def test_the_same_again_changes_nothing(region: Region) -> None:
    given = deposit()
    region.attest(given)
    size = region.zj.client.head().size
    (again,) = region.zj.client.attest([given], ["relay-1"])
    assert (again.written, again.packets) == (False, ())
    assert region.zj.client.head().size == size
    asked = request(given)
    region.decide(asked)
    (known,) = region.sh.client.request_recognition([asked])
    assert known.recognition is not None
    assert known.recognition.state is RecognitionState.DECIDED


def test_amended_and_retracted(region: Region) -> None:
    first = deposit()
    region.attest(first)
    second = amended(first)
    (done,) = region.zj.client.amend([second], ["relay-1"])
    assert done.written
    view = region.zj.client.record(first.attestation.commitment)
    assert (view.state, view.revised_by) == (RecordState.REVISED, done.commitment)
    (gone,) = region.zj.client.retract([retraction(second)], ["relay-1"])
    assert gone.written
    assert region.zj.client.record(done.commitment).state is RecordState.RETRACTED
    with pytest.raises(Refused) as err:
        region.zj.client.amend([amended(second)])
    assert err.value.reason == Reason.RECORD_REVISED
    (told,) = region.zj.client.announce([done.commitment], ["relay-1"])
    assert len(told.packets) == 2
    with pytest.raises(NotFound) as unknown:
        region.zj.client.announce([bytes(32)], ["relay-1"])
    assert unknown.value.reason == Reason.RECORD_NOT_FOUND


def broken(given: Deposit, **changes) -> Deposit:
    return replace(given, **changes)


def test_what_is_handed_over_must_be_what_is_attested(region: Region) -> None:
    good, bad = deposit(), deposit()
    swapped = (bad.parts[1], bad.parts[0])
    json = Opened(bad.parts[1].salt, b'{"resourceType": "Observation", "id": "x", "id": "y"}')
    status = Opened(bad.parts[1].salt, bad.parts[1].content.replace(b'"final"', b'"finished"'))
    for wrong, reason in (
        (broken(bad, parts=swapped), Reason.RECORD_MISMATCH),
        (broken(bad, parts=bad.parts[:1]), Reason.RECORD_MISMATCH),
        (broken(bad, patient=replace(bad.patient, value="another")), Reason.RECORD_MISMATCH),
        (broken(bad, parts=(bad.parts[0], json)), Reason.MALFORMED),
        (broken(bad, parts=(bad.parts[0], status)), Reason.RECORD_INVALID),
    ):
        with pytest.raises((Invalid, Malformed)) as err:
            region.zj.client.attest([good, wrong], ["relay-1"])
        assert err.value.reason == reason
        assert err.value.data["index"] == "1"
    assert list(region.zj.client.records()) == []
    assert region.vault.commitments() == ()


def test_a_refused_attestation_leaves_nothing(region: Region) -> None:
    for wrong, reason in (
        (deposit(by=STRANGER), Reason.UNKNOWN_SIGNER),
        (deposit(institution="nobody"), Reason.NOT_PERMITTED),
        (deposit(ledger="sh-medical"), Reason.CHAIN_ID_MISMATCH),
    ):
        with pytest.raises((Invalid, Denied)) as err:
            region.zj.client.attest([wrong], ["relay-1"])
        assert err.value.reason == reason
    with pytest.raises(NotFound) as unknown:
        region.zj.client.attest([deposit()], ["relay-9"])
    assert unknown.value.reason == Reason.CLIENT_NOT_FOUND
    assert region.vault.commitments() == ()
    assert list(region.zj.client.records()) == []


def test_each_request_stands_by_itself(region: Region) -> None:
    given = deposit()
    region.attest(given)
    good, bad = request(given), request(given, by=STRANGER)
    forged = replace(request(given), setting=bad.setting, time=NOW - 61)
    lost = request(given, origin="zj-medical")
    results = region.sh.client.request_recognition([forged, good, lost])
    assert [r.reason for r in results] == [
        Reason.INVALID_SIGNATURE,
        "",
        Reason.CHAIN_ID_MISMATCH,
    ]
    assert results[0].recognition is None
    assert results[0].detail


def test_a_request_that_nobody_received_is_reported(region: Region) -> None:
    given = deposit()
    region.attest(given)
    asked = request(given)
    region.sh.client.request_recognition([asked], timeout_seconds=60)
    region.clock.now += 61
    region.settle()
    view = region.sh.client.recognition(asked.request)
    assert (view.state, view.decision) == (RecognitionState.TIMED_OUT, None)
    (again,) = region.sh.client.request_recognition([asked])
    assert again.recognition is not None
    assert again.recognition.state is RecognitionState.SENT


def test_refused_outcomes(region: Region) -> None:
    given = deposit()
    region.attest(given)
    asked = request(given)
    report = world.outcome(request=asked.request, commitment=given.attestation.commitment)
    with pytest.raises(NotFound) as unknown:
        region.sh.client.report_outcome(report)
    assert unknown.value.reason == Reason.NOT_FOUND
    region.sh.client.request_recognition([asked])
    with pytest.raises(Refused) as early:
        region.sh.client.report_outcome(report)
    assert early.value.reason == Reason.ACKNOWLEDGEMENT_PENDING
    region.settle()
    with pytest.raises(Refused) as wrong:
        other = world.outcome(request=asked.request, commitment=bytes(32))
        region.sh.client.report_outcome(other)
    assert wrong.value.reason == Reason.CONTRACT_REFUSED


def test_what_is_unknown(region: Region) -> None:
    for call, reason in (
        (lambda: region.zj.client.record(bytes(32)), Reason.RECORD_NOT_FOUND),
        (lambda: region.sh.client.recognition(bytes(32)), Reason.NOT_FOUND),
        (lambda: region.relay.client.decision("sh-medical", bytes(32)), Reason.NOT_FOUND),
        (lambda: region.relay.client.record(bytes(32)), Reason.PORT_NOT_FOUND),
        (lambda: region.zj.client.count_outcomes(), Reason.PORT_NOT_FOUND),
        (lambda: region.zj.client.resend("recognition"), Reason.PORT_NOT_FOUND),
    ):
        with pytest.raises(NotFound) as err:
            call()
        assert err.value.reason == reason


def test_institutions_have_versions(region: Region) -> None:
    key = DatedKey("ed25519", HOSPITAL.public, 0, NOW + 10**8)
    region.zj.client.register_institution("zj-h1", 1, [key])
    with pytest.raises(Refused) as err:
        region.zj.client.register_institution("zj-h1", 3, [key])
    assert err.value.reason == Reason.CONFLICT
    with pytest.raises(Invalid) as weak:
        region.zj.client.register_institution("zj-h3", 1, [replace(key, key=bytes(32))])
    assert weak.value.reason == Reason.WEAK_KEY
    region.zj.client.register_institution("zj-h1", 2, [])
    with pytest.raises(Invalid) as ended:
        region.zj.client.attest([deposit()])
    assert ended.value.reason == Reason.UNKNOWN_SIGNER


def test_what_could_not_be_sent_is_kept_to_be_sent_again(region: Region, monkeypatch) -> None:
    assert region.sh.client.resend("registry") == Resent(0, 0)
    reports = []
    for _ in range(3):
        given, decision = region.granted()
        commitment = given.attestation.commitment
        reports.append(world.outcome(request=decision.request, commitment=commitment))
    region.sh.client.submit_misbehaviour("checkpoint-0", fork(region.relay))
    for report in reports:
        assert region.sh.client.report_outcome(report) is None
    monkeypatch.setattr(operator, "RESEND_BATCH", 1)
    assert region.sh.client.resend("registry") == Resent(0, 3)
    view = region.sh.client.client("checkpoint-0")
    header = region.relay.client.headers(0, region.relay.client.head().size)[-1]
    region.sh.client.propose_recovery("checkpoint-0", view.state, header, 3600)
    monkeypatch.setattr(undelivered, "send_held", lambda state, now: 0)  # else it does so itself
    region.clock.now += 3600
    region.sh.node.tick()
    assert region.sh.client.resend("registry") == Resent(3, 0)
    region.settle()
    assert len(list(region.relay.client.outcomes())) == 3
    monkeypatch.setattr(pages, "MAX_PAGE", 2)
    assert [c.count for c in region.relay.client.count_outcomes()] == [3]
    monkeypatch.setattr(recognition, "MAX_COUNTED", 2)
    with pytest.raises(Exhausted) as err:
        region.relay.client.count_outcomes()
    assert err.value.reason == Reason.LIMIT_EXCEEDED


def test_a_batch_has_a_size(region: Region, monkeypatch) -> None:
    monkeypatch.setattr(registry, "MAX_BODY_BYTES", 500)
    with pytest.raises(Malformed) as err:
        region.zj.client.attest([deposit()])
    assert err.value.reason == Reason.LIMIT_EXCEEDED
    assert region.vault.commitments() == ()


def test_a_token_may_name_any_place(region: Region) -> None:
    listing = pages.filter_hash("ListAccess", "", "")
    token = pages.encode_token(listing, pages.encode_number(2**63 - 1))
    answer = stub(region.zj).ListAccess(pb.ListAccessRequest(page_token=token), timeout=5)
    assert (list(answer.entries), answer.next_page_token) == ([], "")


def test_malformed(region: Region) -> None:
    calls, message = stub(region.zj), deposit_to_pb(deposit())
    bare = mpb.RecordDeposit(attestation=message.attestation)
    torn = mpb.RecordDeposit(attestation=message.attestation[:-1])
    salted = mpb.RecordDeposit(
        attestation=message.attestation, parts=[mpb.RecordPart(salt=b"short", content=b"{}")]
    )
    for method, asked, field in (
        (calls.Attest, pb.AttestRequest(), "records"),
        (calls.Attest, pb.AttestRequest(records=[mpb.RecordDeposit()]), "records[0].attestation"),
        (calls.Attest, pb.AttestRequest(records=[torn]), "records[0].attestation"),
        (calls.Attest, pb.AttestRequest(records=[bare]), "records[0].parts"),
        (calls.Attest, pb.AttestRequest(records=[salted]), "records[0].parts[0].salt"),
        (calls.Attest, pb.AttestRequest(records=[message], relays=["a b"]), "relays[0]"),
        (calls.Amend, pb.AmendRequest(), "records"),
        (calls.Amend, pb.AmendRequest(records=[message]), "action"),
        (calls.Retract, pb.RetractRequest(), "retractions"),
        (calls.Retract, pb.RetractRequest(retractions=[b"{}"]), "retractions[0].attestation"),
        (calls.RequestAnnouncement, pb.RequestAnnouncementRequest(), "commitments"),
        (
            calls.RequestAnnouncement,
            pb.RequestAnnouncementRequest(commitments=[bytes(32)]),
            "relays",
        ),
        (calls.GetRecord, pb.GetRecordRequest(commitment=b"x"), "commitment"),
        (calls.ListRecords, pb.ListRecordsRequest(institution="a b"), "institution"),
        (calls.RequestRecognition, pb.RequestRecognitionRequest(), "requests"),
        (calls.GetRecognition, pb.GetRecognitionRequest(), "request_hash"),
        (calls.ListRecognitions, pb.ListRecognitionsRequest(page_size=-5), "page_size"),
        (calls.ReportOutcome, pb.ReportOutcomeRequest(outcome=b"[]"), "outcome"),
        (calls.ListGrants, pb.ListGrantsRequest(commitment=b"x"), "commitment"),
        (calls.ListAccess, pb.ListAccessRequest(commitment=b"x"), "commitment"),
        (calls.ListAccess, pb.ListAccessRequest(page_token="AQ"), "page_token"),
        (
            calls.ListAccess,
            pb.ListAccessRequest(patient=mpb.PatientIdentifier()),
            "patient.scheme",
        ),
        (calls.RegisterInstitution, pb.RegisterInstitutionRequest(), "institution"),
        (
            calls.RegisterInstitution,
            pb.RegisterInstitutionRequest(institution="h"),
            "version",
        ),
        (
            calls.RegisterInstitution,
            pb.RegisterInstitutionRequest(
                institution="h", version=1, keys=[mpb.InstitutionKey(algorithm="ed25519")]
            ),
            "keys[0].value",
        ),
    ):
        error = rpc_refusal(region.zj, method, asked)
        assert isinstance(error, Malformed), (method._method, error)
        assert (error.reason, error.data["field"]) == (Reason.MALFORMED, field)
    many = pb.RetractRequest(retractions=[b"{}"] * 1001)
    assert rpc_refusal(region.zj, calls.Retract, many).reason == Reason.LIMIT_EXCEEDED
    assert ASKING


def test_the_counter_hands_out_the_card_of_a_record(region: Region) -> None:
    given = deposit()
    (done,) = region.zj.client.attest([given])
    card = region.zj.client.card(done.commitment)
    assert (card.ledger, card.record, card.patient) == (
        "zj-medical",
        done.commitment,
        given.patient,
    )
    check_card(card, given.attestation.patient)
    with pytest.raises(NotFound) as err:
        region.zj.client.card(bytes(32))
    assert err.value.reason is Reason.RECORD_NOT_FOUND
