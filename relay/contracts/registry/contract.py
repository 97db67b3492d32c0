"""The contract `registry` on a ledger: what institutions attest, ask, are granted and are told.

Calls (bodies are RFC 8785 JSON; each is documented where it is implemented):

    institution.register  an institution of this ledger with its keys, by the ledger's operator
    attest amend retract  row 1, up to 1000 at once; `announce` tells a relay of earlier ones
    request               row 2; its acknowledgement is the decision, kept under decision/<request>
    outcome               row 4
    access                entries of the access log, by the node's own service
    resend                takes up again what could not be sent (relay.contracts.undelivered)

Rows 1 and 4 are sent again when they time out. A request that timed out is written down as such, so
that its caller sees it and may send it again. Keys: relay.contracts.registry.keys.
"""

from __future__ import annotations

from collections.abc import Iterable

from relay.canonical import Json, encode
from relay.contract import HeadNeed, State
from relay.contracts import base, undelivered
from relay.contracts.base import key
from relay.contracts.payloads import (
    REGISTRY_PORT,
    REGISTRY_VERSION,
    Action,
    Answer,
    Attestation,
    Decision,
    Notice,
    Outcome,
    OutcomeNotice,
    RecognitionRequest,
    fields,
)
from relay.contracts.registry import records, requests
from relay.contracts.registry.keys import RequestStatus, find_attestation, lapsed_key
from relay.errors import Invalid, LianqiaoError, Reason
from relay.packet import ERROR_ACKNOWLEDGEMENT, Packet, Payload

_ACTIONS = {"attest": Action.NEW, "amend": Action.AMEND, "retract": Action.RETRACT}
_CALLS = {
    "institution.register": records.register_institution,
    "announce": records.announce,
    "request": requests.request,
    "outcome": requests.outcome,
    "access": requests.access,
    "resend": undelivered.resend,
}


class Registry(undelivered.Posts):
    """See the module. Stateless: everything it knows is in `state`."""

    port = REGISTRY_PORT
    operator_methods = frozenset({"institution.register"})

    def call(self, method: str, body: bytes, state: State, now: int) -> bytes:
        """One of the calls above. Raises NotFound(NOT_FOUND) for another."""
        action = _ACTIONS.get(method)
        if action is not None:
            return records.attest(body, action, state, now)
        run = _CALLS.get(method)
        if run is None:
            raise base.unknown_method(self.port, method)
        return run(body, state, now)

    def receive(self, packet: Packet, payload: Payload, state: State, now: int) -> bytes:
        """Rows 3 and 5, from the relay they name, about a record of this ledger.

        The same again gets the same answer. Raises Malformed, Invalid (CHAIN_ID_MISMATCH,
        COUNTERPARTY_MISMATCH) or NotFound(RECORD_NOT_FOUND).
        """
        body = base.read_payload(payload, REGISTRY_VERSION)
        kind = body.get("type")
        if kind == "notice":
            notice = Notice.from_json(body)
            name = key("grant", notice.commitment, notice.institution, notice.grant)
            subject = notice.grant
            self._check(notice.relay, notice.target, packet, state)
            find_attestation(state, notice.commitment)
        elif kind == "outcome_notice":
            told = OutcomeNotice.from_json(body)
            name, subject = key("outcome-notice", told.commitment, told.outcome), told.outcome
            self._check(told.relay, told.target, packet, state)
            # The record may be unknown: an outcome is told for a refused request too.
        else:
            fields.refuse("type", "must be notice or outcome_notice")
        state.put(name, payload.value)
        return Answer(subject).encode()

    def _check(self, relay: str, target: str, packet: Packet, state: State) -> None:
        if target != state.chain_id:
            raise Invalid(Reason.CHAIN_ID_MISMATCH, "meant for another ledger", target=target)
        if relay != base.sender(packet, state):
            raise Invalid(
                Reason.COUNTERPARTY_MISMATCH, "decided by another relay than sent it", relay=relay
            )

    def acknowledge(
        self, packet: Packet, payload: Payload, acknowledgement: bytes, state: State, now: int
    ) -> None:
        """Rows 1, 2 and 4 arrived: the answer is kept."""
        body = fields.document(payload.value)
        kind = body.get("type")
        if kind == "request":
            self._decided(RecognitionRequest.from_json(body), packet, acknowledgement, state, now)
            return
        if kind == "attestation":
            attestation = Attestation.from_json(body)
            relay = state.head(packet.source_client).chain_id
            name = key("announced", attestation.commitment, attestation.action.value, relay)
        else:
            name = key("answered", Outcome.from_json(body).id)
        if state.get(name) is None:
            state.put(name, _answer(packet, acknowledgement, now))

    def _decided(
        self,
        request: RecognitionRequest,
        packet: Packet,
        acknowledgement: bytes,
        state: State,
        now: int,
    ) -> None:
        try:
            decision = Decision.decode(acknowledgement)
        except LianqiaoError:
            decision = None
        if decision is None or not answers(decision, request):
            self._lapse(request, packet, RequestStatus.ERROR, state, now)
            return
        state.put(key("decision", request.request), acknowledgement)

    def _lapse(
        self,
        request: RecognitionRequest,
        packet: Packet,
        why: RequestStatus,
        state: State,
        now: int,
    ) -> None:
        name = lapsed_key(request.request, packet.source_client, packet.sequence)
        state.put(name, encode({"reason": why.value, "time": now}))

    def timeout(self, packet: Packet, payload: Payload, state: State, now: int) -> None:
        """Rows 1 and 4 are sent again; a request is reported to its caller."""
        body = fields.document(payload.value)
        kind = body.get("type")
        if kind == "request":
            request = RecognitionRequest.from_json(body)
            self._lapse(request, packet, RequestStatus.TIMED_OUT, state, now)
            return
        undelivered.post(state, state.head(packet.source_client).chain_id, payload, now)

    def heads_needed(
        self, packet: Packet, payload: Payload, state: State, now: int
    ) -> Iterable[HeadNeed]:
        """Nothing here depends on the age of a head."""
        return ()


def answers(decision: Decision, request: RecognitionRequest) -> bool:
    """Whether a decision is about this request, and about every part of it."""
    names = ("request", "relay", "origin", "target", "commitment", "institution")
    return all(getattr(decision, n) == getattr(request, n) for n in names) and (
        tuple(item.part for item in decision.items) == request.parts
    )


def _answer(packet: Packet, acknowledgement: bytes, now: int) -> bytes:
    """What is kept of an answer; an error acknowledgement is kept as reason ERROR."""
    reason = "ERROR"
    if acknowledgement != ERROR_ACKNOWLEDGEMENT:
        try:
            answer = Answer.decode(acknowledgement)
            reason = "" if answer.reason is None else str(answer.reason)
        except LianqiaoError:
            reason = "ERROR"
    kept: Json = {
        "accepted": reason == "",
        "client": packet.source_client,
        "reason": reason,
        "sequence": packet.sequence,
        "time": now,
    }
    return encode(kept)


CONTRACT = Registry()
