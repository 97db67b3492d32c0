"""What an engine is: who extends a journal, and how a node of its kind is opened and served.

The engine `journal` is a plain function (relay.server.start): one process extends the journal and
signs. An engine that does more is an object with these methods, by the entry point
`lianqiao.engines`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from relay.config import Config


@runtime_checkable
class Engine(Protocol):
    """An engine with nodes of its own kind."""

    def init_text(self, name: str, settings: Mapping[str, str]) -> list[str]:
        """Lines of a new node's config.toml. Raises Refused(CONFIG_INVALID)."""
        ...

    def init(self, config: Config, peer_address: str, now: int) -> Path:
        """Makes what a new node needs; the file that its operator gives to the others."""
        ...

    def found(
        self,
        config: Config,
        joins: Sequence[bytes],
        quorum: int = 0,
        sync: Mapping[str, str] | None = None,
    ) -> str:
        """Prepares the start of a chain out of everybody's files; a hash that all compare."""
        ...

    def open_node(self, config: Config, clock: Callable[[], int]) -> Any:
        """The node of a configuration."""
        ...

    def serve(self, config: Config, node: Any, **how: Any) -> Any:
        """Serves it until `stop()`, as relay.server.start does."""
        ...
