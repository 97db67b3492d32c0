"""Row 1: an institution attests a record, amends or retracts an earlier one.

What is attested is the record's commitment (DESIGN §7: the root over its salted parts) and the
facts that recognition needs of each item. No value, no name and no identifier of the patient: the
patient reference is a salted hash, fresh for each record.

The institution signs the whole attestation, ledger id and port included, so that what was signed
for one ledger is not valid on another. Context tag: `lianqiao/attestation/v1`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from relay.canonical import Json, encode
from relay.contracts.payloads import fields
from relay.contracts.payloads.fields import refuse

ATTESTATION_TAG = b"lianqiao/attestation/v1\n"


class Action(StrEnum):
    """What an attestation does."""

    NEW = "new"
    AMEND = "amend"
    RETRACT = "retract"


class Status(StrEnum):
    """FHIR R4 status of a DiagnosticReport or an Observation (both required value sets)."""

    REGISTERED = "registered"
    PARTIAL = "partial"
    PRELIMINARY = "preliminary"
    FINAL = "final"
    AMENDED = "amended"
    CORRECTED = "corrected"
    APPENDED = "appended"
    CANCELLED = "cancelled"
    ENTERED_IN_ERROR = "entered-in-error"
    UNKNOWN = "unknown"


_ITEM = fields.names(
    "part system code specimen method unit examined issued status category laboratory author "
    "reference_range scope"
)


@dataclass(frozen=True, slots=True)
class AttestedItem:
    """What is said on the ledger of one item: never its value."""

    part: int
    """Index of the part that holds it."""
    system: str
    """URI of the code's system; empty for a local code without one."""
    code: str
    """A canonical code of a catalogue, or a local one that a ConceptMap of policy knows."""
    specimen: str
    """Code of the specimen (HL7 table 0487 in our catalogue); empty where unknown."""
    method: str
    """Class of the method; empty where unknown."""
    unit: str
    """UCUM code; empty where the result has none."""
    examined: int
    """Seconds since 1970 UTC; 0 where unknown."""
    issued: int
    """Seconds since 1970 UTC; 0 where unknown."""
    status: Status
    category: str
    """HL7 table 0074, such as LAB or RAD; empty where unknown."""
    laboratory: str
    """Id of the laboratory or department; empty where unknown."""
    author: str
    """Id of the licensed doctor who issued it; empty where none is named."""
    reference_range: bool
    """Whether the result carries a reference range."""
    scope: tuple[str, ...]
    """The HR mark: GB/T 2260 codes and agreement ids where it holds, ascending; empty: no mark."""

    def to_json(self) -> dict[str, Json]:
        """The members of the payload."""
        return {
            "author": self.author,
            "category": self.category,
            "code": self.code,
            "examined": self.examined,
            "issued": self.issued,
            "laboratory": self.laboratory,
            "method": self.method,
            "part": self.part,
            "reference_range": self.reference_range,
            "scope": list(self.scope),
            "specimen": self.specimen,
            "status": self.status.value,
            "system": self.system,
            "unit": self.unit,
        }

    @classmethod
    def from_json(cls, value: Json) -> AttestedItem:
        """Raises Malformed."""
        item = fields.members(value, _ITEM, "item")
        return cls(
            part=fields.part(item, "part"),
            system=fields.system(item, "system"),
            code=fields.code(item, "code"),
            specimen=fields.optional_code(item, "specimen"),
            method=fields.optional_code(item, "method"),
            unit=fields.optional_code(item, "unit"),
            examined=fields.integer(item, "examined"),
            issued=fields.integer(item, "issued"),
            status=fields.word(item, "status", Status),
            category=fields.optional_code(item, "category"),
            laboratory=fields.optional_identifier(item, "laboratory"),
            author=fields.optional_identifier(item, "author"),
            reference_range=fields.boolean(item, "reference_range"),
            scope=fields.ascending(item, "scope", fields.identifier),
        )


_ATTESTATION = fields.names(
    "type ledger port commitment patient institution action previous issued items algorithm key "
    "signature"
)


@dataclass(frozen=True, slots=True)
class Attestation:
    """A signed attestation. Decoding checks its form, the contracts its signature."""

    ledger: str
    """Global id of the source ledger, without the epoch."""
    port: str
    commitment: bytes
    """32 bytes: of the new record, or with RETRACT of the record that is retracted."""
    patient: bytes
    """Patient reference, 32 bytes."""
    institution: str
    action: Action
    previous: bytes
    """With AMEND the commitment that this record replaces; otherwise empty."""
    issued: int
    """Seconds: when the institution signed."""
    items: tuple[AttestedItem, ...]
    """Ascending by part, each part once; none with RETRACT, otherwise at least one."""
    algorithm: str
    key: bytes
    """The institution's public key."""
    signature: bytes

    def to_json(self) -> dict[str, Json]:
        """The members of the payload."""
        return {**self._unsigned(), "signature": self.signature.hex()}

    def _unsigned(self) -> dict[str, Json]:
        return {
            "action": self.action.value,
            "algorithm": self.algorithm,
            "commitment": self.commitment.hex(),
            "institution": self.institution,
            "issued": self.issued,
            "items": [item.to_json() for item in self.items],
            "key": self.key.hex(),
            "ledger": self.ledger,
            "patient": self.patient.hex(),
            "port": self.port,
            "previous": self.previous.hex(),
            "type": "attestation",
        }

    def signing_bytes(self) -> bytes:
        """What the institution signs: the context tag and the payload without `signature`."""
        return ATTESTATION_TAG + encode(self._unsigned())

    def encode(self) -> bytes:
        """The payload's canonical bytes."""
        return encode(self.to_json())

    @classmethod
    def decode(cls, raw: bytes) -> Attestation:
        """Raises Malformed."""
        return cls.from_json(fields.document(raw))

    @classmethod
    def from_json(cls, value: Json) -> Attestation:
        """Raises Malformed."""
        body = fields.members(value, _ATTESTATION, "attestation")
        fields.kind(body, "attestation")
        algorithm, key, signature = fields.signature(body)
        found = cls(
            ledger=fields.identifier(body, "ledger"),
            port=fields.identifier(body, "port"),
            commitment=fields.octets(body, "commitment"),
            patient=fields.octets(body, "patient"),
            institution=fields.identifier(body, "institution"),
            action=fields.word(body, "action", Action),
            previous=fields.optional_octets(body, "previous"),
            issued=fields.integer(body, "issued"),
            items=fields.sequence(body, "items", AttestedItem.from_json),
            algorithm=algorithm,
            key=key,
            signature=signature,
        )
        parts = [item.part for item in found.items]
        if any(not a < b for a, b in pairwise(parts)):
            refuse("items", "must ascend by part, each part once")
        if bool(found.items) == (found.action is Action.RETRACT):
            refuse("items", "must hold at least one item, and none in a retraction")
        if bool(found.previous) != (found.action is Action.AMEND):
            refuse("previous", "is named by an amendment and by nothing else")
        if found.previous == found.commitment:
            refuse("previous", "must not be the record itself")
        return found
