"""Recognition as a clinician asks for it: consent, request, decision, and what became of it.

The clinician's key signs here; the node of his ledger only carries it. A decision is per item. It
never forbids to examine again, it asks for the reason.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from relay.cli import output
from relay.cli.attest import Institution, Key, relays_of
from relay.cli.decisions import share, shown, tell
from relay.cli.keys import load_key
from relay.cli.options import Json, Limit, Node, hex_of, node_at, time_of, write_file
from relay.cli.record_options import CardFile, ConsentFile, PurposeCode, purpose_of, read_card
from relay.cli.record_options import read_consent as _read_consent
from relay.errors import Malformed, Reason, Refused

if TYPE_CHECKING:
    from relay.client import NodeClient
    from relay.contracts.payloads import (
        ItemOutcome,
        RecognitionRequest,
    )
    from relay.ledger_views import RecognitionView

app = typer.Typer(no_args_is_help=True)

POLL_SECONDS = 0.1
HOPS = 1
"""How many relays a request may pass: the one that decides."""

Clinician = Annotated[
    str, typer.Option("--clinician", metavar="ID", help="Id of the clinician who signs.")
]
Parts = Annotated[
    list[int], typer.Option("--part", min=0, help="Part that holds an item; may be repeated.")
]
Relay = Annotated[
    str,
    typer.Option("--relay", metavar="ID", help="Relay that decides, if the node follows several."),
]
RequestId = Annotated[
    str, typer.Argument(metavar="REQUEST", help="Id of the request, 64 hexadecimal digits.")
]
Wait = Annotated[
    int, typer.Option("--wait", min=0, max=86_400, help="Seconds to wait for the decision.")
]


@app.command()
def consent(
    card: CardFile,
    grantee: Annotated[
        str, typer.Option("--grantee", metavar="ID", help="Institution that may read.")
    ],
    item: Annotated[
        list[str],
        typer.Option(
            "--item", metavar="SYSTEM|CODE", help="What it covers, or `report`; may be repeated."
        ),
    ],
    key: Key,
    file: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="Where to write the consent.")
    ],
    institution: Annotated[
        str,
        typer.Option("--institution", metavar="ID", help="Signs for the patient; else he himself."),
    ] = "",
    purpose: PurposeCode = "TREAT",
    days: Annotated[int, typer.Option("--days", min=1, max=3650, help="How long it holds.")] = 30,
) -> None:
    """Signs a consent for the record of a card and for its patient.

    Example: lianqiao recognise consent --card card.json --grantee sh-h1
    --item 'http://loinc.org|2823-3' --key patient.pem -o consent.json
    """
    from relay.contracts.payloads import Consent, Signer
    from relay.record.parts import patient_reference

    signer, shown = load_key(key), read_card(card)
    now = int(time.time())
    unsigned = Consent(
        records=(shown.record,),
        patients=(patient_reference(shown.patient),),
        grantee=grantee,
        purposes=(purpose_of(purpose),),
        scope=tuple(sorted(set(item))),
        start=now,
        end=now + days * 86_400,
        revocation=os.urandom(32),
        signer=Signer.INSTITUTION if institution else Signer.PATIENT,
        signed_by=institution,
        algorithm=signer.algorithm,
        key=signer.public,
        signature=b"",
    )
    signed = replace(unsigned, signature=signer.sign(unsigned.signing_bytes()))
    raw = signed.encode()
    Consent.decode(raw)  # what no node would read is not written
    write_file(file, raw, private=True)
    output.say(f"wrote {file}; revocation id {signed.revocation.hex()}")


@app.command()
def request(
    card: CardFile,
    part: Parts,
    consent: ConsentFile,
    institution: Institution,
    clinician: Clinician,
    key: Key,
    node: Node,
    relay: Relay = "",
    purpose: PurposeCode = "TREAT",
    setting: Annotated[
        Literal["outpatient", "inpatient"], typer.Option("--setting", help="Where he is treated.")
    ] = "outpatient",
    wait: Wait = 60,
    as_json: Json = False,
) -> None:
    """Asks for recognition of items of a record; by this the clinician states who his patient is.

    Example: lianqiao recognise request --card card.json --part 1 --consent consent.json
    --institution sh-h1 --clinician dr-1 --key dr1.pem --node 127.0.0.1:7102
    """
    from relay.contracts.payloads import RecognitionRequest, Setting
    from relay.record.parts import patient_reference

    signer, shown_card, signed_consent = load_key(key), read_card(card), _read_consent(consent)
    with node_at(node) as peer, output.working("waiting for the decision", quiet=as_json):
        unsigned = RecognitionRequest(
            request=os.urandom(32),
            relay=relay or _only_relay(peer),
            origin=peer.status().chain_id,
            target=shown_card.ledger,
            hops=HOPS,
            commitment=shown_card.record,
            patient=patient_reference(shown_card.patient),
            parts=tuple(sorted(set(part))),
            institution=institution,
            clinician=clinician,
            purpose=purpose_of(purpose),
            setting=Setting(setting),
            time=int(time.time()),
            consent=signed_consent,
            algorithm=signer.algorithm,
            key=signer.public,
            signature=b"",
        )
        view = _send(peer, replace(unsigned, signature=signer.sign(unsigned.signing_bytes())))
        view = _decided(peer, view, wait)
    tell(view, as_json)


def _only_relay(peer: NodeClient) -> str:
    relays = relays_of(peer)
    if len(relays) != 1:
        raise Refused(
            Reason.COUNTERPARTY_UNKNOWN,
            f"{peer.address} follows {len(relays)} relays: {', '.join(relays) or 'none'}",
            hint="name one by --relay" if relays else "lianqiao connect joins it to a relay",
        )
    return relays[0]


def _send(peer: NodeClient, signed: RecognitionRequest) -> RecognitionView:
    """Hands a request to the ledger. Raises Refused or Invalid with the ledger's reason."""
    (result,) = peer.request_recognition([signed])
    if result.recognition is None:
        raise Refused(_reason(result.reason), result.detail or result.reason)
    return result.recognition


