"""The rest of the story: records are found, what was granted is delivered, outcomes are reported.

Two ways lead an asking hospital to a record: the patient brings the card that he was given at
attestation, or the hospital asks the source with his consent. Every eighth patient here forgot his
card.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import count

from relay.contracts.codes import Reexamination
from relay.contracts.payloads import Consent, ItemOutcome, Outcome, Purpose, Result, Role, Signer
from relay.demo.hospitals import DAY
from relay.demo.side_by_side import side_by_side
from relay.demo.stage import ASKING, SOURCE, Stage
from relay.demo.story import RECEIVER, WAIT_SECONDS, Case, Progress, waited
from relay.disclosure.asks import MAX_FETCHES, Fetch, Fetched, FindQuery, Withheld
from relay.errors import Invalid, Reason
from relay.keys import SigningKey
from relay.record.parts import Opened, PatientOpening, patient_reference

FORGETFUL = 8
"""One patient in so many comes without a card."""
REEXAMINED = 10
"""Of so many delivered records one is examined again, each time for the next lawful reason."""
_REASONS = (Reexamination.R1, Reexamination.R2, Reexamination.R3, Reexamination.R4)


# --- found


def find_some(stage: Stage, cases: Sequence[Case], now: int, progress: Progress) -> None:
    """Asks the source for the records of patients without a card, by number and consent."""
    wanted = [case for case in cases if is_found(case)]
    done = count(1)

    def find(case: Case) -> None:
        answers = stage.node(SOURCE).find_records(_query(stage, case, now))
        assert case.attested is not None
        commitment = case.attested.attestation.commitment
        case.found = next((a for a in answers if a.commitment == commitment), None)
        if case.found is None:
            case.refusal = str(Reason.RECORD_NOT_FOUND)
        progress("find", next(done), len(wanted))

    side_by_side(stage, find, wanted)


def is_found(case: Case) -> bool:
    """Whether the source is asked for it: current, and consented to as a whole."""
    if case.attested is None or not case.scope or case.number % FORGETFUL:
        return False
    items = {f"{item.system}|{item.code}" for item in case.attested.attestation.items}
    return items <= set(case.scope) and not (case.made and case.made.then)


def _query(stage: Stage, case: Case, now: int) -> FindQuery:
    """The asking hospital's query, with a consent over a reference made for it alone."""
    assert case.attested is not None
    kept = case.attested.kept.patient
    asked_for = PatientOpening(os.urandom(32), kept.scheme, kept.value)
    patient, key = SigningKey.generate(), stage.key(RECEIVER.id)
    consent = Consent(
        records=(),
        patients=(patient_reference(asked_for),),
        grantee=RECEIVER.id,
        purposes=(Purpose.TREAT,),
        scope=case.scope,
        start=now - 60,
        end=now + DAY,
        revocation=os.urandom(32),
        signer=Signer.PATIENT,
        signed_by="",
        algorithm=patient.algorithm,
        key=patient.public,
        signature=b"",
    )
    query = FindQuery(
        institution=RECEIVER.id,
        person=RECEIVER.doctor,
        purpose=Purpose.TREAT,
        patient=asked_for,
        items=case.scope,
        consent=replace(consent, signature=patient.sign(consent.signing_bytes())),
        nonce=os.urandom(16),
        time=int(time.time()),
        algorithm=key.algorithm,
        key=key.public,
    )
    return replace(query, signature=key.sign(query.signing_bytes(SOURCE)))


# --- delivered


def deliver_all(stage: Stage, cases: Sequence[Case], progress: Progress) -> None:
    """Fetches what was granted from its source, each checked against its commitment.

    Raises Invalid(RECORD_MISMATCH) where a part is not what was attested.
    """
    granted = [case for case in cases if case.decision is not None and case.decision.grant]
    for start in range(0, len(granted), MAX_FETCHES):
        lot = granted[start : start + MAX_FETCHES]
        wait_granted(stage, lot[-1])
        for case in _fetch(stage, lot):  # notices may have come in another order
            wait_granted(stage, case)
            _fetch(stage, [case])
        progress("deliver", start + len(lot), len(granted))


