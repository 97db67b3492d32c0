"""The patient card: what the patient takes away when a record is attested, on file or as QR code.

Patient references are fresh for each record and lie on no ledger in a form that can be searched, so
whoever is to use a record needs its id and the opening of its patient reference. The patient can
bring both himself: this card. It holds nothing else, no name, no result, no institution:

    {"format": "lianqiao-card/1", "ledger": "zj-medical",
     "patient": {"salt": "<64 hex>", "scheme": "urn:oid:…", "value": "…"}, "record": "<64 hex>"}

RFC 8785 JSON; the QR code holds the same bytes as the file. Whoever holds the card can prove whose
record it is, so the patient keeps it like an identity card; it opens no part of the record.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import segno

from relay.canonical import Json, decode, encode
from relay.contracts.payloads.fields import identifier, members, octets
from relay.errors import Malformed, Reason
from relay.record.parts import MAX_SCHEME_BYTES, MAX_VALUE_BYTES, PatientOpening, open_patient

FORMAT = "lianqiao-card/1"
MAX_CARD_BYTES = 2048
_CARD = frozenset(("format", "ledger", "patient", "record"))
_PATIENT = frozenset(("salt", "scheme", "value"))


@dataclass(frozen=True, slots=True)
class Card:
    """A record's id and the opening of its patient reference."""

    ledger: str
    """Global id of the source ledger."""
    record: bytes
    """The record's id: its commitment, 32 bytes."""
    patient: PatientOpening


def encode_card(card: Card) -> bytes:
    """The card's bytes. Raises Malformed."""
    patient: Json = {
        "salt": card.patient.salt.hex(),
        "scheme": card.patient.scheme,
        "value": card.patient.value,
    }
    return encode(
        {"format": FORMAT, "ledger": card.ledger, "patient": patient, "record": card.record.hex()}
    )


def decode_card(raw: bytes) -> Card:
    """The card in a file or QR code.

    Raises Malformed (MALFORMED, LIMIT_EXCEEDED, NOT_CANONICAL, UNSUPPORTED_VERSION); the error
    never repeats what the card holds.
    """
    value = decode(raw, MAX_CARD_BYTES)
    if not isinstance(value, dict) or "format" not in value:
        raise Malformed("not a patient card")
    if value["format"] != FORMAT:
        raise Malformed(
            "a patient card of another version",
            reason=Reason.UNSUPPORTED_VERSION,
            hint=f"this program reads {FORMAT}",
        )
    body = members(value, _CARD, "card")
    patient = members(body["patient"], _PATIENT, "patient")
    return Card(
        ledger=identifier(body, "ledger"),
        record=octets(body, "record"),
        patient=PatientOpening(
            salt=octets(patient, "salt"),
            scheme=_text(patient["scheme"], "scheme", MAX_SCHEME_BYTES),
            value=_text(patient["value"], "value", MAX_VALUE_BYTES),
        ),
    )


def check_card(card: Card, reference: bytes) -> None:
    """Checks that a card opens the patient reference that the ledger holds for its record.

    Raises Invalid(RECORD_MISMATCH).
    """
    open_patient(reference, card.patient.salt, card.patient.scheme, card.patient.value)


def _text(value: Json, field: str, limit: int) -> str:
    if not isinstance(value, str) or not 1 <= len(value.encode()) <= limit:
        raise Malformed(f"{field} is a text of 1-{limit} bytes", field=field)
    return value


def _code(card: Card) -> segno.QRCode:
    return segno.make_qr(encode_card(card), error="m")


def qr_terminal(card: Card) -> str:
    """The card as a QR code in half-block characters, for a terminal."""
    out = io.StringIO()
    _code(card).terminal(out=out, compact=True, border=2)
    return out.getvalue()


def qr_svg(card: Card) -> bytes:
    """The card as a QR code in SVG."""
    out = io.BytesIO()
    _code(card).save(out, kind="svg", scale=4, border=4)
    return out.getvalue()


def qr_png(card: Card) -> bytes:
    """The card as a QR code in PNG."""
    out = io.BytesIO()
    _code(card).save(out, kind="png", scale=4, border=4)
    return out.getvalue()
