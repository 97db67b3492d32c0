"""Taking evidence away from a node: bundles of packets, and the trust file they are verified with.

A bundle leads from a head that its reader trusts to what it proves. Which heads those are is in a
trust file: `lianqiao trust` writes what a node itself pinned, and bundles lead from there unless
`bundle --trust FILE` says that the reader trusts others.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli import output
from relay.cli.options import Node, node_at, read_file, write_file
from relay.cli.packets import key_of

if TYPE_CHECKING:
    from relay.trust import Anchor

PacketNames = Annotated[
    list[str],
    typer.Argument(
        metavar="PACKET...", help="CLIENT/SEQUENCE/DIRECTION, such as checkpoint-0/7/out."
    ),
]
OutputFile = Annotated[
    Path, typer.Option("-o", "--output", metavar="FILE", help="Where to write it.")
]


def bundle(
    packets: PacketNames,
    file: OutputFile,
    node: Node,
    trust: Annotated[
        Path | None,
        typer.Option(
            "--trust",
            metavar="FILE",
            help="Lead from the heads in this file, the reader's, with its witnesses.",
        ),
    ] = None,
) -> None:
    """Writes the bundle of packets: everything that proves them, to be verified offline.

    Example: lianqiao bundle checkpoint-0/7/out -o result.bundle --node 127.0.0.1:7100
    """
    keys = [key_of(packet) for packet in packets]
    anchors = {} if trust is None else anchors_of(trust)
    with node_at(node) as peer, output.working("collecting headers and proofs"):
        raw = peer.bundle_of(keys, anchors)
    write_file(file, raw)
    output.say(f"wrote {file}, {len(raw)} bytes")
    if trust is None:
        output.say(f"next: lianqiao trust -o trust.json --node {node}")
    output.say(f"next: lianqiao verify {file} --trust {trust or 'trust.json'}")


def trust(file: OutputFile, node: Node) -> None:
    """Writes what a node itself trusts to a trust file, for `verify`.

    Who takes it over trusts the node's operator: compare its heads with the chains by other means.

    Example: lianqiao trust -o trust.json --node 127.0.0.1:7100
    """
    from relay.trust import decode_trust

    with node_at(node) as peer, output.working(f"asking {node}"):
        raw = peer.trust()
    chains = decode_trust(raw).chains
    write_file(file, raw)
    output.say(f"wrote {file}; compare these heads with the operators by other means:")
    for chain in chains:
        head = chain.anchor
        output.say(f"  {chain.state.chain_id}, size {head.height}, root {head.root.hex()}")


def anchors_of(path: Path) -> dict[str, Anchor]:
    """Chain id -> the trusted head in a trust file, and who must have signed. Raises Malformed."""
    from relay.trust import MAX_TRUST_BYTES, decode_trust

    trusted = decode_trust(read_file(path, MAX_TRUST_BYTES))
    return {chain.state.chain_id: chain.reader for chain in trusted.chains}
