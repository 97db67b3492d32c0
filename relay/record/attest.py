"""From a record to what an institution signs: salts, commitment, patient reference, attestation.

What an attestation says of an item is chosen here from what the door read, always by rule:
- the code is the first coding that the caller's catalogue knows, else the first that can stand in a
  payload; an Observation with no such code (free text) is not attested, so it cannot be recognised;
- specimen, method and category are the first coding of the system that the catalogue uses
  (HL7 tables 0487 and 0074 …), else the first; laboratory and author the first identifier that can
  stand in a payload (ids only: the narrow alphabet leaves no room for a name);
- an unknown time is 0, an unknown word is empty: the contract refuses by its own reason.

Each item is named by its part, once. Several results contained in one resource would share a part
and could not be shown one by one: such a record is refused with a hint.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from relay.contracts.payloads import REGISTRY_PORT, Action, Attestation, AttestedItem, Status
from relay.contracts.payloads.fields import MAX_ITEMS, code, identifier, system
from relay.errors import Invalid, Malformed, Reason
from relay.record.facts import Coding, Identifier, Item, Record
from relay.record.parts import Opened, PatientOpening, commit, patient_reference
from relay.record.sealed import KeptItem, KeptRecord

SPECIMEN_SYSTEM = "http://terminology.hl7.org/CodeSystem/v2-0487"
CATEGORY_SYSTEM = "http://terminology.hl7.org/CodeSystem/v2-0074"
OBSERVATION_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
METHOD_SYSTEM = "urn:lianqiao:method"
"""Classes of methods as our catalogue names them."""

# The categories of FHIR's own code system that correspond to one of HL7 table 0074.
_CATEGORIES = {"laboratory": "LAB", "imaging": "RAD"}

Salts = Callable[[], bytes]
"""Gives 32 fresh random bytes at each call."""


class Signer(Protocol):
    """What signs: relay.keys.SigningKey, or a device behind the same three names."""

    algorithm: str
    public: bytes

    def sign(self, message: bytes) -> bytes:
        """The signature over `message`, in the format of relay.light.keys."""
        ...


@dataclass(frozen=True, slots=True)
class Attested:
    """What one attestation makes: for the ledger, and for the source's own store."""

    attestation: Attestation
    kept: KeptRecord


def attest(
    record: Record,
    *,
    ledger: str,
    institution: str,
    signer: Signer,
    issued: int,
    salts: Salts,
    known: Collection[str] = (),
    previous: bytes = b"",
) -> Attested:
    """Salts, commits to and signs one record for `institution` on `ledger`.

    `known` are the codes (`system|code`) of the catalogue; `issued` is seconds; `previous` is the
    commitment that this record amends, or empty. The record's first patient identifier is used.
    Raises Invalid(RECORD_INVALID) where nothing in it can be attested, Malformed(LIMIT_EXCEEDED).
    """
    items = tuple(attested_items(record, known))
    parts = tuple(Opened(salts(), part.content) for part in record.parts)
    person = record.patient[0]
    opening = PatientOpening(salts(), person.scheme, person.value)
    commitment = commit(parts)
    attestation = _signed(
        Attestation(
            ledger=ledger,
            port=REGISTRY_PORT,
            commitment=commitment,
            patient=patient_reference(opening),
            institution=institution,
            action=Action.AMEND if previous else Action.NEW,
            previous=previous,
            issued=issued,
            items=items,
            algorithm=signer.algorithm,
            key=signer.public,
            signature=b"",
        ),
        signer,
    )
    kept = KeptRecord(
        commitment=commitment,
        parts=parts,
        patient=opening,
        items=tuple(KeptItem(item.part, item.system, item.code) for item in items),
        identifiers=tuple((i.scheme, i.value) for i in record.patient),
    )
    return Attested(attestation, kept)


def retraction(
    *,
    ledger: str,
    institution: str,
    signer: Signer,
    issued: int,
    commitment: bytes,
    patient: bytes,
) -> Attestation:
    """A signed retraction of an attested record; `patient` is its patient reference."""
    return _signed(
        Attestation(
            ledger=ledger,
            port=REGISTRY_PORT,
            commitment=commitment,
            patient=patient,
            institution=institution,
            action=Action.RETRACT,
            previous=b"",
            issued=issued,
            items=(),
            algorithm=signer.algorithm,
            key=signer.public,
            signature=b"",
        ),
        signer,
    )


def _signed(attestation: Attestation, signer: Signer) -> Attestation:
    return replace(attestation, signature=signer.sign(attestation.signing_bytes()))


def attested_items(record: Record, known: Collection[str]) -> list[AttestedItem]:
    """What is said of each item, ascending by part. Raises as `attest`."""
    found = [said for item in record.items if (said := _attested(item, known)) is not None]
    found.sort(key=lambda item: item.part)
    parts = {item.part for item in found}
    if len(parts) != len(found):
        raise Invalid(
            Reason.RECORD_INVALID,
            "several results lie in one resource and could not be shown one by one",
            hint=f"{record.where}: hand over contained Observations as entries of a Bundle",
        )
    if not found:
        raise Invalid(
            Reason.RECORD_INVALID,
            "no result in it has a code",
            hint=f"{record.where}: give Observation.code.coding with system and code",
        )
    if len(found) > MAX_ITEMS:
        raise Malformed(
            f"more than {MAX_ITEMS} results in one record",
            reason=Reason.LIMIT_EXCEEDED,
            hint=record.where,
        )
    return found


def _attested(item: Item, known: Collection[str]) -> AttestedItem | None:
    codes = [c for c in item.codes if _fits(c)]
    if not codes:
        return None
    chosen = next((c for c in codes if str(c) in known), codes[0])
    return AttestedItem(
        part=item.part,
        system=chosen.system,
        code=chosen.code,
        specimen=_code(item.specimens, SPECIMEN_SYSTEM),
        method=_code(item.methods, METHOD_SYSTEM),
        unit=_code([Coding("", item.unit)] if item.unit else [], ""),
        examined=item.examined or 0,
        issued=item.issued or 0,
        status=Status(item.status),
        category=_category(item.categories),
        laboratory=_identifier(item.laboratories),
        author=_identifier(item.authors),
        reference_range=item.reference_range,
        scope=item.mark.regions if item.mark else (),
    )


def _fits(coding: Coding) -> bool:
    """Whether a coding can stand in a payload, by the payloads' own readers."""
    try:
        system({"system": coding.system}, "system")
        code({"code": coding.code}, "code")
    except Malformed:
        return False
    return True


def _code(codings: Sequence[Coding], preferred: str) -> str:
    fitting = [c for c in codings if _fits(c)]
    best = [c for c in fitting if c.system == preferred]
    return (best or fitting)[0].code if fitting else ""


def _category(codings: Sequence[Coding]) -> str:
    if any(c.system == CATEGORY_SYSTEM for c in codings):
        return _code(codings, CATEGORY_SYSTEM)
    for coding in codings:
        if coding.system == OBSERVATION_CATEGORY and coding.code in _CATEGORIES:
            return _CATEGORIES[coding.code]
    return _code(codings, CATEGORY_SYSTEM)


def _identifier(identifiers: Sequence[Identifier]) -> str:
    for found in identifiers:
        try:
            return identifier({"id": found.value}, "id")
        except Malformed:
            continue
    return ""
