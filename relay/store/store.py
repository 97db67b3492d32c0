"""The database of one node: one writer at a time, many readers.

SQLite is the embedded default, with WAL, synchronous=FULL and BEGIN IMMEDIATE (without it, two
writers that read before they write lose updates silently). A commit is durable when
`transaction()` returns.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    create_engine,
    event,
    func,
    insert,
    make_url,
    select,
    update,
)
from sqlalchemy.exc import DataError, DBAPIError, OperationalError

from relay.errors import Conflict, Exhausted, Malformed, Reason, Refused, Unavailable
from relay.store import tables
from relay.store.heads import Heads, SignedHeads
from relay.store.migrate import SCHEMA, migrate, schema_of
from relay.store.transaction import Transaction

_ENTRY = tables.table(tables.Entry)
_META = tables.table(tables.Meta)
BUSY_TIMEOUT_MS = 10_000
MAX_ATTEMPTS = 50
T = TypeVar("T")


def open_engine(url: str) -> Engine:
    """An engine with the settings that durability and isolation need."""
    address = make_url(url)
    if address.get_backend_name() == "postgresql":
        # The driver is ours to choose: what operators write is the usual postgresql:// URL.
        address = address.set(drivername="postgresql+psycopg")
        return _postgresql_engine(address)
    if address.get_backend_name() != "sqlite" or address.database in (None, "", ":memory:"):
        raise Malformed(
            f"no database of kind {address.get_backend_name()!r}",
            reason=Reason.CONFIG_INVALID,
            hint="use sqlite:///PATH or postgresql://USER@HOST/NAME",
        )
    engine = create_engine(address, pool_size=16, max_overflow=16)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _postgresql_engine(address: URL) -> Engine:
    try:
        return create_engine(
            address,
            isolation_level="SERIALIZABLE",
            pool_size=16,
            max_overflow=16,
            pool_pre_ping=True,
        )
    except ModuleNotFoundError as err:
        raise Malformed(
            "the PostgreSQL driver is not installed",
            reason=Reason.CONFIG_INVALID,
            hint="pip install 'lianqiao[postgresql]'",
        ) from err


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
        self.heads: Heads = SignedHeads()
        """How heights cover entries; an engine that has no checkpoints sets its own."""
        self._writer = threading.RLock()

    @classmethod
    def at(cls, path: Path) -> Store:
        """The store in one SQLite file."""
        return cls(f"sqlite:///{path}")

    def run(self, work: Callable[[Transaction], T]) -> T:
        """Runs `work` in a transaction of its own, again where another writer won.

        `work` may run several times and must have no effect but on its transaction.
        """
        for _ in range(MAX_ATTEMPTS - 1):
            with suppress(Conflict), self.transaction() as tx:
                return work(tx)
        with self.transaction() as tx:
            return work(tx)

    def check(self, chain_id: str) -> None:
        """Raises Refused(WRONG_SCHEMA) or Refused(WRONG_CHAIN) with what to do about it, and
        Unavailable(DATABASE_UNREACHABLE)."""
        found = self.schema()
        if found > SCHEMA:
            raise newer_schema(found)
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

    def schema(self) -> str:
        """The version of its schema, empty where it has none. Raises what `read` raises."""
        with self.read() as connection:
            return schema_of(connection)

    def migrate(self) -> tuple[str, str]:
        """relay.store.migrate.migrate; raises what `transaction` raises."""
        try:
            return migrate(self.engine)
        except DBAPIError as err:
            raise _storage_error(err) from err

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """One transaction; commits when the block ends, rolls back when it raises.

        Raises Conflict(CONFLICT) where another writer won (repeat the whole block) and
        Exhausted where the disk is full or the file cannot be written, and
        Refused(JOURNAL_CORRUPT) where the database is damaged.
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
            except DBAPIError as err:
                found = _storage_error(err)
                if isinstance(found, Exhausted):
                    # A connection that was made while nothing could be written stays so: SQLite
                    # has opened the file to be read alone, PostgreSQL took the server's default.
                    self.engine.dispose()
                raise found from err

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent snapshot for queries.

        Raises Unavailable(DATABASE_UNREACHABLE), Refused(JOURNAL_CORRUPT) where the database is
        damaged, and Malformed where PostgreSQL is asked for what no column of it can hold (a number
        beyond 64 bits, a text with a NUL): no row has that.
        """
        try:
            with self.engine.connect() as connection:
                if connection.dialect.name == "postgresql":
                    # A snapshot is a prefix of the journal, whoever writes meanwhile. Read under
                    # SERIALIZABLE it could lose to writers, and a question has nobody to repeat it.
                    connection = connection.execution_options(**_SNAPSHOT)
                with connection.begin():
                    yield connection
        except DataError as err:
            raise Malformed("no row can have what is asked for") from err
        except DBAPIError as err:
            raise _storage_error(err) from err

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

        def write(tx: Transaction) -> None:
            changed = tx.connection.execute(
                update(_META).where(_META.c.name == name).values(value=value)
            )
            if changed.rowcount == 0:
                tx.connection.execute(insert(_META).values(name=name, value=value))

        self.run(write)

    def close(self) -> None:
        """Releases every connection."""
        self.engine.dispose()


def newer_schema(found: str) -> Refused:
    """What is said of a database whose schema is above this program's; `migrate` cannot help."""
    return Refused(
        Reason.WRONG_SCHEMA,
        f"the database was made by a newer program (schema {found}); this one reads up to {SCHEMA}",
        hint="install the newer lianqiao; a schema is never taken back",
        found=found,
        needed=SCHEMA,
    )


