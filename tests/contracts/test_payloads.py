"""Payload codecs: one encoding each, strict, and every signed field covered by its signature."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import fields as dataclass_fields
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.canonical import decode, encode
from relay.contracts.codes import Code, Detail, Finding, Reexamination, Verdict
from relay.contracts.payloads import (
    ENCODING,
    Action,
    Answer,
    Attestation,
    AttestedItem,
    Consent,
    Decision,
    ItemDecision,
    ItemOutcome,
    Notice,
    Outcome,
    OutcomeNotice,
    PublicKey,
    Purpose,
    RecognitionRequest,
    Result,
    Role,
    Setting,
    Signer,
    Status,
    fetch_bytes,
    find_bytes,
    grant_id,
)
from relay.contracts.payloads.parties import parties
from relay.errors import Invalid, Malformed, Reason
from relay.light.keys import verify
from relay.packet import Packet, Payload
from tests.contracts import world
from tests.refusals import refusing

ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,12}", fullmatch=True)
codes = st.from_regex(r"[!-{}~]{1,12}", fullmatch=True)
systems = st.from_regex(r"[!-{}~]{0,12}", fullmatch=True)
hashes = st.binary(min_size=32, max_size=32)
times = st.integers(0, 2**53 - 1)
signatures = {
    "algorithm": st.sampled_from(["ed25519", "p256", "sm2"]),
    "key": st.binary(min_size=1, max_size=65),
    "signature": st.binary(max_size=72),
}
parts = st.integers(0, 511)


def ascending(values: st.SearchStrategy[Any], low: int = 0) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.sets(values, min_size=low, max_size=4).map(lambda found: tuple(sorted(found)))


def by_part(values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    unique = st.lists(values, min_size=1, max_size=3, unique_by=lambda v: v.part)
    return unique.map(lambda found: tuple(sorted(found, key=lambda v: v.part)))


findings = st.builds(Finding, st.sampled_from(Code), st.sampled_from(Detail))
items = st.builds(
    AttestedItem,
    part=parts,
    system=systems,
    code=codes,
    specimen=codes | st.just(""),
    method=codes | st.just(""),
    unit=codes | st.just(""),
    examined=times,
    issued=times,
    status=st.sampled_from(Status),
    category=codes | st.just(""),
    laboratory=ids | st.just(""),
    author=ids | st.just(""),
    reference_range=st.booleans(),
    scope=ascending(ids),
)


@st.composite
def attestations(draw: st.DrawFn) -> Attestation:
    action = draw(st.sampled_from(Action))
    commitment = draw(hashes)
    return Attestation(
        ledger=draw(ids),
        port=draw(ids),
        commitment=commitment,
        patient=draw(hashes),
        institution=draw(ids),
        action=action,
        previous=draw(hashes.filter(lambda h: h != commitment)) if action == "amend" else b"",
        issued=draw(times),
        items=() if action is Action.RETRACT else draw(by_part(items)),
        **{name: draw(value) for name, value in signatures.items()},
    )


@st.composite
def consents(draw: st.DrawFn) -> Consent:
    start = draw(st.integers(0, 2**52))
    signer = draw(st.sampled_from(Signer))
    records = draw(ascending(hashes))
    return Consent(
        records=records,
        patients=draw(ascending(hashes, low=0 if records else 1)),
        grantee=draw(ids),
        purposes=draw(ascending(st.sampled_from(Purpose), low=1)),
        scope=draw(ascending(st.just("report") | st.builds("{}|{}".format, systems, codes), low=1)),
        start=start,
        end=start + draw(st.integers(1, 2**51)),
        revocation=draw(hashes),
        signer=signer,
        signed_by="" if signer is Signer.PATIENT else draw(ids),
        **{name: draw(value) for name, value in signatures.items()},
    )


requests = st.builds(
    RecognitionRequest,
    request=hashes,
    relay=ids,
    origin=ids,
    target=ids,
    hops=st.integers(0, 8),
    commitment=hashes,
    patient=hashes,
    parts=ascending(parts, low=1),
    institution=ids,
    clinician=ids,
    purpose=st.sampled_from(Purpose),
    setting=st.sampled_from(Setting),
    time=times,
    consent=consents(),
    **signatures,
)


@st.composite
def item_outcomes(draw: st.DrawFn) -> ItemOutcome:
    if draw(st.booleans()):
        return ItemOutcome(draw(parts), Result.ADOPTED, None, b"", None, 0)
    reason = draw(st.sampled_from(Reexamination))
    return ItemOutcome(
        draw(parts),
        Result.REEXAMINED,
        reason,
        draw(hashes) if reason is Reexamination.R6 else b"",
        draw(st.sampled_from(Role)),
        draw(st.integers(1, 2**53 - 1)),
    )


outcomes = st.builds(
    Outcome,
    relay=ids,
    origin=ids,
    target=ids,
    hops=st.integers(0, 8),
    request=hashes,
    commitment=hashes,
    institution=ids,
    clinician=ids,
    time=times,
    items=by_part(item_outcomes()),
    **signatures,
)
notices = st.builds(
    Notice,
    relay=ids,
    origin=ids,
    target=ids,
    hops=st.integers(0, 8),
    request=hashes,
    commitment=hashes,
    institution=ids,
    purpose=st.sampled_from(Purpose),
    decided=times,
    consent=hashes,
    grant=hashes,
    parts=ascending(parts, low=1),
    expires=times,
    keys=st.lists(
        st.builds(PublicKey, st.just("ed25519"), st.binary(min_size=1, max_size=65)),
        min_size=1,
        max_size=3,
    ).map(tuple),
)
outcome_notices = st.builds(
    OutcomeNotice,
    relay=ids,
    origin=ids,
    target=ids,
    hops=st.integers(0, 8),
    request=hashes,
    commitment=hashes,
    institution=ids,
    outcome=hashes,
    time=times,
    items=by_part(item_outcomes()),
)


@st.composite
def decisions(draw: st.DrawFn) -> Decision:
    verdicts = draw(st.lists(st.sampled_from(Verdict), min_size=1, max_size=3))
    several = st.lists(findings, min_size=1, max_size=3).map(tuple)
    decided = tuple(
        ItemDecision(
            part,
            draw(ids | st.just("")),
            verdict,
            draw(several) if verdict is Verdict.NOT_ELIGIBLE else (),
            draw(several) if verdict is Verdict.RECOGNISED_WITH_FLAG else (),
        )
        for part, verdict in enumerate(verdicts)
    )
    granted = any(v is not Verdict.NOT_ELIGIBLE for v in verdicts)
    return Decision(
        request=draw(hashes),
        relay=draw(ids),
        origin=draw(ids),
        target=draw(ids),
        commitment=draw(hashes),
        institution=draw(ids),
        decided=draw(times),
        reason=draw(st.none() | findings),
        items=decided,
        policy=draw(st.lists(codes, max_size=3).map(tuple)),
        head_height=draw(times),
        head_time=draw(times),
        grant=draw(hashes) if granted else b"",
        expires=draw(times),
    )


answers = st.builds(Answer, hashes, st.none() | findings)
KINDS: dict[str, tuple[st.SearchStrategy[Any], Callable[[bytes], Any]]] = {
    "attestation": (attestations(), Attestation.decode),
    "consent": (consents(), Consent.decode),
    "request": (requests, RecognitionRequest.decode),
    "decision": (decisions(), Decision.decode),
    "notice": (notices, Notice.decode),
    "outcome": (outcomes, Outcome.decode),
    "outcome_notice": (outcome_notices, OutcomeNotice.decode),
    "answer": (answers, Answer.decode),
}
EXAMPLES: dict[str, bytes] = {
    "attestation": world.attestation().encode(),
    "consent": world.consent().encode(),
    "request": world.request().encode(),
    "outcome": world.outcome().encode(),
    "answer": Answer(world.RECORD).encode(),
}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_round_trip(kind: str, data: st.DataObject) -> None:
    values, read = KINDS[kind]
    value = data.draw(values)
    raw = value.encode()
    assert read(raw) == value
    body = decode(raw)
    assert isinstance(body, dict)
    assert body["type"] == kind


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(raw=st.binary(max_size=40))
def test_any_bytes_are_a_value_or_malformed(kind: str, raw: bytes) -> None:
    with refusing({Reason.MALFORMED, Reason.NOT_CANONICAL}):  # a blank before a number is JSON
        KINDS[kind][1](raw)


@pytest.mark.parametrize("kind", EXAMPLES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_changed_byte_is_another_value_or_malformed(kind: str, data: st.DataObject) -> None:
    raw = bytearray(EXAMPLES[kind])
    read = KINDS[kind][1]
    before = read(bytes(raw))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(Malformed):
        assert read(bytes(raw)) != before


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_members_are_exact(kind: str, data: st.DataObject) -> None:
    values, read = KINDS[kind]
    body = decode(data.draw(values).encode())
    assert isinstance(body, dict)
    name = data.draw(st.sampled_from(sorted(body)))
    for changed in (
        {n: v for n, v in body.items() if n != name},
        {**body, "extra": 1},
        {**body, name: None},
        {**body, name: {}},
        {**body, name: -1},
    ):
        with refusing(Reason.MALFORMED):
            read(encode(changed))
    with refusing(Reason.MALFORMED):
        read(encode([body]))


SIGNED = [world.attestation(), world.consent(), world.request(), world.outcome()]


@pytest.mark.parametrize("value", SIGNED, ids=lambda v: type(v).__name__)
def test_the_signature_covers_every_field(value: Any) -> None:
    verify(value.algorithm, value.key, value.signing_bytes(), value.signature)
    changes: dict[str, Any] = {
        "action": Action.AMEND,
        "consent": world.consent(end=world.NOW + 5),
        "items": (world.item(unit="mg/dL"),),
        "patients": (world.digest("x"),),
        "purpose": Purpose.ETREAT,
        "purposes": (Purpose.ETREAT,),
        "records": (),
        "scope": ("report",),
        "setting": Setting.INPATIENT,
        "signer": Signer.INSTITUTION,
        "parts": (2,),
    }
    if isinstance(value, Outcome):
        changes["items"] = (world.adopted(2),)
    for field in dataclass_fields(value):
        if field.name in ("signature", "algorithm", "key"):
            continue
        old = getattr(value, field.name)
        if field.name in changes:
            new = changes[field.name]
        elif isinstance(old, bytes):
            new = world.digest("changed")
        else:
            new = old + 1 if isinstance(old, int) else old + "x"
        assert new != old
        changed = replace(value, **{field.name: new})
        with pytest.raises(Invalid) as err:
            verify(changed.algorithm, changed.key, changed.signing_bytes(), changed.signature)
        assert err.value.reason is Reason.INVALID_SIGNATURE, field.name


def test_context_tags_differ() -> None:
    tags = {value.signing_bytes().partition(b"\n")[0] for value in SIGNED}
    fetch = fetch_bytes(ledger="a", commitment=b"", grant=b"", institution="i", nonce=b"", time=1)
    find = find_bytes(ledger="a", institution="i", query=b"", consent=b"", nonce=b"", time=1)
    tags |= {fetch.partition(b"\n")[0], find.partition(b"\n")[0]}
    assert len(tags) == 6
    assert all(tag.startswith(b"lianqiao/") and tag.endswith(b"/v1") for tag in tags)


def test_grant_ids_differ_by_relay_origin_and_request() -> None:
    base = grant_id("r", "o", b"1" * 32)
    assert len(base) == 32
    others = (
        grant_id("r2", "o", b"1" * 32),
        grant_id("r", "o2", b"1" * 32),
        grant_id("r", "o", b"2" * 32),
    )
    assert len({base, *others}) == 4


def _edited(raw: bytes, **changes: Any) -> bytes:
    body = decode(raw)
    assert isinstance(body, dict)
    return encode({**body, **changes})


def _item(**changes: Any) -> dict[str, Any]:
    return {**world.item().to_json(), **changes}


def _told(**changes: Any) -> dict[str, Any]:
    return {**world.adopted().to_json(), **changes}


AGAIN = {"informed": 1, "informed_by": "nurse", "reason": "R1", "result": "reexamined"}


@pytest.mark.parametrize(
    ("kind", "changes", "field"),
    [
        ("attestation", {"type": "request"}, "type"),
        ("consent", {"type": "request"}, "type"),
        ("outcome", {"type": "outcome_notice"}, "type"),
        ("answer", {"type": "decision"}, "type"),
        ("attestation", {"items": ["GLU"]}, "item"),
        ("attestation", {"items": {}}, "items"),
        ("consent", {"scope": [1]}, "scope"),
        ("consent", {"scope": ["|"]}, "scope"),
        ("consent", {"scope": ["a b|c"]}, "scope"),
        ("attestation", {"ledger": "zj medical"}, "ledger"),
        ("attestation", {"ledger": "张三"}, "ledger"),
        ("attestation", {"institution": "x" * 65}, "institution"),
        ("attestation", {"institution": "-x"}, "institution"),
        ("attestation", {"commitment": "ab" * 31}, "commitment"),
        ("attestation", {"commitment": "AB" * 32}, "commitment"),
        ("attestation", {"commitment": "ab" * 33}, "commitment"),
        ("attestation", {"action": "delete"}, "action"),
        ("attestation", {"previous": "ab" * 32}, "previous"),
        ("attestation", {"action": "amend"}, "previous"),
        ("attestation", {"action": "amend", "previous": world.RECORD.hex()}, "previous"),
        ("attestation", {"action": "retract"}, "items"),
        ("attestation", {"items": []}, "items"),
        ("attestation", {"items": [_item(part=2), _item(part=1)]}, "items"),
        ("attestation", {"items": [_item(), _item()]}, "items"),
        ("attestation", {"items": [_item(status="bogus")]}, "status"),
        ("attestation", {"items": [_item(part=512)]}, "part"),
        ("attestation", {"items": [_item(part=True)]}, "part"),
        ("attestation", {"items": [_item(code="")]}, "code"),
        ("attestation", {"items": [_item(code="a|b")]}, "code"),
        ("attestation", {"items": [_item(unit="mg dL")]}, "unit"),
        ("attestation", {"items": [_item(laboratory="Dr Who")]}, "laboratory"),
        ("attestation", {"items": [_item(reference_range=1)]}, "reference_range"),
        ("attestation", {"items": [_item(scope=["b", "a"])]}, "scope"),
        ("attestation", {"items": [_item(scope=["a", "a"])]}, "scope"),
        ("attestation", {"issued": -1}, "issued"),
        ("attestation", {"algorithm": "ED25519"}, "algorithm"),
        ("attestation", {"key": ""}, "key"),
        ("attestation", {"signature": "a"}, "signature"),
        ("attestation", {"signature": "ab" * 257}, "signature"),
        ("consent", {"records": []}, "records"),
        ("consent", {"scope": []}, "scope"),
        ("consent", {"scope": ["glucose"]}, "scope"),
        ("consent", {"scope": ["reports"]}, "scope"),
        ("consent", {"purposes": ["FUN"]}, "purposes"),
        ("consent", {"start": world.NOW + 30 * world.DAY}, "end"),
        ("consent", {"signed_by": "sh-h1"}, "signed_by"),
        ("consent", {"signer": "institution"}, "signed_by"),
        ("consent", {"signer": "relative"}, "signer"),
        ("request", {"opens_to_my_patient": False}, "opens_to_my_patient"),
        ("request", {"opens_to_my_patient": 1}, "opens_to_my_patient"),
        ("request", {"parts": []}, "parts"),
        ("request", {"parts": [2, 1]}, "parts"),
        ("request", {"setting": "home"}, "setting"),
        ("request", {"hops": 9}, "hops"),
        ("request", {"consent": {}}, "consent"),
        ("request", {"type": "attestation"}, "type"),
        ("outcome", {"items": []}, "items"),
        ("outcome", {"items": [_told(reason="R1")]}, "reason"),
        ("outcome", {"items": [_told(informed_by="nurse")]}, "reason"),
        ("outcome", {"items": [_told(informed=1)]}, "informed"),
        ("outcome", {"items": [_told(result="ignored")]}, "result"),
        ("outcome", {"items": [_told(**{**AGAIN, "reason": ""})]}, "reason"),
        ("outcome", {"items": [_told(**{**AGAIN, "reason": "R7"})]}, "reason"),
        ("outcome", {"items": [_told(**{**AGAIN, "informed_by": ""})]}, "informed_by"),
        ("outcome", {"items": [_told(**{**AGAIN, "informed_by": "Dr Li"})]}, "informed_by"),
        ("outcome", {"items": [_told(**{**AGAIN, "informed": 0})]}, "informed"),
        ("outcome", {"items": [_told(**{**AGAIN, "reason": "R6"})]}, "note"),
        ("outcome", {"items": [_told(**{**AGAIN, "note": "ab" * 32})]}, "note"),
        ("outcome", {"items": [_told(), _told()]}, "items"),
        ("answer", {"accepted": False}, "accepted"),
    ],
)
def test_refused_field(kind: str, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(Malformed) as err:
        KINDS[kind][1](_edited(EXAMPLES[kind], **changes))
    assert err.value.data["field"] == field


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("attestation", {"items": [_item(part=n) for n in range(257)]}),
        ("consent", {"records": [f"{n:064x}" for n in range(65)]}),
    ],
)
def test_too_many(kind: str, changes: dict[str, Any]) -> None:
    with pytest.raises(Malformed) as err:
        KINDS[kind][1](_edited(EXAMPLES[kind], **changes))
    assert err.value.reason is Reason.LIMIT_EXCEEDED


def test_types_are_not_taken_for_each_other() -> None:
    made = world.World()
    decision = made.decide()
    notice = made.relay.sent[0].payloads[0].value
    for read, raw in ((Decision.decode, decision.encode()), (Notice.decode, notice)):
        with pytest.raises(Malformed) as err:
            read(_edited(raw, type="answer"))
        assert err.value.data["field"] == "type"
    with pytest.raises(Malformed) as err:
        OutcomeNotice.decode(
            _edited(
                OutcomeNotice(
                    "r", "o", "t", 0, world.RECORD, world.RECORD, "i", world.RECORD, 0,
                    (world.adopted(),),
                ).encode(),
                type="outcome",
            )
        )  # fmt: skip
    assert err.value.data["field"] == "type"


def test_a_decision_is_consistent() -> None:
    decision = world.World().decide()
    raw = decision.encode()
    [item] = [i.to_json() for i in decision.items]
    for changes in (
        {"grant": ""},
        {"items": [{**item, "verdict": "NOT_ELIGIBLE"}]},
        {"items": [{**item, "verdict": "RECOGNISED"}]},
        {"items": [{**item, "reasons": ["AGE"]}]},
        {"items": [{**item, "flags": ["FLAG"]}]},
        {"items": [{**item, "flags": ["AGE/FLAG"]}]},
        {"items": []},
        {"policy": [""]},
        {"policy": [5]},
        {"policy": ["catalogue/实验室@1"]},
        {"policy": ["a" * 97]},
        {"reason": "NONE"},
    ):
        with refusing(Reason.MALFORMED if changes.get("items") != [] else Reason.LIMIT_EXCEEDED):
            Decision.decode(_edited(raw, **changes))


def test_who_a_payload_and_a_decision_name() -> None:
    decision = world.World().decide()
    payload = Payload("registry", "recognition", "1", ENCODING, b"{}")
    for value, named in (
        (b"[]", set()),
        (b"no json", set()),
        (b"{}", {("", "")}),
        (b'{"type":"gift"}', {("", "")}),
        (world.request().encode(), {("sh-medical", "relay-1")}),
    ):
        packet = Packet(1, "a-0", "b-0", 1, (replace(payload, value=value),))
        assert parties(packet, ()) == named
        assert parties(packet, (decision.encode(),)) == named | {("sh-medical", "relay-1")}
        assert parties(packet, (b"no decision",)) == named
