"""The contract `recognition` on a relay: attestations in, decisions and notices out.

It never blocks a re-examination: it decides whether a result is recognised, and when the clinician
examines again all the same, it makes one of six reasons mandatory and countable. A refusal is a
successful acknowledgement with its reasons; the error acknowledgement is for payloads that are
malformed, unsigned or misrouted.

Keys (ids and hashes in hex):

    attestation/<ledger>/<commitment>               {attestation, recorded}
    revision/<ledger>/<previous>/<institution>      {attestation, recorded}: an amendment of it
    retraction/<ledger>/<commitment>/<institution>  {attestation, recorded}
    request/<origin>/<request>                      row 2 as received
    decision/<origin>/<request>                     Decision, written once
    outcome/<origin>/<request>/<outcome>            row 4 as received
    reported/<origin>/<request>/<part>/<result>     id of the outcome that reported it
    tally/<institution>/<item>/<result or R-code>/<request>/<part>   time: one count each
    delivered/<grant or outcome>                    {accepted, client, sequence, time} of rows 3, 5
    policy… (relay.contracts.policy.loaded) and undelivered… (relay.contracts.undelivered)

Packets come in any order, so a revision is kept under what it revises whether that is known or not,
and it counts only if the same institution signed both.
"""

from __future__ import annotations

from collections.abc import Iterable

from relay.canonical import Json, encode
from relay.contract import HeadNeed, State
from relay.contracts import base, policy, undelivered
from relay.contracts.base import key
from relay.contracts.codes import Code, Detail, Finding
from relay.contracts.payloads import (
    RECOGNITION_PORT,
    RECOGNITION_VERSION,
    REGISTRY_PORT,
    Action,
    Answer,
    Attestation,
    Notice,
    Outcome,
    OutcomeNotice,
    RecognitionRequest,
    fields,
)
from relay.contracts.recognition.decide import decide, freshness, read_attestation
from relay.contracts.recognition.outcomes import judge_outcome, record_outcome
from relay.errors import Invalid, LianqiaoError, NotFound, Reason
from relay.light.keys import verify
from relay.packet import Packet, Payload


