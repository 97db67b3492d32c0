"""The rest of the story: what was granted is delivered, and the clinician says what he did."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from relay.contracts.codes import Reexamination, Verdict
from relay.contracts.payloads import Consent, ItemOutcome, Outcome, Purpose, Result, Role, Signer
from relay.demo.hospitals import DAY
from relay.demo.stage import ASKING, RELAY, SOURCE, Stage
from relay.demo.story import RECEIVER, WAIT_SECONDS, Case, Progress
from relay.disclosure.asks import Fetch, Fetched, FindQuery
from relay.errors import Reason, Unavailable
from relay.keys import SigningKey
from relay.record.parts import PatientOpening, patient_reference

FETCHES = 20
FETCHERS = 4


def deliver_all(stage: Stage, cases: Sequence[Case], progress: Progress) -> None:
    """Fetches what was granted from its source, each checked against its commitment."""
    granted = [case for case in cases if case.decision is not None and case.decision.grant]
    wait_granted(stage, granted)
    lots = [granted[i : i + FETCHES] for i in range(0, len(granted), FETCHES)]
    done = 0
    with ThreadPoolExecutor(FETCHERS) as pool:
        for lot in pool.map(lambda lot: _fetch(stage, lot), lots):
            done += len(lot)
            progress("deliver", done, len(granted))


def wait_granted(stage: Stage, granted: Sequence[Case]) -> None:
    """Until the source ledger has taken the notices: a grant is good once it is written there."""
    end = time.monotonic() + WAIT_SECONDS
    while granted and stage.node(RELAY).status().packets_open:
        if time.monotonic() > end:
            raise Unavailable(Reason.CHAIN_UNREACHABLE, "the source has not taken every grant")
        time.sleep(0.02)


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


def _fetch(stage: Stage, lot: Sequence[Case]) -> Sequence[Case]:
    fetches = [
        build_fetch(stage, case.decision.commitment, case.decision.grant, RECEIVER.id)
        for case in lot
        if case.decision is not None
    ]
    for case, answer in zip(lot, stage.node(SOURCE).fetch_records(fetches), strict=True):
        case.times["delivered"] = time.monotonic()
        if isinstance(answer, Fetched):
            case.fetched = answer
        else:
            case.refusal = f"{answer.reason}: {answer.detail}"
    return lot


def report_outcomes(stage: Stage, cases: Sequence[Case]) -> int:
    """What the clinician did with a few results: adopted, but for one that changes fast (R2)."""
    delivered = [case for case in cases if case.fetched is not None][:5]
    for number, case in enumerate(delivered):
        stage.node(ASKING).report_outcome(build_outcome(stage, case, again=number == 1))
    return len(delivered)


def build_outcome(stage: Stage, case: Case, *, again: bool) -> Outcome:
    """Row 4 for all recognised items of a record, signed by the clinician."""
    decision, key, now = case.decision, stage.key(RECEIVER.doctor), int(time.time())
    assert decision is not None, "an outcome follows a decision"
    items = tuple(
        ItemOutcome(
            part=item.part,
            result=Result.REEXAMINED if again else Result.ADOPTED,
            reason=Reexamination.R2 if again else None,
            note=b"",
            informed_by=Role.CLINICIAN if again else None,
            informed=now if again else 0,
        )
        for item in decision.items
        if item.verdict is not Verdict.NOT_ELIGIBLE
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


def find_one(stage: Stage, case: Case, now: int) -> int:
    """Asks the source for a patient's records by his identifier, with his consent; how many."""
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
    consent = replace(consent, signature=patient.sign(consent.signing_bytes()))
    query = FindQuery(
        institution=RECEIVER.id,
        person=RECEIVER.doctor,
        purpose=Purpose.TREAT,
        patient=asked_for,
        items=case.scope,
        consent=consent,
        nonce=os.urandom(16),
        time=int(time.time()),
        algorithm=key.algorithm,
        key=key.public,
    )
    signed = replace(query, signature=key.sign(query.signing_bytes(SOURCE)))
    return len(stage.node(SOURCE).find_records(signed))
