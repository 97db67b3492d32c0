"""Commands about money on an EVM ledger that no other ledger needs: tokens and addresses.

Everything else is as on any ledger, by the node before the chain: `accounts open|change|deposit|
withdraw|assign|list|show`, `settlement …`, `reconcile`.
"""

from __future__ import annotations

from typing import Annotated

import typer

from adapters.evm.cli_parts import (
    ChainArgument,
    KeyFile,
    OwnerKey,
    address_of,
    escrow_of,
    require_extra,
)

Currency = Annotated[str, typer.Argument(metavar="CURRENCY", help="ISO 4217, such as HKD.")]
Account = Annotated[str, typer.Argument(metavar="ACCOUNT", help="Id of the account.")]


def currency(
    chain: ChainArgument,
    code: Currency,
    token: Annotated[
        str, typer.Option("--token", metavar="ADDRESS", help="The ERC-20 that it is kept in.")
    ],
    key: OwnerKey = None,
) -> None:
    """Lets a ledger keep accounts in one more currency, over a token of its chain, for ever.

    Example: lianqiao evm currency sz.toml USD --token 0x5fbdb2315678afecb367f032d93f642f64180aa3
    """
    from relay.money import check_currency

    check_currency(code)
    escrow = escrow_of(chain, key)
    digits = escrow.open_over(code, address_of(token, "--token"))
    typer.echo(f"accounts in {code} are kept over {token}, which has {digits} digits")


def account(
    chain: ChainArgument,
    name: Account,
    key: OwnerKey = None,
) -> None:
    """Shows an account as the chain itself says it is now, beside what a node makes of its logs.

    Example: lianqiao evm account sz.toml hospital
    """
    escrow = escrow_of(chain, key)
    from relay.money import format_amount

    found = escrow.standing(name)
    typer.echo(f"{name}: account {found.number} of the escrow 0x{escrow.address.hex()}")
    typer.echo(f"  balance {format_amount(found.balance, found.currency)} {found.currency}")
    typer.echo(f"  held    {format_amount(found.held, found.currency)} {found.currency}")
    typer.echo(f"  terms   version {found.version}{', closed' if found.closed else ''}")
    typer.echo(f"  holder  0x{escrow.holder(name).hex()}, who deposits and withdraws")
    due, there = escrow.covered(found.currency)
    typer.echo(
        f"  cover   of {found.currency} {due} units of the token are booked, {there} are there"
    )


def withdraw(
    chain: ChainArgument,
    name: Account,
    amount: Annotated[str, typer.Argument(metavar="AMOUNT", help="Such as 1234.50.")],
    code: Currency,
    to: Annotated[str, typer.Option("--to", metavar="ADDRESS", help="Who gets the token.")],
    key: KeyFile,
) -> None:
    """Pays out what is free on an account to any address, by its holder: `accounts withdraw` pays
    to the holder himself.

    Example: lianqiao evm withdraw sz.toml hospital 1180.00 CNY --key h1.hex
    --to 0x70997970c51812dc3a010c7d01b50e0d17dc79c8
    """
    import os

    from relay.errors import Reason, Refused
    from relay.money import parse_amount

    minor = parse_amount(amount, code)
    require_extra()
    target, escrow = address_of(to, "--to"), escrow_of(chain, key)
    found = escrow.standing(name)
    if found.currency != code:
        raise Refused(Reason.CURRENCY_MISMATCH, f"the account is in {found.currency}")
    escrow.withdraw(name, minor, target, os.urandom(32))
    typer.echo(f"paid {amount} {code} from {name} to 0x{target.hex()}")


def add_money_commands(app: typer.Typer) -> None:
    """Adds them to the group."""
    for command in (currency, account, withdraw):
        app.command()(command)
