"""The whole path over both contracts: attested, decided, granted, adopted, told."""

from __future__ import annotations

import pytest

from relay.canonical import decode, encode
from relay.contracts.codes import Code, Detail, Finding
from relay.contracts.payloads import Answer, Notice, Purpose
from relay.contracts.registry import (
    RequestStatus,
    find_grant,
    find_request,
)
from relay.errors import Denied, Reason
from relay.packet import ERROR_ACKNOWLEDGEMENT
from tests.contracts.world import (
    ASKING,
    DAY,
    GLUCOSE,
    NOW,
    RECORD,
    World,
    attestation,
    consent,
    digest,
    flags,
    outcome,
    reasons,
    request,
)


def test_a_record_is_recognised_granted_and_adopted() -> None:
    world = World()
    decision = world.decide()
    assert reasons(decision) == []
    assert flags(decision) == ["CONSENT_ASSERTED"]
    assert decision.items[0].verdict == "RECOGNISED_WITH_FLAG"
    assert decision.items[0].item == "GLU"
    assert decision.reason is None
    assert (decision.head_time, decision.decided) == (NOW, NOW)
    assert decision.head_height == 1
    assert decision.expires == NOW + 7 * DAY
    assert decision.policy == (
        "accreditations/east@1",
        "catalogue/lab@1",
        "clinicians/east@1",
        "conceptmap/zj-h1@1",
        "quality/zj@1",
        "rules/sh@1",
    )
    view = find_request(world.sh, digest("request"))
    assert (view.status, view.decision) == (RequestStatus.DECIDED, decision)

    grant = find_grant(world.zj, RECORD, "sh-h1", NOW)
    assert grant.parts == (1,)
    assert grant.purpose is Purpose.TREAT
    assert grant.grant == decision.grant
    assert [key.key for key in grant.keys] == [ASKING.public]
    assert grant.consent == request().consent.digest
    assert find_grant(world.zj, RECORD, "sh-h1", NOW, decision.grant) == grant

    world.report()
    world.deliver()
    told = world.zj.keys("outcome-notice/")
    assert told == [f"outcome-notice/{RECORD.hex()}/{outcome().id.hex()}"]
    [tally] = world.relay.keys("tally/")
    assert tally == f"tally/sh-h1/GLU/adopted/{digest('request').hex()}/0001"
    answer = decode(world.sh.written[f"answered/{outcome().id.hex()}".encode()])
    assert isinstance(answer, dict)
    assert answer["accepted"] is True
    announced = world.zj.keys("announced/")
    assert announced == [f"announced/{RECORD.hex()}/new/relay-1"]
    assert len(world.relay.keys("delivered/")) == 2


def test_a_grant_ends_and_is_for_one_institution() -> None:
    world = World()
    decision = world.decide()
    assert find_grant(world.zj, RECORD, "sh-h1", decision.expires - 1)
    for institution, now in (("sh-h1", decision.expires), ("sh-h2", NOW), ("zj-h1", NOW)):
        with pytest.raises(Denied) as err:
            find_grant(world.zj, RECORD, institution, now)
        assert err.value.reason is Reason.NO_GRANT
    with pytest.raises(Denied) as err:
        find_grant(world.zj, RECORD, "sh-h1", NOW, digest("another grant"))
    assert err.value.reason is Reason.NO_GRANT


def test_what_is_not_recognised_grants_nothing() -> None:
    decision = World().decide(request(consent=consent(scope=("report",))))
    assert reasons(decision) == ["CONSENT/SCOPE"]
    assert (decision.reason, decision.grant, decision.expires) == (None, b"", 0)


def test_a_grant_never_outlives_the_consent() -> None:
    given = consent(end=NOW + DAY)
    assert World().decide(request(consent=given)).expires == NOW + DAY


