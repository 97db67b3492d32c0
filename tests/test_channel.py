"""The five verbs between two real nodes: each rule has a refusal that names it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from relay.chain import Delivery, Item, Outcome, Step, Submission
from relay.errors import LianqiaoError, Reason
from relay.fsck import fsck
from relay.journal import Kind, host_path
from relay.light.types import ClientState
from relay.packet import (
    ABSENT,
    ERROR_ACKNOWLEDGEMENT,
    Packet,
    Payload,
    acknowledgement_commitment,
    acknowledgement_path,
    commitment_path,
    packet_commitment,
    receipt_path,
)
from relay.query import get_packet, get_record, list_packets, trace_packet
from relay.store import ClientRow, Direction, PacketState
from tests.databases import UrlOf
from tests.echo import ECHO
from tests.world import TYPES, World

HOUR = 3600


@pytest.fixture
def world(tmp_path: Path, urls: UrlOf) -> Iterator[World]:
    made = World(tmp_path, url_of=urls)
    made.node("zj", "ledger", [ECHO])
    made.node("hub", "relay", [ECHO])
    made.connect("zj", "hub")
    yield made
    for node in made.nodes.values():
        _, findings = fsck(node.store, TYPES, node.origin)
        assert findings == []
    made.close()


def _send(world: World, value: bytes = b"hello", timeout: int = HOUR) -> Packet:
    node, client_id = world.nodes["zj"], world.clients[("zj", "hub")]
    body = f"{client_id}\n{world.clock() + timeout}\n".encode() + value
    sequence = int(node.call("echo", "send", body))
    return get_packet(node.store, client_id, sequence, Direction.OUT).packet


def _receive(world: World, packet: Packet) -> Submission:
    return world.deliver("zj", "hub", [Item(Step.RECEIVE, packet)])[0]


def _written(world: World, on: str, path: bytes) -> bytes | None:
    with world.nodes[on].store.reading() as tx:
        return tx.get(path)


def _refused(answer: Submission, reason: Reason) -> None:
    assert (answer.outcome, answer.reason) == (Outcome.REFUSED, reason.value), answer


def _size(world: World, on: str) -> int:
    return world.nodes[on].head.size


# --- deliveries


def test_a_delivery_tells_whether_its_headers_were_new(world: World) -> None:
    delivery = world.delivery("zj", "hub", [Item(Step.RECEIVE, _send(world))])
    hub = world.nodes["hub"]
    assert delivery.headers
    answers = [hub.deliver([delivery])[0].headers for _ in range(2)]
    assert [answer.outcome for answer in answers] == [Outcome.DONE, Outcome.NOOP]
    bare = replace(delivery, headers=())
    assert hub.deliver([bare])[0].headers.outcome is Outcome.NOOP


def test_a_proof_is_kept_whichever_of_its_items_took_effect(world: World) -> None:
    """A packet that is new, and after it one that was received before (and see the fixture)."""
    old = _send(world)
    _receive(world, old)
    new = _send(world)
    both = world.deliver("zj", "hub", [Item(Step.RECEIVE, new), Item(Step.RECEIVE, old)])
    assert [answer.outcome for answer in both] == [Outcome.DONE, Outcome.NOOP]


# --- send


def _call_refused(world: World, body: bytes) -> Reason:
    with pytest.raises(LianqiaoError) as err:
        world.nodes["zj"].call("echo", "send", body)
    return err.value.reason


def test_send_writes_the_published_commitment(world: World) -> None:
    packet = _send(world)
    path = commitment_path(packet.source_client, 1)
    assert _written(world, "zj", path) == packet_commitment(packet)
    assert packet.sequence == 1
    assert _send(world).sequence == 2


def test_send_needs_a_client(world: World) -> None:
    assert _call_refused(world, b"checkpoint-9\n1900000000\nx") is Reason.CLIENT_NOT_FOUND


def test_send_needs_a_counterparty(world: World) -> None:
    chain = world.chain("hub")
    header = chain.headers(0, chain.latest_height())[-1]
    lonely = world.nodes["zj"].create_client(ClientState("checkpoint", "hub/0"), header)
    body = f"{lonely}\n{world.clock() + HOUR}\nx".encode()
    assert _call_refused(world, body) is Reason.COUNTERPARTY_UNKNOWN


def test_send_needs_a_live_client(world: World) -> None:
    world.clock.advance(91 * 86_400)
    body = f"{world.clients[('zj', 'hub')]}\n{world.clock() + HOUR}\nx".encode()
    assert _call_refused(world, body) is Reason.CLIENT_EXPIRED


@pytest.mark.parametrize(
    ("ahead", "reason"),
    [(0, Reason.TIMEOUT_ELAPSED), (-1, Reason.TIMEOUT_ELAPSED), (86_401, Reason.TIMEOUT_TOO_FAR)],
)
def test_send_bounds_the_timeout(world: World, ahead: int, reason: Reason) -> None:
    before = _size(world, "zj")
    body = f"{world.clients[('zj', 'hub')]}\n{world.clock() + ahead}\nx".encode()
    assert _call_refused(world, body) is reason
    assert _size(world, "zj") == before


def test_send_takes_a_timeout_of_exactly_a_day(world: World) -> None:
    assert _send(world, timeout=86_400).sequence == 1


@pytest.mark.parametrize("value", [b"", b"x" * (256 * 1024 + 1)])
def test_send_keeps_the_invariants_of_a_packet(world: World, value: bytes) -> None:
    body = f"{world.clients[('zj', 'hub')]}\n{world.clock() + HOUR}\n".encode() + value
    assert _call_refused(world, body) is Reason.INVALID_PACKET


# --- receive


def test_receive_writes_receipt_and_acknowledgement_and_runs_the_contract(world: World) -> None:
    packet = _send(world)
    assert _receive(world, packet).outcome is Outcome.DONE
    client = packet.destination_client
    assert _written(world, "hub", receipt_path(client, 1)) == packet_commitment(packet)
    assert _written(world, "hub", acknowledgement_path(client, 1)) == acknowledgement_commitment(
        [b"echo:hello"]
    )
    key = f"received/{client}/1".encode()
    assert get_record(world.nodes["hub"].store, "echo", key) == b"hello"


def test_receive_again_is_a_no_op_that_costs_no_entry(world: World) -> None:
    packet = _send(world)
    _receive(world, packet)
    before = _size(world, "hub")
    assert _receive(world, packet).outcome is Outcome.NOOP
    assert _size(world, "hub") == before


def test_replay_is_a_no_op_whatever_proof_it_brings(world: World) -> None:
    packet = _send(world)
    _receive(world, packet)
    replay = Delivery(packet.destination_client, (), 0, b"junk", (Item(Step.RECEIVE, packet),))
    answer = world.nodes["hub"].deliver([replay])[0].items[0]
    assert answer.outcome is Outcome.NOOP


@pytest.mark.parametrize(
    "change",
    [{"source_client": "checkpoint-7"}, {"destination_client": "checkpoint-7"}],
)
def test_receive_from_somebody_else_is_refused(world: World, change: dict[str, str]) -> None:
    packet = _send(world)
    delivery = world.delivery("zj", "hub", [Item(Step.RECEIVE, packet)])
    forged = replace(delivery, items=(Item(Step.RECEIVE, replace(packet, **change)),))
    _refused(world.nodes["hub"].deliver([forged])[0].items[0], Reason.COUNTERPARTY_MISMATCH)


@pytest.mark.parametrize(
    "change",
    [
        {"timeout_timestamp": 1_799_999_999},
        {"sequence": 2},
        {"payloads": (Payload("echo", "echo", "echo-1", "text/plain", b"other"),)},
        {"payloads": (Payload("echo", "echo", "echo-2", "text/plain", b"hello"),)},
        {"payloads": (Payload("else", "echo", "echo-1", "text/plain", b"hello"),)},
        {"payloads": (Payload("echo", "echo", "echo-1", "text/html", b"hello"),)},
    ],
)
def test_any_changed_field_is_refused(world: World, change: dict[str, object]) -> None:
    packet = _send(world)
    delivery = world.delivery("zj", "hub", [Item(Step.RECEIVE, packet)])
    changed = Item(Step.RECEIVE, replace(packet, **change))  # type: ignore[arg-type]
    before = _size(world, "hub")
    answer = world.nodes["hub"].deliver([replace(delivery, headers=(), items=(changed,))])[0]
    _refused(answer.items[0], Reason.HEIGHT_NOT_TRUSTED)
    answer = world.nodes["hub"].deliver([replace(delivery, items=(changed,))])[0]
    _refused(answer.items[0], Reason.INVALID_PROOF)
    # The header was good and stays: one entry. Nothing of the packet was written.
    assert _size(world, "hub") == before + 1
    assert _written(world, "hub", receipt_path(packet.destination_client, 1)) is None


def test_receive_after_its_timeout_is_refused(world: World) -> None:
    packet = _send(world, timeout=60)
    world.clock.advance(59)
    early = world.delivery("zj", "hub", [Item(Step.RECEIVE, packet)])
    world.clock.advance(1)
    _refused(world.nodes["hub"].deliver([early])[0].items[0], Reason.TIMEOUT_ELAPSED)


def test_receive_in_the_last_second_is_taken(world: World) -> None:
    packet = _send(world, timeout=60)
    world.clock.advance(59)
    assert _receive(world, packet).outcome is Outcome.DONE


def test_receive_below_the_floor_is_refused(world: World) -> None:
    packet = _send(world)
    delivery = world.delivery("zj", "hub", [Item(Step.RECEIVE, packet)])
    store = world.nodes["hub"].store
    with store.transaction() as tx:
        row = tx.load(ClientRow, packet.destination_client)
        assert row is not None
        tx.save(replace(row, floor=2))
    answers = world.nodes["hub"].deliver([delivery])[0].items
    _refused(answers[0], Reason.PRUNED)
    expire = replace(delivery, headers=(), items=(Item(Step.EXPIRE, packet),))
    _refused(world.nodes["hub"].deliver([expire])[0].items[0], Reason.PRUNED)
    with store.transaction() as tx:
        row = tx.load(ClientRow, packet.destination_client)
        assert row is not None
        tx.save(replace(row, floor=0))


@pytest.mark.parametrize("proof", [b"", b"\x00", b"junk"])
def test_a_proof_that_is_none_is_malformed(world: World, proof: bytes) -> None:
    packet = _send(world)
    delivery = world.delivery("zj", "hub", [Item(Step.RECEIVE, packet)])
    answer = world.nodes["hub"].deliver([replace(delivery, proof=proof)])[0].items[0]
    _refused(answer, Reason.MALFORMED)


def test_an_expired_client_receives_nothing(world: World) -> None:
    packet = _send(world, timeout=86_400)
    delivery = world.delivery("zj", "hub", [Item(Step.RECEIVE, packet)])
    world.nodes["hub"].deliver([replace(delivery, items=())])
    world.clock.advance(91 * 86_400)
    late = replace(packet, timeout_timestamp=world.clock() + 10)
    answer = world.nodes["hub"].deliver(
        [replace(delivery, headers=(), items=(Item(Step.RECEIVE, late),))]
    )
    _refused(answer[0].items[0], Reason.CLIENT_EXPIRED)


def test_a_delivery_to_no_client_is_refused(world: World) -> None:
    with pytest.raises(LianqiaoError) as err:
        world.nodes["hub"].deliver([Delivery("checkpoint-5")])
    assert err.value.reason is Reason.CLIENT_NOT_FOUND


# --- contracts


@pytest.mark.parametrize("command", [b"fail", b"crash", b"error", b"empty"])
def test_a_contract_that_fails_is_undone_and_answered_with_the_error(
    world: World, command: bytes
) -> None:
    packet = _send(world, command)
    assert _receive(world, packet).outcome is Outcome.DONE
    store, client = world.nodes["hub"].store, packet.destination_client
    assert get_record(store, "echo", f"received/{client}/1".encode()) is None
    assert get_packet(store, client, 1, Direction.IN).acknowledgements == (ERROR_ACKNOWLEDGEMENT,)
    assert _written(world, "hub", receipt_path(client, 1)) == packet_commitment(packet)
    assert trace_packet(store, client, 1, Direction.IN)[-1].detail


def test_a_failure_undoes_its_own_packet_and_no_other(world: World) -> None:
    packets = [_send(world, value) for value in (b"one", b"fail", b"three")]
    answers = world.deliver("zj", "hub", [Item(Step.RECEIVE, p) for p in packets])
    assert [a.outcome for a in answers] == [Outcome.DONE] * 3
    store = world.nodes["hub"].store
    kept = [get_record(store, "echo", f"received/checkpoint-0/{n}".encode()) for n in (1, 2, 3)]
    assert kept == [b"one", None, b"three"]


def test_an_unknown_port_is_answered_with_the_error(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.node("zj", "ledger", [ECHO])
    world.node("hub", "relay", [])
    world.connect("zj", "hub")
    packet = _send(world)
    assert _receive(world, packet).outcome is Outcome.DONE
    view = get_packet(world.nodes["hub"].store, packet.destination_client, 1, Direction.IN)
    assert view.acknowledgements == (ERROR_ACKNOWLEDGEMENT,)


def test_a_deferred_acknowledgement_comes_later_and_once(world: World) -> None:
    packet = _send(world, b"defer")
    _receive(world, packet)
    hub, client = world.nodes["hub"], packet.destination_client
    assert get_packet(hub.store, client, 1, Direction.IN).state is PacketState.DEFERRED
    assert world.chain("hub").packets(client, -1, 10) == []
    hub.call("echo", "answer", f"{client}\n1\nlater".encode())
    assert get_packet(hub.store, client, 1, Direction.IN).acknowledgements == (b"later",)
    with pytest.raises(LianqiaoError) as err:
        hub.call("echo", "answer", f"{client}\n1\nagain".encode())
    assert err.value.reason is Reason.NOT_PERMITTED
    assert [a.outcome for _, _, a in world.relay_once("hub", "zj")] == [Outcome.DONE]


def test_a_contract_writes_a_key_once(world: World) -> None:
    hub = world.nodes["hub"]
    hub.call("echo", "put", b"key\n\nvalue")
    hub.call("echo", "put", b"key\n\nvalue")
    with pytest.raises(LianqiaoError) as err:
        hub.call("echo", "put", b"key\n\nother")
    assert err.value.reason is Reason.PATH_WRITTEN


def test_a_contract_cannot_write_a_packet_path(world: World) -> None:
    """Whatever the key, the host's prefix stands before it."""
    hub = world.nodes["hub"]
    key = receipt_path("checkpoint-0", 1)
    hub.call("echo", "put", key + b"\n\nvalue")
    assert _written(world, "hub", key) is None
    assert _written(world, "hub", host_path(Kind.RECORD, "echo", key)) == b"value"


