"""A node in one glance."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

from relay.cli import output
from relay.cli.options import Json, Node, node_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from relay.cli.pending import Advice
    from relay.light.types import Witness
    from relay.views import WitnessView

MAX_CLIENTS = 1000
"""Looked at for those that judge nothing."""


def status(node: Node, as_json: Json = False) -> None:
    """Shows a node: its chain, its newest signed head, its clients and open packets.

    Of clients that judge nothing now, and of lanes that stand still, it says how many there are.

    Example: lianqiao status --node 127.0.0.1:7100
    """
    from relay.cli.pending import advice

    with node_at(node) as peer, output.working(f"asking {node}", quiet=as_json):
        view = peer.status()
        troubled = advice(peer, node, islice(peer.clients(), MAX_CLIENTS))
    if as_json:
        output.print_json({**output.plain(view), "not_active": troubled})
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
        ("clients", f"{view.clients}{_in_short(troubled, node)}"),
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


def _in_short(troubled: Sequence[Advice], node: str) -> str:
    """How many clients are in which state; `stopped` are active ones whose lane stands still."""
    words = ["stopped" if one.state == "active" else one.state for one in troubled]
    if not words:
        return ""
    counts = ", ".join(f"{count} {word}" for word, count in sorted(Counter(words).items()))
    return f" ({counts}: lianqiao clients list --node {node})"


def _state_of(view: WitnessView) -> str:
    return f"{view.reason}: {view.detail}" if view.reason else "follows"


def key_text(witness: Witness) -> str:
    """A witness's key as `witnesses` of a configuration and `--require-witness` take it."""
    return f"{witness.algorithm}:{witness.key.hex()}"
