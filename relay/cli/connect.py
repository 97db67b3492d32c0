"""Joins a ledger and a relay in one step, and says in words what is trusted from then on.

1. both nodes say who they are; 2. each is given a client of the other, anchored in a head whose own
set signed it; 3. each client is told its counterparty; 4. the relay is told where to reach the
ledger. Repeating it changes nothing: clients and counterparties that are there are kept.

The heads come from the nodes themselves, as the operator who runs this reaches them. That they are
those of the chains is what he trusts and compares by other means: their roots are printed for that.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli import output
from relay.cli.clients import threshold
from relay.cli.options import Json, node_at, read_file, write_file
from relay.cli.status import key_text
from relay.errors import Malformed, NotFound, Reason, Refused
from relay.light.checkpoint import chain_name
from relay.light.types import DAY

if TYPE_CHECKING:
    from relay.client import NodeClient
    from relay.light.types import ClientState, Header
    from relay.trust import TrustedChain
    from relay.views import ClientView, HeadView

ADAPTER = "lianqiao"


@dataclass(frozen=True, slots=True)
class End:
    """One of the two nodes, with the head that the other may pin."""

    node: NodeClient
    chain: str
    role: str
    head: HeadView
    state: ClientState
    """What the other pins of it."""
    raw_header: bytes
    header: Header


LedgerNode = Annotated[
    str,
    typer.Option(
        "--node", envvar="LIANQIAO_NODE", metavar="ADDRESS", help="The ledger (or a relay)."
    ),
]
ChainDescription = Annotated[
    Path | None,
    typer.Option(
        "--chain",
        metavar="FILE",
        help="A chain of another kind instead: how it is reached, and what is pinned of it.",
    ),
]


def connect(
    relay: Annotated[str, typer.Option("--relay", metavar="ADDRESS", help="The relay.")],
    node: LedgerNode = "",
    chain: ChainDescription = None,
    address: Annotated[
        str,
        typer.Option(
            "--address", metavar="ADDRESS", help="Where the relay reaches the ledger, if elsewhere."
        ),
    ] = "",
    algorithm: Annotated[
        str, typer.Option("--algorithm", help="The one signature algorithm that both pin.")
    ] = "ed25519",
    trusting_days: Annotated[
        int,
        typer.Option("--trusting-days", min=1, max=3650, help="How long a head can be built upon."),
    ] = 90,
    require_witness: Annotated[
        list[str] | None,
        typer.Option(
            "--require-witness",
            metavar="NAME",
            help="A witness of the relay that the ledger requires; NAME=KEY to compare its key.",
        ),
    ] = None,
    trust: Annotated[
        Path | None,
        typer.Option("--trust", metavar="FILE", help="Add what the relay trusts to a trust file."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Joins a ledger and a relay: clients and counterparties on both sides, and the lane.

    Example: lianqiao connect --node 127.0.0.1:7101 --relay 127.0.0.1:7100
    """
    if chain is not None:
        from relay.cli.foreign import connect_foreign

        connect_foreign(chain, relay, as_json)
        return
    if not node:
        raise typer.BadParameter("give the ledger by --node, or a chain of another kind by --chain")
    if trust is not None:
        _kept_trust(trust)  # what cannot be written in the end is told before anything is made
    with (
        node_at(node) as ledger_node,
        node_at(relay) as relay_node,
        output.working("asking both nodes for their heads", quiet=as_json),
    ):
        ledger = end_of(ledger_node, algorithm, trusting_days)
        decider = end_of(relay_node, algorithm, trusting_days, require_witness)
        _check_pair(ledger, decider)
        on_ledger, on_relay, made = _join(ledger, decider)
        relay_node.register_lane(on_relay.client_id, address or node, ADAPTER)
        trusted = relay_node.trust() if trust is not None else b""
    if trust is not None:
        _write_trust(trust, trusted)
    if as_json:
        output.print_json(_as_json(ledger, decider, on_ledger, on_relay, made, address or node))
        return
    _print(ledger, decider, on_ledger, on_relay, made, address or node)
    if trust is not None:
        output.say(f"wrote what the relay trusts to {trust}, for lianqiao verify")


def end_of(
    node: NodeClient, algorithm: str, trusting_days: int, witnesses: list[str] | None = None
) -> End:
    """A node's identity and newest head, the head verified under its own set, and co-signed by
    all of `witnesses`."""
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
    raw = node.headers(0, status.head.size, algorithm, pinned)[-1]
    _, header = anchor(client_types().named(status.client_type), state, raw, int(time.time()))
    return End(node, status.chain_id, status.role, status.head, state, raw, header)


def _check_pair(ledger: End, decider: End) -> None:
    if decider.role != "relay":
        raise Refused(
            Reason.NOT_PERMITTED,
            f"{decider.node.address} is {decider.chain}, a {decider.role}, and runs no lanes",
            hint="give the relay by --relay and the ledger by --node",
        )
    if ledger.chain == decider.chain:
        raise Refused(
            Reason.CHAIN_ID_MISMATCH,
            f"both addresses are of {ledger.chain}",
            hint="give two nodes of different chains",
        )


