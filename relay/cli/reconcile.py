"""`lianqiao reconcile`: whether the books of a relay and its ledgers agree, by signed heads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli import output
from relay.cli.options import Json, node_at, read_file, write_file
from relay.errors import Malformed, Reason

if TYPE_CHECKING:
    from relay.books import Books, Proven
    from relay.trust import Trust


def reconcile(
    trust: Annotated[
        Path, typer.Option("--trust", metavar="FILE", help="Heads that you compared yourself.")
    ],
    books: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[BOOKS]...", help="Files of books, for a check without network."),
    ] = None,
    node: Annotated[
        list[str] | None,
        typer.Option("--node", metavar="ADDRESS", help="The relay and each ledger, in any order."),
    ] = None,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="FILE", help="Keep what was fetched.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Proves that nothing is open, missing or double between a relay's books and its ledgers'.

    Every record is verified under a signed head that follows from the trust file; nothing is taken
    on a node's word. With files instead of nodes it needs no network. Ends with 1 where there are
    breaks, and lists them.

    Each institution can save the books of its own node (--node ITS --save FILE): whoever has the
    files of all and a trust file of his own compares them, on any machine.

    Example: lianqiao reconcile --node 127.0.0.1:7000 --node 127.0.0.1:7001
    --node 127.0.0.1:7002 --trust trust.json --save books.json
    """
    import time

    from relay.books import decode_books, encode_books, verify_books
    from relay.contracts.payloads import SETTLEMENT_PORT
    from relay.reconcile import Side
    from relay.reconcile import reconcile as compare
    from relay.registry import bookkeepers, client_types
    from relay.trust import MAX_TRUST_BYTES, decode_trust

    if not books and not node:
        raise Malformed("nothing to reconcile", hint="name files of books, or nodes by --node")
    trusted = decode_trust(read_file(trust, MAX_TRUST_BYTES))
    found: list[Books] = []
    for path in books or ():
        found += decode_books(read_file(path, 512 * 1024 * 1024))
    with output.working("fetching books", quiet=as_json):
        found += [_fetch(address, trusted) for address in node or ()]
    if save is not None:
        write_file(save, encode_books(found))
    proven = [
        verify_books(one, trusted, client_types().__getitem__, int(time.time()), bookkeepers())
        for one in found
    ]
    relays = [one for one in proven if one.port == SETTLEMENT_PORT]
    if save is not None and (len(relays) != 1 or len(proven) == 1):
        _only_saved(proven, save, as_json)
        return
    _check_sides(proven, len(relays))
    ledgers = [Side(one.chain_id, one, one.findings) for one in proven if one is not relays[0]]
    result = compare(Side(relays[0].chain_id, relays[0]), ledgers)
    if as_json:
        output.print_json({"agrees": result.agrees, **output.plain(result), "books": _told(proven)})
    else:
        _print(result, proven)
    if not result.agrees:
        raise typer.Exit(output.REFUSED)


def _check_sides(proven: list[Proven], relays: int) -> None:
    """Books of one relay, and of each chain once. Raises Malformed."""
    if relays != 1:
        raise Malformed(
            f"books of {relays} relays, one is reconciled at a time",
            hint="give the relay and its ledgers, by --node or as files that --save wrote",
        )
    names = [one.chain_id for one in proven]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise Malformed(
            f"books of {', '.join(twice)} were given more than once",
            hint="give the newest of them alone",
        )


def _only_saved(proven: list[Proven], save: Path, as_json: bool) -> None:
    """Books of one side alone: proven and kept, and nothing compared."""
    if as_json:
        output.print_json({"agrees": None, "books": _told(proven), "saved": save})
        return
    _print_books(proven)
    output.say(f"proven and saved, and compared with nothing: lianqiao reconcile {save} OTHERS")


def _fetch(address: str, trust: Trust) -> Books:
    from relay.client.books import fetch_books
    from relay.contracts.payloads import ESCROW_PORT, SETTLEMENT_PORT
    from relay.errors import NotFound

    with node_at(address) as peer:
        try:
            return fetch_books(peer, SETTLEMENT_PORT, trust)
        except NotFound as error:
            if error.reason is not Reason.PORT_NOT_FOUND:
                raise
        return fetch_books(peer, ESCROW_PORT, trust)


def _told(proven: list[Proven]) -> list[dict[str, object]]:
    return [
        {"chain": p.chain_id, "height": p.height, "port": p.port, "records": len(p), "time": p.time}
        for p in proven
    ]


def _print_books(proven: list[Proven]) -> None:
    output.table(
        ("books of", "port", "records proven", "under head", "of"),
        [(p.chain_id, p.port, len(p), p.height, output.moment(p.time)) for p in proven],
        "",
    )


def _print(result: object, proven: list[Proven]) -> None:
    from relay.reconcile import Reconciled

    assert isinstance(result, Reconciled)
    _print_books(proven)
    output.table(
        ("chain", "settlement", "break", "what"),
        [(b.chain, b.subject[:16], b.kind.value, b.detail) for b in result.breaks],
        "nothing is open, missing or double",
    )
    output.say(
        f"{result.settlements} settlements: {result.committed} committed, {result.aborted} aborted;"
        f" {result.lines} lines; {len(result.breaks)} breaks"
    )
