"""Records: listed and shown by their ledger, found and fetched at their source, amended, retracted.

A record's id is its commitment, 64 hexadecimal digits. It says nothing of the patient; who he is,
is opened by his card (`records show --card`), or by an answer to a query that he consented to.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli import output
from relay.cli.attest import (
    Cards,
    Institution,
    Key,
    Relays,
    attest_records,
    one_record,
    relays_of,
    report,
    write_card,
)
from relay.cli.keys import load_key
from relay.cli.options import Json, Limit, Node, hex_of, node_at, write_file
from relay.cli.record_options import (
    CardFile,
    ConsentFile,
    Person,
    PurposeCode,
    RecordId,
    purpose_of,
    read_card,
    read_consent,
    shown,
)
from relay.errors import Denied, Malformed, Reason

if TYPE_CHECKING:
    from relay.contracts.payloads import AttestedItem
    from relay.record.card import Card

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_records(
    node: Node,
    institution: Annotated[
        str, typer.Option("--institution", metavar="ID", help="Only records of this institution.")
    ] = "",
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """Lists the records that a ledger holds.

    Example: lianqiao records list --institution zj-h1 --node 127.0.0.1:7101
    """
    with node_at(node) as peer, output.working(f"asking {node}", quiet=as_json):
        views = list(islice(peer.records(institution), limit))
    if as_json:
        output.print_json({"records": [shown(view) for view in views]})
        return
    output.table(
        ("record", "state", "institution", "items", "attested", "relays"),
        [
            (
                view.commitment.hex(),
                view.state,
                view.attestation.institution,
                len(view.attestation.items),
                output.moment(view.attestation.issued),
                ", ".join(f"{a.relay} {a.reason or 'accepted'}" for a in view.announcements) or "-",
            )
            for view in views
        ],
        "no records; lianqiao attest adds them",
    )


@app.command()
def show(
    record: RecordId,
    node: Node,
    card: Annotated[
        bool, typer.Option("--card", help="Show the patient's card, as a QR code and as text.")
    ] = False,
    file: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Write the card: .json, .svg or .png."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Shows a record's items and what relays answered, or with --card what the patient takes along.

    Example: lianqiao records show --card 4f1c…64-digits…9e -o card.svg --node 127.0.0.1:7101
    """
    commitment = hex_of(record, "RECORD")
    if file is not None and not card:
        raise Malformed("-o writes the card", hint="add --card")
    with node_at(node) as peer, output.working(f"asking {node}", quiet=as_json):
        if card:
            _show_card(peer.card(commitment), file, as_json)
            return
        view = peer.record(commitment)
    if as_json:
        output.print_json(shown(view))
        return
    attestation = view.attestation
    output.fields(
        [
            ("record", view.commitment.hex()),
            ("state", view.state),
            ("revised by", view.revised_by.hex() or "-"),
            ("amends", attestation.previous.hex() or "-"),
            ("institution", attestation.institution),
            ("attested", output.moment(attestation.issued)),
            ("patient", f"{attestation.patient.hex()} (opened by the patient's card alone)"),
            ("signed by", f"{attestation.algorithm} {attestation.key.hex()}"),
        ]
    )
    for told in view.announcements:
        answer = f"{told.action}: {told.reason or 'accepted'}, {output.moment(told.time)}"
        output.say(f"{told.relay}  {answer}, packet {told.client_id}/{told.sequence}/out")
    output.say()
    _item_table(attestation.items)


def _item_table(items: tuple[AttestedItem, ...]) -> None:
    output.table(
        ("part", "code", "specimen", "unit", "examined", "status", "mark"),
        [
            (
                item.part,
                f"{item.system}|{item.code}",
                item.specimen or "-",
                item.unit or "-",
                output.moment(item.examined),
                item.status,
                ", ".join(item.scope) or "none",
            )
            for item in items
        ],
        "no items",
    )


def _show_card(card: Card, file: Path | None, as_json: bool) -> None:
    import json

    from relay.record.card import encode_card, qr_png, qr_svg, qr_terminal

    if file is not None:
        make = {".svg": qr_svg, ".png": qr_png, ".json": encode_card}.get(file.suffix)
        if make is None:
            raise Malformed(f"{file}: a card is .json, .svg or .png")
        write_file(file, make(card), private=True)
        output.note(f"wrote {file}; whoever holds it can show whose record this is")
        return
    if as_json:
        output.print_json(json.loads(encode_card(card)))
        return
    for line in qr_terminal(card).splitlines():
        output.say(line)
    output.say(encode_card(card).decode())
    output.note("whoever holds this card can show whose record it is; it opens no part of it")


@app.command()
def find(
    institution: Institution,
    key: Key,
    card: CardFile,
    consent: ConsentFile,
    item: Annotated[
        list[str],
        typer.Option("--item", metavar="SYSTEM|CODE", help="What is looked for; may be repeated."),
    ],
    node: Node,
    person: Person = "",
    purpose: PurposeCode = "TREAT",
    cards: Cards = None,
    as_json: Json = False,
) -> None:
    """Asks a source, with a patient's consent, which of his records hold some items.

    Example: lianqiao records find --institution sh-h1 --key h1.pem --card card.json
    --consent consent.json --item 'http://loinc.org|2823-3' --node 127.0.0.1:7101
    """
    from relay.disclosure.asks import FindQuery
    from relay.record.card import Card

    signer, shown_card, signed = load_key(key), read_card(card), read_consent(consent)
    with node_at(node) as peer, output.working(f"asking {node}", quiet=as_json):
        query = FindQuery(
            institution=institution,
            person=person,
            purpose=purpose_of(purpose),
            patient=shown_card.patient,
            items=tuple(sorted(set(item))),
            consent=signed,
            nonce=os.urandom(16),
            time=int(time.time()),
            algorithm=signer.algorithm,
            key=signer.public,
        )
        ledger = peer.status().chain_id
        signature = signer.sign(query.signing_bytes(ledger))
        found = peer.find_records(replace(query, signature=signature))
    if cards is not None:
        for one in found:
            write_card(cards, Card(ledger, one.commitment, one.patient))
    if as_json:
        output.print_json({"records": found})
        return
    output.table(
        ("record", "part", "item"),
        [(one.commitment.hex(), each.part, each.code) for one in found for each in one.items],
        "no current record of this patient holds such an item",
    )


