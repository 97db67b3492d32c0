"""Who makes blocks of a chain that several institutions replicate."""

from __future__ import annotations

from typing import Annotated

import typer

from relay.cli import output
from relay.cli.options import Node, node_at
from relay.errors import Malformed


def powers(
    node: Node,
    changes: Annotated[
        list[str],
        typer.Argument(metavar="KEY=POWER...", help="Such as ed25519:HEX=10; 0 removes it."),
    ],
) -> None:
    """Asks to change the validators of a replicated chain; enough operators must ask for the same.

    Example: lianqiao powers ed25519:8f0c…=10 --node 127.0.0.1:7100
    """
    from relay.powers import Power

    asked = []
    for text in changes:
        key, _, power = text.rpartition("=")
        algorithm, _, raw = key.partition(":")
        try:
            asked.append(Power(algorithm, bytes.fromhex(raw), int(power)))
        except ValueError:
            raise Malformed(
                f"{text[:100]!r} is not KEY=POWER", hint="such as ed25519:HEX=10"
            ) from None
    ordered = sorted(asked, key=lambda one: (one.algorithm, one.key))
    with node_at(node) as peer, output.working(f"asking {node}"):
        peer.propose_powers(ordered)
    output.say("decided: in force two blocks from now")
