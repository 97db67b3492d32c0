"""From a record to a signed attestation: what is said of each item, and by which rule."""

from __future__ import annotations

from typing import Any

import pytest

from relay.contracts.payloads import Action, Attestation, Status
from relay.errors import Invalid, Reason
from relay.keys import SigningKey
from relay.light.keys import verify
from relay.record.attest import METHOD_SYSTEM, SPECIMEN_SYSTEM, Attested, attest, retraction
from relay.record.door import record
from relay.record.extract import HR_MARK
from relay.record.parts import commit, open_patient, patient_reference
from relay.record.vault import Vault
from tests.record.samples import (
    PATIENT_ID,
    SECRETS,
    Entropy,
    bundle,
    observation,
    panel,
    patient,
    report,
    url,
)

KEY = SigningKey.from_seed(bytes(32))
KNOWN = frozenset({"http://loinc.org|2823-3"})


def made(data: bytes, **changes: Any) -> Attested:
    taken = record(data, "in.json")
    arguments: dict[str, Any] = {
        "ledger": "zj-medical",
        "institution": "zj-h1",
        "signer": KEY,
        "issued": 1790900000,
        "salts": Entropy().salt,
        "known": KNOWN,
        **changes,
    }
    return attest(taken, **arguments)


def test_it_is_signed_and_decodes() -> None:
    found = made(panel(2)).attestation
    assert Attestation.decode(found.encode()) == found
    verify(found.algorithm, found.key, found.signing_bytes(), found.signature)
    assert (found.ledger, found.port, found.institution) == ("zj-medical", "registry", "zj-h1")
    assert (found.action, found.previous) == (Action.NEW, b"")


def test_it_commits_to_what_is_kept(tmp_path: Any) -> None:
    found = made(panel(2))
    assert commit(found.kept.parts) == found.attestation.commitment
    assert patient_reference(found.kept.patient) == found.attestation.patient
    opening = found.kept.patient
    open_patient(found.attestation.patient, opening.salt, opening.scheme, PATIENT_ID)
    vault = Vault(tmp_path / "v", bytes(32), "zj-medical", Entropy(4))
    vault.put([found.kept])
    assert vault.find("urn:mrn", "MRN-77") == (found.attestation.commitment,)
    assert [i.part for i in vault.describe(found.kept.commitment).items] == [1, 2]


def test_salts_are_fresh_for_each_part_and_record() -> None:
    entropy = Entropy()
    first, second = (made(panel(2), salts=entropy.salt) for _ in range(2))
    salts = [p.salt for f in (first, second) for p in f.kept.parts]
    salts += [first.kept.patient.salt, second.kept.patient.salt]
    assert len(set(salts)) == len(salts)
    assert first.attestation.patient != second.attestation.patient
    assert first.attestation.commitment != second.attestation.commitment


def test_no_patient_data_is_on_the_ledger() -> None:
    raw = made(panel(2)).attestation.encode().decode()
    for secret in (*SECRETS, "MRN-77", "4.10", "female", "1990"):
        assert secret not in raw


