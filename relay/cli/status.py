"""A node in one glance."""

from __future__ import annotations

from relay.cli import output
from relay.cli.options import Json, Node, node_at


def status(node: Node, as_json: Json = False) -> None:
    """Shows a node: its chain, its newest signed head, its clients and open packets.

    Example: lianqiao status --node 127.0.0.1:7100
    """
    with node_at(node) as peer, output.working(f"asking {node}", quiet=as_json):
        view = peer.status()
    if as_json:
        output.print_json(view)
        return
    head = view.head
    signed = "nothing is signed yet"
    if head is not None:
        signed = f"{head.origin}, size {head.size}, {output.moment(head.time)}"
    pairs: list[tuple[str, object]] = [
        ("chain", view.chain_id),
        ("role", view.role),
        ("version", view.version),
        ("head", signed),
        ("root", head.root.hex() if head else "-"),
        ("clients", view.clients),
        ("open packets", view.packets_open),
        ("contracts", ", ".join(view.ports) or "none"),
    ]
    if view.role == "relay":
        pairs.append(("outbox", view.outbox))
    output.fields(pairs)
