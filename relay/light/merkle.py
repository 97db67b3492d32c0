"""The Merkle tree of RFC 6962 and RFC 9162 over SHA-256: roots, proofs, and their verification.

    leaf = H(0x00 ‖ leaf data)      node = H(0x01 ‖ left ‖ right)      root of nothing = H("")

One picture explains every function here. Write the leaf hashes in a row and pair neighbours level
by level; the odd one at the right end rises unchanged. That gives exactly the tree of RFC 6962:

    level 3            ┌─────── root ───────┐
    level 2        ┌── 0 ──┐                │
    level 1      ┌ 0 ┐   ┌ 1 ┐          ┌── 2 ──┐         node (level, index) covers the leaves
    level 0      0   1   2   3          4       5         index·2^level … (index+1)·2^level - 1

A node is *complete* when all of those leaves exist; its hash then never changes. A store keeps
complete nodes only, and the provers ask for nothing else: they get a function `node(level, index)`
and fold the at most 63 complete nodes of the right edge themselves.

Proofs:

* inclusion and consistency proofs are those of RFC 9162 §2.1.3 and §2.1.4;
* a *multi proof* shows many leaves at once. It holds the hashes that cannot be computed from the
  leaves, each once, ordered by level from the leaves up and from left to right within a level; none
  where a node has no sibling. So the indexes and the size fix the length exactly, there is one
  proof for given leaves, and nothing in it can be left unused.

The size of the tree is **not** bound by any of these proofs (for most trees, size + 1 verifies as
well): size and root must come from one signed header.

Verifiers check counts and lengths before they hash, and raise Invalid(INVALID_PROOF) or
Invalid(INVALID_CONSISTENCY). Sizes and indexes are below 2^63.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from itertools import pairwise

from relay.errors import Invalid, Reason
from relay.light.types import MAX_INT

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()
MAX_MULTI_LEAVES = 65_536
"""Leaves in one multi proof."""

Node = Callable[[int, int], bytes]
"""`node(level, index)`: the hash of the complete subtree that the module docstring defines."""


def leaf_hash(data: bytes) -> bytes:
    """H(0x00 ‖ data), 32 bytes."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """H(0x01 ‖ left ‖ right), 32 bytes."""
    return sha256(b"\x01" + left + right).digest()


def root(leaf_hashes: Sequence[bytes]) -> bytes:
    """The root over leaf hashes in order; H("") of none. One hash per leaf but the first."""
    row = list(leaf_hashes)
    if not row:
        return EMPTY_ROOT
    while len(row) > 1:
        row = _parents(row)
    return row[0]


def root_at(size: int, node: Node) -> bytes:
    """The root of the first `size` leaves, from complete nodes."""
    return _edge(0, size, node) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, node: Node) -> list[bytes]:
    """The proof that leaf `index` is in the tree of `size`, leaf end first. 0 <= index < size."""
    assert 0 <= index < size, "an inclusion proof needs 0 <= index < size"
    return _path(0, index, size, node)


def consistency_proof(old: int, new: int, node: Node) -> list[bytes]:
    """The proof that the tree of `new` extends that of `old`. 0 < old <= new; equal: no hash."""
    assert 0 < old <= new, "a consistency proof needs 0 < old <= new"
    if old == new:
        return []
    level = (old & -old).bit_length() - 1
    index = (old >> level) - 1
    # Where `old` is a power of two its root is itself a node: the verifier has it already.
    start = [node(level, index)] if index else []
    return start + _path(level, index, new, node)


def multi_proof(indexes: Sequence[int], size: int, node: Node) -> list[bytes]:
    """One proof for several leaves; `indexes` strictly ascending, each below `size`, at least one.

    Order of hashes: by level from the leaves up, left to right within a level.
    """
    assert indexes, "a multi proof shows at least one leaf"
    assert 0 <= indexes[0] <= indexes[-1] < size, "indexes must lie below size"
    assert all(a < b for a, b in pairwise(indexes)), "indexes must ascend"
    return [_hash_at(level, index, size, node) for level, index in needed_nodes(indexes, size)]


def root_from_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes]) -> bytes:
    """The root that `leaf` (a leaf hash) at `index` and the proof lead to.

    Steps: (1) 0 <= index < size < 2^63; (2) exact number of hashes; (3) exact length of each;
    (4) hash upwards. Raises Invalid(INVALID_PROOF).
    """
    if not 0 <= index < size <= MAX_INT:
        raise Invalid(Reason.INVALID_PROOF, "leaf index is not below the tree size")
    # Below `inner` levels the path has a sibling at each level; above, one per set bit.
    inner = (index ^ (size - 1)).bit_length()
    if len(proof) != inner + (index >> inner).bit_count():
        raise Invalid(Reason.INVALID_PROOF, "inclusion proof has a wrong number of hashes")
    _check_hashes(leaf, proof, Reason.INVALID_PROOF)
    current = leaf
    for sibling in proof[:inner]:
        pair = b"\x01" + sibling + current if index & 1 else b"\x01" + current + sibling
        current = sha256(pair).digest()
        index >>= 1
    for sibling in proof[inner:]:
        current = sha256(b"\x01" + sibling + current).digest()
    return current


def verify_inclusion(
    trusted_root: bytes, size: int, index: int, leaf: bytes, proof: Sequence[bytes]
) -> None:
    """Raises Invalid(INVALID_PROOF) unless `leaf` (a leaf hash) is at `index` under the root.

    `trusted_root` and `size` must come from one signed header (see the module docstring).
    """
    if root_from_inclusion(index, size, leaf, proof) != trusted_root:
        raise Invalid(Reason.INVALID_PROOF, "inclusion proof leads to another root")


def verify_consistency(
    old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Raises Invalid(INVALID_CONSISTENCY) unless the tree of `new` extends the tree of `old`.

    Sizes of zero are refused, as in transparency-dev/merkle: every tree extends the empty one, so
    the proof would show nothing. A caller for whom an empty start is legal says so himself.
    """
    if not 0 < old <= new <= MAX_INT:
        raise Invalid(Reason.INVALID_CONSISTENCY, "consistency needs 0 < old size <= new size")
    if old == new:
        if proof or old_root != new_root:
            raise Invalid(Reason.INVALID_CONSISTENCY, "one size, but two roots or a needless proof")
        return
    level = (old & -old).bit_length() - 1
    index = (old >> level) - 1
    inner = (index ^ ((new - 1) >> level)).bit_length()
    outer = (index >> inner).bit_count()
    start = 1 if index else 0
    if len(proof) != start + inner + outer:
        raise Invalid(Reason.INVALID_CONSISTENCY, "consistency proof has a wrong number of hashes")
    first = proof[0] if start else old_root
    _check_hashes(first, proof, Reason.INVALID_CONSISTENCY)
    # The same hashes give both roots: those on the left of the path belong to both trees.
    older = newer = first
    for sibling in proof[start : start + inner]:
        if index & 1:
            older = sha256(b"\x01" + sibling + older).digest()
            newer = sha256(b"\x01" + sibling + newer).digest()
        else:
            newer = sha256(b"\x01" + newer + sibling).digest()
        index >>= 1
    for sibling in proof[start + inner :]:
        older = sha256(b"\x01" + sibling + older).digest()
        newer = sha256(b"\x01" + sibling + newer).digest()
    if older != old_root or newer != new_root:
        raise Invalid(Reason.INVALID_CONSISTENCY, "the newer tree does not extend the older one")