def test_what_is_said_of_an_item() -> None:
    specimen = {
        "resourceType": "Specimen",
        "id": "s1",
        "type": {
            "coding": [
                {"system": "http://snomed.info/sct", "code": "119364003"},
                {"system": SPECIMEN_SYSTEM, "code": "SER"},
            ]
        },
    }
    laboratory = {
        "resourceType": "Organization",
        "id": "l1",
        "identifier": [
            {"system": "urn:long", "value": "not an id: it has blanks"},
            {"system": "urn:lab", "value": "zj-h1-lab"},
        ],
    }
    doctor = {
        "resourceType": "Practitioner",
        "id": "d1",
        "identifier": [{"system": "urn:doctor", "value": "zj-h1-d01"}],
    }
    role = {
        "resourceType": "PractitionerRole",
        "id": "x1",
        "practitioner": {"reference": url("d1")},
        "organization": {"reference": url("l1")},
    }
    whole = observation(
        1,
        specimen={"reference": url("s1")},
        performer=[{"reference": url("x1")}],
        method={"coding": [{"system": METHOD_SYSTEM, "code": "ise"}]},
        extension=[
            {
                "url": HR_MARK,
                "extension": [
                    {"url": "label", "valueString": "长三角HR"},
                    {"url": "region", "valueCode": "CSJ"},
                ],
            }
        ],
    )
    whole["code"]["coding"].insert(0, {"system": "urn:local", "code": "K"})
    found = made(bundle(patient(), report(1), whole, specimen, laboratory, doctor, role))
    (item,) = found.attestation.items
    assert (item.system, item.code) == ("http://loinc.org", "2823-3")
    assert (item.specimen, item.method, item.unit) == ("SER", "ise", "mmol/L")
    assert (item.laboratory, item.author) == ("zj-h1-lab", "zj-h1-d01")
    assert (item.category, item.status, item.reference_range) == ("LAB", Status.FINAL, True)
    assert item.scope == ("CSJ",)
    # Unknown to the catalogue, the first coding counts.
    other = made(bundle(patient(), report(1), whole, specimen, laboratory, doctor, role), known=())
    assert (other.attestation.items[0].system, other.attestation.items[0].code) == (
        "urn:local",
        "K",
    )


def test_what_is_unknown_is_left_empty() -> None:
    bare = observation(1, effectiveDateTime=None, issued=None, valueQuantity=None, category=None)
    bare["referenceRange"] = None
    bare = {k: v for k, v in bare.items() if v is not None}
    named = report(1, effectiveDateTime=None, issued=None, category=None)
    (item,) = made(bundle(patient(), named, bare)).attestation.items
    assert (item.examined, item.issued) == (0, 0)
    assert (item.specimen, item.method, item.unit, item.category) == ("", "", "", "")
    assert (item.laboratory, item.author, item.reference_range, item.scope) == ("", "", False, ())


def test_a_unit_outside_ucum_is_none() -> None:
    odd = observation(
        1, valueQuantity={"value": 1, "unit": "千克", "code": "kg", "system": "urn:x"}
    )
    assert made(bundle(patient(), report(1), odd)).attestation.items[0].unit == ""


def test_results_without_a_code_are_not_attested() -> None:
    free = observation(2, code={"text": "something"})
    found = made(bundle(patient(), report(2), observation(1), free))
    assert [i.part for i in found.attestation.items] == [1]
    with pytest.raises(Invalid) as err:
        made(bundle(patient(), report(1), observation(1, code={"text": "x"})))
    assert err.value.reason == Reason.RECORD_INVALID


def test_several_results_in_one_part_are_refused() -> None:
    inner = [observation(n, id=f"c{n}", subject=None) for n in (1, 2)]
    whole = report(0, contained=inner, result=[{"reference": "#c1"}, {"reference": "#c2"}])
    with pytest.raises(Invalid) as err:
        made(bundle(patient(), whole))
    assert err.value.reason == Reason.RECORD_INVALID
    assert "Bundle" in err.value.hint


def test_a_report_without_results_is_the_item_itself() -> None:
    (item,) = made(bundle(patient(), report(0, result=None))).attestation.items
    assert item.part == 0


def test_amending_and_retracting() -> None:
    first = made(panel(1)).attestation
    amended = made(panel(1), previous=first.commitment, salts=Entropy(2).salt).attestation
    assert (amended.action, amended.previous) == (Action.AMEND, first.commitment)
    assert Attestation.decode(amended.encode()) == amended
    gone = retraction(
        ledger="zj-medical",
        institution="zj-h1",
        signer=KEY,
        issued=1790900001,
        commitment=first.commitment,
        patient=first.patient,
    )
    assert Attestation.decode(gone.encode()) == gone
    verify(gone.algorithm, gone.key, gone.signing_bytes(), gone.signature)
