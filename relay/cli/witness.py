"""Makes a node a witness of another: it co-signs that one's heads, and nobody sees two histories.

1. the node that is to be the witness follows the other, by a client that is pinned here if there is
none; 2. the other is told to ask it, by a line in its configuration that is printed here.

Which head the client begins from is what the operator trusts, as with `connect`.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli import output
from relay.cli.options import Json, Node, node_at
from relay.cli.status import key_text
from relay.errors import Denied, Malformed, NotFound, Reason, Refused
from relay.light.types import DAY

if TYPE_CHECKING:
    from relay.client import NodeClient
    from relay.light.types import Header, Witness
    from relay.views import StatusView

CLIENT_TYPE = "checkpoint"


def witness(
    node: Node,
    relay: Annotated[
        str, typer.Option("--relay", metavar="ADDRESS", help="The node whose heads it co-signs.")
    ],
    address: Annotated[
        str,
        typer.Option(
            "--address",
            metavar="ADDRESS",
            help="Where the relay reaches the witness: HOST:PORT, or http(s)://… of its HTTP form.",
        ),
    ] = "",
    algorithm: Annotated[
        str, typer.Option("--algorithm", help="Which of the relay's signatures it counts.")
    ] = "ed25519",
    trusting_days: Annotated[
        int,
        typer.Option("--trusting-days", min=1, max=3650, help="How long a head can be built upon."),
    ] = 90,
    as_json: Json = False,
) -> None:
    """Makes a node a witness of a relay, and prints the line for the relay's configuration.

    Example: lianqiao witness --node 127.0.0.1:7101 --relay 127.0.0.1:7100
    """
    _check_address(address)
    with (
        node_at(node) as peer,
        node_at(relay) as other,
        output.working("asking both nodes", quiet=as_json),
    ):
        view, asked = peer.status(), other.status().chain_id
        if view.chain_id == asked:
            raise Refused(
                Reason.CHAIN_ID_MISMATCH,
                f"{node} and {relay} are one chain, {asked}: nobody is his own witness",
                hint="--node is the witness, --relay the node whose heads it co-signs",
            )
        own = view.own_witness
        if own is None:
            raise Denied(
                Reason.NOT_PERMITTED,
                f"{node} has no witness key",
                hint="[witness] in its configuration names one; lianqiao init makes it",
            )
        client_id, header, made = _follow(peer, other, algorithm, trusting_days)
    line = config_line(own, address or node)
    if as_json:
        told = {"made": made, "client_id": client_id, "witness": own}
        output.print_json({**told, "address": address or node, "line": line})
        return
    follows = "follows" if made else "follows already"
    output.say(f"{own.name} {follows} {header.chain_id} as {client_id}")
    output.say(f"  from size {header.height}, root {header.root.hex()}")
    output.say("  compare them with the relay's operator by other means")
    output.say()
    output.say("For the relay's configuration, among `witnesses = [ … ]` above its first [section]")
    output.say(
        "(witness_quorum says how many must have co-signed a head before others are shown it):"
    )
    output.say()
    output.say(f"  {json.dumps(line)},")


def _check_address(address: str) -> None:
    """Raises Malformed where the relay's configuration would not take it."""
    from relay.config.values import check_witness_address

    try:
        check_witness_address(address or "127.0.0.1:1")
    except ValueError as error:
        raise Malformed(
            f"--address {address[:100]!r}: {error}",
            hint="where the relay reaches the witness: 127.0.0.1:7101, or https://witness.example",
        ) from None


def config_line(pinned: Witness, address: str) -> str:
    """One of `witnesses`, as a configuration takes it."""
    return f"{pinned.name} {key_text(pinned)} {address}"


def _follow(
    peer: NodeClient, other: NodeClient, algorithm: str, trusting_days: int
) -> tuple[str, Header, bool]:
    """(client id, the head it begins from, whether it was made now).

    The newest signed head will do, shown or not: nobody can have co-signed before the first.
    """
    from relay.light.client import anchor
    from relay.light.types import ClientState
    from relay.registry import client_types

    status = other.status()
    if not status.signed_size:
        raise NotFound(Reason.HEIGHT_NOT_FOUND, f"{other.address} has signed nothing yet")
    raw = other.headers(0, status.signed_size, algorithm)[-1]
    client_type = client_types()[CLIENT_TYPE]
    header = client_type.decode_header(raw)
    state = ClientState(
        client_type=CLIENT_TYPE,
        chain_id=header.chain_id,
        algorithm=algorithm,
        trusting_period=trusting_days * DAY,
        assurance=f"signed by more than 2/3 of the validators of {status.chain_id}",
    )
    anchor(client_type, state, raw, int(time.time()))
    for view in peer.clients():
        if view.state.chain_id == state.chain_id:
            return view.client_id, header, False
    return peer.create_client(state, raw), header, True


def required(status: StatusView, names: list[str]) -> tuple[Witness, ...]:
    """The witnesses that a client shall require, in order of name: NAME as the relay tells its
    key, or NAME=ALGORITHM:HEX.

    Raises NotFound(NOT_FOUND) for a name that it does not ask or asks under another key,
    Refused(WITNESS_MISSING) where the relay shows heads that they need
    not have co-signed.
    """

    told = {view.witness.name: view.witness for view in status.witnesses}
    found: dict[str, Witness] = {}
    for text in names:
        name, _, key = text.partition("=")
        known = told.get(name)
        if known is not None and key not in ("", key_text(known)):
            raise NotFound(
                Reason.NOT_FOUND,
                f"{status.chain_id} asks {known.name} under another key, {key_text(known)}",
                hint="compare the key with the witness's operator: lianqiao status --node WITNESS "
                "shows it; where that is the one you gave, the relay's configuration is wrong",
            )
        if known is None:
            raise NotFound(
                Reason.NOT_FOUND,
                f"{status.chain_id} asks no witness {text[:100]}",
                hint=f"it asks: {', '.join(told) or 'none'}; lianqiao witness tells how to add one",
            )
        found[name] = known
    if names and status.witness_quorum - (len(told) - len(found)) < len(found):
        raise Refused(
            Reason.WITNESS_MISSING,
            f"{status.chain_id} shows heads that {status.witness_quorum} of its {len(told)} "
            f"witnesses have co-signed; {len(found)} are to be required",
            hint=f"witness_quorum = {len(told)} in its configuration, and start it again",
        )
    return tuple(found[name] for name in sorted(found))
