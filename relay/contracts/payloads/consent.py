"""Consent payload v1: a signed permission to read, carried in a request.

Signed by the patient or by an institution that policy accepts as a signer. It holds commitments and
references only, no name. Until a consent contract keeps a register of consents and revocations, a
consent that satisfies every rule still yields the flag CONSENT_ASSERTED. Context tag:
`lianqiao/consent/v1`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

from relay.canonical import Json, encode
from relay.contracts.payloads import fields
from relay.contracts.payloads.fields import refuse

CONSENT_TAG = b"lianqiao/consent/v1\n"
REPORT = "report"
"""In a scope: the DiagnosticReport itself with its diagnosis, delivered and never recognised."""
MAX_COVERED = 64


class Purpose(StrEnum):
    """Why a record is read (HL7 v3 ActReason)."""

    TREAT = "TREAT"
    ETREAT = "ETREAT"
    HPAYMT = "HPAYMT"
    HRESCH = "HRESCH"
    PUBHLTH = "PUBHLTH"


class Signer(StrEnum):
    """Who signed a consent."""

    PATIENT = "patient"
    INSTITUTION = "institution"


def scope_of(system: str, code: str) -> str:
    """How a scope names one code: `system|code`, which no system or code can imitate."""
    return f"{system}|{code}"


def scope_entry(value: fields.Object, field: str) -> str:
    """Reads `report`, or `system|code`. Raises Malformed."""
    text = value[field]
    if type(text) is not str:
        refuse(field, "must be report or system|code")
    if text != REPORT:
        system, _, code = text.partition("|")
        fields.system({field: system}, field)
        fields.code({field: code}, field)
    return text


def _purpose(value: fields.Object, field: str) -> Purpose:
    return fields.word(value, field, Purpose)


_CONSENT = fields.names(
    "type records patients grantee purposes scope start end revocation signer signed_by algorithm "
    "key signature"
)


@dataclass(frozen=True, slots=True)
class Consent:
    """A signed consent. Decoding checks its form; what it allows is decided by the contract."""

    records: tuple[bytes, ...]
    """Commitments of the records it covers, ascending."""
    patients: tuple[bytes, ...]
    """Patient references it covers, ascending; one of `records` and `patients` is not empty."""
    grantee: str
    """The institution that may read."""
    purposes: tuple[Purpose, ...]
    """Ascending, at least one."""
    scope: tuple[str, ...]
    """`system|code` of each item it covers, and `report`; ascending, at least one."""
    start: int
    """Seconds; from here, included."""
    end: int
    """Seconds; to here, not included."""
    revocation: bytes
    """32 bytes by which it can be revoked; random, so that its hash tells nothing."""
    signer: Signer
    signed_by: str
    """The institution that signed; empty where the patient did."""
    algorithm: str
    key: bytes
    signature: bytes

    def to_json(self) -> dict[str, Json]:
        """The members of the payload."""
        return {**self._unsigned(), "signature": self.signature.hex()}

    def _unsigned(self) -> dict[str, Json]:
        return {
            "algorithm": self.algorithm,
            "end": self.end,
            "grantee": self.grantee,
            "key": self.key.hex(),
            "patients": [reference.hex() for reference in self.patients],
            "purposes": [purpose.value for purpose in self.purposes],
            "records": [record.hex() for record in self.records],
            "revocation": self.revocation.hex(),
            "scope": list(self.scope),
            "signed_by": self.signed_by,
            "signer": self.signer.value,
            "start": self.start,
            "type": "consent",
        }

    def signing_bytes(self) -> bytes:
        """What is signed: the context tag and the payload without `signature`."""
        return CONSENT_TAG + encode(self._unsigned())

    def encode(self) -> bytes:
        """The consent's canonical bytes, as a file or beside a query."""
        return encode(self.to_json())

    @property
    def digest(self) -> bytes:
        """SHA-256 of the canonical bytes."""
        return sha256(self.encode()).digest()

    @classmethod
    def decode(cls, raw: bytes) -> Consent:
        """Raises Malformed."""
        return cls.from_json(fields.document(raw))

    @classmethod
    def from_json(cls, value: Json) -> Consent:
        """Raises Malformed."""
        body = fields.members(value, _CONSENT, "consent")
        fields.kind(body, "consent")
        algorithm, key, signature = fields.signature(body)
        found = cls(
            records=fields.ascending(body, "records", fields.octets, MAX_COVERED),
            patients=fields.ascending(body, "patients", fields.octets, MAX_COVERED),
            grantee=fields.identifier(body, "grantee"),
            purposes=fields.ascending(body, "purposes", _purpose, low=1),
            scope=fields.ascending(body, "scope", scope_entry, low=1),
            start=fields.integer(body, "start"),
            end=fields.integer(body, "end"),
            revocation=fields.octets(body, "revocation"),
            signer=fields.word(body, "signer", Signer),
            signed_by=fields.optional_identifier(body, "signed_by"),
            algorithm=algorithm,
            key=key,
            signature=signature,
        )
        if not found.records and not found.patients:
            refuse("records", "a consent must cover a record or a patient reference")
        if not found.start < found.end:
            refuse("end", "must lie after start")
        if bool(found.signed_by) != (found.signer is Signer.INSTITUTION):
            refuse("signed_by", "names the institution that signed, and nothing for a patient")
        return found
