"""Which head covers an entry: by signed checkpoints, or by blocks (relay.store.blocks)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Protocol

from sqlalchemy import Connection, bindparam, func, select

from relay.errors import NotFound, Reason
from relay.light.checkpoint import parse_body
from relay.store import tables
from relay.store.rows import CheckpointRow
from relay.store.statements import columns
from relay.views import HeadView

_CHECKPOINT = tables.table(tables.Checkpoint)
_AFTER = select(func.min(_CHECKPOINT.c.size)).where(_CHECKPOINT.c.size > bindparam("high"))
_SIZES = (
    select(_CHECKPOINT.c.size)
    .where(_CHECKPOINT.c.size > bindparam("low"), _CHECKPOINT.c.size <= _AFTER.scalar_subquery())
    .order_by(_CHECKPOINT.c.size)
)
_SIGNED = select(_CHECKPOINT.c.size).where(
    _CHECKPOINT.c.size == bindparam("height"), _CHECKPOINT.c.note != ""
)
_NEWEST = (
    select(_CHECKPOINT.c.size)
    .where(_CHECKPOINT.c.note != "")
    .order_by(_CHECKPOINT.c.size.desc())
    .limit(1)
)
_ONE = select(*columns(CheckpointRow)).where(_CHECKPOINT.c.size == bindparam("size"))


class Heads(Protocol):
    """How the heights that others know are read from the database of one engine."""

    @property
    def quorum(self) -> int:
        """Witnesses that must have co-signed a head before it is shown."""
        ...

    def newest(self, connection: Connection) -> int:
        """The greatest height that is shown; 0 while there is none."""
        ...

    def cover(self, connection: Connection, heights: Sequence[int]) -> list[int]:
        """For each height the lowest one that is shown and covers it; the height itself, which is
        above `newest`, where none does yet."""
        ...

    def heights(self, connection: Connection, indexes: Sequence[int]) -> list[int]:
        """For each journal index the lowest height that covers it."""
        ...

    def size_at(self, connection: Connection, height: int) -> int:
        """Size of the journal under that height. Raises NotFound(HEIGHT_NOT_FOUND)."""
        ...

    def view(self, connection: Connection) -> HeadView | None:
        """The newest head that is shown, or None while there is none."""
        ...


class SignedHeads:
    """Heights are sizes; each has one body, and every head is shown when it is signed."""

    quorum: int = 0

    def heights(self, connection: Connection, indexes: Sequence[int]) -> list[int]:
        """See Heads: the lowest size that has a body and covers it."""
        if not indexes:
            return []
        asked = {"low": min(indexes), "high": max(indexes)}
        sizes = list(connection.execute(_SIZES, asked).scalars())
        return [sizes[bisect_right(sizes, index)] for index in indexes]

    def size_at(self, connection: Connection, height: int) -> int:
        """See Heads: the height itself, where it is signed."""
        found = connection.execute(_SIGNED, {"height": height}).scalar_one_or_none()
        if found is None:
            raise NotFound(
                Reason.HEIGHT_NOT_FOUND,
                f"no signed checkpoint of size {height}",
                hint="ask for the latest head, or for a height that a packet step names",
                height=height,
            )
        return int(found)

    def newest(self, connection: Connection) -> int:
        """See Heads."""
        return int(connection.execute(_NEWEST).scalar_one_or_none() or 0)

    def cover(self, connection: Connection, heights: Sequence[int]) -> list[int]:
        """See Heads."""
        return list(heights)

    def view(self, connection: Connection) -> HeadView | None:
        """See Heads."""
        # A body is committed before it is signed: the newest row may be on its way there.
        found = connection.execute(_ONE, {"size": self.newest(connection)}).one_or_none()
        if found is None:
            return None
        row = CheckpointRow(*found)
        body = parse_body(bytes(row.body))
        return HeadView(body.origin, row.size, body.root, row.time, row.note.encode())
