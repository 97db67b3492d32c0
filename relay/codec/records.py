"""Records and requests of a ledger: deposits in, views out.

What is signed travels in its own canonical bytes, never as protobuf fields, and is read here by the
strict reader of its payload; so what is stored is to the byte what was signed.
"""

from __future__ import annotations

from collections.abc import Sequence

from lianqiao.ledger.v1 import record_pb2 as pb
from lianqiao.ledger.v1 import registry_service_pb2 as rpb
from relay.codec.fields import (
    blob,
    digest,
    document,
    each,
    identifier,
    integer,
    malformed,
    member,
    name,
    text,
)
from relay.contracts.payloads import Attestation, Decision, RecognitionRequest
from relay.contracts.payloads.fields import MAX_KEY_BYTES
from relay.contracts.policy.values import DatedKey
from relay.contracts.registry import Role
from relay.errors import Reason
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
from relay.record.parts import (
    MAX_PARTS,
    MAX_SCHEME_BYTES,
    MAX_VALUE_BYTES,
    Opened,
    PatientOpening,
)

MAX_BATCH = 1000
MAX_PART_BYTES = 4 * 1024 * 1024
MAX_RECORD_BYTES = 16 * 1024 * 1024
"""Both are the door's limits (relay.record.door), which a client need not load."""
MAX_RELAYS = 16
MAX_IDENTIFIERS = 16
MAX_ANNOUNCEMENTS = 1000
MAX_KEYS = 256

RECORD_STATES = {
    pb.RECORD_STATE_CURRENT: RecordState.CURRENT,
    pb.RECORD_STATE_REVISED: RecordState.REVISED,
    pb.RECORD_STATE_RETRACTED: RecordState.RETRACTED,
}
ROLES = {
    rpb.INSTITUTION_ROLE_UNSPECIFIED: Role.ATTESTS,
    rpb.INSTITUTION_ROLE_ATTESTS: Role.ATTESTS,
    rpb.INSTITUTION_ROLE_ASKS: Role.ASKS,
}
RECOGNITION_STATES = {
    pb.RECOGNITION_STATE_SENT: RecognitionState.SENT,
    pb.RECOGNITION_STATE_DECIDED: RecognitionState.DECIDED,
    pb.RECOGNITION_STATE_TIMED_OUT: RecognitionState.TIMED_OUT,
    pb.RECOGNITION_STATE_FAILED: RecognitionState.FAILED,
}
_RECORD_STATES = {value: key for key, value in RECORD_STATES.items()}
_RECOGNITION_STATES = {value: key for key, value in RECOGNITION_STATES.items()}


def _bounded(value: str, field: str, limit: int) -> str:
    """1 to `limit` bytes of UTF-8."""
    if not 1 <= len(value.encode()) <= limit:
        raise malformed(field, f"must have 1 to {limit} bytes")
    return value


def identifier_from_pb(message: pb.PatientIdentifier, where: str = "patient") -> tuple[str, str]:
    """(scheme, value) of a patient."""
    return (
        _bounded(message.scheme, f"{where}.scheme", MAX_SCHEME_BYTES),
        _bounded(message.value, f"{where}.value", MAX_VALUE_BYTES),
    )


def opening_to_pb(opening: PatientOpening) -> pb.PatientOpening:
    """PatientOpening as a message."""
    return pb.PatientOpening(salt=opening.salt, scheme=opening.scheme, value=opening.value)


def opening_from_pb(message: pb.PatientOpening, where: str = "patient") -> PatientOpening:
    """PatientOpening."""
    return PatientOpening(
        digest(message.salt, f"{where}.salt"),
        _bounded(message.scheme, f"{where}.scheme", MAX_SCHEME_BYTES),
        _bounded(message.value, f"{where}.value", MAX_VALUE_BYTES),
    )


def part_to_pb(part: Opened) -> pb.RecordPart:
    """Opened part as a message."""
    return pb.RecordPart(salt=part.salt, content=part.content)


def part_from_pb(message: pb.RecordPart, where: str = "part") -> Opened:
    """Opened part."""
    return Opened(
        digest(message.salt, f"{where}.salt"),
        blob(message.content, f"{where}.content", MAX_PART_BYTES, least=1),
    )


def deposit_to_pb(deposit: Deposit) -> pb.RecordDeposit:
    """Deposit as a message."""
    return pb.RecordDeposit(
        attestation=deposit.attestation.encode(),
        parts=[part_to_pb(p) for p in deposit.parts],
        patient=opening_to_pb(deposit.patient),
        identifiers=[
            pb.PatientIdentifier(scheme=scheme, value=value)
            for scheme, value in deposit.identifiers
        ],
    )


def deposit_from_pb(message: pb.RecordDeposit, where: str = "record") -> Deposit:
    """Deposit; that its parts make the attested commitment is checked by the service."""
    deposit = Deposit(
        document(message.attestation, f"{where}.attestation", Attestation.decode),
        each(message.parts, f"{where}.parts", MAX_PARTS, part_from_pb, least=1),
        opening_from_pb(message.patient, f"{where}.patient"),
        each(message.identifiers, f"{where}.identifiers", MAX_IDENTIFIERS, identifier_from_pb),
    )
    if sum(len(p.content) for p in deposit.parts) > MAX_RECORD_BYTES:
        raise malformed(f"{where}.parts", f"exceed {MAX_RECORD_BYTES} bytes", Reason.LIMIT_EXCEEDED)
    return deposit


