"""Commands of an endpoint's owner: recovering its client of the relay, handing the endpoint on."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapters.evm.cli_parts import (
    ChainArgument,
    OwnerKey,
    address_of,
    owner_key,
    reached,
    read_chain,
    relay_head,
    require_extra,
    sender_of,
)
from relay.errors import Malformed

if TYPE_CHECKING:
    from adapters.evm.owner import Standing, Wanted

HOUR = 3600
Printed = Annotated[
    bool,
    typer.Option("--print", help="Only print the call, for an owner that is a contract."),
]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]


def recover(
    chain: ChainArgument,
    relay: Annotated[
        str | None,
        typer.Option("--relay", metavar="ADDRESS", help="Whose newest head is proposed."),
    ] = None,
    delay: Annotated[
        int, typer.Option("--delay", metavar="HOURS", min=1, max=720, help="Until it may count.")
    ] = 24,
    complete: Annotated[bool, typer.Option("--complete", help="Let it count now.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Withdraw it.")] = False,
    key: OwnerKey = None,
    printed: Printed = False,
    as_json: AsJson = False,
) -> None:
    """Gives an endpoint that judges no more a new head of its relay, after a delay.

    For a client that is frozen or expired, or whose relay has opened a new epoch. Until it is
    completed nothing is sent or received; sequences, receipts and open packets stay. Without
    --relay, --complete and --cancel it shows how the client stands.

    Example: lianqiao evm recover sz.toml --relay 127.0.0.1:7100 --delay 24
    """
    if sum((relay is not None, complete, cancel)) > 1:
        raise Malformed("one of --relay, --complete and --cancel")
    require_extra()
    from adapters.evm import owner as owning

    named = read_chain(chain)
    nodes, endpoint = reached(named["address"]), _endpoint(named)
    if relay is not None:
        head = relay_head(relay)
        wanted = owning.recovery(nodes, endpoint, head, delay * HOUR)
        typer.echo(f"heads of {head.chain_id} that follow size {head.height},", err=as_json)
        typer.echo(f"  root {head.root.hex()}: compare it with the relay's operator", err=as_json)
        _make(named, wanted, key, printed)
    elif complete or cancel:
        _make(named, [owning.Wanted("endRecovery", (complete,))], key, printed)
    if not printed:
        _show(named, owning.standing(nodes, endpoint), as_json)


def owner(
    chain: ChainArgument,
    account: Annotated[
        str | None, typer.Argument(metavar="ACCOUNT", help="Who shall own it: 0x and 40 digits.")
    ] = None,
    accept: Annotated[
        bool, typer.Option("--accept", help="Take what was proposed, with the key of --key.")
    ] = False,
    key: OwnerKey = None,
    printed: Printed = False,
    as_json: AsJson = False,
) -> None:
    """Hands an endpoint to another owner, who must accept it; shows whose it is.

    The owner admits institutions, opens currencies and accounts, and recovers the client. It should
    be a contract of several signers.

    Example: lianqiao evm owner sz.toml 0x70997970c51812dc3a010c7d01b50e0d17dc79c8
    """
    if account is not None and accept:
        raise Malformed("an account is proposed, or --accept is given")
    require_extra()
    from adapters.evm import owner as owning

    named = read_chain(chain)
    if account is not None:
        next_owner = "0x" + address_of(account, "ACCOUNT").hex()
        _make(named, [owning.Wanted("proposeOwner", (_mixed(next_owner),))], key, printed)
    elif accept:
        _make(named, [owning.Wanted("acceptOwner", ())], key, printed)
    if not printed:
        _show(named, owning.standing(reached(named["address"]), _endpoint(named)), as_json)


def _endpoint(named: dict[str, Any]) -> bytes:
    return address_of(str(named["settings"]["endpoint"]), "endpoint")


def _mixed(address: str) -> str:
    from adapters.evm.sdk import Web3

    return str(Web3.to_checksum_address(address))


def _make(named: dict[str, Any], wanted: Sequence[Wanted], key: Any, printed: bool) -> None:
    """Makes the calls, or prints them."""
    from adapters.evm.deploy import transact

    endpoint = _endpoint(named)
    for one in wanted:
        if printed:
            typer.echo(f"{one.name}: call 0x{endpoint.hex()} with")
            typer.echo(f"  0x{one.data.hex()}")
            continue
        sender = sender_of(owner_key(named, key))
        transact(reached(named["address"]), sender, endpoint, one.name, one.arguments)


def _show(named: dict[str, Any], found: Standing, as_json: bool) -> None:
    now = int(time.time())
    state = found.state(now)
    if as_json:
        shown: dict[str, object] = {
            "chain": named["chain_id"], "owner": "0x" + found.owner.hex(), "state": state,
            "next_owner": "0x" + found.next_owner.hex() if any(found.next_owner) else None,
            "follows": found.origin, "size": found.size, "time": found.time,
        }  # fmt: skip
        if found.due:
            shown["recovery"] = {
                "due": found.due, "epoch": found.proposed_epoch, "size": found.proposed_size,
                "root": found.proposed_root.hex(),
            }  # fmt: skip
        typer.echo(json.dumps(shown))
        return
    say = typer.echo
    say(f"{named['chain_id']}: endpoint {named['settings']['endpoint']}, {state}")
    say(f"  owner 0x{found.owner.hex()}")
    if any(found.next_owner):
        say(f"  proposed, and to accept it: 0x{found.next_owner.hex()}")
    say(f"  follows {found.origin}, size {found.size}, head of {_moment(found.time)}")
    if found.due:
        say(f"  to be recovered to epoch {found.proposed_epoch}, size {found.proposed_size},")
        say(f"    root {found.proposed_root.hex()},")
        say(f"    from {_moment(found.due)} on: --complete, or --cancel")


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def add_owner_commands(app: typer.Typer) -> None:
    """Adds them to the group."""
    for command in (recover, owner):
        app.command()(command)
