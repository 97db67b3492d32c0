"""Rows 4 and 5: a reason is mandatory and counted, and nothing of it blocks a re-examination."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from relay.canonical import decode, encode
from relay.contracts.codes import Reexamination
from relay.contracts.payloads import Answer, ItemOutcome, Outcome, OutcomeNotice, Result, Role
from relay.errors import Denied, Invalid, Malformed, NotFound, Reason, Refused
from tests.contracts.world import (
    DAY,
    DOCTOR,
    NOW,
    RECORD,
    STRANGER,
    World,
    adopted,
    attestation,
    consent,
    digest,
    item,
    outcome,
    policy,
    request,
)


def again(part: int = 1, reason: Reexamination = Reexamination.R1) -> ItemOutcome:
    note = digest("salted explanation") if reason is Reexamination.R6 else b""
    return ItemOutcome(part, Result.REEXAMINED, reason, note, Role.NURSE, NOW)


def decided(documents: dict[str, Any] | None = None, **changes: Any) -> World:
    world = World(documents)
    world.decide(request(**changes))
    return world


def answer(world: World, report: Outcome) -> Answer:
    """What the relay answers to a report that reaches it without passing a registry."""
    packet = world.sh.sent[0]
    payload = replace(packet.payloads[0], value=report.encode())
    return Answer.decode(world.relay.receive(replace(packet, payloads=(payload,))))


@pytest.mark.parametrize("reason", Reexamination)
def test_each_lawful_reason_is_recorded_and_counted(reason: Reexamination) -> None:
    world = decided()
    report = outcome(again(reason=reason))
    world.report(report)
    world.deliver()
    [tally] = world.relay.keys("tally/")
    assert tally == f"tally/sh-h1/GLU/{reason}/{digest('request').hex()}/0001"
    [name] = world.zj.keys("outcome-notice/")
    told = OutcomeNotice.decode(world.zj.written[name.encode()])
    assert told.items == report.items
    assert told.outcome == report.id
    assert (told.commitment, told.institution) == (RECORD, "sh-h1")


def test_a_reexamination_of_what_was_refused_is_recorded_too() -> None:
    world = decided(consent=consent(grantee="other"))
    world.report(outcome(again()))
    world.deliver()
    assert world.relay.keys("tally/")
    assert world.zj.keys("outcome-notice/")


def test_nothing_is_held_for_a_ledger_that_was_never_there() -> None:
    """Who may ask can name any source, and be refused: no queue must begin for each such name."""
    world = decided(target="nowhere")
    world.report(outcome(again(), target="nowhere"))
    world.deliver()
    assert world.relay.keys("tally/")
    assert world.relay.keys("undelivered/") == []


def test_a_source_that_is_away_is_told_when_it_is_back() -> None:
    world = decided()
    [peer] = [p for p in world.relay.peers.values() if p.chain_id == "zj-medical"]
    peer.frozen = True
    world.report(outcome(again()))
    world.deliver()
    assert len(world.relay.keys("undelivered/")) == 1
    peer.frozen = False
    world.relay.contract.tick(world.relay, world.relay.now)
    world.deliver()
    assert world.zj.keys("outcome-notice/")


def test_adopted_first_and_examined_again_later() -> None:
    world = decided()
    world.report(outcome(adopted()))
    world.at(NOW + DAY)
    world.report(outcome(again(), time=NOW + DAY))
    world.deliver()
    assert len(world.relay.keys("tally/")) == 2
    assert len(world.zj.keys("outcome-notice/")) == 2


def test_the_same_report_again_is_answered_and_not_counted_again() -> None:
    world = decided()
    world.report()
    world.deliver()
    before, sent = dict(world.relay.written), len(world.relay.sent)
    assert answer(world, outcome()).accepted
    assert (dict(world.relay.written), len(world.relay.sent)) == (before, sent)
    assert decode(world.report()) == {
        "client": "",
        "outcome": outcome().id.hex(),
        "sequence": 0,
    }
    assert world.pending(world.sh) == []


CASES: list[tuple[str, Outcome, str]] = [
    ("a request nobody decided", outcome(request=digest("x")), "OUTCOME/UNKNOWN_REQUEST"),
    ("another record", outcome(commitment=digest("x")), "OUTCOME/UNKNOWN_REQUEST"),
    ("another source", outcome(target="gd-medical"), "OUTCOME/UNKNOWN_REQUEST"),
    ("another institution", outcome(institution="sh-h2"), "OUTCOME/OTHER_INSTITUTION"),
    ("a part that was not asked for", outcome(again(2)), "OUTCOME/NOT_AN_ITEM"),
    ("an unknown clinician", outcome(clinician="dr-x"), "PERSON/CLINICIAN"),
    ("another's key", outcome(by=STRANGER), "PERSON/CLINICIAN"),
    ("no signature", replace(outcome(), signature=bytes(64)), "PERSON/STATEMENT"),
    ("dated before the decision", outcome(time=NOW - 61), "PERSON/STATEMENT_TIME"),
    ("dated in the future", outcome(time=NOW + 61), "PERSON/STATEMENT_TIME"),
]


@pytest.mark.parametrize(("says", "report", "expected"), CASES, ids=[c[0] for c in CASES])
def test_refused_by_the_relay(says: str, report: Outcome, expected: str) -> None:
    world = decided()
    before = dict(world.relay.written)
    refused = answer(world, report)
    assert (str(refused.reason), refused.accepted) == (expected, False), says
    assert world.relay.written == before


def test_what_was_not_recognised_cannot_be_adopted() -> None:
    world = decided(consent=consent(grantee="other"))
    assert str(answer(world, outcome()).reason) == "OUTCOME/NOT_RECOGNISED"


def test_the_same_result_twice_in_two_reports() -> None:
    world = decided()
    world.report()
    world.deliver()
    assert str(answer(world, outcome(time=NOW + 1)).reason) == "OUTCOME/ALREADY_REPORTED"


def test_an_ended_licence() -> None:
    documents = policy()
    documents["clinicians"]["clinicians"].append(
        {
            "first": "2025-01-01",
            "id": "dr-wang",
            "institution": "sh-h1",
            "keys": [STRANGER.dated()],
            "last": "2026-02-01",
        }
    )
    world = decided(documents)
    report = outcome(by=STRANGER, clinician="dr-wang")
    assert str(answer(world, report).reason) == "PERSON/CLINICIAN_LICENCE"


def test_another_clinician_of_the_institution_may_report() -> None:
    documents = policy()
    documents["clinicians"]["clinicians"].append(
        {
            "first": "2025-01-01",
            "id": "dr-wang",
            "institution": "sh-h1",
            "keys": [STRANGER.dated()],
            "last": "2026-12-31",
        }
    )
    world = decided(documents)
    assert answer(world, outcome(by=STRANGER, clinician="dr-wang")).accepted


def test_unlisted_items_are_counted_under_one_name() -> None:
    world = World()
    world.decide(request(), attestation(item(code="99999-9")))
    world.report(outcome(again()))
    world.deliver()
    [tally] = world.relay.keys("tally/")
    assert tally.startswith("tally/sh-h1/unlisted/R1/")


# --- what the requester's own registry refuses at once


def test_an_outcome_without_a_lawful_reason_is_malformed() -> None:
    world = decided()
    body = outcome(again()).to_json()
    for reason in ("", "R7", "because"):
        body["items"] = [{**again().to_json(), "reason": reason}]
        with pytest.raises(Malformed) as err:
            world.sh.call("outcome", encode({"outcome": body}))
        assert err.value.data["field"] == "reason"
        assert "R1, R2, R3, R4, R5, R6" in err.value.detail


@pytest.mark.parametrize(
    ("report", "error", "reason"),
    [
        (outcome(origin="zj-medical"), Invalid, Reason.CHAIN_ID_MISMATCH),
        (outcome(hops=0), Invalid, Reason.HOP_LIMIT),
        (outcome(institution="sh-h9"), Denied, Reason.NOT_PERMITTED),
        (replace(outcome(), signature=bytes(64)), Invalid, Reason.INVALID_SIGNATURE),
        (outcome(request=digest("x")), NotFound, Reason.NOT_FOUND),
        (outcome(again(2)), Refused, Reason.CONTRACT_REFUSED),
        (outcome(relay="relay-2"), Refused, Reason.CONTRACT_REFUSED),
    ],
)
def test_refused_by_the_registry(report: Outcome, error: type[Exception], reason: Reason) -> None:
    world = decided()
    before = dict(world.sh.written)
    with pytest.raises(error) as err:
        world.report(report)
    assert getattr(err.value, "reason", None) is reason
    assert world.sh.written == before
    assert world.pending(world.sh) == []


def test_an_outcome_before_the_decision() -> None:
    world = World()
    world.attest()
    world.ask()
    with pytest.raises(Refused) as err:
        world.report()
    assert err.value.reason is Reason.ACKNOWLEDGEMENT_PENDING


def test_a_refused_outcome_is_kept_with_its_reason() -> None:
    world = decided()
    report = outcome(by=STRANGER)
    world.report(report)
    world.deliver()
    kept = decode(world.sh.written[f"answered/{report.id.hex()}".encode()])
    assert isinstance(kept, dict)
    assert (kept["accepted"], kept["reason"]) == (False, "PERSON/CLINICIAN")
    assert DOCTOR.public != STRANGER.public
