"""What is wrong with a database before a row of it is read: pages that do not hold together, and
tables or columns that are not there."""

from __future__ import annotations

from sqlalchemy import Connection, inspect

from relay.errors import Reason, Refused
from relay.store import tables

_MOST = 20
"""Faults that are told of one database; those after them follow from the same cause."""
_TABLES = tables.table(tables.Meta).metadata.tables


def lacking(connection: Connection) -> list[str]:
    """Tables of this schema, and columns as TABLE.COLUMN, that the database does not have."""
    found = inspect(connection)
    names = set(found.get_table_names())
    missing = [name for name in _TABLES if name not in names]
    for name, table in _TABLES.items():
        if name in names:
            columns = {column["name"] for column in found.get_columns(name)}
            missing += [f"{name}.{c.name}" for c in table.columns if c.name not in columns]
    return missing


def faults(connection: Connection) -> list[str]:
    """What `lacking` finds, and on SQLite what its own check finds in the pages and indexes.

    PostgreSQL checks its pages as it reads them (initdb --data-checksums).
    """
    found = [f"{name} is missing" for name in lacking(connection)]
    if connection.dialect.name == "sqlite":
        rows = connection.exec_driver_sql(f"PRAGMA integrity_check({_MOST})").scalars()
        found += [line for row in rows for line in str(row).splitlines() if line != "ok"][:_MOST]
    return found


def check_whole(connection: Connection) -> None:
    """Raises Refused(JOURNAL_CORRUPT) where a table or a column is missing: a node that starts
    without it fails at the first packet that needs it."""
    if missing := lacking(connection):
        raise Refused(
            Reason.JOURNAL_CORRUPT,
            f"the database lacks {', '.join(missing)}",
            hint="restore its newest backup; keep this database as evidence",
        )
