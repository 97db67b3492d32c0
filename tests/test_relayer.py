"""The relayer: exactly once whatever the network does, few headers, and rest when all is done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import delete, event

from adapters.memory.chain import Fault, MemoryChain, no_faults
from relay.chain import (
    MAX_BATCH,
    Delivery,
    DeliveryResult,
    Item,
    Outcome,
    PacketStep,
    Step,
    Submission,
)
from relay.channel import Channel
from relay.contract import Deferred, State
from relay.deliveries import Ends
from relay.errors import Reason
from relay.fsck import fsck
from relay.lane import MAX_PAGES, MAX_SIDE_DELAY, STALE
from relay.lane_report import LaneReport
from relay.light import keys
from relay.light.checkpoint_client import CHECKPOINT
from relay.light.misbehaviour import Evidence, encode_evidence
from relay.light.types import ClientState, Witness
from relay.outbox import Outbox, Waiting
from relay.packet import Packet, Payload
from relay.proven import Proven
from relay.query import get_client, get_packet, get_record, list_packets
from relay.relayer import IN, OUT, PATIENCE, Relayer
from relay.steps import item_of
from relay.store import Direction, PacketState, Store, Transaction, tables
from tests.conflicts import counts_attempts
from tests.echo import ECHO, Echo
from tests.world import TYPES, Clock, World

HUB, ZJ, SH = "hub", "zj", "sh"
HOUR, DAY = 3600, 86_400


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A ledger and a relay, connected; every journal must be in order at the end."""
    made = World(tmp_path)
    made.node(ZJ, "ledger", [ECHO])
    made.node(HUB, "relay", [ECHO])
    made.connect(ZJ, HUB)
    yield made
    _check(made)
    made.close()


def _check(world: World) -> None:
    for node in world.nodes.values():
        _, findings = fsck(node.store, TYPES, node.origin)
        assert findings == []


def _send(
    world: World, value: bytes = b"hello", ahead: int = HOUR, on: str = ZJ, to: str = HUB
) -> int:
    client_id = world.clients[on, to]
    body = f"{client_id}\n{world.clock() + ahead}\n".encode() + value
    return int(world.nodes[on].call("echo", "send", body))


def _state(world: World, sequence: int, on: str = ZJ, of: str = HUB) -> PacketState:
    store, client_id = world.nodes[on].store, world.clients[on, of]
    return get_packet(store, client_id, sequence, Direction.OUT).state


def _record(world: World, on: str, of: str, what: str, sequence: int) -> bytes | None:
    return get_record(
        world.nodes[on].store, "echo", f"{what}/{world.clients[on, of]}/{sequence}".encode()
    )


def _outbox(world: World) -> Outbox:
    return world.relayer(HUB).outbox


def _total(reports: Iterable[LaneReport], name: str) -> int:
    return sum(getattr(side, name) for report in reports for side in report.sides)


def _commits(store: Store) -> list[None]:
    """Grows by one with every commit that wrote."""
    seen: list[None] = []

    def committed(connection: object) -> None:
        if connection.get_execution_options().get("writes"):  # type: ignore[attr-defined]
            seen.append(None)

    event.listen(store.engine, "commit", committed)
    return seen


# --- the way of a packet


@pytest.mark.parametrize(("on", "to"), [(ZJ, HUB), (HUB, ZJ)])
def test_a_packet_is_received_and_acknowledged(world: World, on: str, to: str) -> None:
    assert _send(world, on=on, to=to) == 1
    world.settle(HUB)
    assert _state(world, 1, on, to) is PacketState.ACKNOWLEDGED
    assert _record(world, to, on, "received", 1) == b"hello"
    assert _record(world, on, to, "acknowledged", 1) == b"echo:hello"


def test_an_answer_leaves_in_the_turn_of_its_question(world: World) -> None:
    _send(world)
    world.tick(HUB)
    assert _state(world, 1) is PacketState.ACKNOWLEDGED


def test_packets_go_from_ledger_to_ledger_over_two_lanes(world: World) -> None:
    """A deferred packet is answered when its contract says so, and carried then."""
    world.node(SH, "ledger", [ECHO])
    world.connect(SH, HUB)
    _send(world, b"defer")
    _send(world, b"to sh", on=HUB, to=SH)
    world.settle(HUB)
    assert _state(world, 1) is PacketState.SENT
    assert _state(world, 1, HUB, SH) is PacketState.ACKNOWLEDGED
    answer = f"{world.clients[HUB, ZJ]}\n1\nlater".encode()
    world.nodes[HUB].call("echo", "answer", answer)
    world.settle(HUB)
    assert _record(world, ZJ, HUB, "acknowledged", 1) == b"later"


# --- what it costs


