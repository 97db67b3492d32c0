"""The database of one node: one writer at a time, many readers.

SQLite is the embedded default, with WAL, synchronous=FULL and BEGIN IMMEDIATE (without it, two
writers that read before they write lose updates silently). A commit is durable when
`transaction()` returns.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, func, insert, select, update
from sqlalchemy.exc import DBAPIError, OperationalError

from relay.errors import Conflict, Exhausted, Reason, Refused
from relay.store import tables
from relay.store.migrate import SCHEMA, current_schema
from relay.store.transaction import Transaction

_ENTRY = tables.table(tables.Entry)
_META = tables.table(tables.Meta)
BUSY_TIMEOUT_MS = 10_000


def open_engine(url: str) -> Engine:
    """An engine with the settings that durability and isolation need."""
    engine = create_engine(url, pool_size=16, max_overflow=16) if ":memory:" not in url else None
    if engine is None:
        raise ValueError("a node's database is a file, also in tests: threads must share it")
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={BUSY_TIMEOUT_MS}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


class Store:
    """One node's database. `transaction()` is the only way to write."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = open_engine(url)
        self._writer = threading.RLock()

    @classmethod
    def at(cls, path: Path) -> Store:
        """The store in one SQLite file."""
        return cls(f"sqlite:///{path}")

    def check(self, chain_id: str) -> None:
        """Raises Refused(WRONG_SCHEMA) or Refused(WRONG_CHAIN) with what to do about it."""
        found = current_schema(self.engine)
        if found != SCHEMA:
            raise Refused(
                Reason.WRONG_SCHEMA,
                f"the database has schema {found or 'none'}, this program needs {SCHEMA}",
                hint="stop the node, back the database up, and run: lianqiao migrate --config FILE",
                found=found,
                needed=SCHEMA,
            )
        written = self.meta("chain_id")
        if written is not None and written != chain_id:
            raise Refused(
                Reason.WRONG_CHAIN,
                f"the database belongs to chain {written}, the configuration says {chain_id}",
                hint="point `database` at this chain's own file, or correct `chain_id`",
                found=written,
                configured=chain_id,
            )

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """One transaction; commits when the block ends, rolls back when it raises.

        Raises Conflict(CONFLICT) where another writer won (repeat the whole block) and
        Exhausted where the disk is full or the file cannot be written.
        """
        with self._writer:
            try:
                with (
                    self.engine.connect().execution_options(writes=True) as connection,
                    connection.begin(),
                ):
                    tx = Transaction(connection, connection.execute(_NEXT_INDEX).scalar_one())
                    yield tx
                    tx.flush()
            except OperationalError as err:
                raise _storage_error(err) from err

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent snapshot for queries."""
        with self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """A transaction whose staged writes are thrown away: for pure questions to contracts."""
        with self.read() as connection:
            yield Transaction(connection, connection.execute(_NEXT_INDEX).scalar_one())

    def meta(self, name: str) -> str | None:
        """One identity value, or None."""
        with self.read() as connection:
            query = select(_META.c.value).where(_META.c.name == name)
            return connection.execute(query).scalar_one_or_none()

    def set_meta(self, name: str, value: str) -> None:
        """Writes an identity value (at creation and at migration only)."""
        with self.transaction() as tx:
            changed = tx.connection.execute(
                update(_META).where(_META.c.name == name).values(value=value)
            )
            if changed.rowcount == 0:
                tx.connection.execute(insert(_META).values(name=name, value=value))

    def close(self) -> None:
        """Releases every connection."""
        self.engine.dispose()


_NEXT_INDEX = select(func.coalesce(func.max(_ENTRY.c.index) + 1, 0))


def _storage_error(err: DBAPIError) -> Exception:
    text = str(err.orig).lower()
    if "locked" in text or "busy" in text or "serializ" in text or "deadlock" in text:
        return Conflict(Reason.CONFLICT, "another writer holds the database")
    if "full" in text or "readonly" in text or "read-only" in text or "disk i/o" in text:
        return Exhausted(
            Reason.LIMIT_EXCEEDED,
            "the database cannot be written",
            hint="free disk space or make the database file writable; nothing was half-written",
        )
    return err
