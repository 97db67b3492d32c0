"""Accounts of a money ledger: opened and funded by its operator, emptied by their owners."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from relay.cli import output, terms
from relay.cli.accounts_view import print_accounts, print_terms
from relay.cli.keys import load_key
from relay.cli.options import Json, Node, node_at
from relay.cli.proposal import ask_alike
from relay.errors import Malformed, Unavailable

app = typer.Typer(no_args_is_help=True)
app.command("open")(terms.open_account)
app.command("change")(terms.change)
app.command("announce")(terms.announce)

Account = Annotated[str, typer.Argument(metavar="ACCOUNT", help="Id of the account.")]
Amount = Annotated[str, typer.Argument(metavar="AMOUNT", help="Such as 1234.50.")]
Currency = Annotated[str, typer.Argument(metavar="CURRENCY", help="ISO 4217, such as HKD.")]
KeyFile = Annotated[
    Path, typer.Option("--key", metavar="FILE", help="Key of the account's owner (PEM).")
]


@app.command()
def deposit(
    account: Account,
    amount: Amount,
    currency: Currency,
    node: Node,
    reference: Annotated[
        str,
        typer.Option(
            "--reference", metavar="HEX", help="32 bytes that name the movement at the bank."
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """Credits what the operator holds at the bank. The same reference again moves nothing.

    Example: lianqiao accounts deposit insurer 100000.00 HKD --node 127.0.0.1:7001
    """
    import os

    from relay.money import parse_amount

    minor, named = parse_amount(amount, currency), _reference(reference) or os.urandom(32)
    with node_at(node) as peer, _once(named, as_json):
        view = ask_alike(
            lambda: peer.deposit(account, currency, minor, named), "--reference", named.hex()
        )
    print_accounts([view], as_json)


@contextmanager
def _once(reference: bytes, as_json: bool) -> Iterator[None]:
    """Says by which reference money is moved, before it is: a reply that is lost must not make
    anybody move it twice."""
    if not as_json:
        output.note(f"reference {reference.hex()}")
    try:
        yield
    except Unavailable as error:
        again = f"--reference {reference.hex()}"
        hint = f"it may have been done: repeat it with {again}, which moves nothing twice"
        raise Unavailable(
            error.reason, error.detail, hint=hint, **{**error.data, "reference": reference.hex()}
        ) from None


def _reference(text: str) -> bytes:
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b"?"
    if len(found) not in (0, 32):
        raise Malformed("--reference: must be 32 bytes in hex", hint="leave it out for a new one")
    return found


@app.command()
def assign(
    account: Account, amount: Amount, currency: Currency, node: Node,
    reference: Annotated[
        str, typer.Option("--reference", metavar="HEX", help="32 bytes that name it.")
    ] = "",
    as_json: Json = False,
) -> None:  # fmt: skip
    """Moves money out of suspense to the account that it is due to.

    There lies what was released to an account that had been closed meanwhile.

    Example: lianqiao accounts assign hospital-2 1180.00 CNY --node 127.0.0.1:7002
    """
    import os

    from relay.money import parse_amount

    minor, named = parse_amount(amount, currency), _reference(reference) or os.urandom(32)
    with node_at(node) as peer, _once(named, as_json):
        view = ask_alike(
            lambda: peer.assign(account, currency, minor, named), "--reference", named.hex()
        )
    print_accounts([view], as_json)


@app.command()
def withdraw(
    account: Account, amount: Amount, currency: Currency, key: KeyFile, node: Node,
    reference: Annotated[
        str, typer.Option("--reference", metavar="HEX", help="32 bytes that name it.")
    ] = "",
    as_json: Json = False,
) -> None:  # fmt: skip
    """Takes money off a ledger, signed by the account's owner; its operator pays it out.

    What was paid under a reference is never paid again (REQUEST_ID_REUSED).

    Example: lianqiao accounts withdraw hospital 1180.00 CNY --key hospital.pem
    --node 127.0.0.1:7002
    """
    import os
    import time

    from relay.contracts.payloads import Money
    from relay.money import parse_amount
    from relay.settling import Party, sign_withdrawal

    wanted, signer = Money(currency, parse_amount(amount, currency)), load_key(key)
    named = _reference(reference) or os.urandom(32)
    with node_at(node) as peer:
        where = Party(peer.status().chain_id, account)
        signed = sign_withdrawal(
            where, wanted, withdrawal=named, time=int(time.time()), signer=signer
        )
        with _once(named, as_json):
            view = peer.withdraw(signed)
    print_accounts([view], as_json)


@app.command("list")
def list_accounts(node: Node, as_json: Json = False) -> None:
    """Lists the accounts of a money ledger; with its own, each currency sums to zero.

    Example: lianqiao accounts list --node 127.0.0.1:7001
    """
    with node_at(node) as peer, output.working(f"asking {node}", quiet=as_json):
        views = list(peer.accounts())
    print_accounts(views, as_json)


@app.command()
def show(account: Account, node: Node, as_json: Json = False) -> None:
    """Shows an account and every line of it.

    Example: lianqiao accounts show hospital --node 127.0.0.1:7002
    """
    from relay.money import format_amount

    with node_at(node) as peer, output.working(f"asking {node}", quiet=as_json):
        view, lines = peer.account(account), list(peer.lines(account))
        told = peer.announcements(account)
    if as_json:
        output.print_json({"account": view, "lines": lines, "told": told})
        return
    print_accounts([view], as_json)
    print_terms(view, told)
    code = view.currency
    output.table(
        ("line", "time", "entry", "amount", "held", "balance", "with", "reference"),
        [
            (
                line.number,
                output.moment(line.time),
                line.entry.value,
                format_amount(line.amount, code),
                format_amount(line.held, code),
                format_amount(line.balance, code),
                line.twin or "-",
                output.short(line.reference),
            )
            for line in lines
        ],
        "no lines yet",
    )