def root_from_multi(
    size: int, indexed_leaves: Sequence[tuple[int, bytes]], proof: Sequence[bytes]
) -> bytes:
    """The root that (index, leaf hash) pairs, strictly ascending, and a multi proof lead to.

    Steps as in `root_from_inclusion`. Raises Invalid(INVALID_PROOF).
    """
    if size > MAX_INT or not 0 < len(indexed_leaves) <= MAX_MULTI_LEAVES:
        raise Invalid(Reason.INVALID_PROOF, "a multi proof needs leaves and a tree")
    indexes = [index for index, _ in indexed_leaves]
    row = [leaf for _, leaf in indexed_leaves]
    if indexes[0] < 0 or indexes[-1] >= size:
        raise Invalid(Reason.INVALID_PROOF, "leaf index is not below the tree size")
    if any(a >= b for a, b in pairwise(indexes)):
        raise Invalid(Reason.INVALID_PROOF, "leaf indexes must ascend, each once")
    if len(proof) != _needed_count(indexes, size):
        raise Invalid(Reason.INVALID_PROOF, "multi proof has a wrong number of hashes")
    _check_hashes(row[0], proof, Reason.INVALID_PROOF)
    if set(map(len, row)) != {HASH_BYTES}:
        raise Invalid(Reason.INVALID_PROOF, "a leaf hash must be 32 bytes long")
    used = 0
    width = size
    while width > 1:
        if indexes[-1] - indexes[0] + 1 == len(indexes):
            used = _complete_run(indexes[0], row, width, proof, used)
            row = _parents(row)
            indexes = list(range(indexes[0] >> 1, (indexes[0] >> 1) + len(row)))
        else:
            indexes, row, used = _rise(indexes, row, width, proof, used)
        width = (width + 1) >> 1
    return row[0]


