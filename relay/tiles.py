"""The journal's tree as it is stored: tiles of 256 hashes, and the right edge in memory.

A row (level L, number n) of `tile` holds up to 256 hashes of complete subtrees of 2^(8L) leaves,
the layout of C2SP tlog-tiles. Appending m leaves costs m hashes of leaves, about m hashes of
nodes, and touches one row per 256 leaves and one or two more per commit.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, insert, select

from relay.light.merkle import EMPTY_ROOT, node_hash
from relay.store import tables

TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
_CACHED_TILES = 4096
_TILE = tables.table(tables.Tile)
_SELECT = select(_TILE.c.hashes).where(
    _TILE.c.level == bindparam("level"), _TILE.c.number == bindparam("number")
)
_DELETE = delete(_TILE).where(
    _TILE.c.level == bindparam("b_level"), _TILE.c.number == bindparam("b_number")
)


def _pyramid(hashes: bytes) -> list[list[bytes]]:
    """Every complete subtree inside one tile: [0] the hashes themselves, [h] those of 2^h."""
    rows = [[hashes[i : i + 32] for i in range(0, len(hashes), 32)]]
    while len(rows[-1]) > 1:
        below = rows[-1]
        rows.append([node_hash(below[i], below[i + 1]) for i in range(0, len(below) - 1, 2)])
    return rows


@dataclass(frozen=True, slots=True)
class Edge:
    """The right edge of a tree: enough to append and to know the root, without the database."""

    size: int = 0
    stack: tuple[bytes, ...] = ()
    """Roots of the complete subtrees of the binary digits of `size`, largest first."""
    partial: tuple[bytes, ...] = ()
    """By level: the hashes of the tile that is not full yet (may be empty)."""

    def root(self) -> bytes:
        """RFC 9162 root of the tree, SHA-256 of nothing where it is empty."""
        if not self.stack:
            return EMPTY_ROOT
        root = self.stack[-1]
        for left in reversed(self.stack[:-1]):
            root = node_hash(left, root)
        return root


Touched = tuple[int, int, bytes]
"""(level, number, hashes) of a tile to write."""


def extend(edge: Edge, leaves: Sequence[bytes]) -> tuple[Edge, list[Touched]]:
    """The edge after appending leaf hashes, and the tiles that changed."""
    stack = list(edge.stack)
    size = edge.size
    for leaf in leaves:
        carry, bit = leaf, size
        while bit & 1:
            carry = node_hash(stack.pop(), carry)
            bit >>= 1
        stack.append(carry)
        size += 1
    partial = list(edge.partial)
    touched: list[Touched] = []
    level, new = 0, b"".join(leaves)
    while new:
        if level == len(partial):
            partial.append(b"")
        number = edge.size >> (TILE_HEIGHT * (level + 1))
        data = partial[level] + new
        full = 32 * TILE_WIDTH
        carried = []
        while len(data) >= full:
            tile, data = data[:full], data[full:]
            touched.append((level, number, tile))
            carried.append(_pyramid(tile)[-1][0])
            number += 1
        if data:
            touched.append((level, number, data))
        partial[level] = data
        level, new = level + 1, b"".join(carried)
    return Edge(size, tuple(stack), tuple(partial)), touched


def write_tiles(connection: Connection, touched: Sequence[Touched]) -> None:
    """Replaces the rows of the tiles that changed."""
    keys = [{"b_level": level, "b_number": number} for level, number, _ in touched]
    connection.execute(_DELETE, keys)
    rows = [{"level": level, "number": number, "hashes": h} for level, number, h in touched]
    connection.execute(insert(_TILE), rows)


class TileCache:
    """Complete subtrees by (level, index), read from tiles; full tiles are kept in memory."""

    def __init__(self) -> None:
        self._tiles: OrderedDict[tuple[int, int], list[list[bytes]]] = OrderedDict()
        self._lock = threading.Lock()

    def getter(self, connection: Connection) -> Callable[[int, int], bytes]:
        """A function (level, index) -> hash for relay.light.merkle, on one connection."""
        local: dict[tuple[int, int], list[list[bytes]]] = {}

        def node(level: int, index: int) -> bytes:
            tile_level, height = divmod(level, TILE_HEIGHT)
            number, offset = divmod(index << height, TILE_WIDTH)
            key = (tile_level, number)
            rows = local.get(key)
            if rows is None:
                rows = local[key] = self._load(connection, key)
            return rows[height][offset >> height]

        return node

    def _load(self, connection: Connection, key: tuple[int, int]) -> list[list[bytes]]:
        with self._lock:
            if key in self._tiles:
                self._tiles.move_to_end(key)
                return self._tiles[key]
        found = connection.execute(_SELECT, {"level": key[0], "number": key[1]}).scalar_one()
        rows = _pyramid(bytes(found))
        if len(rows[0]) == TILE_WIDTH:
            with self._lock:
                self._tiles[key] = rows
                while len(self._tiles) > _CACHED_TILES:
                    self._tiles.popitem(last=False)
        return rows


def load_edge(connection: Connection, size: int) -> Edge:
    """The edge of a stored tree of `size` leaves."""
    node = TileCache().getter(connection)
    stack, done = [], 0
    for bit in reversed(range(size.bit_length())):
        if size >> bit & 1:
            stack.append(node(bit, done >> bit))
            done += 1 << bit
    partial, level = [], 0
    while size >> (TILE_HEIGHT * level):
        number = size >> (TILE_HEIGHT * (level + 1))
        held = (size >> (TILE_HEIGHT * level)) % TILE_WIDTH
        found = (
            connection.execute(_SELECT, {"level": level, "number": number}).scalar_one()
            if held
            else b""
        )
        partial.append(bytes(found)[: 32 * held])
        level += 1
    return Edge(size, tuple(stack), tuple(partial))
