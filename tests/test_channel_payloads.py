"""Packets of several payloads, deferred answers, and what is refused before anything is looked up.

Our own contracts send one payload a packet; other chains send more (IBC v2), so the rules are held
here between two real nodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from relay.chain import Delivery, Item, Outcome, Step, Submission
from relay.contract import State
from relay.errors import LianqiaoError, Reason
from relay.packet import ERROR_ACKNOWLEDGEMENT, Packet, Payload
from relay.packet_bytes import MAX_ACKNOWLEDGEMENT_BYTES
from relay.query import get_packet, get_record, trace_packet
from relay.store import Direction, PacketRow, PacketState, Transaction
from tests.echo import ECHO, Echo
from tests.world import World

HOUR = 3600


class Other(Echo):
    """The same on another port."""

    port = "other"


class Odd(Echo):
    """Answers with what no contract may answer."""

    port = "odd"

    def receive(self, packet: Packet, payload: Payload, state: State, now: int) -> bytes:
        super().receive(packet, payload, state, now)
        return "text" if payload.value == b"text" else bytes(MAX_ACKNOWLEDGEMENT_BYTES + 1)  # type: ignore[return-value]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    made.node("zj", "ledger", [ECHO])
    made.node("hub", "relay", [ECHO, Other(), Odd()])
    made._follow("hub", "zj", {})  # so that one client has another id on each side
    made.connect("zj", "hub")
    yield made
    made.close()


def _send(world: World, *values: bytes, port: str = "echo") -> Packet:
    """Sends one packet with a payload for each value."""
    node, client_id = world.nodes["zj"], world.clients[("zj", "hub")]
    payloads = [Payload("echo", port, "echo-1", "text/plain", value) for value in values]
    timeout = world.clock() + HOUR
    sequence = node._groups.submit(
        lambda tx, now: node.channel.send(tx, client_id, payloads, timeout, now)
    )
    return get_packet(node.store, client_id, sequence, Direction.OUT).packet


def _receive(world: World, packet: Packet) -> None:
    answer = world.deliver("zj", "hub", [Item(Step.RECEIVE, packet)])[0]
    assert answer.outcome is Outcome.DONE, answer


def _bare(world: World, on: str, of: str, item: Item) -> Submission:
    """Delivers an item without any header or proof: what is answered before they are looked at."""
    client_id = world.clients[(on, of)]
    return world.nodes[on].deliver([Delivery(client_id, items=(item,))])[0].items[0]


def _answers(world: World, packet: Packet) -> tuple[bytes, ...]:
    store = world.nodes["hub"].store
    client, number = packet.destination_client, packet.sequence
    return get_packet(store, client, number, Direction.IN).acknowledgements


def _received(world: World) -> bytes | None:
    return get_record(world.nodes["hub"].store, "echo", b"received/checkpoint-1/1")


def _heard(world: World) -> bytes | None:
    return get_record(world.nodes["zj"].store, "echo", b"acknowledged/checkpoint-0/1")


def test_each_payload_has_its_own_answer(world: World) -> None:
    packet = _send(world, b"scan", b"two")
    _receive(world, packet)
    assert _answers(world, packet) == (b"none", b"echo:two")


@pytest.mark.parametrize("command", [b"fail", b"crash", b"error", b"defer"])
@pytest.mark.parametrize("first", [True, False])
def test_all_payloads_or_none(world: World, command: bytes, first: bool) -> None:
    """One that errs, or defers among several, undoes them all; the list is the error alone."""
    packet = _send(world, *([command, b"scan"] if first else [b"scan", command]))
    _receive(world, packet)
    assert _answers(world, packet) == (ERROR_ACKNOWLEDGEMENT,)
    assert _received(world) is None
    state = get_packet(world.nodes["hub"].store, packet.destination_client, 1, Direction.IN).state
    assert state is PacketState.RECEIVED


def test_each_payload_hears_of_the_one_error(world: World) -> None:
    packet = _send(world, b"scan", b"fail")
    _receive(world, packet)
    assert [a.outcome for _, _, a in world.relay_once("hub", "zj")] == [Outcome.DONE]
    view = get_packet(world.nodes["zj"].store, packet.source_client, 1, Direction.OUT)
    assert view.state is PacketState.ACKNOWLEDGED
    assert _heard(world) == ERROR_ACKNOWLEDGEMENT


def test_an_unknown_port_is_named_to_the_operator(world: World) -> None:
    packet = _send(world, b"x", port="nobody")
    _receive(world, packet)
    assert _answers(world, packet) == (ERROR_ACKNOWLEDGEMENT,)
    steps = trace_packet(world.nodes["hub"].store, packet.destination_client, 1, Direction.IN)
    assert Reason.PORT_NOT_FOUND.value in steps[-1].detail


@pytest.mark.parametrize("command", [b"text", b"long"])
def test_an_answer_that_is_none_is_the_error(world: World, command: bytes) -> None:
    packet = _send(world, command, port="odd")
    _receive(world, packet)
    assert _answers(world, packet) == (ERROR_ACKNOWLEDGEMENT,)
    name = f"received/{packet.destination_client}/1".encode()
    assert get_record(world.nodes["hub"].store, "odd", name) is None


def test_another_number_of_answers_than_payloads_is_told_to_no_contract(world: World) -> None:
    """Only a ledger that breaks the protocol writes it; the packet is closed all the same."""
    packet = _send(world, b"defer")
    _receive(world, packet)
    hub, client = world.nodes["hub"], packet.destination_client

    def answer_twice(tx: Transaction, now: int) -> None:
        row = tx.load(PacketRow, client, Direction.IN, 1)
        assert row is not None
        hub.channel.write_acknowledgement(tx, row, [b"one", b"two"], "", now)

    hub._groups.submit(answer_twice)
    assert [a.outcome for _, _, a in world.relay_once("hub", "zj")] == [Outcome.DONE]
    view = get_packet(world.nodes["zj"].store, packet.source_client, 1, Direction.OUT)
    assert (view.state, _heard(world)) == (PacketState.ACKNOWLEDGED, None)


def test_headers_are_taken_all_or_none(world: World) -> None:
    chain, client = world.chain("zj"), world.clients[("hub", "zj")]
    before = world.chain("hub").client(client).latest_height
    _send(world, b"one")
    headers = chain.headers(before, chain.latest_height())
    result = world.nodes["hub"].deliver([Delivery(client, (*headers, b"none"))])[0]
    assert (result.headers.reason, result.sent.outcome) == ("MALFORMED", Outcome.NOOP)
    assert world.chain("hub").client(client).latest_height == before


def test_only_the_port_that_deferred_may_answer(world: World) -> None:
    packet = _send(world, b"defer")
    _receive(world, packet)
    body = f"{packet.destination_client}\n1\nlater".encode()
    with pytest.raises(LianqiaoError) as err:
        world.nodes["hub"].call("other", "answer", body)
    assert err.value.reason is Reason.NOT_PERMITTED
    assert _answers(world, packet) == ()
    world.nodes["hub"].call("echo", "answer", body)
    assert _answers(world, packet) == (b"later",)


@pytest.mark.parametrize("answer", [b"", ERROR_ACKNOWLEDGEMENT])
def test_a_deferred_answer_keeps_the_rules_of_answers(world: World, answer: bytes) -> None:
    packet = _send(world, b"defer")
    _receive(world, packet)
    body = f"{packet.destination_client}\n1\n".encode() + answer
    with pytest.raises(LianqiaoError) as err:
        world.nodes["hub"].call("echo", "answer", body)
    assert err.value.reason is Reason.CONTRACT_REFUSED
    assert _answers(world, packet) == ()


def test_another_packet_under_a_received_sequence_is_refused(world: World) -> None:
    packet = _send(world, b"one")
    _receive(world, packet)
    other = replace(packet, payloads=(replace(packet.payloads[0], value=b"two"),))
    answer = _bare(world, "hub", "zj", Item(Step.RECEIVE, other))
    assert (answer.outcome, answer.reason) == (
        Outcome.REFUSED,
        Reason.COMMITMENT_MISMATCH.value,
    )


@pytest.mark.parametrize("step", [Step.RECEIVE, Step.ACKNOWLEDGE, Step.TIMEOUT, Step.EXPIRE])
def test_what_is_no_packet_is_refused_whatever_is_asked(world: World, step: Step) -> None:
    packet = _send(world, b"one")
    answer = _bare(world, "hub", "zj", Item(step, replace(packet, payloads=())))
    assert (answer.outcome, answer.reason) == (Outcome.REFUSED, Reason.INVALID_PACKET.value)


@pytest.mark.parametrize("step", [Step.ACKNOWLEDGE, Step.TIMEOUT])
def test_what_was_never_sent_is_closed_already(world: World, step: Step) -> None:
    """No open commitment: a no-op, and no proof is looked at."""
    sent = _send(world, b"one")
    never = replace(sent, sequence=99)
    _receive(world, sent)
    size = world.nodes["zj"].head.size
    assert _bare(world, "zj", "hub", Item(step, never, (b"x",))).outcome is Outcome.NOOP
    assert world.nodes["zj"].head.size == size
