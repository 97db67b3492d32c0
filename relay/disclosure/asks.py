"""What an institution asks of a source, and the bytes it signs for it.

A query names the patient by an opening of a patient reference: the consent holds the reference, so
that whoever signed it named a person without writing him down. What is asked is bound into the
signature as SHA-256 of RFC 8785

    {"items": ["system|code", …], "patient": "<reference, hex>", "person": "…", "purpose": "…"}
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from relay import canonical
from relay.contracts.payloads import Consent, Purpose, fetch_bytes, find_bytes
from relay.record.parts import Hidden, Opened, PatientOpening, patient_reference

MAX_FETCHES = 100
"""Fetches in one call."""
MAX_FOUND = 1000
"""Records in one answer."""
MAX_PERSON = 256
MAX_ITEMS = 256
MIN_NONCE_BYTES, MAX_NONCE_BYTES = 16, 64


@dataclass(frozen=True, slots=True)
class FindQuery:
    """A signed query for records of one patient."""

    institution: str
    """The asking institution."""
    person: str
    """Who asks there, as the institution names him; stays off-ledger."""
    purpose: Purpose
    patient: PatientOpening
    """Opens one of the patient references that the consent covers."""
    items: tuple[str, ...]
    """`system|code` of each item asked for, ascending."""
    consent: Consent
    nonce: bytes
    time: int
    algorithm: str
    key: bytes
    signature: bytes = b""

    @property
    def digest(self) -> bytes:
        """SHA-256 of what is asked (module docstring)."""
        return sha256(
            canonical.encode(
                {
                    "items": list(self.items),
                    "patient": patient_reference(self.patient).hex(),
                    "person": self.person,
                    "purpose": self.purpose.value,
                }
            )
        ).digest()

    def signing_bytes(self, ledger: str) -> bytes:
        """What the institution signs to ask `ledger`."""
        return find_bytes(
            ledger=ledger,
            institution=self.institution,
            query=self.digest,
            consent=self.consent.digest,
            nonce=self.nonce,
            time=self.time,
        )


@dataclass(frozen=True, slots=True)
class FoundItem:
    """Which part of a record holds an item."""

    part: int
    code: str
    """`system|code`."""


@dataclass(frozen=True, slots=True)
class FoundRecord:
    """A current record that holds an asked item."""

    commitment: bytes
    patient: PatientOpening
    """Opens the patient reference that the ledger holds for it."""
    items: tuple[FoundItem, ...]


@dataclass(frozen=True, slots=True)
class Fetch:
    """One fetch, signed under a key that the grant names."""

    commitment: bytes
    grant: bytes
    institution: str
    person: str
    nonce: bytes
    time: int
    algorithm: str
    key: bytes
    signature: bytes = b""

    def signing_bytes(self, ledger: str) -> bytes:
        """What the grantee institution signs to fetch from `ledger`."""
        return fetch_bytes(
            ledger=ledger,
            commitment=self.commitment,
            grant=self.grant,
            institution=self.institution,
            nonce=self.nonce,
            time=self.time,
        )


@dataclass(frozen=True, slots=True)
class Fetched:
    """A record with the parts that the grant covers opened, the others as their leaves."""

    commitment: bytes
    parts: tuple[Opened | Hidden, ...]


@dataclass(frozen=True, slots=True)
class Withheld:
    """Why a fetch was refused."""

    commitment: bytes
    reason: str
    detail: str
