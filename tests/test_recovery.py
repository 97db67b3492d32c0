"""Recovery of clients: by this node's own entries, after a delay, and nothing is lost by it."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select, update
from structlog.testing import capture_logs

from relay import recovery
from relay.chain import Item, Outcome, Step
from relay.epoch import open_epoch
from relay.errors import Reason
from relay.fold import Fold
from relay.fsck import fsck
from relay.journal import Kind, parse_host_path
from relay.light.misbehaviour import Evidence, encode_evidence
from relay.light.types import DAY, ClientState
from relay.node import Node
from relay.query import get_client, get_packet
from relay.signing import CheckpointSigner, HighWaterMark
from relay.store import Direction, PacketState, Store, tables
from tests.databases import sqlite_url
from tests.echo import ECHO
from tests.refusals import refused, refusing
from tests.world import TYPES, Clock, World, keys_of

ZJ, HUB = "zj", "hub"
HOUR = 3600
_ENTRY = tables.table(tables.Entry)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A ledger and a relay with packets both ways: acknowledged, deferred and open ones."""
    made = World(tmp_path, url_of=sqlite_url)
    made.node(ZJ, "ledger", [ECHO])
    made.node(HUB, "relay", [ECHO])
    made.connect(ZJ, HUB)
    for value in (b"one", b"defer"):
        _send(made, value)
        _send(made, value, on=HUB, to=ZJ)
    made.settle(HUB)
    _send(made, b"open", on=HUB, to=ZJ)
    yield made
    _check(made)
    made.close()


def _check(world: World) -> None:
    for node in world.nodes.values():
        assert fsck(node.store, TYPES, node.origin)[1] == []


def _send(world: World, value: bytes, on: str = ZJ, to: str = HUB, ahead: int = HOUR) -> int:
    body = f"{world.clients[on, to]}\n{world.clock() + ahead}\n".encode() + value
    return int(world.nodes[on].call("echo", "send", body))


def _state(world: World, sequence: int, on: str = ZJ, of: str = HUB) -> PacketState:
    store, client_id = world.nodes[on].store, world.clients[on, of]
    return get_packet(store, client_id, sequence, Direction.OUT).state


def _fold(node: Node) -> Fold:
    fold = Fold()
    with node.store.read() as connection:
        query = select(_ENTRY.c.index, _ENTRY.c.path, _ENTRY.c.value).order_by(_ENTRY.c.index)
        for index, path, value in connection.execute(query):
            fold.apply(index, bytes(path), bytes(value))
    return fold


def _kept(node: Node, client_id: str) -> tuple[object, ...]:
    """What a recovery must not touch."""
    fold = _fold(node)
    client = fold.clients[client_id]
    return client.counterparty, client.next_sequence, fold.packets


def _anchor(world: World, of: str) -> tuple[ClientState, bytes]:
    """The newest head of a node, and what an operator would pin with it."""
    node = world.nodes[of]
    return ClientState("checkpoint", node.origin), world.chain(of).headers(0, node.head.size)[-1]


def _propose(world: World, on: str = HUB, of: str = ZJ, delay: int = DAY, **changed: object) -> int:
    state, header = _anchor(world, of)
    state = replace(state, **changed)  # type: ignore[arg-type]
    return world.nodes[on].propose_recovery(world.clients[on, of], state, header, delay)


def _expire(world: World) -> None:
    """Nobody carried anything for longer than the trusting period; the ledgers went on ticking."""
    world.clock.advance(91 * DAY)
    for node in world.nodes.values():
        node.tick()


def _recover(world: World, on: str = HUB, of: str = ZJ) -> None:
    _propose(world, on, of)
    world.clock.advance(DAY)
    world.nodes[on].tick()
    assert get_client(world.nodes[on].store, world.clients[on, of]).recovery is None


def _evidence(world: World, name: str = ZJ) -> bytes:
    """The keys of a ledger sign another head of the size that its client was anchored in."""
    folder = world.path / f"fork-{name}"
    folder.mkdir()
    fork = World(folder, clock=Clock(world.clock.now - HOUR), url_of=sqlite_url)
    fork.node(name, "ledger", [ECHO])
    size = get_client(world.nodes[HUB].store, world.clients[HUB, name]).latest.height
    while fork.nodes[name].head.size < size:
        fork.nodes[name].call("echo", "put", b"%d\n\nx" % fork.nodes[name].head.size)
    shown = [w.chain(name).headers(0, size)[-1] for w in (world, fork)]
    fork.close()
    return encode_evidence(Evidence(shown[0], shown[1]))


