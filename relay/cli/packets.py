"""Packets of a node: where each stands and what happened to it.

A packet is named by client, sequence and direction: `checkpoint-0/7/out` was sent by the node that
is asked, `checkpoint-0/7/in` was received by it. Without a direction, `out` is meant.
"""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from relay.cli import output, pending
from relay.cli.options import MAX_NUMBER, Json, Limit, Node, node_at
from relay.errors import LianqiaoError, Malformed, Reason
from relay.packet import packet_commitment
from relay.views import Cleared, Direction, PacketState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from relay.client import NodeClient
    from relay.packet import Packet
    from relay.views import PacketView, TraceStep

app = typer.Typer(no_args_is_help=True)

PacketName = Annotated[
    str,
    typer.Argument(metavar="PACKET", help="CLIENT/SEQUENCE/DIRECTION, such as checkpoint-0/7/out."),
]
Key = tuple[str, int, Direction]


def key_of(text: str) -> Key:
    """`checkpoint-0/7/in` as (client, sequence, direction). Raises Malformed."""
    client, _, rest = text.partition("/")
    sequence, _, direction = rest.partition("/")
    known = {"": Direction.OUT, "out": Direction.OUT, "in": Direction.IN}
    number = sequence.isascii() and sequence.isdigit() and int(sequence[:20]) <= MAX_NUMBER
    if not (client and number) or direction not in known:
        raise Malformed(
            f"{text[:100]!r} names no packet",
            hint="write CLIENT/SEQUENCE/DIRECTION, such as checkpoint-0/7/out; "
            "lianqiao packets list shows them",
        )
    return client, int(sequence), known[direction]


def name_of(view: PacketView) -> str:
    """The name of a packet on its node."""
    return f"{view.client_id}/{view.packet.sequence}/{view.direction}"


