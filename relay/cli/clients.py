"""The light clients of a node: whom it verifies, how far, and by which rules."""

from __future__ import annotations

import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli import output
from relay.cli.options import Json, Limit, Node, node_at, read_file

if TYPE_CHECKING:
    from relay.light.types import Threshold
    from relay.views import ClientView

app = typer.Typer(no_args_is_help=True)

MAX_EVIDENCE_BYTES = 1024 * 1024


@app.command("list")
def list_clients(node: Node, limit: Limit = 1000, as_json: Json = False) -> None:
    """Lists the clients of a node: the chains it follows.

    Example: lianqiao clients list --node 127.0.0.1:7100
    """
    with node_at(node) as peer, output.working(f"asking {node}", quiet=as_json):
        views = list(islice(peer.clients(), limit))
    if as_json:
        output.print_json({"clients": [shown(view) for view in views]})
        return
    output.table(
        ("client", "follows", "state", "height", "head of", "counterparty"),
        [
            (
                view.client_id,
                view.state.chain_id,
                state_of(view),
                view.latest.height,
                output.moment(view.latest.time),
                view.counterparty_client_id or "-",
            )
            for view in views
        ],
        "no clients; lianqiao connect makes them",
    )


@app.command()
def show(
    client: Annotated[str, typer.Argument(metavar="CLIENT", help="Such as checkpoint-0.")],
    node: Node,
    as_json: Json = False,
) -> None:
    """Shows one client: what was pinned, and the newest header verified.

    Example: lianqiao clients show checkpoint-0 --node 127.0.0.1:7100
    """
    with node_at(node) as peer, output.working(f"asking {node}", quiet=as_json):
        view = peer.client(client)
    if as_json:
        output.print_json(shown(view))
        return
    pinned, latest = view.state, view.latest
    output.fields(
        [
            ("client", view.client_id),
            ("follows", pinned.chain_id),
            ("state", state_of(view)),
            ("counterparty", view.counterparty_client_id or "not registered"),
            ("type", f"{pinned.client_type}, {pinned.algorithm}, tree {pinned.tree_hash}"),
            ("threshold", threshold(pinned.threshold)),
            ("assurance", pinned.assurance),
            ("witnesses", f"{pinned.witness_quorum} of {len(pinned.witnesses)} must have signed"),
            ("trusting period", output.duration(pinned.trusting_period)),
            ("height", latest.height),
            ("time", output.moment(latest.time)),
            ("root", latest.root.hex()),
            ("signed by set", latest.set_hash.hex()),
            ("next set", latest.next_set_hash.hex()),
            ("expires", output.moment(view.expires)),
        ]
    )


@app.command()
def accuse(
    client: Annotated[str, typer.Argument(metavar="CLIENT", help="Such as checkpoint-0.")],
    evidence: Annotated[
        Path, typer.Argument(metavar="FILE", help="Two signed headers that contradict each other.")
    ],
    node: Node,
    as_json: Json = False,
) -> None:
    """Freezes a client by proof that its chain signed what contradicts itself.

    Example: lianqiao clients accuse checkpoint-0 two-heads.evidence --node 127.0.0.1:7100
    """
    raw = read_file(evidence, MAX_EVIDENCE_BYTES)
    with node_at(node) as peer, output.working("verifying", quiet=as_json):
        peer.submit_misbehaviour(client, raw)
        view = peer.client(client)
    if as_json:
        output.print_json(shown(view))
    else:
        output.say(f"{client} is {state_of(view)}: nothing of {view.state.chain_id} is accepted")


@app.command()
def lanes(node: Node, as_json: Json = False) -> None:
    """Lists the lanes of a relay: where it reaches the chain of each client.

    Example: lianqiao clients lanes --node 127.0.0.1:7100
    """
    with node_at(node) as peer, output.working(f"asking {node}", quiet=as_json):
        found = list(peer.lanes())
    if as_json:
        output.print_json({"lanes": found})
        return
    output.table(
        ("client", "adapter", "address"),
        [(lane.client_id, lane.adapter, lane.address) for lane in found],
        "no lanes; lianqiao connect adds them",
    )


def shown(view: ClientView) -> dict[str, object]:
    """A client as JSON: the view and its state in one word."""
    return {**output.plain(view), "status": state_of(view)}


def state_of(view: ClientView) -> str:
    """active, frozen or expired."""
    if view.frozen:
        return "frozen"
    return "expired" if view.expires <= time.time() else "active"


def threshold(rule: Threshold) -> str:
    """A quorum rule in words."""
    part = f"{rule.numerator}/{rule.denominator}"
    return f"more than {part} of the power" if rule.strict else f"at least {part} of the signers"
