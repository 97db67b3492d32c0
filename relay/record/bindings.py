"""Required value sets of FHIR R4 for the resources that are read here, as one table.

fhirkit checks structure and datatypes but no bindings: a status of "bogus" passes it. The sets
below are those of FHIR R4 4.0.1 with binding strength *required*, copied as facts from the
definition of each element (`StructureDefinition` and `ValueSet` of hl7.org/fhir/R4).
"""

from __future__ import annotations

from typing import Any

from relay.errors import Invalid, Reason


def _codes(names: str) -> frozenset[str]:
    return frozenset(names.split())


_OBSERVATION_STATUS = _codes(
    "registered preliminary final amended corrected cancelled entered-in-error unknown"
)
_REPORT_STATUS = _OBSERVATION_STATUS | {"partial", "appended"}
_EVENT_STATUS = _codes(
    "preparation in-progress not-done on-hold stopped completed entered-in-error unknown"
)
_GENDER = _codes("male female other unknown")
_IDENTIFIER_USE = _codes("usual official temp secondary old")
_NARRATIVE = _codes("generated extensions additional empty")
_COMPARATOR = frozenset(("<", "<=", ">=", ">"))

BINDINGS: dict[str, dict[str, frozenset[str]]] = {
    "DiagnosticReport": {
        "status": _REPORT_STATUS,
        "text.status": _NARRATIVE,
        "identifier.use": _IDENTIFIER_USE,
    },
    "Observation": {
        "status": _OBSERVATION_STATUS,
        "text.status": _NARRATIVE,
        "identifier.use": _IDENTIFIER_USE,
        "valueQuantity.comparator": _COMPARATOR,
        "component.valueQuantity.comparator": _COMPARATOR,
    },
    "Specimen": {"status": _codes("available unavailable unsatisfactory entered-in-error")},
    "ImagingStudy": {"status": _codes("registered available cancelled entered-in-error unknown")},
    "Media": {"status": _EVENT_STATUS},
    "Device": {"status": _codes("active inactive entered-in-error unknown")},
    "Patient": {
        "gender": _GENDER,
        "identifier.use": _IDENTIFIER_USE,
        "link.type": _codes("replaced-by replaces refer seealso"),
    },
    "Practitioner": {"gender": _GENDER, "identifier.use": _IDENTIFIER_USE},
    "Organization": {"identifier.use": _IDENTIFIER_USE},
    "Bundle": {
        "type": _codes(
            "document message transaction transaction-response batch batch-response history "
            "searchset collection"
        )
    },
}
"""Resource type → element path without indices → the codes that may stand there."""


def check_bindings(resource: dict[str, Any], where: str) -> None:
    """Checks the required bindings of one resource, and of those it contains.

    Raises Invalid(RECORD_INVALID) naming the element (never its value).
    """
    kind = resource.get("resourceType")
    for path, codes in BINDINGS.get(str(kind), {}).items():
        for value in _values(resource, path.split(".")):
            if not isinstance(value, str) or value not in codes:
                raise Invalid(
                    Reason.RECORD_INVALID,
                    f"{kind}.{path} is outside its required value set",
                    hint=f"{where}: one of {', '.join(sorted(codes))}",
                    field=f"{kind}.{path}",
                )
    contained = resource.get("contained")
    for index, inner in enumerate(contained if isinstance(contained, list) else ()):
        if isinstance(inner, dict):
            check_bindings(inner, f"{where} contained[{index}]")


def _values(value: Any, path: list[str]) -> list[Any]:
    """Every value at a path, arrays flattened; what is absent gives nothing."""
    found = [value]
    for name in path:
        inner = [item.get(name) for item in found if isinstance(item, dict)]
        found = []
        for item in inner:
            found += item if isinstance(item, list) else [] if item is None else [item]
    return found
