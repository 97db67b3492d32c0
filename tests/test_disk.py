"""A disk that refuses: whoever writes says so with what to do, has done nothing, and goes on later.

What a whole network does on a disk that is really full is in tests/e2e/test_disk.py.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import event

from relay.cli.lanes import Lanes
from relay.disk import held, replace_file
from relay.errors import Denied, LianqiaoError, Reason, Refused
from relay.fsck import fsck
from relay.record.audit import AuditStore
from relay.record.vault import Vault
from relay.views import LaneView
from tests.echo import ECHO
from tests.record.samples import PATIENT_ID, Entropy
from tests.record.test_audit import access
from tests.record.test_vault import KEY, SCHEME, kept
from tests.refusals import refused
from tests.test_witness import _base
from tests.witnessing import HUB, ZJ, ask, hub_world, put, witness_of
from tests.world import TYPES, World

Spoil = Callable[[], None]


def _full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _fsync_fails(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(os, "fsync", _full)


def _rename_fails(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Path, "replace", _full)


WAYS = pytest.mark.parametrize("spoil", [_fsync_fails, _rename_fails])


def _no_space(act: Callable[[], object]) -> None:
    """The call is refused with what to do about it."""
    error = refused(Reason.LIMIT_EXCEEDED, act, said="No space left")
    assert "free disk space" in error.hint


@WAYS
def test_the_vault_keeps_a_batch_or_nothing(
    tmp_path: Path, spoil: Callable[[pytest.MonkeyPatch], None]
) -> None:
    vault, records = Vault(tmp_path, KEY, "zj", Entropy(1)), [kept(n) for n in range(3)]
    with pytest.MonkeyPatch.context() as patch:
        spoil(patch)
        _no_space(lambda: vault.put(records))
    assert list(tmp_path.rglob("*.new")) == []
    assert vault.commitments() == vault.find(SCHEME, PATIENT_ID) == ()
    vault.put(records)
    assert set(vault.find(SCHEME, PATIENT_ID)) == {record.commitment for record in records}


@WAYS
def test_an_erasure_that_failed_is_finished_later(
    tmp_path: Path, spoil: Callable[[pytest.MonkeyPatch], None]
) -> None:
    vault, record = Vault(tmp_path, KEY, "zj", Entropy(1)), kept(1)
    vault.put([record])
    with pytest.MonkeyPatch.context() as patch:
        spoil(patch)
        _no_space(lambda: vault.erase(record.commitment))
    vault.erase(record.commitment)
    with pytest.raises(LianqiaoError) as err:
        vault.get(record.commitment)
    assert err.value.reason is Reason.RECORD_ERASED
    assert vault.find(SCHEME, PATIENT_ID) == ()


def test_an_access_that_cannot_be_logged_is_told(tmp_path: Path) -> None:
    store = AuditStore(tmp_path, KEY, "zj", Entropy(1))
    first = store.append([access()])
    with pytest.MonkeyPatch.context() as patch:
        _fsync_fails(patch)
        _no_space(lambda: store.append([access()]))
    assert list(store.entries()) == first
    assert list(AuditStore(tmp_path, KEY, "zj", Entropy(2)).entries()) == first


def test_the_name_of_a_new_month_is_on_the_disk_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes that are flushed into a file without a name are lost with the power."""
    store, flushed, fsync = AuditStore(tmp_path, KEY, "zj", Entropy(1)), [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (flushed.append(os.fstat(fd).st_ino), fsync(fd)))
    store.append([access()])
    (log,) = tmp_path.iterdir()
    assert flushed == [log.stat().st_ino, tmp_path.stat().st_ino]
    store.append([access()])
    assert flushed[2:] == [log.stat().st_ino]


@WAYS
def test_a_lane_that_cannot_be_kept_is_not_served(
    tmp_path: Path, spoil: Callable[[pytest.MonkeyPatch], None]
) -> None:
    path = tmp_path / "lanes.json"
    lanes = Lanes(path, ())
    with pytest.MonkeyPatch.context() as patch:
        spoil(patch)
        _no_space(lambda: lanes.add(_lane(0)))
    assert lanes.list() == Lanes(path, ()).list() == []
    lanes.add(_lane(0))
    assert lanes.list() == Lanes(path, ()).list() == [_lane(0)]


