"""Ports for processes on loopback that are told where to listen before they are started."""

from __future__ import annotations

import secrets
import socket
from contextlib import ExitStack, suppress

from relay.errors import Reason, Unavailable

PORTS = 10_000, 32_000
"""Below those that Linux, macOS and Windows give to connections going out."""
PORT_TRIES = 10_000


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, drawn from below those that a system gives to whoever
    calls out: a node that is started again finds its own still free.

    Raises Unavailable(CHAIN_UNREACHABLE) where there are none.
    """
    with ExitStack() as held:
        found: list[int] = []
        for _ in range(PORT_TRIES):
            if len(found) == count:
                return found
            port = PORTS[0] + secrets.randbelow(PORTS[1] - PORTS[0])
            one = held.enter_context(socket.socket())
            with suppress(OSError):
                one.bind(("127.0.0.1", port))
                found.append(port)
    raise Unavailable(Reason.CHAIN_UNREACHABLE, "no free ports on this machine")
