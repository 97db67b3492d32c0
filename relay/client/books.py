"""Fetching books: what a money contract has written on one node, with proofs of each record.

Of a ledger that a chain of another kind keeps, in its place: what was done to it, with the proof
that this is all.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from relay.books import PROOF_RECORDS, Books
from relay.client.node import NodeClient
from relay.contracts.payloads import ESCROW_PORT, SETTLEMENT_PORT
from relay.errors import NotFound, Reason
from relay.packet import be64
from relay.paths import record_path
from relay.registry import bookkeepers
from relay.trust import Trust, TrustedChain


def fetch_books(peer: NodeClient, port: str, trust: Trust) -> Books:
    """The books of the node behind `peer`, on port `escrow` or `settlement`; nothing verified.

    All as of one head, however long the listing takes: what is written meanwhile is left out, or
    books of a busy node would hold a decision without the answers that it follows from.

    Raises NotFound(TRUST_MISSING, PORT_NOT_FOUND, HEIGHT_NOT_FOUND) or Unavailable.
    """
    assert port in (ESCROW_PORT, SETTLEMENT_PORT)
    if port == ESCROW_PORT:
        trusted = trust.chain(peer.head().origin)
        if trusted.state.client_type in bookkeepers():
            return _fetch_steps(peer, trusted)
    head = peer.head()
    listed = peer.escrow_entries() if port == ESCROW_PORT else peer.settlement_entries()
    records = tuple(listed)
    trusted = trust.chain(head.origin)
    anchor, state = trusted.anchor, trusted.state
    headers = (
        peer.headers(anchor.height, head.size, state.algorithm, state.witnesses)
        if head.size > anchor.height
        else []
    )
    kept, proofs = list[tuple[bytes, bytes]](), list[tuple[int, bytes]]()
    for start in range(0, len(records), PROOF_RECORDS):
        for part, proof in _prove(peer, port, records[start : start + PROOF_RECORDS], head.size):
            kept += part
            proofs.append((len(part), proof))
    return Books(head.origin, port, head.size, tuple(headers), tuple(kept), tuple(proofs))


_Records = tuple[tuple[bytes, bytes], ...]


def _prove(
    peer: NodeClient, port: str, records: _Records, size: int
) -> Iterator[tuple[_Records, bytes]]:
    """Records with the proof that they are written at `size`; without those written later."""
    try:
        proof = peer.prove([record_path(port, key) for key, _ in records], size)
    except NotFound as error:
        if error.reason is not Reason.PATH_NOT_FOUND:
            raise
    else:
        yield records, proof
        return
    if len(records) > 1:
        half = len(records) // 2
        yield from _prove(peer, port, records[:half], size)
        yield from _prove(peer, port, records[half:], size)


def _fetch_steps(peer: NodeClient, trusted: TrustedChain) -> Books:
    """Of a node before a chain that keeps the books. Steps that were done since the proof was made
    are left out: it is not about them."""
    proven = peer.prove_book_steps(trusted.anchor.height)
    records = []
    for number, step in enumerate(islice(peer.book_steps(), proven.steps), 1):
        records.append((be64(number), step))
    chain_id = trusted.state.chain_id
    height = max(proven.height, trusted.anchor.height)
    return Books(chain_id, ESCROW_PORT, height, proven.headers, tuple(records), proven.proofs)
