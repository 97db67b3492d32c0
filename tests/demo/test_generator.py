"""Generated records: valid by two validators, taken by the door, judged as their oracle says."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import fhirkit
import pytest
from fhir.resources.R4B.bundle import Bundle

from relay import canonical
from relay.contracts.codes import Detail, Verdict
from relay.contracts.payloads import (
    Consent,
    Purpose,
    RecognitionRequest,
    Setting,
    Signer,
    Status,
)
from relay.contracts.policy.documents import parse_document
from relay.contracts.policy.snapshot import Policy, merge
from relay.contracts.recognition.case import Case
from relay.contracts.recognition.evaluate import evaluate
from relay.demo.analytes import ANALYTES
from relay.demo.cases import CASES
from relay.demo.generator import Generated, decimal, generate
from relay.demo.hospitals import HOSPITALS, RECEIVERS, SOURCES, policy_documents
from relay.keys import SigningKey
from relay.record.attest import attest
from relay.record.door import Source, record, take
from tests.record.samples import Entropy

CATALOGUE = Path(__file__).parents[2] / "relay/contracts/catalogue/cn-laboratory.json"
NOW = 1_795_000_000
RECEIVER = RECEIVERS[0]


@cache
def catalogue() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(CATALOGUE.read_text())
    return found


@cache
def made(count: int = 160, seed: int = 7) -> tuple[Generated, ...]:
    return tuple(generate(catalogue(), seed=seed, now=NOW, count=count))


@cache
def key(name: str) -> SigningKey:
    return SigningKey.from_seed(name.encode().ljust(32, b"\x00"))


@cache
def policy() -> Policy:
    names = [h.id for h in HOSPITALS] + [h.doctor for h in HOSPITALS]
    keys = {name: (key(name).algorithm, key(name).public) for name in names}
    items = [item["item"] for item in catalogue()["items"]]
    documents = [catalogue(), *policy_documents(NOW, keys, items, catalogue()["name"])]
    return merge(parse_document(canonical.encode(d)) for d in documents)


def test_the_same_seed_gives_the_same_bytes() -> None:
    again = generate(catalogue(), seed=7, now=NOW, count=20)
    assert [g.data for g in again] == [g.data for g in made()[:20]]
    other = generate(catalogue(), seed=8, now=NOW, count=20)
    assert [g.data for g in other] != [g.data for g in again]


def test_every_case_occurs_and_most_records_are_good() -> None:
    names = [g.case for g in made()]
    assert set(names) == {"good", *CASES}
    assert {g.case for g in made()[:73]} == {"good", *CASES}
    assert names.count("good") == 96
    assert {g.case for g in generate(catalogue(), seed=1, now=NOW, count=30, share=0)} == {"good"}


def test_all_catalogue_items_have_values() -> None:
    assert set(ANALYTES) == {item["item"] for item in catalogue()["items"]}
    for item in catalogue()["items"]:
        assert ANALYTES[item["item"]].unit in (item["units"] or [""])


def test_two_validators_agree_that_they_are_valid() -> None:
    for generated in made(60):
        assert fhirkit.parse(generated.data).issues == []
        Bundle.model_validate_json(generated.data)
        if generated.amendment:
            assert fhirkit.parse(generated.amendment).issues == []


def test_the_door_takes_them_all() -> None:
    intake = take([Source(g.name, g.data) for g in made()])
    assert intake.refused == ()
    assert len(intake.records) == len(made())
    for taken, generated in zip(intake.records, made(), strict=True):
        assert taken.patient[0].value == generated.person.number
        assert [i.part for i in taken.items] == [e.part for e in generated.expected]


def test_decimals_are_text_with_the_decimals_of_their_range() -> None:
    found = re.findall(rb'"value": ([^,}]+)', b"".join(g.data for g in made()))
    numbers = [n for n in found if not n.startswith(b'"')]
    assert len(numbers) > 500
    assert all(re.fullmatch(rb"\d+(\.\d+)?", n) for n in numbers)
    assert any(n.endswith(b"0") and b"." in n for n in numbers)
    assert [decimal(410, 2), decimal(5, 2), decimal(0, 1), decimal(42, 0)] == [
        "4.10",
        "0.05",
        "0.0",
        "42",
    ]


def test_the_oracle_is_not_in_the_record() -> None:
    for generated in made():
        text = generated.data.decode()
        for word in (
            "NOT_ELIGIBLE",
            "RECOGNISED",
            *(f for e in generated.expected for f in e.findings),
        ):
            assert word not in text
        assert generated.person.name_zh not in generated.name
        assert generated.person.number not in generated.name


def test_no_number_has_the_form_of_a_real_identity_card() -> None:
    for generated in made():
        assert not re.search(rb"(?<!\d)[1-9]\d{5}(19|20)\d{9}[\dXx](?!\d)", generated.data)
        assert b"HTEST" in generated.data


def _decided(generated: Generated) -> list[tuple[int, bool, tuple[str, ...]]]:
    """What the recognition contract says of it, by its pure core."""
    entropy = Entropy(hash(generated.name) & 0xFFFF)
    hospital = generated.hospital
    known = {code for item in catalogue()["items"] for code in item["codes"]}
    made_ = attest(
        record(generated.data, generated.name),
        ledger=hospital.ledger,
        institution=hospital.id,
        signer=key(hospital.id),
        issued=NOW - 600,
        salts=entropy.salt,
        known=known,
    )
    attestation = made_.attestation
    patient = SigningKey.from_seed(entropy.salt())
    consent = Consent(
        records=(attestation.commitment,),
        patients=(),
        grantee=RECEIVER.id,
        purposes=(Purpose.TREAT,),
        scope=generated.consent_scope,
        start=NOW - 60,
        end=NOW + 86_400,
        revocation=entropy.salt(),
        signer=Signer.PATIENT,
        signed_by="",
        algorithm=patient.algorithm,
        key=patient.public,
        signature=b"",
    )
    consent = replace(consent, signature=patient.sign(consent.signing_bytes()))
    clinician = key(RECEIVER.doctor)
    request = RecognitionRequest(
        request=entropy.salt(),
        relay="relay",
        origin=RECEIVER.ledger,
        target=hospital.ledger,
        hops=1,
        commitment=attestation.commitment,
        patient=attestation.patient,
        parts=tuple(e.part for e in generated.expected),
        institution=RECEIVER.id,
        clinician=RECEIVER.doctor,
        purpose=Purpose.TREAT,
        setting=Setting.OUTPATIENT,
        time=NOW,
        consent=consent,
        algorithm=clinician.algorithm,
        key=clinician.public,
        signature=b"",
    )
    request = replace(request, signature=clinician.sign(request.signing_bytes()))
    receiver = policy().institutions[RECEIVER.id]
    rule = policy().rule_for(receiver)
    assert rule is not None
    revised = {"amend": Detail.REVISED, "retract": Detail.RETRACTED, "": Detail.NONE}
    case = Case(
        request=request,
        receiver=receiver,
        rule=rule,
        policy=policy(),
        attestation=attestation,
        recorded=NOW - 500,
        revised=revised[generated.then],
        at_issue=lambda issued: list(policy().catalogues.values()),
        now=NOW,
    )
    return [
        (
            item.part,
            item.verdict is not Verdict.NOT_ELIGIBLE,
            tuple(str(f) for f in item.reasons or item.flags),
        )
        for item in evaluate(case)
    ]


@pytest.mark.parametrize("name", ["good", *CASES])
def test_the_contract_says_what_the_oracle_says(name: str) -> None:
    found = [g for g in made(240) if g.case == name][:4]
    assert found
    for generated in found:
        expected = [(e.part, e.recognised, e.findings) for e in generated.expected]
        assert _decided(generated) == expected
        if name != "good":
            told = {f for e in generated.expected for f in e.findings}
            assert CASES[name].code in told
            assert CASES[name].flag == all(e.recognised for e in generated.expected)


def test_an_amendment_is_another_record_of_the_same_patient() -> None:
    found = [g for g in made() if g.then == "amend"]
    assert found
    for generated in found:
        first, second = (record(d, "f") for d in (generated.data, generated.amendment))
        assert first.patient == second.patient
        assert second.status == Status.AMENDED
        assert first.parts[0].content != second.parts[0].content


def test_hospitals_are_on_their_ledgers() -> None:
    assert {h.ledger for h in SOURCES} == {"zj-medical"}
    assert {h.ledger for h in RECEIVERS} == {"sh-medical"}
    assert {g.hospital.ledger for g in made()} == {"zj-medical"}


@pytest.mark.slow
def test_a_thousand_records_in_a_second() -> None:
    begin = time.perf_counter()
    assert len(generate(catalogue(), seed=1, now=NOW, count=1000)) == 1000
    assert time.perf_counter() - begin < 5  # under one on a quiet machine
