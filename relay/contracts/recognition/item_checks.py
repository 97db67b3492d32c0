"""The checks of one item, each by its code; DOMAIN §1 is their source."""

from __future__ import annotations

from collections.abc import Sequence

from relay.contracts.base import CLOCK_DRIFT
from relay.contracts.civil import day
from relay.contracts.codes import Code, Detail
from relay.contracts.payloads import AttestedItem, Setting, Status, scope_of
from relay.contracts.policy.snapshot import Catalogue, Policy
from relay.contracts.policy.values import CatalogueItem, LevelRule
from relay.contracts.recognition.case import Case, Notes

USABLE_STATUS = frozenset({Status.FINAL, Status.AMENDED, Status.CORRECTED, Status.APPENDED})
EXACT = frozenset({"equal", "equivalent"})
WIDER = frozenset({"wider", "subsumes"})
"""FHIR R4: the target means more than the source, so nothing is lost but precision."""


def check_item(case: Case, item: AttestedItem, entry: CatalogueItem | None, notes: Notes) -> None:
    """Notes what speaks against one attested item; `entry` is what `find_entry` gave."""
    if item.status not in USABLE_STATUS:
        notes.refuse(Code.STATUS)
    if item.part == 0:
        notes.refuse(Code.TYPE, Detail.CONCLUSION)
    elif item.category not in case.rule.categories:
        notes.refuse(Code.TYPE, Detail.CATEGORY)
    _mark(case, item, notes)
    _level(case, notes)
    if not item.examined or not item.issued:
        notes.refuse(Code.AGE, Detail.TIME_MISSING)
    else:
        _age(case, item, entry, notes)
        if entry is not None:
            _quality(case, item, entry, notes)
    _issuers(case, item, notes)
    if entry is not None and entry.units:
        if item.unit not in entry.units:
            notes.refuse(Code.UNIT, Detail.NOT_CONVERTIBLE)
        if not item.reference_range:
            notes.refuse(Code.UNIT, Detail.REFERENCE_RANGE)
    names = {scope_of(item.system, item.code), *(entry.codes if entry else ())}
    if names.isdisjoint(case.request.consent.scope):
        notes.refuse(Code.CONSENT, Detail.SCOPE)


def find_entry(case: Case, item: AttestedItem, notes: Notes) -> CatalogueItem | None:
    """The catalogue item that `item` is, in force now and at issue; notes CATALOGUE otherwise."""
    names = case.rule.catalogues
    current = [c for name in names if (c := case.policy.catalogues.get(name)) is not None]
    entries, wider, inexact = _listed(case.policy, current, scope_of(item.system, item.code))
    if not entries:
        notes.refuse(Code.CATALOGUE, Detail.MAPPING if inexact else Detail.NOT_LISTED)
        return None
    specimen = [entry for entry in entries if item.specimen in entry.specimens]
    method = [entry for entry in specimen if _method_matches(entry, item)]
    if not method:
        notes.refuse(Code.CATALOGUE, Detail.METHOD if specimen else Detail.SPECIMEN)
        return None
    entry = method[0]
    if any(other.item != entry.item for other in method):
        notes.refuse(Code.CATALOGUE, Detail.AMBIGUOUS)
        return None
    if item.issued:
        then = (c.by_item.get(entry.item) for c in case.at_issue(item.issued))
        if not any(e and item.specimen in e.specimens and _method_matches(e, item) for e in then):
            notes.refuse(Code.CATALOGUE, Detail.NOT_LISTED_AT_ISSUE)
    if wider:
        notes.flag(Code.MAP_WIDER)
    return entry


def _method_matches(entry: CatalogueItem, item: AttestedItem) -> bool:
    return not entry.methods or item.method in entry.methods


