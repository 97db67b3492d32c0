"""ICS-23: that a key has a value in a tree, or that it is not in it. Strict.

Source: cosmos/ics23 `go/proof.go`, `go/ics23.go` (v0.11 line: batch and compressed proofs are gone
from its verifier, and are refused here). Protobuf:

    CommitmentProof{1 exist | 2 nonexist}
    ExistenceProof{1 key, 2 value, 3 LeafOp, 4 repeated InnerOp}, from the leaf up
    NonExistenceProof{1 key, 2 left, 3 right}: proofs of the two neighbours that leave no room

Every function raises Malformed or Invalid(INVALID_PROOF).
"""

from __future__ import annotations

from dataclasses import dataclass

from adapters.cometbft.light import proto
from adapters.cometbft.light.ics23_ops import (
    MAX_OP_BYTES,
    InnerOp,
    LeafOp,
    Spec,
    apply_inner,
    apply_leaf,
    check_inner,
    check_leaf,
    do_hash,
    invalid,
)
from adapters.cometbft.light.proto import Fields
from relay.errors import Malformed, Reason

MAX_PROOF_BYTES = 256 * 1024
MAX_PATH = 256


@dataclass(frozen=True, slots=True)
class Existence:
    """That `key` has `value`."""

    key: bytes
    value: bytes
    leaf: LeafOp | None
    path: tuple[InnerOp, ...]


@dataclass(frozen=True, slots=True)
class NonExistence:
    """That `key` is not there."""

    key: bytes
    left: Existence | None
    right: Existence | None


Proof = Existence | NonExistence


# --- verification


def existence_root(proof: Existence, spec: Spec) -> bytes:
    """The root of a tree of `spec` under which the proof holds."""
    check_existence(proof, spec)
    return calculate(proof, spec.child_size)


def check_existence(proof: Existence, spec: Spec) -> None:
    """Raises unless a tree of `spec` can have such a leaf and such inner nodes."""
    if proof.leaf is None:
        raise invalid("it has no leaf")
    check_leaf(proof.leaf, spec)
    if not spec.min_depth <= len(proof.path) <= spec.max_depth:
        raise invalid("it is too deep, or not deep enough")
    for layer, op in enumerate(proof.path, 1):
        check_inner(op, spec, layer)


def calculate(proof: Existence, child_size: int = 0) -> bytes:
    """The root to which the steps lead, whatever the tree; hashes are no longer than a child."""
    if proof.leaf is None:
        raise invalid("it has no leaf")
    current = apply_leaf(proof.leaf, proof.key, proof.value)
    for op in proof.path:
        current = apply_inner(op, current)
        if len(current) > child_size >= 32:
            raise invalid("a hash is longer than a child")
    return current


def verify_existence(proof: Proof, spec: Spec, root: bytes, key: bytes, value: bytes) -> None:
    """Raises unless `key` has `value` under `root`."""
    if not isinstance(proof, Existence):
        raise invalid("it shows an absence")
    if proof.key != key or proof.value != value:
        raise invalid("it is about another key or value")
    if existence_root(proof, spec) != root:
        raise invalid("it leads to another root")


def non_existence_root(proof: NonExistence, spec: Spec, key: bytes) -> bytes:
    """The root under which `key` is shown not to be."""
    if proof.key not in (key, _compared(spec, key)) or not key:
        raise invalid("it is about another key")
    roots = [existence_root(p, spec) for p in (proof.left, proof.right) if p is not None]
    if not roots:
        raise invalid("it shows neither neighbour")
    if roots[0] != roots[-1]:
        raise invalid("the two neighbours are of different trees")
    wanted = _compared(spec, key)
    if proof.right is not None and wanted >= _compared(spec, proof.right.key):
        raise invalid("the key is not left of the right neighbour")
    if proof.left is not None and wanted <= _compared(spec, proof.left.key):
        raise invalid("the key is not right of the left neighbour")
    if proof.left is None:
        assert proof.right is not None
        adjacent = _is_left_most(spec, proof.right.path)
    elif proof.right is None:
        adjacent = _is_right_most(spec, proof.left.path)
    else:
        adjacent = are_neighbours(spec, proof.left.path, proof.right.path)
    if not adjacent:
        raise invalid("there is room between the neighbours")
    return roots[0]


def verify_non_existence(proof: Proof, spec: Spec, root: bytes, key: bytes) -> None:
    """Raises unless `key` is not in the tree under `root`."""
    if not isinstance(proof, NonExistence):
        raise invalid("it shows a presence")
    if non_existence_root(proof, spec, key) != root:
        raise invalid("it leads to another root")


def _compared(spec: Spec, key: bytes) -> bytes:
    return do_hash(spec.leaf.prehash_key, key) if spec.prehash_compared else key


# --- neighbours


