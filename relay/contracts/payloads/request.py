"""Row 2: a clinician asks for recognition of some items of a record.

The clinician signs the whole request, consent included, and with it the statement that the patient
reference opens to the patient before him (`opens_to_my_patient`). The opening itself never enters a
packet. Context tag: `lianqiao/request/v1`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from relay.canonical import Json, encode
from relay.contracts.payloads import fields
from relay.contracts.payloads.consent import Consent, Purpose
from relay.contracts.payloads.fields import refuse

REQUEST_TAG = b"lianqiao/request/v1\n"


class Setting(StrEnum):
    """Where the patient is treated; age rules differ by it."""

    INPATIENT = "inpatient"
    OUTPATIENT = "outpatient"


_REQUEST = fields.names(
    "type request relay origin target hops commitment patient parts institution clinician purpose "
    "setting time opens_to_my_patient consent algorithm key signature"
)


@dataclass(frozen=True, slots=True)
class RecognitionRequest:
    """A signed request. Decoding checks its form; everything else is decided by the relay."""

    request: bytes
    """32 random bytes chosen by the requester; one decision for ever."""
    relay: str
    """Global id of the relay that shall decide."""
    origin: str
    """Global id of the requesting ledger."""
    target: str
    """Global id of the source ledger."""
    hops: int
    """How many relays it may still pass, the deciding one included."""
    commitment: bytes
    patient: bytes
    """The patient reference of the record."""
    parts: tuple[int, ...]
    """Indexes of the items' parts, ascending, at least one."""
    institution: str
    """The requesting institution, which will be the grantee."""
    clinician: str
    purpose: Purpose
    setting: Setting
    time: int
    """Seconds: when the clinician signed."""
    consent: Consent
    algorithm: str
    key: bytes
    """The clinician's public key."""
    signature: bytes

    def to_json(self) -> dict[str, Json]:
        """The members of the payload."""
        return {**self._unsigned(), "signature": self.signature.hex()}

    def _unsigned(self) -> dict[str, Json]:
        return {
            "algorithm": self.algorithm,
            "clinician": self.clinician,
            "commitment": self.commitment.hex(),
            "consent": self.consent.to_json(),
            "hops": self.hops,
            "institution": self.institution,
            "key": self.key.hex(),
            "opens_to_my_patient": True,
            "origin": self.origin,
            "parts": list(self.parts),
            "patient": self.patient.hex(),
            "purpose": self.purpose.value,
            "relay": self.relay,
            "request": self.request.hex(),
            "setting": self.setting.value,
            "target": self.target,
            "time": self.time,
            "type": "request",
        }

    def signing_bytes(self) -> bytes:
        """What the clinician signs: the context tag and the payload without `signature`."""
        return REQUEST_TAG + encode(self._unsigned())

    def encode(self) -> bytes:
        """The payload's canonical bytes."""
        return encode(self.to_json())

    @classmethod
    def decode(cls, raw: bytes) -> RecognitionRequest:
        """Raises Malformed."""
        return cls.from_json(fields.document(raw))

    @classmethod
    def from_json(cls, value: Json) -> RecognitionRequest:
        """Raises Malformed."""
        body = fields.members(value, _REQUEST, "request")
        fields.kind(body, "request")
        if body["opens_to_my_patient"] is not True:
            refuse("opens_to_my_patient", "must be stated")
        algorithm, key, signature = fields.signature(body)
        return cls(
            request=fields.octets(body, "request"),
            relay=fields.identifier(body, "relay"),
            origin=fields.identifier(body, "origin"),
            target=fields.identifier(body, "target"),
            hops=fields.integer(body, "hops", 0, fields.MAX_HOPS),
            commitment=fields.octets(body, "commitment"),
            patient=fields.octets(body, "patient"),
            parts=fields.ascending(body, "parts", fields.part, low=1),
            institution=fields.identifier(body, "institution"),
            clinician=fields.identifier(body, "clinician"),
            purpose=fields.word(body, "purpose", Purpose),
            setting=fields.word(body, "setting", Setting),
            time=fields.integer(body, "time"),
            consent=Consent.from_json(body["consent"]),
            algorithm=algorithm,
            key=key,
            signature=signature,
        )
