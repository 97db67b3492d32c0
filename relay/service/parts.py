"""What the servicers of one server share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import BoundedSemaphore, Event

from relay.contract import State
from relay.errors import NotFound, Reason
from relay.evidence import Evidence
from relay.host import HostState
from relay.node import Node

MAX_WATCHERS = 16
"""Streams at a time; each holds one of the server's threads."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The node and what stands around it. Servicers keep no state of their own."""

    node: Node
    clock: Callable[[], int]
    """Integer seconds since 1970 UTC."""
    stopping: Event = field(default_factory=Event)
    """Set first thing at shutdown: streams end, health says NOT_SERVING."""
    watchers: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(MAX_WATCHERS))

    @property
    def evidence(self) -> Evidence:
        """What this node proves of its journal."""
        return Evidence(self.node.store, self.node.tiles)

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