class Recognition(undelivered.Posts):
    """See the module. Stateless: everything it knows is in `state`."""

    port = RECOGNITION_PORT
    operator_methods = frozenset({"policy.load"})

    def receive(self, packet: Packet, payload: Payload, state: State, now: int) -> bytes:
        """Rows 1, 2 and 4. Raises Malformed or Invalid for what should not have been sent."""
        body = base.read_payload(payload, RECOGNITION_VERSION)
        kind = body.get("type")
        if kind == "attestation":
            return self._attest(Attestation.from_json(body), packet, payload, state, now)
        if kind == "request":
            return self._request(RecognitionRequest.from_json(body), packet, payload, state, now)
        if kind == "outcome":
            return self._outcome(Outcome.from_json(body), packet, payload, state, now)
        fields.refuse("type", "must be attestation, request or outcome")

    def _attest(
        self, attestation: Attestation, packet: Packet, payload: Payload, state: State, now: int
    ) -> bytes:
        """Row 1: verified over its exact bytes, bound to the ledger it was proven on, kept once."""
        ledger = base.sender(packet, state)
        if attestation.ledger != ledger or attestation.port != payload.source_port:
            raise Invalid(
                Reason.COUNTERPARTY_MISMATCH,
                "attested for another ledger or port than it came from",
                ledger=attestation.ledger,
            )
        verify(
            attestation.algorithm,
            attestation.key,
            attestation.signing_bytes(),
            attestation.signature,
        )
        value = encode({"attestation": attestation.to_json(), "recorded": now})
        writes = []
        if attestation.action is Action.RETRACT:
            names = ("retraction", ledger, attestation.commitment, attestation.institution)
            writes.append(key(*names))
        else:
            writes.append(key("attestation", ledger, attestation.commitment))
        if attestation.action is Action.AMEND:
            names = ("revision", ledger, attestation.previous, attestation.institution)
            writes.append(key(*names))
        missing = []
        for name in writes:
            held = state.get(name)
            if held is None:
                missing.append(name)
            elif read_attestation(held)[0] != attestation:
                conflict = Finding(Code.SRC_AUTH, Detail.CONFLICT)
                return Answer(attestation.commitment, conflict).encode()
        for name in missing:
            state.put(name, value)
        return Answer(attestation.commitment).encode()

    def _request(
        self, request: RecognitionRequest, packet: Packet, payload: Payload, state: State, now: int
    ) -> bytes:
        """Row 2: one decision for ever; row 3 in the same step where anything was recognised."""
        base.check_route(request.relay, request.origin, request.hops, packet, state)
        name = key("request", request.origin, request.request)
        held = state.get(name)
        if held is not None:
            if held != payload.value:
                raise Invalid(Reason.REQUEST_ID_REUSED, "another request has this id")
            decided = state.get(key("decision", request.origin, request.request))
            if decided is not None:
                return decided
        decision, keys = decide(request, state, now)
        answer = decision.encode()
        state.put(name, payload.value)
        state.put(key("decision", request.origin, request.request), answer)
        if decision.grant:
            notice = Notice(
                relay=request.relay,
                origin=request.origin,
                target=request.target,
                hops=request.hops - 1,
                request=request.request,
                commitment=request.commitment,
                institution=request.institution,
                purpose=request.purpose,
                decided=now,
                consent=request.consent.digest,
                grant=decision.grant,
                parts=decision.granted_parts(request.consent),
                expires=decision.expires,
                keys=keys,
            )
            sent = undelivered.payload_for(REGISTRY_PORT, self.port, notice.encode())
            undelivered.post(state, request.target, sent, now)
        return answer

    def _outcome(
        self, outcome: Outcome, packet: Packet, payload: Payload, state: State, now: int
    ) -> bytes:
        """Row 4, then row 5 in the same step, to a source that is or was here. The same outcome
        again gets the same answer."""
        base.check_route(outcome.relay, outcome.origin, outcome.hops, packet, state)
        if state.get(key("outcome", outcome.origin, outcome.request, outcome.id)) is not None:
            return Answer(outcome.id).encode()
        judged = judge_outcome(outcome, state, now)
        if isinstance(judged, Finding):
            return Answer(outcome.id, judged).encode()
        record_outcome(outcome, judged, payload.value, state, now)
        notice = OutcomeNotice(
            relay=outcome.relay,
            origin=outcome.origin,
            target=outcome.target,
            hops=outcome.hops - 1,
            request=outcome.request,
            commitment=outcome.commitment,
            institution=outcome.institution,
            outcome=outcome.id,
            time=outcome.time,
            items=outcome.items,
        )
        if _was_here(outcome.target, state):
            sent = undelivered.payload_for(REGISTRY_PORT, self.port, notice.encode())
            undelivered.post(state, outcome.target, sent, now)
        return Answer(outcome.id).encode()

    def acknowledge(
        self, packet: Packet, payload: Payload, acknowledgement: bytes, state: State, now: int
    ) -> None:
        """Rows 3 and 5 arrived; what the ledger answered is kept."""
        body = fields.document(payload.value)
        row3 = body.get("type") == "notice"
        subject = Notice.from_json(body).grant if row3 else OutcomeNotice.from_json(body).outcome
        try:
            accepted = Answer.decode(acknowledgement).accepted  # the error constant is none
        except LianqiaoError:
            accepted = False
        name = key("delivered", subject)
        if state.get(name) is None:
            answer: Json = {
                "accepted": accepted,
                "client": packet.source_client,
                "sequence": packet.sequence,
                "time": now,
            }
            state.put(name, encode(answer))

    def timeout(self, packet: Packet, payload: Payload, state: State, now: int) -> None:
        """Rows 3 and 5 did not arrive: they are sent again under a new sequence."""
        target = fields.identifier(fields.document(payload.value), "target")
        undelivered.post(state, target, payload, now)

    def call(self, method: str, body: bytes, state: State, now: int) -> bytes:
        """`policy.load` (a policy document) and `resend` ({limit}), by the operator."""
        if method == "policy.load":
            return encode(policy.load(state, body))
        if method == "resend":
            return undelivered.resend(body, state, now)
        raise base.unknown_method(self.port, method)

    def heads_needed(
        self, packet: Packet, payload: Payload, state: State, now: int
    ) -> Iterable[HeadNeed]:
        """A request wants all of its source until lately; half the limit, so that delivery fits."""
        body = base.read_payload(payload, RECOGNITION_VERSION)
        if body.get("type") != "request":
            return ()
        request = RecognitionRequest.from_json(body)
        seconds = freshness(request, state, now)
        try:
            client = state.client_of(request.target)
        except NotFound:
            return ()
        return (HeadNeed(client, now - seconds // 2),)


def _was_here(ledger: str, state: State) -> bool:
    """Whether a ledger is connected, or ever attested something here. A request can name any, and
    what is held for one that is nobody would be looked at in every tick, for ever."""
    try:
        state.client_of(ledger)
    except NotFound:
        return state.last(key("attestation", ledger, "")) is not None
    return True


CONTRACT = Recognition()