def _join(ledger: End, decider: End) -> tuple[ClientView, ClientView, bool]:
    """(the ledger's client, the relay's client, whether anything was made)."""
    ours = _usable(ledger.node, decider.state)
    theirs = _usable(decider.node, ledger.state)
    pairs = [
        (a, b)
        for a in ours
        for b in theirs
        if a.counterparty_client_id in ("", b.client_id)
        and b.counterparty_client_id in ("", a.client_id)
    ]
    # What is registered comes before what is not, so that a repetition finds the same pair.
    pairs.sort(key=lambda p: (not p[0].counterparty_client_id, not p[1].counterparty_client_id))
    made = not pairs
    check_unbound(ledger.node, decider.state, pairs[0][0].client_id if pairs else "")
    check_unbound(decider.node, ledger.state, pairs[0][1].client_id if pairs else "")
    if pairs:
        a, b = pairs[0][0].client_id, pairs[0][1].client_id
    else:
        free = [view.client_id for view in ours if not view.counterparty_client_id]
        a = free[0] if free else ledger.node.create_client(decider.state, decider.raw_header)
        free = [view.client_id for view in theirs if not view.counterparty_client_id]
        b = free[0] if free else decider.node.create_client(ledger.state, ledger.raw_header)
    ledger.node.register_counterparty(a, b)
    decider.node.register_counterparty(b, a)
    return ledger.node.client(a), decider.node.client(b), made


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


def _usable(node: NodeClient, state: ClientState) -> list[ClientView]:
    """Clients of `node` that pin this very state and can still be updated."""
    now = time.time()
    return [v for v in node.clients() if v.state == state and not v.frozen and now < v.expires]


def _kept_trust(path: Path) -> dict[str, TrustedChain]:
    """The chains in a trust file that may not be there yet. Raises Malformed."""
    from relay.trust import MAX_TRUST_BYTES, decode_trust

    if not path.exists():
        if not path.absolute().parent.is_dir():
            raise Malformed(f"{path}: there is no such directory", hint="make it, or name another")
        return {}
    return {c.state.chain_id: c for c in decode_trust(read_file(path, MAX_TRUST_BYTES)).chains}


def _write_trust(path: Path, raw: bytes) -> None:
    """Adds what the relay trusts to a trust file. A chain that is in it already keeps its head."""
    from relay.trust import Trust, decode_trust, encode_trust

    chains = {chain.state.chain_id: chain for chain in decode_trust(raw).chains}
    chains |= _kept_trust(path)
    write_file(path, encode_trust(Trust(tuple(chains[name] for name in sorted(chains)))))


def _as_json(
    ledger: End,
    decider: End,
    on_ledger: ClientView,
    on_relay: ClientView,
    made: bool,
    address: str,
) -> dict[str, object]:
    return {
        "made": made,
        "lane": {"client_id": on_relay.client_id, "adapter": ADAPTER, "address": address},
        "ledger": {"chain_id": ledger.chain, "client": on_ledger},
        "relay": {"chain_id": decider.chain, "client": on_relay},
        "trusted_for_facts": ledger.header.validators,
        "trusted_for_decisions": decider.header.validators,
    }


def _print(
    ledger: End,
    decider: End,
    on_ledger: ClientView,
    on_relay: ClientView,
    made: bool,
    address: str,
) -> None:
    say = output.say
    say("connected" if made else "connected already; nothing new was pinned")
    for end, view, other in ((ledger, on_ledger, decider), (decider, on_relay, ledger)):
        say(
            f"  {end.chain} follows {other.chain} as {view.client_id}, "
            f"from height {view.latest.height} on"
        )
    say(f"  {decider.chain} carries packets of {on_relay.client_id} by {address}")
    say()
    say("What is trusted from now on")
    say(f"  facts: that a record was written on {ledger.chain} needs no trust in the relay. The")
    say(f"    signed header and the proof travel with it; it is {ledger.chain} that is trusted,")
    say(f"    {threshold(ledger.state.threshold)} of {_validators(ledger)}.")
    say(f"  decisions: what is recognised is decided by {decider.chain}. {ledger.chain} trusts")
    say(f"    {threshold(decider.state.threshold)} of {_validators(decider)}")
    say("    for them. A wrong decision is not prevented; it is attributable, and found by")
    say("    replaying the relay's journal. Keys of one operator are one voice, however many.")
    say(f"  who speaks: for {ledger.chain} {on_relay.client_id} alone, for {decider.chain}")
    say(f"    {on_ledger.client_id} alone, for good and in every epoch. A client that judges no")
    say("    more is not replaced but recovered, openly and after a delay.")
    for witness in decider.state.witnesses:
        say(f"  witness: no head of {decider.chain} is believed without {witness.name},")
        say(f"    {key_text(witness)}. Compare that key with its operator.")
    say("  anchors: these heads were taken as the nodes gave them. Compare them with the operators")
    say("    by other means:")
    for end in (ledger, decider):
        say(f"    {end.head.origin}, size {end.head.size}, root {end.head.root.hex()}")


def _validators(end: End) -> str:
    names = [v.name for v in end.header.validators.validators]
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return f"{len(names)} validators ({shown})" if len(names) > 1 else f"one validator ({shown})"
