"""Merkle-Patricia proofs, strictly: what a key holds under a root, or that it holds nothing.

Yellow paper, appendix D. A proof is a list of nodes in the order in which they are first needed;
nodes below 32 bytes stand inside their parents and are not listed (geth, Besu). One list serves
several keys: a node that was met before is not listed again. Refused: a node that nobody needs, a
node under another hash, a form that no honest trie has (a short node behind a hash, a long one
inline, an extension that leads to no branch, an empty leaf, padding that is not zero).
"""

from __future__ import annotations

from collections.abc import Sequence

from adapters.evm.light import rlp
from adapters.evm.light.crypto import keccak
from relay.errors import Invalid, LianqiaoError, Reason

EMPTY_ROOT = bytes.fromhex("56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421")
MAX_NODE_BYTES = 64 * 1024
_BRANCH = 17


class Nodes:
    """The nodes of one proof, taken in order. `end()` when nothing more is to be looked up."""

    def __init__(self, listed: Sequence[bytes]) -> None:
        self._listed = listed
        self._next = 0
        self._met: dict[bytes, list[rlp.Item]] = {}
        self.used: dict[bytes, None] = {}
        """Hashes of nodes by first use since this was last emptied (for narrowing)."""

    def get(self, node_hash: bytes, root: bool) -> list[rlp.Item]:
        """The node with that hash. Raises Invalid(INVALID_PROOF)."""
        found = self._met.get(node_hash)
        if found is None:
            if self._next >= len(self._listed):
                raise _bad("lacks a node")
            raw = self._listed[self._next]
            self._next += 1
            if keccak(raw) != node_hash:
                raise _bad("has a node of another hash, or not in order")
            if len(raw) > MAX_NODE_BYTES or (len(raw) < 32 and not root):
                raise _bad("has a node that is too long, or too short to stand alone")
            found = self._met[node_hash] = _node(rlp.decode(raw))
        self.used.setdefault(node_hash)
        return found

    def end(self) -> None:
        """Raises Invalid(INVALID_PROOF) where a node was not needed."""
        if self._next != len(self._listed):
            raise _bad("holds more nodes than it needs")


def lookup(root: bytes, key: bytes, nodes: Nodes) -> bytes | None:
    """What `key` holds under `root`; None where the proof shows that it holds nothing.

    Raises Invalid(INVALID_PROOF).
    """
    if root == EMPTY_ROOT:
        return None
    try:
        return _walk(nodes.get(root, True), _nibbles(key), nodes)
    except LianqiaoError as error:
        if error.reason is Reason.INVALID_PROOF:
            raise
        raise _bad(error.detail) from error


def _walk(node: list[rlp.Item], path: tuple[int, ...], nodes: Nodes) -> bytes | None:
    while True:
        if len(node) == _BRANCH:
            if not path:
                return rlp.octets(node[16], "value") or None
            child, path = node[path[0]], path[1:]
            if child == b"":
                return None
            node = _child(child, nodes)
            continue
        leaf, part = _compact(rlp.octets(node[0], "path"))
        if leaf:
            return rlp.octets(node[1], "value") if part == path else None
        if path[: len(part)] != part:
            return None
        path = path[len(part) :]
        node = _child(node[1], nodes)
        if len(node) != _BRANCH:
            raise _bad("has an extension that leads to no branch")


def _child(item: rlp.Item, nodes: Nodes) -> list[rlp.Item]:
    if isinstance(item, bytes):
        return nodes.get(rlp.octets(item, "node hash", 32), False)
    if len(rlp.encode(item)) >= 32:
        raise _bad("has an inline node that must stand alone")
    return _node(item)


def _node(item: rlp.Item) -> list[rlp.Item]:
    """A node whose form is right. Raises Invalid(INVALID_PROOF), Malformed."""
    node = rlp.fields(item, "node")
    if len(node) == _BRANCH:
        if sum(part != b"" for part in node) < 2:
            raise _bad("has a branch that does not branch")
        return node
    if len(node) != 2:
        raise _bad("has a node of neither two nor seventeen elements")
    leaf, part = _compact(rlp.octets(node[0], "path"))
    if leaf and not rlp.octets(node[1], "value"):
        raise _bad("has an empty leaf")
    if not leaf and not part:
        raise _bad("has an extension by nothing")
    return node


def _compact(data: bytes) -> tuple[bool, tuple[int, ...]]:
    """(is a leaf, nibbles) of a hex-prefix encoding."""
    if not data or data[0] >> 4 > 3:
        raise _bad("has a path of unknown kind")
    kind, first = data[0] >> 4, data[0] & 15
    rest = _nibbles(data[1:])
    if kind & 1:
        return bool(kind & 2), (first, *rest)
    if first:
        raise _bad("has a path with padding that is not zero")
    return bool(kind & 2), rest


def _nibbles(key: bytes) -> tuple[int, ...]:
    return tuple(nibble for byte in key for nibble in (byte >> 4, byte & 15))


def _bad(why: str) -> Invalid:
    return Invalid(Reason.INVALID_PROOF, f"trie proof {why}")
