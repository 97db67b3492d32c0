"""What commands about records read and write: cards, consents, purposes, a record as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli import output
from relay.cli.options import read_file
from relay.errors import Malformed

if TYPE_CHECKING:
    from relay.contracts.payloads import Consent, Purpose
    from relay.ledger_views import RecordView
    from relay.record.card import Card

RecordId = Annotated[
    str, typer.Argument(metavar="RECORD", help="Id of the record, 64 hexadecimal digits.")
]
Person = Annotated[
    str, typer.Option("--person", metavar="NAME", help="Who asks; kept by the source, off-ledger.")
]
CardFile = Annotated[
    Path, typer.Option("--card", metavar="FILE", help="The patient's card for the record.")
]
ConsentFile = Annotated[Path, typer.Option("--consent", metavar="FILE", help="The signed consent.")]
PurposeCode = Annotated[
    str, typer.Option("--purpose", help="TREAT, ETREAT, HPAYMT, HRESCH or PUBHLTH.")
]


def read_card(path: Path) -> Card:
    """A patient's card. Raises Malformed."""
    from relay.record.card import MAX_CARD_BYTES, decode_card

    return decode_card(read_file(path, MAX_CARD_BYTES).removesuffix(b"\n"))


def read_consent(path: Path) -> Consent:
    """A signed consent, in any layout. Raises Malformed."""
    from relay.canonical import parse
    from relay.contracts.payloads import Consent
    from relay.packet import MAX_PAYLOAD_BYTES

    return Consent.from_json(parse(read_file(path, MAX_PAYLOAD_BYTES), MAX_PAYLOAD_BYTES))


def purpose_of(text: str) -> Purpose:
    """A purpose code. Raises Malformed."""
    from relay.contracts.payloads import Purpose

    try:
        return Purpose(text)
    except ValueError:
        raise Malformed(
            f"--purpose: {text[:20]!r} is none of {', '.join(Purpose)}", field="purpose"
        ) from None


def shown(view: RecordView) -> dict[str, object]:
    """A record as JSON."""
    return {
        "record": view.commitment.hex(),
        "state": str(view.state),
        "revised_by": view.revised_by.hex(),
        "attestation": view.attestation.to_json(),
        "announcements": output.plain(view.announcements),
    }
