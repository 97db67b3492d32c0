"""Gaps between the chains and what a lane has read: closed by itself, or when an operator asks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import delete

from relay import lane
from relay.chain import Delivery, DeliveryResult, Outcome, Submission
from relay.contract import State
from relay.errors import LianqiaoError, Reason
from relay.fsck import fsck
from relay.local import LocalChain
from relay.outbox import NEVER, Outbox, Waiting
from relay.packet import MAX_TIMEOUT_AHEAD, Payload
from relay.query import get_packet
from relay.relayer import IN, OUT, OVERDUE
from relay.steps import item_of
from relay.store import Direction, PacketState, tables
from tests.echo import Echo
from tests.world import TYPES, World

ZJ, HUB = "zj", "hub"
HOUR = 3600


class Many(Echo):
    """`many` sends a number of packets at once."""

    def call(self, method: str, body: bytes, state: State, now: int) -> bytes:
        if method != "many":
            return super().call(method, body, state, now)
        client_id, number = body.split(b"\n")
        for i in range(int(number)):
            payload = Payload("echo", "echo", "echo-1", "text/plain", b"%d" % i)
            state.send(client_id.decode(), payload, now + HOUR)
        return b"sent"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    made.node(ZJ, "ledger", [Many()])
    made.node(HUB, "relay", [Many()])
    made.connect(ZJ, HUB)
    yield made
    for node in made.nodes.values():
        assert fsck(node.store, TYPES, node.origin)[1] == []
    made.close()


def _send(world: World, on: str = ZJ, to: str = HUB, ahead: int = HOUR) -> int:
    body = f"{world.clients[on, to]}\n{world.clock() + ahead}\nhello".encode()
    return int(world.nodes[on].call("echo", "send", body))


def _many(world: World, count: int, on: str = ZJ, to: str = HUB) -> None:
    world.nodes[on].call("echo", "many", f"{world.clients[on, to]}\n{count}".encode())


def _state(world: World, sequence: int, on: str = ZJ, of: str = HUB) -> PacketState:
    store, client_id = world.nodes[on].store, world.clients[on, of]
    return get_packet(store, client_id, sequence, Direction.OUT).state


def _done(world: World, last: int, on: str = ZJ, of: str = HUB) -> int:
    states = [_state(world, s, on, of) for s in range(1, last + 1)]
    return states.count(PacketState.ACKNOWLEDGED)


def _outbox(world: World) -> Outbox:
    return world.relayer(HUB).outbox


def _waiting(world: World, not_before: int = 0) -> list[Waiting]:
    """Every packet that the ledger has sent, as steps that wait."""
    steps = world.chain(ZJ).packets(world.clients[ZJ, HUB], 0, 1000)
    return [Waiting(s.cursor, item_of(s), s.height, not_before=not_before) for s in steps]


class _Refusing(LocalChain):
    """Answers every packet by what no later attempt can change, as a relayer must believe."""

    def submit(self, deliveries: Sequence[Delivery]) -> Sequence[DeliveryResult]:
        results = super().submit([replace(one, items=()) for one in deliveries])
        no = Submission(Outcome.REFUSED, Reason.PRUNED, "below the floor")
        return [
            replace(result, items=(no,) * len(one.items))
            for one, result in zip(deliveries, results, strict=True)
        ]


def _give_up(world: World, count: int) -> None:
    """The ledger has sent so many packets, each of which the relay's lane has given up."""
    _many(world, count)
    world.networks[HUB].inner = _Refusing(world.nodes[HUB])
    world.settle(HUB)
    world.networks[HUB].inner = LocalChain(world.nodes[HUB])
    letters = _outbox(world).letters(dead=True)
    assert [one.waiting.item.packet.sequence for one in letters] == list(range(1, count + 1))
    world.settle(HUB)
    assert _done(world, count) == 0


# --- live traffic keeps its pace


