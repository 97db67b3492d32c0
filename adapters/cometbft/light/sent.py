"""What a chain of the Cosmos SDK has sent, as its store says it under a header. Pure.

IBC v2 keeps for each client the next sequence to be sent, at the key `nextSequenceSend/CLIENT` of
the store `ibc`, BE64 (ibc-go v10, modules/core/24-host/v2/packet_keys.go). The state under header H
is as block H - 1 left it: a packet that it does not count was sent in block H or later, so not
before the time of header H. A commitment is deleted once its packet has ended; that it is absent is
how a packet which expired here is known to be closed there.

Claims, in this order: the next sequence; then, for any sequences below it and ascending, the
absence of their commitments.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.errors import Invalid, Malformed, Reason
from relay.light.types import MAX_INT, Claim, ConsensusState, Sent

PREFIX = b"nextSequenceSend/"
_COMMITMENT = b"\x01"


def next_sequence_path(client_id: str) -> bytes:
    """The key in the store `ibc`."""
    return PREFIX + client_id.encode()


def read_store_sent(consensus: ConsensusState, client_id: str, claims: Sequence[Claim]) -> Sent:
    """What the claims say of the packets of `client_id`; the caller verifies them.

    Raises Malformed, Invalid(COUNTERPARTY_MISMATCH) for a statement of another client.
    """
    if not claims or claims[0].value is None or len(claims[0].value) != 8:
        raise Malformed("what a chain has sent is one number of eight bytes")
    if claims[0].path != next_sequence_path(client_id):
        raise Invalid(
            Reason.COUNTERPARTY_MISMATCH,
            "this is no statement of the client on the other side",
            expected=client_id,
        )
    following = int.from_bytes(claims[0].value, "big")
    if not 1 <= following <= MAX_INT:
        raise Malformed("a next sequence lies between 1 and 2^63")
    closed = []
    lowest = 1
    for claim in claims[1:]:
        sequence = _absent(client_id, claim)
        if not lowest <= sequence < following:
            raise Malformed("closed sequences ascend, each once, below the next one")
        closed.append((sequence, sequence + 1))
        lowest = sequence + 1
    return Sent(consensus.time, following, tuple(closed))


def _absent(client_id: str, claim: Claim) -> int:
    """The sequence whose commitment is said to be absent."""
    base = client_id.encode() + _COMMITMENT
    if claim.value is not None or len(claim.path) != len(base) + 8:
        raise Malformed("beside the next sequence stands the absence of commitments alone")
    if not claim.path.startswith(base):
        raise Invalid(
            Reason.COUNTERPARTY_MISMATCH, "a commitment of another client", expected=client_id
        )
    return int.from_bytes(claim.path[len(base) :], "big")