def _reason(word: str) -> Reason:
    return Reason(word) if word in Reason.__members__ else Reason.CONTRACT_REFUSED


def _decided(peer: NodeClient, view: RecognitionView, wait: int) -> RecognitionView:
    """The same request once it is answered, or as it stands after `wait` seconds."""
    from relay.ledger_views import RecognitionState

    end = time.monotonic() + wait
    while view.state is RecognitionState.SENT and time.monotonic() < end:
        time.sleep(POLL_SECONDS)
        view = peer.recognition(view.request.request)
    return view


@app.command("list")
def list_requests(node: Node, limit: Limit = 100, as_json: Json = False) -> None:
    """Lists the requests that a ledger made, and where each stands.

    Example: lianqiao recognise list --node 127.0.0.1:7102
    """
    with node_at(node) as peer, output.working(f"asking {node}", quiet=as_json):
        views = list(islice(peer.recognitions(), limit))
    if as_json:
        output.print_json({"requests": [shown(view) for view in views]})
        return
    output.table(
        ("request", "state", "institution", "record of", "recognised", "packet"),
        [
            (
                view.request.request.hex(),
                view.state,
                view.request.institution,
                view.request.target,
                share(view.decision),
                f"{view.client_id}/{view.sequence}/out",
            )
            for view in views
        ],
        "no requests; lianqiao recognise request makes them",
    )


@app.command()
def show(request: RequestId, node: Node, wait: Wait = 0, as_json: Json = False) -> None:
    """Shows the decision on a request: each item, and why.

    Example: lianqiao recognise show 77aa…64-digits…03 --node 127.0.0.1:7102
    """
    number = hex_of(request, "REQUEST")
    with node_at(node) as peer, output.working("waiting for the decision", quiet=as_json):
        view = _decided(peer, peer.recognition(number), wait)
    tell(view, as_json)