def wait_granted(stage: Stage, case: Case) -> None:
    """Until the source ledger has taken the notice: a grant is good once it is written there."""
    assert case.decision is not None
    commitment, grant = case.decision.commitment, case.decision.grant
    end = time.monotonic() + WAIT_SECONDS
    while all(notice.grant != grant for notice in stage.node(SOURCE).grants(commitment)):
        waited(stage, end, f"{SOURCE} has not taken the grant of {case.name}")


def build_fetch(stage: Stage, commitment: bytes, grant: bytes, institution: str) -> Fetch:
    """A signed fetch by an institution, its person named as its own system would."""
    key = stage.key(institution)
    asked = Fetch(
        commitment=commitment,
        grant=grant,
        institution=institution,
        person=RECEIVER.doctor,
        nonce=os.urandom(16),
        time=int(time.time()),
        algorithm=key.algorithm,
        key=key.public,
    )
    return replace(asked, signature=key.sign(asked.signing_bytes(SOURCE)))


def _fetch(stage: Stage, lot: Sequence[Case]) -> list[Case]:
    """Fetches some records; those whose grant is not there yet."""
    fetches = [
        build_fetch(stage, case.decision.commitment, case.decision.grant, RECEIVER.id)
        for case in lot
        if case.decision is not None
    ]
    early = []
    for case, answer in zip(lot, stage.node(SOURCE).fetch_records(fetches), strict=True):
        if isinstance(answer, Withheld):
            case.refusal = f"{answer.reason}: {answer.detail}"
            if answer.reason == Reason.NO_GRANT:
                early.append(case)
            continue
        case.times["delivered"] = time.monotonic()
        case.fetched, case.refusal = answer, ""
        _check_content(case, answer)
    return early


def _check_content(case: Case, answer: Fetched) -> None:
    """What was delivered, to the byte, is what the laboratory handed in."""
    for part, delivered in zip(case.record.parts, answer.parts, strict=True):
        if isinstance(delivered, Opened) and delivered.content != part.content:
            raise Invalid(Reason.RECORD_MISMATCH, f"{case.name} is not what was attested")


# --- reported


def report_outcomes(stage: Stage, cases: Sequence[Case], progress: Progress) -> None:
    """What the clinician did with each delivered record: adopted, but for one in ten."""
    delivered = [case for case in cases if case.fetched is not None]
    done = count(1)

    def report(case: Case) -> None:
        reason = reexamination(case)
        stage.node(ASKING).report_outcome(build_outcome(stage, case, again=reason))
        case.outcome = str(reason) if reason else str(Result.ADOPTED)
        progress("outcome", next(done), len(delivered))

    side_by_side(stage, report, delivered)


def reexamination(case: Case) -> Reexamination | None:
    """Why this record's examination is repeated all the same; None where it is adopted."""
    turn, rest = divmod(case.number, REEXAMINED)
    return _REASONS[turn % len(_REASONS)] if rest == REEXAMINED // 2 else None


def build_outcome(stage: Stage, case: Case, *, again: Reexamination | None) -> Outcome:
    """Row 4 for all recognised items of a record, signed by the clinician."""
    decision, key, now = case.decision, stage.key(RECEIVER.doctor), int(time.time())
    assert decision is not None, "an outcome follows a decision"
    items = tuple(
        ItemOutcome(
            part=item.part,
            result=Result.REEXAMINED if again else Result.ADOPTED,
            reason=again,
            note=b"",
            informed_by=Role.CLINICIAN if again else None,
            informed=now if again else 0,
        )
        for item in decision.recognised
    )
    outcome = Outcome(
        relay=decision.relay,
        origin=decision.origin,
        target=decision.target,
        hops=1,
        request=decision.request,
        commitment=decision.commitment,
        institution=RECEIVER.id,
        clinician=RECEIVER.doctor,
        time=now,
        items=items,
        algorithm=key.algorithm,
        key=key.public,
        signature=b"",
    )
    return replace(outcome, signature=key.sign(outcome.signing_bytes()))
