"""Accounts of a money ledger: opened and funded by its operator, emptied by their owners."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli import output
from relay.cli.options import Json, Node, node_at, time_of
from relay.cli.proposal import ask_alike
from relay.errors import Malformed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from relay.contracts.accounts import Terms
    from relay.money_views import AccountView

app = typer.Typer(no_args_is_help=True)

Account = Annotated[str, typer.Argument(metavar="ACCOUNT", help="Id of the account.")]
Amount = Annotated[str, typer.Argument(metavar="AMOUNT", help="Such as 1234.50.")]
Currency = Annotated[str, typer.Argument(metavar="CURRENCY", help="ISO 4217, such as HKD.")]
KeyFile = Annotated[
    Path, typer.Option("--key", metavar="FILE", help="Key of the account's owner (PEM).")
]
Limit = Annotated[str, typer.Option(metavar="AMOUNT", help="A day; 0: none.")]


@app.command("open")
def open_account(
    account: Account,
    currency: Currency,
    owner: Annotated[str, typer.Option("--owner", metavar="ID", help="Whose it is.")],
    key: Annotated[
        list[Path], typer.Option("--key", metavar="FILE", help="Keys that debit it (PEM).")
    ],
    node: Node,
    relay: Annotated[
        str, typer.Option("--relay", metavar="ADDRESS", help="Tell this relay of it too.")
    ] = "",
    daily: Limit = "0",
    counterparty: Limit = "0",
    officer_above: Limit = "0",
    regulator_above: Limit = "0",
    start: Annotated[
        str, typer.Option("--from", metavar="TIME", help="Keys hold from here on. Default: now.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Opens an account, and lets a relay settle through it.

    Above --officer-above or --regulator-above a day, someone must co-sign.

    Example: lianqiao accounts open insurer HKD --owner hk-insurer --key insurer.pem
    --node 127.0.0.1:7001 --relay 127.0.0.1:7000
    """
    import time

    from relay.contracts.accounts import Limits, Terms
    from relay.contracts.policy.values import DatedKey
    from relay.keys import SigningKey
    from relay.money import parse_amount

    now = time_of(start, "--from") if start else int(time.time())
    found = [SigningKey.load(path) for path in key]
    each = [
        parse_amount(a, currency) for a in (daily, counterparty, officer_above, regulator_above)
    ]
    terms = Terms(
        account=account,
        owner=owner,
        currency=currency,
        version=1,
        keys=tuple(DatedKey(k.algorithm, k.public, now - 86_400, now + _YEARS) for k in found),
        cosigners=(),
        limits=Limits(*each),
        closed=False,
    )
    pinned = ("--from", str(now))
    with node_at(node) as peer:
        ask_alike(lambda: peer.open_currency(currency), *pinned)
        view = ask_alike(lambda: peer.register_account(terms), *pinned)
        ledger = peer.status().chain_id
    if relay:
        ask_alike(lambda: _tell(relay, ledger, terms), *pinned)
    _print([view], as_json)


_YEARS = 10 * 366 * 86_400


def _tell(relay: str, ledger: str, terms: Terms) -> None:
    with node_at(relay) as hub:
        hub.register_settlement_account(ledger, terms)


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
    with node_at(node) as peer:
        view = ask_alike(
            lambda: peer.deposit(account, currency, minor, named), "--reference", named.hex()
        )
    if not as_json:
        output.note(f"reference {named.hex()}")
    _print([view], as_json)


def _reference(text: str) -> bytes:
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b"?"
    if len(found) not in (0, 32):
        raise Malformed("--reference: must be 32 bytes in hex", hint="leave it out for a new one")
    return found


@app.command()
def withdraw(
    account: Account, amount: Amount, currency: Currency, key: KeyFile, node: Node,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Takes money off a ledger, signed by the account's owner; its operator pays it out.

    Example: lianqiao accounts withdraw hospital 1180.00 CNY --key hospital.pem
    --node 127.0.0.1:7002
    """
    import os
    import time

    from relay.contracts.payloads import Money
    from relay.keys import SigningKey
    from relay.money import parse_amount
    from relay.settling import Party, sign_withdrawal

    wanted, signer = Money(currency, parse_amount(amount, currency)), SigningKey.load(key)
    with node_at(node) as peer:
        where = Party(peer.status().chain_id, account)
        signed = sign_withdrawal(
            where, wanted, withdrawal=os.urandom(32), time=int(time.time()), signer=signer
        )
        view = peer.withdraw(signed)
    _print([view], as_json)


@app.command("list")
def list_accounts(node: Node, as_json: Json = False) -> None:
    """Lists the accounts of a money ledger; with its own, each currency sums to zero.

    Example: lianqiao accounts list --node 127.0.0.1:7001
    """
    with node_at(node) as peer, output.working(f"asking {node}", quiet=as_json):
        views = list(peer.accounts())
    _print(views, as_json)


@app.command()
def show(account: Account, node: Node, as_json: Json = False) -> None:
    """Shows an account and every line of it.

    Example: lianqiao accounts show hospital --node 127.0.0.1:7002
    """
    from relay.money import format_amount

    with node_at(node) as peer, output.working(f"asking {node}", quiet=as_json):
        view, lines = peer.account(account), list(peer.lines(account))
    if as_json:
        output.print_json({"account": view, "lines": lines})
        return
    _print([view], as_json)
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


def _print(views: Sequence[AccountView], as_json: bool) -> None:
    from relay.money import format_amount

    if as_json:
        output.print_json({"accounts": views})
        return
    output.table(
        ("account", "owner", "currency", "balance", "held", "free"),
        [
            (
                v.account,
                v.terms.owner if v.terms else "the ledger",
                v.currency,
                format_amount(v.balance, v.currency),
                format_amount(v.held, v.currency),
                format_amount(v.free, v.currency),
            )
            for v in views
        ],
        "no accounts; lianqiao accounts open makes one",
    )