@pytest.mark.parametrize(
    ("limit", "most"), [("relay.relayer.MAX_LANES", 2), ("relay.cli.lanes.MAX_FILE_BYTES", 300)]
)
def test_no_lane_is_kept_that_would_keep_the_relay_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    monkeypatch.setattr(limit, most)
    path = tmp_path / "lanes.json"
    lanes = Lanes(path, ())
    for number in range(2):
        lanes.add(_lane(number))
    refused(Reason.LIMIT_EXCEEDED, lanes.add, _lane(2), kind=Refused)
    lanes.add(_lane(1))  # in the place of itself
    assert Lanes(path, ()).list() == lanes.list() == [_lane(0), _lane(1)]


def _lane(number: int) -> LaneView:
    return LaneView(f"checkpoint-{number}", "lianqiao", "127.0.0.1:7101")


@WAYS
def test_a_witness_that_cannot_keep_a_head_does_not_sign_it(
    tmp_path: Path, spoil: Callable[[pytest.MonkeyPatch], None]
) -> None:
    world = hub_world(tmp_path / "world")
    witness, base = witness_of(world, ZJ), _base(world)
    put(world.nodes[HUB], "a")
    with pytest.MonkeyPatch.context() as patch:
        spoil(patch)
        _no_space(lambda: ask(witness, world.nodes[HUB], world.clock.now, old=base))
    assert witness_of(world, ZJ)._follow("hub/0", world.clock.now).base.height == base
    assert ask(witness, world.nodes[HUB], world.clock.now, old=base).lines
    world.close()


def test_a_replaced_file_is_the_old_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_file(path, b"old")
    for spoil in (_fsync_fails, _rename_fails):
        with pytest.MonkeyPatch.context() as patch:
            spoil(patch)
            with pytest.raises(OSError, match="No space"):
                replace_file(path, b"new")
        assert path.read_bytes() == b"old"


def test_one_process_holds_a_directory(tmp_path: Path) -> None:
    with held(tmp_path / "vault", "the vault"):
        with pytest.raises(LianqiaoError) as err, held(tmp_path / "vault", "the vault"):
            pass
        assert err.value.reason is Reason.CONFLICT
    with held(tmp_path / "vault", "the vault"):
        pass


# --- the database


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    from tests.databases import sqlite_url

    made = World(tmp_path, url_of=sqlite_url)
    made.node("zj", "ledger", [ECHO])
    yield made
    made.close()


def test_a_full_database_takes_nothing_and_goes_on_when_there_is_room(world: World) -> None:
    """SQLite's own limit of pages: it answers "database or disk is full", as on a full disk."""
    node, limit = world.nodes["zj"], [0]

    def limited(connection, *_: object) -> None:  # type: ignore[no-untyped-def]
        connection.execute(f"PRAGMA max_page_count={limit[0] or 1_000_000}")

    event.listen(node.store.engine, "checkout", limited)
    pages = node.store.engine.connect().exec_driver_sql("PRAGMA page_count").scalar_one()
    limit[0] = int(pages)
    size, kept_keys = node.head.size, 0
    with pytest.raises(LianqiaoError) as err:
        for number in range(2000):
            node.call("echo", "put", f"k{number}\n\n{'v' * 2000}".encode())
            kept_keys += 1
    assert err.value.reason is Reason.LIMIT_EXCEEDED
    assert "free disk space" in err.value.hint
    limit[0] = 0
    node.tick()
    node.call("echo", "put", b"more\n\nv")
    assert node.head.size - size in (kept_keys + 1, kept_keys + 2)
    assert fsck(node.store, TYPES, node.origin)[1] == []


# --- a clock that was wrong for a while


def test_what_was_forgotten_under_a_wrong_clock_is_not_good_again() -> None:
    from relay.contracts.payloads.access import MAX_AGE
    from relay.disclosure.nonces import Nonces

    nonces, start = Nonces(1000), 2000
    nonces.use("h", b"n", start, start)
    later = start + 10 * MAX_AGE
    nonces.use("h", b"m", later, later)
    with pytest.raises(Denied) as err:
        nonces.use("h", b"n", start, start)
    assert err.value.reason is Reason.UNAUTHENTICATED
