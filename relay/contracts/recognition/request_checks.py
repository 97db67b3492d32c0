"""The checks that are the same for every item of a request: SRC_AUTH, PERSON, CONSENT."""

from __future__ import annotations

from collections.abc import Iterable

from relay.contracts.base import CLOCK_DRIFT, signed
from relay.contracts.civil import day
from relay.contracts.codes import Code, Detail, Finding
from relay.contracts.payloads import Signer
from relay.contracts.policy.snapshot import Policy
from relay.contracts.policy.values import key_holds
from relay.contracts.recognition.case import Case


def request_findings(case: Case) -> list[Finding]:
    """SRC_AUTH, PERSON and CONSENT as far as they are the same for every item."""
    return [
        *(Finding(Code.SRC_AUTH, detail) for detail in _source(case)),
        *(Finding(Code.PERSON, detail) for detail in _person(case)),
        *(Finding(Code.CONSENT, detail) for detail in _consent(case)),
    ]


def _source(case: Case) -> Iterable[Detail]:
    attestation, source = case.attestation, case.source
    if attestation is None:
        yield Detail.UNKNOWN_RECORD
        return
    if source is None:
        yield Detail.UNKNOWN_INSTITUTION
    elif source.ledger != attestation.ledger:
        yield Detail.OTHER_LEDGER
    elif not key_holds(
        source.keys, attestation.algorithm, attestation.key, attestation.issued, case.recorded
    ):
        yield Detail.KEY
    if case.revised:
        yield case.revised


def clinician_findings(
    policy: Policy, institution: str, clinician: str, algorithm: str, key: bytes, time: int
) -> list[Detail]:
    """Whether a clinician of that institution, licensed then, holds that key; else why not."""
    known = policy.clinicians.get(clinician)
    if (
        known is None
        or known.institution != institution
        or not key_holds(known.keys, algorithm, key, time)
    ):
        return [Detail.CLINICIAN]
    return [] if known.licence.holds(day(time)) else [Detail.CLINICIAN_LICENCE]


def _person(case: Case) -> Iterable[Detail]:
    request = case.request
    yield from clinician_findings(
        case.policy,
        request.institution,
        request.clinician,
        request.algorithm,
        request.key,
        request.time,
    )
    if not signed(request.algorithm, request.key, request.signing_bytes(), request.signature):
        yield Detail.STATEMENT
    oldest, youngest = case.now - case.rule.statement_seconds, case.now + CLOCK_DRIFT
    if not oldest <= request.time <= youngest:
        yield Detail.STATEMENT_TIME
    if case.attestation is not None and case.attestation.patient != request.patient:
        yield Detail.PATIENT


def _consent(case: Case) -> Iterable[Detail]:
    request, consent, signers = case.request, case.request.consent, case.rule.consent_signers
    if not signed(consent.algorithm, consent.key, consent.signing_bytes(), consent.signature):
        yield Detail.SIGNATURE
    if consent.signer is Signer.PATIENT:
        accepted = "patient" in signers
    else:
        known = case.policy.institutions.get(consent.signed_by)
        accepted = (
            known is not None
            and not signers.isdisjoint({"institution", consent.signed_by})
            and key_holds(known.keys, consent.algorithm, consent.key, case.now)
        )
    if not accepted:
        yield Detail.SIGNER
    if consent.grantee != request.institution:
        yield Detail.GRANTEE
    if not consent.start <= case.now < consent.end:
        yield Detail.PERIOD
    if request.purpose not in consent.purposes or request.purpose not in case.rule.purposes:
        yield Detail.PURPOSE
    if request.commitment not in consent.records and request.patient not in consent.patients:
        yield Detail.COVERAGE
