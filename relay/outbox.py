"""What a relayer remembers: how far it has read each side of a lane, and what is not finished.

Everything here is pacing. A lost table costs deliveries that answer "done before", never a packet:
what was delivered is decided by the receipts of the chains. A step that was finished in passing
has no row; a step that was refused waits with its reason until its next attempt; a step that can
never succeed stays as a dead letter, with its reason, until an operator has seen to it.

One `save` is one database transaction: the cursor moves over a step exactly when the step is
finished or has its row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, func, insert, select, update

from relay.chain import Item, Step
from relay.packet import MAX_INT
from relay.packet_bytes import (
    decode_acknowledgements,
    decode_claims,
    decode_packet,
    encode_acknowledgements,
    encode_claims,
    encode_packet,
)
from relay.store import Store, Transaction, tables
from relay.views import Direction

NEVER = MAX_INT
"""`not_before` of a dead letter."""
MAX_REASON = 300
AGAIN = " again"
"""After the name of a side: its second reading."""
_LANE = tables.table(tables.Lane)
_OUTBOX = tables.table(tables.Outbox)
_PACKET = tables.table(tables.Packet)


@dataclass(frozen=True, slots=True)
class Waiting:
    """One step on its way to the other chain of a lane."""

    cursor: int
    """Of the step on the chain it comes from."""
    item: Item
    height: int
    """Lowest height of that chain whose header covers the step."""
    attempts: int = 0
    not_before: int = 0
    """Seconds since 1970 UTC of the next attempt; NEVER for a dead letter."""
    reason: str = ""
    """Why the last attempt did not finish it: a reason of relay.errors, and its detail."""

    @property
    def dead(self) -> bool:
        """Whether it is kept only to be seen."""
        return self.not_before == NEVER


@dataclass(frozen=True, slots=True)
class Letter:
    """A waiting step and the side of the lane that it waits on, for listings."""

    client_id: str
    side: str
    waiting: Waiting


class Outbox:
    """The tables `lane` and `outbox` of one node."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def cursor(self, client_id: str, side: str) -> int:
        """How far the source of this side has been read; 0 where it has not."""
        with self._store.read() as connection:
            found = connection.execute(_CURSOR, {"client": client_id, "side": side})
            return int(found.scalar_one_or_none() or 0)

    def due(self, client_id: str, side: str, now: int, limit: int) -> list[Waiting]:
        """Steps whose next attempt is due, those that have waited longest first."""
        asked = {"client": client_id, "side": side, "now": min(now, NEVER - 1), "limit": limit}
        with self._store.read() as connection:
            return [_waiting(row) for row in connection.execute(_DUE, asked)]

    def size(self, client_id: str, side: str) -> int:
        """Rows of one side, dead letters included."""
        query = select(func.count()).where(_side(client_id, side))
        with self._store.read() as connection:
            return int(connection.execute(query).scalar_one())

    def letters(
        self, after: tuple[str, str, int] = ("", "", -1), limit: int = 1000, *, dead: bool = False
    ) -> list[Letter]:
        """Waiting steps, or dead letters alone, in order of (client, side, cursor); `after` is
        the key of the last one seen."""
        client_id, side, cursor = after
        c = _OUTBOX.c
        query = select(_OUTBOX).where(
            (c.client_id > client_id)
            | and_(c.client_id == client_id, c.side > side)
            | and_(c.client_id == client_id, c.side == side, c.cursor > cursor)
        )
        if dead:
            query = query.where(c.not_before == NEVER)
        query = query.order_by(c.client_id, c.side, c.cursor).limit(limit)
        with self._store.read() as connection:
            return [Letter(r.client_id, r.side, _waiting(r)) for r in connection.execute(query)]

    def save(
        self,
        client_id: str,
        side: str,
        *,
        cursor: int | None = None,
        waiting: Sequence[Waiting] = (),
        finished: Sequence[int] = (),
    ) -> None:
        """Moves the cursor (never backwards), keeps what waits and drops what is finished."""

        def write(tx: Transaction) -> None:
            if cursor is not None:
                _save_cursor(tx, client_id, side, cursor)
            gone = [*finished, *(w.cursor for w in waiting)]
            if gone:
                key = {"b_client": client_id, "b_side": side}
                tx.connection.execute(_DELETE, [{**key, "b_cursor": c} for c in gone])
            if waiting:
                rows = [_row(client_id, side, w) for w in waiting]
                tx.connection.execute(insert(_OUTBOX), rows)

        self._store.run(write)

    def reread(self, client_id: str, side: str) -> bool:
        """Reads a side again from its first step, beside what is new; whether there is a need.

        The place of the second reading is kept under a name of its own until it has come to where
        the first one is (`rereading`, `reread_to`).
        """
        if not self.cursor(client_id, side):
            return False

        self._store.run(lambda tx: _read_from_start(tx.connection, client_id, side))
        return True

    def rereading(self, client_id: str, side: str) -> int | None:
        """How far the second reading of a side has come; None where there is none."""
        with self._store.read() as connection:
            found = connection.execute(_CURSOR, {"client": client_id, "side": side + AGAIN})
            place = found.scalar_one_or_none()
            return None if place is None else int(place)

    def reread_to(self, client_id: str, side: str, cursor: int | None) -> None:
        """Moves the second reading on; None: it has come to where the first one is."""

        def write(tx: Transaction) -> None:
            if cursor is None:
                _forget_place(tx.connection, client_id, side + AGAIN)
            else:
                _save_cursor(tx, client_id, side + AGAIN, cursor)

        self._store.run(write)

    def rewind(self, client_id: str, side: str, cursor: int) -> None:
        """Reads this side again from an earlier cursor: what was delivered answers that it was."""

        def write(tx: Transaction) -> None:
            where = and_(
                _LANE.c.client_id == client_id, _LANE.c.side == side, _LANE.c.cursor > cursor
            )
            tx.connection.execute(update(_LANE).where(where).values(cursor=cursor))

        self._store.run(write)

    def revive_all(
        self, client_id: str, side: str, now: int, sequences: tuple[int, int]
    ) -> tuple[int, int]:
        """Tries every step of packets `sequences` (both included) again at once, dead letters too.

        Returns (how many waited, how many were dead).
        """
        low, high = sequences
        counts: list[tuple[int, int]] = []

        def write(tx: Transaction) -> None:
            query = select(_OUTBOX.c.cursor, _OUTBOX.c.not_before, _OUTBOX.c.packet)
            rows = [
                (row.cursor, row.not_before == NEVER)
                for row in tx.connection.execute(query.where(_side(client_id, side)))
                if low <= decode_packet(bytes(row.packet)).sequence <= high
            ]
            if rows:
                key = {"b_client": client_id, "b_side": side, "b_not_before": now}
                tx.connection.execute(_REVIVE, [{**key, "b_cursor": c} for c, _ in rows])
            dead = sum(was_dead for _, was_dead in rows)
            counts.append((len(rows) - dead, dead))

        self._store.run(write)
        return counts[-1]

    # --- what the packets of the node say about gaps

    def open_before(self, client_id: str, time: int) -> bool:
        """Whether a packet that was sent before `time` is neither acknowledged nor timed out."""
        query = (
            select(_PACKET.c.index)
            .where(
                _PACKET.c.client_id == client_id,
                tables.OPEN,
                _PACKET.c.time < time,
            )
            .limit(1)
        )
        with self._store.read() as connection:
            return connection.execute(query).first() is not None

    def forgotten_sends(
        self,
        client_id: str,
        side: str,
        limit: int,
        sequences: tuple[int, int] = (1, MAX_INT),
        after: int = -1,
    ) -> list[int]:
        """Cursors of own packets that are open, were read, and wait nowhere.

        Of those under `sequences`, both included, with a cursor > `after`, ascending.
        """
        cursor = self.cursor(client_id, side)
        waiting = select(_OUTBOX.c.cursor).where(_side(client_id, side))
        query = (
            select(_PACKET.c.index)
            .where(
                _PACKET.c.client_id == client_id,
                tables.OPEN,
                _PACKET.c.index <= cursor,
                _PACKET.c.index > after,
                _PACKET.c.sequence.between(*sequences),
                _PACKET.c.index.not_in(waiting),
            )
            .order_by(_PACKET.c.index)
            .limit(limit)
        )
        with self._store.read() as connection:
            return [int(i) for i in connection.execute(query).scalars()]

    def lowest_waiting(self, client_id: str, side: str) -> int:
        """The lowest sequence of a packet that waits to be received, or to expire; MAX_INT where
        none does."""
        query = select(func.min(_OUTBOX.c.sequence)).where(
            _side(client_id, side),
            _OUTBOX.c.step.in_([Step.RECEIVE.value, Step.EXPIRE.value]),
        )
        with self._store.read() as connection:
            found = connection.execute(query).scalar_one_or_none()
        return MAX_INT if found is None else int(found)

    def missing_receipts(self, client_id: str, side: str) -> int:
        """How many sequences below the greatest received one are neither here nor waiting.

        Sequences are dense on the sender, so a hole is a packet that was passed over.
        """
        client = tables.table(tables.Client)
        where = and_(_PACKET.c.client_id == client_id, _PACKET.c.direction == Direction.IN.value)
        waiting = select(func.count()).where(
            _side(client_id, side),
            _OUTBOX.c.step.in_([Step.RECEIVE.value, Step.EXPIRE.value]),
        )
        floor = select(client.c.floor).where(client.c.client_id == client_id)
        with self._store.read() as connection:
            lowest = max(1, int(connection.execute(floor).scalar_one_or_none() or 0))
            counted = select(func.count(), func.max(_PACKET.c.sequence)).where(
                where, _PACKET.c.sequence >= lowest
            )
            count, highest = connection.execute(counted).one()
            held = int(connection.execute(waiting).scalar_one())
        return 0 if highest is None else int(highest) - lowest + 1 - int(count) - held