# --- the way of a recovery


def test_an_expired_client_is_recovered_after_the_delay(world: World) -> None:
    node, client_id = world.nodes[HUB], world.clients[HUB, ZJ]
    _expire(world)
    refused(Reason.CLIENT_EXPIRED, lambda: _send(world, b"x", on=HUB, to=ZJ))
    before = _kept(node, client_id)
    due = _propose(world)
    assert due == world.clock() + DAY
    view = get_client(node.store, client_id).recovery
    assert view is not None
    assert (view.proposed, view.due) == (world.clock(), due)
    world.clock.advance(DAY - 1)
    refused(Reason.RECOVERY_NOT_DUE, lambda: node.complete_recovery(client_id))
    world.clock.advance(1)
    node.complete_recovery(client_id)
    assert _kept(node, client_id) == before
    view = get_client(node.store, client_id)
    assert (view.client_id, view.recovery, view.frozen) == (client_id, None, False)
    assert view.expires > world.clock()


def test_after_recovery_on_both_sides_everything_drains(world: World) -> None:
    _expire(world)
    for on, of in ((HUB, ZJ), (ZJ, HUB)):
        _propose(world, on, of)
    world.clock.advance(DAY)
    for node in world.nodes.values():
        node.tick()
    sequence = _send(world, b"again")
    world.settle(HUB)
    world.clock.advance(60)
    world.settle(HUB)
    assert sequence == 3
    assert _state(world, sequence) is PacketState.ACKNOWLEDGED
    # The packet that was open all the time has timed out, as it should.
    assert _state(world, 3, HUB, ZJ) is PacketState.TIMED_OUT


def test_a_frozen_client_is_recovered_and_old_evidence_freezes_it_no_more(world: World) -> None:
    node, client_id = world.nodes[HUB], world.clients[HUB, ZJ]
    evidence = _evidence(world)
    node.submit_misbehaviour(client_id, evidence)
    before = _kept(node, client_id)
    world.nodes[ZJ].call("echo", "put", b"more\n\nx")
    _propose(world)
    node.submit_misbehaviour(client_id, evidence)
    world.clock.advance(DAY)
    node.complete_recovery(client_id)
    assert _kept(node, client_id) == before
    refused(Reason.NOT_MISBEHAVIOUR, lambda: node.submit_misbehaviour(client_id, evidence))
    assert not get_client(node.store, client_id).frozen
    world.settle(HUB)
    assert _state(world, _settled(world, b"after")) is PacketState.ACKNOWLEDGED


def _settled(world: World, value: bytes) -> int:
    sequence = _send(world, value)
    world.settle(HUB)
    return sequence


def test_a_recovered_client_can_be_frozen_again(world: World) -> None:
    node, client_id = world.nodes[HUB], world.clients[HUB, ZJ]
    _expire(world)
    _recover(world)
    world.nodes[ZJ].call("echo", "put", b"new head\n\nx")
    world.deliver(ZJ, HUB, [])
    node.submit_misbehaviour(client_id, _evidence(world))
    assert get_client(node.store, client_id).frozen


def test_headers_of_the_old_lineage_prove_nothing_new(world: World) -> None:
    node, client_id = world.nodes[HUB], world.clients[HUB, ZJ]
    old = get_client(node.store, client_id).latest.height
    _expire(world)
    _recover(world)
    delivery = replace(world.delivery(ZJ, HUB, []), headers=(), height=old)
    (step, *_) = world.chain(ZJ).packets(world.clients[ZJ, HUB], 0, 1)
    packet = replace(step.packet, sequence=9, timeout_timestamp=world.clock() + HOUR)
    (answer,) = node.deliver([replace(delivery, items=(Item(Step.RECEIVE, packet),))])[0].items
    assert answer.reason == Reason.HEIGHT_NOT_TRUSTED


# --- refusals


def test_an_active_client_is_not_recovered(world: World) -> None:
    refused(Reason.RECOVERY_NOT_NEEDED, lambda: _propose(world))


