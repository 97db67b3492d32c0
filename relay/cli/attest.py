"""Attesting a hospital's reports: read at the door, salted and signed here, kept by the node.

The institution's key stays with whoever runs this: what leaves is signed. The node gets the
originals with their salts (it keeps them, encrypted) and writes commitments and catalogue facts.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.cli import output
from relay.cli.keys import load_key
from relay.cli.options import Json, Node, node_at, read_file, write_file
from relay.errors import Invalid, LianqiaoError, Malformed, Reason

if TYPE_CHECKING:
    from relay.client import NodeClient
    from relay.keys import SigningKey
    from relay.ledger_views import AttestedView, Deposit
    from relay.record.attest import Attested
    from relay.record.card import Card
    from relay.record.door import Refusal
    from relay.record.facts import Record

MAX_CALL_RECORDS = 500
MAX_CALL_BYTES = 16 * 1024 * 1024
"""Originals in one call; a node takes messages of 32 MiB."""
MAX_SAID_BYTES = 6 * 1024 * 1024
"""Attestations in one call; a node takes 8 MiB (relay.node.MAX_BODY_BYTES)."""

Institution = Annotated[
    str, typer.Option("--institution", metavar="ID", help="Id of the institution.")
]
Key = Annotated[Path, typer.Option("--key", metavar="FILE", help="The private key that signs.")]
Relays = Annotated[
    list[str] | None,
    typer.Option(
        "--relay",
        metavar="ID",
        help="Relay to tell; may be repeated. Default: every relay that the node follows.",
    ),
]
Cards = Annotated[
    Path | None,
    typer.Option("--cards", metavar="DIR", help="Write each patient's card (JSON and SVG) here."),
]


def attest(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="FHIR R4 JSON, NDJSON or Bundles; or directories."),
    ],
    institution: Institution,
    key: Key,
    node: Node,
    relay: Relays = None,
    cards: Cards = None,
    as_json: Json = False,
) -> None:
    """Attests the reports in FHIR files on a ledger and tells its relays.

    Example: lianqiao attest reports.json --institution zj-h1 --key h1.pem --node 127.0.0.1:7101
    """
    from relay.record.door import take

    signer = load_key(key)
    taken = take(sources_of(files))
    with node_at(node) as peer, output.working("attesting", quiet=as_json):
        done, failed = attest_records(
            peer, taken.records, institution, signer, relays=relay, action=peer.attest
        )
    if cards is not None:
        _write_cards(cards, done)
    report(done, [*taken.refused, *failed], as_json)


@dataclass(frozen=True, slots=True)
class Done:
    """One record that was attested."""

    where: str
    attested: Attested
    answer: AttestedView


def sources_of(files: Sequence[Path]) -> Iterator[Any]:
    """The bytes of files, and of every .json and .ndjson in directories. Raises Malformed."""
    from relay.record.door import MAX_SOURCE_BYTES, Source

    for file in files:
        if not file.is_dir():
            yield Source(file.name, read_file(file, MAX_SOURCE_BYTES))
            continue
        inside = sorted(p for p in file.rglob("*") if p.suffix in (".json", ".ndjson"))
        if not inside:
            raise Malformed(f"{file} holds no .json or .ndjson file", file=file)
        for path in inside:
            yield Source(str(path.relative_to(file)), read_file(path, MAX_SOURCE_BYTES))


def attest_records(
    peer: NodeClient,
    records: Sequence[Record],
    institution: str,
    signer: SigningKey,
    *,
    relays: Sequence[str] | None,
    action: Callable[..., list[AttestedView]],
    previous: bytes = b"",
) -> tuple[list[Done], list[Refusal]]:
    """Signs records for `institution` and hands them to its ledger, some hundred at a time."""
    from relay.record.attest import attest as sign
    from relay.record.door import Refusal

    ledger = peer.status().chain_id
    told = list(relays) if relays else relays_of(peer)
    known, now = catalogue_codes(), int(time.time())
    signed: list[tuple[str, Attested]] = []
    failed: list[Refusal] = []
    for record in records:
        try:
            attested = sign(
                record,
                ledger=ledger,
                institution=institution,
                signer=signer,
                issued=now,
                salts=lambda: os.urandom(32),
                known=known,
                previous=previous,
            )
            signed.append((record.where, attested))
        except LianqiaoError as error:
            failed.append(Refusal(record.where, error))
    done: list[Done] = []
    for batch in _batches(signed):
        answers = action([_deposit(attested) for _, attested in batch], told)
        done += [Done(*one, answer) for one, answer in zip(batch, answers, strict=True)]
    return done, failed


def relays_of(peer: NodeClient) -> list[str]:
    """Global ids of the chains that a node follows and that know it."""
    return sorted(
        {view.chain for view in peer.clients() if view.counterparty_client_id and not view.frozen}
    )


def catalogue_codes() -> frozenset[str]:
    """The codes of the catalogue that ships: the first of them in a result is what is attested."""
    from relay.contracts.catalogue import shipped
    from relay.contracts.policy import parse_document

    return frozenset(
        code for item in getattr(parse_document(shipped()), "items", ()) for code in item.codes
    )


def _batches(signed: Sequence[tuple[str, Attested]]) -> Iterator[list[tuple[str, Attested]]]:
    """Few enough records and bytes for one call each."""
    batch: list[tuple[str, Attested]] = []
    kept = said = 0
    for one in signed:
        content = sum(len(part.content) for part in one[1].kept.parts)
        words = len(one[1].attestation.encode())
        full = len(batch) == MAX_CALL_RECORDS
        if batch and (full or kept + content > MAX_CALL_BYTES or said + words > MAX_SAID_BYTES):
            yield batch
            batch, kept, said = [], 0, 0
        batch.append(one)
        kept, said = kept + content, said + words
    if batch:
        yield batch


def _deposit(attested: Attested) -> Deposit:
    from relay.ledger_views import Deposit

    kept = attested.kept
    return Deposit(attested.attestation, kept.parts, kept.patient, kept.identifiers)


# --- what is told


def report(done: Sequence[Done], refused: Sequence[Refusal], as_json: bool) -> None:
    """Prints what was attested and what was not; ends with 1 or 2 where something was not."""
    if as_json:
        output.print_json(
            {
                "records": [_shown(one) for one in done],
                "refused": [_refused(one) for one in refused],
            }
        )
    else:
        output.table(
            ("record", "items", "told", "from"),
            [
                (
                    one.answer.commitment.hex(),
                    len(one.attested.attestation.items),
                    ", ".join(p.relay for p in one.answer.packets)
                    or ("nobody" if one.answer.written else "before"),
                    one.where,
                )
                for one in done
            ],
            "nothing was attested",
        )
    for refusal in refused:
        error = refusal.error
        error.detail = f"{refusal.where}: {error.detail}"
        output.print_error(error, as_json=as_json)
    if refused:
        raise typer.Exit(max(output.exit_code(one.error) for one in refused))


def _shown(one: Done) -> dict[str, object]:
    items = [
        {"part": item.part, "code": f"{item.system}|{item.code}"}
        for item in one.attested.attestation.items
    ]
    return {"from": one.where, "items": items, **output.plain(one.answer)}


def _refused(one: Refusal) -> dict[str, object]:
    error = one.error
    return {"from": one.where, "reason": error.reason, "detail": error.detail, "hint": error.hint}


# --- cards


def _write_cards(directory: Path, done: Sequence[Done]) -> None:
    from relay.record.card import Card

    for one in done:
        attestation = one.attested.attestation
        write_card(
            directory, Card(attestation.ledger, attestation.commitment, one.attested.kept.patient)
        )


def write_card(directory: Path, card: Card) -> Path:
    """A patient's card as a file and as a QR code, both readable by their owner alone."""
    from relay.record.card import encode_card, qr_svg

    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise output.unreadable(directory, error) from None
    path = directory / f"{card.record.hex()}.card.json"
    write_file(path, encode_card(card), private=True)
    write_file(path.with_suffix(".svg"), qr_svg(card), private=True)
    return path


def one_record(files: Sequence[Path]) -> Record:
    """The one report in files, for what is about one. Raises Malformed, Invalid(RECORD_INVALID)."""
    from relay.record.door import take

    taken = take(sources_of(files))
    if taken.refused:
        raise taken.refused[0].error
    if len(taken.records) != 1:
        raise Invalid(
            Reason.RECORD_INVALID,
            f"{len(taken.records)} reports in these files, and not one",
            hint="give the files of the one report that takes the other's place",
        )
    return taken.records[0]
