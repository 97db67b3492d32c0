"""Who decides for a chain that several institutions replicate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli import output
from relay.cli.options import Json, Node, node_at
from relay.errors import Malformed, NotFound, Reason

if TYPE_CHECKING:
    from relay.light.types import Validator

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_operators(node: Node, as_json: Json = False) -> None:
    """Lists the operators of a replicated chain, and how many of them must agree.

    Example: lianqiao operators list --node 127.0.0.1:7100
    """
    with node_at(node) as peer, output.working(f"asking {node}", quiet=as_json):
        operators, quorum = peer.operators()
    if as_json:
        output.print_json({"operators": operators.validators, "quorum": quorum})
        return
    rows = [(v.name, f"{v.keys[0][0]}:{v.keys[0][1].hex()}") for v in operators.validators]
    output.table(("operator", "key"), rows, "nobody")
    output.say(f"{quorum} of them must ask for the very same")


@app.command()
def change(
    node: Node,
    changes: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME=KEY...", help="Adds or replaces; NAME= alone removes."),
    ] = None,
    quorum: Annotated[
        int,
        typer.Option("--quorum", min=0, max=100, help="How many must agree from then on."),
    ] = 0,
) -> None:
    """Asks to change the operators of a replicated chain, or how many of them must agree.

    It is done once enough of those in force have asked for the very same.

    Example: lianqiao operators change js=ed25519:8f0c… ah= --quorum 3 --node 127.0.0.1:7100
    """
    from relay.light.validators import validator_set

    if not changes and not quorum:
        raise Malformed("nothing is to change", hint="name an operator, or give --quorum NUMBER")
    asked = [_change(text) for text in changes or ()]
    with node_at(node) as peer, output.working(f"asking {node}"):
        table = {one.name: one for one in peer.operators()[0].validators}
        for name, operator in asked:
            if operator is not None:
                table[name] = operator
            elif table.pop(name, None) is None:
                raise NotFound(Reason.NOT_FOUND, f"no operator is called {name[:64]}")
        peer.propose_operators(validator_set(list(table.values())), quorum)
    output.say("decided: in force from the next transaction on. What waited for approvals begins")
    output.say("anew, and whoever has a new key puts it into his configuration.")


def _change(text: str) -> tuple[str, Validator | None]:
    from relay.light.types import Validator

    name, equals, key = text.partition("=")
    algorithm, _, digits = key.partition(":")
    try:
        raw = bytes.fromhex(digits)
    except ValueError:
        raw = b""
    if not (name and equals) or (key and not raw):
        raise Malformed(f"{text[:100]!r} is not NAME=KEY", hint="such as js=ed25519:HEX, or ah=")
    return name, Validator(name, 1, ((algorithm, raw),)) if key else None