def _listed(
    policy: Policy, catalogues: Sequence[Catalogue], name: str
) -> tuple[list[CatalogueItem], bool, bool]:
    """(entries for a code, whether by a wider target, whether there were only inexact targets).

    A canonical code needs no map. A local one may have several targets (n:m): exact ones count, and
    only where there is none those that are wider.
    """

    def entries(codes: Sequence[str]) -> list[CatalogueItem]:
        return [e for c in catalogues for code in codes for e in c.by_code.get(code, ())]

    found = entries((name,))
    if found:
        return found, False, False
    targets = policy.mappings.get(name, ())
    found = entries([target.code for target in targets if target.equivalence in EXACT])
    if found:
        return found, False, False
    found = entries([target.code for target in targets if target.equivalence in WIDER])
    return found, bool(found), bool(targets)


def _mark(case: Case, item: AttestedItem, notes: Notes) -> None:
    marks = item.scope
    if not marks:
        notes.refuse(Code.MARK, Detail.NO_MARK)
    elif not case.rule.accepted_marks.isdisjoint(marks):
        return
    elif not case.policy.marks_cover(marks, case.receiver):
        city = all(_is_city(mark) for mark in marks)
        notes.refuse(Code.MARK, Detail.CITY if city else Detail.REGION)


def _is_city(mark: str) -> bool:
    """Whether a mark is a GB/T 2260 code below a province (its last four digits are not 0000)."""
    return len(mark) == 6 and mark.isdigit() and mark[2:] != "0000"


def _level(case: Case, notes: Notes) -> None:
    source, rule = case.source, case.rule.level
    if source is None or rule is LevelRule.ANY or source.level >= case.receiver.level:
        return
    together = not source.leagues.isdisjoint(case.receiver.leagues)
    if rule is LevelRule.NOT_LOWER or not together:
        notes.refuse(Code.LEVEL)


def _quality(case: Case, item: AttestedItem, entry: CatalogueItem, notes: Notes) -> None:
    """A pass must cover the day of examination and no fail may; a fail in a later cycle is told."""
    examined, today = day(item.examined), day(case.now)
    bodies = case.rule.qc_bodies
    where = (item.laboratory, entry.item)
    known = [a for a in case.policy.assessments.get(where, ()) if not bodies or a.body in bodies]
    covering = [a for a in known if a.period.holds(examined)]
    if not covering or not all(a.passed for a in covering):
        notes.refuse(Code.QC, Detail.EQA)
    controls = [c for c in case.policy.controls.get(where, ()) if c.period.holds(examined)]
    if not all(c.in_control for c in controls) or (case.rule.iqc_required and not controls):
        notes.refuse(Code.QC, Detail.IQC)
    if any(not a.passed and examined < a.period.first <= today for a in known):
        notes.flag(Code.QC_LATER_FAIL)


def _age(case: Case, item: AttestedItem, entry: CatalogueItem | None, notes: Notes) -> None:
    if item.issued > case.now + CLOCK_DRIFT or item.examined > item.issued:
        notes.refuse(Code.AGE, Detail.FUTURE)
        return
    if entry is None:
        return  # no item, so no rule of how old it may be
    inpatient, outpatient = case.rule.item_max_age.get(entry.item, case.rule.max_age)
    most = inpatient if case.request.setting is Setting.INPATIENT else outpatient
    if day(case.now) - day(item.issued) > most:
        notes.refuse(Code.AGE, Detail.TOO_OLD)


def _issuers(case: Case, item: AttestedItem, notes: Notes) -> None:
    """Licences of the laboratory at the examination and of a named doctor at issue."""
    licence = case.policy.laboratories.get(item.laboratory)
    if licence is None or (item.examined and not licence.holds(day(item.examined))):
        notes.refuse(Code.PERSON, Detail.LABORATORY)
    if item.author and case.attestation is not None:
        author = case.policy.clinicians.get(item.author)
        if (
            author is None
            or author.institution != case.attestation.institution
            or (item.issued and not author.licence.holds(day(item.issued)))
        ):
            notes.refuse(Code.PERSON, Detail.AUTHOR)
