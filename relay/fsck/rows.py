"""The rows of a table as objects, one after the other."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, select

from relay.store.statements import columns, make_row


def rows(connection: Connection, kind: type, order: str) -> Iterator[object]:
    """Every row of the table of `kind`, by its column `order`."""
    names = columns(kind)
    key = next(c for c in names if c.name == order)
    for row in connection.execute(select(*names).order_by(key)):
        yield make_row(kind, row)
