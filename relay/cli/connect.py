"""Joins a ledger and a relay in one step, and says in words what is trusted from then on.

1. both nodes say who they are; 2. each is given a client of the other, anchored in a head whose own
set signed it; 3. each client is told its counterparty; 4. the relay is told where to reach the
ledger. Repeating it changes nothing: clients and counterparties that are there are kept.

The heads come from the nodes themselves, as the operator who runs this reaches them. That they are
those of the chains is what he trusts and compares by other means: their roots are printed for that.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli import output
from relay.cli.clients import anchor_text, threshold
from relay.cli.ends import End, check_unbound, end_of, usable
from relay.cli.options import Json, node_at, read_file, write_file
from relay.cli.proposal import Anchor, Asking, ProposalDigest, RelayAnchor, asking
from relay.cli.status import key_text
from relay.errors import Malformed, Reason, Refused
from relay.light.types import DAY, DEFAULT_TRUSTING_PERIOD

if TYPE_CHECKING:
    from relay.trust import TrustedChain
    from relay.views import ClientView

ADAPTER = "lianqiao"
ALGORITHM, TRUSTING_DAYS = "ed25519", DEFAULT_TRUSTING_PERIOD // DAY


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
LaneAddresses = Annotated[
    list[str] | None,
    typer.Option(
        "--address",
        metavar="ADDRESS",
        help="Where the relay reaches the ledger, if elsewhere; repeat it for its replicas, the "
        "next of which is asked where one does not answer.",
    ),
]
TrustingDays = Annotated[
    int,
    typer.Option("--trusting-days", min=1, max=3650, help="How long a head can be built upon."),
]
RequiredWitnesses = Annotated[
    list[str] | None,
    typer.Option(
        "--require-witness",
        metavar="NAME",
        help="A witness of the relay that the ledger requires; NAME=KEY to compare its key.",
    ),
]
TrustFile = Annotated[
    Path | None,
    typer.Option("--trust", metavar="FILE", help="Add what the relay trusts to a trust file."),
]


def connect(
    relay: Annotated[str, typer.Option("--relay", metavar="ADDRESS", help="The relay.")],
    node: LedgerNode = "",
    chain: ChainDescription = None,
    address: LaneAddresses = None,
    algorithm: Annotated[
        str, typer.Option("--algorithm", help="The one signature algorithm that both pin.")
    ] = ALGORITHM,
    trusting_days: TrustingDays = TRUSTING_DAYS,
    require_witness: RequiredWitnesses = None,
    trust: TrustFile = None,
    anchor: Anchor = 0,
    relay_anchor: RelayAnchor = 0,
    proposal: ProposalDigest = "",
    as_json: Json = False,
) -> None:
    """Joins a ledger and a relay: clients and counterparties on both sides, and the lane.

    On a chain of several operators each of them asks: the first prints the line for the others.

    Example: lianqiao connect --node 127.0.0.1:7101 --relay 127.0.0.1:7100
    """
    repeat = ["lianqiao", "connect", "--relay", relay]
    if chain is not None:
        from relay.cli.foreign import connect_foreign

        if anchor:
            raise typer.BadParameter("the file names the header to pin: trusted_height")
        asked = asking(proposal, [*repeat, "--chain", str(chain)])
        connect_foreign(chain, relay, as_json, asked, relay_anchor)
        return
    if not node:
        raise typer.BadParameter("give the ledger by --node, or a chain of another kind by --chain")
    repeat += ["--node", node, *_pinned_options(algorithm, trusting_days, require_witness or [])]
    if trust is not None:
        _kept_trust(trust)  # what cannot be written in the end is told before anything is made
    with (
        node_at(node) as ledger_node,
        node_at(relay) as relay_node,
        output.working("asking both nodes for their heads", quiet=as_json),
    ):
        ledger = end_of(ledger_node, algorithm, trusting_days, height=anchor)
        decider = end_of(relay_node, algorithm, trusting_days, require_witness, relay_anchor)
        _check_pair(ledger, decider)
        on_ledger, on_relay, made = _join(ledger, decider, asking(proposal, repeat))
        first, *replicas = reached = address or [node]
        further = {"replicas": ",".join(replicas)} if replicas else {}
        relay_node.register_lane(on_relay.client_id, first, ADAPTER, further)
        trusted = relay_node.trust() if trust is not None else b""
    if trust is not None:
        _write_trust(trust, trusted)
    if as_json:
        output.print_json(_as_json(ledger, decider, on_ledger, on_relay, made, reached))
        return
    _print(ledger, decider, on_ledger, on_relay, made, reached)
    if trust is not None:
        output.say(f"wrote what the relay trusts to {trust}, for lianqiao verify")


def _pinned_options(algorithm: str, trusting_days: int, witnesses: list[str]) -> list[str]:
    """What the next operator gives too, so that he pins the same."""
    options = ["--algorithm", algorithm] if algorithm != ALGORITHM else []
    options += ["--trusting-days", str(trusting_days)] if trusting_days != TRUSTING_DAYS else []
    return options + [part for text in witnesses for part in ("--require-witness", text)]


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


def _join(ledger: End, decider: End, asked: Asking) -> tuple[ClientView, ClientView, bool]:
    """(the ledger's client, the relay's client, whether anything was made).

    The relay's new client is made with its counterparty, so that a relay of several operators
    decides once; the ledger's, which comes first, is told its own afterwards.
    """
    ours = usable(ledger.node, decider.state)
    theirs = usable(decider.node, ledger.state)
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
        a = free[0] if free else _create(asked, ledger, decider, "--relay-anchor")
        free = [view.client_id for view in theirs if not view.counterparty_client_id]
        b = free[0] if free else _create(asked, decider, ledger, "--anchor", a)
    asked.ask(lambda: ledger.node.register_counterparty(a, b))
    asked.ask(lambda: decider.node.register_counterparty(b, a))
    return ledger.node.client(a), decider.node.client(b), made


def _create(asked: Asking, on: End, of: End, option: str, counterparty: str = "") -> str:
    return asked.create(on.node, of.state, of.raw_header, of.anchor, option, counterparty)


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
    reached: list[str],
) -> dict[str, object]:
    return {
        "made": made,
        "lane": {
            "client_id": on_relay.client_id,
            "adapter": ADAPTER,
            "address": reached[0],
            "replicas": reached[1:],
        },
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
    reached: list[str],
) -> None:
    say = output.say
    say("connected" if made else "connected already; nothing new was pinned")
    for end, view, other in ((ledger, on_ledger, decider), (decider, on_relay, ledger)):
        say(
            f"  {end.chain} follows {other.chain} as {view.client_id}, "
            f"from height {view.latest.height} on"
        )
    say(f"  {decider.chain} carries packets of {on_relay.client_id} by {reached[0]}")
    for replica in reached[1:]:
        say(f"    or by {replica}, where that does not answer")
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
    for end, view in ((ledger, on_relay), (decider, on_ledger)):
        say(f"    {anchor_text(end.state, view.latest)}")


def _validators(end: End) -> str:
    names = [v.name for v in end.header.validators.validators]
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return f"{len(names)} validators ({shown})" if len(names) > 1 else f"one validator ({shown})"