@app.command()
def amend(
    record: RecordId,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="The amended report, FHIR R4.")
    ],
    institution: Institution,
    key: Key,
    node: Node,
    relay: Relays = None,
    cards: Cards = None,
    as_json: Json = False,
) -> None:
    """Attests a report that takes the place of an earlier record.

    Example: lianqiao records amend 4f1c…64-digits…9e corrected.json --institution zj-h1
    --key h1.pem --node 127.0.0.1:7101
    """
    from relay.record.card import Card

    previous, signer, report_read = hex_of(record, "RECORD"), load_key(key), one_record(files)
    with node_at(node) as peer, output.working("attesting", quiet=as_json):
        done, failed = attest_records(
            peer,
            [report_read],
            institution,
            signer,
            relays=relay,
            action=peer.amend,
            previous=previous,
        )
    if cards is not None:
        for one in done:
            made = one.attested
            write_card(
                cards,
                Card(made.attestation.ledger, made.attestation.commitment, made.kept.patient),
            )
    report(done, failed, as_json)


@app.command()
def announce(
    records: Annotated[
        list[str], typer.Argument(metavar="RECORD...", help="Ids of records, 64 digits each.")
    ],
    node: Node,
    relay: Relays = None,
    as_json: Json = False,
) -> None:
    """Tells relays of records that were attested before they were connected.

    Example: lianqiao records announce 4f1c…64-digits…9e --relay hub --node 127.0.0.1:7101
    """
    commitments = [hex_of(record, "RECORD") for record in records]
    with node_at(node) as peer, output.working("telling", quiet=as_json):
        answers = peer.announce(commitments, list(relay) if relay else relays_of(peer))
    if as_json:
        output.print_json({"records": answers})
        return
    output.table(
        ("record", "told"),
        [(a.commitment.hex(), ", ".join(p.relay for p in a.packets) or "-") for a in answers],
        "no records",
    )


@app.command()
def retract(
    record: RecordId,
    institution: Institution,
    key: Key,
    node: Node,
    relay: Relays = None,
    as_json: Json = False,
) -> None:
    """Retracts a record: it is recognised no more, and its grants end.

    Example: lianqiao records retract 4f1c…64-digits…9e --institution zj-h1 --key h1.pem
    --node 127.0.0.1:7101
    """
    from relay.record.attest import retraction

    commitment, signer = hex_of(record, "RECORD"), load_key(key)
    with node_at(node) as peer, output.working("retracting", quiet=as_json):
        view = peer.record(commitment)
        signed = retraction(
            ledger=view.attestation.ledger,
            institution=institution,
            signer=signer,
            issued=int(time.time()),
            commitment=commitment,
            patient=view.attestation.patient,
        )
        (answer,) = peer.retract([signed], list(relay) if relay else relays_of(peer))
    if as_json:
        output.print_json(answer)
        return
    told = ", ".join(packet.relay for packet in answer.packets) or "nobody"
    output.say(f"retracted {record}" if answer.written else f"retracted before: {record}")
    output.say(f"told {told}")


@app.command()
def fetch(
    record: RecordId,
    grant: Annotated[
        str, typer.Option("--grant", metavar="HEX", help="Id of the grant, from the decision.")
    ],
    institution: Institution,
    key: Key,
    node: Node,
    file: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="Where to write the record.")
    ],
    person: Person = "",
    as_json: Json = False,
) -> None:
    """Fetches a granted record from its source and checks it against its commitment.

    Example: lianqiao records fetch 4f1c…64-digits…9e --grant 90ab…64-digits…12
    --institution sh-h1 --key h1.pem -o result.record.json --node 127.0.0.1:7101
    """
    from relay.disclosure.asks import Fetch, Withheld
    from relay.record.parts import Opened, encode_record

    signer = load_key(key)
    with node_at(node) as peer, output.working("fetching", quiet=as_json):
        asked = Fetch(
            commitment=hex_of(record, "RECORD"),
            grant=hex_of(grant, "--grant"),
            institution=institution,
            person=person,
            nonce=os.urandom(16),
            time=int(time.time()),
            algorithm=signer.algorithm,
            key=signer.public,
        )
        signature = signer.sign(asked.signing_bytes(peer.status().chain_id))
        (answer,) = list(peer.fetch_records([replace(asked, signature=signature)]))
    if isinstance(answer, Withheld):
        raise Denied(
            Reason(answer.reason) if answer.reason in Reason.__members__ else Reason.NO_GRANT,
            answer.detail or answer.reason,
            hint="the grant, its institution and the key that the relay knows must agree",
        )
    write_file(file, encode_record(answer.parts), private=True)
    opened = [index for index, part in enumerate(answer.parts) if isinstance(part, Opened)]
    if as_json:
        output.print_json({"record": record, "file": file, "shown": opened})
        return
    output.say(f"wrote {file}: {len(opened)} of {len(answer.parts)} parts, as committed to")
    output.say(f"next: lianqiao verify PACKET.bundle --trust trust.json --record {file}")
