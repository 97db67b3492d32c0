"""Published records through the door: HL7's R4 examples, IPS, Synthea. Taken or refused, counted.

The published examples are mostly single resources that refer to others which are published beside
them, so many a report is refused alone and taken together with the rest.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from relay.contracts.payloads import Attestation
from relay.keys import SigningKey
from relay.record.attest import attest
from relay.record.door import Intake, Source, take
from relay.record.parts import check_parts
from tests.record.samples import Entropy
from tests.vectors_dir import vectors


def _sources(folder: str) -> list[Source]:
    paths = sorted(vectors("health", folder).glob("*.json"))
    return [Source(path.name, path.read_bytes()) for path in paths]


def _kinds(intake: Intake) -> Counter[str]:
    return Counter(refused.error.detail for refused in intake.refused)


def _attested(intake: Intake) -> int:
    """Attests what was taken; how many results were attested."""
    entropy, key, items = Entropy(), SigningKey.from_seed(bytes(32)), 0
    for taken in intake.records:
        made = attest(
            taken,
            ledger="zj-medical",
            institution="zj-h1",
            signer=key,
            issued=1790900000,
            salts=entropy.salt,
        )
        assert Attestation.decode(made.attestation.encode()) == made.attestation
        shown = check_parts(made.kept.parts, made.attestation.commitment)
        assert [content for _, content in shown.parts] == [p.content for p in taken.parts]
        items += len(made.attestation.items)
    return items


def test_hl7_examples_one_by_one() -> None:
    sources = _sources("fhir-r4")
    assert len(sources) == 163
    found = [take([source]) for source in sources]
    assert sum(len(intake.records) for intake in found) == 0
    assert sum(map(_kinds, found), Counter()) == {
        "holds no DiagnosticReport": 158,
        "DiagnosticReport.result refers to a resource that was not handed over": 2,
        "DiagnosticReport.media refers to a resource that was not handed over": 1,
        "the patient has no identifier with a system": 2,
    }


def test_hl7_examples_together() -> None:
    intake = take(_sources("fhir-r4"))
    assert [r.where for r in intake.records] == ["DiagnosticReport-f201.json"]
    assert _attested(intake) == 1
    refused = {r.where: r.error.detail for r in intake.refused if "holds no" not in r.error.detail}
    assert refused == {
        "DiagnosticReport-102.json": "DiagnosticReport.result refers to a resource that was not "
        "handed over",
        "DiagnosticReport-example-pgx.json": "Observation.specimen refers to a resource that was "
        "not handed over",
        "DiagnosticReport-pap.json": "the patient has no identifier with a system",
        "DiagnosticReport-ultrasound.json": "DiagnosticReport.media refers to a resource that was "
        "not handed over",
    }


def test_international_patient_summaries() -> None:
    sources = _sources("fhir-ips")
    assert len(sources) == 44
    intake = take(sources)
    (taken,) = intake.records
    assert [p.resource_type for p in taken.parts] == [
        "DiagnosticReport",
        "Organization",
        "Observation",
    ]
    assert _attested(intake) == 1
    assert set(_kinds(intake)) == {"holds no DiagnosticReport"}


def test_synthea_patients() -> None:
    sources = _sources("synthea")
    assert len(sources) == 4
    intake = take(sources)
    assert intake.refused == ()
    assert len(intake.records) == 109
    assert _attested(intake) == sum(len(r.items) for r in intake.records) == 356
    data = {source.name: source.data for source in sources}
    for taken in intake.records:
        for part in taken.parts:
            # Each part is an exact substring of the file it came in.
            assert part.content in data[Path(part.where.split(":")[0]).name]


def test_other_published_json_is_refused_by_type() -> None:
    for folder in ("bbs-sha256", "terminology"):
        for path in sorted(vectors("health", folder).rglob("*.json")):
            intake = take([Source(path.name, path.read_bytes())])
            assert intake.records == ()
            assert len(intake.refused) == 1
