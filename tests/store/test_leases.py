"""Which process runs a lane: each rule of relay.store.leases, on a real PostgreSQL server."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import func, select

from relay.store import Store, tables
from relay.store.leases import LEASE_SECONDS, RENEW_SECONDS, Leases
from tests.databases import new_store, postgresql_url, sqlite_url

NOW = 1_790_000_000
LANE, OTHER = "checkpoint-0", "checkpoint-1"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return new_store(postgresql_url(tmp_path / "node.db"))


def _rows(store: Store) -> int:
    with store.read() as connection:
        count = select(func.count()).select_from(tables.table(tables.Lease))
        return int(connection.execute(count).scalar_one())


def test_one_process_has_a_lane_and_the_other_has_another(store: Store) -> None:
    one, two = Leases(store, "one"), Leases(store, "two")
    assert one.has(LANE, NOW)
    assert not two.has(LANE, NOW)
    assert two.has(OTHER, NOW)
    assert not one.has(OTHER, NOW)


def test_it_is_renewed_while_its_process_runs(store: Store) -> None:
    one, two = Leases(store, "one"), Leases(store, "two")
    for second in range(3 * LEASE_SECONDS):
        assert one.has(LANE, NOW + second)
        assert not two.has(LANE, NOW + second)


def test_another_takes_over_when_it_has_run_out(store: Store) -> None:
    one, two = Leases(store, "one"), Leases(store, "two")
    assert one.has(LANE, NOW)
    later = NOW + LEASE_SECONDS
    assert not two.has(LANE, later - 1)
    assert two.has(LANE, later - 1 + RENEW_SECONDS)
    assert not one.has(LANE, later + RENEW_SECONDS)


def test_a_process_that_starts_again_has_its_lanes_at_once(store: Store) -> None:
    assert Leases(store, "one").has(LANE, NOW)
    assert Leases(store, "one").has(LANE, NOW)
    assert not Leases(store, "two").has(LANE, NOW)


def test_a_process_that_ends_leaves_its_lanes_to_others(store: Store) -> None:
    one, two = Leases(store, "one"), Leases(store, "two")
    assert one.has(LANE, NOW)
    one.give_back()
    assert two.has(LANE, NOW)


def test_a_clock_that_is_ahead_keeps_no_lane(store: Store) -> None:
    assert Leases(store, "one").has(LANE, NOW + 3600)
    assert Leases(store, "two").has(LANE, NOW)


def test_what_another_renews_at_this_moment_is_not_waited_for(store: Store) -> None:
    """SKIP LOCKED: a turn that is not ours must not hang on a transaction that is not ours."""
    one, two = Leases(store, "one"), Leases(store, "two")
    assert one.has(LANE, NOW)
    table = tables.table(tables.Lease)
    other = Store(store.url)
    with other.engine.connect() as connection, connection.begin():
        connection.execute(select(table).with_for_update())
        assert not two.has(LANE, NOW + 2 * LEASE_SECONDS)


def test_between_two_renewals_the_database_is_not_asked(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Leases(store, "one")
    asked: list[int] = []
    take = Leases._take
    monkeypatch.setattr(
        Leases, "_take", lambda self, tx, lane, now: asked.append(now) or take(self, tx, lane, now)
    )
    for second in range(2 * RENEW_SECONDS + 1):
        assert one.has(LANE, NOW + second)
    assert sorted(set(asked)) == [NOW, NOW + RENEW_SECONDS, NOW + 2 * RENEW_SECONDS]


def test_a_file_is_one_processs_own(tmp_path: Path) -> None:
    store = new_store(sqlite_url(tmp_path / "node.db"))
    one = Leases(store, "one")
    assert one.has(LANE, NOW)
    one.give_back()
    assert _rows(store) == 0