# --- acknowledge


def test_acknowledge_closes_and_calls_back(world: World) -> None:
    packet = _send(world)
    _receive(world, packet)
    assert [a.outcome for _, _, a in world.relay_once("hub", "zj")] == [Outcome.DONE]
    store, client = world.nodes["zj"].store, packet.source_client
    view = get_packet(store, client, 1, Direction.OUT)
    assert (view.state, view.acknowledgements) == (PacketState.ACKNOWLEDGED, (b"echo:hello",))
    assert get_record(store, "echo", f"acknowledged/{client}/1".encode()) == b"echo:hello"
    closing = _written(world, "zj", host_path(Kind.CLOSED, client, (1).to_bytes(8, "big")))
    assert closing == b"\x01" + acknowledgement_commitment([b"echo:hello"])


def test_acknowledge_again_is_a_no_op(world: World) -> None:
    _receive(world, _send(world))
    world.relay_once("hub", "zj")
    before = _size(world, "zj")
    assert [a.outcome for _, _, a in world.relay_once("hub", "zj")] == [Outcome.NOOP]
    assert _size(world, "zj") == before


def _acknowledgement(world: World, packet: Packet, *answers: bytes) -> Submission:
    honest = world.delivery("hub", "zj", [Item(Step.ACKNOWLEDGE, packet, (b"echo:hello",))])
    forged = replace(honest, items=(Item(Step.ACKNOWLEDGE, packet, answers),))
    return world.nodes["zj"].deliver([forged])[0].items[0]


