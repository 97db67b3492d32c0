"""The Python client of a node, for hospital systems and for the command line.

    from relay.client import connect

    with connect("127.0.0.1:7000") as node:
        print(node.status().head.size)
        for packet in node.packets(client_id="checkpoint-0"):
            print(packet.packet.sequence, packet.state)

Every method takes and returns plain frozen values, and raises the errors of `relay.errors` with
the reason that the node gave. A node that does not answer is Unavailable(CHAIN_UNREACHABLE), the
one error that may be retried blindly: repeated calls change nothing twice.
"""

from relay.client.connection import DEFAULT_TIMEOUT_SECONDS
from relay.client.node import NodeClient, connect

__all__ = ["DEFAULT_TIMEOUT_SECONDS", "NodeClient", "connect"]
