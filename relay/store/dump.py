"""Everything that all replicas of a chain hold, as one stream of bytes, and back into an empty
database. What a replica keeps for itself (lanes, its outbox) is no part of it.

    per row: u8 table, u8 count of columns, then for each: u8 kind and
        0: 8 bytes, a signed integer    1: u32 length and bytes    2: u32 length and UTF-8

Rows are in order of their keys, so two replicas of one height make the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Column, Connection, Integer, LargeBinary, Table, func, insert, select
from sqlalchemy.exc import DataError, IntegrityError

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
_BULK, _BULK_BYTES = 500, 8 * 1024 * 1024
"""Rows, and about how many bytes of them, that are held at once."""
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
    count, current, held, rows = 0, 0, 0, list[dict[str, Any]]()
    while head := read(2):
        if len(head) < 2 or head[0] < current or head[0] >= len(_TABLES):
            raise Malformed("snapshot: rows of tables out of order")
        if head[0] != current or len(rows) == _BULK or held > _BULK_BYTES:
            _write(connection, _TABLES[current], rows)
            current, held, rows = head[0], 0, []
        kinds = _KINDS[current]
        if head[1] != len(kinds):
            raise Malformed("snapshot: a row of another width")
        row = {name: _decode(read, kind) for name, kind in kinds}
        held += sum(len(value) for value in row.values() if not isinstance(value, int))
        rows.append(row)
        count += 1
    _write(connection, _TABLES[current], rows)
    return count


def _write(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Raises Malformed for rows that the table does not take: two of one key, say."""
    if not rows:
        return
    try:
        connection.execute(insert(table), rows)
    except (DataError, IntegrityError):
        raise Malformed(f"snapshot: rows that table {table.name} does not take") from None


def _encode(value: Any) -> bytes:
    if isinstance(value, int):
        return b"\0" + value.to_bytes(8, "big", signed=True)
    kind, raw = (b"\2", value.encode()) if isinstance(value, str) else (b"\1", bytes(value))
    return kind + len(raw).to_bytes(4, "big") + raw


def _kind(column: Column[Any]) -> bytes:
    if isinstance(column.type, Integer):
        return b"\0"
    return b"\1" if isinstance(column.type, LargeBinary) else b"\2"


_KINDS = tuple(tuple((c.name, _kind(c)) for c in table.columns) for table in _TABLES)
"""By table: its columns, and of which kind their values are."""


def _decode(read: Read, expected: bytes) -> int | str | bytes:
    kind = _exact(read, 1)
    if kind != expected:
        raise Malformed("snapshot: a value of another kind than its column's")
    if kind == b"\0":
        return int.from_bytes(_exact(read, 8), "big", signed=True)
    length = int.from_bytes(_exact(read, 4), "big")
    if length > _MAX_FIELD:
        raise Malformed("snapshot: a value is too long", reason=Reason.LIMIT_EXCEEDED)
    raw = _exact(read, length)
    if kind == b"\1":
        return raw
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise Malformed("snapshot: text is not UTF-8") from None
    if "\0" in text:  # which not every database holds
        raise Malformed("snapshot: text holds a zero")
    return text


def _exact(read: Read, length: int) -> bytes:
    raw = read(length) if length else b""
    if len(raw) != length:
        raise Malformed("snapshot: ends in the middle of a row")
    return raw