def test_a_forged_acknowledgement_is_refused(world: World) -> None:
    packet = _send(world)
    _receive(world, packet)
    _refused(_acknowledgement(world, packet, b"echo:other"), Reason.INVALID_PROOF)
    _refused(_acknowledgement(world, packet, ERROR_ACKNOWLEDGEMENT), Reason.INVALID_PROOF)
    view = get_packet(world.nodes["zj"].store, packet.source_client, 1, Direction.OUT)
    assert view.state is PacketState.SENT


def test_an_acknowledgement_of_another_packet_is_refused(world: World) -> None:
    packet = _send(world)
    _receive(world, packet)
    other = replace(packet, timeout_timestamp=packet.timeout_timestamp + 1)
    _refused(_acknowledgement(world, other, b"echo:hello"), Reason.COMMITMENT_MISMATCH)
    foreign = replace(packet, source_client="checkpoint-4")
    _refused(_acknowledgement(world, foreign, b"echo:hello"), Reason.COUNTERPARTY_MISMATCH)


def test_a_callback_that_fails_leaves_the_packet_closed(world: World) -> None:
    packet = _send(world, b"fail-acknowledge")
    _receive(world, packet)
    assert [a.outcome for _, _, a in world.relay_once("hub", "zj")] == [Outcome.DONE]
    store = world.nodes["zj"].store
    view = get_packet(store, packet.source_client, 1, Direction.OUT)
    assert view.state is PacketState.ACKNOWLEDGED
    key = f"acknowledged/{packet.source_client}/1".encode()
    assert get_record(store, "echo", key) is None
    last = trace_packet(store, packet.source_client, 1, Direction.OUT)[-1]
    assert last.detail.startswith(Reason.CONTRACT_REFUSED)