@pytest.mark.parametrize("count", [75, pytest.param(500, marks=pytest.mark.slow)])
def test_a_fresh_packet_overtakes_a_backlog(
    world: World, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """A backlog of some turns, cleared by an operator: a packet that is sent meanwhile takes one
    turn, always; what is not in the range he named stays as it is."""
    monkeypatch.setattr(lane, "BACKLOG", 25)
    _give_up(world, count + 10)
    client_id = world.clients[HUB, ZJ]
    done = world.relayer(HUB).clear(client_id, world.clock(), (1, count))
    assert (done.waiting, done.dead, done.forgotten) == (0, count, 0)
    turns = 0
    while _outbox(world).size(client_id, IN) > 10:
        fresh = _send(world)
        (report,) = world.tick(HUB)
        assert _state(world, fresh) is PacketState.ACKNOWLEDGED
        assert report.more
        turns += 1
        assert _done(world, count) == 25 * turns
    assert turns == count // 25
    world.settle(HUB)
    assert _done(world, count + 10) == count
    assert world.relayer(HUB).clear(client_id, world.clock()).dead == 10
    world.settle(HUB)
    assert _done(world, count + 10) == count + 10


@pytest.mark.slow
def test_a_backlog_alone_has_the_whole_turn(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "BACKLOG", 25)
    _give_up(world, 500)
    world.relayer(HUB).clear(world.clients[HUB, ZJ], world.clock())
    world.tick(HUB)
    assert _done(world, 500) == 500


def test_a_second_reading_keeps_nothing_new_waiting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "BACKLOG", 25)
    _many(world, 100)
    world.settle(HUB)
    client_id = world.clients[HUB, ZJ]
    assert _outbox(world).reread(client_id, IN)
    before = world.sizes()
    turns = 0
    while _outbox(world).rereading(client_id, IN) is not None:
        (report,) = world.tick(HUB)
        turns += 1
        assert report.inward.repeated <= 25
    assert 4 <= turns <= 6
    assert world.sizes() == before
    fresh = _send(world)
    world.tick(HUB)
    assert _state(world, fresh) is PacketState.ACKNOWLEDGED


def test_what_was_never_read_is_not_read_a_second_time(world: World) -> None:
    assert not _outbox(world).reread(world.clients[HUB, ZJ], IN)
    assert _outbox(world).rereading(world.clients[HUB, ZJ], IN) is None


# --- clearing


def test_dead_letters_and_what_waits_are_taken_up_at_once(world: World) -> None:
    for _ in range(3):
        _send(world)
    client_id, outbox = world.clients[HUB, ZJ], _outbox(world)
    later = [world.clock() + HOUR, NEVER, NEVER]
    waiting = [
        Waiting(w.cursor, w.item, w.height, 3, t, "WHY")
        for w, t in zip(_waiting(world), later, strict=True)
    ]
    outbox.save(client_id, IN, cursor=waiting[-1].cursor, waiting=waiting)
    world.settle(HUB)
    assert _done(world, 3) == 0
    done = world.relayer(HUB).clear(client_id, world.clock(), (1, 2))
    assert (done.waiting, done.dead, done.forgotten, done.reread) == (1, 1, 0, False)
    world.settle(HUB)
    assert [_state(world, i) for i in (1, 2, 3)] == [
        PacketState.ACKNOWLEDGED,
        PacketState.ACKNOWLEDGED,
        PacketState.SENT,
    ]
    done = world.relayer(HUB).clear(client_id, world.clock())
    assert (done.waiting, done.dead) == (0, 1)
    world.settle(HUB)
    assert _done(world, 3) == 3


def test_forgotten_packets_are_taken_up_in_their_range(world: World) -> None:
    world.settle(HUB)
    for _ in range(3):
        _send(world, HUB, ZJ)
    client_id = world.clients[HUB, ZJ]
    _outbox(world).save(client_id, OUT, cursor=world.nodes[HUB].head.size)
    world.settle(HUB)
    assert _done(world, 3, HUB, ZJ) == 0
    assert world.relayer(HUB).clear(client_id, world.clock(), (2, 3)).forgotten == 2
    world.settle(HUB)
    assert _state(world, 1, HUB, ZJ) is PacketState.SENT
    assert _done(world, 3, HUB, ZJ) == 2