@counts_attempts
def test_a_batch_is_one_header_one_proof_and_few_commits(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.settle(HUB)
    for i in range(50):
        _send(world, b"%d" % i)
    verified: list[str] = []
    verify = keys.verify

    def counted(algorithm: str, key: bytes, message: bytes, signature: bytes) -> None:
        verified.append(algorithm)
        verify(algorithm, key, message, signature)

    monkeypatch.setattr(keys, "verify", counted)
    zj, hub = world.networks[ZJ], world.networks[HUB]
    zj.calls.clear()
    hub.calls.clear()
    on_zj, on_hub = _commits(world.nodes[ZJ].store), _commits(world.nodes[HUB].store)
    reports = world.tick(HUB)
    assert _total(reports, "done") == 100
    assert _total(reports, "headers") == _total(reports, "deliveries") == 2
    for chain in (zj, hub):
        assert {n: chain.calls[n] for n in ("headers", "prove", "submit")} == {
            "headers": 1,
            "prove": 1,
            "submit": 1,
        }
    # Three of four signers make the quorum; each header is verified once, on each side.
    assert verified == ["ed25519"] * 6
    # The batch and its signatures on each node; on the relay a cursor of each side besides.
    assert (len(on_zj), len(on_hub)) == (2, 4)
    assert _outbox(world).letters() == []


def test_what_a_head_covers_already_needs_no_header(world: World) -> None:
    """Two packets under one head, delivered by two relayers: the second brings no header."""
    _send(world)
    _send(world)
    world.settle(HUB)
    Outbox(world.nodes[HUB].store).rewind(world.clients[HUB, ZJ], IN, 0)
    before = world.sizes()
    reports = world.tick(HUB)
    assert (_total(reports, "headers"), _total(reports, "repeated")) == (0, 2)
    assert world.sizes() == before


class _Many(Echo):
    """`many` sends a number of packets at once."""

    def call(self, method: str, body: bytes, state: State, now: int) -> bytes:
        if method != "many":
            return super().call(method, body, state, now)
        client_id, number, _ = body.split(b"\n", 2)
        for i in range(int(number)):
            payload = Payload("echo", "echo", "echo-1", "text/plain", b"%d" % i)
            state.send(client_id.decode(), payload, now + HOUR)
        return b"sent"


@pytest.mark.slow
def test_a_long_backlog_is_carried_in_batches(world: World) -> None:
    world.node(ZJ, "ledger", [_Many()])
    world.nodes[ZJ].call("echo", "many", world.clients[ZJ, HUB].encode() + b"\n1300\n")
    reports = world.tick(HUB)
    assert _total(reports, "done") == 2600
    assert _total(reports, "deliveries") == 4
    assert MAX_BATCH < 1300 < 2 * MAX_BATCH


# --- rest


def test_idle_chains_rest(world: World) -> None:
    _send(world)
    _send(world, on=HUB, to=ZJ)
    world.settle(HUB)
    before = world.sizes()
    for _ in range(50):
        world.clock.advance(HOUR)
        assert all(report.idle for report in world.tick(HUB))
    assert world.sizes() == before


def test_an_idle_turn_costs_one_call(world: World) -> None:
    _send(world)
    world.settle(HUB)
    world.networks[ZJ].calls.clear()
    for _ in range(10):
        world.tick(HUB)
    assert world.networks[ZJ].calls == {"packets": 10}


@pytest.mark.slow
def test_ticking_heads_are_fetched_once_in_a_third_of_the_trusting_period(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.node(ZJ, "ledger", [ECHO])
    world.node(HUB, "relay", [ECHO])
    world.connect(ZJ, HUB, trusting_period=30 * DAY)
    ticks = {ZJ: 0, HUB: 0}
    before = world.sizes()
    for _ in range(50):
        world.clock.advance(DAY)
        for name, node in world.nodes.items():
            ticks[name] += 2 * node.tick()  # and what it states to have sent
        world.settle(HUB)
    grown = {name: size - before[name] - ticks[name] for name, size in world.sizes().items()}
    assert all(4 <= updates <= 6 for updates in grown.values()), grown
    _check(world)
    world.close()


def test_a_refresh_needs_a_newer_head(world: World) -> None:
    """A quiet chain that does not tick cannot be refreshed, and is not asked to."""
    world.clock.advance(31 * DAY)
    _drain(world)
    before = world.sizes()
    for _ in range(10):
        world.clock.advance(HOUR)
        world.tick(HUB)
    assert world.sizes() == before


# --- faults


def _drain(world: World, rounds: int = 3) -> None:
    """Lets everything arrive and everything that waits have its turn."""
    for _ in range(rounds):
        for chain in world.networks.values():
            chain.arrive()
        world.clock.advance(MAX_SIDE_DELAY)
        world.settle(HUB)


class _Once:
    """A plan with one fault at one call, counted from the start."""

    def __init__(self, at: int, fault: Fault) -> None:
        self._calls, self._at, self._fault = count(), at, fault
        self.reached = False

    def __call__(self, name: str) -> Fault | None:
        if next(self._calls) != self._at:
            return None
        self.reached = True
        return self._fault


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault.REQUEST_LOST, marks=pytest.mark.slow),
        Fault.REPLY_LOST,
        pytest.param(Fault.DUPLICATE, marks=pytest.mark.slow),
        pytest.param(Fault.LATE, marks=pytest.mark.slow),
    ],
)
def test_every_single_fault_leaves_every_packet_done_once(tmp_path: Path, fault: Fault) -> None:
    """One fault at the first call, the second, and so on, on either chain, with a restart."""
    world = World(tmp_path)
    world.node(ZJ, "ledger", [ECHO])
    world.node(HUB, "relay", [ECHO])
    world.connect(ZJ, HUB)
    sequence = 0
    for name in (ZJ, HUB):
        for at in count():
            plan = world.networks[name].plan = _Once(at, fault)
            sequence += 1
            assert _send(world, b"%d" % sequence) == sequence
            assert _send(world, b"%d" % sequence, on=HUB, to=ZJ) == sequence
            world.tick(HUB)
            if at % 2:
                world.restart(HUB)
            _drain(world, 2)
            assert _state(world, sequence) is PacketState.ACKNOWLEDGED
            assert _state(world, sequence, HUB, ZJ) is PacketState.ACKNOWLEDGED
            if not plan.reached:
                break
        world.networks[name].plan = no_faults
    assert sequence > 10
    _check(world)
    assert _outbox(world).letters() == []
    world.close()


def test_a_restart_in_the_middle_repeats_and_harms_nothing(world: World) -> None:
    for i in range(20):
        _send(world, b"%d" % i)
    world.networks[HUB].plan = lambda name: Fault.REPLY_LOST if name == "submit" else None
    reports = world.tick(HUB)
    assert [r.reason for r in reports] == [Reason.CHAIN_UNREACHABLE]
    assert len(list_packets(world.nodes[HUB].store)) == 20
    assert _outbox(world).cursor(world.clients[HUB, ZJ], IN) == 0
    world.networks[HUB].plan = no_faults
    world.restart(HUB)
    reports = world.tick(HUB)
    assert _total(reports, "repeated") == 20
    assert all(_state(world, i) is PacketState.ACKNOWLEDGED for i in range(1, 21))


