"""RegistryService and RecordService: what a hospital's system asks of its ledger, and of a source.

Signing is the caller's: build an attestation with relay.record.attest, a request or an outcome from
relay.contracts.payloads, a query or fetch from relay.disclosure.asks, and put its signature in by
`dataclasses.replace(value, signature=key.sign(value.signing_bytes()))`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lianqiao.ledger.v1 import record_pb2 as mpb
from lianqiao.ledger.v1 import record_service_pb2 as dpb
from lianqiao.ledger.v1 import record_service_pb2_grpc as drpc
from lianqiao.ledger.v1 import registry_service_pb2 as pb
from lianqiao.ledger.v1 import registry_service_pb2_grpc as rpc
from relay.client.base import Calls
from relay.client.connection import Connection
from relay.codec import disclosure, records
from relay.codec.fields import document, malformed, name, text
from relay.contracts.payloads import Attestation, Notice, Outcome, RecognitionRequest
from relay.contracts.policy.values import DatedKey
from relay.contracts.registry import Role
from relay.disclosure.asks import (
    MAX_FETCHES,
    MAX_FOUND,
    Fetch,
    Fetched,
    FindQuery,
    FoundRecord,
    Withheld,
)
from relay.ledger_views import (
    AttestedView,
    Deposit,
    RecognitionResult,
    RecognitionView,
    RecordView,
    SentPacket,
)
from relay.record.audit import Entry
from relay.record.card import Card
from relay.record.parts import MAX_PARTS, Hidden, Opened, check_parts


class RegistryCalls(Calls):
    """RegistryService; ledgers alone serve it."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._registry = rpc.RegistryServiceStub(connection.channel)

    def register_institution(
        self,
        institution: str,
        version: int,
        keys: Sequence[DatedKey],
        role: Role = Role.ATTESTS,
    ) -> None:
        """Registers an institution of this ledger; versions ascend from 1, the latest counts."""
        request = pb.RegisterInstitutionRequest(
            institution=institution,
            version=version,
            keys=[records.key_to_pb(k) for k in keys],
            role=records.role_to_pb(role),
        )
        self._connection.call(self._registry.RegisterInstitution, request)

    def attest(self, deposits: Sequence[Deposit], relays: Sequence[str] = ()) -> list[AttestedView]:
        """Attests new records, all or none, and tells relays of them."""
        request = pb.AttestRequest(
            records=[records.deposit_to_pb(d) for d in deposits], relays=relays
        )
        return _attested(self._connection.call(self._registry.Attest, request).records)

    def amend(self, deposits: Sequence[Deposit], relays: Sequence[str] = ()) -> list[AttestedView]:
        """Attests records that amend earlier ones."""
        request = pb.AmendRequest(
            records=[records.deposit_to_pb(d) for d in deposits], relays=relays
        )
        return _attested(self._connection.call(self._registry.Amend, request).records)

    def retract(
        self, retractions: Sequence[Attestation], relays: Sequence[str] = ()
    ) -> list[AttestedView]:
        """Retracts records."""
        request = pb.RetractRequest(retractions=[r.encode() for r in retractions], relays=relays)
        return _attested(self._connection.call(self._registry.Retract, request).records)

    def announce(self, commitments: Sequence[bytes], relays: Sequence[str]) -> list[AttestedView]:
        """Tells relays of records that were attested before."""
        request = pb.RequestAnnouncementRequest(commitments=commitments, relays=relays)
        return _attested(self._connection.call(self._registry.RequestAnnouncement, request).records)

    def record(self, commitment: bytes) -> RecordView:
        """One record. Raises NotFound(RECORD_NOT_FOUND)."""
        request = pb.GetRecordRequest(commitment=commitment)
        response = self._connection.call(self._registry.GetRecord, request)
        return records.record_from_pb(response.record)

    def card(self, commitment: bytes) -> Card:
        """The card that the record's patient takes away. Raises NotFound(RECORD_NOT_FOUND)."""
        request = pb.GetCardRequest(commitment=commitment)
        response = self._connection.call(self._registry.GetCard, request)
        opening = records.opening_from_pb(response.patient)
        return Card(name(response.ledger, "ledger"), commitment, opening)

    def records(self, institution: str = "") -> Iterator[RecordView]:
        """Records, of one institution or all."""
        request = pb.ListRecordsRequest(institution=institution)
        return self._pages(self._registry.ListRecords, request, "records", records.record_from_pb)

    def request_recognition(
        self, requests: Sequence[RecognitionRequest], timeout_seconds: int = 0
    ) -> list[RecognitionResult]:
        """Sends clinicians' requests; one result each. A request's timeout is 900 s where 0."""
        request = pb.RequestRecognitionRequest(
            requests=[r.encode() for r in requests], timeout_seconds=timeout_seconds
        )
        response = self._connection.call(self._registry.RequestRecognition, request)
        if len(response.results) != len(requests):
            raise malformed("results", "do not match the requests")
        return [_result(r, f"results[{i}]") for i, r in enumerate(response.results)]

    def recognition(self, request: bytes) -> RecognitionView:
        """One request by its id. Raises NotFound(NOT_FOUND)."""
        asked = pb.GetRecognitionRequest(request_hash=request)
        response = self._connection.call(self._registry.GetRecognition, asked)
        return records.recognition_from_pb(response.recognition)

    def recognitions(self) -> Iterator[RecognitionView]:
        """All requests that this ledger made."""
        request = pb.ListRecognitionsRequest()
        return self._pages(
            self._registry.ListRecognitions, request, "recognitions", records.recognition_from_pb
        )

    def report_outcome(self, outcome: Outcome) -> SentPacket | None:
        """Reports what became of recognised results; None where it was reported before."""
        request = pb.ReportOutcomeRequest(outcome=outcome.encode())
        response = self._connection.call(self._registry.ReportOutcome, request)
        return records.sent_from_pb(response.packet) if response.HasField("packet") else None

    def grants(self, commitment: bytes = b"") -> Iterator[Notice]:
        """Grants on one record of this ledger or all."""
        request = pb.ListGrantsRequest(commitment=commitment)
        return self._pages(
            self._registry.ListGrants,
            request,
            "grants",
            lambda raw: document(raw, "grant", Notice.decode),
        )

    def access_log(
        self, commitment: bytes = b"", patient: tuple[str, str] | None = None
    ) -> Iterator[Entry]:
        """Who asked for what, oldest first; of one record, one (scheme, value) patient, or all.

        Each entry opens the commitment that lies on the ledger.
        """
        request = pb.ListAccessRequest(commitment=commitment)
        if patient is not None:
            request.patient.CopyFrom(mpb.PatientIdentifier(scheme=patient[0], value=patient[1]))
        return self._pages(self._registry.ListAccess, request, "entries", disclosure.entry_from_pb)


