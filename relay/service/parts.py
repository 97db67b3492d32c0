"""What the servicers of one server share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import BoundedSemaphore, Event
from typing import Protocol

from relay.bundle_writer import BundleWriter
from relay.chain import Chain
from relay.contract import State
from relay.disclosure.desk import Desk
from relay.errors import Denied, NotFound, Reason
from relay.evidence import Evidence
from relay.host import HostState
from relay.node import Node
from relay.record.audit import AuditStore
from relay.record.vault import Vault
from relay.views import Cleared, LaneView, WitnessView
from relay.witness import Witness

MAX_WATCHERS = 8
"""Streams at a time; each holds one of the server's threads."""


class Lanes(Protocol):
    """The lanes of a running relay; it remembers those that are added."""

    def add(self, lane: LaneView) -> None:
        """Serves one more chain from now on. Raises Malformed, CONFIG_INVALID."""
        ...

    def list(self) -> list[LaneView]:
        """Every lane, in order of its client id."""
        ...

    def clear(self, client_id: str, now: int, sequences: tuple[int, int]) -> Cleared:
        """Takes undelivered packets up again. Raises NotFound(CLIENT_NOT_FOUND)."""
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """Where a ledger keeps its originals, who read them, and the desk that hands them out."""

    vault: Vault
    audit: AuditStore
    desk: Desk


def no_remote(client_id: str) -> Chain | None:
    """No other chain can be asked."""
    return None


@dataclass(frozen=True, slots=True)
class Parts:
    """The node and what stands around it. Servicers keep no state of their own."""

    node: Node
    clock: Callable[[], int]
    """Integer seconds since 1970 UTC."""
    stopping: Event = field(default_factory=Event)
    """Set first thing at shutdown: streams end, health says NOT_SERVING."""
    watchers: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(MAX_WATCHERS))
    lanes: Lanes | None = None
    """None on a node that runs no lanes."""
    remote: Callable[[str], Chain | None] = no_remote
    """The chain behind a client, where it can be asked."""
    witness: Witness | None = None
    """By whom this node co-signs heads of others."""
    witnesses: Callable[[], Sequence[WitnessView]] = tuple
    """How it stands with those who co-sign heads of this node."""

    def require_lanes(self) -> Lanes:
        """Raises Denied(NOT_PERMITTED) where this node runs no lanes."""
        if self.lanes is None:
            raise Denied(
                Reason.NOT_PERMITTED,
                f"{self.node.chain_id} runs no lanes",
                hint="only a node of role relay carries packets; ask that one",
            )
        return self.lanes

    @property
    def evidence(self) -> Evidence:
        """What this node proves of its journal."""
        return self.node.evidence()

    @property
    def bundles(self) -> BundleWriter:
        """What this node makes bundles of."""
        return BundleWriter(self.node, self.remote)

    @contextmanager
    def state(self, port: str) -> Iterator[State]:
        """A contract's keys, to be read; what is written to it is dropped.

        Raises NotFound(PORT_NOT_FOUND).
        """
        self.require(port)
        with self.node.store.reading() as tx:
            yield HostState(self.node.channel, tx, port, self.clock())

    def require(self, port: str) -> None:
        """Raises NotFound(PORT_NOT_FOUND) where this node runs no contract on `port`."""
        if port not in self.node.contracts:
            raise NotFound(
                Reason.PORT_NOT_FOUND,
                f"this node runs no contract on port {port}",
                hint="records are kept by a node of role ledger, decisions by one of role relay",
                port=port,
            )
