"""Each rule of recognition by its code: one change to a legal case, one reason.

`CASES` is a table; every row says in a sentence what is changed. Boundaries of time stand apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from relay.contracts.codes import Code
from relay.contracts.payloads import (
    Attestation,
    Decision,
    Purpose,
    RecognitionRequest,
    Setting,
    Signer,
    Status,
)
from relay.contracts.payloads.attestation import Action
from relay.contracts.registry import find_request
from tests.contracts.world import (
    ASKING,
    DAY,
    DOCTOR,
    GLUCOSE,
    HOSPITAL,
    HOUR,
    LOCAL,
    LOINC,
    NOW,
    OTHER_HOSPITAL,
    PATIENT,
    STRANGER,
    World,
    attestation,
    catalogue,
    consent,
    digest,
    flags,
    item,
    policy,
    reasons,
    request,
)

Change = Callable[[dict[str, Any]], None]
SHANGHAI = 8 * HOUR
MIDNIGHT = (NOW + SHANGHAI) // DAY * DAY - SHANGHAI
"""The beginning of today in Shanghai."""


def region(**changes: Any) -> Change:
    return lambda p: p["rules"]["regions"][0].update(changes)


def institution(place: int, **changes: Any) -> Change:
    return lambda p: p["accreditations"]["institutions"][place].update(changes)


def clinician(place: int, **changes: Any) -> Change:
    return lambda p: p["clinicians"]["clinicians"][place].update(changes)


def laboratory(**changes: Any) -> Change:
    return lambda p: p["accreditations"]["laboratories"][0].update(changes)


def assessment(**changes: Any) -> Change:
    return lambda p: p["quality"]["eqa"][0].update(changes)


def more(document: str, rows: str, row: dict[str, Any]) -> Change:
    return lambda p: p[document][rows].append(row)


def without(document: str) -> Change:
    return lambda p: p.pop(document) and None


def control(state: str, first: str = "2026-01-01") -> Change:
    row = {
        "first": first,
        "items": ["GLU"],
        "laboratory": "zj-h1-lab",
        "last": "2026-12-31",
        "state": state,
    }
    return more("quality", "iqc", row)


def failed(body: str, first: str, last: str, result: str = "fail") -> Change:
    row = {
        "body": body,
        "cycle": "x",
        "first": first,
        "items": ["GLU"],
        "laboratory": "zj-h1-lab",
        "last": last,
        "result": result,
    }
    return more("quality", "eqa", row)


@dataclass(frozen=True)
class Row:
    says: str
    expected: list[str]
    policy: Change | None = None
    given: Attestation = field(default_factory=attestation)
    asked: RecognitionRequest = field(default_factory=request)
    flags: list[str] = field(default_factory=list)


def listed_later(p: dict[str, Any]) -> None:
    p["catalogue"] = catalogue(effective_from=NOW - HOUR)


def then(**changes: Any) -> Change:
    """The first item was listed otherwise, or not at all, when the result was issued."""

    def change(p: dict[str, Any]) -> None:
        early = catalogue(version=1)
        early["items"][0].update(changes)
        p["catalogue"], p["catalogue-2"] = early, catalogue(version=2, effective_from=NOW - HOUR)

    return change


def listed_twice(p: dict[str, Any]) -> None:
    p["catalogue"]["items"].append({**p["catalogue"]["items"][0], "item": "GLU2"})


def given(**changes: Any) -> Attestation:
    return attestation(item(**changes))


def consented(**changes: Any) -> RecognitionRequest:
    signer = changes.pop("by", PATIENT)
    return request(consent=consent(by=signer, **changes))


STOLEN = replace(consent(), signature=bytes(64))
CASES = [
    # SRC_AUTH
    Row("no such record", ["SRC_AUTH/UNKNOWN_RECORD"], asked=request(
        commitment=digest("x"), consent=consent(records=(digest("x"),)))),
    Row("an institution nobody accredited", ["SRC_AUTH/UNKNOWN_INSTITUTION", "PERSON/AUTHOR"],
        lambda p: p["accreditations"]["institutions"].pop(1) and None,
        attestation(by=OTHER_HOSPITAL, institution="zj-h2")),
    Row("another ledger's hospital", ["SRC_AUTH/OTHER_LEDGER"],
        institution(0, ledger="sh-medical")),
    Row("a key that was never the institution's", ["SRC_AUTH/KEY"],
        institution(0, keys=[STRANGER.dated()])),
    Row("a key that had ended when it signed", ["SRC_AUTH/KEY"],
        institution(0, keys=[HOSPITAL.dated(end=NOW - HOUR)])),
    Row("a key that began after it signed", ["SRC_AUTH/KEY"],
        institution(0, keys=[HOSPITAL.dated(start=NOW - HOUR + 1)])),
    Row("a key that ended before the record was proven", ["SRC_AUTH/KEY"],
        institution(0, keys=[HOSPITAL.dated(end=NOW)])),
    # STATUS
    *(Row(f"status {s}", ["STATUS"], given=given(status=s)) for s in (
        Status.REGISTERED, Status.PARTIAL, Status.PRELIMINARY, Status.CANCELLED,
        Status.ENTERED_IN_ERROR, Status.UNKNOWN)),
    *(Row(f"status {s}", [], given=given(status=s)) for s in (
        Status.AMENDED, Status.CORRECTED, Status.APPENDED)),
    # TYPE
    Row("the report itself, with its conclusion", ["TYPE/CONCLUSION"],
        given=attestation(item(part=0)), asked=request(parts=(0,))),
    Row("the report, which is no item", ["TYPE/CONCLUSION"], asked=request(parts=(0,))),
    Row("a part that is no item", ["TYPE/NOT_AN_ITEM"], asked=request(parts=(7,))),
    Row("a category the region does not recognise", ["TYPE/CATEGORY"],
        given=given(category="RAD")),
    # CATALOGUE
    Row("a code outside the catalogue", ["CATALOGUE/NOT_LISTED"],
        given=given(code="99999-9"), asked=consented(scope=(f"{LOINC}|99999-9",))),
    Row("listed now and not at issue", ["CATALOGUE/NOT_LISTED_AT_ISSUE"], listed_later),
    Row("with this method only now", ["CATALOGUE/NOT_LISTED_AT_ISSUE"], then(methods=["HEX"])),
    Row("of this specimen only now", ["CATALOGUE/NOT_LISTED_AT_ISSUE"], then(specimens=["UR"])),
    Row("another item at issue", ["CATALOGUE/NOT_LISTED_AT_ISSUE"], then(item="OLD")),
    Row("by another name then", [], then(name={"en": "sugar", "zh": "糖"})),
    Row("another specimen", ["CATALOGUE/SPECIMEN"], given=given(specimen="UR")),
    Row("no specimen", ["CATALOGUE/SPECIMEN"], given=given(specimen="")),
    Row("another method", ["CATALOGUE/METHOD"],
        given=given(code="3016-3", unit="m[IU]/L", method="IA-EL")),
    Row("the method", [], given=given(code="3016-3", unit="m[IU]/L", method="IA-CL")),
    Row("a catalogue that the region does not use", ["CATALOGUE/NOT_LISTED"],
        region(catalogues=["imaging"])),
    Row("one code, two items", ["CATALOGUE/AMBIGUOUS"], listed_twice),
    Row("a local code with an equivalent", [], given=given(system=LOCAL, code="1001")),
    Row("a local code with a wider target", [], given=given(system=LOCAL, code="1002"),
        flags=["MAP_WIDER"]),
    Row("a local code with inexact targets only", ["CATALOGUE/MAPPING"],
        given=given(system=LOCAL, code="1003"), asked=consented(scope=(f"{LOCAL}|1003",))),
    Row("a local code for two items that both fit", ["CATALOGUE/AMBIGUOUS"],
        given=given(system=LOCAL, code="1004"), asked=consented(scope=(f"{LOCAL}|1004",))),
    Row("an unmapped local code", ["CATALOGUE/NOT_LISTED"],
        given=given(system=LOCAL, code="1005"), asked=consented(scope=(f"{LOCAL}|1005",))),
    # MARK
    Row("no mark", ["MARK/NO_MARK"], given=given(scope=())),
    Row("a mark of another province", ["MARK/REGION"], given=given(scope=("330000",))),
    Row("a mark of another city", ["MARK/CITY"], given=given(scope=("330100",))),
    Row("a mark of another city that the rule accepts", [], region(accepted_marks=["330100"]),
        given(scope=("330100",))),
    Row("a prefix of the region's code is no mark for it", ["MARK/REGION"],
        given=given(scope=("31",))),
    Row("an agreement of six letters is no city", ["MARK/REGION"], given=given(scope=("EASTCN",))),
    Row("an agreement nobody knows", ["MARK/REGION"], given=given(scope=("CN",))),
    Row("the receiver's own province", [], given=given(scope=("310000",))),
    Row("the receiver's own city, among others", [], given=given(scope=("110000", "310100"))),
    # LEVEL
    Row("a lower institution where none is accepted", ["LEVEL"], lambda p: (
        region(level="not-lower")(p), institution(0, level=20)(p))[0]),
    Row("a lower institution of another league", ["LEVEL"], lambda p: (
        region(level="not-lower-or-league")(p), institution(0, level=20, leagues=["a"])(p),
        institution(2, leagues=["b"])(p))[0]),
    Row("a lower institution of the same league", [], lambda p: (
        region(level="not-lower-or-league")(p), institution(0, level=20, leagues=["a"])(p),
        institution(2, leagues=["a"])(p))[0]),
    Row("a lower institution of the same league, which is no excuse here", ["LEVEL"], lambda p: (
        region(level="not-lower")(p), institution(0, level=20, leagues=["a"])(p),
        institution(2, leagues=["a"])(p))[0]),
    Row("an institution of no known level", ["SRC_AUTH/UNKNOWN_INSTITUTION", "PERSON/AUTHOR"],
        lambda p: (region(level="not-lower")(p), p["accreditations"]["institutions"].pop(1))[0],
        attestation(by=OTHER_HOSPITAL, institution="zj-h2")),
    Row("an institution of the same level", [], region(level="not-lower")),
    Row("any level", [], institution(0, level=1)),
    # QC
    Row("no assessment", ["QC/EQA"], assessment(items=["TSH"])),
    Row("an assessment of another laboratory", ["QC/EQA"], assessment(laboratory="other")),
    Row("a body that does not count here", ["QC/EQA"], assessment(body="someone")),
    Row("any body counts where none is named", [], lambda p: (
        region(qc_bodies=[])(p), assessment(body="someone")(p))[0]),
    Row("a failed assessment", ["QC/EQA"], assessment(result="fail")),
    Row("a pass and a fail for the same day", ["QC/EQA"],
        failed("nccl", "2026-01-31", "2026-02-01")),
    Row("a fail that a body of no account gave", [], failed("x", "2026-01-31", "2026-02-28")),
    Row("a later fail", [], failed("nccl", "2026-02-02", "2026-02-28"), flags=["QC_LATER_FAIL"]),
    Row("a fail that is still to come", [], failed("nccl", "2026-02-03", "2026-02-28")),
    Row("a later pass", [], failed("nccl", "2026-02-02", "2026-02-28", "pass")),
    Row("out of control", ["QC/IQC"], control("out")),
    Row("out of control since", [], control("out", "2026-02-02")),
    Row("in control where it is required", [], lambda p: (
        region(iqc_required=True)(p), control("in")(p))[0]),
    Row("no control where it is required", ["QC/IQC"], region(iqc_required=True)),
    # AGE
    Row("examined at an unknown time", ["AGE/TIME_MISSING"], given=given(examined=0)),
    Row("issued at an unknown time", ["AGE/TIME_MISSING"], given=given(issued=0)),
    Row("issued in the future", ["AGE/FUTURE"], given=given(issued=NOW + 61)),
    Row("issued before it was examined", ["AGE/FUTURE"], given=given(examined=NOW - DAY + 1)),
    # PERSON
    Row("a clinician nobody registered", ["PERSON/CLINICIAN"], asked=request(clinician="dr-x")),
    Row("a clinician of another institution", ["PERSON/CLINICIAN"],
        clinician(0, institution="sh-h2")),
    Row("another key than the clinician's", ["PERSON/CLINICIAN"], asked=request(by=STRANGER)),
    Row("the clinician's key had ended", ["PERSON/CLINICIAN"],
        clinician(0, keys=[DOCTOR.dated(end=NOW - 60)])),
    Row("the clinician's licence had ended", ["PERSON/CLINICIAN_LICENCE"],
        clinician(0, last="2026-02-01")),
    Row("another patient's reference", ["PERSON/PATIENT"], asked=request(patient=digest("other"))),
    Row("the issuing doctor is not registered", ["PERSON/AUTHOR"], given=given(author="dr-x")),
    Row("the issuing doctor is another institution's", ["PERSON/AUTHOR"],
        given=given(author="dr-li")),
    Row("the issuing doctor's licence had ended", ["PERSON/AUTHOR"],
        clinician(1, last="2026-01-31")),
    Row("no doctor is named", [], given=given(author="")),
    Row("a laboratory nobody licensed", ["QC/EQA", "PERSON/LABORATORY"],
        given=given(laboratory="x")),
    Row("the laboratory's licence had ended", ["PERSON/LABORATORY"], laboratory(last="2026-01-31")),
    # UNIT
    Row("a unit that does not convert", ["UNIT/NOT_CONVERTIBLE"], given=given(unit="g/L")),
    Row("no unit", ["UNIT/NOT_CONVERTIBLE"], given=given(unit="")),
    Row("another convertible unit", [], given=given(unit="mg/dL")),
    Row("no reference range", ["UNIT/REFERENCE_RANGE"], given=given(reference_range=False)),
    Row("no quantity, so no unit", [], given=given(
        code="5196-1", unit="", reference_range=False)),
    # CONSENT
    Row("a consent nobody signed", ["CONSENT/SIGNATURE"], asked=request(consent=STOLEN)),
    Row("a consent with another period than was signed", ["CONSENT/SIGNATURE"],
        asked=request(consent=replace(consent(), end=NOW + 99 * DAY))),
    Row("a patient where institutions sign", ["CONSENT/SIGNER"],
        region(consent_signers=["institution"])),
    Row("an institution where patients sign", ["CONSENT/SIGNER"],
        asked=consented(by=ASKING, signer=Signer.INSTITUTION, signed_by="sh-h1")),
    Row("an accredited institution where these sign", [], region(consent_signers=["institution"]),
        asked=consented(by=ASKING, signer=Signer.INSTITUTION, signed_by="sh-h1")),
    Row("the institution that is named", [], region(consent_signers=["sh-h1"]),
        asked=consented(by=ASKING, signer=Signer.INSTITUTION, signed_by="sh-h1")),
    Row("another institution than is named", ["CONSENT/SIGNER"], region(consent_signers=["zj-h1"]),
        asked=consented(by=ASKING, signer=Signer.INSTITUTION, signed_by="sh-h1")),
    Row("an institution that nobody knows", ["CONSENT/SIGNER"],
        region(consent_signers=["institution"]),
        asked=consented(by=ASKING, signer=Signer.INSTITUTION, signed_by="nobody")),
    Row("an institution by another's key", ["CONSENT/SIGNER"],
        region(consent_signers=["institution"]),
        asked=consented(by=STRANGER, signer=Signer.INSTITUTION, signed_by="sh-h1")),
    Row("for another institution", ["CONSENT/GRANTEE"], asked=consented(grantee="sh-h2")),
    Row("for another purpose", ["CONSENT/PURPOSE"], asked=consented(purposes=(Purpose.HRESCH,))),
    Row("for a purpose the region does not know", ["CONSENT/PURPOSE"], asked=request(
        purpose=Purpose.HRESCH, consent=consent(purposes=(Purpose.HRESCH,)))),
    Row("of another record", ["CONSENT/COVERAGE"], asked=consented(records=(digest("x"),))),
    Row("of this patient reference", [], asked=consented(
        records=(), patients=(request().patient,))),
    Row("of another patient reference", ["CONSENT/COVERAGE"], asked=consented(
        records=(), patients=(digest("x"),))),
    Row("of another item", ["CONSENT/SCOPE"], asked=consented(scope=(f"{LOINC}|3016-3",))),
    Row("of the report alone", ["CONSENT/SCOPE"], asked=consented(scope=("report",))),
    Row("of the local code", [], given=given(system=LOCAL, code="1001"),
        asked=consented(scope=(f"{LOCAL}|1001",))),
    Row("of the canonical code of a local one", [], given=given(system=LOCAL, code="1001"),
        asked=consented(scope=(GLUCOSE,))),
]  # fmt: skip


@pytest.mark.parametrize("row", CASES, ids=lambda row: row.says)
def test_rule(row: Row) -> None:
    documents = policy()
    if row.policy is not None:
        row.policy(documents)
    decision = World(documents).decide(row.asked, row.given)
    part = row.asked.parts[0]
    assert reasons(decision, part) == row.expected
    if not row.expected:
        assert set(flags(decision, part)) == {"CONSENT_ASSERTED", *row.flags}
        assert decision.items[0].verdict == "RECOGNISED_WITH_FLAG"
        assert decision.grant
    else:
        assert decision.items[0].verdict == "NOT_ELIGIBLE"
        assert decision.grant == b""


def test_every_code_of_a_decision_has_a_case() -> None:
    seen = {reason.partition("/")[0] for row in CASES for reason in row.expected}
    seen |= {flag for row in CASES for flag in row.flags}
    whole = {"POLICY", "HEAD_STALE", "OUTCOME", "CONSENT_ASSERTED"}  # below, and in test_outcomes
    assert seen | whole == set(Code)


# --- a forged statement never passes the requester's own registry, so it is given to the relay


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (replace(request(), signature=bytes(64)), ["PERSON/STATEMENT"]),
        (replace(request(), setting=Setting.INPATIENT), ["PERSON/STATEMENT"]),
        (replace(request(), parts=(1, 2)), ["PERSON/STATEMENT"]),
    ],
    ids=["no signature", "another setting than was signed", "more parts than were signed"],
)
def test_forged_statement(asked: RecognitionRequest, expected: list[str]) -> None:
    world = World()
    world.attest()
    world.deliver()
    world.ask(request(request=digest("genuine")))
    packet = world.sh.sent[0]
    payload = replace(packet.payloads[0], value=asked.encode())

    answer = Decision.decode(world.relay.receive(replace(packet, payloads=(payload,))))
    assert reasons(answer) == expected


# --- what refuses a request as a whole


def requester(**changes: Any) -> Change:
    return institution(2, **changes)


@pytest.mark.parametrize(
    ("says", "change", "expected"),
    [
        ("nobody accredited it", lambda p: p["accreditations"]["institutions"].pop(2), "REQUESTER"),
        ("it is another ledger's", requester(ledger="gd-medical"), "REQUESTER"),
        ("its keys have ended", requester(keys=[ASKING.dated(end=NOW)]), "REQUESTER"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_unknown_requester(says: str, change: Change, expected: str) -> None:
    documents = policy()
    change(documents)
    decision = World(documents).decide()
    assert str(decision.reason) == f"PERSON/{expected}", says
    assert reasons(decision) == [f"PERSON/{expected}"]


@pytest.mark.parametrize("change", [without("rules"), region(region="440000")])
def test_no_rule_for_the_region(change: Change) -> None:
    documents = policy()
    change(documents)
    decision = World(documents).decide()
    assert str(decision.reason) == "POLICY/NO_RULE"
    assert reasons(decision) == ["POLICY/NO_RULE"]


def test_the_narrowest_region_decides() -> None:
    documents = policy()
    city = {**documents["rules"]["regions"][0], "categories": ["RAD"], "region": "310100"}
    documents["rules"]["regions"].append(city)
    assert reasons(World(documents).decide()) == ["TYPE/CATEGORY"]


def test_source_not_connected() -> None:
    decision = World().decide(request(target="gd-medical"))
    assert str(decision.reason) == "SRC_AUTH/NOT_CONNECTED"
    assert (decision.head_height, decision.head_time) == (0, 0)


def test_frozen_source_is_not_connected() -> None:
    world = World()
    world.attest()
    world.deliver()
    world.relay.peers["checkpoint-0"].frozen = True
    world.ask()
    world.deliver()
    assert world.relay.keys("decision/")

    decision = find_request(world.sh, digest("request")).decision
    assert decision is not None
    assert str(decision.reason) == "SRC_AUTH/NOT_CONNECTED"


@pytest.mark.parametrize(("age", "stale"), [(600, False), (601, True)])
def test_head_freshness_boundary(age: int, stale: bool) -> None:
    world = World()
    world.attest()
    world.deliver()
    world.relay.peers["checkpoint-0"].time = NOW - age
    world.ask()
    [(_, _, answer)] = [s for s in world.deliver() if s[0] == "relay-1"]

    decision = Decision.decode(answer)
    assert (str(decision.reason) == "HEAD_STALE") is stale
    assert reasons(decision) == (["HEAD_STALE"] if stale else [])
    assert decision.head_time == NOW - age


# --- boundaries of time


@pytest.mark.parametrize(
    ("setting", "issued", "expected"),
    [
        (Setting.OUTPATIENT, MIDNIGHT - 30 * DAY, []),
        (Setting.OUTPATIENT, MIDNIGHT - 30 * DAY - 1, ["AGE/TOO_OLD"]),
        (Setting.INPATIENT, MIDNIGHT - 7 * DAY, []),
        (Setting.INPATIENT, MIDNIGHT - 7 * DAY - 1, ["AGE/TOO_OLD"]),
        (Setting.OUTPATIENT, NOW, []),
        (Setting.OUTPATIENT, NOW + 60, []),
    ],
)
def test_age_counts_shanghai_days_and_includes_the_last(
    setting: Setting, issued: int, expected: list[str]
) -> None:
    old = given(issued=issued, examined=issued)
    documents = policy()
    assert reasons(World(documents).decide(request(setting=setting), old)) == expected


@pytest.mark.parametrize(
    ("setting", "days", "expected"),
    [
        (Setting.OUTPATIENT, 3, []),
        (Setting.OUTPATIENT, 4, ["AGE/TOO_OLD"]),
        (Setting.INPATIENT, 1, []),
        (Setting.INPATIENT, 2, ["AGE/TOO_OLD"]),
    ],
)
def test_an_items_own_age_rule_goes_first(setting: Setting, days: int, expected: list[str]) -> None:
    issued = NOW - days * DAY
    tsh = given(code="3016-3", unit="m[IU]/L", method="IA-CL", issued=issued, examined=issued)
    assert reasons(World().decide(request(setting=setting), tsh)) == expected


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (NOW, NOW + 1, []),
        (NOW + 1, NOW + 2, ["CONSENT/PERIOD"]),
        (NOW - 1, NOW, ["CONSENT/PERIOD"]),
        (NOW - 1, NOW + 1, []),
    ],
)
def test_a_consent_holds_from_start_until_before_end(
    start: int, end: int, expected: list[str]
) -> None:
    decision = World().decide(request(consent=consent(start=start, end=end)))
    assert reasons(decision) == expected


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (NOW - DAY, []),
        (NOW - DAY - 1, ["PERSON/STATEMENT_TIME"]),
        (NOW + 60, []),
        (NOW + 61, ["PERSON/STATEMENT_TIME"]),
    ],
)
def test_age_of_the_statement(time: int, expected: list[str]) -> None:
    assert reasons(World().decide(request(time=time))) == expected


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        ("2026-02-01", "2026-02-01", []),
        ("2026-02-02", "2026-12-31", ["QC/EQA"]),
        ("2025-01-01", "2026-01-31", ["QC/EQA"]),
    ],
)
def test_assessment_covers_the_day_of_examination(
    first: str, last: str, expected: list[str]
) -> None:
    documents = policy()
    assessment(first=first, last=last)(documents)
    assert reasons(World(documents).decide()) == expected


# --- revision and retraction, in either order of arrival


def amended() -> Attestation:
    return attestation(
        item(status=Status.CORRECTED),
        action=Action.AMEND,
        commitment=digest("corrected"),
        previous=attestation().commitment,
        patient=digest("fresh reference"),
    )


def retracted(**changes: Any) -> Attestation:
    signed: Attestation = changes.pop("by", HOSPITAL).sign(
        replace(attestation(), action=Action.RETRACT, items=(), **changes)
    )
    return signed


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("method", "later", "expected"),
    [
        ("amend", amended(), "SRC_AUTH/REVISED"),
        ("retract", retracted(), "SRC_AUTH/RETRACTED"),
    ],
)
def test_revision_counts_in_any_order(
    order: int, method: str, later: Attestation, expected: str
) -> None:
    world = World()
    world.attest()
    world.attest(later, method=method)
    for packet in world.zj.sent[::order]:
        world.zj.end(packet, world.relay.receive(packet))
    world._done["zj-medical"] = len(world.zj.sent)
    world.ask()
    world.deliver()

    decision = find_request(world.sh, digest("request")).decision
    assert decision is not None
    assert reasons(decision) == [expected]


def test_the_new_version_is_recognised() -> None:
    world = World()
    world.decide()
    world.attest(amended(), method="amend")
    world.deliver()
    asked = request(
        request=digest("second"),
        commitment=digest("corrected"),
        patient=digest("fresh reference"),
        consent=consent(records=(digest("corrected"),)),
    )
    world.ask(asked)
    world.deliver()

    decision = find_request(world.sh, asked.request).decision
    assert decision is not None
    assert reasons(decision) == []


def test_another_institution_cannot_retract() -> None:
    """Its own registry refuses that; a ledger that lets it pass changes nothing either."""
    world = World()
    world.attest()
    world.deliver()
    genuine = world.zj.sent[0]
    forged = retracted(by=OTHER_HOSPITAL, institution="zj-h2")
    payload = replace(genuine.payloads[0], value=forged.encode())
    world.relay.receive(replace(genuine, payloads=(payload,)))
    world.ask()
    world.deliver()

    decision = find_request(world.sh, digest("request")).decision
    assert decision is not None
    assert reasons(decision) == []


def test_several_items_are_decided_each_for_itself() -> None:
    record = attestation(
        item(part=1), item(part=2, status=Status.PRELIMINARY), item(part=3, code="99999-9")
    )
    decision = World().decide(request(parts=(1, 2, 3, 9)), record)
    assert [reasons(decision, part) for part in (1, 2, 3, 9)] == [
        [],
        ["STATUS"],
        ["CATALOGUE/NOT_LISTED", "CONSENT/SCOPE"],
        ["TYPE/NOT_AN_ITEM"],
    ]
    assert [i.item for i in decision.items] == ["GLU", "GLU", "", ""]
    assert decision.granted_parts(consent()) == (1,)


def test_every_reason_is_told_in_the_order_of_the_checks() -> None:
    bad = given(status=Status.UNKNOWN, category="RAD", scope=(), unit="g/L", laboratory="x")
    decision = World().decide(request(consent=consent(grantee="sh-h2")), bad)
    found = reasons(decision)
    assert found == [
        "STATUS",
        "TYPE/CATEGORY",
        "MARK/NO_MARK",
        "QC/EQA",
        "PERSON/LABORATORY",
        "UNIT/NOT_CONVERTIBLE",
        "CONSENT/GRANTEE",
    ]
