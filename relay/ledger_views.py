"""What a ledger shows of its records, requests and access log, and what it is handed over.

As `relay.views`: frozen values that the API carries, without SQL and without gRPC. What is signed
stands in them as the contracts' own payloads (relay.contracts.payloads).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from relay.contracts.payloads import (
    Attestation,
    Decision,
    RecognitionRequest,
)
from relay.record.parts import Opened, PatientOpening


class RecordState(StrEnum):
    """Whether a record is still the current one."""

    CURRENT = "current"
    REVISED = "revised"
    RETRACTED = "retracted"


class RecognitionState(StrEnum):
    """Where a request for recognition stands on the ledger that made it."""

    SENT = "sent"
    DECIDED = "decided"
    TIMED_OUT = "timed_out"
    """Proven never to have been received; the same request may be sent again."""
    FAILED = "failed"
    """The relay could not take the payload at all."""


@dataclass(frozen=True, slots=True)
class Deposit:
    """A record handed over to be attested: what is signed for the ledger, and what stays here."""

    attestation: Attestation
    parts: tuple[Opened, ...]
    patient: PatientOpening
    identifiers: tuple[tuple[str, str], ...] = ()
    """Further (scheme, value) identifiers of the patient, by which the record shall be found."""


@dataclass(frozen=True, slots=True)
class SentPacket:
    """One packet that a call sent."""

    client_id: str
    sequence: int
    relay: str
    """Global id of the relay that it goes to."""


@dataclass(frozen=True, slots=True)
class AttestedView:
    """What became of one attestation."""

    commitment: bytes
    written: bool
    """False where the same attestation was there before."""
    packets: tuple[SentPacket, ...]


@dataclass(frozen=True, slots=True)
class AnnouncementView:
    """What a relay answered to an attestation."""

    relay: str
    action: str
    accepted: bool
    reason: str
    """Code of why not; empty where it was accepted."""
    time: int
    client_id: str
    sequence: int


@dataclass(frozen=True, slots=True)
class RecordView:
    """A record of this ledger."""

    attestation: Attestation
    state: RecordState
    revised_by: bytes
    """Commitment of the version that amended it; empty where none did."""
    announcements: tuple[AnnouncementView, ...]

    @property
    def commitment(self) -> bytes:
        """The record's id."""
        return self.attestation.commitment


@dataclass(frozen=True, slots=True)
class RecognitionView:
    """A request for recognition and what became of it."""

    request: RecognitionRequest
    state: RecognitionState
    client_id: str
    sequence: int
    decision: Decision | None


@dataclass(frozen=True, slots=True)
class RecognitionResult:
    """What became of one request of a batch: where it stands, or why this ledger refused it."""

    recognition: RecognitionView | None
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class DecisionView:
    """A decision of a relay."""

    origin: str
    """Global id of the requesting ledger."""
    decision: Decision


@dataclass(frozen=True, slots=True)
class OutcomeCount:
    """How often something became of an item."""

    institution: str
    item: str
    result: str
    """`adopted`, or R1 to R6."""
    count: int


@dataclass(frozen=True, slots=True)
class Resent:
    """What a contract sent again."""

    sent: int
    failed: int