@pytest.mark.parametrize(
    "changed",
    [
        {"chain_id": "sh/0"},
        {"chain_id": "zj"},
        {"chain_id": "sh/1"},
        {"chain_id": "zj/x"},
        {"tree_hash": "sm3"},
        {"proof_kind": "other"},
        {"client_type": "other"},
    ],
)
def test_a_client_is_not_recovered_to_another_ledger(
    world: World, changed: dict[str, object]
) -> None:
    _expire(world)
    refused(Reason.CHAIN_ID_MISMATCH, lambda: _propose(world, **changed))


def test_an_earlier_epoch_is_refused(world: World) -> None:
    _later_epoch(world)
    world.clock.advance(DAY)
    world.nodes[HUB].tick()
    state, header = _anchor(world, ZJ)
    old = replace(state, chain_id="zj/0")
    node, client_id = world.nodes[HUB], world.clients[HUB, ZJ]
    refused(Reason.CHAIN_ID_MISMATCH, lambda: node.propose_recovery(client_id, old, header))
    _forget_zj(world)


@pytest.mark.parametrize("delay", [0, recovery.MIN_DELAY - 1, recovery.MAX_DELAY + 1])
def test_the_delay_is_bounded(world: World, delay: int) -> None:
    _expire(world)
    refused(Reason.LIMIT_EXCEEDED, lambda: _propose(world, delay=delay))


def test_an_anchor_must_be_signed_and_young(world: World) -> None:
    _expire(world)
    node, client_id = world.nodes[HUB], world.clients[HUB, ZJ]
    state, header = _anchor(world, ZJ)
    old = world.chain(ZJ).headers(0, 1)[-1]
    forged = header[:-1] + bytes([header[-1] ^ 1])
    for raw, reason in ((old, Reason.CLIENT_EXPIRED), (header[:-9], Reason.MALFORMED)):
        refused(reason, lambda raw=raw: node.propose_recovery(client_id, state, raw))
    with refusing(Reason.MALFORMED):
        node.propose_recovery(client_id, state, forged)
    assert get_client(node.store, client_id).recovery is None


def test_an_anchor_that_grew_old_meanwhile_completes_nothing(world: World) -> None:
    _expire(world)
    _propose(world, trusting_period=2 * DAY)
    world.clock.advance(3 * DAY)
    node, client_id = world.nodes[HUB], world.clients[HUB, ZJ]
    refused(Reason.CLIENT_EXPIRED, lambda: node.complete_recovery(client_id))
    node.tick()
    assert get_client(node.store, client_id).recovery is not None


def test_an_anchor_must_outlast_the_delay(world: World) -> None:
    _expire(world)
    left = DAY - (world.clock() - world.nodes[ZJ].head.time)
    error = refused(Reason.LIMIT_EXCEEDED, lambda: _propose(world, delay=left, trusting_period=DAY))
    assert error.hint == "take a shorter delay, or a younger head"
    due = _propose(world, delay=left - 1, trusting_period=DAY)
    world.clock.now = due
    world.nodes[HUB].tick()
    assert get_client(world.nodes[HUB].store, world.clients[HUB, ZJ]).recovery is None


def test_a_recovery_that_is_refused_is_told_once(world: World) -> None:
    _expire(world)
    _propose(world, trusting_period=2 * DAY)
    world.clock.advance(3 * DAY)
    with capture_logs() as logs:
        for _ in range(3):
            world.nodes[HUB].tick()
    told = [line for line in logs if line["event"] == "recovery_refused"]
    assert [(line["client_id"], line["reason"]) for line in told] == [
        (world.clients[HUB, ZJ], Reason.CLIENT_EXPIRED.value)
    ]


def test_one_recovery_is_proposed_at_a_time_and_may_be_cancelled(world: World) -> None:
    node, client_id = world.nodes[HUB], world.clients[HUB, ZJ]
    _expire(world)
    refused(Reason.NOT_FOUND, lambda: node.complete_recovery(client_id))
    _propose(world)
    refused(Reason.RECOVERY_PENDING, lambda: _propose(world))
    node.cancel_recovery(client_id)
    size = node.head.size
    node.cancel_recovery(client_id)
    assert node.head.size == size
    world.clock.advance(2 * DAY)
    node.tick()
    refused(Reason.NOT_FOUND, lambda: node.complete_recovery(client_id))
    assert get_client(node.store, client_id).expires < world.clock()
    _recover(world)


