"""A narrowed proof is exactly the proof that would have been made for those leaves alone."""

from __future__ import annotations

from itertools import combinations

import pytest

from relay.errors import Invalid, Reason
from relay.light.membership import (
    encode_membership_proof,
    entry_hash,
    verify_membership,
)
from relay.light.merkle import multi_proof, root
from relay.light.narrow import narrow_membership, narrow_multi
from relay.light.types import Claim


def _tree(size: int) -> tuple[list[bytes], list[Claim]]:
    claims = [Claim(f"path {i}".encode(), f"value {i}".encode()) for i in range(size)]
    return [entry_hash(c.path, c.value or b"") for c in claims], claims


def _node(leaves: list[bytes]) -> object:
    return lambda level, index: root(leaves[index << level : (index + 1) << level])


@pytest.mark.parametrize("size", range(1, 8))
def test_every_part_of_every_selection_of_small_trees(size: int) -> None:
    leaves, _ = _tree(size)
    node = _node(leaves)
    for count in range(1, size + 1):
        for chosen in combinations(range(size), count):
            whole = multi_proof(chosen, size, node)  # type: ignore[arg-type]
            pairs = [(i, leaves[i]) for i in chosen]
            for fewer in range(1, count + 1):
                for part in combinations(chosen, fewer):
                    expected = multi_proof(part, size, node)  # type: ignore[arg-type]
                    assert narrow_multi(size, pairs, whole, part) == expected


def test_claims_keep_their_order_and_verify() -> None:
    leaves, claims = _tree(300)
    order = [250, 3, 4, 299, 17]
    proof = encode_membership_proof(
        order,
        multi_proof(sorted(order), 300, _node(leaves)),  # type: ignore[arg-type]
    )
    covered = [claims[i] for i in order]
    narrowed = narrow_membership(300, proof, covered, [3, 1])
    verify_membership(root(leaves), 300, narrowed, [covered[3], covered[1]])
    with pytest.raises(Invalid) as err:
        verify_membership(root(leaves), 300, narrowed, [covered[1], covered[3]])
    assert err.value.reason is Reason.INVALID_PROOF


def test_a_proof_of_wrong_form_is_not_narrowed() -> None:
    leaves, _ = _tree(5)
    with pytest.raises(Invalid) as err:
        narrow_multi(5, [(0, leaves[0])], [], [0])
    assert err.value.reason is Reason.INVALID_PROOF
