"""Statements of accounts and ISO 20022 documents of settlements."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli import output
from relay.cli.options import Json, Node, node_at, write_file

if TYPE_CHECKING:
    from relay.contracts.escrow import Netted
    from relay.statements import Entry


def statement(
    account: Annotated[str, typer.Argument(metavar="ACCOUNT", help="Id of the account.")],
    day: Annotated[str, typer.Option("--date", metavar="YYYY-MM-DD", help="Civil day, +08:00.")],
    node: Node,
    xml: Annotated[
        Path | None, typer.Option("--xml", metavar="FILE", help="Write camt.053.001.08 too.")
    ] = None,
    as_json: Json = False,
) -> None:
    """An account's day on a ledger: opening + entries = closing, or it is refused.

    Example: lianqiao settlement statement hospital --date 2026-10-30 --node 127.0.0.1:7002
    """
    import time

    from relay.money import format_amount
    from relay.statements import statement as make

    with node_at(node) as peer, output.working(f"asking {node}", quiet=as_json):
        ledger, view = peer.status().chain_id, peer.account(account)

        def referred(relay: str, settlement: bytes) -> tuple[str, tuple[Netted, ...]]:
            lock = peer.lock(relay, settlement, account)
            return lock.held.uetr if lock.held else "", lock.netted

        owner = view.terms.owner if view.terms else ""
        lines = peer.lines(account)
        found = make(ledger, account, owner, view.currency, day, lines, referred)
    if xml is not None:
        from relay.statements.iso20022 import camt053

        write_file(xml, camt053(found, int(time.time())))
        output.note(f"wrote {xml}")
    if as_json:
        output.print_json({"statement": found})
        return
    code = found.currency
    output.fields(
        [
            ("account", f"{ledger}/{account} {owner}".strip()),
            ("day", f"{day} (+08:00)"),
            ("opening", f"{format_amount(found.opening, code)} {code}"),
        ]
    )
    output.table(
        ("line", "time", "entry", "amount", "balance", "with", "UETR or reference"),
        [row for entry in found.entries for row in _rows(entry, code)],
        "no entries on that day",
    )
    output.say(f"closing  {format_amount(found.closing, code)} {code}")
    if found.rounding is not None:
        output.say(f"rounding differences in it  {format_amount(found.rounding, code)} {code}")


def _rows(entry: Entry, code: str) -> Iterator[tuple[object, ...]]:
    """An entry, and under it what its net is made of."""
    from relay.money import format_amount

    yield (
        entry.number,
        output.moment(entry.time),
        entry.kind,
        format_amount(entry.amount, code),
        format_amount(entry.balance, code),
        entry.counterparty,
        entry.uetr or entry.reference.hex()[:16],
    )
    for one in entry.netted:
        yield ("", "", "of it", format_amount(one.amount, code), "", "", one.uetr)
        if one.rounding:
            yield ("", "", "rounding in it", format_amount(one.rounding, code), "", "", "")


def documents(
    settlement: Annotated[
        str, typer.Argument(metavar="SETTLEMENT", help="Its id in hex, or its UETR.")
    ],
    folder: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Where to.")],
    node: Node,
    as_json: Json = False,
) -> None:
    """Writes the ISO 20022 documents of a settlement: pacs.008, 009, 002, or 004 of a return.

    Needs the extra: pip install 'lianqiao[statements]'.

    Example: lianqiao settlement documents 4f0c9a1e-6a51-4c4e-9d0c-6a1f4b1c7d11 -o out
    --node 127.0.0.1:7000
    """
    from relay.cli.named import find
    from relay.statements.iso20022 import documents as make

    with node_at(node) as peer:
        found = make(find(peer, settlement))
    folder.mkdir(parents=True, exist_ok=True)
    for name, raw in found.items():
        write_file(folder / name, raw)
    if as_json:
        output.print_json({"files": [folder / name for name in found]})
        return
    for name in found:
        output.say(str(folder / name))
