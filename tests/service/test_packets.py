"""PacketService through its client: a packet there and back, and what is told of it."""

from __future__ import annotations

import threading
from dataclasses import replace

import grpc
import pytest

from lianqiao.relay.v1 import packet_pb2, packet_service_pb2, packet_service_pb2_grpc
from relay.chain import Delivery, Item, Outcome, Step
from relay.errors import Exhausted, LianqiaoError, Malformed, NotFound, Reason, Unavailable
from relay.service.parts import MAX_WATCHERS
from relay.views import Direction, PacketState
from tests.service.nodes import carry, deliver, send


def test_a_packet_there_and_back(pair) -> None:
    ledger, relay, here, there = pair
    sequence = send(ledger, here, "hello")
    (sent,) = ledger.client.steps(here, 0, 10)
    assert (sent.step, sent.packet.sequence) == (Step.SEND, sequence)
    result = carry(ledger, relay, here)
    assert result.headers.outcome is Outcome.DONE
    assert [i.outcome for i in result.items] == [Outcome.DONE]
    assert [i.outcome for i in carry(ledger, relay, here).items] == [Outcome.NOOP]
    (got,) = relay.client.steps(there, 0, 10)
    assert (got.step, got.acknowledgements) == (Step.RECEIVE, (b"heard hello",))
    back = deliver(relay, ledger, [Item(Step.ACKNOWLEDGE, got.packet, got.acknowledgements)])
    assert [i.outcome for i in back.items] == [Outcome.DONE]
    view = ledger.client.packet(here, sequence, Direction.OUT)
    assert view.state is PacketState.ACKNOWLEDGED
    assert relay.client.packet(there, sequence, Direction.IN).state is PacketState.RECEIVED
    steps = ledger.client.trace(here, sequence, Direction.OUT)
    assert [s.step for s in steps] == [Step.SEND, Step.ACKNOWLEDGE]
    assert steps[0].verified_height == 0
    assert steps[1].verified_height > 0
    assert ledger.client.status().packets_open == 0


def test_what_was_sent_is_told_and_taken(pair) -> None:
    ledger, relay, here, there = pair
    height = ledger.client.head().size
    claims = ledger.client.sent(here, height, 2**63 - 1)
    assert ledger.client.sent(here, height, 0) == ledger.client.sent(here, 1, 1) == ()
    known = relay.client.client(there).latest.height
    headers = tuple(ledger.client.headers(known, height)) if known < height else ()
    proof = ledger.client.prove([claim.path for claim in claims], height)
    told = Delivery(there, headers, height, proof, (), claims)
    (result,) = relay.client.deliver([told])
    assert result.sent.outcome is Outcome.DONE
    assert relay.client.client(there).complete_time > 0
    (again,) = relay.client.deliver([told])
    assert again.sent.outcome is Outcome.NOOP


def test_a_refused_item_tells_its_reason(pair) -> None:
    ledger, relay, here, _ = pair
    send(ledger, here, "hello")
    (sent,) = ledger.client.steps(here, 0, 10)
    payload = replace(sent.packet.payloads[0], value=b"changed")
    forged = replace(sent.packet, payloads=(payload,))
    result = deliver(ledger, relay, [Item(Step.RECEIVE, forged)])
    assert [(i.outcome, i.reason) for i in result.items] == [
        (Outcome.REFUSED, Reason.INVALID_PROOF)
    ]


def test_lists_page_and_filter(pair) -> None:
    ledger, relay, here, _ = pair
    for n in range(5):
        send(ledger, here, f"n{n}")
    carry(ledger, relay, here)
    stub = packet_service_pb2_grpc.PacketServiceStub(ledger.client._connection.channel)

    def ask(**fields):
        request = packet_service_pb2.ListPacketsRequest(page_size=2, **fields)
        return stub.ListPackets(request, timeout=5)

    seen, token = [], ""
    while True:
        page = ask(page_token=token, client_id=here)
        seen += [p.packet.sequence for p in page.packets]
        token = page.next_page_token
        if not token:
            break
    assert seen == [1, 2, 3, 4, 5]
    assert [p.packet.sequence for p in ledger.client.packets(state=PacketState.SENT)] == seen
    assert list(ledger.client.packets(state=PacketState.RECEIVED)) == []
    token = ask(client_id=here).next_page_token
    with pytest.raises(grpc.RpcError) as err:
        ask(page_token=token)
    assert ledger.client._connection.error(err.value).data["field"] == "page_token"
    steps = stub.ListSteps(
        packet_service_pb2.ListStepsRequest(client_id=here, page_size=3), timeout=5
    )
    rest = stub.ListSteps(
        packet_service_pb2.ListStepsRequest(
            client_id=here, page_size=3, page_token=steps.next_page_token
        ),
        timeout=5,
    )
    assert [s.packet.sequence for s in (*steps.steps, *rest.steps)] == [1, 2, 3, 4, 5]
    after = ledger.client.steps(here, steps.steps[-1].cursor, 100)
    assert [s.packet.sequence for s in after] == [4, 5]