def forget(tx: Transaction, client_id: str, side: str) -> None:
    """Drops the place and the waiting steps of one side: its source has another history now, so
    cursors into the old one mean nothing. What was delivered answers that it was."""

    def drop(connection: Connection) -> None:
        connection.execute(delete(_OUTBOX).where(_side(client_id, side)))
        _forget_place(connection, client_id, side)
        _forget_place(connection, client_id, side + AGAIN)

    tx.at_commit(drop)


def read_again(tx: Transaction, client_id: str, side: str) -> None:
    """Has one side read a second time from its first step, beside what is new (`Outbox.reread`):
    its destination has another history now, which may lack what it was given before."""

    def place(connection: Connection) -> None:
        asked = {"client": client_id, "side": side}
        if connection.execute(_CURSOR, asked).scalar_one_or_none():
            _read_from_start(connection, client_id, side)

    tx.at_commit(place)


def _read_from_start(connection: Connection, client_id: str, side: str) -> None:
    _forget_place(connection, client_id, side + AGAIN)
    row = {"client_id": client_id, "side": side + AGAIN, "cursor": 0}
    connection.execute(insert(_LANE), [row])


def _forget_place(connection: Connection, client_id: str, side: str) -> None:
    """Drops how far one side was read."""
    connection.execute(delete(_LANE).where(_LANE.c.client_id == client_id, _LANE.c.side == side))