def test_an_unknown_client_has_nothing_to_clear(world: World) -> None:
    with pytest.raises(LianqiaoError) as err:
        world.relayer(HUB).clear("checkpoint-9", world.clock())
    assert err.value.reason is Reason.CLIENT_NOT_FOUND


# --- gaps that close by themselves


def _lose(world: World, *models: type) -> None:
    with world.nodes[HUB].store.transaction() as tx:
        for model in models:
            tx.connection.execute(delete(tables.table(model)))


def test_a_lost_answer_is_found_when_its_packet_is_overdue(world: World) -> None:
    """The acknowledgement was read and waited; then the table that held it was lost."""
    _send(world, HUB, ZJ)
    world.relayer(HUB).lanes[0].outward.tick(world.relayer(HUB).lanes[0]._ends()[0], world.clock())
    steps = world.chain(ZJ).packets(world.clients[ZJ, HUB], 0, 10)
    _outbox(world).save(world.clients[HUB, ZJ], IN, cursor=steps[-1].cursor)
    world.restart(HUB)
    world.settle(HUB)
    assert _state(world, 1, HUB, ZJ) is PacketState.SENT
    world.clock.advance(OVERDUE + 1)
    assert OVERDUE > MAX_TIMEOUT_AHEAD
    world.restart(HUB)
    world.settle(HUB)
    assert _state(world, 1, HUB, ZJ) is PacketState.ACKNOWLEDGED


def test_gaps_are_looked_for_after_every_reconnect(world: World) -> None:
    """No restart: the chain was out of reach, and meanwhile the tables were lost."""
    for _ in range(3):
        _send(world)
        _send(world, HUB, ZJ)
    world.settle(HUB)
    world.networks[ZJ].reachable = False
    for _ in range(3):
        _send(world)
        _send(world, HUB, ZJ)
    world.tick(HUB)
    assert world.relayer(HUB).lanes[0].stopped[0] == Reason.CHAIN_UNREACHABLE
    outbox, client_id = _outbox(world), world.clients[HUB, ZJ]
    _lose(world, tables.Outbox)
    outbox.save(client_id, OUT, cursor=world.nodes[HUB].head.size)
    world.networks[ZJ].reachable = True
    for _ in range(3):
        world.clock.advance(lane.MAX_SIDE_DELAY)
        world.settle(HUB)
    assert (_done(world, 6), _done(world, 6, HUB, ZJ)) == (6, 6)
    assert world.relayer(HUB).lanes[0].stopped == ("", "")


@pytest.mark.slow
def test_a_long_partition_drains(world: World) -> None:
    world.settle(HUB)
    world.networks[ZJ].reachable = False
    for _ in range(48):
        _send(world, HUB, ZJ, ahead=HOUR // 2)
        _send(world, ahead=2 * HOUR)
        world.clock.advance(HOUR)
        world.tick(HUB)
    world.networks[ZJ].reachable = True
    for _ in range(4):
        world.clock.advance(lane.MAX_SIDE_DELAY)
        world.settle(HUB)
    ended = (PacketState.ACKNOWLEDGED, PacketState.TIMED_OUT)
    for on, of in ((ZJ, HUB), (HUB, ZJ)):
        assert all(_state(world, i, on, of) in ended for i in range(1, 49))
    assert _outbox(world).letters() == []


def test_skipped_sequences_are_no_gap_for_ever(world: World) -> None:
    """What a second reading does not find is not looked for at every reconnect."""
    _send(world)
    world.settle(HUB)
    world.nodes[ZJ].skip_sequences(world.clients[ZJ, HUB], 50)
    _send(world)
    world.settle(HUB)
    world.restart(HUB)
    world.settle(HUB)
    world.networks[ZJ].reachable = False
    world.tick(HUB)
    world.networks[ZJ].reachable = True
    world.clock.advance(lane.MAX_SIDE_DELAY)
    for _ in range(3):
        assert sum(side.repeated for side in world.tick(HUB)[0].sides) == 0
    assert _state(world, 50) is PacketState.ACKNOWLEDGED
