"""What an attestation needs, read out of the resources of one record. README.md states each rule.

Only codes, units, times, states and identifiers are read. Rules where FHIR leaves a choice:
- an item is an Observation with a value (or one that says why it has none); a panel that only
  groups others is not. A report without Observations is one item itself, of its own code;
- what an Observation lacks (category, performer, specimen, effective, issued, HR mark) it takes
  from its report; a specimen only where the report has exactly one;
- its status is the report's where the report is not fit for use: a final number inside a
  preliminary or withdrawn report is not final;
- everything must be about one patient, and that patient must have an identifier.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relay.errors import Invalid, Reason
from relay.record.facts import UCUM, Coding, Identifier, Item, Mark
from relay.record.scope import Scope, Target
from relay.record.structure import check_structure
from relay.record.times import effective, seconds

HR_MARK = "urn:lianqiao:fhir:hr-mark"
"""Extension on an Observation or its report: `label` (valueString), `region` (valueCode), 1..n."""
USABLE = frozenset(("final", "amended", "corrected", "appended"))
"""Report states that leave the state of each result to the result."""
MAX_REGIONS = 64

_REGION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.\-]{0,31}", re.ASCII)
_RESIDENT_ID = "urn:oid:2.16.156.10011.1.3"
"""Resident identity card number, as health data in mainland China name the scheme."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the door adds to the parts of a record."""

    items: tuple[Item, ...]
    status: str
    codes: tuple[Coding, ...]
    issued: int | None
    patient: tuple[Identifier, ...]


def extract(
    scope: Scope, targets: Sequence[Target], order: Mapping[int, int], schemes: Sequence[str]
) -> Facts:
    """The facts of a record. `targets[0]` is its report; `order` gives each part's index by id().

    Raises Invalid(RECORD_INVALID).
    """
    report = targets[0]
    patient = _patient(scope, report, schemes)
    observations = []
    for target in targets:
        _same_person(scope, report, target)
        if target.resource.get("resourceType") == "Observation" and not _groups(target.resource):
            observations.append(target)
    reader = _Reader(scope, report)
    return Facts(
        items=tuple(reader.item(target, order) for target in observations or (report,)),
        status=str(report.resource["status"]),
        codes=codings(report.resource.get("code")),
        issued=reader.issued,
        patient=patient,
    )


def _groups(observation: dict[str, Any]) -> bool:
    return "hasMember" in observation and not _value_type(observation)


