"""The two nodes that a connection joins: what one pins of the other, and what it has already."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from relay.errors import Invalid, NotFound, Reason, Refused
from relay.light.checkpoint import chain_name
from relay.light.types import DAY

if TYPE_CHECKING:
    from relay.client import NodeClient
    from relay.light.types import ClientState, ConsensusState, Header
    from relay.views import ClientView


@dataclass(frozen=True, slots=True)
class End:
    """One of the two nodes, with the head that the other may pin."""

    node: NodeClient
    chain: str
    role: str
    state: ClientState
    """What the other pins of it."""
    raw_header: bytes
    header: Header
    anchor: ConsensusState
    """What is kept of the header."""


def end_of(
    node: NodeClient,
    algorithm: str,
    trusting_days: int,
    witnesses: list[str] | None = None,
    height: int = 0,
) -> End:
    """A node's identity and its head of `height` (0: its newest), the head verified under its own
    set, and co-signed by all of `witnesses`."""
    from relay.cli.witness import required
    from relay.light.client import anchor
    from relay.light.types import ClientState
    from relay.registry import client_types

    status = node.status()
    if status.head is None:
        raise NotFound(
            Reason.HEIGHT_NOT_FOUND,
            f"{node.address} shows no head yet",
            hint="lianqiao status shows whether it waits for its witnesses",
        )
    pinned = required(status, witnesses or [])
    algorithm = status.algorithm or algorithm
    state = ClientState(
        client_type=status.client_type,
        chain_id=status.head.origin,
        algorithm=algorithm,
        proof_kind=status.proof_kind,
        trusting_period=trusting_days * DAY,
        assurance=f"signed by more than 2/3 of the validators of {status.chain_id}",
        witnesses=pinned,
        witness_quorum=len(pinned),
    )
    raw = node.headers(0, height or status.head.size, algorithm, pinned)[-1]
    client_type = client_types().named(status.client_type)
    kept, header = anchor(client_type, state, raw, int(time.time()))
    if height and header.height != height:
        raise Invalid(
            Reason.HEAD_CONFLICT, f"{node.address} shows a head of height {header.height}"
        )
    return End(node, status.chain_id, status.role, state, raw, header, kept)


def check_unbound(node: NodeClient, state: ClientState, client_id: str = "") -> None:
    """Raises Refused(CHAIN_BOUND) where another client than `client_id` speaks for that chain on
    `node`, before anything is made that could never be used."""
    name = chain_name(state.chain_id)
    for view in node.clients():
        if not view.counterparty_client_id or view.chain != name or view.client_id == client_id:
            continue
        pinned = "pins something else of it" if view.state != state else "cannot be updated"
        raise Refused(
            Reason.CHAIN_BOUND,
            f"on {node.address} {view.client_id} speaks for {name} already, and {pinned}",
            hint=f"one client speaks for a chain: lianqiao clients show {view.client_id}, and "
            "clients recover where it judges no more or must pin something new",
            client_id=view.client_id,
        )


def usable(node: NodeClient, state: ClientState) -> list[ClientView]:
    """Clients of `node` that pin this very state and can still be updated."""
    now = time.time()
    return [v for v in node.clients() if v.state == state and not v.frozen and now < v.expires]
