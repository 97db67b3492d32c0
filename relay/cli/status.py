"""A node in one glance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.cli import output
from relay.cli.options import Json, Node, node_at

if TYPE_CHECKING:
    from relay.light.types import Witness
    from relay.views import WitnessView


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
    if view.own_witness is not None:
        pairs.append(("witness key", f"{view.own_witness.name} {key_text(view.own_witness)}"))
    if view.witnesses:
        pairs.append(
            ("witnesses", f"{view.witness_quorum} of {len(view.witnesses)} before a head is shown")
        )
        if view.witness_quorum:
            pairs.append(("signed", f"size {view.signed_size}"))
    output.fields(pairs)
    if view.witnesses:
        output.table(
            ("witness", "address", "co-signed", "state"),
            [(w.witness.name, w.address, w.size, _state_of(w)) for w in view.witnesses],
            "",
        )


def _state_of(view: WitnessView) -> str:
    return f"{view.reason}: {view.detail}" if view.reason else "follows"


def key_text(witness: Witness) -> str:
    """A witness's key as `[[witnesses]] key` and `--require-witness` take it."""
    return f"{witness.algorithm}:{witness.key.hex()}"
