"""RegistryService: a ledger's records, requests, grants and access log.

A deposit's original is on the disk before its attestation is on the ledger: what is attested can be
delivered. So that nothing of a refused deposit stays behind, the contract is asked first, in a
transaction that is thrown away.
"""

from __future__ import annotations

from collections.abc import Sequence

import grpc

from lianqiao.ledger.v1 import record_pb2 as mpb
from lianqiao.ledger.v1 import registry_service_pb2 as pb
from lianqiao.ledger.v1 import registry_service_pb2_grpc as rpc
from relay import canonical, query
from relay.actions import MAX_BODY_BYTES
from relay.canonical import Json
from relay.codec import pages
from relay.codec import records as codec
from relay.codec.disclosure import entry_to_pb
from relay.codec.fields import digest, document, each, identifier, integer, malformed, member
from relay.contracts.base import Reader, key
from relay.contracts.codes import Detail
from relay.contracts.payloads import (
    REGISTRY_PORT,
    Attestation,
    Outcome,
    RecognitionRequest,
    fields,
)
from relay.contracts.registry import (
    RequestStatus,
    RequestView,
    find_attestation,
    find_request,
    revision_of,
    standing,
)
from relay.errors import Invalid, LianqiaoError, Reason
from relay.ledger_views import (
    AnnouncementView,
    AttestedView,
    Deposit,
    RecognitionState,
    RecognitionView,
    RecordState,
    RecordView,
    SentPacket,
)
from relay.record import strict
from relay.record.parts import commit, open_patient
from relay.record.sealed import KeptItem, KeptRecord
from relay.record.structure import check_structure
from relay.service.parts import Parts, Source

MAX_TIMEOUT_SECONDS = 86_400
MAX_CALL_BYTES = 8 * 1024 * 1024
_STATES = {
    Detail.NONE: RecordState.CURRENT,
    Detail.REVISED: RecordState.REVISED,
    Detail.RETRACTED: RecordState.RETRACTED,
}
_REQUEST_STATES = {
    RequestStatus.SENT: RecognitionState.SENT,
    RequestStatus.DECIDED: RecognitionState.DECIDED,
    RequestStatus.TIMED_OUT: RecognitionState.TIMED_OUT,
    RequestStatus.ERROR: RecognitionState.FAILED,
}


