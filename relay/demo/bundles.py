"""A plan of a record written as a FHIR R4 Bundle, with decimals as the text they are.

Every resource is tagged HTEST (test health data). Results come first among the report's references,
so that result n is part n of the record (relay.record.links: parts stand in order of reference).
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

from relay.demo.analytes import PANELS
from relay.demo.cases import Line, Plan
from relay.demo.hospitals import CLINICIAN_SCHEME, LABORATORY_SCHEME, LOCAL_SYSTEM
from relay.demo.people import PATIENT_SCHEME, Person
from relay.record.attest import (
    CATEGORY_SYSTEM,
    METHOD_SYSTEM,
    OBSERVATION_CATEGORY,
    SPECIMEN_SYSTEM,
)
from relay.record.extract import HR_MARK
from relay.record.facts import UCUM
from relay.record.times import CHINA

_TEST_DATA = {
    "tag": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}]
}
_NEGATIVE = {
    "coding": [{"system": "http://snomed.info/sct", "code": "260385009", "display": "Negative"}],
    "text": "阴性",
}
_DECIMAL = re.compile(r'"#([0-9.]+)#"')


def bundle(plan: Plan, who: Person, number: int, version: int = 1) -> bytes:
    """The Bundle of a plan; ids follow from `number`, `version` tells an amendment apart."""
    found = _Writer(plan, who, number, version).bundle()
    # Decimals pass json.dumps as "#4.10#": it would make floats of them, and 4.1 of 4.10.
    return _DECIMAL.sub(r"\1", json.dumps(found, ensure_ascii=False)).encode()


class _Writer:
    def __init__(self, plan: Plan, who: Person, number: int, version: int) -> None:
        self.plan = plan
        self.who = who
        self.number = number
        self.version = version
        self.entries: list[dict[str, Any]] = []

    def bundle(self) -> dict[str, Any]:
        """The whole, the report first."""
        plan = self.plan
        subject = {"reference": self._url("Patient", 0)}
        specimens = list(dict.fromkeys(line.specimen for line in plan.lines))
        report = self._report(subject, specimens)
        self._add("DiagnosticReport", 0, report)
        if not plan.imaging:
            for place, line in enumerate(plan.lines, 1):
                given = {"reference": self._url("Specimen", specimens.index(line.specimen))}
                self._add("Observation", place, self._observation(line, subject, given))
            for place, code in enumerate(specimens):
                self._add("Specimen", place, self._specimen(code, subject))
        self._add("Patient", 0, self._patient())
        self._add("Organization", 0, self._laboratory())
        self._add("Practitioner", 0, self._doctor())
        return {"resourceType": "Bundle", "type": "collection", "entry": self.entries}

    def _url(self, kind: str, place: int) -> str:
        kinds = (
            "DiagnosticReport", "Observation", "Specimen", "Patient", "Organization",
            "Practitioner",
        )  # fmt: skip
        tail = (self.number << 16) | (kinds.index(kind) << 12) | place
        return f"urn:uuid:00000000-0000-4000-8000-{tail:012x}"

    def _add(self, kind: str, place: int, content: dict[str, Any]) -> None:
        url = self._url(kind, place)
        head = {"resourceType": kind, "id": url.removeprefix("urn:uuid:"), "meta": _TEST_DATA}
        self.entries.append({"fullUrl": url, "resource": {**head, **content}})

    def _report(self, subject: dict[str, Any], specimens: list[str]) -> dict[str, Any]:
        plan = self.plan
        panel = PANELS[plan.panel]
        code, en, zh = plan.panel, panel.name_en, panel.name_zh
        if plan.imaging:
            code, en, zh = plan.lines[0].code, plan.lines[0].name_en, plan.lines[0].name_zh
        found: dict[str, Any] = {
            "status": plan.status,
            "category": [_concept(CATEGORY_SYSTEM, "RAD" if plan.imaging else "LAB")],
            "code": _concept(LOCAL_SYSTEM, code, en, zh),
            "subject": subject,
            **self._times(),
        }
        if not plan.imaging:
            found["result"] = [
                {"reference": self._url("Observation", place)}
                for place in range(1, len(plan.lines) + 1)
            ]
            found["specimen"] = [
                {"reference": self._url("Specimen", place)} for place in range(len(specimens))
            ]
        found["performer"] = [{"reference": self._url("Organization", 0)}]
        found["resultsInterpreter"] = [{"reference": self._url("Practitioner", 0)}]
        found["conclusion"] = f"{self.who.name_zh}:请结合临床。{'(更正)' * (self.version > 1)}"
        if plan.regions:
            found["extension"] = [_mark(plan.label, plan.regions)]
        return found

    def _times(self) -> dict[str, str]:
        plan = self.plan
        times = {"issued": moment(plan.issued)}
        if plan.examined:
            times["effectiveDateTime"] = moment(plan.examined)
        return times

    def _observation(
        self, line: Line, subject: dict[str, Any], specimen: dict[str, Any]
    ) -> dict[str, Any]:
        found: dict[str, Any] = {
            "status": line.status,
            "category": [_concept(OBSERVATION_CATEGORY, line.category)],
            "code": _concept(line.system, line.code, line.name_en, line.name_zh),
            "subject": subject,
            **self._times(),
            "specimen": specimen,
        }
        if line.method:
            found["method"] = _concept(METHOD_SYSTEM, line.method)
        if not line.high:
            found["valueCodeableConcept"] = _NEGATIVE
            if line.ranged:
                found["referenceRange"] = [{"text": "阴性 (negative)"}]
            return found
        found["valueQuantity"] = _quantity(line.value, line.unit)
        if line.ranged:
            limits = {"low": line.low, "high": line.high}
            found["referenceRange"] = [
                {name: _quantity(limit, line.unit) for name, limit in limits.items() if limit}
            ]
        return found

    def _specimen(self, code: str, subject: dict[str, Any]) -> dict[str, Any]:
        return {
            "status": "available",
            "type": _concept(SPECIMEN_SYSTEM, code),
            "subject": subject,
        }

    def _patient(self) -> dict[str, Any]:
        who = self.who
        return {
            "identifier": [{"system": PATIENT_SCHEME, "value": who.number}],
            "name": [
                {"use": "official", "text": who.name_zh},
                {"use": "usual", "text": who.name_en},
            ],
            "gender": who.gender,
            "birthDate": who.born,
        }

    def _laboratory(self) -> dict[str, Any]:
        hospital = self.plan.hospital
        return {
            "identifier": [{"system": LABORATORY_SCHEME, "value": self.plan.laboratory}],
            "name": f"{hospital.name_zh}检验科 ({hospital.name_en} laboratory)",
        }

    def _doctor(self) -> dict[str, Any]:
        return {"identifier": [{"system": CLINICIAN_SCHEME, "value": self.plan.author}]}


def moment(seconds: int) -> str:
    """A FHIR instant at +08:00."""
    return datetime.fromtimestamp(seconds + CHINA, UTC).strftime("%Y-%m-%dT%H:%M:%S+08:00")


def _concept(system: str, code: str, en: str = "", zh: str = "") -> dict[str, Any]:
    coding = {"system": system, "code": code}
    if en:
        coding["display"] = en
    return {"coding": [coding], "text": zh} if zh else {"coding": [coding]}


def _quantity(value: str, unit: str) -> dict[str, Any]:
    return {"value": f"#{value}#", "unit": unit, "system": UCUM, "code": unit}


def _mark(label: str, regions: list[str]) -> dict[str, Any]:
    return {
        "url": HR_MARK,
        "extension": [
            {"url": "label", "valueString": label},
            *({"url": "region", "valueCode": region} for region in regions),
        ],
    }