@app.command("list")
def list_packets(
    node: Node,
    client: Annotated[
        str, typer.Option("--client", metavar="CLIENT", help="Only packets of this client.")
    ] = "",
    state: Annotated[
        Literal["sent", "acknowledged", "timed_out", "received", "expired"] | None,
        typer.Option("--state", help="Only packets in this state."),
    ] = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """Lists the packets of a node, oldest first.

    Example: lianqiao packets list --state sent --node 127.0.0.1:7101
    """
    wanted = PacketState(state) if state else None
    with node_at(node) as peer, output.working(f"asking {node}", quiet=as_json):
        if client:
            peer.client(client)  # a name that is not there would list nothing, as if all were well
        views = list(islice(peer.packets(client_id=client, state=wanted), limit))
        waiting = [view for view in views if view.state is PacketState.SENT]
        named = sorted({view.client_id for view in waiting})
        clients = pending.advice(peer, node, map(peer.client, named)) if named else []
    if as_json:
        output.print_json({"packets": [shown(view) for view in views], "clients": clients})
        return
    output.table(
        ("packet", "state", "port", "to", "bytes", "last step"),
        [
            (
                name_of(view),
                view.state,
                ", ".join(dict.fromkeys(p.destination_port for p in view.packet.payloads)),
                view.packet.destination_client,
                sum(len(p.value) for p in view.packet.payloads),
                output.moment(view.time),
            )
            for view in views
        ],
        "no packets",
    )
    for one in clients:
        output.say(f"{one.client_id}: {one.next}")
    if waiting:
        name = name_of(waiting[0])
        output.say(f"why a packet is open: lianqiao packets trace {name} --node {node}")


@app.command()
def show(packet: PacketName, node: Node, as_json: Json = False) -> None:
    """Shows one packet: its payloads, its state and its acknowledgement.

    Example: lianqiao packets show checkpoint-0/7/out --node 127.0.0.1:7101
    """
    with node_at(node) as peer, output.working(f"asking {node}", quiet=as_json):
        view = peer.packet(*key_of(packet))
    if as_json:
        output.print_json(shown(view))
        return
    inner = view.packet
    pairs: list[tuple[str, object]] = [
        ("packet", name_of(view)),
        ("state", view.state),
        ("from", inner.source_client),
        ("to", inner.destination_client),
        ("timeout", output.moment(inner.timeout_timestamp)),
        ("commitment", packet_commitment(inner).hex()),
        ("last step", f"{output.moment(view.time)}, height {view.height}"),
    ]
    for number, payload in enumerate(inner.payloads):
        ports = f"{payload.source_port} → {payload.destination_port}"
        pairs.append((f"payload {number}", f"{ports}, {payload.version}, {payload.encoding}"))
        pairs.append(("", text_of(payload.value)))
    for number, acknowledgement in enumerate(view.acknowledgements):
        pairs.append((f"acknowledged {number}", text_of(acknowledgement)))
    output.fields(pairs)


@app.command()
def trace(
    packet: PacketName,
    node: Node,
    also: Annotated[
        list[str] | None,
        typer.Option("--also", metavar="ADDRESS", help="Another node to ask; may be repeated."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Answers what happened to a packet: every step, where, when, with which proof.

    Of an open one it says why it is open, as far as the nodes that are asked know, and what to do.

    Example: lianqiao packets trace checkpoint-0/7 --node 127.0.0.1:7101 --also 127.0.0.1:7100
    """
    with output.working("asking", quiet=as_json):
        view, found, why, failed = _traced(key_of(packet), node, also or ())
    found.sort(key=lambda pair: (pair[1].time, _ORDER.index(str(pair[1].step))))
    if as_json:
        steps = [{"chain": chain, **output.plain(step)} for chain, step in found]
        output.print_json({"packet": shown(view), "steps": steps, "why_open": why})
    else:
        _print_trace(view, found)
        if why:
            pending.show(why)
    if failed is not None:
        raise failed


_Steps = list[tuple[str, "TraceStep"]]


def _traced(
    key: Key, node: str, also: Sequence[str]
) -> tuple[PacketView, _Steps, list[pending.Why], LianqiaoError | None]:
    """(the packet, steps by chain, why it is open, the error of the first that did not answer)."""
    with node_at(node) as peer:
        view = peer.packet(*key)
        here = pending.look(peer, node, peer.status().chain_id, key)
    found: _Steps = [(here.chain, step) for step in here.steps]
    followed = here.client.chain if here.client is not None else ""
    there: pending.Seen | None = None
    lost: dict[str, LianqiaoError] = {}
    for address in also:
        try:
            with node_at(address) as other:
                chain = other.status().chain_id
                if chain == followed and there is None:
                    there = pending.look(other, address, chain, pending.key_elsewhere(view))
                if chain not in {name for name, _ in found}:
                    found += [(chain, step) for step in steps_elsewhere(other, view.packet)]
        except LianqiaoError as error:
            lost[address] = error
    why = []
    if pending.is_open(here, there):
        why = pending.why_open(here, there, int(time.time()))
        why += [pending.unreachable(address, error) for address, error in lost.items()]
    return view, found, why, next(iter(lost.values()), None)


def _print_trace(view: PacketView, found: _Steps) -> None:
    output.say(f"{name_of(view)}: {view.state}")
    output.table(
        ("when", "where", "step", "entry", "under head", "proof", "detail"),
        [
            (
                output.moment(step.time),
                chain,
                step.step,
                step.index,
                step.height,
                proof_of(step),
                step.detail,
            )
            for chain, step in found
        ],
        "no steps",
    )


@app.command()
def undelivered(
    node: Node,
    client: Annotated[
        str, typer.Option("--client", metavar="CLIENT", help="Only packets of this client.")
    ] = "",
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """Lists what a relay could not deliver, with the reason: it waits, or was given up.

    Example: lianqiao packets undelivered --node 127.0.0.1:7100
    """
    with node_at(node) as peer, output.working(f"asking {node}", quiet=as_json):
        if client:
            peer.client(client)
        found = list(islice(peer.undelivered(client), limit))
    if as_json:
        output.print_json({"undelivered": found})
        return
    output.table(
        ("packet", "for", "attempts", "next attempt", "reason"),
        [
            (
                f"{one.client_id}/{one.sequence}/{one.direction}",
                one.step,
                one.attempts,
                "given up" if one.given_up else output.moment(one.next_attempt),
                one.reason or "-",
            )
            for one in found
        ],
        "nothing waits and nothing was given up",
    )


@app.command()
def resend(
    node: Node,
    port: Annotated[
        str, typer.Option("--port", help="Contract that sends: registry or recognition.")
    ] = "registry",
    as_json: Json = False,
) -> None:
    """Sends again what a contract could not send, for want of an active client.

    Example: lianqiao packets resend --port registry --node 127.0.0.1:7101
    """
    with node_at(node) as peer, output.working(f"asking {node}", quiet=as_json):
        done = peer.resend(port)
    if as_json:
        output.print_json(done)
    else:
        output.say(f"sent {done.sent}, still waiting {done.failed}")


@app.command()
def clear(
    client: Annotated[str, typer.Argument(metavar="CLIENT", help="Such as checkpoint-0.")],
    node: Node,
    first: Annotated[
        int, typer.Option("--from", min=0, max=MAX_NUMBER, metavar="N", help="The lowest sequence.")
    ] = 0,
    last: Annotated[
        int, typer.Option("--to", min=0, max=MAX_NUMBER, metavar="M", help="The greatest sequence.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Takes undelivered packets up again now, dead letters too; what is new keeps its pace.

    Example: lianqiao packets clear checkpoint-0 --from 1 --to 500 --node 127.0.0.1:7100
    """
    if last and first > last:
        raise Malformed(f"--from {first} is above --to {last}", hint="the lowest sequence first")
    with node_at(node) as peer, output.working(f"asking {node}", quiet=as_json):
        done = peer.clear_packets(client, first, last)
        troubled = pending.advice(peer, node, [peer.client(client)])
    if as_json:
        output.print_json({**output.plain(done), "not_active": troubled})
        return
    if done == NOTHING:
        output.say(f"nothing of {client} waits{_between(first, last)}, nothing was given up")
    else:
        output.say(
            f"taken up again: {done.waiting} that waited, {done.dead} that were given up, "
            f"{done.forgotten} that waited nowhere"
        )
    if done.reread:
        output.say("the other chain is read again from its first packet, beside what is new")
    for one in troubled:
        output.say(f"{one.client_id}: {one.next}")
    output.say(f"what came of them: lianqiao packets list --client {client} --node {node}")
    output.say(
        f"what is refused again: lianqiao packets undelivered --client {client} --node {node}"
    )


NOTHING = Cleared(0, 0, 0, False)


def _between(first: int, last: int) -> str:
    if last:
        return f" from sequence {first or 1} to {last}"
    return f" from sequence {first} on" if first else ""


_ORDER = ("send", "receive", "expire", "acknowledge", "timeout")


def steps_elsewhere(peer: NodeClient, packet: Packet) -> list[TraceStep]:
    """What another node journaled about the same packet; nothing where it does not know it.

    Ids of clients are local, so the packet found under them must be the same one.
    """
    for client, direction in (
        (packet.destination_client, Direction.IN),
        (packet.source_client, Direction.OUT),
    ):
        try:
            if peer.packet(client, packet.sequence, direction).packet == packet:
                return peer.trace(client, packet.sequence, direction)
        except LianqiaoError as error:
            if error.reason is not Reason.PACKET_NOT_FOUND:
                raise
    return []


def proof_of(step: TraceStep) -> str:
    """By which proof a step was allowed."""
    if not step.verified_height:
        return "own step"
    return f"under the other chain's head {step.verified_height}"


def shown(view: PacketView) -> dict[str, object]:
    """A packet as JSON: the view, its name and its commitment."""
    return {
        **output.plain(view),
        "name": name_of(view),
        "commitment": packet_commitment(view.packet).hex(),
    }


def text_of(raw: bytes) -> str:
    """Bytes as text where they are, else as hex; at most 2000 characters."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.hex()
    return text if len(text) <= 2000 else f"{text[:2000]} … ({len(raw)} bytes; --json has all)"
