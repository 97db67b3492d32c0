"""The light clients of a node: whom it verifies, how far, and by which rules."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli import output
from relay.cli.options import MAX_NUMBER, Json, Limit, Node, node_at, read_file
from relay.cli.proposal import Anchor, ProposalDigest, asking
from relay.cli.status import key_text
from relay.errors import Denied, Malformed, Reason
from relay.proposals import recovery_digest

if TYPE_CHECKING:
    from relay.cli.proposal import Asking
    from relay.client import NodeClient
    from relay.light.types import ClientState, ConsensusState, Threshold
    from relay.views import ClientView, LaneView

app = typer.Typer(no_args_is_help=True)

MAX_EVIDENCE_BYTES = 1024 * 1024
_PATIENCE = 60
"""Seconds after which a recovery that was due and is pending still has been refused."""


@app.command("list")
def list_clients(node: Node, limit: Limit = 1000, as_json: Json = False) -> None:
    """Lists the clients of a node: the chains it follows.

    Example: lianqiao clients list --node 127.0.0.1:7100
    """
    with node_at(node) as peer, output.working(f"asking {node}", quiet=as_json):
        views = list(islice(peer.clients(), limit))
        stopped = stopped_lanes(peer)
    if as_json:
        output.print_json({"clients": [shown(v, stopped.get(v.client_id)) for v in views]})
        return
    output.table(
        ("client", "follows", "state", "height", "head of", "counterparty"),
        [
            (
                view.client_id,
                view.state.chain_id,
                state_of(view, stopped.get(view.client_id)),
                view.latest.height,
                output.moment(view.latest.time),
                view.counterparty_client_id or "-",
            )
            for view in views
        ],
        "no clients; lianqiao connect makes them",
    )
    for view in views:
        if advice := advice_for(view, stopped.get(view.client_id), node):
            output.say(f"{view.client_id}: {advice}")


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
        lane = lane_of(peer, client)
    if as_json:
        output.print_json(shown(view, lane))
        return
    pinned, latest = view.state, view.latest
    output.fields(
        [
            ("client", view.client_id),
            ("follows", pinned.chain_id),
            ("state", state_of(view, lane)),
            ("counterparty", view.counterparty_client_id or "not registered"),
            ("type", f"{pinned.client_type}, {pinned.algorithm}, tree {pinned.tree_hash}"),
            ("threshold", threshold(pinned.threshold)),
            *pinned.parameters,
            ("assurance", pinned.assurance),
            ("witnesses", f"{pinned.witness_quorum} of {len(pinned.witnesses)} must have signed"),
            *((f"witness {w.name}", key_text(w)) for w in pinned.witnesses),
            ("trusting period", output.duration(pinned.trusting_period)),
            ("height", latest.height),
            ("time", output.moment(latest.time)),
            ("root", latest.root.hex()),
            ("signed by set", latest.set_hash.hex()),
            ("next set", latest.next_set_hash.hex()),
            ("expires", output.moment(view.expires)),
            (
                "complete as of",
                output.moment(view.complete_time) if view.complete_time else "not known yet",
            ),
        ]
    )
    if view.recovery is not None:
        output.fields(
            [
                ("recovery to", view.recovery.state.chain_id),
                ("proposed", output.moment(view.recovery.proposed)),
                ("takes effect", output.moment(view.recovery.due)),
            ]
        )
    if advice := advice_for(view, lane, node):
        output.say(f"next: {advice}")


@app.command()
def recover(
    client: Annotated[str, typer.Argument(metavar="CLIENT", help="Such as checkpoint-0.")],
    node: Node,
    source: Annotated[
        str,
        typer.Option("--from", metavar="ADDRESS", help="A node of the chain that it follows."),
    ] = "",
    delay: Annotated[
        int,
        typer.Option("--delay", metavar="HOURS", min=1, max=720, help="Hours until it counts."),
    ] = 24,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Withdraw what was proposed instead.")
    ] = False,
    anchor: Anchor = 0,
    proposal: ProposalDigest = "",
    as_json: Json = False,
) -> None:
    """Gives a frozen or expired client a new head to follow, after a delay.

    On a chain of several operators each of them asks: the first prints the line for the others.

    Example: lianqiao clients recover checkpoint-0 --from 127.0.0.1:7101 --node 127.0.0.1:7100
    """
    if cancel == bool(source):
        raise Malformed(
            "give the node of the other chain by --from, or --cancel", hint="one of the two"
        )
    with node_at(node) as peer, output.working("asking", quiet=as_json):
        if cancel:
            peer.cancel_recovery(client)
            head = None
        else:
            repeat = ["lianqiao", "clients", "recover", client, "--node", node, "--from", source]
            asked = asking(proposal, [*repeat, "--delay", str(delay)])
            head = _propose(peer, client, source, delay * 3600, asked, anchor)
        view = peer.client(client)
    if as_json:
        output.print_json(shown(view))
        return
    if head is None or view.recovery is None:
        output.say(f"no recovery of {client} is pending; it is {state_of(view)}")
        return
    output.say(f"{client} will follow {view.recovery.state.chain_id} from height {head.height} on")
    output.say(f"  takes effect  {output.moment(view.recovery.due)}")
    output.say(f"  anchor        {anchor_text(view.recovery.state, head)}")
    output.say("Until then nothing is received by it. This head was taken as the node gave it:")
    output.say("compare it with the operators of that chain by other means, and if it is")
    output.say(f"another: lianqiao clients recover {client} --cancel --node {node}")


def _propose(
    peer: NodeClient, client: str, source: str, delay: int, asked: Asking, height: int
) -> ConsensusState:
    """Proposes the head of that height of the node at `source` (0: its newest); that head."""
    from relay.light.client import consensus_of
    from relay.registry import client_types

    with node_at(source) as other:
        head = other.head()
        pinned = peer.client(client).state
        state = replace(pinned, chain_id=head.origin)
        header = other.headers(0, height or head.size, pinned.algorithm, pinned.witnesses)[-1]
    kept = consensus_of(client_types().named(state.client_type).decode_header(header))
    digest = recovery_digest(client, state, kept, delay)
    asked.check(digest)
    pinning = ["--anchor", str(kept.height), "--proposal", digest.hex()]
    asked.ask(lambda: peer.propose_recovery(client, state, header, delay), *pinning)
    return kept


@app.command()
def skip(
    client: Annotated[str, typer.Argument(metavar="CLIENT", help="Such as checkpoint-0.")],
    sequence: Annotated[
        int, typer.Argument(metavar="NEXT", min=1, max=MAX_NUMBER, help="The next sequence.")
    ],
    node: Node,
    as_json: Json = False,
) -> None:
    """Passes over sequences that a node used before it was restored from a copy.

    Example: lianqiao clients skip checkpoint-0 5000 --node 127.0.0.1:7101
    """
    with node_at(node) as peer, output.working(f"asking {node}", quiet=as_json):
        peer.skip_sequences(client, sequence)
        view = peer.client(client)
    if as_json:
        output.print_json(shown(view))
    else:
        output.say(f"the next packet of {client} has sequence {sequence}")


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
        ("client", "adapter", "address", "stopped"),
        [(lane.client_id, lane.adapter, reached_at(lane), lane.reason or "-") for lane in found],
        "no lanes; lianqiao connect adds them",
    )


def reached_at(lane: LaneView) -> str:
    """The lane's address, and those that are asked where it does not answer."""
    replicas = dict(lane.settings).get("replicas", "")
    return ", ".join([lane.address, *filter(None, replicas.split(","))])


