"""Epochs: a chain goes on after a loss, and never signs two histories under one origin."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relay import epoch
from relay.chain import Delivery, Outcome
from relay.epoch import Opening, decode_opening, encode_opening, open_epoch, opening_path
from relay.errors import LianqiaoError, Reason
from relay.evidence import Evidence
from relay.fsck import fsck
from relay.light.checkpoint import parse_body
from relay.light.checkpoint_client import CHECKPOINT
from relay.light.client import consensus_of
from relay.light.types import DAY, Claim, ClientState
from relay.local import LocalChain
from relay.node import Node
from relay.query import get_client
from relay.signing import CheckpointSigner, HighWaterMark
from relay.store import Store
from relay.store.identity import last_checkpoint
from tests.databases import EVERYDAY
from tests.echo import ECHO
from tests.witnessing import put
from tests.world import TYPES, World

ZJ, HUB = "zj", "hub"
pytestmark = pytest.mark.skipif(
    EVERYDAY[0] != "sqlite", reason="an old copy is made by copying the file"
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    world.node(ZJ, "ledger", [ECHO])
    world.node(HUB, "relay", [ECHO])
    world.connect(ZJ, HUB)
    put(world.nodes[HUB], "kept")
    yield world
    world.close()


def _lose(world: World, keys: str = "ab") -> None:
    """The relay's database is taken back to what it was before some more entries."""
    file = world.path / "hub.db"
    world.nodes[HUB].close()
    shutil.copy(file, world.path / "old.db")
    world.node(HUB, "relay", [ECHO])
    for key in keys:
        put(world.nodes[HUB], key)
    world.nodes[HUB].close()
    shutil.copy(world.path / "old.db", file)
    for rest in ("hub.db-wal", "hub.db-shm"):
        (world.path / rest).unlink(missing_ok=True)


def _mark(world: World) -> HighWaterMark:
    return HighWaterMark(world.path / "hub.mark")


def _store(world: World) -> Store:
    return Store(world.url_of(world.path / "hub.db"))


def _open(world: World, forked: bool = False) -> Opening:
    store = _store(world)
    try:
        return open_epoch(store, "hub/0", _mark(world), world.clock(), forked=forked)
    finally:
        store.close()


def _start(world: World, number: int = 1) -> Node:
    """The relay under an epoch, with the mark of that epoch."""
    signers = [(f"hub-{i}", key) for i, key in enumerate(world.signers[HUB])]
    mark = HighWaterMark(world.path / ("hub.mark" if not number else f"hub.{number}.mark"))
    node = Node(
        chain_id=HUB,
        role="relay",
        store=_store(world),
        signer=CheckpointSigner(signers, mark),
        client_types=TYPES,
        contracts={ECHO.port: ECHO},
        clock=world.clock,
        epoch=number,
    )
    world.nodes[HUB] = node
    world.networks[HUB].inner = LocalChain(node)
    return node


def _reason(call: Callable[[], object]) -> Reason:
    with pytest.raises(LianqiaoError) as err:
        call()
    return err.value.reason


def test_the_next_epoch_continues_the_head_that_is_left(world: World) -> None:
    left = world.nodes[HUB].head
    _lose(world)
    opening = _open(world)
    assert opening == Opening("hub/0", left.size, parse_body(left.body).root, left.size + 2)
    hub = _start(world)
    assert parse_body(hub.head.body).origin == opening.next_origin == "hub/1"
    assert hub.head.size == left.size + 1
    put(hub, "c")
    assert fsck(hub.store, TYPES, "hub/1")[1] == []


def test_the_opening_is_proven_under_the_new_head(world: World) -> None:
    """What counterparties compare before they recover their client."""
    _lose(world)
    opening = _open(world)
    hub = _start(world)
    evidence = Evidence(hub.store, hub.tiles)
    path = opening_path("hub/1")
    header = CHECKPOINT.decode_header(evidence.headers(0, hub.head.size)[-1])
    state = ClientState("checkpoint", "hub/1")
    claim = Claim(path, encode_opening(opening))
    proof = evidence.prove([path], hub.head.size)
    CHECKPOINT.verify_membership(state, consensus_of(header), proof, [claim])
    other = Claim(path, encode_opening(Opening("hub/0", 1, bytes(32), 9)))
    assert (
        _reason(lambda: CHECKPOINT.verify_membership(state, consensus_of(header), proof, [other]))
        is Reason.INVALID_PROOF
    )


