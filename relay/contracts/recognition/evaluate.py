"""Whether an item is recognised: the list of DOMAIN §1, each check with its frozen code.

    SRC_AUTH   the institution is accredited, its own ledger speaks for it, its key was valid; the
               record was proven here, and no revision or retraction of it was
    STATUS     final, amended, corrected or appended
    TYPE       an attested result of a category that the region recognises; never the report itself
    CATALOGUE  listed now and at issue, with specimen and method; local codes through a ConceptMap
    MARK       the HR scope, as a set, contains the receiver's region
    LEVEL      the source institution's level, by the region's rule
    QC         external assessment passed on the day of examination, internal control in control
    AGE        days between issue and use in Shanghai dates, both ends included
    PERSON     requester, clinician, statement, patient reference, issuing doctor, laboratory
    UNIT       convertible, and a reference range is carried
    CONSENT    signature, signer, grantee, period, purpose, coverage, scope

Everything that can be judged is judged, so that one answer names every reason, in that order. All
inputs are in a `Case`; nothing is read here, and the same case gives the same decision for ever.
"""

from __future__ import annotations

from relay.contracts.codes import Code, Detail, Finding, Verdict
from relay.contracts.payloads import AttestedItem, ItemDecision
from relay.contracts.recognition.case import Case, Notes
from relay.contracts.recognition.item_checks import check_item, find_entry
from relay.contracts.recognition.request_checks import request_findings

_ORDER = {code: place for place, code in enumerate(Code)}


def evaluate(case: Case) -> tuple[ItemDecision, ...]:
    """The decision on each requested part, in ascending order."""
    common = request_findings(case)
    items = {item.part: item for item in case.attestation.items} if case.attestation else {}
    return tuple(_decide(case, part, items.get(part), common) for part in case.request.parts)


def _decide(
    case: Case, part: int, item: AttestedItem | None, common: list[Finding]
) -> ItemDecision:
    notes = Notes(list(common), [Finding(Code.CONSENT_ASSERTED)])
    entry = None
    if item is not None:
        entry = find_entry(case, item, notes)
        check_item(case, item, entry, notes)
    elif case.attestation is not None:
        notes.refuse(Code.TYPE, Detail.CONCLUSION if part == 0 else Detail.NOT_AN_ITEM)
    name = entry.item if entry else ""
    if notes.reasons:
        reasons = tuple(sorted(notes.reasons, key=lambda f: _ORDER[f.code]))
        return ItemDecision(part, name, Verdict.NOT_ELIGIBLE, reasons, ())
    return ItemDecision(part, name, Verdict.RECOGNISED_WITH_FLAG, (), tuple(notes.flags))
