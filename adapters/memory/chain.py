"""A chain in this process behind the interface of every other, with faults that can be planned.

For tests and simulation. Before each call a *plan* is asked what the network does with it; a plan
is a plain function, so that a simulation can draw every fault from one seed:

    REQUEST_LOST   the chain never hears of the call; the caller sees Unavailable
    REPLY_LOST     the chain does what was asked; the caller sees Unavailable
    DUPLICATE      the chain gets the call twice; the caller sees the second answer
    LATE           a submission arrives after the next one; the caller sees Unavailable

A partition is a plan that loses everything, or `reachable = False`. A slow chain is a plan that
moves the simulated clock before it answers None. Calls are counted by name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import StrEnum
from typing import TypeVar

from relay.chain import (
    Chain,
    ClientStatus,
    Delivery,
    DeliveryResult,
    PacketStep,
    StatingChain,
)
from relay.errors import Malformed, NotFound, Reason, Unavailable
from relay.light.types import Claim, Witness
from relay.watch import KnowingChain, VerifiedHead

MAX_LATE = 100


class Fault(StrEnum):
    """What the network does with one call."""

    REQUEST_LOST = "request_lost"
    REPLY_LOST = "reply_lost"
    DUPLICATE = "duplicate"
    LATE = "late"


Plan = Callable[[str], Fault | None]
"""Given the name of a call, what the network does with it; None: nothing bad."""

_T = TypeVar("_T")
_offered: dict[str, Chain] = {}


def no_faults(_: str) -> Fault | None:
    """The plan of a network that works."""
    return None


class MemoryChain:
    """relay.chain.Chain around another one (relay.local.LocalChain), through a bad network."""

    def __init__(self, inner: Chain, plan: Plan = no_faults) -> None:
        self.inner = inner
        self.chain_id = inner.chain_id
        self.plan = plan
        self.reachable = True
        self.calls: Counter[str] = Counter()
        """How often each call arrived at the chain."""
        self._late: list[Sequence[Delivery]] = []

    def latest_height(self) -> int:
        """See relay.chain.Chain."""
        return self._call("latest_height", self.inner.latest_height)

    def headers(
        self,
        trusted_height: int,
        height: int,
        algorithm: str = "ed25519",
        witnesses: Sequence[Witness] = (),
    ) -> Sequence[bytes]:
        """See relay.chain.Chain."""
        return self._call(
            "headers",
            lambda: self.inner.headers(trusted_height, height, algorithm, witnesses),
        )

    def client(self, client_id: str) -> ClientStatus:
        """See relay.chain.Chain."""
        return self._call("client", lambda: self.inner.client(client_id))

    def packets(self, client_id: str, after: int, limit: int) -> Sequence[PacketStep]:
        """See relay.chain.Chain."""

        def listed() -> Sequence[PacketStep]:
            steps = self.inner.packets(client_id, after, max(0, limit))
            if not steps:
                self.inner.client(client_id)
            return steps

        return self._call("packets", listed)

    def prove(self, paths: Sequence[bytes], height: int) -> bytes:
        """See relay.chain.Chain."""
        return self._call("prove", lambda: self.inner.prove(paths, height))

    def sent(self, client_id: str, height: int, before: int) -> Sequence[Claim]:
        """See relay.chain.StatingChain; nothing where the chain behind this one is none."""
        inner = self.inner
        if not isinstance(inner, StatingChain):
            return ()
        return self._call("sent", lambda: inner.sent(client_id, height, before))

    def verified_heads(self, chain_ids: Collection[str]) -> Sequence[VerifiedHead]:
        """See relay.watch.KnowingChain; nothing where the chain behind this one is none."""
        inner = self.inner
        if not isinstance(inner, KnowingChain):
            return ()
        return self._call("verified_heads", lambda: inner.verified_heads(chain_ids))

    def accuse(self, client_id: str, evidence: bytes) -> None:
        """See relay.watch.KnowingChain."""
        inner = self.inner
        if isinstance(inner, KnowingChain):
            self._call("accuse", lambda: inner.accuse(client_id, evidence))

    def submit(self, deliveries: Sequence[Delivery]) -> Sequence[DeliveryResult]:
        """See relay.chain.Chain."""
        fault = self._fault("submit")
        if fault is Fault.LATE:
            self._late = [*self._late, deliveries][-MAX_LATE:]
            raise _unreachable(self.chain_id, "the request is on its way")
        answer = self._through("submit", fault, lambda: self.inner.submit(deliveries))
        self.arrive()
        return answer

    def arrive(self) -> None:
        """Delivers every submission that was late, in the order they were made."""
        late, self._late = self._late, []
        for deliveries in late:
            self.calls["submit"] += 1
            self.inner.submit(deliveries)

    def _call(self, name: str, call: Callable[[], _T]) -> _T:
        fault = self._fault(name)
        # A question that comes late is as good as lost: nobody waits for its answer.
        return self._through(name, Fault.REQUEST_LOST if fault is Fault.LATE else fault, call)

    def _fault(self, name: str) -> Fault | None:
        return self.plan(name) if self.reachable else Fault.REQUEST_LOST

    def _through(self, name: str, fault: Fault | None, call: Callable[[], _T]) -> _T:
        if fault is Fault.REQUEST_LOST:
            raise _unreachable(self.chain_id, "the request was lost")
        self.calls[name] += 1
        try:
            answer = call()
        except (OverflowError, TypeError, ValueError) as err:
            raise Malformed(f"this cannot be asked of a chain: {err}") from err
        if fault is Fault.DUPLICATE:
            self.calls[name] += 1
            answer = call()
        if fault is Fault.REPLY_LOST:
            raise _unreachable(self.chain_id, "the reply was lost")
        return answer


def _unreachable(chain_id: str, detail: str) -> Unavailable:
    return Unavailable(Reason.CHAIN_UNREACHABLE, f"{chain_id}: {detail}", chain_id=chain_id)


def offer(address: str, chain: Chain) -> None:
    """Makes a chain of this process known to `connect` under an address."""
    _offered[address] = chain


def connect(settings: Mapping[str, str]) -> Chain:
    """The chain that this process offers at `settings["address"]`: entry point `memory`.

    Raises NotFound(CONFIG_INVALID).
    """
    address = settings.get("address", "")
    chain = _offered.get(address)
    if chain is None:
        raise NotFound(
            Reason.CONFIG_INVALID,
            f"this process offers no chain at {address[:64]!r}",
            hint="the adapter `memory` is for tests; use `lianqiao` for another node",
        )
    return chain
