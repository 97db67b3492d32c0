"""Asking for recognition (row 2), reporting what became of it (row 4), and the access log."""

from __future__ import annotations

from enum import StrEnum

from relay.canonical import Json, encode
from relay.contract import State
from relay.contracts import base, undelivered
from relay.contracts.base import key
from relay.contracts.payloads import (
    RECOGNITION_PORT,
    REGISTRY_PORT,
    Decision,
    Outcome,
    Purpose,
    RecognitionRequest,
    fields,
)
from relay.contracts.recognition.outcomes import outcome_fits
from relay.contracts.registry.keys import (
    MAX_ATTEMPTS,
    RequestStatus,
    RequestView,
    find_request,
    institution_keys,
)
from relay.errors import Invalid, NotFound, Reason, Refused
from relay.light.keys import verify

REQUEST_TIMEOUT = 900
"""Seconds, where the caller names none: long enough for a relay to catch up, short for a doctor."""
MAX_ENTRIES = 1000


class AccessKind(StrEnum):
    """What an access entry is about."""

    FOUND = "found"
    FETCHED = "fetched"
    REFUSED = "refused"


def request(body: bytes, state: State, now: int) -> bytes:
    """`request`: {request: row 2, timeout_seconds (optional)}.

    Answers {request, status, client, sequence, decision (or null)}. The same request again sends
    nothing while one is under way or decided, and sends again where every attempt lapsed. Raises
    Denied(NOT_PERMITTED), Invalid (CHAIN_ID_MISMATCH, INVALID_SIGNATURE, HOP_LIMIT,
    REQUEST_ID_REUSED), NotFound(CLIENT_NOT_FOUND) where the relay is not connected.
    """
    asked = base.read_call(body, "request", "timeout_seconds")
    wanted = RecognitionRequest.from_json(asked["request"])
    seconds = REQUEST_TIMEOUT
    if "timeout_seconds" in asked:
        seconds = fields.integer(asked, "timeout_seconds", 1, 86_400)
    _check_origin(wanted.origin, wanted.hops, state)
    institution_keys(state, wanted.institution)
    verify(wanted.algorithm, wanted.key, wanted.signing_bytes(), wanted.signature)
    raw = wanted.encode()
    held = state.get(key("request", wanted.request))
    if held is not None and held != raw:
        raise Invalid(
            Reason.REQUEST_ID_REUSED,
            "another request has this id",
            hint="choose 32 fresh random bytes",
        )
    if held is not None:
        view = find_request(state, wanted.request)
        if view.status is not RequestStatus.TIMED_OUT:
            return _view(view)
        if len(base.everything(state, key("attempt", wanted.request, ""), MAX_ATTEMPTS)) == (
            MAX_ATTEMPTS
        ):
            raise Refused(Reason.LIMIT_EXCEEDED, "this request was sent too often")
    client = state.client_of(wanted.relay)
    payload = undelivered.payload_for(RECOGNITION_PORT, REGISTRY_PORT, raw)
    sequence = state.send(client, payload, now + seconds)
    state.put(key("request", wanted.request), raw)
    attempt: Json = {
        "client": client,
        "sent": now,
        "sequence": sequence,
        "timeout": now + seconds,
    }
    name = key("attempt", wanted.request, f"{now:012d}", client, f"{sequence:016d}")
    state.put(name, encode(attempt))
    return _view(find_request(state, wanted.request))


def _check_origin(origin: str, hops: int, state: State) -> None:
    if origin != state.chain_id:
        raise Invalid(
            Reason.CHAIN_ID_MISMATCH,
            "signed for another ledger",
            hint=f"origin is {state.chain_id} here",
        )
    if hops < 1:
        raise Invalid(Reason.HOP_LIMIT, "must be allowed to pass one relay at least")


def _view(view: RequestView) -> bytes:
    return encode(
        {
            "client": view.client,
            "decision": None if view.decision is None else view.decision.to_json(),
            "request": view.request.request.hex(),
            "sequence": view.sequence,
            "status": view.status.value,
        }
    )


def outcome(body: bytes, state: State, now: int) -> bytes:
    """`outcome`: {outcome: row 4}. Answers {outcome: id, client, sequence}; again: sequence 0.

    Raises Denied(NOT_PERMITTED), Invalid (CHAIN_ID_MISMATCH, INVALID_SIGNATURE, HOP_LIMIT),
    NotFound(NOT_FOUND) for an unknown request; Refused: ACKNOWLEDGEMENT_PENDING while undecided,
    CONTRACT_REFUSED where it does not fit the decision (`code` in its data).
    """
    asked = base.read_call(body, "outcome")
    report = Outcome.from_json(asked["outcome"])
    _check_origin(report.origin, report.hops, state)
    institution_keys(state, report.institution)
    verify(report.algorithm, report.key, report.signing_bytes(), report.signature)
    decided = state.get(key("decision", report.request))
    if decided is None:
        if state.get(key("request", report.request)) is None:
            raise NotFound(Reason.NOT_FOUND, "no such request was sent here")
        raise Refused(Reason.ACKNOWLEDGEMENT_PENDING, "the request is not decided yet")
    reason = outcome_fits(report, Decision.decode(decided))
    if reason is not None:
        raise Refused(
            Reason.CONTRACT_REFUSED, f"the outcome does not fit the decision: {reason}", code=reason
        )
    name = key("outcome", report.request, report.id)
    client, sequence = "", 0
    if state.get(name) is None:
        state.put(name, report.encode())
        payload = undelivered.payload_for(RECOGNITION_PORT, REGISTRY_PORT, report.encode())
        client, sequence = undelivered.post(state, report.relay, payload, now)
    answer: Json = {"client": client, "outcome": report.id.hex(), "sequence": sequence}
    return encode(answer)


def access(body: bytes, state: State, now: int) -> bytes:
    """`access`: {entries: [{commitment, institution, kind: found|fetched|refused, purpose}]}.

    Each commitment is salted by the caller and opens off-ledger, in the audit store. Answers
    {written}. The node's own service calls it for every query and fetch, answered or refused.
    """
    asked = base.read_call(body, "entries")
    entries = fields.sequence(asked, "entries", _entry, MAX_ENTRIES, low=1)
    for entry in entries:
        name = key("access", f"{now:012d}", str(entry["commitment"]))
        state.put(name, encode({**entry, "time": now}))
    return encode({"written": len(entries)})


def _entry(value: Json) -> dict[str, Json]:
    entry = fields.members(value, fields.names("commitment institution kind purpose"), "entry")
    fields.octets(entry, "commitment")
    fields.identifier(entry, "institution")
    fields.word(entry, "kind", AccessKind)
    fields.word(entry, "purpose", Purpose)
    return entry