class RegistryServicer(rpc.RegistryServiceServicer):
    """Carries what institutions signed to the contract, and shows what it keeps."""

    def __init__(self, parts: Parts, source: Source) -> None:
        self._parts = parts
        self._source = source

    # --- institutions

    def RegisterInstitution(
        self, request: pb.RegisterInstitutionRequest, context: grpc.ServicerContext
    ) -> pb.RegisterInstitutionResponse:
        """`institution.register` of the contract."""
        keys = each(request.keys, "keys", codec.MAX_KEYS, codec.key_from_pb)
        body: Json = {
            "institution": identifier(request.institution, "institution"),
            "version": integer(request.version, "version", low=1),
            "keys": [
                {"algorithm": k.algorithm, "key": k.key.hex(), "start": k.start, "end": k.end}
                for k in keys
            ],
            "role": member(request.role, "role", codec.ROLES).value,
        }
        self._call("institution.register", body)
        return pb.RegisterInstitutionResponse()

    # --- records

    def Attest(self, request: pb.AttestRequest, context: grpc.ServicerContext) -> pb.AttestResponse:
        """`attest` of the contract, with the originals."""
        done = self._deposit("attest", request.records, request.relays)
        return pb.AttestResponse(records=done)

    def Amend(self, request: pb.AmendRequest, context: grpc.ServicerContext) -> pb.AmendResponse:
        """`amend` of the contract, with the originals."""
        done = self._deposit("amend", request.records, request.relays)
        return pb.AmendResponse(records=done)

    def Retract(
        self, request: pb.RetractRequest, context: grpc.ServicerContext
    ) -> pb.RetractResponse:
        """`retract` of the contract."""
        retractions = each(
            request.retractions, "retractions", codec.MAX_BATCH, _attestation, least=1
        )
        body: Json = {
            "attestations": [r.to_json() for r in retractions],
            "relays": list(codec.relays_from_pb(request.relays)),
        }
        return pb.RetractResponse(records=self._attested(self._call("retract", body)))

    def RequestAnnouncement(
        self, request: pb.RequestAnnouncementRequest, context: grpc.ServicerContext
    ) -> pb.RequestAnnouncementResponse:
        """`announce` of the contract."""
        named = each(request.commitments, "commitments", codec.MAX_BATCH, digest, least=1)
        body: Json = {
            "commitments": [c.hex() for c in sorted(set(named))],
            "relays": list(codec.relays_from_pb(request.relays, least=1)),
        }
        done = self._attested(self._call("announce", body))
        return pb.RequestAnnouncementResponse(records=done)

    def GetRecord(
        self, request: pb.GetRecordRequest, context: grpc.ServicerContext
    ) -> pb.GetRecordResponse:
        """One record and what relays said of it."""
        commitment = digest(request.commitment, "commitment")
        with self._parts.state(REGISTRY_PORT) as state:
            view = _record(state, find_attestation(state, commitment))
        return pb.GetRecordResponse(record=codec.record_to_pb(view))

    def GetCard(
        self, request: pb.GetCardRequest, context: grpc.ServicerContext
    ) -> pb.GetCardResponse:
        """What the vault keeps of the patient, for a record that is on the ledger."""
        commitment = digest(request.commitment, "commitment")
        with self._parts.state(REGISTRY_PORT) as state:
            find_attestation(state, commitment)
        opening = self._source.vault.describe(commitment).patient
        return pb.GetCardResponse(
            ledger=self._parts.node.chain_id, patient=codec.opening_to_pb(opening)
        )

    def ListRecords(
        self, request: pb.ListRecordsRequest, context: grpc.ServicerContext
    ) -> pb.ListRecordsResponse:
        """Keys under attestation/."""
        institution = request.institution and identifier(request.institution, "institution")
        values, token = self._page("ListRecords", request, "attestation/", institution)
        found = [Attestation.decode(value) for value in values]
        with self._parts.state(REGISTRY_PORT) as state:
            views = [_record(state, a) for a in found if institution in ("", a.institution)]
        return pb.ListRecordsResponse(
            records=[codec.record_to_pb(v) for v in views], next_page_token=token
        )

    # --- recognition

    def RequestRecognition(
        self, request: pb.RequestRecognitionRequest, context: grpc.ServicerContext
    ) -> pb.RequestRecognitionResponse:
        """`request` of the contract, for each."""
        asked = each(request.requests, "requests", codec.MAX_BATCH, _request, least=1)
        seconds = integer(request.timeout_seconds, "timeout_seconds", 0, MAX_TIMEOUT_SECONDS)
        timeout: dict[str, Json] = {"timeout_seconds": seconds} if seconds else {}
        bodies = [canonical.encode({"request": r.to_json(), **timeout}) for r in asked]
        answers = self._parts.node.call_each(REGISTRY_PORT, "request", bodies)
        with self._parts.state(REGISTRY_PORT) as state:
            results = [
                pb.RecognitionResult(reason=str(answer.reason), detail=answer.detail)
                if isinstance(answer, LianqiaoError)
                else pb.RecognitionResult(recognition=_recognition(state, wanted.request))
                for wanted, answer in zip(asked, answers, strict=True)
            ]
        return pb.RequestRecognitionResponse(results=results)

    def GetRecognition(
        self, request: pb.GetRecognitionRequest, context: grpc.ServicerContext
    ) -> pb.GetRecognitionResponse:
        """One request and where it stands."""
        wanted = digest(request.request_hash, "request_hash")
        with self._parts.state(REGISTRY_PORT) as state:
            return pb.GetRecognitionResponse(recognition=_recognition(state, wanted))

    def ListRecognitions(
        self, request: pb.ListRecognitionsRequest, context: grpc.ServicerContext
    ) -> pb.ListRecognitionsResponse:
        """Keys under request/."""
        values, token = self._page("ListRecognitions", request, "request/")
        with self._parts.state(REGISTRY_PORT) as state:
            found = [_recognition(state, RecognitionRequest.decode(v).request) for v in values]
        return pb.ListRecognitionsResponse(recognitions=found, next_page_token=token)

    def ReportOutcome(
        self, request: pb.ReportOutcomeRequest, context: grpc.ServicerContext
    ) -> pb.ReportOutcomeResponse:
        """`outcome` of the contract."""
        outcome = document(request.outcome, "outcome", Outcome.decode)
        answer = self._call("outcome", {"outcome": outcome.to_json()})
        response = pb.ReportOutcomeResponse(outcome_hash=outcome.id)
        if answer["sequence"]:
            packet = {**answer, "relay": outcome.relay}
            response.packet.CopyFrom(codec.sent_to_pb(_sent(packet)))
        return response

    # --- grants and access

    def ListGrants(
        self, request: pb.ListGrantsRequest, context: grpc.ServicerContext
    ) -> pb.ListGrantsResponse:
        """Keys under grant/."""
        named = digest(request.commitment, "commitment").hex() if request.commitment else ""
        prefix = f"grant/{named}/" if named else "grant/"
        grants, token = self._page("ListGrants", request, prefix, named)
        return pb.ListGrantsResponse(grants=grants, next_page_token=token)

    def ListAccess(
        self, request: pb.ListAccessRequest, context: grpc.ServicerContext
    ) -> pb.ListAccessResponse:
        """The audit store, whose entries the ledger commits to."""
        size = pages.page_size(request.page_size)
        record = digest(request.commitment, "commitment").hex() if request.commitment else ""
        patient = ""
        if request.HasField("patient"):
            patient = self._source.audit.patient(*codec.identifier_from_pb(request.patient))
        listing = pages.filter_hash("ListAccess", record, patient)
        start = pages.decode_number(pages.decode_token(request.page_token, listing))
        found, following = self._source.audit.page(start, size, patient=patient, record=record)
        page, token = pages.cut(
            listing,
            size,
            found,
            lambda item: entry_to_pb(item[1]),
            lambda item: pages.encode_number(item[0]),
        )
        if not token and following is not None:
            token = pages.encode_token(listing, pages.encode_number(following))
        return pb.ListAccessResponse(entries=page, next_page_token=token)

    # --- below

    def _call(self, method: str, body: Json) -> fields.Object:
        answer = self._parts.node.call(REGISTRY_PORT, method, canonical.encode(body))
        return fields.document(answer, MAX_CALL_BYTES)

    def _deposit(
        self, method: str, messages: Sequence[mpb.RecordDeposit], relays: Sequence[str]
    ) -> list[mpb.AttestedRecord]:
        """Checks, keeps and attests a batch, all or none."""
        deposits = each(messages, "records", codec.MAX_BATCH, codec.deposit_from_pb, least=1)
        body: Json = {
            "attestations": [d.attestation.to_json() for d in deposits],
            "relays": list(codec.relays_from_pb(relays)),
        }
        kept = [_checked(d, f"records[{i}]", i) for i, d in enumerate(deposits)]
        raw = canonical.encode(body)
        if len(raw) > MAX_BODY_BYTES:
            raise malformed(
                "records", f"say more than {MAX_BODY_BYTES} bytes", Reason.LIMIT_EXCEEDED
            )
        contract = self._parts.node.contracts[REGISTRY_PORT]
        with self._parts.state(REGISTRY_PORT) as state:
            contract.call(method, raw, state, self._parts.clock())
        self._source.vault.put(kept)
        answer = self._parts.node.call(REGISTRY_PORT, method, raw)
        return self._attested(fields.document(answer, MAX_CALL_BYTES))

    def _attested(self, answer: fields.Object) -> list[mpb.AttestedRecord]:
        listed = answer["attested"]
        assert isinstance(listed, list)
        return [codec.attested_to_pb(_attested_view(a)) for a in listed]

    def _page(
        self, listing_name: str, request: _Paged, prefix: str, *filters: str
    ) -> tuple[list[bytes], str]:
        """(values, next page token) of the contract's keys under a prefix."""
        size = pages.page_size(request.page_size)
        listing = pages.filter_hash(listing_name, prefix, *filters)
        after = pages.decode_token(request.page_token, listing) or b""
        self._parts.require(REGISTRY_PORT)
        found = query.list_records(
            self._parts.node.store, REGISTRY_PORT, prefix.encode(), after, size
        )
        return pages.cut_bytes(listing, size, found)