def test_the_old_epoch_never_signs_again(world: World) -> None:
    """Whatever copy of the database is restored later."""
    _lose(world)
    _open(world)
    assert _reason(lambda: _start(world, 0)) is Reason.WRONG_CHAIN
    shutil.copy(world.path / "old.db", world.path / "hub.db")
    for rest in ("hub.db-wal", "hub.db-shm"):
        (world.path / rest).unlink(missing_ok=True)
    assert _reason(lambda: _start(world, 0)) is Reason.STALE_RESTORE
    assert _reason(lambda: _mark(world).raise_to(2**62, b"any")) is Reason.STALE_RESTORE


def test_an_epoch_is_opened_for_losses_alone(world: World) -> None:
    world.nodes[HUB].close()
    assert _reason(lambda: _open(world)) is Reason.CONFLICT
    assert not _mark(world).closed_at
    put(world.node(HUB, "relay", [ECHO]), "d")


def test_two_histories_end_by_the_next_epoch(world: World) -> None:
    """Database and mark were taken back together, so that nothing is missing here; the client that
    knows the other history is active, and is led out by both sides' operators alone."""
    node, client_id = world.nodes[ZJ], world.clients[ZJ, HUB]
    files = [world.path / name for name in ("hub.db", "hub.mark")]
    world.nodes[HUB].close()
    kept = [file.read_bytes() for file in files]
    hub = world.node(HUB, "relay", [ECHO])
    put(hub, "lost")
    trusted = get_client(node.store, client_id).latest.height
    first = LocalChain(hub).headers(trusted, hub.head.size)
    assert node.deliver([Delivery(client_id, tuple(first))])[0].headers.outcome is Outcome.DONE
    hub.close()
    for file, content in zip(files, kept, strict=True):
        file.write_bytes(content)
    hub = world.node(HUB, "relay", [ECHO])
    for key in "xyz":
        put(hub, key)
    known = get_client(node.store, client_id).latest.height
    assert trusted < known < hub.head.size
    second = LocalChain(hub).headers(known, hub.head.size)
    (answer,) = node.deliver([Delivery(client_id, tuple(second))])
    assert answer.headers.reason == Reason.INVALID_CONSISTENCY
    assert not get_client(node.store, client_id).frozen
    state, anchor = ClientState("checkpoint", "hub/0"), LocalChain(hub).headers(0, hub.head.size)
    assert (
        _reason(lambda: node.propose_recovery(client_id, state, anchor[-1]))
        is Reason.RECOVERY_NOT_NEEDED
    )
    hub.close()
    assert _reason(lambda: _open(world)) is Reason.CONFLICT
    assert not _mark(world).closed_at
    opening = _open(world, forked=True)
    assert opening == Opening("hub/0", hub.head.size, parse_body(hub.head.body).root, hub.head.size)
    assert _reason(lambda: _start(world, 0)) is Reason.WRONG_CHAIN
    hub = _start(world)
    later = ClientState("checkpoint", "hub/1")
    node.propose_recovery(client_id, later, LocalChain(hub).headers(0, hub.head.size)[-1])
    world.clock.advance(DAY)
    node.tick()
    assert get_client(node.store, client_id).state.chain_id == "hub/1"
    for one in (node, hub):
        assert fsck(one.store, TYPES, one.origin)[1] == []


def test_a_lost_mark_is_a_loss(world: World) -> None:
    """Nobody knows what was signed above this journal."""
    world.nodes[HUB].close()
    (world.path / "hub.mark").write_text('{"size": 0, "body": ""}')
    assert _reason(lambda: _start(world, 0)) is Reason.STALE_RESTORE
    _open(world)
    assert parse_body(_start(world).head.body).origin == "hub/1"


def test_another_origin_is_not_continued(world: World) -> None:
    _lose(world)
    store = _store(world)
    call = lambda: open_epoch(store, "hub/3", _mark(world), 0)  # noqa: E731
    assert _reason(call) is Reason.WRONG_CHAIN
    store.close()
    assert not _mark(world).closed_at


def test_a_body_that_was_never_signed_is_dropped(world: World) -> None:
    """Its size belongs to the old epoch; its entries stay."""
    hub = world.nodes[HUB]
    signed = hub.head.size
    hub._heads.signer._signers.clear()
    assert _reason(lambda: put(hub, "unsigned")) is Reason.CONFIG_INVALID
    hub.close()
    mark = _mark(world)
    mark.raise_to(signed + 5, b"lost")
    opening = _open(world)
    assert opening.size == signed
    hub = _start(world)
    assert hub.head.size == signed + 2
    with hub.store.reading() as tx:
        from relay.journal import Kind, host_path

        assert tx.get(host_path(Kind.RECORD, "echo", b"unsigned")) == b"x"
    assert fsck(hub.store, TYPES, "hub/1")[1] == []