def test_what_is_unknown_is_not_found(pair) -> None:
    ledger, _, here, _ = pair
    for call in (
        lambda: ledger.client.packet(here, 1, Direction.OUT),
        lambda: ledger.client.trace(here, 1, Direction.IN),
    ):
        with pytest.raises(NotFound) as err:
            call()
        assert err.value.reason == Reason.PACKET_NOT_FOUND
    for call in (
        lambda: ledger.client.steps("checkpoint-9", 0, 10),
        lambda: list(ledger.client.watch("checkpoint-9", timeout=5)),
        lambda: ledger.client.deliver([Delivery("checkpoint-9")]),
    ):
        with pytest.raises(NotFound) as err:
            call()
        assert err.value.reason == Reason.CLIENT_NOT_FOUND


def test_malformed_requests_change_nothing(pair) -> None:
    ledger, _, here, _ = pair
    stub = packet_service_pb2_grpc.PacketServiceStub(ledger.client._connection.channel)
    size = ledger.client.head().size
    pb = packet_service_pb2
    key = packet_pb2.PacketKey(client_id=here, sequence=1)
    for method, request, field in (
        (stub.Deliver, pb.DeliverRequest(), "deliveries"),
        (
            stub.Deliver,
            pb.DeliverRequest(
                deliveries=[packet_pb2.Delivery(client_id=here, items=[packet_pb2.Item(step=77)])]
            ),
            "deliveries[0].items[0].step",
        ),
        (stub.ListSteps, pb.ListStepsRequest(client_id=here, page_size=-1), "page_size"),
        (stub.ListSteps, pb.ListStepsRequest(client_id=here, after_cursor=2**63), "after_cursor"),
        (stub.ListSteps, pb.ListStepsRequest(), "client_id"),
        (stub.GetPacket, pb.GetPacketRequest(), "key"),
        (stub.GetPacket, pb.GetPacketRequest(key=key), "key.direction"),
        (stub.TracePacket, pb.TracePacketRequest(), "key"),
        (stub.ListPackets, pb.ListPacketsRequest(state=99), "state"),
        (stub.ListPackets, pb.ListPacketsRequest(page_token="no"), "page_token"),
    ):
        with pytest.raises(grpc.RpcError) as err:
            method(request, timeout=5)
        error = ledger.client._connection.error(err.value)
        assert isinstance(error, Malformed)
        assert (error.reason, error.data["field"]) == (Reason.MALFORMED, field)
    with pytest.raises(grpc.RpcError) as err:
        list(stub.WatchPackets(pb.WatchPacketsRequest(), timeout=5))
    assert ledger.client._connection.error(err.value).data["field"] == "client_id"
    assert ledger.client.head().size == size


def test_a_watch_resumes_and_beats(pair) -> None:
    ledger, _, here, _ = pair
    send(ledger, here, "before")
    told = ledger.client.watch(here, timeout=20)
    cursor, step = next(told)
    assert step is not None
    assert step.packet.payloads[0].value == b"before"
    timer = threading.Timer(0.2, send, (ledger, here, "while"))
    timer.start()
    later, step = next(told)
    assert step is not None
    assert (step.packet.payloads[0].value, later > cursor) == (b"while", True)
    timer.join()
    ledger.clock.now += 6
    assert next(told) == (later, None)
    told.close()
    _, step = next(ledger.client.watch(here, after=cursor, timeout=5))
    assert step is not None
    assert step.packet.payloads[0].value == b"while"


def test_no_more_watches_than_there_is_room_for(pair) -> None:
    ledger, _, here, _ = pair
    send(ledger, here, "x")
    watches = [ledger.client.watch(here, timeout=30) for _ in range(MAX_WATCHERS)]
    for watch in watches:
        next(watch)
    with pytest.raises(Exhausted) as err:
        next(ledger.client.watch(here, timeout=5))
    assert err.value.reason == Reason.LIMIT_EXCEEDED
    for watch in watches:
        watch.close()


def test_a_stopping_node_ends_its_watches(pair) -> None:
    ledger, _, here, _ = pair
    send(ledger, here, "x")
    watch = ledger.client.watch(here, timeout=30)
    next(watch)
    stopper = threading.Thread(target=ledger.server.stop, args=(5,))
    stopper.start()
    with pytest.raises(Unavailable) as err:
        next(watch)
    assert err.value.reason == Reason.SHUTTING_DOWN
    stopper.join()


def test_a_fault_of_ours_shows_nothing(pair, monkeypatch) -> None:
    ledger = pair[0]
    stub = packet_service_pb2_grpc.PacketServiceStub(ledger.client._connection.channel)
    monkeypatch.delattr(ledger.node.store, "engine")
    with pytest.raises(grpc.RpcError) as err:
        stub.ListPackets(packet_service_pb2.ListPacketsRequest(), timeout=5)
    error = ledger.client._connection.error(err.value)
    assert type(error) is LianqiaoError
    assert error.reason == Reason.INTERNAL
    assert "engine" not in error.detail
