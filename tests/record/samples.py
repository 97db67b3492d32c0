"""Small FHIR records for these tests, written out so that their bytes are known."""

from __future__ import annotations

import json
import random
from typing import Any

NAME = "欧阳测试甲"
FAMILY = "Quxwzyname"
PATIENT_ID = "330102199001019999"
PHONE = "13800009999"
SECRETS = (NAME, FAMILY, PATIENT_ID, PHONE)
"""Seeded personal data: none of it may show in an error."""

PATIENT_URL = "urn:uuid:00000000-0000-4000-8000-0000000000aa"


def patient() -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "id": "p1",
        "identifier": [
            {"system": "urn:oid:2.16.156.10011.1.3", "value": PATIENT_ID},
            {"system": "urn:mrn", "value": "MRN-77"},
        ],
        "name": [{"text": NAME, "family": FAMILY}],
        "telecom": [{"system": "phone", "value": PHONE}],
        "gender": "female",
        "birthDate": "1990-01-01",
    }


def observation(number: int = 1, **changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "resourceType": "Observation",
        "id": f"o{number}",
        "status": "final",
        "category": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/observation-category",
                        "code": "laboratory",
                    }
                ]
            }
        ],
        "code": {"coding": [{"system": "http://loinc.org", "code": f"{2822 + number}-3"}]},
        "subject": {"reference": PATIENT_URL},
        "effectiveDateTime": "2026-10-01T08:00:00+08:00",
        "issued": "2026-10-01T10:00:00+08:00",
        "valueQuantity": {
            "value": 4.10,
            "unit": "mmol/L",
            "system": "http://unitsofmeasure.org",
            "code": "mmol/L",
        },
        "referenceRange": [{"low": {"value": 3.5}, "high": {"value": 5.3}}],
    }
    found.update(changes)
    return {name: value for name, value in found.items() if value is not None}


def report(count: int = 2, **changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "resourceType": "DiagnosticReport",
        "id": "r1",
        "status": "final",
        "category": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/v2-0074",
                        "code": "LAB",
                    }
                ]
            }
        ],
        "code": {"coding": [{"system": "http://loinc.org", "code": "24323-8"}]},
        "subject": {"reference": PATIENT_URL},
        "effectiveDateTime": "2026-10-01T08:00:00+08:00",
        "issued": "2026-10-01T11:00:00+08:00",
        "result": [{"reference": url(f"o{n}")} for n in range(1, count + 1)],
        "conclusion": f"{NAME} ok",
    }
    found.update(changes)
    return {name: value for name, value in found.items() if value is not None}


def url(identity: str) -> str:
    if identity == "p1":
        return PATIENT_URL
    return f"urn:uuid:00000000-0000-4000-8000-{int.from_bytes(identity.encode()):012d}"


def bundle(*resources: dict[str, Any], **changes: Any) -> bytes:
    entries = [{"fullUrl": url(r["id"]), "resource": r} for r in resources]
    value = {"resourceType": "Bundle", "type": "collection", "entry": entries, **changes}
    # 4.1 is written with its trailing zero, to see that decimals keep their text.
    return json.dumps(value, ensure_ascii=False, indent=1).replace("4.1,", "4.10,").encode()


def panel(count: int = 2) -> bytes:
    return bundle(patient(), report(count), *(observation(n) for n in range(1, count + 1)))


class Entropy:
    """Seeded random bytes that never repeat."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)

    def __call__(self, length: int) -> bytes:
        return self._random.randbytes(length)

    def salt(self) -> bytes:
        return self(32)