class _Reader:
    """Reads items of one report, which stands in for what they lack."""

    def __init__(self, scope: Scope, report: Target) -> None:
        self.scope = scope
        self.report = report
        self.issued = _issued(report)
        self.examined = effective(report.resource, _where(report))
        self.mark = mark(report.resource, _where(report))
        self._known: dict[int, tuple[Identifier, ...]] = {}

    def item(self, target: Target, order: Mapping[int, int]) -> Item:
        """One item. Raises Invalid(RECORD_INVALID)."""
        resource, where = target.resource, _where(target)
        own = resource is not self.report.resource
        examined = effective(resource, where) if own else self.examined
        issued = _issued(target) if own else self.issued
        laboratories, authors = self._makers(target)
        quantity = resource.get("valueQuantity")
        ucum = isinstance(quantity, dict) and quantity.get("system") == UCUM
        return Item(
            part=order[id(target.located)],
            observation=own,
            codes=codings(resource.get("code")),
            status=self._status(resource),
            categories=_all_codings(resource.get("category"))
            or _all_codings(self.report.resource.get("category")),
            specimens=self._specimens(target),
            methods=codings(resource.get("method")),
            unit=str(quantity.get("code", "")) if ucum and isinstance(quantity, dict) else "",
            value_type=_value_type(resource) if own else "",
            examined=self.examined if examined is None else examined,
            issued=self.issued if issued is None else issued,
            laboratories=laboratories,
            authors=authors,
            reference_range=_has_range(resource),
            mark=mark(resource, where) or self.mark,
        )

    def _status(self, resource: dict[str, Any]) -> str:
        report = str(self.report.resource["status"])
        return str(resource["status"]) if report in USABLE else report

    def _specimens(self, target: Target) -> tuple[Coding, ...]:
        for source in (target, self.report):
            given = source.resource.get("specimen")
            references = given if isinstance(given, list) else [given] if given else []
            if len(references) == 1 and (found := _resolve(self.scope, source, references[0])):
                return codings(found.resource.get("type"))
        return ()

    def _makers(self, target: Target) -> tuple[tuple[Identifier, ...], tuple[Identifier, ...]]:
        """(laboratories, authors) by their identifiers; the report's where the item names none."""
        found: dict[str, list[Identifier]] = {"Organization": [], "Practitioner": []}
        for kind, identifiers in found.items():
            for source in (target, self.report):
                for name in ("performer", "resultsInterpreter"):
                    for reference in source.resource.get(name) or ():
                        identifiers += self._identify(source, reference, kind)
                if identifiers:
                    break
        return tuple(dict.fromkeys(found["Organization"])), tuple(
            dict.fromkeys(found["Practitioner"])
        )

    def _identify(self, source: Target, reference: Any, kind: str) -> list[Identifier]:
        target = _resolve(self.scope, source, reference)
        if target is None:
            logical = (
                identifier(reference.get("identifier")) if isinstance(reference, dict) else None
            )
            return [logical] if logical and _names(reference, kind) else []
        if target.resource.get("resourceType") == "PractitionerRole":
            inner = target.resource.get(kind.lower())
            return self._identify(target, inner, kind) if isinstance(inner, dict) else []
        if target.resource.get("resourceType") != kind:
            return []
        found = self._known.get(id(target.resource))
        if found is None:  # one laboratory makes all the items of a report
            found = self._known[id(target.resource)] = identifiers(target.resource)
        return list(found)


def _names(reference: dict[str, Any], kind: str) -> bool:
    """Whether an unresolved reference says, or at least does not deny, that it names a `kind`."""
    literal, stated = reference.get("reference"), reference.get("type")
    if isinstance(literal, str):
        return f"{kind}/" in literal
    return stated == kind


def _resolve(scope: Scope, source: Target, reference: Any) -> Target | None:
    literal = reference.get("reference") if isinstance(reference, dict) else None
    return scope.resolve(literal, source, "reference") if isinstance(literal, str) else None


def _where(target: Target) -> str:
    return f"{target.located.where}: {target.resource.get('resourceType')}"


def _issued(target: Target) -> int | None:
    if "issued" not in target.resource:
        return None
    return seconds(target.resource["issued"], f"{_where(target)}.issued")


def codings(concept: Any) -> tuple[Coding, ...]:
    """The codings of a CodeableConcept that have a code, in order."""
    inner = concept.get("coding") if isinstance(concept, dict) else None
    return tuple(
        Coding(str(coding.get("system", "")), coding["code"])
        for coding in (inner if isinstance(inner, list) else ())
        if isinstance(coding, dict) and isinstance(coding.get("code"), str)
    )


def _all_codings(concepts: Any) -> tuple[Coding, ...]:
    return tuple(
        coding
        for concept in (concepts if isinstance(concepts, list) else ())
        for coding in codings(concept)
    )


def _value_type(resource: dict[str, Any]) -> str:
    """`Quantity`, `CodeableConcept` …: the type of value[x]; `component`; empty where absent."""
    for name in resource:
        if name.startswith("value") and name[5:6].isupper():
            return name[5:]
    components = resource.get("component")
    if any(_value_type(c) for c in components or () if isinstance(c, dict)):
        return "component"
    return ""


def _has_range(resource: dict[str, Any]) -> bool:
    ranges = resource.get("referenceRange")
    if isinstance(ranges, list) and any(
        isinstance(r, dict) and not r.keys().isdisjoint(("low", "high", "text")) for r in ranges
    ):
        return True
    components = [c for c in resource.get("component") or () if isinstance(c, dict)]
    return bool(components) and all(_has_range(c) for c in components)