# Asked at every turn of a lane: what is said once is not built again each time.
_CURSOR = select(_LANE.c.cursor).where(
    _LANE.c.client_id == bindparam("client"), _LANE.c.side == bindparam("side")
)
_DUE = (
    select(_OUTBOX)
    .where(
        _OUTBOX.c.client_id == bindparam("client"),
        _OUTBOX.c.side == bindparam("side"),
        _OUTBOX.c.not_before <= bindparam("now"),
    )
    .order_by(_OUTBOX.c.not_before, _OUTBOX.c.cursor)
    .limit(bindparam("limit"))
)
_MOVE = (
    update(_LANE)
    .where(_LANE.c.client_id == bindparam("b_client"), _LANE.c.side == bindparam("b_side"))
    .values(cursor=bindparam("b_cursor"))
)
_REVIVE = (
    update(_OUTBOX)
    .where(
        _OUTBOX.c.client_id == bindparam("b_client"),
        _OUTBOX.c.side == bindparam("b_side"),
        _OUTBOX.c.cursor == bindparam("b_cursor"),
    )
    .values(not_before=bindparam("b_not_before"))
)
_DELETE = delete(_OUTBOX).where(
    _OUTBOX.c.client_id == bindparam("b_client"),
    _OUTBOX.c.side == bindparam("b_side"),
    _OUTBOX.c.cursor == bindparam("b_cursor"),
)


def _side(client_id: str, side: str) -> Any:
    return and_(_OUTBOX.c.client_id == client_id, _OUTBOX.c.side == side)


def _save_cursor(tx: Transaction, client_id: str, side: str, cursor: int) -> None:
    asked = {"client": client_id, "side": side}
    found = tx.connection.execute(_CURSOR, asked).scalar_one_or_none()
    if found is None:
        row = {"client_id": client_id, "side": side, "cursor": cursor}
        tx.connection.execute(insert(_LANE), [row])
    elif cursor > found:
        moved = {"b_client": client_id, "b_side": side, "b_cursor": cursor}
        tx.connection.execute(_MOVE, moved)


def _row(client_id: str, side: str, waiting: Waiting) -> dict[str, Any]:
    return {
        "client_id": client_id,
        "side": side,
        "cursor": waiting.cursor,
        "step": waiting.item.step.value,
        "sequence": waiting.item.packet.sequence,
        "packet": encode_packet(waiting.item.packet),
        "acknowledgements": encode_acknowledgements(waiting.item.acknowledgements),
        "entries": encode_claims(waiting.item.entries),
        "height": waiting.height,
        "attempts": waiting.attempts,
        "not_before": waiting.not_before,
        "reason": printable(waiting.reason),
    }


def printable(text: str) -> str:
    """A peer's words as one line of at most MAX_REASON characters, for a table and a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text[:MAX_REASON])


def _waiting(row: Any) -> Waiting:
    item = Item(
        Step(row.step),
        decode_packet(bytes(row.packet)),
        decode_acknowledgements(bytes(row.acknowledgements)),
        decode_claims(bytes(row.entries)),
    )
    return Waiting(row.cursor, item, row.height, row.attempts, row.not_before, row.reason)
