"""Everything that all replicas of a chain hold, as one stream of bytes, and back into an empty
database. What a replica keeps for itself (lanes, its outbox) is no part of it.

    per row: u8 table, u8 count of columns, then for each: u8 kind and
        0: 8 bytes, a signed integer    1: u32 length and bytes    2: u32 length and UTF-8

Rows are in order of their keys, so two replicas of one height make the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Connection, Table, func, insert, select

from relay.errors import Malformed, Reason, Refused
from relay.store import tables

_TABLES: tuple[Table, ...] = tuple(
    tables.table(model)
    for model in (
        tables.Block,
        tables.Entry,
        tables.Tile,
        tables.SetRow,
        tables.Client,
        tables.Consensus,
        tables.Packet,
        tables.DeliveryTable,
        tables.Request,
    )
)
_MAX_FIELD = 16 * 1024 * 1024
_BULK = 500
Read = Callable[[int], bytes]
"""Exactly so many bytes of a stream, or fewer at its end."""


def dump(connection: Connection) -> Iterator[bytes]:
    """The rows, one after another, of one snapshot of the database."""
    for number, table in enumerate(_TABLES):
        query = select(*table.columns).order_by(*table.primary_key.columns)
        for row in connection.execute(query).yield_per(_BULK):
            yield bytes((number, len(row))) + b"".join(_encode(value) for value in row)


def restore(connection: Connection, read: Read) -> int:
    """Writes the rows of a stream into empty tables; how many.

    Raises Malformed for a stream that no `dump` makes, Refused(CONFLICT) where a table holds rows.
    """
    for table in _TABLES:
        if connection.execute(select(func.count()).select_from(table)).scalar_one():
            raise Refused(Reason.CONFLICT, f"table {table.name} of this database holds rows")
    count, current, rows = 0, 0, list[dict[str, Any]]()
    while head := read(2):
        if len(head) < 2 or head[0] < current or head[0] >= len(_TABLES):
            raise Malformed("snapshot: rows of tables out of order")
        if head[0] != current or len(rows) == _BULK:
            _write(connection, _TABLES[current], rows)
            current, rows = head[0], []
        names = [column.name for column in _TABLES[current].columns]
        if head[1] != len(names):
            raise Malformed("snapshot: a row of another width")
        rows.append({name: _decode(read) for name in names})
        count += 1
    _write(connection, _TABLES[current], rows)
    return count


def _write(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(insert(table), rows)


def _encode(value: Any) -> bytes:
    if isinstance(value, int):
        return b"\0" + value.to_bytes(8, "big", signed=True)
    kind, raw = (b"\2", value.encode()) if isinstance(value, str) else (b"\1", bytes(value))
    return kind + len(raw).to_bytes(4, "big") + raw


def _decode(read: Read) -> int | str | bytes:
    kind = _exact(read, 1)
    if kind == b"\0":
        return int.from_bytes(_exact(read, 8), "big", signed=True)
    if kind not in (b"\1", b"\2"):
        raise Malformed("snapshot: a value of an unknown kind")
    length = int.from_bytes(_exact(read, 4), "big")
    if length > _MAX_FIELD:
        raise Malformed("snapshot: a value is too long", reason=Reason.LIMIT_EXCEEDED)
    raw = _exact(read, length)
    try:
        return raw if kind == b"\1" else raw.decode()
    except UnicodeDecodeError:
        raise Malformed("snapshot: text is not UTF-8") from None


def _exact(read: Read, length: int) -> bytes:
    raw = read(length) if length else b""
    if len(raw) != length:
        raise Malformed("snapshot: ends in the middle of a row")
    return raw