# --- expire and timeout


def _expire(world: World, packet: Packet) -> Submission:
    return world.deliver("zj", "hub", [Item(Step.EXPIRE, packet)])[0]


def test_a_packet_that_timed_out_is_closed_by_the_sentinel(world: World) -> None:
    packet = _send(world, timeout=60)
    world.clock.advance(60)
    assert _expire(world, packet).outcome is Outcome.DONE
    assert _written(world, "hub", receipt_path(packet.destination_client, 1)) == ABSENT
    assert [(s, a.outcome) for s, _, a in world.relay_once("hub", "zj")] == [
        (Step.TIMEOUT, Outcome.DONE)
    ]
    store = world.nodes["zj"].store
    view = get_packet(store, packet.source_client, 1, Direction.OUT)
    assert view.state is PacketState.TIMED_OUT
    assert get_record(store, "echo", f"timed-out/{packet.source_client}/1".encode()) == b"hello"
    assert [a.outcome for _, _, a in world.relay_once("hub", "zj")] == [Outcome.NOOP]


def test_expire_before_the_timeout_is_refused(world: World) -> None:
    packet = _send(world, timeout=60)
    world.clock.advance(59)
    _refused(_expire(world, packet), Reason.TIMEOUT_NOT_REACHED)


def test_expire_of_a_received_packet_is_refused(world: World) -> None:
    packet = _send(world, timeout=60)
    _receive(world, packet)
    world.clock.advance(60)
    _refused(_expire(world, packet), Reason.RECEIVED)


