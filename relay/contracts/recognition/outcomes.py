"""Row 4 judged and counted. A re-examination is recorded whatever was decided; it is never blocked.

An outcome is refused, as an answer and without effect, where the request is unknown here or another
institution's, where the clinician is not who may sign, where something is adopted that was not
recognised, or where the same result of an item was reported before.
"""

from __future__ import annotations

from relay.contract import State
from relay.contracts import policy
from relay.contracts.base import CLOCK_DRIFT, key, signed
from relay.contracts.codes import Code, Detail, Finding
from relay.contracts.payloads import Decision, Outcome, Result
from relay.contracts.recognition.request_checks import clinician_findings


def outcome_fits(outcome: Outcome, decision: Decision) -> Finding | None:
    """Why an outcome does not fit the decision it reports on, or None. Used by both ends."""
    if (outcome.commitment, outcome.target, outcome.relay) != (
        decision.commitment,
        decision.target,
        decision.relay,
    ):
        return Finding(Code.OUTCOME, Detail.UNKNOWN_REQUEST)
    if outcome.institution != decision.institution:
        return Finding(Code.OUTCOME, Detail.OTHER_INSTITUTION)
    recognised = {item.part for item in decision.recognised}
    requested = {item.part for item in decision.items}
    for item in outcome.items:
        if item.part not in requested:
            return Finding(Code.OUTCOME, Detail.NOT_AN_ITEM)
        if item.result is Result.ADOPTED and item.part not in recognised:
            return Finding(Code.OUTCOME, Detail.NOT_RECOGNISED)
    return None


def judge_outcome(outcome: Outcome, state: State, now: int) -> Decision | Finding:
    """The decision it reports on, or why it is refused."""
    decided = state.get(key("decision", outcome.origin, outcome.request))
    if decided is None:
        return Finding(Code.OUTCOME, Detail.UNKNOWN_REQUEST)
    decision = Decision.decode(decided)
    reason = outcome_fits(outcome, decision)
    if reason is not None:
        return reason
    current = policy.policy_at(state, policy.index(state), now)
    for detail in clinician_findings(
        current,
        outcome.institution,
        outcome.clinician,
        outcome.algorithm,
        outcome.key,
        outcome.time,
    ):
        return Finding(Code.PERSON, detail)
    if not signed(outcome.algorithm, outcome.key, outcome.signing_bytes(), outcome.signature):
        return Finding(Code.PERSON, Detail.STATEMENT)
    if not decision.decided - CLOCK_DRIFT <= outcome.time <= now + CLOCK_DRIFT:
        return Finding(Code.PERSON, Detail.STATEMENT_TIME)
    for item in outcome.items:
        if state.get(_reported(outcome, item.part, item.result)) is not None:
            return Finding(Code.OUTCOME, Detail.ALREADY_REPORTED)
    return decision


def _reported(outcome: Outcome, part: int, result: Result) -> bytes:
    return key("reported", outcome.origin, outcome.request, f"{part:04d}", result.value)


def record_outcome(
    outcome: Outcome, decision: Decision, raw: bytes, state: State, now: int
) -> None:
    """Writes an accepted outcome, what it reports, and one count for each item."""
    state.put(key("outcome", outcome.origin, outcome.request, outcome.id), raw)
    names = {item.part: item.item or "unlisted" for item in decision.items}
    for item in outcome.items:
        state.put(_reported(outcome, item.part, item.result), outcome.id)
        word = item.reason.value if item.reason is not None else item.result.value
        where = (outcome.institution, names[item.part], word, outcome.request, f"{item.part:04d}")
        state.put(key("tally", *where), str(now).encode())
