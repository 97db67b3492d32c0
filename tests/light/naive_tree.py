"""A second Merkle tree, slow and obviously right: the recursive definitions of RFC 9162 §2.1."""

from __future__ import annotations

from hashlib import sha256


def leaf(data: bytes) -> bytes:
    return sha256(b"\x00" + data).digest()


def split(n: int) -> int:
    """The largest power of two smaller than n (n > 1)."""
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def root(leaves: list[bytes]) -> bytes:
    """MTH over leaf hashes, §2.1.1."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return sha256(b"\x01" + root(leaves[:k]) + root(leaves[k:])).digest()


def path(m: int, leaves: list[bytes]) -> list[bytes]:
    """PATH(m, D_n), §2.1.3.1."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*path(m, leaves[:k]), root(leaves[k:])]
    return [*path(m - k, leaves[k:]), root(leaves[:k])]


def subproof(m: int, leaves: list[bytes], complete: bool) -> list[bytes]:
    """SUBPROOF(m, D_n, b), §2.1.4.1."""
    if m == len(leaves):
        return [] if complete else [root(leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*subproof(m, leaves[:k], complete), root(leaves[k:])]
    return [*subproof(m - k, leaves[k:], False), root(leaves[:k])]


def multi(indexes: list[int], leaves: list[bytes]) -> list[bytes]:
    """Our multi proof by its written definition: level by level, left to right, each hash once."""
    row = [[i] for i in range(len(leaves))]  # the leaves that each node of a level covers
    proof = []
    while len(row) > 1:
        known = {n for n, covered in enumerate(row) if set(covered) & set(indexes)}
        for n, covered in enumerate(row):
            if n not in known and n ^ 1 in known:
                proof.append(root([leaves[i] for i in covered]))
        row = [
            [leaf for covered in row[i : i + 2] for leaf in covered] for i in range(0, len(row), 2)
        ]
    return proof