def verify_multi(
    trusted_root: bytes,
    size: int,
    indexed_leaves: Sequence[tuple[int, bytes]],
    proof: Sequence[bytes],
) -> None:
    """Raises Invalid(INVALID_PROOF) unless every leaf (hash) is at its index under the root."""
    if root_from_multi(size, indexed_leaves, proof) != trusted_root:
        raise Invalid(Reason.INVALID_PROOF, "multi proof leads to another root")


def _check_hashes(first: bytes, proof: Sequence[bytes], reason: Reason) -> None:
    if len(first) != HASH_BYTES or any(len(h) != HASH_BYTES for h in proof):
        raise Invalid(reason, "a hash of a proof must be 32 bytes long")


def _parents(row: list[bytes]) -> list[bytes]:
    """The level above a row that starts at an even index; an odd one at the end rises."""
    above = [
        sha256(b"\x01" + left + right).digest()
        for left, right in zip(row[::2], row[1::2], strict=False)
    ]
    if len(row) & 1:
        above.append(row[-1])
    return above


def _edge(start: int, end: int, node: Node) -> bytes:
    """The hash over leaves [start, end), where `start` is aligned to all that follows it."""
    hashes: list[bytes] = []
    while start < end:
        level = (end - start).bit_length() - 1
        hashes.append(node(level, start >> level))
        start += 1 << level
    current = hashes.pop()
    while hashes:
        current = node_hash(hashes.pop(), current)
    return current


def _hash_at(level: int, index: int, size: int, node: Node) -> bytes:
    end = (index + 1) << level
    return node(level, index) if end <= size else _edge(index << level, size, node)


def _path(level: int, index: int, size: int, node: Node) -> list[bytes]:
    """The siblings from node (level, index) up to the root of `size` leaves."""
    proof = []
    width = ((size - 1) >> level) + 1
    while width > 1:
        sibling = index ^ 1
        if sibling < width:
            proof.append(_hash_at(level, sibling, size, node))
        level, index, width = level + 1, index >> 1, (width + 1) >> 1
    return proof


def needed_nodes(indexes: Sequence[int], size: int) -> list[tuple[int, int]]:
    """(level, index) of every node that a multi proof holds, in its order."""
    needed = []
    level, width, row = 0, size, list(indexes)
    while width > 1:
        present = set(row)
        needed += [(level, i ^ 1) for i in row if i ^ 1 < width and i ^ 1 not in present]
        row = list(dict.fromkeys(i >> 1 for i in row))
        level, width = level + 1, (width + 1) >> 1
    return needed


def _needed_count(indexes: list[int], size: int) -> int:
    """How many hashes a multi proof for strictly ascending indexes holds, without hashing."""
    count, width = 0, size
    while width > 1:
        low, high = indexes[0], indexes[-1]
        if high - low + 1 == len(indexes):
            # A run without gaps needs at most one sibling at either end, at every level above too.
            while width > 1:
                count += (low & 1) + (not high & 1 and high + 1 < width)
                low, high, width = low >> 1, high >> 1, (width + 1) >> 1
            return count
        above = sorted({i >> 1 for i in indexes})
        # Each parent has two children, but for the last of an odd row, which rises alone.
        count += 2 * len(above) - len(indexes) - (width & 1 and high == width - 1)
        indexes, width = above, (width + 1) >> 1
    return count


def _complete_run(
    first: int, row: list[bytes], width: int, proof: Sequence[bytes], used: int
) -> int:
    """Adds to a run without gaps the siblings at its two ends; returns the hashes used so far."""
    last = first + len(row) - 1
    if first & 1:
        row.insert(0, proof[used])
        used += 1
    if not last & 1 and last + 1 < width:
        row.append(proof[used])
        used += 1
    return used


def _rise(
    indexes: list[int], row: list[bytes], width: int, proof: Sequence[bytes], used: int
) -> tuple[list[int], list[bytes], int]:
    """One level up for indexes with gaps: (indexes, hashes, hashes of the proof used so far)."""
    above_indexes: list[int] = []
    above: list[bytes] = []
    position, count = 0, len(indexes)
    while position < count:
        index, current = indexes[position], row[position]
        position += 1
        if index & 1:
            current = sha256(b"\x01" + proof[used] + current).digest()
            used += 1
        elif position < count and indexes[position] == index + 1:
            current = sha256(b"\x01" + current + row[position]).digest()
            position += 1
        elif index + 1 < width:
            current = sha256(b"\x01" + current + proof[used]).digest()
            used += 1
        above_indexes.append(index >> 1)
        above.append(current)
    return above_indexes, above, used