class RecordCalls(Calls):
    """RecordService of a source."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._records = drpc.RecordServiceStub(connection.channel)

    def find_records(self, query: FindQuery) -> list[FoundRecord]:
        """Records of a consenting patient. Raises Denied, Refused(CONSENT_INVALID)."""
        response = self._connection.call(self._records.FindRecords, disclosure.query_to_pb(query))
        if len(response.records) > MAX_FOUND:
            raise malformed("records", "are more than an answer holds")
        return [
            disclosure.found_from_pb(r, f"records[{i}]") for i, r in enumerate(response.records)
        ]

    def fetch_records(self, fetches: Sequence[Fetch]) -> Iterator[Fetched | Withheld]:
        """Granted records, one answer a fetch in order, each checked against its commitment.

        Raises Invalid(RECORD_MISMATCH) where a source gives what the commitment does not hold.
        """
        for start in range(0, len(fetches), MAX_FETCHES):
            batch = fetches[start : start + MAX_FETCHES]
            request = dpb.FetchRecordRequest(fetches=[disclosure.fetch_to_pb(f) for f in batch])
            yield from _answers(batch, self._connection.stream(self._records.FetchRecord, request))


def _answers(
    fetches: Sequence[Fetch], messages: Iterator[dpb.FetchRecordResponse]
) -> Iterator[Fetched | Withheld]:
    """What a stream answers to each fetch, in order."""
    for number, fetch in enumerate(fetches):
        first = next(messages, None)
        if first is None or first.fetch != number:
            raise malformed("fetch", "is answered out of order")
        if first.reason:
            yield Withheld(
                fetch.commitment, text(first.reason, "reason"), text(first.detail, "detail")
            )
            continue
        yield _whole(fetch, first, messages)


def _whole(
    fetch: Fetch, first: dpb.FetchRecordResponse, answers: Iterator[dpb.FetchRecordResponse]
) -> Fetched:
    """Every part of one record, checked against the commitment that was asked for."""
    if not 1 <= first.count <= MAX_PARTS:
        raise malformed("count", f"must be between 1 and {MAX_PARTS}")
    parts: list[Opened | Hidden] = []
    message: dpb.FetchRecordResponse | None = first
    for index in range(first.count):
        if message is None or (message.fetch, message.index, message.count, message.reason) != (
            first.fetch,
            index,
            first.count,
            "",
        ):
            raise malformed("index", "is out of order")
        parts.append(disclosure.fetched_part_from_pb(message))
        if index + 1 < first.count:
            message = next(answers, None)
    check_parts(parts, fetch.commitment)
    return Fetched(fetch.commitment, tuple(parts))


def _attested(messages: Sequence[mpb.AttestedRecord]) -> list[AttestedView]:
    return [records.attested_from_pb(m, f"records[{i}]") for i, m in enumerate(messages)]


def _result(message: pb.RecognitionResult, where: str) -> RecognitionResult:
    view = None
    if message.HasField("recognition"):
        view = records.recognition_from_pb(message.recognition, f"{where}.recognition")
    elif not message.reason:
        raise malformed(where, "is neither sent nor refused")
    return RecognitionResult(
        view, text(message.reason, f"{where}.reason"), text(message.detail, f"{where}.detail")
    )
