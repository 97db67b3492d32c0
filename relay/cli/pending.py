"""Why a packet is open still, and what to do next.

Each node that is asked says what it knows: whether it has the packet, how it stands with its client
of the other chain and with the lane there, and what its relayer could not deliver, with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from relay.cli import output
from relay.cli.clients import advice_for, lane_of, state_of, stopped_lanes
from relay.errors import Denied, LianqiaoError, NotFound, Reason
from relay.packet import packet_commitment
from relay.views import Direction, PacketState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from relay.client import NodeClient
    from relay.views import ClientView, LaneView, PacketView, TraceStep, Undelivered

Key = tuple[str, int, Direction]
OPEN = (PacketState.SENT, PacketState.DEFERRED)
MAX_STEPS = 20
"""Of what was not delivered of one packet, at most."""
_REASONS = {
    "frozen": Reason.CLIENT_FROZEN,
    "expired": Reason.CLIENT_EXPIRED,
    "recovering": Reason.RECOVERY_PENDING,
    "unreachable": Reason.CHAIN_UNREACHABLE,
}
_VERBS = {"receive": "to be received", "expire": "to expire", "acknowledge": "its acknowledgement",
          "timeout": "its timeout"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Why:
    """One reason for which a packet is open."""

    chain: str
    """Where it is so: a chain id, or the address that did not answer."""
    reason: str
    """A reason of relay.errors."""
    detail: str
    next: str
    """What to do about it."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do about a client that judges nothing, or whose lane stands still."""

    client_id: str
    state: str
    reason: str
    """Why its lane stands still; empty where it does not, or the node runs none."""
    next: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What one node knows of a packet."""

    address: str
    chain: str
    key: Key
    """The packet's name on that node."""
    packet: PacketView | None
    steps: Sequence[TraceStep]
    client: ClientView | None
    lane: LaneView | None
    """Where it stands still."""
    undelivered: Sequence[Undelivered] | None
    """None on a node that runs no lanes."""

    @property
    def name(self) -> str:
        """The packet's name on that node, as commands take it."""
        return f"{self.key[0]}/{self.key[1]}/{self.key[2]}"

    @property
    def clear(self) -> str:
        """The command that takes the packet up again."""
        client, sequence, _ = self.key
        return (
            f"lianqiao packets clear {client} --from {sequence} --to {sequence} "
            f"--node {self.address}"
        )


def look(peer: NodeClient, address: str, chain: str, key: Key) -> Seen:
    """Asks a node about a packet under the name that it has there."""
    client_id, sequence, direction = key
    packet: PacketView | None = None
    client: ClientView | None = None
    steps: Sequence[TraceStep] = ()
    try:
        packet = peer.packet(*key)
        steps = peer.trace(*key)
    except NotFound as error:
        if error.reason is not Reason.PACKET_NOT_FOUND:
            raise
    try:
        client = peer.client(client_id)
    except NotFound as error:
        if error.reason is not Reason.CLIENT_NOT_FOUND:
            raise
    undelivered: list[Undelivered] | None = None
    try:
        listed = peer.undelivered(client_id, sequence)
        undelivered = [one for one, _ in zip(listed, range(MAX_STEPS), strict=False)]
    except (Denied, NotFound) as error:  # it runs no lanes, or is of a version before this
        if error.reason not in (Reason.NOT_PERMITTED, Reason.PORT_NOT_FOUND):
            raise
    found = None if undelivered is None else [u for u in undelivered if u.direction is direction]
    return Seen(address, chain, key, packet, steps, client, lane_of(peer, client_id), found)


def advice(peer: NodeClient, address: str, views: Iterable[ClientView]) -> list[Advice]:
    """What there is to do about some clients of a node, in their order."""
    stopped = stopped_lanes(peer)
    found = []
    for view in views:
        lane = stopped.get(view.client_id)
        if do := advice_for(view, lane, address):
            reason = lane.reason if lane is not None else ""
            found.append(Advice(view.client_id, state_of(view, lane), reason, do))
    return found


def key_elsewhere(view: PacketView) -> Key:
    """The name of a packet on the chain at its other end."""
    packet = view.packet
    if view.direction is Direction.OUT:
        return packet.destination_client, packet.sequence, Direction.IN
    return packet.source_client, packet.sequence, Direction.OUT


def is_open(here: Seen, there: Seen | None) -> bool:
    """Whether anything about the packet is still to come."""
    at = [seen for seen in (here, there) if seen is not None]
    states = [seen.packet.state for seen in at if seen.packet is not None]
    return any(state in OPEN for state in states) or any(seen.undelivered for seen in at)


def why_open(here: Seen, there: Seen | None, now: int) -> list[Why]:
    """The reasons of which the nodes know; never none.

    `here` has the packet; `there` is a node of the chain at its other end, where one was asked.
    """
    assert here.packet is not None
    commitment = packet_commitment(here.packet.packet)
    found: list[Why] = []
    if there is not None and _is_another(here, there):
        found.append(_twice(here, there))
    for seen in (here, there):
        if seen is not None:
            found += _of_client(seen)
            found += [_of_step(seen, one, commitment) for one in seen.undelivered or ()]
    if not found:
        found.append(_on_its_way(here, there))
    found += _of_time(here, there, now)
    return found