def test_expire_again_is_a_no_op_and_receive_is_refused(world: World) -> None:
    packet = _send(world, timeout=60)
    world.clock.advance(60)
    _expire(world, packet)
    assert _expire(world, packet).outcome is Outcome.NOOP
    _refused(_receive(world, packet), Reason.TIMED_OUT)


def test_a_stranger_cannot_block_a_sequence_that_was_not_sent(world: World) -> None:
    packet = _send(world, timeout=60)
    world.clock.advance(60)
    delivery = world.delivery("zj", "hub", [Item(Step.EXPIRE, packet)])
    future = replace(packet, sequence=2)
    answer = world.nodes["hub"].deliver([replace(delivery, items=(Item(Step.EXPIRE, future),))])
    _refused(answer[0].items[0], Reason.INVALID_PROOF)
    assert _written(world, "hub", receipt_path(packet.destination_client, 2)) is None


def test_a_timeout_needs_the_sentinel(world: World) -> None:
    packet = _send(world, timeout=60)
    _receive(world, packet)
    world.clock.advance(60)
    world.nodes["hub"].tick()
    # The only thing at the receipt path is the receipt; its proof is not one of the sentinel.
    honest = world.delivery("hub", "zj", [Item(Step.ACKNOWLEDGE, packet, (b"echo:hello",))])
    chain = world.chain("hub")
    proof = chain.prove([receipt_path(packet.destination_client, 1)], honest.height)
    forged = replace(honest, proof=proof, items=(Item(Step.TIMEOUT, packet),))
    _refused(world.nodes["zj"].deliver([forged])[0].items[0], Reason.INVALID_PROOF)