_Paged = pb.ListRecordsRequest | pb.ListRecognitionsRequest | pb.ListGrantsRequest


def _attestation(raw: bytes, where: str) -> Attestation:
    return document(raw, where, Attestation.decode)


def _request(raw: bytes, where: str) -> RecognitionRequest:
    return document(raw, where, RecognitionRequest.decode)


def _checked(deposit: Deposit, where: str, index: int) -> KeptRecord:
    """What is kept of a deposit whose parts and patient are those attested, and valid FHIR.

    Raises Invalid(RECORD_MISMATCH, RECORD_INVALID) or Malformed, with the deposit's index.
    """
    attestation = deposit.attestation
    try:
        for number, part in enumerate(deposit.parts):
            place = f"{where}.parts[{number}]"
            check_structure(strict.read(part.content, place), part.content, place)
        if commit(deposit.parts) != attestation.commitment:
            raise Invalid(
                Reason.RECORD_MISMATCH,
                "the parts do not make the attested commitment",
                hint="send every part in order with its salt, exactly as committed",
            )
        person = deposit.patient
        open_patient(attestation.patient, person.salt, person.scheme, person.value)
        if any(item.part >= len(deposit.parts) for item in attestation.items):
            raise Invalid(Reason.RECORD_MISMATCH, "an attested item lies in no part")
    except LianqiaoError as error:
        error.data["index"] = str(index)
        raise
    items = tuple(KeptItem(i.part, i.system, i.code) for i in attestation.items)
    return KeptRecord(attestation.commitment, deposit.parts, person, items, deposit.identifiers)