def test_relayers_that_know_nothing_of_each_other_are_correct(world: World) -> None:
    relayers = [world.new_relayer(HUB) for _ in range(4)]
    stop = threading.Event()

    def work(relayer: Relayer) -> None:
        while not stop.is_set():
            relayer.tick(world.clock.now)

    threads = [threading.Thread(target=work, args=(r,)) for r in relayers]
    for thread in threads:
        thread.start()
    for i in range(12):
        _send(world, b"%d" % i)
        _send(world, b"%d" % i, on=HUB, to=ZJ)
    stop.set()
    for thread in threads:
        thread.join()
    _drain(world)
    for i in range(1, 13):
        assert _state(world, i) is PacketState.ACKNOWLEDGED
        assert _state(world, i, HUB, ZJ) is PacketState.ACKNOWLEDGED


def test_a_client_that_another_relayer_moved_meanwhile_costs_one_more_try(world: World) -> None:
    """Between the question where the client is and the delivery, it gets a younger head."""
    _send(world)
    moved: list[str] = []

    def plan(name: str) -> None:
        if name == "prove" and not moved:
            moved.append(name)
            world.nodes[ZJ].call("echo", "put", b"other\n\nx")
            world.deliver(ZJ, HUB, [])

    world.networks[ZJ].plan = plan
    (report,) = world.tick(HUB)
    assert (report.reason, report.inward.deliveries, report.inward.done) == ("", 2, 1)


def test_what_has_no_signed_head_yet_is_left_for_later(world: World) -> None:
    _send(world)
    remote = _Lagging(world.networks[ZJ])
    world.relayer(HUB).add_lane(world.clients[HUB, ZJ], remote)
    (report,) = world.tick(HUB)
    assert report.idle
    remote.lag = 0
    world.tick(HUB)
    assert _state(world, 1) is PacketState.ACKNOWLEDGED


class _Lagging(MemoryChain):
    """Signs its heads late."""

    lag = 1

    def latest_height(self) -> int:
        return super().latest_height() - self.lag


def test_an_unreachable_chain_stops_its_own_lane_only(world: World) -> None:
    world.node(SH, "ledger", [ECHO])
    world.connect(SH, HUB)
    world.networks[ZJ].reachable = False
    _send(world)
    _send(world, on=SH)
    reports = {r.client_id: r for r in world.tick(HUB)}
    assert reports[world.clients[HUB, ZJ]].reason == Reason.CHAIN_UNREACHABLE
    assert _state(world, 1, SH, HUB) is PacketState.ACKNOWLEDGED
    world.networks[ZJ].reachable = True
    world.clock.advance(MAX_SIDE_DELAY)
    world.settle(HUB)
    assert _state(world, 1) is PacketState.ACKNOWLEDGED


def test_an_unreachable_chain_is_tried_ever_more_seldom(world: World) -> None:
    tried: list[str] = []

    def lost(name: str) -> Fault:
        tried.append(name)
        return Fault.REQUEST_LOST

    world.networks[ZJ].plan = lost
    for _ in range(600):
        world.clock.advance(1)
        world.tick(HUB)
    # 1 + 2 + … + 32 seconds, then once a minute, on each of two sides.
    assert 2 * 10 <= len(tried) <= 2 * 20


# --- timeouts


def _until_timed_out(world: World, on: str, to: str) -> None:
    world.networks[ZJ].reachable = False
    assert _send(world, ahead=100, on=on, to=to) == 1
    world.tick(HUB)
    world.clock.advance(200)
    world.networks[ZJ].reachable = True
    _drain(world)


@pytest.mark.parametrize(("on", "to"), [(ZJ, HUB), (HUB, ZJ)])
def test_a_packet_that_came_too_late_is_expired_and_timed_out(
    world: World, on: str, to: str
) -> None:
    _until_timed_out(world, on, to)
    assert _state(world, 1, on, to) is PacketState.TIMED_OUT
    assert _record(world, on, to, "timed-out", 1) == b"hello"
    assert _record(world, to, on, "received", 1) is None
    store, client_id = world.nodes[to].store, world.clients[to, on]
    assert get_packet(store, client_id, 1, Direction.IN).state is PacketState.EXPIRED
    assert _outbox(world).letters() == []
    before = world.sizes()
    world.settle(HUB)
    assert world.sizes() == before


def test_a_sentinel_that_is_lost_on_the_way_is_carried_later(world: World) -> None:
    world.networks[ZJ].reachable = False
    _send(world, ahead=100)
    world.clock.advance(200)
    world.networks[ZJ].reachable = True
    lost = [Fault.REQUEST_LOST]
    world.networks[ZJ].plan = lambda name: lost.pop() if name == "submit" and lost else None
    world.tick(HUB)
    world.restart(HUB)
    _drain(world)
    assert lost == []
    assert _state(world, 1) is PacketState.TIMED_OUT


def test_what_was_received_in_time_does_not_time_out(world: World) -> None:
    """The reply of the receiver is lost until the timeout has passed."""
    _send(world, ahead=100, on=HUB, to=ZJ)
    world.networks[ZJ].plan = lambda name: Fault.REPLY_LOST if name == "submit" else None
    world.tick(HUB)
    world.clock.advance(200)
    world.networks[ZJ].plan = no_faults
    _drain(world)
    assert _state(world, 1, HUB, ZJ) is PacketState.ACKNOWLEDGED


# --- steps that cannot be finished


class _Forger(MemoryChain):
    """A chain whose listing is changed on the way."""

    def __init__(self, inner: MemoryChain, change: Callable[[PacketStep], PacketStep]) -> None:
        super().__init__(inner)
        self._change = change

    def packets(self, client_id: str, after: int, limit: int) -> Sequence[PacketStep]:
        return [self._change(step) for step in super().packets(client_id, after, limit)]


def _other_value(packet: Packet) -> Packet:
    payload = replace(packet.payloads[0], value=b"forged")
    return replace(packet, payloads=(payload,))


def _serve_forged(world: World, change: Callable[[PacketStep], PacketStep]) -> None:
    forger = _Forger(world.networks[ZJ], change)
    world.relayer(HUB).add_lane(world.clients[HUB, ZJ], forger)


