"""One step of an ICS-23 proof: how leaves and inner nodes are hashed, and what a tree is.

Source: cosmos/ics23 `go/ops.go`, `go/proof.go`, `proto/cosmos/ics23/v1/proofs.proto`, with the
checks of its IAVL specification. A specification (`Spec`) is this program's, never the proof's.

    leaf   H(prefix ‖ len(k) k ‖ len(v) v), k and v hashed before where the specification says so
    inner  H(prefix ‖ child ‖ suffix)
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from adapters.cometbft.light import proto
from relay.errors import Invalid, Malformed, Reason

NO_HASH, SHA256, SHA512, KECCAK256, RIPEMD160, BITCOIN, SHA512_256, BLAKE2B, BLAKE2S = range(9)
NO_PREFIX, VAR_PROTO, VAR_RLP, FIXED32_BIG, FIXED32_LITTLE, FIXED64_BIG, FIXED64_LITTLE = range(7)
REQUIRE_32_BYTES, REQUIRE_64_BYTES = 7, 8
DEFAULT_MAX_DEPTH = 128
MAX_OP_BYTES = 1024
"""Bytes of a prefix or suffix."""

_HASHES = {
    SHA256: "sha256",
    SHA512: "sha512",
    RIPEMD160: "ripemd160",
    SHA512_256: "sha512_256",
    BLAKE2B: "blake2b",
    BLAKE2S: "blake2s",
}
_FIXED = {
    FIXED32_BIG: (4, "big"),
    FIXED32_LITTLE: (4, "little"),
    FIXED64_BIG: (8, "big"),
    FIXED64_LITTLE: (8, "little"),
}


@dataclass(frozen=True, slots=True)
class LeafOp:
    """How a key and its value become a leaf."""

    hash: int = 0
    prehash_key: int = 0
    prehash_value: int = 0
    length: int = 0
    prefix: bytes = b""


@dataclass(frozen=True, slots=True)
class InnerOp:
    """How a child becomes its parent."""

    hash: int = 0
    prefix: bytes = b""
    suffix: bytes = b""


@dataclass(frozen=True, slots=True)
class Spec:
    """What a tree looks like; child order is always left, right."""

    leaf: LeafOp
    child_size: int
    min_prefix: int
    max_prefix: int
    hash: int = SHA256
    empty_child: bytes = b""
    max_depth: int = DEFAULT_MAX_DEPTH
    min_depth: int = 0
    prehash_compared: bool = False
    """Whether keys are compared by their hashes."""
    iavl: bool = False
    simple: bool = False
    """Prefixes of inner nodes are exactly 0x01 and, on the right, the left sibling."""


_LEAF = LeafOp(SHA256, NO_HASH, SHA256, VAR_PROTO, b"\x00")
IAVL = Spec(_LEAF, child_size=33, min_prefix=4, max_prefix=12, iavl=True)
"""Stores of the Cosmos SDK."""
TENDERMINT = Spec(_LEAF, child_size=32, min_prefix=1, max_prefix=1)
SIMPLE = Spec(_LEAF, child_size=32, min_prefix=1, max_prefix=1, simple=True)
"""The tree of stores: TENDERMINT, with nothing but its own prefixes."""


def invalid(why: str) -> Invalid:
    """The error of every step that does not hold."""
    return Invalid(Reason.INVALID_PROOF, f"ics23 proof: {why}")


def do_hash(op: int, data: bytes) -> bytes:
    """The hash of `data`. Raises Invalid(INVALID_PROOF) for one that is not known."""
    try:
        if op == BITCOIN:
            return hashlib.new("ripemd160", hashlib.sha256(data).digest()).digest()
        if op in _HASHES:
            return hashlib.new(_HASHES[op], data).digest()
    except ValueError:
        pass  # this Python does not have it
    raise invalid(f"hash {op} is not known")


def do_length(op: int, data: bytes) -> bytes:
    """`data` with its length before it, as the specification says."""
    if op == NO_PREFIX:
        return data
    if op == VAR_PROTO:
        return proto.delimited(data)
    if op in (REQUIRE_32_BYTES, REQUIRE_64_BYTES):
        if len(data) != (32 if op == REQUIRE_32_BYTES else 64):
            raise invalid("data has another length than required")
        return data
    if op not in _FIXED:
        raise invalid(f"length {op} is not known")
    width, order = _FIXED[op]
    return len(data).to_bytes(width, "big" if order == "big" else "little") + data


def apply_leaf(op: LeafOp, key: bytes, value: bytes) -> bytes:
    """The hash of a leaf."""
    if not key or not value:
        raise invalid("a leaf needs a key and a value")
    parts = []
    for prehash, data in ((op.prehash_key, key), (op.prehash_value, value)):
        hashed = do_hash(prehash, data) if prehash != NO_HASH else data
        parts.append(do_length(op.length, hashed))
    return do_hash(op.hash, op.prefix + parts[0] + parts[1])


def apply_inner(op: InnerOp, child: bytes) -> bytes:
    """The hash of an inner node."""
    if not child:
        raise invalid("an inner node needs a child")
    return do_hash(op.hash, op.prefix + child + op.suffix)


def check_leaf(op: LeafOp, spec: Spec) -> None:
    """Raises unless a tree of `spec` hashes leaves so."""
    wanted = spec.leaf
    if (op.hash, op.prehash_key, op.prehash_value, op.length) != (
        wanted.hash,
        wanted.prehash_key,
        wanted.prehash_value,
        wanted.length,
    ):
        raise invalid("a leaf is hashed otherwise")
    if not op.prefix.startswith(wanted.prefix):
        raise invalid("a leaf has another prefix")
    if spec.simple and op.prefix != wanted.prefix:
        raise invalid("a leaf has another prefix")
    if spec.iavl:
        _check_iavl(op.prefix, 0)


def check_inner(op: InnerOp, spec: Spec, layer: int) -> None:
    """Raises unless a tree of `spec` has such an inner node at `layer`, counted from 1."""
    if op.hash != spec.hash:
        raise invalid("an inner node is hashed otherwise")
    if spec.iavl:
        _check_iavl(op.prefix, layer)
    if op.prefix.startswith(spec.leaf.prefix):
        raise invalid("an inner node has the prefix of a leaf")
    if not spec.min_prefix <= len(op.prefix) <= spec.max_prefix + spec.child_size:
        raise invalid("the prefix of an inner node has a wrong length")
    if len(op.suffix) % spec.child_size:
        raise invalid("the suffix of an inner node has a wrong length")
    if spec.simple and (
        op.prefix[0] != 1 or (len(op.prefix), len(op.suffix)) not in ((1, 32), (33, 0))
    ):
        raise invalid("an inner node has other bytes than 0x01 and one sibling")


def _check_iavl(prefix: bytes, layer: int) -> None:
    """Height, size and version as three zig-zag varints; then, for an inner node, at most the left
    sibling and the length of the next child."""
    at, values = 0, []
    for _ in range(3):
        try:
            number, at = proto.read_varint(prefix, at, "iavl prefix")
        except Malformed as error:
            raise invalid(error.detail) from error
        if number & 1:
            raise invalid("a number of an iavl node is negative")
        values.append(number >> 1)
    if values[0] < layer:
        raise invalid("an iavl node has a height below its layer")
    if len(prefix) - at not in ((1, 34) if layer else (0,)):
        raise invalid("an iavl node has something beside its sibling")
