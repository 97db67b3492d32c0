"""Policy documents: the rules of recognition as versioned data, never as code.

Every document is one JSON object (RFC 8785 when loaded; `lianqiao policy load` takes any layout):

    kind, name, version (1…), effective_from (seconds), provenance (where its facts come from)

and by kind:

    catalogue       items: [{item, name: {en, zh}, category, codes: ["system|code"], specimens,
                    methods, units}]                   empty methods: any; empty units: no quantity
    accreditations  institutions: [{id, ledger, regions (narrowest first), level (0-99), leagues,
                    keys: [{algorithm, key (hex), start, end}]}]
                    laboratories: [{id, first, last}]                       dates, both included
    quality         eqa: [{laboratory, body, cycle, result: pass|fail, first, last, items}]
                    iqc: [{laboratory, state: in|out, first, last, items}]
    clinicians      clinicians: [{id, institution, first, last, keys}]
    rules           agreements: [{id, members}]
                    regions: [{region, catalogues, categories, purposes, accepted_marks, level,
                    qc_bodies, iqc_required, max_age_days: {inpatient, outpatient},
                    item_max_age_days: [{item, inpatient, outpatient}], head_seconds,
                    statement_seconds, grant_seconds, consent_signers}]
    conceptmap      rows: [{source: "system|code", target: "system|code", equivalence}]
                    equivalence as in FHIR R4, read from target to source (`wider`: the target is)

Keys of small order are refused (WEAK_KEY). A document is at most 1 MiB; larger lists are split by
name (a province, a city). Within one document an id stands once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any

from relay.canonical import MAX_BYTES, Json
from relay.contracts.payloads import Purpose, fields
from relay.contracts.payloads.fields import Object, refuse
from relay.contracts.policy.readers import coded, many, once, period, read_keys, text
from relay.contracts.policy.values import (
    Assessment,
    CatalogueItem,
    Clinician,
    Control,
    Document,
    Institution,
    Kind,
    LevelRule,
    Licence,
    RegionRule,
    Target,
)

MAX_POLICY_BYTES = MAX_BYTES
MAX_ROWS = 20_000
MAX_DAYS = 36_500
DEFAULT_HEAD_SECONDS = 600
"""What a rule should say where nothing speaks for another value (DESIGN §7)."""
EQUIVALENCES = fields.names(
    "relatedto equivalent equal wider subsumes narrower specializes inexact unmatched disjoint"
)
_COMMON = fields.names("kind name version effective_from provenance")


def _item(value: Json) -> CatalogueItem:
    body = fields.members(
        value, fields.names("item name category codes specimens methods units"), "item"
    )
    name = fields.members(body["name"], ("en", "zh"), "name")
    return CatalogueItem(
        item=fields.identifier(body, "item"),
        name_en=text(name, "en", 120),
        name_zh=text(name, "zh", 120),
        category=fields.code(body, "category"),
        codes=many(body, "codes", coded),
        specimens=many(body, "specimens", fields.code),
        methods=many(body, "methods", fields.code),
        units=many(body, "units", fields.code),
    )


def _institution(value: Json) -> Institution:
    body = fields.members(
        value, fields.names("id ledger regions level leagues keys"), "institution"
    )
    return Institution(
        id=fields.identifier(body, "id"),
        ledger=fields.identifier(body, "ledger"),
        regions=many(body, "regions", fields.identifier),
        level=fields.integer(body, "level", 0, 99),
        leagues=frozenset(many(body, "leagues", fields.identifier)),
        keys=read_keys(body),
    )


def _laboratory(value: Json) -> tuple[str, Licence]:
    body = fields.members(value, ("id", "first", "last"), "laboratory")
    return fields.identifier(body, "id"), period(body)


def _clinician(value: Json) -> Clinician:
    body = fields.members(value, fields.names("id institution first last keys"), "clinician")
    return Clinician(
        fields.identifier(body, "id"),
        fields.identifier(body, "institution"),
        period(body),
        read_keys(body),
    )


def _chosen(value: Object, field: str, words: tuple[str, str]) -> bool:
    """Whether the first of two words stands there."""
    if value[field] not in words:
        refuse(field, f"must be {words[0]} or {words[1]}")
    return value[field] == words[0]


def _eqa(value: Json) -> list[tuple[tuple[str, str], Assessment]]:
    names = fields.names("laboratory body cycle result first last items")
    body = fields.members(value, names, "eqa")
    laboratory = fields.identifier(body, "laboratory")
    found = Assessment(
        fields.identifier(body, "body"),
        fields.identifier(body, "cycle"),
        _chosen(body, "result", ("pass", "fail")),
        period(body),
    )
    return [((laboratory, item), found) for item in many(body, "items", fields.identifier)]


def _iqc(value: Json) -> list[tuple[tuple[str, str], Control]]:
    body = fields.members(value, fields.names("laboratory state first last items"), "iqc")
    laboratory = fields.identifier(body, "laboratory")
    found = Control(_chosen(body, "state", ("in", "out")), period(body))
    return [((laboratory, item), found) for item in many(body, "items", fields.identifier)]


def _ages(body: Object) -> tuple[int, int]:
    return (
        fields.integer(body, "inpatient", 0, MAX_DAYS),
        fields.integer(body, "outpatient", 0, MAX_DAYS),
    )


def _item_ages(value: Json) -> tuple[str, tuple[int, int]]:
    body = fields.members(value, ("item", "inpatient", "outpatient"), "item_max_age_days")
    return fields.identifier(body, "item"), _ages(body)


_REGION = fields.names(
    "region catalogues categories purposes accepted_marks level qc_bodies iqc_required "
    "max_age_days item_max_age_days head_seconds statement_seconds grant_seconds consent_signers"
)


def _region(value: Json) -> RegionRule:
    body = fields.members(value, _REGION, "region")
    ages = fields.members(body["max_age_days"], ("inpatient", "outpatient"), "max_age_days")
    by_item = fields.sequence(body, "item_max_age_days", _item_ages, 2000)
    once((item for item, _ in by_item), "item_max_age_days")
    purposes = many(body, "purposes", lambda v, f: fields.word(v, f, Purpose).value)
    return RegionRule(
        region=fields.identifier(body, "region"),
        catalogues=many(body, "catalogues", fields.name),
        categories=frozenset(many(body, "categories", fields.code)),
        purposes=frozenset(purposes),
        accepted_marks=frozenset(many(body, "accepted_marks", fields.identifier)),
        level=fields.word(body, "level", LevelRule),
        qc_bodies=frozenset(many(body, "qc_bodies", fields.identifier)),
        iqc_required=fields.boolean(body, "iqc_required"),
        max_age=_ages(ages),
        item_max_age=dict(by_item),
        head_seconds=fields.integer(body, "head_seconds", 1, 86_400),
        statement_seconds=fields.integer(body, "statement_seconds", 1, 30 * 86_400),
        grant_seconds=fields.integer(body, "grant_seconds", 1, 366 * 86_400),
        consent_signers=frozenset(many(body, "consent_signers", fields.identifier)),
    )


def _agreement(value: Json) -> tuple[str, frozenset[str]]:
    body = fields.members(value, ("id", "members"), "agreement")
    return fields.identifier(body, "id"), frozenset(many(body, "members", fields.identifier))


def _row(value: Json) -> tuple[str, Target]:
    body = fields.members(value, ("source", "target", "equivalence"), "row")
    if not isinstance(body["equivalence"], str) or body["equivalence"] not in EQUIVALENCES:
        refuse("equivalence", f"must be one of {', '.join(sorted(EQUIVALENCES))}")
    return coded(body, "source"), Target(coded(body, "target"), str(body["equivalence"]))


def _flat(groups: Iterable[list[Any]]) -> tuple[Any, ...]:
    return tuple(row for group in groups for row in group)


def _members_of(kind: Kind, body: Object) -> dict[str, tuple[Any, ...]]:
    """The lists of one kind, as the fields of Document that they fill."""

    def rows(field: str, read: Callable[[Json], Any]) -> tuple[Any, ...]:
        return fields.sequence(body, field, read, MAX_ROWS)

    if kind is Kind.CATALOGUE:
        found = {"items": rows("items", _item)}
    elif kind is Kind.ACCREDITATIONS:
        found = {
            "institutions": rows("institutions", _institution),
            "laboratories": rows("laboratories", _laboratory),
        }
    elif kind is Kind.QUALITY:
        return {"assessments": _flat(rows("eqa", _eqa)), "controls": _flat(rows("iqc", _iqc))}
    elif kind is Kind.CLINICIANS:
        found = {"clinicians": rows("clinicians", _clinician)}
    elif kind is Kind.RULES:
        found = {"regions": rows("regions", _region), "agreements": rows("agreements", _agreement)}
    else:
        found = {"mappings": rows("rows", _row)}
    for field, values in found.items():
        once((names_of(value) for value in values), field)
    return found


def names_of(value: Any) -> Hashable:
    """What identifies one row of a document: unique in it, and among documents of its kind."""
    if isinstance(value, CatalogueItem):
        return value.item
    if isinstance(value, Institution | Clinician):
        return value.id
    if isinstance(value, RegionRule):
        return value.region
    if isinstance(value[1], Target):
        return value[0], value[1].code
    name: str = value[0]
    return name


_LISTS = {
    Kind.CATALOGUE: ("items",),
    Kind.ACCREDITATIONS: ("institutions", "laboratories"),
    Kind.QUALITY: ("eqa", "iqc"),
    Kind.CLINICIANS: ("clinicians",),
    Kind.RULES: ("agreements", "regions"),
    Kind.CONCEPTMAP: ("rows",),
}


def parse_document(raw: bytes) -> Document:
    """The document in canonical bytes. Raises Malformed, or Invalid(WEAK_KEY)."""
    body = fields.document(raw, MAX_POLICY_BYTES)
    if "kind" not in body:
        refuse("kind", f"must be one of {', '.join(Kind)}")
    kind = fields.word(body, "kind", Kind)
    fields.members(body, _COMMON | set(_LISTS[kind]), f"policy {kind}")
    text(body, "provenance", 2000)
    return Document(
        kind=kind,
        name=fields.name(body, "name"),
        version=fields.integer(body, "version", 1, 99_999_999),
        effective_from=fields.integer(body, "effective_from"),
        **_members_of(kind, body),
    )