def test_one_bad_item_does_not_block_the_others(world: World) -> None:
    for i in range(1, 41):
        _send(world, b"%d" % i)

    def change(step: PacketStep) -> PacketStep:
        bad = step.step is Step.SEND and step.packet.sequence == 13
        return replace(step, packet=_other_value(step.packet)) if bad else step

    _serve_forged(world, change)
    reports = world.tick(HUB)
    assert _total(reports, "deliveries") < 20
    assert _state(world, 13) is PacketState.SENT
    assert all(_state(world, i) is PacketState.ACKNOWLEDGED for i in range(1, 41) if i != 13)
    (letter,) = _outbox(world).letters()
    assert letter.waiting.item.packet.sequence == 13
    assert letter.waiting.reason.startswith(Reason.INVALID_PROOF)
    assert (letter.waiting.dead, letter.waiting.attempts) == (False, 1)
    assert _record(world, HUB, ZJ, "received", 13) is None


def test_a_step_that_the_source_cannot_prove_waits_alone(world: World) -> None:
    _send(world)
    _send(world)

    def change(step: PacketStep) -> PacketStep:
        packet = step.packet
        return replace(step, packet=replace(packet, sequence=99)) if packet.sequence == 2 else step

    _serve_forged(world, change)
    world.tick(HUB)
    assert _state(world, 1) is PacketState.ACKNOWLEDGED
    (letter,) = _outbox(world).letters()
    assert letter.waiting.reason.startswith(Reason.PATH_NOT_FOUND)


def test_a_terminal_refusal_is_kept_where_an_operator_sees_it(world: World) -> None:
    """The acknowledgement of another packet than the one that was sent under its sequence."""
    _send(world, on=HUB, to=ZJ)

    def change(step: PacketStep) -> PacketStep:
        forged = step.step is Step.RECEIVE
        return replace(step, packet=_other_value(step.packet)) if forged else step

    _serve_forged(world, change)
    _drain(world)
    (letter,) = _outbox(world).letters(dead=True)
    assert letter.waiting.reason.startswith(Reason.COMMITMENT_MISMATCH)
    assert _state(world, 1, HUB, ZJ) is PacketState.SENT
    # Once the true listing is there, trying again mends it.
    world.restart(HUB)
    _outbox(world).rewind(world.clients[HUB, ZJ], IN, 0)
    world.settle(HUB)
    assert _state(world, 1, HUB, ZJ) is PacketState.ACKNOWLEDGED


def test_a_listing_of_other_clients_packets_stops_the_side(world: World) -> None:
    _send(world)
    _serve_forged(
        world, lambda step: replace(step, packet=replace(step.packet, source_client="x-9"))
    )
    (report,) = world.tick(HUB)
    assert report.inward.reason == Reason.MALFORMED
    assert _outbox(world).cursor(world.clients[HUB, ZJ], IN) == 0
    assert _outbox(world).letters() == []