def shown(view: ClientView, lane: LaneView | None = None) -> dict[str, object]:
    """A client as JSON: the view and its state in one word."""
    return {**output.plain(view), "status": state_of(view, lane)}


def state_of(view: ClientView, lane: LaneView | None = None) -> str:
    """recovering, frozen, expired, unreachable (where a lane says so) or active."""
    if view.recovery is not None:
        return "recovering"
    if view.frozen:
        return "frozen"
    if view.expires <= time.time():
        return "expired"
    unreachable = lane is not None and lane.reason == Reason.CHAIN_UNREACHABLE
    return "unreachable" if unreachable else "active"


def advice_for(view: ClientView, lane: LaneView | None, node: str) -> str:
    """What to do next about a client that is not active; empty where there is nothing to do."""
    client, chain = view.client_id, view.state.chain_id
    recover = f"lianqiao clients recover {client} --from ADDRESS --node {node}"
    state = state_of(view, lane)
    if state == "recovering" and view.recovery is not None:
        if view.recovery.due + _PATIENCE < time.time():
            return (
                f"its recovery was due {output.moment(view.recovery.due)} and is refused: its head "
                f"grew too old, or misbehaviour came after it (recovery_refused in the log says "
                f"which). Withdraw it: lianqiao clients recover {client} --cancel --node {node}; "
                f"then propose a fresh head: {recover}"
            )
        return (
            f"follows {view.recovery.state.chain_id} from {output.moment(view.recovery.due)} on; "
            f"to withdraw that: lianqiao clients recover {client} --cancel --node {node}"
        )
    if state == "frozen":
        return (
            f"the keys of {chain} signed what contradicts itself. Settle with its operators which "
            f"history holds and have them change their keys, then: {recover}"
        )
    if state == "expired":
        return (
            f"no head of {chain} came within the trusting period. Compare a fresh one with its "
            f"operators, then: {recover}"
        )
    if state == "unreachable" and lane is not None:
        return (
            f"no node of {chain} answers at {lane.address}: start it, or give another address by "
            f"lianqiao connect; it expires {output.moment(view.expires)}"
        )
    if lane is not None:
        stands = f"its lane stands still, {lane.reason}: {lane.detail}"
        if lane.reason != Reason.INVALID_CONSISTENCY:
            return stands
        return (
            f"{stands}. The node there shows another history of {chain} than was verified here, as "
            f"after a restore of an old copy; this client takes neither header nor recovery of it. "
            f"Ask its operators to restore the newest copy or, if that is lost, to stop that node "
            f"and run there: lianqiao epoch open --forked. Then here: {recover}"
        )
    return ""


def stopped_lanes(peer: NodeClient) -> dict[str, LaneView]:
    """The lanes that stand still, by client; none on a node that runs no lanes."""
    try:
        return {lane.client_id: lane for lane in peer.lanes() if lane.reason}
    except Denied as error:
        if error.reason is not Reason.NOT_PERMITTED:
            raise
        return {}


def lane_of(peer: NodeClient, client_id: str) -> LaneView | None:
    """The lane of a client where it stands still."""
    return stopped_lanes(peer).get(client_id)


def anchor_text(state: ClientState, kept: ConsensusState) -> str:
    """A pinned head as the chain's operators are asked for it: a checkpoint by its root, a block
    by its hash."""
    if state.client_type == "checkpoint":
        return f"{state.chain_id}, size {kept.height}, root {kept.root.hex()}"
    return f"{state.chain_id}, height {kept.height}, hash {kept.header_hash.hex()}"


def threshold(rule: Threshold) -> str:
    """A quorum rule in words."""
    part = f"{rule.numerator}/{rule.denominator}"
    return f"more than {part} of the power" if rule.strict else f"at least {part} of the signers"