def key_to_pb(key: DatedKey) -> pb.InstitutionKey:
    """DatedKey as a message."""
    return pb.InstitutionKey(
        algorithm=key.algorithm,
        value=key.key,
        start_time_seconds=key.start,
        end_time_seconds=key.end,
    )


def key_from_pb(message: pb.InstitutionKey, where: str = "key") -> DatedKey:
    """DatedKey; the contract judges the key itself."""
    start = integer(message.start_time_seconds, f"{where}.start_time_seconds")
    return DatedKey(
        name(message.algorithm, f"{where}.algorithm", 32),
        blob(message.value, f"{where}.value", MAX_KEY_BYTES, least=1),
        start,
        integer(message.end_time_seconds, f"{where}.end_time_seconds", low=start + 1),
    )


def sent_to_pb(packet: SentPacket) -> pb.SentPacket:
    """SentPacket as a message."""
    return pb.SentPacket(client_id=packet.client_id, sequence=packet.sequence, relay=packet.relay)


def sent_from_pb(message: pb.SentPacket, where: str = "packet") -> SentPacket:
    """SentPacket."""
    return SentPacket(
        name(message.client_id, f"{where}.client_id"),
        integer(message.sequence, f"{where}.sequence", low=1),
        identifier(message.relay, f"{where}.relay"),
    )


def attested_to_pb(view: AttestedView) -> pb.AttestedRecord:
    """AttestedView as a message."""
    return pb.AttestedRecord(
        commitment=view.commitment,
        written=view.written,
        packets=[sent_to_pb(p) for p in view.packets],
    )


def attested_from_pb(message: pb.AttestedRecord, where: str = "record") -> AttestedView:
    """AttestedView."""
    return AttestedView(
        digest(message.commitment, f"{where}.commitment"),
        message.written,
        each(message.packets, f"{where}.packets", 3 * MAX_RELAYS, sent_from_pb),
    )


def announcement_to_pb(view: AnnouncementView) -> pb.Announcement:
    """AnnouncementView as a message."""
    return pb.Announcement(
        relay=view.relay,
        action=view.action,
        accepted=view.accepted,
        reason=view.reason,
        time_seconds=view.time,
        client_id=view.client_id,
        sequence=view.sequence,
    )


def announcement_from_pb(message: pb.Announcement, where: str = "announcement") -> AnnouncementView:
    """AnnouncementView."""
    return AnnouncementView(
        identifier(message.relay, f"{where}.relay"),
        name(message.action, f"{where}.action"),
        message.accepted,
        text(message.reason, f"{where}.reason", 64),
        integer(message.time_seconds, f"{where}.time_seconds"),
        name(message.client_id, f"{where}.client_id"),
        integer(message.sequence, f"{where}.sequence", low=1),
    )


def record_to_pb(view: RecordView) -> pb.Record:
    """RecordView as a message."""
    return pb.Record(
        commitment=view.commitment,
        attestation=view.attestation.encode(),
        state=_RECORD_STATES[view.state],
        revised_by=view.revised_by,
        announcements=[announcement_to_pb(a) for a in view.announcements],
    )


def record_from_pb(message: pb.Record, where: str = "record") -> RecordView:
    """RecordView whose id is that of its attestation."""
    revised = message.revised_by
    view = RecordView(
        document(message.attestation, f"{where}.attestation", Attestation.decode),
        member(message.state, f"{where}.state", RECORD_STATES),
        digest(revised, f"{where}.revised_by") if revised else b"",
        each(
            message.announcements,
            f"{where}.announcements",
            MAX_ANNOUNCEMENTS,
            announcement_from_pb,
        ),
    )
    if view.commitment != message.commitment:
        raise malformed(f"{where}.commitment", "is another than the attestation's")
    return view


def recognition_to_pb(view: RecognitionView) -> pb.Recognition:
    """RecognitionView as a message."""
    return pb.Recognition(
        request_hash=view.request.request,
        request=view.request.encode(),
        state=_RECOGNITION_STATES[view.state],
        client_id=view.client_id,
        sequence=view.sequence,
        decision=view.decision.encode() if view.decision else b"",
    )


def recognition_from_pb(message: pb.Recognition, where: str = "recognition") -> RecognitionView:
    """RecognitionView; a decision is there exactly where it is decided."""
    view = RecognitionView(
        document(message.request, f"{where}.request", RecognitionRequest.decode),
        member(message.state, f"{where}.state", RECOGNITION_STATES),
        text(message.client_id, f"{where}.client_id", 128),
        integer(message.sequence, f"{where}.sequence"),
        document(message.decision, f"{where}.decision", Decision.decode)
        if message.decision
        else None,
    )
    if view.request.request != message.request_hash:
        raise malformed(f"{where}.request_hash", "is another than the request's")
    if (view.decision is not None) != (view.state is RecognitionState.DECIDED):
        raise malformed(f"{where}.decision", "stands with the state DECIDED and no other")
    return view


def relays_from_pb(values: Sequence[str], field: str = "relays", least: int = 0) -> tuple[str, ...]:
    """Ids of relays in ascending order, each once."""
    return tuple(sorted(set(each(values, field, MAX_RELAYS, identifier, least=least))))


def role_to_pb(role: Role) -> rpb.InstitutionRole:
    """What an institution may do as an enum value."""
    asks = role is Role.ASKS
    return rpb.INSTITUTION_ROLE_ASKS if asks else rpb.INSTITUTION_ROLE_ATTESTS