@pytest.mark.parametrize("where", ["before the entry", "before the signature"])
def test_a_crash_costs_a_repetition(
    world: World, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    _lose(world)
    if where == "before the entry":

        def die(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(epoch, "write_epoch", die)
        with pytest.raises(KeyboardInterrupt):
            _open(world)
        monkeypatch.undo()
        assert _mark(world).closed_at
        assert _open(world).signed == _mark(world).closed_at
    else:
        opening = _open(world)
        assert _open(world) == opening, "who was not answered asks again"
        store = _store(world)
        with store.read() as connection:
            last = last_checkpoint(connection)
        assert last is not None
        assert last.note == ""
        store.close()
    hub = _start(world)
    assert hub.head.note
    assert fsck(hub.store, TYPES, "hub/1")[1] == []


def test_epochs_follow_each_other(world: World) -> None:
    _lose(world)
    _open(world)
    hub = _start(world)
    put(hub, "e")
    hub.close()
    mark = HighWaterMark(world.path / "hub.1.mark")
    mark.raise_to(mark.size + 3, b"lost")
    store = _store(world)
    opening = open_epoch(store, "hub/1", mark, world.clock())
    store.close()
    assert opening.next_origin == "hub/2"
    hub = _start(world, 2)
    assert fsck(hub.store, TYPES, "hub/2")[1] == []
    findings = fsck(hub.store, TYPES, "hub/1")[1]
    assert findings
    assert all("origin" in f.detail or "epoch" in f.detail for f in findings)


def test_fsck_knows_an_epoch_that_continues_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _lose(world)
    real = epoch.encode_opening
    monkeypatch.setattr(
        epoch, "encode_opening", lambda o: real(Opening(o.origin, o.size, bytes(32), o.signed))
    )
    _open(world)
    hub = _start(world)
    details = [f.detail for f in fsck(hub.store, TYPES, "hub/1")[1]]
    assert details == ["the epoch continues a head that is not in this journal"]


def test_a_counterparty_recovers_its_client_to_the_new_epoch(world: World) -> None:
    """Until then the new origin is another chain; afterwards packets flow again."""
    _lose(world)
    _open(world)
    hub = _start(world)
    client_id = world.clients[ZJ, HUB]
    zj = world.nodes[ZJ]
    headers = LocalChain(hub).headers(0, hub.head.size)
    (refused,) = zj.deliver([Delivery(client_id, tuple(headers))])
    assert refused.headers.reason == Reason.CHAIN_ID_MISMATCH
    zj.propose_recovery(client_id, ClientState("checkpoint", "hub/1"), headers[-1])
    world.clock.advance(DAY + 1)
    zj.tick()
    hub.tick()
    assert get_client(zj.store, client_id).state.chain_id == "hub/1"
    body = f"{client_id}\n{world.clock() + 600}\nagain".encode()
    zj.call("echo", "send", body)
    world.relayers.clear()
    world.settle(HUB, 1)
    from relay.journal import Kind, host_path

    with zj.store.reading() as tx:
        key = f"acknowledged/{client_id}/1".encode()
        assert tx.get(host_path(Kind.RECORD, "echo", key)) == b"echo:again"
    for node in (zj, hub):
        assert fsck(node.store, TYPES, node.origin)[1] == []


def test_an_opening_has_one_encoding() -> None:
    opening = Opening("hub/0", 7, bytes(range(32)), 9)
    raw = encode_opening(opening)
    assert decode_opening(raw) == opening
    for bad in (b"", raw[:-1], raw + b"\0", b"\2" + raw[1:], raw.replace(b"hub/0", b"hub-0")):
        assert _reason(lambda bad=bad: decode_opening(bad)) is Reason.MALFORMED


def test_the_mark_of_an_ended_epoch_says_how_far_it_went(tmp_path: Path) -> None:
    mark = HighWaterMark(tmp_path / "mark")
    mark.raise_to(5, b"body")
    mark.close()
    mark.close()
    again = HighWaterMark(tmp_path / "mark")
    assert again.closed_at == 5
    assert json.loads((tmp_path / "mark").read_text())["size"] == 2**63 - 1
