"""Co-signatures of this node's own heads, and which heads are shown because of them.

A head that is signed is *shown* (relay.evidence, relay.query) once enough of the configured
witnesses have co-signed it. Only the newest head needs to be: witnesses follow behind a busy
journal, and steps are covered by the next head that is shown. Rows stay for ever, since clients
that require witnesses are led through older heads too (announcements of sets).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, false, func, insert, or_, select

from relay.light.types import Witness
from relay.store import tables
from relay.store.heads import SignedHeads
from relay.store.store import Store
from relay.store.transaction import Transaction

_COSIGNATURE = tables.table(tables.Cosignature)
_CHECKPOINT = tables.table(tables.Checkpoint)
_NAMES = func.count(_COSIGNATURE.c.name.distinct())
"""Who has two keys is one witness."""


@dataclass(frozen=True, slots=True)
class Cosignature:
    """One co-signature of one head; key: (size, witness, algorithm)."""

    size: int
    witness: Witness
    value: bytes
    """What follows the key id on the signature line."""


@dataclass(frozen=True, slots=True)
class Shown(SignedHeads):
    """Which signed heads are shown to others: those that enough witnesses have co-signed."""

    witnesses: tuple[Witness, ...] = ()
    quorum: int = 0
    """0: every head, as soon as it is signed."""

    def newest(self, connection: Connection) -> int:
        """The greatest size that is shown; 0 while there is none."""
        if not self.quorum:
            return SignedHeads.newest(self, connection)
        last = self._enough().order_by(_COSIGNATURE.c.size.desc())
        return int(connection.execute(last.limit(1)).scalar_one_or_none() or 0)

    def newest_within(self, connection: Connection, size: int) -> int:
        """The greatest size up to `size` that enough of these witnesses have co-signed, or 0."""
        query = self._enough().where(_COSIGNATURE.c.size <= size)
        last = query.order_by(_COSIGNATURE.c.size.desc()).limit(1)
        return int(connection.execute(last).scalar_one_or_none() or 0)

    def cover(self, connection: Connection, heights: Sequence[int]) -> list[int]:
        """For each height of a body the lowest size that is shown and covers it; the height
        itself, which is above `newest`, where none does yet."""
        if not self.quorum or not heights:
            return list(heights)
        low, high = min(heights), max(heights)
        first_above = self._enough().where(_COSIGNATURE.c.size >= high)
        found = connection.execute(first_above.order_by(_COSIGNATURE.c.size).limit(1)).scalar()
        query = self._enough().where(_COSIGNATURE.c.size >= low)
        if found is not None:
            query = query.where(_COSIGNATURE.c.size <= found)
        query = query.order_by(_COSIGNATURE.c.size)
        sizes: list[int] = list(connection.execute(query).scalars())
        covered: list[int] = []
        for height in heights:
            at = bisect_left(sizes, height)
            covered.append(sizes[at] if at < len(sizes) else height)
        return covered

    def _enough(self) -> Select[Any]:
        query = select(_COSIGNATURE.c.size).where(_of(self.witnesses))
        return query.group_by(_COSIGNATURE.c.size).having(self.quorum <= _NAMES)


AT_ONCE = Shown()
"""Every head is shown when it is signed."""


def save_cosignature(store: Store, cosignature: Cosignature) -> None:
    """Keeps a co-signature that was verified; one that is there stays as it is."""

    def write(tx: Transaction) -> None:
        witness = cosignature.witness
        there = select(_COSIGNATURE.c.size).where(
            _COSIGNATURE.c.size == cosignature.size, _of((witness,))
        )
        if tx.connection.execute(there).first() is None:
            tx.connection.execute(
                insert(_COSIGNATURE).values(
                    size=cosignature.size,
                    name=witness.name,
                    algorithm=witness.algorithm,
                    key=witness.key,
                    value=cosignature.value,
                )
            )

    store.run(write)


def cosignatures(
    connection: Connection, size: int, witnesses: Sequence[Witness]
) -> list[Cosignature]:
    """Those of the given witnesses on the head of a size, in the order of `witnesses`."""
    query = select(*_COSIGNATURE.c).where(_COSIGNATURE.c.size == size, _of(witnesses))
    found = {
        Witness(name, algorithm, bytes(key)): bytes(value)
        for _, name, algorithm, key, value in connection.execute(query)
    }
    return [Cosignature(size, w, found[w]) for w in witnesses if w in found]


def last_cosigned(connection: Connection, witness: Witness) -> int:
    """The greatest size that a witness has co-signed; 0 where there is none."""
    query = select(func.max(_COSIGNATURE.c.size)).where(_of((witness,)))
    return int(connection.execute(query).scalar() or 0)


def all_cosignatures(connection: Connection) -> list[Cosignature]:
    """Every row, by size, for fsck."""
    query = select(*_COSIGNATURE.c).order_by(_COSIGNATURE.c.size, _COSIGNATURE.c.name)
    return [
        Cosignature(size, Witness(name, algorithm, bytes(key)), bytes(value))
        for size, name, algorithm, key, value in connection.execute(query)
    ]


def _of(witnesses: Sequence[Witness]) -> ColumnElement[bool]:
    return or_(
        false(),
        *(
            and_(
                _COSIGNATURE.c.name == witness.name,
                _COSIGNATURE.c.algorithm == witness.algorithm,
                _COSIGNATURE.c.key == witness.key,
            )
            for witness in witnesses
        ),
    )