@app.command()
def count(
    node: Node,
    institution: Annotated[
        str, typer.Option("--institution", metavar="ID", help="Only of this institution.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Counts on a relay what became of decided items: adopted, or examined again and why.

    Example: lianqiao recognise count --node 127.0.0.1:7100
    """
    with node_at(node) as peer, output.working(f"asking {node}", quiet=as_json):
        counts = peer.count_outcomes(institution)
    if as_json:
        output.print_json({"counts": counts})
        return
    output.table(
        ("institution", "item", "result", "count"),
        [(one.institution, one.item, one.result, one.count) for one in counts],
        "no outcomes were reported",
    )


@app.command()
def outcome(
    request: RequestId,
    institution: Institution,
    clinician: Clinician,
    key: Key,
    node: Node,
    adopted: Annotated[
        list[int] | None, typer.Option("--adopted", min=0, help="Part that was adopted.")
    ] = None,
    reexamined: Annotated[
        list[str] | None,
        typer.Option(
            "--reexamined", metavar="PART:REASON", help="Examined again, with R1 to R6: 2:R1."
        ),
    ] = None,
    note: Annotated[
        str, typer.Option("--note", help="Explanation for R6; only its salted hash is sent.")
    ] = "",
    informed_by: Annotated[
        Literal["clinician", "nurse", "other-staff"],
        typer.Option("--informed-by", help="Who told the patient."),
    ] = "clinician",
    informed: Annotated[
        str, typer.Option("--informed", metavar="TIME", help="When he was told. Default: now.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Reports what became of decided items: adopted, or examined again and why.

    R1 changed condition, R2 fast-changing analyte, R3 decisive for treatment, R4 emergency,
    R5 forensic or disability appraisal, R6 other (with --note).

    Example: lianqiao recognise outcome 77aa…64-digits…03 --adopted 1 --reexamined 2:R1
    --institution sh-h1 --clinician dr-1 --key dr1.pem --node 127.0.0.1:7102
    """
    from relay.contracts.payloads import Outcome

    signer, number = load_key(key), hex_of(request, "REQUEST")
    now = int(time.time())
    told = time_of(informed, "--informed") if informed else now
    items, salt = _items(adopted or (), reexamined or (), note, informed_by, told, os.urandom)
    with node_at(node) as peer, output.working(f"asking {node}", quiet=as_json):
        asked = peer.recognition(number).request
        unsigned = Outcome(
            relay=asked.relay,
            origin=asked.origin,
            target=asked.target,
            hops=HOPS,
            request=number,
            commitment=asked.commitment,
            institution=institution,
            clinician=clinician,
            time=now,
            items=items,
            algorithm=signer.algorithm,
            key=signer.public,
            signature=b"",
        )
        signed = replace(unsigned, signature=signer.sign(unsigned.signing_bytes()))
        Outcome.decode(signed.encode())
        packet = peer.report_outcome(signed)
    if as_json:
        output.print_json({"outcome": signed.id, "packet": packet, "note_salt": salt})
        return
    output.say(f"outcome {signed.id.hex()}")
    if packet is not None:
        output.say(f"packet {packet.client_id}/{packet.sequence}/out")
    if salt:
        output.say(f"keep with your explanation, to be able to open it: salt {salt.hex()}")


def _items(
    adopted: Sequence[int],
    reexamined: Sequence[str],
    note: str,
    informed_by: str,
    informed: int,
    entropy: Callable[[int], bytes],
) -> tuple[tuple[ItemOutcome, ...], bytes]:
    """(items ascending by part, salt of the explanation or nothing). Raises Malformed."""
    from hashlib import sha256

    from relay.contracts.codes import Reexamination
    from relay.contracts.payloads import ItemOutcome, Result, Role

    items = [ItemOutcome(part, Result.ADOPTED, None, b"", None, 0) for part in adopted]
    salt = entropy(32) if note else b""
    digest = sha256(salt + note.encode()).digest() if note else b""
    for text in reexamined:
        part, _, word = text.partition(":")
        if not (part.isascii() and part.isdigit()) or word not in Reexamination.__members__:
            raise Malformed(
                f"--reexamined: {text[:20]!r} is not PART:REASON", hint="such as 2:R1; R1 to R6"
            )
        why = Reexamination(word)
        if (why is Reexamination.R6) and not note:
            raise Malformed("R6 needs an explanation", hint="give it by --note")
        explained = digest if why is Reexamination.R6 else b""
        items.append(
            ItemOutcome(
                int(part[:9]), Result.REEXAMINED, why, explained, Role(informed_by), informed
            )
        )
    if not items:
        raise Malformed("nothing is reported", hint="give --adopted PART or --reexamined PART:R1")
    if note and not any(item.note for item in items):
        raise Malformed("--note goes with R6 alone", hint="free text never lies on a ledger")
    items.sort(key=lambda item: item.part)
    return tuple(items), salt
