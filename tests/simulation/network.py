"""The ways between processes: doors at which deliveries are seen, and wires with a fate.

    relayer of A ── Wire ── MemoryChain (adapters/memory) ── Door ── node of B
    relayer of A ───────────────────────────────────────────Door ── node of A

A door belongs to one process, whoever comes: it shows the simulation every delivery with its
answer, and turns the death of its process into what a caller sees of it. A wire belongs to one
relayer and one chain: calls on it are lost, doubled, late or cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol, TypeVar

from adapters.memory.chain import Fault, MemoryChain
from relay.chain import (
    Chain,
    ClientStatus,
    Delivery,
    DeliveryResult,
    PacketStep,
    StatingChain,
)
from relay.errors import Reason, Unavailable
from relay.light.types import Claim
from relay.watch import KnowingChain, VerifiedHead
from tests.simulation.fate import CRASHES, Act, Crash, Fate
from tests.simulation.process import Process

_T = TypeVar("_T")
_FAULTS = {
    Act.LOST: Fault.REQUEST_LOST,
    Act.UNSURE: Fault.REPLY_LOST,
    Act.DUPLICATE: Fault.DUPLICATE,
    Act.LATE: Fault.LATE,
}


class Books(Protocol):
    """Who is shown what passes a door."""

    def submitted(self, process: Process, deliveries: Sequence[Delivery]) -> None:
        """Deliveries arrive."""
        ...

    def answered(
        self,
        process: Process,
        deliveries: Sequence[Delivery],
        results: Sequence[DeliveryResult],
    ) -> None:
        """They are answered."""
        ...


class _Asked:
    """relay.chain.Chain and StatingChain, and what relay.watch asks; all go through `_ask`."""

    chain_id: str

    def _ask(self, name: str, call: Callable[[Chain], _T]) -> _T:
        raise NotImplementedError

    def latest_height(self) -> int:
        """See relay.chain.Chain."""
        return self._ask("latest_height", lambda chain: chain.latest_height())

    def headers(self, *arguments: Any) -> Sequence[bytes]:
        """See relay.chain.Chain."""
        return self._ask("headers", lambda chain: chain.headers(*arguments))

    def client(self, client_id: str) -> ClientStatus:
        """See relay.chain.Chain."""
        return self._ask("client", lambda chain: chain.client(client_id))

    def packets(self, client_id: str, after: int, limit: int) -> Sequence[PacketStep]:
        """See relay.chain.Chain."""
        return self._ask("packets", lambda chain: chain.packets(client_id, after, limit))

    def prove(self, paths: Sequence[bytes], height: int) -> bytes:
        """See relay.chain.Chain."""
        return self._ask("prove", lambda chain: chain.prove(paths, height))

    def sent(self, client_id: str, height: int, before: int) -> Sequence[Claim]:
        """See relay.chain.StatingChain."""
        return self._ask("sent", lambda chain: _stating(chain).sent(client_id, height, before))

    def verified_heads(self, chain_ids: Collection[str]) -> Sequence[VerifiedHead]:
        """See relay.watch.KnowingChain."""
        return self._ask("verified_heads", lambda chain: _knowing(chain).verified_heads(chain_ids))

    def accuse(self, client_id: str, evidence: bytes) -> None:
        """See relay.watch.KnowingChain."""
        self._ask("accuse", lambda chain: _knowing(chain).accuse(client_id, evidence))

    def submit(self, deliveries: Sequence[Delivery]) -> Sequence[DeliveryResult]:
        """See relay.chain.Chain."""
        return self._ask("submit", lambda chain: chain.submit(deliveries))


class Door(_Asked):
    """The chain of one process, whether it runs or not."""

    def __init__(self, process: Process, books: Books, *, own: bool = False) -> None:
        """`own`: for the relayers inside the process, which die with it."""
        self.process = process
        self.chain_id = process.name
        self._books = books
        self._own = own

    def _ask(self, name: str, call: Callable[[Chain], _T]) -> _T:
        chain = self.process.chain
        if chain is None:
            raise _unreachable(self.chain_id, "is down")
        try:
            return call(chain)
        except Crash as crash:
            if self._own or crash.name != self.chain_id:
                raise
            self.process.crash()
            raise _unreachable(self.chain_id, "went down") from None

    def submit(self, deliveries: Sequence[Delivery]) -> Sequence[DeliveryResult]:
        """See relay.chain.Chain."""
        self._books.submitted(self.process, deliveries)
        results = super().submit(deliveries)
        self._books.answered(self.process, deliveries, results)
        return results


class Wire(_Asked):
    """How one relayer reaches one other chain."""

    def __init__(self, owner: str, door: Door, fate: Fate) -> None:
        self.owner = owner
        self.chain_id = door.chain_id
        self.memory = MemoryChain(door, self._plan)
        """Set `reachable` for a partition, `inner` to show another chain under that name."""
        self._fate = fate
        self._act: Act | None = None

    def _plan(self, _: str) -> Fault | None:
        return None if self._act is None else _FAULTS.get(self._act)

    def _ask(self, name: str, call: Callable[[Chain], _T]) -> _T:
        act = self._act = self._fate.call(self.owner, self.chain_id, name)
        if act is Act.CRASH_BEFORE:
            raise Crash(self.owner)
        try:
            return call(self.memory)
        finally:
            if act in CRASHES:
                raise Crash(self.owner)

    def arrive(self) -> None:
        """Lets every late submission arrive, if there is somebody to take it."""
        try:
            self.memory.arrive()
        except Unavailable:
            return


def _knowing(chain: Chain) -> KnowingChain:
    assert isinstance(chain, KnowingChain), "every chain here can be asked"
    return chain


def _stating(chain: Chain) -> StatingChain:
    assert isinstance(chain, StatingChain), "every chain here states what it has sent"
    return chain


def _unreachable(name: str, what: str) -> Unavailable:
    return Unavailable(Reason.CHAIN_UNREACHABLE, f"{name} {what}", chain_id=name)
