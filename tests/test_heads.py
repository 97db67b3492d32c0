"""Commit and signature: a committed batch runs once, its body is signed as it was committed."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import event

from relay import heads
from relay.errors import Conflict, LianqiaoError, Reason
from relay.fsck import fsck
from relay.node import Node
from relay.query import list_records
from relay.signing import HighWaterMark
from relay.store import Store
from tests import conflicts
from tests.databases import UrlOf
from tests.echo import ECHO
from tests.refusals import refusing
from tests.world import TYPES, World


@pytest.fixture
def world(tmp_path: Path, all_urls: UrlOf) -> World:
    made = World(tmp_path, url_of=all_urls)
    made.node("zj", "ledger", [ECHO])
    return made


def _two(world: World) -> tuple[Node, Node]:
    """Two nodes on one database and one mark, as two processes of one operator are."""
    first = world.nodes["zj"]
    return first, world.node("zj", "ledger", [ECHO])


def _put(node: Node, key: str, request_id: str = "") -> bytes:
    return node.call("echo", "put", f"{key}\n\nvalue".encode(), request_id)


def _check(node: Node, keys: int) -> None:
    """Each key was written once, under whole heads."""
    assert len(list_records(node.store, "echo", b"", limit=1000)) == keys
    assert fsck(node.store, TYPES, node.origin)[1] == []


def _reason(act: Callable[[], object]) -> Reason:
    with pytest.raises(LianqiaoError) as err:
        act()
    return err.value.reason


def test_two_processes_extend_one_journal(world: World) -> None:
    first, second = _two(world)
    for number in range(6):
        _put((first, second)[number % 2], f"k{number}")
    first.tick()
    assert first.head == second.head
    _check(first, 6)


def test_two_processes_write_at_once_and_each_call_takes_effect_once(world: World) -> None:
    """All of them also repeat each other's calls, as callers do that got no answer."""
    nodes = _two(world)
    failed: list[BaseException] = []

    def work(node: Node, number: int) -> None:
        try:
            for n in range(8):
                _put(node, f"own-{number}-{n}")
                _put(node, f"shared-{n}", f"r-{n}")
        except BaseException as err:
            failed.append(err)

    threads = [threading.Thread(target=work, args=(nodes[i % 2], i)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    for node in nodes:
        node.tick()
    assert nodes[0].head == nodes[1].head
    assert nodes[0].head.note
    _check(nodes[0], 4 * 8 + 8)


def test_whoever_waits_is_told_of_heads_of_another_process(world: World) -> None:
    first, second = _two(world)
    size = first.head.size
    _put(second, "a")
    assert first.head.size == size
    first.tick()
    assert first.wait_shown(size, 0)


def test_a_conflict_at_the_signature_does_not_run_the_batch_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step counts how often it ran."""
    node, runs = world.nodes["zj"], list[int]()
    planned = iter((True, True, False))

    def busy(*arguments: object) -> object:
        if next(planned, False):
            raise Conflict(Reason.CONFLICT, "planned")
        return saved(*arguments)

    saved = heads.save_note
    monkeypatch.setattr(heads, "save_note", busy)
    size = node.head.size

    def step(tx, now):  # type: ignore[no-untyped-def]
        runs.append(1)
        tx.append(b"\x00\x09\x04echo%d" % tx.size, b"v")

    with refusing(Reason.CONFLICT):
        node._groups.submit(step)
    before = len(runs)
    assert before == 1 or conflicts.ENABLED
    assert len(list_records(node.store, "echo", b"")) == 1
    assert node.head.size == size
    with refusing(Reason.CONFLICT):
        node._groups.submit(step)  # the first batch is signed before a second one is run
    assert len(runs) == before
    node._groups.submit(step)
    assert len(runs) > before
    assert node.head.size == size + 2
    _check(node, 2)


def test_a_serialization_failure_while_the_note_is_saved(world: World) -> None:
    """Inside the store the saving is repeated, and nothing else is."""
    node = world.nodes["zj"]
    fails = iter((False, True, True, False))

    def commit(connection):  # type: ignore[no-untyped-def]
        if next(fails, False):
            conflicts.fail(connection)

    event.listen(node.store.engine, "commit", commit)
    size = node.head.size
    _put(node, "a")
    assert next(fails, None) is None
    assert node.head.size == size + 1
    _check(node, 1)


def test_a_process_signs_what_another_one_has_committed_before_it_died(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = _two(world)

    def die(*_: object) -> str:
        raise SystemExit

    monkeypatch.setattr(first._heads.signer, "sign", die)
    with pytest.raises(SystemExit):
        _put(first, "a")
    assert second.head.size == first.head.size
    second.tick()
    assert second.head.size == first.head.size + 1
    _put(second, "b")
    monkeypatch.undo()
    _put(first, "c")
    _check(first, 3)


def test_a_body_that_another_process_has_signed_meanwhile_keeps_its_first_note(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It signed this one and further ones while this process was about to."""
    first, second = _two(world)
    sign = first._heads.signer.sign

    def late(size, body, validators):  # type: ignore[no-untyped-def]
        second.tick()
        _put(second, "later")
        return sign(size, body, validators)

    monkeypatch.setattr(first._heads.signer, "sign", late)
    _put(first, "a")
    monkeypatch.undo()
    _put(first, "b")
    _check(first, 3)


def test_a_process_with_a_mark_of_its_own_is_refused(world: World, tmp_path: Path) -> None:
    """Its keys were copied to another directory: two marks would allow two histories."""
    first = world.nodes["zj"]
    aside = (tmp_path / "zj.mark").read_text()
    _put(first, "a")
    now = (tmp_path / "zj.mark").read_text()
    (tmp_path / "zj.mark").write_text(aside)
    assert _reason(lambda: world.node("zj", "ledger", [ECHO])) is Reason.STALE_RESTORE
    (tmp_path / "zj.mark").write_text(now)
    second = world.node("zj", "ledger", [ECHO])
    second._heads.signer._mark = HighWaterMark(tmp_path / "other.mark")
    second._heads.signer._mark.raise_to(json.loads(now)["size"], second.head.body)
    _put(first, "b")
    assert _reason(lambda: _put(second, "c")) is Reason.STALE_RESTORE
    _check(first, 2)


def test_a_database_that_is_taken_back_under_a_running_process(world: World) -> None:
    """Nothing is run on it: what would be committed could never be signed."""
    node = world.nodes["zj"]
    _put(node, "a")
    _forget(node.store, node.head.size - 1)
    assert _reason(lambda: _put(node, "b")) is Reason.STALE_RESTORE
    assert list_records(node.store, "echo", b"") == []


def _forget(store: Store, size: int) -> None:
    """What an old copy of the database would not hold."""
    with store.transaction() as tx:
        for sql in (
            f'DELETE FROM entry WHERE "index" >= {size}',
            f"DELETE FROM checkpoint WHERE size > {size}",
        ):
            tx.connection.exec_driver_sql(sql)


@pytest.mark.parametrize("when", ["write", "rename"])
def test_a_mark_that_cannot_be_written_lets_no_signature_leave(
    world: World, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """What was committed stays, nothing is built on it, and it is signed once there is room."""
    node = world.nodes["zj"]
    size, mark = node.head.size, node._heads.signer._mark

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    if when == "write":
        monkeypatch.setattr("relay.disk.os.fsync", full)
    else:
        monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(LianqiaoError) as err:
        _put(node, "a")
    assert err.value.reason is Reason.LIMIT_EXCEEDED
    assert "free disk space" in err.value.hint
    assert _reason(lambda: _put(node, "b")) is Reason.LIMIT_EXCEEDED
    assert node.head.size == mark.size == size
    assert [key for key, _ in list_records(node.store, "echo", b"")] == [b"a"]
    monkeypatch.undo()
    node.tick()
    assert node.head.size == size + 1
    _put(node, "b")
    _check(node, 2)