def test_an_unknown_client_is_not_recovered(world: World) -> None:
    node = world.nodes[HUB]
    for act in (node.cancel_recovery, node.complete_recovery):
        refused(Reason.CLIENT_NOT_FOUND, lambda act=act: act("checkpoint-9"))


# --- a later epoch


def _later_epoch(world: World, at: Path | None = None) -> None:
    """The ledger comes back from a copy (`at`) without its last entries, as its next epoch."""
    world.nodes[ZJ].close()
    if at is not None:
        shutil.copy(at, world.path / "zj.db")
    signer = CheckpointSigner(
        [(f"{ZJ}-{i}", key) for i, key in enumerate(keys_of(ZJ))],
        HighWaterMark(world.path / "zj-1.mark"),
    )
    store = Store(sqlite_url(world.path / "zj.db"))
    open_epoch(store, "zj/0", HighWaterMark(world.path / "lost.mark"), world.clock())
    world.nodes[ZJ] = Node(
        chain_id=ZJ,
        role="ledger",
        store=store,
        signer=signer,
        client_types=TYPES,
        contracts={"echo": ECHO},
        clock=world.clock,
        epoch=1,
    )
    world.networks[ZJ].inner = world.chain(ZJ)
    world.nodes[ZJ].call("echo", "put", b"epoch\n\n1")
    _propose(world)


def _restored(world: World) -> None:
    """The ledger loses what came after now, goes on in its next epoch, and the relay follows."""
    client_id = world.clients[HUB, ZJ]
    copy = world.path / "copy.db"
    with closing(sqlite3.connect(world.path / "zj.db")) as database:
        database.execute("VACUUM INTO ?", (str(copy),))
    lost = _settled(world, b"lost")
    assert _state(world, lost) is PacketState.ACKNOWLEDGED
    world.nodes[ZJ].close()
    for suffix in ("-wal", "-shm"):
        (world.path / f"zj.db{suffix}").unlink(missing_ok=True)
    _later_epoch(world, copy)
    assert world.nodes[ZJ].head.size < get_client(world.nodes[HUB].store, client_id).latest.height


def test_a_client_follows_its_ledger_into_a_later_epoch(world: World) -> None:
    node, client_id = world.nodes[HUB], world.clients[HUB, ZJ]
    before = _kept(node, client_id)
    _restored(world)
    assert _kept(node, client_id) != before, "one more packet was received before the loss"
    before = _kept(node, client_id)
    # Closed until it is completed: nothing of either epoch is received, nothing is sent.
    refused(Reason.RECOVERY_PENDING, lambda: _send(world, b"x", on=HUB, to=ZJ))
    delivery = world.delivery(ZJ, HUB, [])
    headers = world.chain(ZJ).headers(0, world.nodes[ZJ].head.size)
    result = node.deliver([replace(delivery, headers=tuple(headers))])[0]
    assert result.headers.reason == Reason.RECOVERY_PENDING
    world.clock.advance(DAY)
    node.tick()
    view = get_client(node.store, client_id)
    assert view.state.chain_id == "zj/1"
    assert _kept(node, client_id) == before
    _forget_zj(world)


def _forget_zj(world: World) -> None:
    """Its own fsck is asked for its own origin."""
    zj = world.nodes.pop(ZJ)
    assert fsck(zj.store, TYPES, zj.origin)[1] == []
    zj.close()


def test_a_sequence_used_twice_never_passes_for_the_first(world: World) -> None:
    """The restored ledger sends another packet under a sequence that the relay has received."""
    _restored(world)
    world.clock.advance(DAY)
    world.nodes[HUB].tick()
    sequence = _send(world, b"another")
    assert sequence == 3
    world.restart(HUB)
    world.settle(HUB)
    letters = world.relayer(HUB).outbox.letters(dead=True)
    assert [(one.side, one.waiting.item.packet.sequence) for one in letters] == [
        ("in", sequence),
        ("out", sequence),  # the answer that was given to the first
    ]
    for letter in letters:
        assert letter.waiting.reason.startswith(Reason.COMMITMENT_MISMATCH)
    _forget_zj(world)


