"""Adjudicated bills at the command line: signed by the insurer, taken at the door."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli import output
from relay.cli.access import public_key
from relay.cli.keys import load_key
from relay.cli.options import Json, hex_of, node_at, read_file, write_file
from relay.errors import Invalid, Malformed, Reason

if TYPE_CHECKING:
    from relay.contracts.payloads import Quote
    from relay.record.bill import Bill, BillSignature
    from relay.settling import Party

BillFile = Annotated[
    Path | None,
    typer.Option("--bill", metavar="FILE", help="The ClaimResponse; salt: FILE.salt."),
]
SignatureFile = Annotated[
    Path | None,
    typer.Option("--bill-signature", metavar="FILE", help="The insurer's; default: BILL.sig."),
]
InsurerKey = Annotated[
    str, typer.Option("--insurer-key", metavar="ALGORITHM:HEX", help="The bill is signed under it.")
]
PayerNode = Annotated[
    str,
    typer.Option(
        "--payer-node",
        metavar="ADDRESS",
        help="The payer's ledger, which knows the insurer's keys.",
    ),
]
MAX_SIGNATURE_FILE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Taken:
    """A bill that was let in."""

    bill: Bill
    insurer: str
    subject: bytes
    """Its salted commitment."""


def sign_bill(
    bill: Annotated[Path, typer.Argument(metavar="BILL", help="A FHIR R4 ClaimResponse.")],
    insurer: Annotated[str, typer.Option("--insurer", metavar="ID", help="Who adjudicated it.")],
    key: Annotated[Path, typer.Option("--key", metavar="FILE", help="The insurer's key (PEM).")],
    file: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Default: BILL.sig.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Signs an adjudicated bill, byte for byte; what cannot be cleared is not signed.

    Example: lianqiao settlement sign-bill bill.json --insurer hk-insurer --key insurer.pem
    """
    from relay.record.bill import MAX_BILL_BYTES, describe, take_bill
    from relay.record.bill import sign_bill as sign

    raw = read_file(bill, MAX_BILL_BYTES)
    found = take_bill(raw, str(bill))
    signature = sign(raw, insurer, load_key(key))
    where = file or _beside(bill)
    write_file(where, signature.encode())
    if as_json:
        output.print_json({"bill": found, "file": where, "signature": signature})
        return
    output.say(f"{describe(found)}, {len(found.lines)} lines, signed as {insurer}: {where}")


def _beside(bill: Path) -> Path:
    return bill.with_name(bill.name + ".sig")


def take(
    path: Path,
    signature: Path | None,
    insurer_key: str,
    payer_node: str,
    payer: Party,
    offer: Quote,
) -> Taken:
    """The bill in a file, signed by the payer's insurer, for the amount that was quoted.

    Its fresh salt is written to PATH.salt; one that is there is used again, since an instruction
    that was made before is opened by it alone. Raises Malformed, and Invalid: BILL_INVALID where
    it is not signed, cannot be cleared or was quoted otherwise, UNKNOWN_SIGNER, RECORD_MISMATCH,
    INVALID_SIGNATURE.
    """
    import os

    from relay.record.bill import MAX_BILL_BYTES, subject, take_signed

    raw = read_file(path, MAX_BILL_BYTES)
    signed = _read_signature(signature or _beside(path), path)
    key = _insurer_key(signed, insurer_key, payer_node, payer)
    found = take_signed(raw, signed, key, str(path))
    if (found.currency, found.amount) != (offer.bill.currency, offer.bill.amount):
        raise Invalid(
            Reason.BILL_INVALID,
            "the quote is for another amount than the bill's",
            hint="quote the amount of the bill: lianqiao settlement quote",
            bill=f"{found.amount} {found.currency}",
            quoted=f"{offer.bill.amount} {offer.bill.currency}",
        )
    kept = path.with_name(path.name + ".salt")
    if kept.exists():
        salt = hex_of(read_file(kept, 64).decode(errors="replace"), str(kept))
    else:
        salt = os.urandom(32)
        write_file(kept, salt.hex().encode(), private=True)
    return Taken(found, signed.insurer, subject(raw, salt))


def _read_signature(path: Path, bill: Path) -> BillSignature:
    from relay.record.bill import BillSignature

    if not path.exists():
        raise Invalid(
            Reason.BILL_INVALID,
            f"the bill is not signed: there is no {path}",
            hint=f"its insurer: lianqiao settlement sign-bill {bill} --insurer ID --key KEY",
        )
    return BillSignature.decode(read_file(path, MAX_SIGNATURE_FILE))


def _insurer_key(signed: BillSignature, insurer_key: str, payer_node: str, payer: Party) -> bytes:
    """The key that the bill must be signed under: the one that is pinned, or one of the payer's
    account, of whose owner it must be. Raises Malformed, Invalid(UNKNOWN_SIGNER)."""
    import time

    from relay.contracts.policy.values import key_holds

    if bool(insurer_key) is bool(payer_node):
        raise Malformed(
            "whose signature counts for the bill is not said",
            hint="give --insurer-key ALGORITHM:HEX, or --payer-node with the payer's ledger",
        )
    if insurer_key:
        algorithm, key = public_key(insurer_key, "--insurer-key")
        if algorithm != signed.algorithm:
            raise _unknown(f"signed under {signed.algorithm}, and the insurer's key is {algorithm}")
        return key
    with node_at(payer_node) as peer:
        ledger = peer.status().chain_id
        if ledger != payer.ledger:
            raise Malformed(
                f"{payer_node} is {ledger}, and the payer's account is on {payer.ledger}",
                reason=Reason.CHAIN_ID_MISMATCH,
                hint="give the address of the payer's ledger by --payer-node",
            )
        terms = peer.account(payer.account).terms
    if terms is None or terms.owner != signed.insurer:
        owner = terms.owner if terms else "the ledger"
        raise _unknown(f"signed by {signed.insurer}, and the payer's account is of {owner}")
    if not key_holds(terms.keys, signed.algorithm, signed.key, int(time.time())):
        raise _unknown(f"not signed under a key of {signed.insurer} that is valid now")
    return signed.key


def _unknown(detail: str) -> Invalid:
    return Invalid(
        Reason.UNKNOWN_SIGNER, detail, hint="the insurer who pays signs his own adjudication"
    )
