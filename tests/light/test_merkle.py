from __future__ import annotations

import base64
import itertools
import json
import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from hashlib import sha256

import pytest

from relay.errors import Invalid, Reason
from relay.light import merkle
from tests.light import naive_tree as naive
from tests.refusals import refused
from tests.vectors_dir import vectors

LEAVES = [naive.leaf(b"leaf %d" % i) for i in range(300)]
OTHER = sha256(b"another").digest()


def node(level: int, index: int) -> bytes:
    """What a store answers; it fails for a subtree that is not complete in LEAVES."""
    start = index << level
    assert start + (1 << level) <= len(LEAVES)
    return naive.root(LEAVES[start : start + (1 << level)])


def complete_nodes(size: int) -> Callable[[int, int], bytes]:
    """A getter that knows complete subtrees of the first `size` leaves alone."""
    cache: dict[tuple[int, int], bytes] = {}

    def get(level: int, index: int) -> bytes:
        assert (index + 1) << level <= size, "asked for a subtree that is not complete"
        if (level, index) not in cache:
            cache[level, index] = node(level, index)
        return cache[level, index]

    return get


invalid = partial(refused, kind=Invalid)


def flip(data: bytes, bit: int) -> bytes:
    return bytes([*data[: bit // 8], data[bit // 8] ^ (1 << bit % 8), *data[bit // 8 + 1 :]])


def mutated(proof: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Every single mutation: one hash altered, dropped, doubled, cut, swapped, or one more."""
    whole = list(proof)
    for i, item in enumerate(whole):
        yield [*whole[:i], flip(item, (7 * i) % 256), *whole[i + 1 :]]
        yield [*whole[:i], *whole[i + 1 :]]
        yield [*whole[:i], item, *whole[i:]]
        yield [*whole[:i], item[:31], *whole[i + 1 :]]
        if i and whole[i - 1] != item:
            yield [*whole[: i - 1], item, whole[i - 1], *whole[i + 1 :]]
    yield [*whole, OTHER]
    yield [OTHER, *whole]


@pytest.mark.parametrize("size", range(65))
def test_roots_equal_the_naive_tree(size: int) -> None:
    assert merkle.root(LEAVES[:size]) == naive.root(LEAVES[:size])
    assert merkle.root_at(size, complete_nodes(size)) == naive.root(LEAVES[:size])


UP_TO = [24, pytest.param(64, marks=pytest.mark.slow)]
"""Leaves of the largest tree: each up to 64 in the longer tier."""


@pytest.mark.parametrize("most", UP_TO)
def test_every_inclusion_proof_and_every_mutation(most: int) -> None:
    for size in range(1, most + 1):
        leaves = LEAVES[:size]
        root, get = naive.root(leaves), complete_nodes(size)
        for index in range(size):
            proof = merkle.inclusion_proof(index, size, get)
            assert proof == naive.path(index, leaves)
            merkle.verify_inclusion(root, size, index, leaves[index], proof)
            wrong: list[tuple[bytes, int, int, bytes, list[bytes]]] = [
                (root, size, index, leaves[index], p) for p in mutated(proof)
            ]
            wrong += [
                (root, size, i, leaves[index], proof) for i in range(-1, size + 1) if i != index
            ]
            wrong.append((root, size, index, flip(leaves[index], 0), proof))
            wrong.append((root, size, index, leaves[index][:31], proof))
            wrong.append((flip(root, 255), size, index, leaves[index], proof))
            wrong.append((root, 0, index, leaves[index], proof))
            for case in wrong:
                invalid(Reason.INVALID_PROOF, merkle.verify_inclusion, *case)


@pytest.mark.parametrize("most", UP_TO)
def test_every_consistency_proof_and_every_mutation(most: int) -> None:
    roots = [naive.root(LEAVES[:n]) for n in range(66)]
    for new in range(1, most + 1):
        get = complete_nodes(new)
        for old in range(1, new + 1):
            proof = merkle.consistency_proof(old, new, get)
            assert proof == naive.subproof(old, LEAVES[:new], True)
            merkle.verify_consistency(old, new, roots[old], roots[new], proof)
            wrong: list[tuple[int, int, bytes, bytes, list[bytes]]] = [
                (old, new, roots[old], roots[new], p) for p in mutated(proof)
            ]
            wrong.append((old, new, flip(roots[old], 9), roots[new], proof))
            wrong.append((old, new, roots[old], flip(roots[new], 9), proof))
            wrong.append((0, new, roots[0], roots[new], proof))
            if old != new:
                wrong.append((new, old, roots[new], roots[old], proof))
                wrong.append((old, new, roots[new], roots[old], proof))
                wrong.append((old, old, roots[old], roots[new], []))
            for case in wrong:
                invalid(Reason.INVALID_CONSISTENCY, merkle.verify_consistency, *case)


def test_multi_proofs_of_every_subset_of_small_trees() -> None:
    for size in range(1, 9):
        leaves = LEAVES[:size]
        root, get = naive.root(leaves), complete_nodes(size)
        for count in range(1, size + 1):
            for chosen in itertools.combinations(range(size), count):
                check_multi(list(chosen), leaves, root, get)


def test_multi_proofs_of_larger_trees() -> None:
    rng = random.Random(7)
    for size in [*range(9, 65), 100, 255, 256, 257, 300]:
        leaves = LEAVES[:size]
        root, get = naive.root(leaves), complete_nodes(size)
        start = rng.randrange(size)
        run = list(range(start, rng.randrange(start, size) + 1))
        some = sorted(rng.sample(range(size), rng.randrange(1, size + 1)))
        for chosen in (run, some, [0, size - 1], [size - 1]):
            check_multi(chosen, leaves, root, get, mutate=len(chosen) < 12)


def check_multi(
    chosen: list[int],
    leaves: list[bytes],
    root: bytes,
    get: Callable[[int, int], bytes],
    mutate: bool = True,
) -> None:
    chosen = sorted(set(chosen))
    size = len(leaves)
    proof = merkle.multi_proof(chosen, size, get)
    assert proof == naive.multi(chosen, leaves)
    indexed = [(i, leaves[i]) for i in chosen]
    merkle.verify_multi(root, size, indexed, proof)
    if not mutate:
        return
    wrong = [(root, size, indexed, p) for p in mutated(proof)]
    for at, (index, leaf) in enumerate(indexed):
        others = indexed[:at], indexed[at + 1 :]
        wrong.append((root, size, [*others[0], (index, flip(leaf, at)), *others[1]], proof))
        wrong.append((root, size, [*others[0], (index, leaf[:31]), *others[1]], proof))
        wrong.append((root, size, [*others[0], (index, leaf), *indexed[at:]], proof))
        wrong.append((root, size, [*others[0], *others[1]], proof))
        for moved in {index - 1, index + 1, size} - set(chosen):
            shifted = sorted([*others[0], (moved, leaf), *others[1]])
            wrong.append((root, size, shifted, proof))
    if len(indexed) > 1:
        wrong.append((root, size, indexed[::-1], proof))
    wrong.append((flip(root, 1), size, indexed, proof))
    for case in wrong:
        invalid(Reason.INVALID_PROOF, merkle.verify_multi, *case)


def test_a_proof_does_not_bind_the_size_which_is_why_heads_carry_it() -> None:
    root = naive.root(LEAVES[:5])
    merkle.verify_inclusion(root, 6, 0, LEAVES[0], naive.path(0, LEAVES[:5]))


def test_empty_and_oversized_multi_proofs_are_refused_before_hashing() -> None:
    invalid(Reason.INVALID_PROOF, merkle.verify_multi, OTHER, 8, [], [])
    many = [(i, OTHER) for i in range(merkle.MAX_MULTI_LEAVES + 1)]
    invalid(Reason.INVALID_PROOF, merkle.verify_multi, OTHER, 2**40, many, [])
    invalid(Reason.INVALID_PROOF, merkle.verify_inclusion, OTHER, 2**63, 0, OTHER, [OTHER] * 63)
    invalid(
        Reason.INVALID_CONSISTENCY, merkle.verify_consistency, 1, 2**63, OTHER, OTHER, [OTHER] * 63
    )


def test_hashes_of_other_lengths_that_join_to_the_same_bytes() -> None:
    """H(0x01 ‖ a ‖ b) does not say where a ends, so every length is checked."""
    leaves, get = LEAVES[:8], complete_nodes(8)
    root = naive.root(leaves)
    proof = merkle.inclusion_proof(5, 8, get)  # leaf 5 is on the right: H(proof[0] ‖ leaf)
    leaf, moved = proof[0][31:] + leaves[5], [proof[0][:31], *proof[1:]]
    invalid(Reason.INVALID_PROOF, merkle.verify_inclusion, root, 8, 5, leaf, moved)
    proof = merkle.multi_proof([5, 7], 8, get)
    pair = [(5, proof[0][31:] + leaves[5]), (7, leaves[7])]
    invalid(Reason.INVALID_PROOF, merkle.verify_multi, root, 8, pair, [proof[0][:31], *proof[1:]])
    pair = [(5, leaves[5]), (7, proof[1][31:] + leaves[7])]
    moved = [proof[0], proof[1][:31], *proof[2:]]
    invalid(Reason.INVALID_PROOF, merkle.verify_multi, root, 8, pair, moved)
    proof = merkle.multi_proof([5, 6, 7], 8, get)
    three = [(5, leaves[5]), (6, leaves[6] + leaves[7][:1]), (7, leaves[7][1:])]
    invalid(Reason.INVALID_PROOF, merkle.verify_multi, root, 8, three, proof)


def test_sizes_and_numbers_of_leaves_have_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    proof = [OTHER] * 63
    assert merkle.root_from_inclusion(0, 2**63 - 1, OTHER, proof)
    assert merkle.root_from_multi(2**63 - 1, [(0, OTHER)], proof)
    invalid(Reason.INVALID_PROOF, merkle.root_from_inclusion, 0, 2**63, OTHER, proof)
    invalid(Reason.INVALID_PROOF, merkle.root_from_multi, 2**63, [(0, OTHER)], proof)
    invalid(Reason.INVALID_PROOF, merkle.root_from_multi, 0, [(0, OTHER)], [])
    last = 2**63 - 1
    merkle.verify_consistency(last, last, OTHER, OTHER, [])
    monkeypatch.setattr(merkle, "MAX_MULTI_LEAVES", 4)
    four = [(i, LEAVES[i]) for i in range(4)]
    merkle.verify_multi(naive.root(LEAVES[:4]), 4, four, [])
    five = [(i, LEAVES[i]) for i in range(5)]
    invalid(Reason.INVALID_PROOF, merkle.verify_multi, naive.root(LEAVES[:5]), 5, five, [])


@pytest.mark.parametrize(
    "prove",
    [
        lambda get: merkle.inclusion_proof(-1, 4, get),
        lambda get: merkle.inclusion_proof(4, 4, get),
        lambda get: merkle.consistency_proof(0, 4, get),
        lambda get: merkle.consistency_proof(5, 4, get),
        lambda get: merkle.multi_proof([], 4, get),
        lambda get: merkle.multi_proof([-1], 4, get),
        lambda get: merkle.multi_proof([1, 4], 4, get),
        lambda get: merkle.multi_proof([1, 1], 4, get),
        lambda get: merkle.multi_proof([2, 1], 4, get),
    ],
)
def test_no_proof_is_made_of_what_is_not_there(prove: Callable[[merkle.Node], list[bytes]]) -> None:
    with pytest.raises(AssertionError):
        prove(complete_nodes(4))


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts calls of SHA-256 in relay.light.merkle."""
    calls = [0]

    def counted(data: bytes) -> object:
        calls[0] += 1
        return sha256(data)

    monkeypatch.setattr(merkle, "sha256", counted)
    return calls


def test_hashes_per_leaf(hashes: list[int]) -> None:
    leaves = LEAVES[:256]
    merkle.root(leaves)
    assert hashes[0] == 255
    hashes[0] = 0
    root = naive.root(leaves)
    merkle.verify_inclusion(root, 256, 77, leaves[77], naive.path(77, leaves))
    assert hashes[0] == 8
    hashes[0] = 0
    run = [(i, leaves[i]) for i in range(100, 200)]
    proof = merkle.multi_proof([i for i, _ in run], 256, complete_nodes(256))
    hashes[0] = 0
    merkle.verify_multi(root, 256, run, proof)
    assert hashes[0] == 105, "one run of 100 leaves costs little more than one hash a leaf"
    hashes[0] = 0
    invalid(Reason.INVALID_PROOF, merkle.verify_multi, root, 256, run, [*proof, OTHER])
    invalid(Reason.INVALID_PROOF, merkle.verify_inclusion, root, 256, 77, leaves[77], [OTHER] * 9)
    path = naive.path(77, leaves)
    for long in ([b"x" * 10_000, *path[1:]], [*path[:-1], b"x" * 10_000]):
        invalid(Reason.INVALID_PROOF, merkle.verify_inclusion, root, 256, 77, leaves[77], long)
    long = [*proof[:-1], b"x" * 10_000]
    invalid(Reason.INVALID_PROOF, merkle.verify_multi, root, 256, run, long)
    long = [b"x" * 10_000] * 8
    invalid(Reason.INVALID_CONSISTENCY, merkle.verify_consistency, 127, 128, OTHER, root, long)
    assert hashes[0] == 0, "lengths are checked before anything is hashed"


def test_published_values_of_rfc_6962() -> None:
    for case in json.loads(vectors("ibc", "transcribed", "rfc6962.json").read_text())["cases"]:
        want = bytes.fromhex(case["hash"])
        if case["op"] == "root":
            assert merkle.root([merkle.leaf_hash(d.encode()) for d in case["leaves"]]) == want
        elif case["op"] == "leaf":
            assert merkle.leaf_hash(case["data"].encode()) == want
        else:
            assert case["op"] == "node"
            assert merkle.node_hash(case["left"].encode(), case["right"].encode()) == want


def published(kind: str) -> Iterator[dict[str, object]]:
    folder = vectors("chains", "tlog", "merkle-testdata", kind)
    for file in sorted(folder.rglob("*.json")):
        yield json.loads(file.read_text())


def decoded(value: object) -> bytes:
    assert isinstance(value, str)
    return base64.b64decode(value)


def proof_of(case: dict[str, object]) -> list[bytes]:
    proof = case["proof"] or []
    assert isinstance(proof, list)
    return [decoded(item) for item in proof]


# The folders `subtreeinclusion` and `subtreeconsistency` hold proofs about subtrees of the
# Merkle Tree Certificates draft, which this program does not have.


def test_published_inclusion_cases() -> None:
    count = 0
    for case in published("inclusion"):
        args = (
            decoded(case["root"]),
            case["treeSize"],
            case["leafIdx"],
            decoded(case["leafHash"]),
            proof_of(case),
        )
        if case["wantErr"]:
            invalid(Reason.INVALID_PROOF, merkle.verify_inclusion, *args)
        else:
            merkle.verify_inclusion(*args)  # type: ignore[arg-type]
        count += 1
    assert count == 98


def test_published_consistency_cases() -> None:
    count = 0
    for case in published("consistency"):
        args = (
            case["size1"],
            case["size2"],
            decoded(case["root1"]),
            decoded(case["root2"]),
            proof_of(case),
        )
        if case["wantErr"]:
            invalid(Reason.INVALID_CONSISTENCY, merkle.verify_consistency, *args)
        else:
            merkle.verify_consistency(*args)  # type: ignore[arg-type]
        count += 1
    assert count == 98
