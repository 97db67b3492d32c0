"""Who saw what: a ledger's access log, and the institutions that may sign on it."""

from __future__ import annotations

import time
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from relay.cli import output
from relay.cli.keys import load_key
from relay.cli.options import MAX_NUMBER, Json, Limit, Node, hex_of, node_at, time_of
from relay.cli.proposal import ask_alike
from relay.cli.record_options import read_card
from relay.errors import Malformed

institutions = typer.Typer(no_args_is_help=True)

DEFAULT_DAYS = 365


class InstitutionRole(StrEnum):
    """relay.contracts.registry.Role, which start-up does without."""

    ATTESTS = "attests"
    ASKS = "asks"


def access_log(
    node: Node,
    record: Annotated[
        str, typer.Option("--record", metavar="RECORD", help="Only entries about this record.")
    ] = "",
    card: Annotated[
        Path | None,
        typer.Option("--card", metavar="FILE", help="Only entries about the card's patient."),
    ] = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """Lists who asked for and read what, refused attempts too, the oldest first.

    Example: lianqiao access-log --card card.json --node 127.0.0.1:7101
    """
    commitment = hex_of(record, "--record") if record else b""
    patient = None
    if card is not None:
        opened = read_card(card).patient
        patient = (opened.scheme, opened.value)
    with node_at(node) as peer, output.working(f"asking {node}", quiet=as_json):
        entries = list(islice(peer.access_log(commitment, patient), limit))
    if as_json:
        output.print_json(
            {
                "entries": [
                    {**output.plain(e.access), "salt": e.salt.hex(), "commitment": e.commitment}
                    for e in entries
                ]
            }
        )
        return
    output.table(
        ("when", "what", "institution", "who", "purpose", "record", "outcome"),
        [
            (
                output.moment(entry.access.time),
                entry.access.act,
                entry.access.institution,
                entry.access.who or "-",
                entry.access.purpose,
                entry.access.record[:16] or "-",
                entry.access.outcome,
            )
            for entry in entries
        ],
        "nobody asked",
    )


@institutions.command("register")
def register_institution(
    institution: Annotated[str, typer.Argument(metavar="ID", help="Id of the institution.")],
    node: Node,
    key: Annotated[
        list[Path] | None,
        typer.Option("--key", metavar="FILE", help="Its key file; may be repeated."),
    ] = None,
    public: Annotated[
        list[str] | None,
        typer.Option(
            "--public", metavar="ALGORITHM:HEX", help="A public key, as `keys show` prints it."
        ),
    ] = None,
    version: Annotated[
        int,
        typer.Option(
            "--version", min=1, max=MAX_NUMBER, help="Counts up from 1; the latest holds."
        ),
    ] = 1,
    start: Annotated[
        str, typer.Option("--from", metavar="TIME", help="Keys hold from here on. Default: now.")
    ] = "",
    days: Annotated[
        int, typer.Option("--days", min=1, max=36_500, help="How long the keys hold.")
    ] = DEFAULT_DAYS,
    role: Annotated[
        InstitutionRole,
        typer.Option("--role", help="`asks`: finds and fetches, and attests nothing here."),
    ] = InstitutionRole.ATTESTS,
    as_json: Json = False,
) -> None:
    """Registers the keys of an institution on a ledger, so that it can attest or ask there.

    Example: lianqiao institutions register zj-h1 --key h1.pem --node 127.0.0.1:7101
    """
    from relay.contracts.policy.values import DatedKey
    from relay.contracts.registry import Role

    begin = time_of(start, "--from") if start else int(time.time())
    pairs = [(k.algorithm, k.public) for k in map(load_key, key or ())]
    pairs += [public_key(text) for text in public or ()]
    if not pairs:
        raise Malformed("no key is given", hint="give --key FILE or --public ALGORITHM:HEX")
    keys = [DatedKey(algorithm, raw, begin, begin + days * 86_400) for algorithm, raw in pairs]
    with node_at(node) as peer, output.working(f"asking {node}", quiet=as_json):
        ask_alike(
            lambda: peer.register_institution(institution, version, keys, Role(role.value)),
            *("--from", str(begin)),
        )
    if as_json:
        said = {"institution": institution, "version": version, "role": role, "keys": keys}
        output.print_json(said)
        return
    until = output.moment(begin + days * 86_400)
    output.say(f"{institution}, version {version}: {role}, {len(keys)} key(s), until {until}")


def public_key(text: str, what: str = "--public") -> tuple[str, bytes]:
    """(algorithm, key) of ALGORITHM:HEX. Raises Malformed."""
    algorithm, _, digits = text.partition(":")
    try:
        raw = bytes.fromhex(digits)
    except ValueError:
        raw = b""
    if not algorithm or not raw:
        raise Malformed(
            f"{what}: {text[:40]!r} is not ALGORITHM:HEX", hint="lianqiao keys show FILE shows it"
        )
    return algorithm, raw