def mark(resource: dict[str, Any], where: str) -> Mark | None:
    """The HR mark that a resource carries by the extension HR_MARK, or None.

    Raises Invalid(RECORD_INVALID) where there are two, or one is not as README.md says: a mark that
    is half there must not pass for no mark, nor for a wide one.
    """
    found = [
        e
        for e in resource.get("extension") or ()
        if isinstance(e, dict) and e.get("url") == HR_MARK
    ]
    if not found:
        return None
    labels, regions = [], []
    inner = found[0].get("extension")
    for part in inner if isinstance(inner, list) else ():
        if isinstance(part, dict) and part.get("url") == "label":
            labels.append(part.get("valueString"))
        elif isinstance(part, dict) and part.get("url") == "region":
            regions.append(part.get("valueCode"))
    if (
        len(found) != 1
        or len(labels) != 1
        or not isinstance(labels[0], str)
        or not 1 <= len(labels[0]) <= 64
        or not 1 <= len(regions) <= MAX_REGIONS
        or not all(isinstance(r, str) and _REGION.fullmatch(r) for r in regions)
    ):
        raise Invalid(
            Reason.RECORD_INVALID,
            "the HR mark is not as its extension is defined",
            hint=f"{where}.extension: one {HR_MARK} with one label and 1-{MAX_REGIONS} regions",
        )
    return Mark(labels[0], tuple(sorted({str(r) for r in regions})))


def identifier(value: Any) -> Identifier | None:
    """An Identifier with both system and value, else None."""
    if not isinstance(value, dict):
        return None
    system, text = value.get("system"), value.get("value")
    if isinstance(system, str) and isinstance(text, str) and system and text:
        return Identifier(system, text)
    return None


def identifiers(resource: dict[str, Any]) -> tuple[Identifier, ...]:
    """The identifiers of a resource, official ones first; old ones are left out."""
    listed = resource.get("identifier")
    given = [i for i in (listed if isinstance(listed, list) else ()) if isinstance(i, dict)]
    given = [i for i in given if i.get("use") != "old"]
    given.sort(key=lambda i: i.get("use") != "official")
    return tuple(dict.fromkeys(found for i in given if (found := identifier(i)) is not None))


def _patient(scope: Scope, report: Target, schemes: Sequence[str]) -> tuple[Identifier, ...]:
    subject = report.resource.get("subject")
    found: list[Identifier] = []
    if isinstance(subject, dict):
        target = _resolve(scope, report, subject)
        if target is not None and target.resource.get("resourceType") == "Patient":
            located = target.located
            check_structure(located.resource, located.content, located.where)
            found += identifiers(target.resource)
        elif (logical := identifier(subject.get("identifier"))) is not None:
            found.append(logical)
    if not found:
        raise Invalid(
            Reason.RECORD_INVALID,
            "the patient has no identifier with a system",
            hint=f"{_where(report)}.subject: hand over the Patient, or give subject.identifier",
            field="DiagnosticReport.subject",
        )
    rank = {scheme: index for index, scheme in enumerate((*schemes, _RESIDENT_ID))}
    found.sort(key=lambda i: rank.get(i.scheme, len(rank)))
    return tuple(found)


def _same_person(scope: Scope, report: Target, target: Target) -> None:
    """A part about someone else refuses the record: a mix-up is worse than a missing result."""
    subject, other = report.resource.get("subject"), target.resource.get("subject")
    if not isinstance(other, dict) or not isinstance(subject, dict):
        return
    if "reference" in subject and "reference" in other:
        ours, theirs = _resolve(scope, report, subject), _resolve(scope, target, other)
        if ours is not None and theirs is not None:
            same = ours.resource is theirs.resource
        else:
            same = subject["reference"] == other["reference"]
    else:
        same = (
            identifier(subject.get("identifier")) == identifier(other.get("identifier"))
            or "identifier" not in subject
            or "identifier" not in other
        )
    if not same:
        raise Invalid(
            Reason.RECORD_INVALID,
            "a part is about another patient than the report",
            hint=f"{_where(target)}.subject",
        )
