"""Fetching books: what a money contract has written on one node, with proofs of each record."""

from __future__ import annotations

from relay.books import PROOF_RECORDS, Books
from relay.client.node import NodeClient
from relay.contracts.payloads import ESCROW_PORT, SETTLEMENT_PORT
from relay.paths import record_path
from relay.trust import Trust


def fetch_books(peer: NodeClient, port: str, trust: Trust) -> Books:
    """The books of the node behind `peer`, on port `escrow` or `settlement`; nothing verified.

    Raises NotFound(TRUST_MISSING, PORT_NOT_FOUND, HEIGHT_NOT_FOUND) or Unavailable.
    """
    assert port in (ESCROW_PORT, SETTLEMENT_PORT)
    listed = peer.escrow_entries() if port == ESCROW_PORT else peer.settlement_entries()
    records = tuple(listed)
    head = peer.head()
    trusted = trust.chain(head.origin)
    anchor, state = trusted.anchor, trusted.state
    headers = (
        peer.headers(anchor.height, head.size, state.algorithm, state.witnesses)
        if head.size > anchor.height
        else []
    )
    proofs = []
    for start in range(0, len(records), PROOF_RECORDS):
        part = records[start : start + PROOF_RECORDS]
        paths = [record_path(port, key) for key, _ in part]
        proofs.append((len(part), peer.prove(paths, head.size)))
    return Books(head.origin, port, head.size, tuple(headers), records, tuple(proofs))
