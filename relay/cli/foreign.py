"""Joins a relay and a chain of another kind, and says in words what is trusted from then on.

1. the chain is asked, by its adapter, for the header at the height that the file pins; 2. its hash,
recomputed, must be the one in the file, and its own set must have signed it; 3. the relay is given
a client anchored there; 4. where the chain has a lianqiao API of its own, that is given a client of
the relay; 5. counterparties are named; 6. the relay is told how to reach the chain. Repeating it
changes nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from relay.cli import output
from relay.cli.chain_file import ChainFile, read_chain_file
from relay.cli.clients import threshold
from relay.cli.ends import check_unbound, end_of, usable
from relay.cli.options import node_at
from relay.cli.proposal import Asking
from relay.errors import Invalid, Reason

if TYPE_CHECKING:
    from relay.client import NodeClient
    from relay.light.types import ClientState, ConsensusState, Header
    from relay.views import ClientView

SHOWN_VALIDATORS = 8


@dataclass(frozen=True, slots=True)
class Joined:
    """What was made, or was there already."""

    file: ChainFile
    header: Header
    client: ClientView
    """The relay's client of the chain."""
    made: bool
    remote: ClientView | None
    """The chain's client of the relay, where it was asked for it."""


def connect_foreign(
    path: Path, relay: str, as_json: bool, asked: Asking, relay_anchor: int = 0
) -> None:
    """`lianqiao connect --chain FILE --relay ADDRESS`."""
    chain = read_chain_file(path)
    with (
        node_at(relay) as relay_node,
        output.working(f"asking {chain.address} for its header", quiet=as_json),
    ):
        raw, header = pinned_header(chain)
        joined = _join(chain, raw, header, relay_node, asked, relay_anchor)
    if as_json:
        output.print_json(_as_json(joined))
    else:
        _print(joined)


def pinned_header(chain: ChainFile) -> tuple[bytes, Header]:
    """The header that the file pins, as the chain itself gives it and as its own set signed it.

    Raises Invalid(HEAD_CONFLICT) where it is another, and what the adapter and
    `relay.light.client.anchor` raise.
    """
    from relay.light.client import anchor
    from relay.registry import client_types, connect_chain

    client_type = client_types().named(chain.state.client_type)
    reached = connect_chain(chain.adapter, chain.adapter_settings)
    try:
        raw = reached.headers(0, chain.trusted_height, chain.algorithm)[-1]
    finally:
        close = getattr(reached, "close", None)
        if close is not None:
            close()
    header = client_type.decode_header(raw)
    if header.chain_id != chain.state.chain_id:
        raise Invalid(
            Reason.CHAIN_ID_MISMATCH,
            f"{chain.address} is of {header.chain_id[:64]!r}, the file says "
            f"{chain.state.chain_id!r}",
            hint="chain_id is what the chain calls itself; that of a lianqiao node ends in its "
            "epoch, such as zj-medical/0",
        )
    if header.hash != bytes.fromhex(chain.trusted_hash) or header.height != chain.trusted_height:
        raise Invalid(
            Reason.HEAD_CONFLICT,
            f"{chain.address} shows {header.hash.hex()} at height {header.height}, the file pins "
            "another header",
            hint="one of the two is wrong: ask the operators of the chain again",
        )
    anchor(client_type, chain.state, raw, int(time.time()))
    return raw, header


def _join(
    chain: ChainFile,
    raw: bytes,
    header: Header,
    relay: NodeClient,
    asked: Asking,
    relay_anchor: int,
) -> Joined:
    from relay.light.client import consensus_of

    counterparty, remote = chain.counterparty or "", None
    kept = consensus_of(header)
    client_id, made = _client(asked, relay, chain.state, raw, kept, "", counterparty)
    if chain.node is not None:
        with node_at(chain.node) as node:
            days = chain.trusting_days
            counterparty = _follow_relay(asked, node, relay, client_id, days, relay_anchor)
            remote = node.client(counterparty)
    if counterparty:
        asked.ask(lambda: relay.register_counterparty(client_id, counterparty))
    if chain.lane:
        relay.register_lane(client_id, chain.address, chain.adapter, chain.settings)
    return Joined(chain, header, relay.client(client_id), made, remote)


def _client(
    asked: Asking,
    node: NodeClient,
    state: ClientState,
    raw: bytes,
    kept: ConsensusState,
    option: str,
    counterparty: str,
) -> tuple[str, bool]:
    """A client of `node` that pins this very state and can be updated, and whether it is new; a
    new one with that counterparty, where it is known."""
    there = sorted(usable(node, state), key=lambda view: not view.counterparty_client_id)
    check_unbound(node, state, there[0].client_id if there else "")
    if there:
        return there[0].client_id, False
    return asked.create(node, state, raw, kept, option, counterparty), True


def _follow_relay(
    asked: Asking, node: NodeClient, relay: NodeClient, client_id: str, days: int, height: int
) -> str:
    """The client by which the chain's own node follows the relay, told its counterparty."""
    decider = end_of(relay, "ed25519", days, height=height)
    own, _ = _client(
        asked,
        node,
        decider.state,
        decider.raw_header,
        decider.anchor,
        "--relay-anchor",
        client_id,
    )
    asked.ask(lambda: node.register_counterparty(own, client_id))
    return own


def _as_json(joined: Joined) -> dict[str, object]:
    chain = joined.file
    return {
        "made": joined.made,
        "client": joined.client,
        "remote": joined.remote,
        "lane": {
            "client_id": joined.client.client_id,
            "adapter": chain.adapter,
            "address": chain.address,
            "settings": chain.settings,
        }
        if chain.lane
        else None,
        "trusted": {
            "chain_id": chain.chain_id,
            "height": joined.header.height,
            "hash": joined.header.hash.hex(),
            "validators": joined.header.validators,
        },
    }


def _print(joined: Joined) -> None:
    say, chain, state = output.say, joined.file, joined.client.state
    validators = joined.header.validators.validators
    names = ", ".join(v.name for v in validators[:SHOWN_VALIDATORS])
    more = f" and {len(validators) - SHOWN_VALIDATORS} more" if len(validators) > 8 else ""
    say("connected" if joined.made else "connected already; nothing new was pinned")
    say(f"  the relay follows {chain.chain_id} as {joined.client.client_id}, from height")
    say(f"    {joined.header.height} on; it is at height {joined.client.latest.height}")
    if joined.client.counterparty_client_id:
        say(f"  {chain.chain_id} follows the relay as {joined.client.counterparty_client_id}")
    else:
        say("  no counterparty is named: no packet is taken from or sent to that chain")
    if chain.lane:
        say(f"  packets are carried by the adapter {chain.adapter} at {chain.address}")
    say()
    say("What is trusted from now on")
    say(f"  what a verified header means: {state.assurance}")
    say(f"  who: {threshold(state.threshold)} of {len(validators)} validators,")
    say(f"    {names}{more},")
    say(f"    and every set that they announce; signatures of {state.algorithm} are counted")
    for name, value in state.parameters:
        say(f"  pinned beside: {name} {value}")
    say(f"  for how long: {state.trusting_period // 86_400} days after a header's time. Keys that")
    say("    were retired in that time must have been destroyed or still be in honest hands")
    say(f"  what is proven: state under a header, by proofs of kind {state.proof_kind}. What the")
    say("    chain's programs mean by it is the word of those validators")
    say("  the anchor: this header was compared with the file, and the file with the operators of")
    say("    the chain, by whoever wrote it:")
    say(f"    {chain.chain_id}, height {joined.header.height}, hash {joined.header.hash.hex()}")
