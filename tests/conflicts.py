"""Serialization failures at every commit: `LIANQIAO_TEST_CONFLICTS=1 .venv/bin/pytest …`.

Every transaction that the product opens (not those of tests themselves) fails twice before it
succeeds: once before any of its work, and once after all of its work, at the commit. On PostgreSQL
it is the server that raises SQLSTATE 40001, on SQLite the driver's own "database is locked"; either
goes the way of a real one through `relay.store`, which translates it, rolls back and repeats.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import pytest
from sqlalchemy import Connection, event
from sqlalchemy.exc import OperationalError

from relay.store import Transaction
from relay.store import store as store_module
from relay.store.store import Store

ENABLED = os.environ.get("LIANQIAO_TEST_CONFLICTS", "") == "1"
_RAISE = "DO $$ BEGIN RAISE EXCEPTION 'planned' USING ERRCODE = '40001'; END $$"
_plan = threading.local()
counts_attempts = pytest.mark.skipif(ENABLED, reason="counts what each attempt costs")
"""For tests of cost: with conflicts each batch is attempted three times."""


def fail(connection: Connection) -> None:
    """Raises what a writer gets that another one was faster than."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(_RAISE)
    raise OperationalError("COMMIT", {}, sqlite3.OperationalError("database is locked"))


def install() -> None:
    """For the rest of this process."""
    open_engine, transaction = store_module.open_engine, Store.transaction

    def opened(url: str) -> Any:
        engine = open_engine(url)
        event.listen(engine, "begin", _at("begin"))
        event.listen(engine, "commit", _at("commit"))
        return engine

    @contextmanager
    def planned(self: Store) -> Iterator[Transaction]:
        caller = str(sys._getframe(2).f_globals.get("__name__", ""))
        _plan.fails_at = _next(self) if caller.startswith("relay.") else ""
        try:
            with transaction(self) as tx:
                yield tx
        finally:
            _plan.fails_at = ""

    store_module.open_engine = opened
    Store.transaction = planned  # type: ignore[method-assign]


def _next(store: Store) -> str:
    """Where this thread's next transaction on a store fails."""
    counts = _plan.__dict__.setdefault("counts", WeakKeyDictionary())
    counts[store] = counts.get(store, 0) + 1
    return ("", "begin", "commit")[counts[store] % 3]


def _at(point: str) -> Callable[[Connection], None]:
    def strike(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        if writes and getattr(_plan, "fails_at", "") == point:
            _plan.fails_at = ""
            fail(connection)

    return strike
