"""What the owner of an endpoint decides once it is there: its recovery, and who owns it next.

Rules of a recovery: relay/recovery.py, which the endpoint follows. An owner who is a contract of
several signers makes the same calls: `Wanted.data` is what they sign.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from adapters.evm import calls
from adapters.evm.deploy import view
from adapters.evm.rpc import Rpc
from relay.errors import Malformed, Reason, Refused
from relay.light.checkpoint import split_origin
from relay.light.types import Header


@dataclass(frozen=True, slots=True)
class Wanted:
    """One call of the endpoint."""

    name: str
    arguments: tuple[Any, ...]

    @property
    def data(self) -> bytes:
        """As the chain takes it."""
        return calls.encode(self.name, list(self.arguments))


@dataclass(frozen=True, slots=True)
class Standing:
    """How an endpoint's client of the relay stands, and whose it is."""

    owner: bytes
    next_owner: bytes
    """Proposed, and not yet the owner; zeros: nobody."""
    origin: str
    frozen: bool
    size: int
    time: int
    """Of the newest head, seconds."""
    trusting_period: int
    due: int
    """From when the proposed recovery may be completed, seconds; 0: none is proposed."""
    proposed_epoch: int
    proposed_size: int
    proposed_root: bytes

    def state(self, now: int) -> str:
        """In a word: recovering, frozen, expired or active."""
        if self.due:
            return "recovering"
        if self.frozen:
            return "frozen"
        return "expired" if now >= self.time + self.trusting_period else "active"


def standing(rpc: Rpc, endpoint: bytes) -> Standing:
    """What the endpoint tells. Raises Unavailable, Malformed."""

    def told(name: str) -> tuple[Any, ...]:
        done = rpc.call(endpoint, calls.encode(name, []))
        if done.reverted or not done.data:
            raise rpc.distrust("has no endpoint at that address")
        return calls.decode(name, done.data)

    latest, proposed = told("latest"), told("proposed")
    return Standing(
        owner=_address(told("owner")[0]),
        next_owner=_address(told("nextOwner")[0]),
        origin=str(told("origin")[0]),
        frozen=bool(told("frozen")[0]),
        size=latest[0],
        time=latest[1],
        trusting_period=told("trustingPeriod")[0],
        due=told("recoveryDue")[0],
        proposed_epoch=told("proposedEpoch")[0],
        proposed_size=proposed[0],
        proposed_root=bytes(proposed[2]),
    )


def recovery(rpc: Rpc, endpoint: bytes, head: Header, delay: int) -> list[Wanted]:
    """The calls that propose `head` (verified) as the endpoint's new anchor, `delay` seconds ahead.

    Raises Refused(CHAIN_ID_MISMATCH) for a head of another relay, Malformed for one that announces
    another set.
    """
    relay, epoch = split_origin(head.chain_id)
    named = bytes(view(rpc, endpoint, "RELAY")).rstrip(b"\0")  # type: ignore[call-overload]
    if relay.encode() != named:
        raise Refused(
            Reason.CHAIN_ID_MISMATCH,
            f"the endpoint follows {named.decode('ascii', 'replace')}, and no other relay",
            found=relay,
        )
    if head.set_hash != head.next_set_hash:
        raise Malformed("recover to a head that announces no other set")
    wanted = []
    done = rpc.call(endpoint, calls.encode("knowsSet", [head.set_hash]))
    if done.reverted or not calls.decode("knowsSet", done.data)[0]:
        wanted.append(Wanted("registerSet", tuple(calls.set_of(head.validators))))
    body = (head.height, head.time, head.root, head.set_hash, head.next_set_hash)
    return [*wanted, Wanted("proposeRecovery", (epoch, body, delay))]


def _address(text: object) -> bytes:
    return bytes.fromhex(str(text)[2:])
