"""A settlement by the name that a person has of it: its id, or its UETR."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.errors import Malformed

if TYPE_CHECKING:
    from relay.client import NodeClient
    from relay.money_views import Shown


def find(peer: NodeClient, name: str) -> Shown:
    """A settlement by its id in hex or its UETR. Raises Malformed, NotFound(NOT_FOUND)."""
    if "-" in name:
        return peer.settlement(uetr=name)
    try:
        return peer.settlement(bytes.fromhex(name))
    except ValueError:
        raise Malformed(
            f"{name[:80]!r} is no settlement", hint="give its id in hex, or its UETR"
        ) from None