def unreachable(address: str, error: LianqiaoError) -> Why:
    """A node that was to be asked and does not answer."""
    return Why(address, error.reason.value, error.detail, error.hint)


def show(found: Sequence[Why]) -> None:
    """Prints why, one reason after the other."""
    output.say("it is open still:")
    for why in found:
        output.say(f"  {why.chain}: {why.reason}: {why.detail}")
        output.say(f"    next: {why.next}")


def _of_client(seen: Seen) -> list[Why]:
    """That the client of a node judges nothing, or its lane stands still."""
    if seen.client is None:
        return []
    advice = advice_for(seen.client, seen.lane, seen.address)
    if not advice:
        return []
    state = state_of(seen.client, seen.lane)
    reason = _REASONS.get(state, seen.lane.reason if seen.lane else "")
    detail = f"{seen.client.client_id}, which follows {seen.client.chain}, is {state}"
    if state == "active" and seen.lane is not None:
        detail = f"the lane of {seen.client.client_id} stands still: {seen.lane.detail}"
    return [Why(seen.chain, str(reason), detail, advice)]


def _of_step(seen: Seen, step: Undelivered, commitment: bytes) -> Why:
    """That a relayer could not deliver a step."""
    reason, _, detail = step.reason.partition(": ")
    whose = "" if step.commitment == commitment else "another packet of this name, "
    what = f"{whose}{_VERBS[step.step.value]}"
    if step.given_up:
        told, do = "was given up", f"mend the cause, then {seen.clear}"
        if reason == Reason.COMMITMENT_MISMATCH:
            do = _two_histories(seen)
    else:
        told = f"waits, {step.attempts} attempts, the next {output.moment(step.next_attempt)}"
        do = f"wait; or at once: {seen.clear}"
    tail = f": {detail}" if detail else ""
    return Why(
        seen.chain, reason or Reason.ACKNOWLEDGEMENT_PENDING.value, f"{what} {told}{tail}", do
    )


def _is_another(here: Seen, there: Seen) -> bool:
    return (
        here.packet is not None
        and there.packet is not None
        and here.packet.packet != there.packet.packet
    )


def _twice(here: Seen, there: Seen) -> Why:
    """That the two chains know different packets under one sequence."""
    verb = "received" if there.key[2] is Direction.IN else "sent"
    return Why(
        there.chain,
        Reason.COMMITMENT_MISMATCH.value,
        f"another packet was {verb} there under this sequence, as {there.name}",
        f"compare lianqiao packets show {here.name} --node {here.address} and "
        f"lianqiao packets show {there.name} --node {there.address}; {_two_histories(there)}",
    )


def _two_histories(seen: Seen) -> str:
    return (
        "no attempt can differ, since one sequence was used twice, by two histories of the sender; "
        "a bundle of each proves it (lianqiao verify ONE TWO --trust FILE --evidence FILE). Agree "
        "with the other operators which holds, send what is missing anew, and have the "
        "sender pass over what it used (lianqiao clients skip CLIENT NEXT; NEXT is above the "
        f"greatest CLIENT/N/in of packets list at the receiver, here {seen.chain})"
    )


def _on_its_way(here: Seen, there: Seen | None) -> Why:
    """What there is to say where nothing was refused."""
    assert here.packet is not None
    pending = Reason.ACKNOWLEDGEMENT_PENDING.value
    other = here.client.chain if here.client is not None else "the other chain"
    if here.packet.state is PacketState.DEFERRED:
        return Why(here.chain, pending, "received here; the contract answers later",
                   "wait; what it waits for is among lianqiao packets list --state sent --node "
                   f"{here.address}")  # fmt: skip
    if there is None:
        return Why(here.chain, pending, f"nothing is known here of what {other} did with it",
                   f"ask {other} too: lianqiao packets trace {here.name} --node {here.address} "
                   f"--also ADDRESS")  # fmt: skip
    lanes = here if here.undelivered is not None else there
    if there.packet is None:
        return Why(there.chain, Reason.PACKET_NOT_FOUND.value, "it has not come there yet",
                   f"wait a moment; if it stays so: {lanes.clear}")  # fmt: skip
    if there.packet.state is PacketState.DEFERRED:
        return Why(there.chain, pending, "received there; the contract answers later",
                   "wait; what it waits for is among lianqiao packets list --state sent --node "
                   f"{there.address}")  # fmt: skip
    told = f"{there.packet.state} there; that is not known here yet"
    if here.key[2] is Direction.IN:
        told = f"{here.packet.state} here; that is not known there yet"
    do = (
        "wait a moment; if it stays so, see whether the lane stands: lianqiao clients lanes --node "
    )
    return Why(there.chain, pending, told, do + lanes.address)


def _of_time(here: Seen, there: Seen | None, now: int) -> list[Why]:
    """That a packet's time is over and that is not proven yet."""
    view = here.packet
    received = there is not None and there.packet is not None
    if view is None or view.state is not PacketState.SENT or received:
        return []
    timeout = view.packet.timeout_timestamp
    if now < timeout:
        return []
    detail = f"its time ended at {output.moment(timeout)}; that it never came is not proven yet"
    do = "nothing by itself: the relay proves it once both chains answer"
    return [Why(here.chain, Reason.TIMEOUT_ELAPSED.value, detail, do)]