_SNAPSHOT = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
_NEXT_INDEX = select(func.coalesce(func.max(_ENTRY.c.index) + 1, 0))


_CONFLICTS = frozenset({"40001", "40P01", "23505"})
"""SQLSTATE of PostgreSQL: serialization failure, deadlock, and the unique key that a concurrent
writer took first. On SQLite a taken key is a fault of ours, since its writers take turns."""
_DAMAGED = frozenset({"XX001", "XX002", "42P01", "42703"})
"""SQLSTATE: data or an index is corrupt; a table or a column that the schema has is not there."""
_SQLITE_DAMAGED = frozenset({11, 26})
"""SQLite's primary result codes CORRUPT and NOTADB."""
_SQLITE_LACKS = ("no such table", "no such column", "could not decode to utf-8")
_UNWRITABLE = frozenset({"53100", "25006", "0A000"})
"""SQLSTATE: disk full, read-only transaction, and what a standby has instead of SERIALIZABLE."""


def _storage_error(err: DBAPIError) -> Exception:
    text, state = str(err.orig).lower(), getattr(err.orig, "sqlstate", None)
    busy = isinstance(err, OperationalError) and ("locked" in text or "busy" in text)
    if state in _CONFLICTS or (busy and state is None):
        return Conflict(Reason.CONFLICT, "another writer holds the database")
    damaged = getattr(err.orig, "sqlite_errorcode", 0) & 0xFF in _SQLITE_DAMAGED
    if state in _DAMAGED or damaged or text.startswith(_SQLITE_LACKS):
        return Refused(
            Reason.JOURNAL_CORRUPT,
            f"the database is damaged: {str(err.orig).partition(chr(10))[0]}",
            hint="stop this node and restore its newest backup; keep this database as evidence",
        )
    lost = isinstance(err, OperationalError) and type(err.orig).__module__.startswith("psycopg")
    if (
        err.connection_invalidated
        or (state or "").startswith(("08", "57P"))
        or (lost and state is None)
    ):
        return Unavailable(
            Reason.DATABASE_UNREACHABLE,
            "the database does not answer",
            hint="the node goes on when it is back; nothing was half-written",
        )
    full = isinstance(err, OperationalError) and (
        "full" in text
        or "readonly" in text
        or "read-only" in text
        or "disk i/o" in text
        or "unable to open database file" in text
    )
    if state in _UNWRITABLE or full:
        return Exhausted(
            Reason.LIMIT_EXCEEDED,
            "the database cannot be written",
            hint="free disk space or make the database file writable; nothing was half-written",
        )
    return err