@pytest.mark.parametrize(("scope", "parts"), [((GLUCOSE,), (1,)), ((GLUCOSE, "report"), (0, 1))])
def test_the_report_is_delivered_only_where_the_consent_says_so(
    scope: tuple[str, ...], parts: tuple[int, ...]
) -> None:
    world = World()
    world.decide(request(consent=consent(scope=scope)))
    assert find_grant(world.zj, RECORD, "sh-h1", NOW).parts == parts


def test_nothing_recognised_gives_no_grant_and_no_notice() -> None:
    world = World()
    decision = world.decide(request(consent=consent(grantee="sh-h2")))
    assert decision.grant == b""
    assert world.zj.keys("grant/") == []
    assert world.relay.sent == []


def test_the_same_case_gives_the_same_decision() -> None:
    first, second = World(), World()
    assert first.decide().encode() == second.decide().encode()
    assert first.relay.written == second.relay.written
    assert first.zj.written == second.zj.written


def test_the_same_packets_again_change_nothing() -> None:
    world = World()
    world.decide()
    world.report()
    seen = world.deliver()
    before = [dict(ledger.written) for ledger in world.ledgers.values()]
    packets = world.zj.sent + world.sh.sent
    for packet in packets:
        world.relay.receive(packet)
    for packet in world.relay.sent[:2]:
        world.zj.receive(packet)
    assert [dict(ledger.written) for ledger in world.ledgers.values()] == before
    assert len(world.relay.sent) == 2
    assert seen


def test_a_decision_stays_although_the_policy_changes() -> None:
    world = World()
    first = world.decide()
    stricter = {
        "effective_from": NOW + 1,
        "items": [],
        "kind": "catalogue",
        "name": "lab",
        "provenance": "emptied",
        "version": 2,
    }
    world.load(stricter)
    world.at(NOW + 10)
    again = world.sh.sent[0]
    assert world.relay.receive(again) == first.encode()
    asked = request(request=digest("second"))
    world.ask(asked)
    world.deliver()
    view = find_request(world.sh, asked.request)
    assert view.decision is not None
    assert reasons(view.decision) == ["CATALOGUE/NOT_LISTED"]
    assert "catalogue/lab@2" in view.decision.policy


def test_everything_written_is_canonical_or_an_id() -> None:
    world = World()
    world.decide()
    world.report()
    world.deliver()
    for ledger in world.ledgers.values():
        for key, value in ledger.written.items():
            assert key.decode().isprintable()
            if key.startswith(b"reported/"):
                assert len(value) == 32
            elif not key.startswith(b"tally/"):
                assert encode(decode(value)) == value


def test_a_notice_of_an_unknown_record_is_an_error() -> None:
    world = World()
    world.decide()
    notice = world.relay.sent[0]
    assert Notice.decode(notice.payloads[0].value)
    elsewhere = World()
    with pytest.raises(Exception) as err:  # noqa: PT011
        elsewhere.zj.receive(notice)
    assert getattr(err.value, "reason", None) is Reason.RECORD_NOT_FOUND
    assert Answer.decode(world.zj.receive(notice)).accepted
    assert attestation().commitment == RECORD


@pytest.mark.parametrize(
    ("answer", "accepted"),
    [
        (Answer(RECORD).encode(), True),
        (Answer(RECORD, Finding(Code.OUTCOME, Detail.UNKNOWN_REQUEST)).encode(), False),
        (ERROR_ACKNOWLEDGEMENT, False),
        (b"yes", False),
    ],
)
def test_what_a_ledger_answers_to_a_grant_is_kept(answer: bytes, accepted: bool) -> None:
    world = World()
    world.attest()
    world.deliver()
    world.ask(request())
    [asked] = world.pending(world.sh)
    world.relay.receive(asked)
    world.relay.end(world.relay.sent[-1], answer)
    [name] = world.relay.keys("delivered/")
    kept = decode(world.relay.written[name.encode()])
    assert isinstance(kept, dict)
    assert kept["accepted"] is accepted