def _attested_view(value: Json) -> AttestedView:
    found = fields.members(value, fields.names("commitment new packets"), "attested")
    packets = found["packets"]
    assert isinstance(packets, list)
    return AttestedView(
        fields.octets(found, "commitment"),
        fields.boolean(found, "new"),
        tuple(_sent(packet) for packet in packets),
    )


def _sent(value: Json) -> SentPacket:
    assert isinstance(value, dict)
    return SentPacket(
        fields.code(value, "client"),
        fields.integer(value, "sequence"),
        fields.identifier(value, "relay"),
    )


def _record(state: Reader, attestation: Attestation) -> RecordView:
    commitment = attestation.commitment
    newer = revision_of(state, commitment)
    prefix = key("announced", commitment, "")
    told = state.scan(prefix, limit=codec.MAX_ANNOUNCEMENTS)
    return RecordView(
        attestation,
        _STATES[standing(state, commitment)],
        newer.commitment if newer is not None else b"",
        tuple(_announcement(name.removeprefix(prefix), value) for name, value in told),
    )


def _announcement(name: bytes, value: bytes) -> AnnouncementView:
    action, _, relay = name.decode().partition("/")
    answer = fields.document(value)
    return AnnouncementView(
        relay=relay,
        action=action,
        accepted=fields.boolean(answer, "accepted"),
        reason=str(answer["reason"]),
        time=fields.integer(answer, "time"),
        client_id=fields.code(answer, "client"),
        sequence=fields.integer(answer, "sequence"),
    )


def _recognition(state: Reader, wanted: bytes) -> mpb.Recognition:
    view: RequestView = find_request(state, wanted)
    return codec.recognition_to_pb(
        RecognitionView(
            view.request,
            _REQUEST_STATES[view.status],
            view.client,
            view.sequence,
            view.decision,
        )
    )