def _side(spec: Spec, op: InnerOp) -> int | None:
    """0 where the child of this step is the left one, 1 for the right one, None for neither."""
    for branch in (0, 1):
        extra = branch * spec.child_size
        shortest, longest = spec.min_prefix + extra, spec.max_prefix + extra
        suffix = (1 - branch) * spec.child_size
        if shortest <= len(op.prefix) <= longest and len(op.suffix) == suffix:
            return branch
    return None


def other_is_empty(spec: Spec, op: InnerOp, side: int) -> bool:
    """Whether the child of this step is on `side`, and its sibling is the tree's empty child."""
    if not spec.empty_child or _side(spec, op) != side:
        return False
    sibling = op.prefix[-spec.child_size :] if side else op.suffix
    return sibling == spec.empty_child


def _is_left_most(spec: Spec, path: tuple[InnerOp, ...]) -> bool:
    return all(_side(spec, op) == 0 or other_is_empty(spec, op, 1) for op in path)


def _is_right_most(spec: Spec, path: tuple[InnerOp, ...]) -> bool:
    return all(_side(spec, op) == 1 or other_is_empty(spec, op, 0) for op in path)


def are_neighbours(spec: Spec, left: tuple[InnerOp, ...], right: tuple[InnerOp, ...]) -> bool:
    """Whether two leaves of one tree, by their steps from the leaf up, have none between them."""
    while (
        left
        and right
        and (left[-1].prefix, left[-1].suffix)
        == (
            right[-1].prefix,
            right[-1].suffix,
        )
    ):
        left, right = left[:-1], right[:-1]
    if not left or not right:
        return False
    if (_side(spec, left[-1]), _side(spec, right[-1])) != (0, 1):
        return False
    return _is_right_most(spec, left[:-1]) and _is_left_most(spec, right[:-1])


# --- encoding


def decode_proof(raw: bytes) -> Proof:
    """The CommitmentProof in `raw`, which must be in its one encoding. Raises Malformed."""
    if len(raw) > MAX_PROOF_BYTES:
        raise Malformed("an ics23 proof is too long", reason=Reason.LIMIT_EXCEEDED)
    fields = Fields(raw, "ics23 proof")
    exist, absent = fields.optional(1), fields.optional(2)
    proof: Proof
    if exist is not None and absent is None:
        proof = _read_existence(exist)
    elif absent is not None and exist is None:
        proof = _read_absence(absent)
    else:
        raise Malformed("ics23 proof: it shows either a presence or an absence")
    proto.check_encoding(raw, encode_proof(proof), "ics23 proof")
    return proof


def encode_proof(proof: Proof) -> bytes:
    """CommitmentProof."""
    if isinstance(proof, Existence):
        return proto.message(1, _write_existence(proof))
    parts = proto.data(1, proof.key)
    for number, neighbour in ((2, proof.left), (3, proof.right)):
        if neighbour is not None:
            parts += proto.message(number, _write_existence(neighbour))
    return proto.message(2, parts)


def _write_existence(proof: Existence) -> bytes:
    out = proto.data(1, proof.key) + proto.data(2, proof.value)
    if proof.leaf is not None:
        op = proof.leaf
        leaf = proto.integer(1, op.hash) + proto.integer(2, op.prehash_key)
        leaf += proto.integer(3, op.prehash_value) + proto.integer(4, op.length)
        out += proto.message(3, leaf + proto.data(5, op.prefix))
    return out + proto.messages(
        4,
        (
            proto.integer(1, op.hash) + proto.data(2, op.prefix) + proto.data(3, op.suffix)
            for op in proof.path
        ),
    )


def _read_absence(raw: bytes) -> NonExistence:
    fields = Fields(raw, "absence")
    key, left, right = fields.data(1), fields.optional(2), fields.optional(3)
    return NonExistence(
        key,
        None if left is None else _read_existence(left),
        None if right is None else _read_existence(right),
    )


def _read_existence(raw: bytes) -> Existence:
    fields = Fields(raw, "existence")
    key, value, leaf = fields.data(1), fields.data(2), fields.optional(3)
    steps = fields.messages(4)
    if len(steps) > MAX_PATH:
        raise Malformed(f"an ics23 proof has at most {MAX_PATH} steps")
    return Existence(
        key,
        value,
        None if leaf is None else _read_leaf(leaf),
        tuple(_read_inner(step) for step in steps),
    )


def _read_leaf(raw: bytes) -> LeafOp:
    fields = Fields(raw, "leaf")
    hash_, prehash_key, prehash_value, length = (fields.integer(n) for n in (1, 2, 3, 4))
    op = LeafOp(hash_, prehash_key, prehash_value, length, _bounded(fields.data(5)))
    return op


def _read_inner(raw: bytes) -> InnerOp:
    fields = Fields(raw, "inner node")
    op = InnerOp(fields.integer(1), _bounded(fields.data(2)), _bounded(fields.data(3)))
    return op


def _bounded(data: bytes) -> bytes:
    if len(data) > MAX_OP_BYTES:
        raise Malformed(f"a step of an ics23 proof has at most {MAX_OP_BYTES} bytes")
    return data
