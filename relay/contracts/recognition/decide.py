"""From a request to its one decision: what is looked up, and what refuses the whole request.

Before any item is judged: the requester must be accredited on the ledger that asks (PERSON), its
region must have a rule (POLICY), the source ledger must be connected (SRC_AUTH), and everything
that it had sent until shortly before must be here, so that "not revoked" can be said (HEAD_STALE).
That its newest head is young shows nothing: whoever brought it may have left out a retraction. The
first that fails refuses the request as a whole, and stands with every item. Such a decision too is
written once: who asks again, asks under a new id.
"""

from __future__ import annotations

from functools import partial

from relay.contract import Head, State
from relay.contracts import policy
from relay.contracts.base import Reader, key
from relay.contracts.codes import Code, Detail, Finding, Verdict
from relay.contracts.payloads import (
    Attestation,
    Decision,
    ItemDecision,
    PublicKey,
    RecognitionRequest,
    fields,
    grant_id,
)
from relay.contracts.policy.documents import DEFAULT_HEAD_SECONDS
from relay.contracts.policy.values import Institution, RegionRule
from relay.contracts.recognition.case import Case
from relay.contracts.recognition.evaluate import evaluate
from relay.errors import NotFound


def decide(
    request: RecognitionRequest, state: State, now: int
) -> tuple[Decision, tuple[PublicKey, ...]]:
    """(the decision, the grantee's keys valid now). Reads; writes nothing."""
    lines = policy.index(state)
    current = policy.policy_at(state, lines, now)
    receiver = current.institutions.get(request.institution)
    keys = _keys_now(receiver, now)
    rule = current.rule_for(receiver) if receiver is not None else None
    head = _head(request.target, state)
    reason = _refusal(request, receiver, keys, rule, head, now)
    if reason is not None or receiver is None or rule is None:
        why = (reason,) if reason is not None else ()
        items = tuple(
            ItemDecision(part, "", Verdict.NOT_ELIGIBLE, why, ()) for part in request.parts
        )
    else:
        attestation, recorded, revised = find_attestation(state, request.target, request.commitment)
        case = Case(
            request=request,
            receiver=receiver,
            rule=rule,
            policy=current,
            attestation=attestation,
            recorded=recorded,
            revised=revised,
            at_issue=partial(policy.catalogues_at, state, lines, rule.catalogues),
            now=now,
        )
        items = evaluate(case)
    granted = any(i.verdict is not Verdict.NOT_ELIGIBLE for i in items)
    decision = Decision(
        request=request.request,
        relay=request.relay,
        origin=request.origin,
        target=request.target,
        commitment=request.commitment,
        institution=request.institution,
        decided=now,
        reason=reason,
        items=items,
        policy=current.versions,
        head_height=head.height if head else 0,
        head_time=head.complete_time if head else 0,
        grant=grant_id(request.relay, request.origin, request.request) if granted else b"",
        expires=(
            min(request.consent.end, now + rule.grant_seconds)
            if rule is not None and granted
            else 0
        ),
    )
    return decision, keys


def _keys_now(institution: Institution | None, now: int) -> tuple[PublicKey, ...]:
    if institution is None:
        return ()
    return tuple(PublicKey(k.algorithm, k.key) for k in institution.keys if k.start <= now < k.end)


def _head(ledger: str, state: State) -> Head | None:
    try:
        return state.head(state.client_of(ledger))
    except NotFound:
        return None


def _refusal(
    request: RecognitionRequest,
    receiver: Institution | None,
    keys: tuple[PublicKey, ...],
    rule: RegionRule | None,
    head: Head | None,
    now: int,
) -> Finding | None:
    if receiver is None or receiver.ledger != request.origin or not keys:
        return Finding(Code.PERSON, Detail.REQUESTER)
    if rule is None:
        return Finding(Code.POLICY, Detail.NO_RULE)
    if head is None:
        return Finding(Code.SRC_AUTH, Detail.NOT_CONNECTED)
    if now - head.complete_time > rule.head_seconds:
        return Finding(Code.HEAD_STALE)
    return None


def find_attestation(
    state: Reader, ledger: str, commitment: bytes
) -> tuple[Attestation | None, int, Detail]:
    """(attestation, when it was recorded, REVISED or RETRACTED or NONE) of a record."""
    value = state.get(key("attestation", ledger, commitment))
    if value is None:
        return None, 0, Detail.NONE
    attestation, recorded = read_attestation(value)
    names = (ledger, commitment, attestation.institution)
    if state.get(key("retraction", *names)) is not None:
        return attestation, recorded, Detail.RETRACTED
    if state.get(key("revision", *names)) is not None:
        return attestation, recorded, Detail.REVISED
    return attestation, recorded, Detail.NONE


def read_attestation(value: bytes) -> tuple[Attestation, int]:
    """(attestation, seconds when it was recorded) of a stored value."""
    body = fields.members(fields.document(value), ("attestation", "recorded"), "attestation")
    return Attestation.from_json(body["attestation"]), fields.integer(body, "recorded")


def freshness(request: RecognitionRequest, state: Reader, now: int) -> int:
    """How old the source head may be for this request, seconds; the default where no rule is."""
    current = policy.policy_at(state, policy.index(state), now)
    receiver = current.institutions.get(request.institution)
    rule = current.rule_for(receiver) if receiver is not None else None
    return rule.head_seconds if rule is not None else DEFAULT_HEAD_SECONDS
