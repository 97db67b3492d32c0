"""The statements of a transaction, built once, and rows as objects."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from enum import Enum
from typing import Any, TypeVar

from sqlalchemy import Dialect, Table, bindparam, func, select, text, update

from relay.store import tables
from relay.store.rows import (
    BlockRow,
    CheckpointRow,
    ClientRow,
    ConsensusRow,
    DeliveryRow,
    Direction,
    PacketRow,
    PacketState,
    RequestRow,
)

Row = TypeVar("Row")

TABLES: dict[type[Any], tuple[Table, tuple[str, ...]]] = {
    ClientRow: (tables.table(tables.Client), ("client_id",)),
    ConsensusRow: (tables.table(tables.Consensus), ("client_id", "height")),
    PacketRow: (tables.table(tables.Packet), ("client_id", "direction", "sequence")),
    DeliveryRow: (tables.table(tables.DeliveryTable), ("number",)),
    CheckpointRow: (tables.table(tables.Checkpoint), ("size",)),
    RequestRow: (tables.table(tables.Request), ("request_id",)),
    BlockRow: (tables.table(tables.Block), ("height",)),
}
ENTRY = tables.table(tables.Entry)
NAMES = {row: tuple(f.name for f in dataclasses.fields(row)) for row in TABLES}


def make_row(kind: type[Row], values: Sequence[Any]) -> Row:
    """A frozen row from a database row whose columns are in field order."""
    if kind is PacketRow:
        values = list(values)
        values[1] = Direction(values[1])
        values[4] = PacketState(values[4])
    return kind(*values)


def columns(kind: type[Any]) -> list[Any]:
    """The columns of a row's table in field order, for `select`."""
    table, _ = TABLES[kind]
    return [table.c[name] for name in NAMES[kind]]


_DRIVER_SQL: dict[tuple[Any, str, str], tuple[str, bool]] = {}


def driver_sql(statement: Any, dialect: Dialect) -> tuple[str, bool]:
    """A look-up in a driver's own words, and whether its parameters have no names (they then
    stand in the order of the statement).

    Contracts ask for keys one by one, and half of such a statement's cost is its making.
    """
    found = _DRIVER_SQL.get((statement, dialect.name, dialect.driver))
    if found is None:
        compiled = statement.compile(dialect=dialect)
        found = str(compiled), compiled.positional
        _DRIVER_SQL[statement, dialect.name, dialect.driver] = found
    return found


def plain(value: Any) -> Any:
    """Enums as their text: drivers differ in what they make of them."""
    return value.value if isinstance(value, Enum) else value


def _update(table: Table, keys: tuple[str, ...], names: tuple[str, ...]) -> Any:
    statement = update(table)
    for name in keys:
        statement = statement.where(table.c[name] == bindparam(f"b_{name}"))
    return statement.values({name: bindparam(f"b_{name}") for name in names if name not in keys})


def bound(values: dict[str, Any]) -> dict[str, Any]:
    """Values under the names that an update binds."""
    return {f"b_{name}": value for name, value in values.items()}


UPDATE = {kind: _update(*TABLES[kind], NAMES[kind]) for kind in TABLES}
LOAD = {
    kind: select(*columns(kind)).where(*(table.c[name] == bindparam(name) for name in names))
    for kind, (table, names) in TABLES.items()
}
SELECT_VALUES = select(ENTRY.c.path, ENTRY.c.value).where(
    ENTRY.c.path.in_(bindparam("paths", expanding=True))
)
SELECT_VALUE = select(ENTRY.c.value).where(ENTRY.c.path == bindparam("path"))
_DELIVERY = tables.table(tables.DeliveryTable)
LAST_NUMBER = select(func.coalesce(func.max(_DELIVERY.c.number), 0))
# As text: some dialects would make a parameter of the limit. (No `max`: before version 18
# PostgreSQL has none for bytes.)
SELECT_LAST = text(
    "SELECT path, value FROM entry WHERE path >= :start AND path < :stop ORDER BY path DESC LIMIT 1"
)
SELECT_RANGE = (
    select(ENTRY.c.path, ENTRY.c.value)
    .where(ENTRY.c.path >= bindparam("start"), ENTRY.c.path < bindparam("stop"))
    .order_by(ENTRY.c.path)
    .limit(bindparam("limit"))
)
