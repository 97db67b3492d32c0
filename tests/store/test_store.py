"""The store: one writer, write-once paths, exact undo, and databases that are not ours."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import select, text
from sqlmodel import SQLModel

from relay.errors import Exhausted, Malformed, Reason, Refused, Unavailable
from relay.store import ClientRow, RequestRow, Store, Transaction
from relay.store.migrate import SCHEMA, migrate
from relay.store.tables import Checkpoint, table
from tests.databases import UrlOf, postgresql_url
from tests.refusals import refused


@pytest.fixture
def store(tmp_path: Path, all_urls: UrlOf) -> Store:
    opened = Store(all_urls(tmp_path / "node.db"))
    migrate(opened.engine)
    return opened


def _client(client_id: str, sequence: int = 1) -> ClientRow:
    return ClientRow(client_id, int(client_id[-1]), "t", "c/0", b"", "", 0, 1, 1, sequence, 0)


def test_durable_settings(store: Store) -> None:
    postgresql = store.engine.dialect.name == "postgresql"
    with store.transaction() as tx:
        if postgresql:
            assert tx.connection.execute(text("SHOW synchronous_commit")).scalar_one() == "on"
            level = tx.connection.execute(text("SHOW transaction_isolation")).scalar_one()
            assert level == "serializable"
    with store.read() as connection:
        if postgresql:
            level = connection.execute(text("SHOW transaction_isolation")).scalar_one()
            assert level == "repeatable read"
            return
        assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar_one() == 2


@pytest.mark.parametrize(("column", "value"), [("size", 2**63), ("note", "\0")])
def test_what_no_row_of_postgresql_can_have_is_malformed(
    tmp_path: Path, column: str, value: int | str
) -> None:
    """A number beyond 64 bits, a text with a NUL: the server cannot even compare."""
    store = Store(postgresql_url(tmp_path / "node.db"))
    migrate(store.engine)
    checkpoints = table(Checkpoint)
    with pytest.raises(Malformed) as err, store.read() as connection:
        connection.execute(select(checkpoints.c.size).where(checkpoints.c[column] == value))
    assert err.value.reason is Reason.MALFORMED


def test_migrations_make_exactly_the_tables(store: Store) -> None:
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, SQLModel.metadata) == []


def test_migrate_twice_is_a_no_op(store: Store) -> None:
    assert migrate(store.engine) == (SCHEMA, SCHEMA)


def test_a_path_is_written_once(store: Store) -> None:
    with store.transaction() as tx:
        assert tx.append(b"a", b"1") == 0
        with pytest.raises(Refused) as staged:
            tx.append(b"a", b"2")
    with pytest.raises(Refused) as stored, store.transaction() as tx:
        tx.append(b"a", b"2")
    assert staged.value.reason is stored.value.reason is Reason.PATH_WRITTEN


def test_what_raises_leaves_nothing(store: Store) -> None:
    with pytest.raises(RuntimeError), store.transaction() as tx:
        tx.append(b"a", b"1")
        tx.add(_client("t-0"))
        raise RuntimeError
    with store.transaction() as tx:
        assert tx.size == 0
        assert tx.load(ClientRow, "t-0") is None


def test_rollback_undoes_exactly_what_came_after_the_mark(store: Store) -> None:
    with store.transaction() as tx:
        tx.add(_client("t-0"))
    with store.transaction() as tx:
        tx.append(b"kept", b"1")
        tx.save(_client("t-0", sequence=2))
        mark = tx.mark()
        tx.append(b"gone", b"1")
        tx.save(_client("t-0", sequence=3))
        tx.save(_client("t-1"))
        tx.add(RequestRow("r", b"", b"", 0))
        tx.rollback(mark)
        assert tx.get(b"gone") is None
        assert tx.scan(b"", b"\xff", 10) == [(b"kept", b"1")]
    with store.transaction() as tx:
        row = tx.load(ClientRow, "t-0")
        assert row is not None
        assert row.next_sequence == 2
        assert tx.load(ClientRow, "t-1") is None
        assert tx.load(RequestRow, "r") is None
        assert (tx.size, tx.get(b"kept"), tx.get(b"gone")) == (1, b"1", None)


def test_scan_merges_stored_and_staged_in_byte_order(store: Store) -> None:
    with store.transaction() as tx:
        for path in (b"a\x01", b"a\x03", b"b"):
            tx.append(path, path)
    with store.transaction() as tx:
        tx.append(b"a\x02", b"new")
        found = [path for path, _ in tx.scan(b"a", b"b", 10)]
        assert found == [b"a\x01", b"a\x02", b"a\x03"]
        assert [path for path, _ in tx.scan(b"a", b"b", 2)] == [b"a\x01", b"a\x02"]


def test_last_sees_stored_and_staged_and_what_is_undone(store: Store) -> None:
    with store.transaction() as tx:
        assert tx.last(b"a", b"b") is None
        for path in (b"a\x01", b"a\x03", b"b"):
            tx.append(path, path)
    with store.transaction() as tx:
        assert tx.last(b"a", b"b") == (b"a\x03", b"a\x03")
        tx.append(b"a\x02", b"new")
        assert tx.last(b"a", b"b") == (b"a\x03", b"a\x03")
        mark = tx.mark()
        tx.append(b"a\x04", b"new")
        assert tx.last(b"a", b"b") == (b"a\x04", b"new")
        tx.rollback(mark)
        assert tx.last(b"a", b"b") == (b"a\x03", b"a\x03")
        assert tx.last(b"c", b"d") is None


def test_no_update_is_lost_between_threads(store: Store) -> None:
    with store.transaction() as tx:
        tx.add(_client("t-0", sequence=0))

    def work() -> None:
        for _ in range(50):
            with store.transaction() as tx:
                row = tx.load(ClientRow, "t-0")
                assert row is not None
                tx.save(_client("t-0", sequence=row.next_sequence + 1))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.transaction() as tx:
        row = tx.load(ClientRow, "t-0")
        assert row is not None
        assert row.next_sequence == 200


def test_no_update_is_lost_between_two_stores_on_one_database(store: Store) -> None:
    """As two processes would: the lock is the database's, not ours."""
    other = Store(store.url)
    with store.transaction() as tx:
        tx.add(_client("t-0", sequence=0))

    def work(of: Store) -> None:
        def add(tx: Transaction) -> None:
            row = tx.load(ClientRow, "t-0")
            assert row is not None
            tx.save(_client("t-0", sequence=row.next_sequence + 1))

        for _ in range(30):
            of.run(add)

    threads = [threading.Thread(target=work, args=(of,)) for of in (store, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.transaction() as tx:
        row = tx.load(ClientRow, "t-0")
        assert row is not None
        assert row.next_sequence == 60


def test_another_schema_does_not_start(tmp_path: Path, all_urls: UrlOf) -> None:
    empty = Store(all_urls(tmp_path / "empty.db"))
    with pytest.raises(Refused) as err:
        empty.check("zj")
    assert err.value.reason is Reason.WRONG_SCHEMA
    assert "lianqiao migrate" in err.value.hint


def test_another_chains_database_does_not_start(store: Store) -> None:
    store.set_meta("chain_id", "zj")
    with pytest.raises(Refused) as err:
        store.check("sh")
    assert err.value.reason is Reason.WRONG_CHAIN
    store.check("zj")


def test_a_database_that_lacks_a_table_is_damaged(store: Store) -> None:
    """It has the right schema, so the table was there; whatever asks for it."""
    with store.transaction() as tx:
        tx.connection.exec_driver_sql("DROP TABLE meta")
    refused(Reason.JOURNAL_CORRUPT, store.meta, "chain_id", kind=Refused)
    refused(Reason.JOURNAL_CORRUPT, store.set_meta, "chain_id", "zj", kind=Refused)


def test_a_database_that_cannot_be_written_says_so(store: Store) -> None:
    with store.transaction() as tx:
        tx.append(b"a", b"1")
    sqlite = store.engine.dialect.name == "sqlite"
    read_only = "PRAGMA query_only=ON" if sqlite else "SET TRANSACTION READ ONLY"
    with pytest.raises(Exhausted) as err, store.transaction() as tx:
        tx.connection.exec_driver_sql(read_only)
        tx.append(b"b", b"1")
    assert err.value.reason is Reason.LIMIT_EXCEEDED


def test_a_connection_that_was_made_while_nothing_could_be_written_is_not_kept(
    store: Store,
) -> None:
    """It could not be written to ever after: SQLite has opened the file to be read alone, and to
    PostgreSQL a default of the server's is a session's from its start."""
    sqlite = store.engine.dialect.name == "sqlite"
    read_only = "PRAGMA query_only=ON" if sqlite else "SET default_transaction_read_only = on"
    with store.engine.connect() as connection, connection.begin():
        connection.exec_driver_sql(read_only)
    refused(Reason.LIMIT_EXCEEDED, store.run, lambda tx: tx.append(b"a", b"1"), kind=Exhausted)
    assert store.run(lambda tx: tx.append(b"a", b"1")) == 0


def test_a_server_that_is_gone_is_unavailable() -> None:
    store = Store("postgresql://nobody@/nothing?host=/tmp/no-such-socket")
    with pytest.raises(Unavailable) as err, store.transaction() as tx:
        tx.append(b"a", b"1")
    assert err.value.reason is Reason.DATABASE_UNREACHABLE
    # Health asks this now and then, and must go on to.
    refused(Reason.DATABASE_UNREACHABLE, store.check, "zj", kind=Unavailable)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://a@b/c"])
def test_a_database_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(Malformed) as err:
        Store(url)
    assert err.value.reason is Reason.CONFIG_INVALID
