"""Which references make a record, as one table; the rest of FHIR's references lead out of it.

*required*: content of the report; without it the record is not whole, and a dangling one refuses
it. *taken along*: who and what produced it; a part where it was handed over. Not followed at all:
subject, encounter, basedOn and others that tell about the person rather than the result; delivering
them would give a requester more than the result he asked for (the patient is bound by the patient
reference instead). The reading that extract does of `subject` makes no part.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_WHO = ("Practitioner", "PractitionerRole", "Organization", "CareTeam", "Patient", "RelatedPerson")
_MAKERS = _WHO[:3]


@dataclass(frozen=True, slots=True)
class _Rule:
    kinds: tuple[str, ...]
    """Resource types the target may have; another type refuses the record."""
    required: bool
    literal: bool = False
    """A mere `display` or `identifier` will not do."""


_RULES: dict[str, dict[str, _Rule]] = {
    "DiagnosticReport": {
        "result": _Rule(("Observation",), required=True, literal=True),
        "specimen": _Rule(("Specimen",), required=True),
        "imagingStudy": _Rule(("ImagingStudy",), required=True),
        "media": _Rule(("Media",), required=True),
        "performer": _Rule(_WHO[:4], required=False),
        "resultsInterpreter": _Rule(_WHO[:4], required=False),
    },
    "Observation": {
        "hasMember": _Rule(
            ("Observation", "QuestionnaireResponse", "MolecularSequence"),
            required=True,
            literal=True,
        ),
        "specimen": _Rule(("Specimen",), required=True),
        "performer": _Rule(_WHO, required=False),
        "device": _Rule(("Device", "DeviceMetric"), required=False),
        "derivedFrom": _Rule((), required=False),
    },
    "PractitionerRole": {
        "practitioner": _Rule(("Practitioner",), required=False),
        "organization": _Rule(("Organization",), required=False),
    },
}
_NEVER_PARTS = frozenset(("Patient", "RelatedPerson"))
"""An Observation may be performed by the patient himself; he is no part of his record."""


@dataclass(frozen=True, slots=True)
class Link:
    """One reference found in a resource."""

    field: str
    reference: dict[str, Any]
    kinds: tuple[str, ...]
    required: bool
    literal: bool


def links(resource: dict[str, Any]) -> Iterator[Link]:
    """The references of a resource that make parts, in the order in which the bytes hold them."""
    kind = resource.get("resourceType")
    rules = _RULES.get(kind, {}) if isinstance(kind, str) else {}
    for name, value in resource.items():
        rule = rules.get(name)
        if rule is None:
            continue
        for reference in value if isinstance(value, list) else (value,):
            if name == "media" and isinstance(reference, dict):
                reference = reference.get("link")
            if isinstance(reference, dict):
                yield Link(f"{kind}.{name}", reference, rule.kinds, rule.required, rule.literal)


def is_part(kind: object) -> bool:
    """Whether a resource of this type is ever a part of a record."""
    return kind not in _NEVER_PARTS