def test_too_many_unfinished_steps_stop_the_side(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.lane.MAX_WAITING", 3)
    for _ in range(4):
        _send(world)
    _serve_forged(world, lambda step: replace(step, packet=_other_value(step.packet)))
    (report,) = world.tick(HUB)
    assert report.inward.reason == Reason.LIMIT_EXCEEDED
    assert _outbox(world).letters() == []


class _Silent(MemoryChain):
    """Answers for fewer items than it was given."""

    def submit(self, deliveries: Sequence[Delivery]) -> Sequence[DeliveryResult]:
        return [DeliveryResult(Submission(Outcome.DONE), ())]


def test_an_answer_of_another_length_stops_the_side(world: World) -> None:
    _send(world, on=HUB, to=ZJ)
    world.relayer(HUB).add_lane(world.clients[HUB, ZJ], _Silent(world.networks[ZJ]))
    (report,) = world.tick(HUB)
    assert report.outward.reason == Reason.MALFORMED
    assert _state(world, 1, HUB, ZJ) is PacketState.SENT


# --- clients that do not accept


def _fork(world: World, value: bytes) -> World:
    """The same ledger with the same keys, which tells the relay something else."""
    (world.path / "fork").mkdir()
    fork = World(world.path / "fork", clock=Clock(world.clock.now))
    fork.node(ZJ, "ledger", [ECHO])
    fork.node(HUB, "relay", [ECHO])
    fork.connect(ZJ, HUB)
    _send(fork, value)
    return fork


def test_a_frozen_client_stops_the_side_and_loses_nothing(world: World) -> None:
    _send(world)
    fork = _fork(world, b"another")
    shown = [w.chain(ZJ).headers(0, w.nodes[ZJ].head.size)[-1] for w in (world, fork)]
    evidence = encode_evidence(Evidence(shown[0], shown[1]))
    world.nodes[HUB].submit_misbehaviour(world.clients[HUB, ZJ], evidence)
    (report,) = world.tick(HUB)
    assert report.inward.reason == Reason.CLIENT_FROZEN
    assert _outbox(world).cursor(world.clients[HUB, ZJ], IN) == 0
    fork.close()


def test_an_expired_client_stops_the_side_and_loses_nothing(world: World) -> None:
    world.settle(HUB)
    _send(world, ahead=DAY)
    world.clock.advance(91 * DAY)
    (report,) = world.tick(HUB)
    assert report.inward.reason == Reason.CLIENT_EXPIRED
    assert _outbox(world).letters() == []


def test_two_histories_freeze_the_client(world: World) -> None:
    """A ledger shows the relay one history, and later a longer one that contradicts it."""
    _send(world, b"one")
    world.tick(HUB)
    client_id = world.clients[HUB, ZJ]
    known = get_client(world.nodes[HUB].store, client_id).latest.height
    fork = _fork(world, b"two")
    assert fork.nodes[ZJ].head.size == known
    _send(fork, b"three")
    world.relayer(HUB).add_lane(client_id, fork.networks[ZJ])
    assert world.tick(HUB)[0].inward.reason == Reason.CLIENT_FROZEN
    assert get_client(world.nodes[HUB].store, client_id).frozen
    assert _record(world, HUB, ZJ, "received", 2) is None
    fork.close()


def test_a_header_that_is_merely_wrong_freezes_nothing(world: World) -> None:
    _send(world)
    world.relayer(HUB).add_lane(world.clients[HUB, ZJ], _Unsigned(world.networks[ZJ]))
    assert world.tick(HUB)[0].inward.reason == Reason.QUORUM_NOT_REACHED
    assert not get_client(world.nodes[HUB].store, world.clients[HUB, ZJ]).frozen


class _Unsigned(MemoryChain):
    """Shows heads with one signature too few."""

    def headers(
        self,
        trusted_height: int,
        height: int,
        algorithm: str = "ed25519",
        witnesses: Sequence[Witness] = (),
    ) -> Sequence[bytes]:
        raw = super().headers(trusted_height, height, algorithm, witnesses)
        decoded = [CHECKPOINT.decode_header(header) for header in raw]
        short = [replace(header, signatures=header.signatures[:-1]) for header in decoded]
        return [CHECKPOINT.encode_header(header) for header in short]


class _HastyChannel(Channel):
    """Another program on a ledger: it writes sentinels without looking at its clock."""

    def expire(self, tx: Transaction, packet: Packet, proven: Proven, now: int) -> bool:
        return super().expire(tx, packet, proven, max(now, packet.timeout_timestamp))


def test_a_sentinel_from_before_the_timeout_is_proven_again_under_a_younger_head(
    world: World,
) -> None:
    """The packet stays open until the timeout, and is closed after it."""
    zj = world.nodes[ZJ]
    zj.channel = _HastyChannel(zj.chain_id, zj.clients, zj.contracts)
    _send(world, on=HUB, to=ZJ)
    (step,) = world.chain(HUB).packets(world.clients[HUB, ZJ], 0, 10)
    (answer,) = world.deliver(HUB, ZJ, [Item(Step.EXPIRE, step.packet)])
    assert answer.outcome is Outcome.DONE
    reports = world.tick(HUB)
    assert reports[0].inward.refused == {Reason.TIMEOUT_NOT_REACHED: 1}
    assert _state(world, 1, HUB, ZJ) is PacketState.SENT
    world.clock.advance(2 * HOUR)
    zj.tick()
    world.settle(HUB, seconds=MAX_SIDE_DELAY)
    assert _state(world, 1, HUB, ZJ) is PacketState.TIMED_OUT
    assert _outbox(world).letters() == []


# --- younger heads


class _Fresh(Echo):
    """`fresh:CLIENT` is answered with whether all that CLIENT's chain sent until lately is here,
    and with how much was received from there before."""

    def receive(self, packet: Packet, payload: Payload, state: State, now: int) -> bytes | Deferred:
        if not payload.value.startswith(b"fresh:"):
            return super().receive(packet, payload, state, now)
        (need,) = self.heads_needed(packet, payload, state, now)
        young = state.head(need.client_id).complete_time >= need.time
        seen = state.scan(f"received/{need.client_id}/".encode())
        return b"%s after %d" % (b"young" if young else b"stale", len(seen))


@pytest.fixture
def three(tmp_path: Path) -> Iterator[World]:
    """Two ledgers and a relay whose contract asks for young heads."""
    made = World(tmp_path)
    for name in (ZJ, SH):
        made.node(name, "ledger", [ECHO])
    made.node(HUB, "relay", [_Fresh()])
    # The lane of the asking ledger takes its turn first: what it needs was not carried before.
    for name in (SH, ZJ):
        made.connect(name, HUB)
    made.settle(HUB)
    yield made
    _check(made)
    made.close()


def _ask(world: World, about: str, on: str = SH, **changed: int) -> int:
    return _send(world, b"fresh:" + world.clients[HUB, about].encode(), on=on, **changed)


def test_a_younger_head_is_fetched_before_the_packet_is_delivered(three: World) -> None:
    three.clock.advance(600)
    assert three.nodes[ZJ].tick()
    sequence = _ask(three, ZJ)
    three.settle(HUB)
    assert _record(three, SH, HUB, "acknowledged", sequence) == b"young after 0"
    assert _outbox(three).letters() == []


def test_what_lies_below_the_younger_head_is_delivered_before(three: World) -> None:
    three.clock.advance(600)
    for i in range(3):
        _send(three, b"%d" % i)
    sequence = _ask(three, ZJ)
    assert [r.client_id for r in three.tick(HUB)] == [three.clients[HUB, n] for n in (SH, ZJ)]
    assert _record(three, SH, HUB, "acknowledged", sequence) == b"young after 3"


def test_a_chain_may_be_asked_about_itself(three: World) -> None:
    three.clock.advance(600)
    for i in range(3):
        _send(three, b"%d" % i)
    sequence = _ask(three, ZJ, on=ZJ)
    three.settle(HUB)
    assert _record(three, ZJ, HUB, "acknowledged", sequence) == b"young after 3"


def test_a_head_never_runs_ahead_of_what_was_carried(
    three: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One height of the other chain is too much for one turn of its lane: the packet waits for
    the rest of it, although the head is young already, and is not refused meanwhile."""
    monkeypatch.setattr("relay.lane.MAX_PAGES", 1)
    monkeypatch.setattr("relay.steps.MAX_BATCH", 2)
    three.node(ZJ, "ledger", [_Many()])
    three.clock.advance(600)
    three.nodes[ZJ].call("echo", "many", three.clients[ZJ, HUB].encode() + b"\n5\n")
    sequence = _ask(three, ZJ)
    for _ in range(2):
        assert three.relayer(HUB).lanes[0].tick(three.clock.now).aside.idle
        assert (
            get_client(three.nodes[HUB].store, three.clients[HUB, ZJ]).latest.time == three.clock()
        )
    three.settle(HUB)
    assert _record(three, SH, HUB, "acknowledged", sequence) == b"young after 5"


def test_nothing_is_complete_while_there_is_more_to_carry(
    three: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.lane.MAX_PAGES", 1)
    monkeypatch.setattr("relay.steps.MAX_BATCH", 2)
    for i in range(5):
        _send(three, b"%d" % i)
    lane = three.relayer(HUB).lanes[1]
    for done in (False, False, True):
        assert lane.bring_complete(three.clock.now) is done
        assert bool(_complete(three) == three.clock.now) is done


def test_a_statement_is_of_before_the_listing(three: World) -> None:
    """A packet that is sent while the lane reads is not among what is stated to be there."""
    growing = _Growing(three.networks[ZJ], lambda: _send(three))
    three.relayer(HUB).add_lane(three.clients[HUB, ZJ], growing)
    three.clock.advance(31 * DAY)
    three.nodes[ZJ].tick()
    three.relayer(HUB).lanes[1].bring_complete(three.clock.now)
    assert _complete(three) == three.clock.now
    assert growing.grown


def _complete(world: World, on: str = HUB, of: str = ZJ) -> int:
    return get_client(world.nodes[on].store, world.clients[on, of]).complete_time


class _Growing(MemoryChain):
    """Has one packet more after each listing that was empty."""

    def __init__(self, inner: MemoryChain, grow: Callable[[], object]) -> None:
        super().__init__(inner)
        self._grow = grow
        self.grown = 0

    def packets(self, client_id: str, after: int, limit: int) -> Sequence[PacketStep]:
        steps = super().packets(client_id, after, limit)
        if not steps:
            self._grow()
            self.grown += 1
        return steps


def test_a_head_that_is_young_enough_costs_no_update(three: World) -> None:
    three.clock.advance(600)
    three.nodes[ZJ].tick()
    _ask(three, ZJ)
    three.settle(HUB)
    before = get_client(three.nodes[HUB].store, three.clients[HUB, ZJ]).latest
    _ask(three, ZJ)
    three.settle(HUB)
    assert get_client(three.nodes[HUB].store, three.clients[HUB, ZJ]).latest == before


def test_where_no_younger_head_is_to_be_had_the_contract_answers(three: World) -> None:
    three.clock.advance(600)
    quiet, gone = _ask(three, ZJ), None
    three.settle(HUB)
    three.networks[ZJ].reachable = False
    gone = _ask(three, ZJ)
    three.settle(HUB)
    assert _record(three, SH, HUB, "acknowledged", gone) is None
    assert [w.waiting.reason for w in _outbox(three).letters()] == [STALE]
    three.clock.advance(PATIENCE)
    three.settle(HUB)
    for sequence in (quiet, gone):
        assert _record(three, SH, HUB, "acknowledged", sequence) == b"stale after 0"


def test_a_chain_that_is_away_for_a_moment_is_waited_for(three: World) -> None:
    """A node that is started again is no reason to refuse for good."""
    three.clock.advance(600)
    three.networks[ZJ].reachable = False
    sequence = _ask(three, ZJ)
    for _ in range(PATIENCE // 2):
        three.tick(HUB)
        three.clock.advance(1)
    three.networks[ZJ].reachable = True
    three.nodes[ZJ].tick()
    for _ in range(PATIENCE // 2 - 1):
        three.tick(HUB)
        three.clock.advance(1)
    three.settle(HUB)
    answer = _record(three, SH, HUB, "acknowledged", sequence)
    assert answer is not None
    assert answer.startswith(b"young")


def test_a_chain_that_has_long_been_away_is_not_waited_for(three: World) -> None:
    three.clock.advance(600)
    three.networks[ZJ].reachable = False
    three.tick(HUB)
    three.clock.advance(PATIENCE)
    three.tick(HUB)
    sequence = _ask(three, ZJ)
    three.settle(HUB)
    assert _record(three, SH, HUB, "acknowledged", sequence) == b"stale after 0"


def test_what_would_expire_does_not_wait_for_a_chain_that_is_away(three: World) -> None:
    three.clock.advance(600)
    three.networks[ZJ].reachable = False
    sequence = _ask(three, ZJ, ahead=PATIENCE - 1)
    three.settle(HUB)
    assert _record(three, SH, HUB, "acknowledged", sequence) == b"stale after 0"


def test_two_ledgers_that_need_each_others_heads_do_not_wait_for_each_other(three: World) -> None:
    three.clock.advance(600)
    for name in (ZJ, SH):
        three.nodes[name].tick()
    three.clock.advance(20)
    asked = {ZJ: _ask(three, SH, on=ZJ), SH: _ask(three, ZJ, on=SH)}
    three.settle(HUB)
    for on, sequence in asked.items():
        answer = _record(three, on, HUB, "acknowledged", sequence)
        assert answer is not None
        assert answer.startswith(b"young")


def test_two_ledgers_with_long_backlogs_do_not_wait_for_each_other(
    three: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both lanes have set aside more than one turn looks at before either fetches a head, as two
    threads do: what only waits for the other chain is nothing that is left to be carried."""
    monkeypatch.setattr("relay.lane.BACKLOG", 3)
    three.clock.advance(600)
    for name in (ZJ, SH):
        three.nodes[name].tick()
    three.clock.advance(20)
    asked = [(on, _ask(three, to, on=on)) for on, to in ((ZJ, SH), (SH, ZJ)) for _ in range(5)]
    for lane in three.relayer(HUB).lanes:
        theirs = lane.remote.client(three.clients[SH if lane.client_id else ZJ, HUB])
        lane.inward.tick(Ends(theirs.client_id, lane.client_id), three.clock.now)
    assert len(_outbox(three).letters()) == len(asked)
    three.settle(HUB)
    answers = [_record(three, on, HUB, "acknowledged", sequence) for on, sequence in asked]
    assert [(a or b"")[:5] for a in answers] == [b"young"] * len(asked)


def test_what_would_expire_does_not_wait_for_a_chain_that_always_has_more(
    three: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a ledger that never stops sending keeps what others ask about it open for ever."""
    monkeypatch.setattr("relay.lane.MAX_PAGES", 1)
    monkeypatch.setattr("relay.steps.MAX_BATCH", 2)
    three.node(ZJ, "ledger", [_Many()])
    three.clock.advance(600)
    sequence = _ask(three, ZJ, ahead=2 * PATIENCE)
    for _ in range(3 * PATIENCE // 10):
        three.nodes[ZJ].call("echo", "many", three.clients[ZJ, HUB].encode() + b"\n20\n")
        three.tick(HUB)
        three.clock.advance(10)
    answer = _record(three, SH, HUB, "acknowledged", sequence)
    assert answer is not None
    assert answer.startswith(b"stale")


def test_what_only_waits_keeps_nothing_behind_it_from_its_turn(
    three: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More steps wait for a chain that always has more than one turn looks at; another packet,
    which came too late, must be expired all the same."""
    for name, most in (("MAX_PAGES", 1), ("BACKLOG", 3), ("MAX_BATCH", 3)):
        monkeypatch.setattr(f"relay.lane.{name}", most)
    monkeypatch.setattr("relay.steps.MAX_BATCH", 2)
    three.node(ZJ, "ledger", [_Many()])
    three.clock.advance(600)
    asked = [_ask(three, ZJ) for _ in range(5)]
    late = _send(three, b"late", ahead=5, on=SH)
    three.clock.advance(10)
    for _ in range(10):
        three.nodes[ZJ].call("echo", "many", three.clients[ZJ, HUB].encode() + b"\n20\n")
        three.tick(HUB)
        three.clock.advance(1)
    assert {_state(three, sequence, SH) for sequence in asked} == {PacketState.SENT}
    assert _state(three, late, SH) is PacketState.TIMED_OUT


class _Slow(MemoryChain):
    """Answers no listing before `going` is set."""

    def __init__(self, inner: MemoryChain) -> None:
        super().__init__(inner)
        self.asked, self.going = threading.Event(), threading.Event()

    def packets(self, client_id: str, after: int, limit: int) -> Sequence[PacketStep]:
        self.asked.set()
        self.going.wait()
        return super().packets(client_id, after, limit)


def test_a_turn_that_a_chain_makes_long_holds_no_other_lane(
    three: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What asks for its head waits, whatever else comes on the same lane goes on."""
    monkeypatch.setattr("relay.lane.PASSING_SECONDS", 0.01)
    three.clock.advance(600)
    three.nodes[ZJ].tick()
    slow = _Slow(three.networks[ZJ])
    three.relayer(HUB).add_lane(three.clients[HUB, ZJ], slow)
    sh, zj = three.relayer(HUB).lanes
    turn = threading.Thread(target=zj.tick, args=(three.clock.now,))
    turn.start()
    assert slow.asked.wait(10)
    about, other = _ask(three, ZJ), _send(three, b"hello", on=SH)
    sh.tick(three.clock.now)
    assert _state(three, about, SH) is PacketState.SENT
    assert _state(three, other, SH) is PacketState.ACKNOWLEDGED
    slow.going.set()
    turn.join()
    three.settle(HUB)
    assert (_record(three, SH, HUB, "acknowledged", about) or b"").startswith(b"young")


class _Sparing(MemoryChain):
    """Lists one step at a time."""

    listings = 0

    def packets(self, client_id: str, after: int, limit: int) -> Sequence[PacketStep]:
        self.listings += 1
        return super().packets(client_id, after, 1)


def test_a_chain_that_lists_one_step_at_a_time_makes_no_turn_long(three: World) -> None:
    """Each listing may take as long as a call may."""
    for i in range(60):
        _send(three, b"%d" % i)
    sparing = _Sparing(three.networks[ZJ])
    three.relayer(HUB).add_lane(three.clients[HUB, ZJ], sparing)
    report = three.relayer(HUB).lanes[1].tick(three.clock.now)
    assert sparing.listings <= 2 * MAX_PAGES
    assert report.more
    three.settle(HUB)
    assert _state(three, 60) is PacketState.ACKNOWLEDGED


def test_what_was_set_aside_survives_a_crash(three: World) -> None:
    """The process ends after the cursor has moved and before the packet was delivered."""
    three.clock.advance(600)
    three.nodes[ZJ].tick()
    sequence = _ask(three, ZJ)
    three.networks[ZJ].plan = _crash
    with pytest.raises(KeyboardInterrupt):
        three.tick(HUB)
    (letter,) = _outbox(three).letters()
    assert letter.waiting.reason.startswith(Reason.HEAD_STALE)
    three.networks[ZJ].plan = no_faults
    three.restart(HUB)
    three.settle(HUB)
    assert _record(three, SH, HUB, "acknowledged", sequence) == b"young after 0"
    assert _outbox(three).letters() == []


def test_what_is_set_aside_twice_in_a_turn_is_delivered_once(three: World) -> None:
    """It waits from before, nothing new comes, and so what waits is looked at twice."""
    three.clock.advance(600)
    three.nodes[ZJ].tick()
    sequence = _ask(three, ZJ)
    three.networks[ZJ].plan = _crash
    with pytest.raises(KeyboardInterrupt):
        three.tick(HUB)
    three.networks[ZJ].plan = no_faults
    three.clock.advance(2 * HOUR)
    three.restart(HUB)
    three.settle(HUB, seconds=MAX_SIDE_DELAY)
    assert _state(three, sequence, SH) is PacketState.TIMED_OUT
    assert _outbox(three).letters() == []


def _crash(name: str) -> None:
    if name == "headers":
        raise KeyboardInterrupt


# --- starting


def _lose_lanes(world: World) -> None:
    with world.nodes[HUB].store.transaction() as tx:
        tx.connection.execute(delete(tables.table(tables.Lane)))
        tx.connection.execute(delete(tables.table(tables.Outbox)))


def test_a_lost_lane_table_costs_no_ops_only(world: World) -> None:
    for _ in range(3):
        _send(world)
        _send(world, on=HUB, to=ZJ)
    world.settle(HUB)
    before = world.sizes()
    _lose_lanes(world)
    world.restart(HUB)
    reports = world.tick(HUB)
    assert (_total(reports, "repeated"), _total(reports, "done")) == (12, 0)
    world.settle(HUB)
    assert world.sizes() == before


def test_own_packets_that_were_forgotten_are_taken_up_again(world: World) -> None:
    """The lane has read past packets whose rows were lost."""
    for _ in range(3):
        _send(world, on=HUB, to=ZJ)
    _outbox(world).save(world.clients[HUB, ZJ], OUT, cursor=world.nodes[HUB].head.size)
    world.settle(HUB)
    world.restart(HUB)
    world.settle(HUB)
    assert all(_state(world, i, HUB, ZJ) is PacketState.ACKNOWLEDGED for i in (1, 2, 3))


def test_many_forgotten_packets_have_their_side_read_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.relayer.MAX_BATCH", 2)
    test_own_packets_that_were_forgotten_are_taken_up_again(world)


def test_what_was_not_read_yet_or_waits_already_is_not_forgotten(world: World) -> None:
    _send(world, on=HUB, to=ZJ)
    client_id = world.clients[HUB, ZJ]
    (step,) = world.chain(HUB).packets(client_id, 0, 10)
    later = world.clock.now + DAY
    waits = Waiting(step.cursor, item_of(step), step.height, 7, later, "WHY")
    _outbox(world).save(client_id, OUT, cursor=step.cursor, waiting=[waits])
    _send(world, on=HUB, to=ZJ)
    world.restart(HUB)
    reports = world.tick(HUB)
    assert (_total(reports, "repeated"), _total(reports, "done")) == (0, 1)
    assert [letter.waiting for letter in _outbox(world).letters()] == [waits]


def test_a_hole_in_the_received_sequences_is_filled(world: World) -> None:
    for _ in range(3):
        _send(world)
    steps = world.chain(ZJ).packets(world.clients[ZJ, HUB], 0, 10)
    world.deliver(ZJ, HUB, [Item(Step.RECEIVE, steps[2].packet)])
    _outbox(world).save(world.clients[HUB, ZJ], IN, cursor=steps[2].cursor)
    world.restart(HUB)
    world.settle(HUB)
    assert all(_state(world, i) is PacketState.ACKNOWLEDGED for i in (1, 2, 3))


def test_a_restart_in_order_repeats_nothing(world: World) -> None:
    _send(world)
    _send(world, on=HUB, to=ZJ)
    world.settle(HUB)
    world.restart(HUB)
    assert all(report.idle for report in world.tick(HUB))


def test_a_lane_waits_until_both_sides_are_registered(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.node(ZJ, "ledger", [ECHO])
    world.node(HUB, "relay", [ECHO])
    chain = world.chain(ZJ)
    state = ClientState("checkpoint", "zj/0")
    client_id = world.nodes[HUB].create_client(state, chain.headers(0, 1)[-1])
    relayer = world.relayer(HUB)
    relayer.add_lane(client_id, world.networks[ZJ])
    (report,) = relayer.tick(world.clock.now)
    assert report.reason == Reason.COUNTERPARTY_UNKNOWN
    world.nodes[HUB].register_counterparty(client_id, "checkpoint-0")
    relayer.add_lane("checkpoint-9", world.networks[ZJ])
    world.clock.advance(1)
    reports = relayer.tick(world.clock.now)
    assert [r.reason for r in reports] == [Reason.CLIENT_NOT_FOUND, Reason.CLIENT_NOT_FOUND]
    world.close()


# --- at its own pace


def _wait_for(done: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not done():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


def test_run_serves_lanes_until_it_is_stopped(world: World) -> None:
    """Also a lane that is added while it runs, and past a fault of an adapter."""
    world.node(SH, "ledger", [ECHO])
    relayer, stop, hub = world.relayer(HUB), threading.Event(), world.nodes[HUB]
    thread = threading.Thread(target=relayer.run, args=(stop, world.clock))
    thread.start()
    _send(world)
    _wait_for(lambda: _state(world, 1) is PacketState.ACKNOWLEDGED)
    world.connect(SH, HUB)
    relayer.add_lane(world.clients[HUB, SH], world.networks[SH])
    _send(world, on=HUB, to=SH)
    _wait_for(lambda: _state(world, 1, HUB, SH) is PacketState.ACKNOWLEDGED)
    relayer.remove_lane(world.clients[HUB, SH])
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
    assert hub.head.size


def test_a_resting_lane_is_woken_by_its_remote_chain(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks nothing while it rests, and hears of a new step at once."""
    monkeypatch.setattr("relay.pace.QUIET_TURNS", 3)
    monkeypatch.setattr("relay.pace.REST_TURNS", 10_000)
    monkeypatch.setattr("relay.pace.REST_POLL", 0.02)
    remote = _Telling(world.networks[ZJ])
    relayer, stop = world.relayer(HUB), threading.Event()
    relayer.add_lane(world.clients[HUB, ZJ], remote)
    thread = threading.Thread(target=relayer.run, args=(stop, world.clock))
    thread.start()
    _wait_for(lambda: remote.waited)
    asked = remote.calls["packets"]
    time.sleep(0.2)
    assert remote.calls["packets"] == asked
    _send(world)
    _wait_for(lambda: _state(world, 1) is PacketState.ACKNOWLEDGED)
    stop.set()
    thread.join(5)


class _Telling(MemoryChain):
    """Waits for steps, as an adapter may."""

    waited = False

    def wait(self, client_id: str, after: int, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.inner.packets(client_id, after, 1):
                return True
            self.waited = True
            time.sleep(0.01)
        return False


def test_a_fault_of_an_adapter_ends_no_lane(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.pace.FAULT_DELAY", 0.01)
    broken = iter([True, True])

    def fault(name: str) -> None:
        if name == "packets" and next(broken, False):
            raise ZeroDivisionError

    world.networks[ZJ].plan = fault
    stop = threading.Event()
    thread = threading.Thread(target=world.relayer(HUB).run, args=(stop, world.clock))
    thread.start()
    _send(world)
    _wait_for(lambda: _state(world, 1) is PacketState.ACKNOWLEDGED)
    stop.set()
    thread.join(5)
    assert next(broken, None) is None