def test_a_timeout_proven_before_its_time_is_refused(tmp_path: Path) -> None:
    """A receiver that writes the sentinel too early closes nothing: the proof's time decides."""
    world = World(tmp_path)
    world.node("zj", "ledger", [ECHO])
    hub = world.node("hub", "relay", [ECHO])
    world.connect("zj", "hub")
    packet = _send(world, timeout=60)
    lie = receipt_path(packet.destination_client, 1)
    hub._groups.submit(lambda tx, now: tx.append(lie, ABSENT))
    world.clock.advance(100)
    _refused(_timeout(world, packet, hub.head.size), Reason.TIMEOUT_NOT_REACHED)
    hub.tick()
    assert _timeout(world, packet, hub.head.size).outcome is Outcome.DONE


def _timeout(world: World, packet: Packet, height: int) -> Submission:
    chain, client_id = world.chain("hub"), packet.source_client
    trusted = world.chain("zj").client(client_id).latest_height
    delivery = Delivery(
        client_id,
        tuple(chain.headers(trusted, height)),
        height,
        chain.prove([receipt_path(packet.destination_client, packet.sequence)], height),
        (Item(Step.TIMEOUT, packet),),
    )
    return world.nodes["zj"].deliver([delivery])[0].items[0]


# --- atomicity and order


def test_headers_are_kept_where_items_fail_and_items_run_under_known_heights(world: World) -> None:
    packet = _send(world)
    delivery = world.delivery("zj", "hub", [Item(Step.RECEIVE, packet)])
    bad = replace(delivery, headers=(b"junk",))
    result = world.nodes["hub"].deliver([bad])[0]
    _refused(result.headers, Reason.MALFORMED)
    _refused(result.items[0], Reason.HEIGHT_NOT_TRUSTED)
    assert _receive(world, packet).outcome is Outcome.DONE


def test_one_batch_is_one_commit_one_proof_and_one_update(world: World) -> None:
    packets = [_send(world, f"value {n}".encode()) for n in range(50)]
    before = _size(world, "hub")
    world.deliver("zj", "hub", [Item(Step.RECEIVE, p) for p in packets])
    hub = world.nodes["hub"]
    # A header, and for each packet: receipt, the contract's record, acknowledgement.
    assert hub.head.size == before + 1 + 3 * 50
    steps = world.chain("hub").packets("checkpoint-0", -1, 100)
    assert {step.height for step in steps} == {hub.head.size}


def test_lists_page_by_cursor(world: World) -> None:
    for n in range(5):
        _send(world, f"value {n}".encode())
    store = world.nodes["zj"].store
    first = list_packets(store, -1, 2)
    rest = list_packets(store, first[-1][0], 10)
    assert [v.packet.sequence for _, v in first + rest] == [1, 2, 3, 4, 5]
    assert list_packets(store, -1, 10, state=PacketState.ACKNOWLEDGED) == []