def test_a_ledger_that_skips_what_it_forgot_goes_on(world: World) -> None:
    _restored(world)
    zj, client_id = world.nodes[ZJ], world.clients[ZJ, HUB]
    zj.skip_sequences(client_id, 100)
    size = zj.head.size
    zj.skip_sequences(client_id, 100)
    assert zj.head.size == size
    refused(Reason.SEQUENCE_USED, lambda: zj.skip_sequences(client_id, 99))
    refused(Reason.LIMIT_EXCEEDED, lambda: zj.skip_sequences(client_id, 102 + recovery.MAX_SKIP))
    world.clock.advance(DAY)
    world.nodes[HUB].tick()
    world.restart(HUB)
    sequence = _settled(world, b"goes on")
    assert sequence == 100
    assert _state(world, sequence) is PacketState.ACKNOWLEDGED
    _forget_zj(world)


def test_a_ledger_that_forgot_an_answer_is_given_it_again(world: World) -> None:
    """It had sent the packet before the copy was made, and was answered after it."""
    kept = _send(world, b"kept")
    _restored(world)
    assert _state(world, kept) is PacketState.SENT
    world.clock.advance(DAY)
    world.nodes[HUB].tick()
    world.restart(HUB)
    world.settle(HUB)
    assert _state(world, kept) is PacketState.ACKNOWLEDGED
    assert world.relayer(HUB).outbox.letters(dead=True) == []
    _forget_zj(world)


def test_a_client_that_is_frozen_while_it_waits_is_not_recovered(world: World) -> None:
    node, client_id = world.nodes[HUB], world.clients[HUB, ZJ]
    evidence = _evidence(world)
    _restored(world)
    node.submit_misbehaviour(client_id, evidence)
    world.clock.advance(DAY)
    refused(Reason.CLIENT_FROZEN, lambda: node.complete_recovery(client_id))
    node.tick()
    assert get_client(node.store, client_id).frozen
    node.cancel_recovery(client_id)
    _propose(world)
    world.clock.advance(DAY)
    node.tick()
    assert not get_client(node.store, client_id).frozen
    _forget_zj(world)


# --- what fsck sees


def test_fsck_sees_a_recovery_before_it_was_due(world: World, monkeypatch: object) -> None:
    assert isinstance(monkeypatch, pytest.MonkeyPatch)
    _expire(world)
    monkeypatch.setattr(recovery, "MIN_DELAY", 0)
    _propose(world, delay=1)
    node, client_id = world.nodes[HUB], world.clients[HUB, ZJ]
    real = recovery._proposal
    monkeypatch.setattr(recovery, "_proposal", lambda *a: replace(real(*a), due=0))
    node.complete_recovery(client_id)
    findings = fsck(node.store, TYPES, node.origin)[1]
    assert [f.detail for f in findings] == ["a client was recovered before it was due"]
    world.nodes.pop(HUB)


@pytest.mark.parametrize("column", ["recovery", "recovered"])
def test_fsck_sees_a_table_that_tells_another_recovery(world: World, column: str) -> None:
    node = world.nodes[HUB]
    client = tables.table(tables.Client)
    with node.store.transaction() as tx:
        tx.connection.execute(update(client).values({column: 1}))
    assert any("differs from the fold" in f.detail for f in fsck(node.store, TYPES, node.origin)[1])
    with node.store.transaction() as tx:
        tx.connection.execute(update(client).values({column: 0}))


def test_every_way_a_recovery_ends_is_written_once(world: World) -> None:
    node = world.nodes[HUB]
    _expire(world)
    _propose(world)
    node.cancel_recovery(world.clients[HUB, ZJ])
    _recover(world)
    with node.store.read() as connection:
        paths = [bytes(p) for p in connection.execute(select(_ENTRY.c.path)).scalars()]
    kinds = [host[0] for path in paths if (host := parse_host_path(path))]
    assert (kinds.count(Kind.RECOVERY), kinds.count(Kind.RECOVERED)) == (2, 2)


def test_a_replay_of_what_was_received_stays_a_no_op(world: World) -> None:
    _expire(world)
    before = _kept(world.nodes[HUB], world.clients[HUB, ZJ])
    _recover(world)
    steps = world.chain(ZJ).packets(world.clients[ZJ, HUB], 0, 10)
    items = [Item(Step.RECEIVE, s.packet) for s in steps if s.step is Step.SEND]
    assert len(items) == 2
    assert {a.outcome for a in world.deliver(ZJ, HUB, items)} == {Outcome.NOOP}
    assert _kept(world.nodes[HUB], world.clients[HUB, ZJ]) == before
