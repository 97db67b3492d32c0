"""One database transaction: reads see its own writes, which reach the database in bulk at commit.

Writes are staged in memory, so that undoing a contract's part (`mark`, `rollback`) is exact and
costs no savepoint, and so that a batch becomes one bulk insert per table. Nothing here commits:
relay.store.Store does, once, when the `with` block ends.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    Connection,
    insert,
    select,
)

from relay.errors import Reason, Refused
from relay.store.rows import (
    Direction,
    PacketRow,
)
from relay.store.statements import (
    ENTRY,
    LAST_NUMBER,
    LOAD,
    NAMES,
    SELECT_LAST,
    SELECT_RANGE,
    SELECT_VALUE,
    SELECT_VALUES,
    TABLES,
    UPDATE,
    Row,
    bound,
    columns,
    driver_sql,
    make_row,
    plain,
)

_BULK = 500
"""Parameters in one statement; databases bound them."""
_KEPT_PAIRS = 50_000
"""Pairs of repeated scans that one transaction remembers."""


class _Held(NamedTuple):
    """A row as this transaction sees it."""

    row: Any
    dirty: bool
    """Written by this transaction."""
    stored: bool
    """There is a row with its key in the database."""


class Transaction:
    """Staged reads and writes over one connection. Made by `Store.transaction`."""

    def __init__(self, connection: Connection, size: int) -> None:
        self.connection = connection
        self._base = size
        self._entries: list[tuple[bytes, bytes]] = []
        self._paths: dict[bytes, bytes] = {}
        self._known: dict[bytes, bytes | None] = {}
        self._ordered: list[bytes] = []
        """The staged paths in byte order, so that a scan need not look at all of them."""
        self._scanned: dict[tuple[bytes, bytes, int], list[tuple[bytes, bytes]]] = {}
        self._lasts: dict[tuple[bytes, bytes], tuple[bytes, bytes] | None] = {}
        """The stored part of `last`, which cannot change before this transaction ends."""
        self._kept = 0
        self._rows: dict[type[Any], dict[tuple[Any, ...], _Held]] = {kind: {} for kind in TABLES}
        self._whole: set[type[Any]] = set()
        """Kinds of which every stored row is held."""
        self._undo: list[Callable[[], None]] = []
        self._number: int | None = None
        self._effects: list[Callable[[Connection], None]] = []

    # --- undoing a part

    def mark(self) -> int:
        """A point to roll back to."""
        return len(self._undo)

    def rollback(self, mark: int) -> None:
        """Undoes every write staged since `mark`, newest first."""
        while len(self._undo) > mark:
            self._undo.pop()()

    # --- the journal

    @property
    def size(self) -> int:
        """Entries in the journal, staged ones included."""
        return self._base + len(self._entries)

    @property
    def entries(self) -> Sequence[tuple[bytes, bytes]]:
        """The entries staged so far, in order."""
        return self._entries

    def get(self, path: bytes) -> bytes | None:
        """The value written at `path`, or None."""
        staged = self._paths.get(path)
        if staged is not None:
            return staged
        if path not in self._known:
            sql, positional = driver_sql(SELECT_VALUE, self.connection.dialect)
            asked = (path,) if positional else {"path": path}
            found = self.connection.exec_driver_sql(sql, asked).scalar_one_or_none()
            self._known[path] = None if found is None else bytes(found)
        return self._known[path]

    def prefetch(self, paths: Sequence[bytes]) -> None:
        """Reads many paths in few statements, so that a batch does not ask for each alone."""
        wanted = [path for path in dict.fromkeys(paths) if path not in self._known]
        for start in range(0, len(wanted), _BULK):
            part = wanted[start : start + _BULK]
            self._known |= dict.fromkeys(part)
            found = self.connection.execute(SELECT_VALUES, {"paths": part})
            self._known |= {bytes(p): bytes(v) for p, v in found}

    def prefetch_packets(
        self, client_id: str, direction: Direction, sequences: Sequence[int]
    ) -> None:
        """As `prefetch`, for packet rows."""
        table, _ = TABLES[PacketRow]
        for start in range(0, len(sequences), _BULK):
            query = select(*columns(PacketRow)).where(
                table.c.client_id == client_id,
                table.c.direction == direction.value,
                table.c.sequence.in_(sequences[start : start + _BULK]),
            )
            for found in self.connection.execute(query):
                row = make_row(PacketRow, found)
                key = (client_id, direction, row.sequence)
                self._rows[PacketRow].setdefault(key, _Held(row, False, True))

    def append(self, path: bytes, value: bytes, *, fresh: bool = False) -> int:
        """Writes once; the entry's index. Raises Refused(PATH_WRITTEN) where the path is taken.

        `fresh`: the path holds a number drawn in this transaction, so that only its own entries
        are looked at; were it stored all the same, the unique key would refuse the whole batch.
        """
        held = self._paths.get(path) if fresh else self.get(path)
        if held is not None:
            raise Refused(Reason.PATH_WRITTEN, "this path is written already", path=path.hex())
        index = self.size
        self._entries.append((path, value))
        self._paths[path] = value
        insort(self._ordered, path)

        def undo() -> None:
            self._entries.pop()
            del self._paths[path]
            del self._ordered[bisect_left(self._ordered, path)]

        self._undo.append(undo)
        return index

    def scan(self, start: bytes, stop: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """(path, value) pairs with start <= path < stop in byte order, staged ones included."""
        stored = self._stored(start, stop, limit)
        low = bisect_left(self._ordered, start)
        staged = self._ordered[low : bisect_left(self._ordered, stop, low)]
        if not staged:
            return stored[:limit]
        return sorted([*stored, *((path, self._paths[path]) for path in staged)])[:limit]

    def _stored(self, start: bytes, stop: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """The stored part of a scan. It cannot change before this transaction ends, and every
        item of a batch asks for the same ranges (who is registered, which policy is loaded)."""
        known = self._scanned.get((start, stop, limit))
        if known is not None:
            return known
        found = self.connection.execute(
            SELECT_RANGE, {"start": start, "stop": stop, "limit": limit}
        )
        pairs = [(bytes(path), bytes(value)) for path, value in found]
        if self._kept + len(pairs) < _KEPT_PAIRS:
            self._scanned[(start, stop, limit)] = pairs
            self._kept += len(pairs) + 1
        return pairs

    def last(self, start: bytes, stop: bytes) -> tuple[bytes, bytes] | None:
        """The pair with the greatest path of start <= path < stop, staged ones included."""
        high = bisect_left(self._ordered, stop)
        staged = self._ordered[high - 1] if high and self._ordered[high - 1] >= start else None
        if (start, stop) not in self._lasts:
            sql, positional = driver_sql(SELECT_LAST, self.connection.dialect)
            asked = (start, stop) if positional else {"start": start, "stop": stop}
            found = self.connection.exec_driver_sql(sql, asked).one_or_none()
            pair = None if found is None else (bytes(found[0]), bytes(found[1]))
            self._lasts[(start, stop)] = pair
        stored = self._lasts[(start, stop)]
        if staged is None or (stored is not None and stored[0] > staged):
            return stored
        return staged, self._paths[staged]

    # --- rows

    def load(self, kind: type[Row], *key: Any) -> Row | None:
        """The row with that primary key, staged or stored, or None."""
        held = self._rows[kind].get(key)
        if held is not None:
            row: Row = held.row
            return row
        if kind in self._whole:
            return None
        _, names = TABLES[kind]
        asked = {name: plain(value) for name, value in zip(names, key, strict=True)}
        found = self.connection.execute(LOAD[kind], asked).one_or_none()
        if found is None:
            return None
        row = make_row(kind, found)
        self._rows[kind][key] = _Held(row, False, True)
        return row

    def all(self, kind: type[Row]) -> list[Row]:
        """Every row of one kind, staged or stored, in no order. For tables that hold few."""
        held = self._rows[kind]
        if kind not in self._whole:
            _, names = TABLES[kind]
            for found in self.connection.execute(select(*columns(kind))):
                row = make_row(kind, found)
                key = tuple(getattr(row, name) for name in names)
                held.setdefault(key, _Held(row, False, True))
            self._whole.add(kind)
        return [one.row for one in held.values()]

    def save(self, row: Any) -> None:
        """Stages `row`, replacing the one with its key."""
        kind = type(row)
        _, names = TABLES[kind]
        key = tuple(getattr(row, name) for name in names)
        held = self._rows[kind]
        if key not in held:
            self.load(kind, *key)
        before = held.get(key)
        held[key] = _Held(row, True, before is not None and before.stored)

        def undo() -> None:
            if before is None:
                del held[key]
            else:
                held[key] = before

        self._undo.append(undo)

    def add(self, row: Any) -> None:
        """Stages a row that is known to be new: no look-up."""
        kind = type(row)
        _, names = TABLES[kind]
        key = tuple(getattr(row, name) for name in names)
        held = self._rows[kind]
        held[key] = _Held(row, True, False)

        def undo() -> None:
            del held[key]

        self._undo.append(undo)

    def next_number(self) -> int:
        """The next number of a delivery. Numbers of rolled back deliveries are not used again
        within the transaction."""
        if self._number is None:
            self._number = int(self.connection.execute(LAST_NUMBER).scalar_one())
        self._number += 1
        return self._number

    def staged(self, kind: type[Row]) -> list[Row]:
        """Rows of one kind that this transaction has loaded or written."""
        return [held.row for held in self._rows[kind].values()]

    def added(self, kind: type[Row]) -> list[Row]:
        """Rows of one kind that this transaction has written and that are not stored yet."""
        return [held.row for held in self._rows[kind].values() if not held.stored]

    def at_commit(self, effect: Callable[[Connection], None]) -> None:
        """Stages a write that no row above describes. It must not be read in this transaction."""
        self._effects.append(effect)

        def undo() -> None:
            self._effects.pop()

        self._undo.append(undo)

    # --- what Store calls

    def flush(self, connection: Connection | None = None) -> None:
        """Sends everything staged to the database, a bulk statement per table.

        To the transaction's own connection, or to another one at the same state of the database:
        what was staged while reading can be written later.
        """
        connection = connection or self.connection
        if self._entries:
            rows = [
                {"index": self._base + i, "path": path, "value": value}
                for i, (path, value) in enumerate(self._entries)
            ]
            connection.execute(insert(ENTRY), rows)
        for kind, (table, _) in TABLES.items():
            new: list[dict[str, Any]] = []
            changed: list[dict[str, Any]] = []
            for held in self._rows[kind].values():
                if held.dirty:
                    values = {name: plain(getattr(held.row, name)) for name in NAMES[kind]}
                    (changed if held.stored else new).append(values)
            if new:
                connection.execute(insert(table), new)
            if changed:
                connection.execute(UPDATE[kind], [bound(v) for v in changed])

        for effect in self._effects:
            effect(connection)
