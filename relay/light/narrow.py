"""From one proof for many leaves, the proof for some of them.

A node keeps the proof of a whole delivery, as it came. A bundle is about one packet and may hold
nothing unused, so its proof is narrowed: every sibling that the smaller proof needs either stands
in the larger one or follows from the leaves that it covers.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.light.membership import decode_membership_proof, encode_membership_proof, entry_hash
from relay.light.merkle import needed_nodes, node_hash, root_from_multi
from relay.light.types import Claim


def narrow_multi(
    size: int,
    indexed_leaves: Sequence[tuple[int, bytes]],
    proof: Sequence[bytes],
    wanted: Sequence[int],
) -> list[bytes]:
    """The multi proof for `wanted`, a strictly ascending part of the leaves of a larger one.

    Raises Invalid(INVALID_PROOF) where the larger one has a wrong form. NOTE: it does not compare
    the root; narrow only what was verified.
    """
    root_from_multi(size, indexed_leaves, proof)
    indexes = [index for index, _ in indexed_leaves]
    known = {(0, index): leaf for index, leaf in indexed_leaves}
    known |= dict(zip(needed_nodes(indexes, size), proof, strict=True))
    level, width, row = 0, size, indexes
    while width > 1:
        row = list(dict.fromkeys(index >> 1 for index in row))
        for index in row:
            left, right = known[(level, 2 * index)], (level, 2 * index + 1)
            known[(level + 1, index)] = (
                node_hash(left, known[right]) if 2 * index + 1 < width else left
            )
        level, width = level + 1, (width + 1) >> 1
    return [known[node] for node in needed_nodes(wanted, size)]


def narrow_membership(
    size: int, proof: bytes, claims: Sequence[Claim], wanted: Sequence[int]
) -> bytes:
    """The membership proof for the claims at positions `wanted`, in their order.

    `claims` are those that `proof` covers, in its order, all of them inclusions.
    """
    indexes, hashes = decode_membership_proof(proof)
    leaves = sorted(
        (index, entry_hash(claim.path, claim.value or b""))
        for index, claim in zip(indexes, claims, strict=True)
    )
    kept = [indexes[position] for position in wanted]
    return encode_membership_proof(kept, narrow_multi(size, leaves, hashes, sorted(kept)))
