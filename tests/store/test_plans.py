"""What is asked of an old journal reads what is open, and not what was closed in years."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from relay.outbox import Outbox
from relay.query import list_packets, status
from relay.relayer import OUT
from relay.store import PacketState, Store
from tests.databases import new_store, sqlite_url

CLIENT = "checkpoint-0"
ASKED: dict[str, Callable[[Store], object]] = {
    "status": lambda store: status(store, chain_id="c", role="relay", version="", ports=[]),
    "open_before": lambda store: Outbox(store).open_before(CLIENT, 1),
    "forgotten_sends": lambda store: Outbox(store).forgotten_sends(CLIENT, OUT, 10),
    "list": lambda store: list_packets(store, client_id=CLIENT, state=PacketState.SENT),
}


@contextmanager
def plans(store: Store) -> Iterator[list[str]]:
    """How SQLite goes about each question about packets."""
    found: list[str] = []

    def explain(_c: Any, cursor: Any, statement: str, given: Any, _x: Any, _many: bool) -> None:
        if " FROM packet" in " ".join(statement.split()):
            plan = cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", given)
            found.extend(row[3] for row in plan.fetchall() if " packet" in row[3])

    event.listen(store.engine, "before_cursor_execute", explain)
    yield found
    event.remove(store.engine, "before_cursor_execute", explain)


@pytest.mark.parametrize("name", ASKED)
def test_open_packets_are_found_by_their_own_index(tmp_path: Path, name: str) -> None:
    store = new_store(sqlite_url(tmp_path / "node.db"))
    with plans(store) as found:
        ASKED[name](store)
    assert len(found) == 1
    assert "packet_open" in found[0]
