"""Heads of a journal that a replicated engine extends: one row a block, the same on all replicas.

The header of height h + 1 commits to the journal as block h left it, so what block h wrote is
covered by header h + 1. What others are shown has the heights of headers.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, func, select

from relay.errors import NotFound, Reason
from relay.light.types import Witness
from relay.packet import be64
from relay.store import tables
from relay.store.rows import BlockRow
from relay.store.statements import columns
from relay.views import HeadView

_BLOCK = tables.table(tables.Block)
_LAST = select(*columns(BlockRow)).order_by(_BLOCK.c.height.desc()).limit(1)
_ONE = select(*columns(BlockRow)).where(_BLOCK.c.height == bindparam("height"))
_AFTER = select(func.min(_BLOCK.c.size)).where(_BLOCK.c.size > bindparam("high"))
_FIRST = (
    select(_BLOCK.c.size, func.min(_BLOCK.c.height))
    .where(_BLOCK.c.size > bindparam("low"), _BLOCK.c.size <= _AFTER.scalar_subquery())
    .group_by(_BLOCK.c.size)
    .order_by(_BLOCK.c.size)
)


def last_block(connection: Connection) -> BlockRow | None:
    """The newest block that was executed; height 0 is the genesis."""
    found = connection.execute(_LAST).one_or_none()
    return None if found is None else _row(found)


def block_at(connection: Connection, height: int) -> BlockRow:
    """Raises NotFound(HEIGHT_NOT_FOUND)."""
    found = connection.execute(_ONE, {"height": height}).one_or_none()
    if found is None:
        raise NotFound(
            Reason.HEIGHT_NOT_FOUND,
            f"this replica executed no block of height {height}",
            hint="ask for the latest head, or for a height that a packet step names",
            height=height,
        )
    return _row(found)


def app_hash(row: BlockRow) -> bytes:
    """BE64(size) || root: what the next header commits to, 40 bytes."""
    return be64(row.size) + row.root


def _row(found: Sequence[object]) -> BlockRow:
    height, time, size, root = found
    return BlockRow(int(height), int(time), int(size), bytes(root))  # type: ignore[call-overload]


class BlockHeads:
    """relay.store.cosignatures.Heads of a replicated journal."""

    quorum = 0
    witnesses: tuple[Witness, ...] = ()
    """Checkpoints have witnesses; headers have none."""

    def __init__(self, origin: str) -> None:
        """`origin`: chain id and epoch, as headers name the chain."""
        self._origin = origin

    def newest(self, connection: Connection) -> int:
        """Height of the newest header that was committed; 0 before the first."""
        last = last_block(connection)
        return last.height if last else 0

    def cover(self, connection: Connection, heights: Sequence[int]) -> list[int]:
        """As they are: a header is shown once it is committed."""
        return list(heights)

    def heights(self, connection: Connection, indexes: Sequence[int]) -> list[int]:
        """For each journal index the height of the first header that covers it."""
        if not indexes:
            return []
        asked = {"low": min(indexes), "high": max(indexes)}
        found = connection.execute(_FIRST, asked).all()
        sizes = [size for size, _ in found]
        return [found[bisect_right(sizes, index)][1] + 1 for index in indexes]

    def size_at(self, connection: Connection, height: int) -> int:
        """Size of the journal that the header of `height` commits to.

        Raises NotFound(HEIGHT_NOT_FOUND).
        """
        return block_at(connection, height - 1).size

    def view(self, connection: Connection) -> HeadView | None:
        """The newest header: its height, and the journal that it commits to."""
        last = last_block(connection)
        if last is None or not last.height:
            return None
        covered = block_at(connection, last.height - 1)
        return HeadView(self._origin, last.height, covered.root, last.time, b"")
