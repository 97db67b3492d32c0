"""The adapter for nodes over gRPC: limits of one answer, and whatever a transport can do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from adapters.lianqiao.chain import LianqiaoChain, _parts, connect
from lianqiao.relay.v1 import client_service_pb2, client_service_pb2_grpc
from relay.chain import MAX_BATCH, Delivery, Item, Step
from relay.errors import LianqiaoError, Reason, Unavailable
from relay.light.checkpoint_client import CHECKPOINT
from relay.light.misbehaviour import Evidence, encode_evidence
from relay.local import LocalChain
from relay.packet import MAX_PAYLOAD_BYTES, Packet
from relay.query import get_packet, list_packets
from relay.server import Limits, RunningServer, start
from relay.store import Direction, PacketState, Store
from tests.echo import ECHO
from tests.refusals import refused
from tests.witnessing import ask, put, witness_of
from tests.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    made.node("zj", "ledger", [ECHO])
    made.node("hub", "relay", [ECHO])
    made.connect("zj", "hub")
    yield made
    made.close()


def _served(world: World, name: str, **limits: int) -> tuple[RunningServer, LianqiaoChain]:
    server = start(world.nodes[name], clock=world.clock, limits=Limits(**limits))
    chain = connect({"address": f"127.0.0.1:{server.port}"})
    assert isinstance(chain, LianqiaoChain)
    return server, chain


def _send(world: World, on: str, to: str, value: bytes) -> None:
    head = f"{world.clients[on, to]}\n{world.clock() + 600}\n".encode()
    world.nodes[on].call("echo", "send", head + value)


def test_packets_go_both_ways_over_grpc(world: World) -> None:
    """Both ends of the lane are reached over the wire, the local one too."""
    server, chain = _served(world, "zj")
    relayer = world.relayer("hub")
    relayer.add_lane(world.clients["hub", "zj"], chain)
    for on, to in (("zj", "hub"), ("hub", "zj")):
        for i in range(20):
            _send(world, on, to, b"%d" % i)
    world.settle("hub")
    for on, to in (("zj", "hub"), ("hub", "zj")):
        for i in range(1, 21):
            view = get_packet(world.nodes[on].store, world.clients[on, to], i, Direction.OUT)
            assert view.state is PacketState.ACKNOWLEDGED
    chain.close()
    server.stop(0)


def test_a_node_that_restarts_is_found_again(world: World) -> None:
    server, chain = _served(world, "zj")
    address = f"127.0.0.1:{server.port}"
    assert chain.latest_height() == world.nodes["zj"].head.size
    server.stop(0)
    with pytest.raises(LianqiaoError) as err:
        chain.latest_height()
    assert err.value.reason is Reason.CHAIN_UNREACHABLE
    again = start(world.nodes["zj"], listen=address, clock=world.clock)
    assert _within(5, chain.latest_height) == world.nodes["zj"].head.size
    chain.close()
    again.stop(0)


def test_the_next_replica_is_asked_where_one_does_not_answer(world: World) -> None:
    """Two servers of one node, as the replicas of a chain are: each is gone for a while."""
    first, second = (start(world.nodes["zj"], clock=world.clock) for _ in range(2))
    at = [f"127.0.0.1:{server.port}" for server in (first, second)]
    chain = connect({"address": at[0], "replicas": f"{at[1]},{at[0]}"})
    relayer = world.relayer("hub")
    relayer.add_lane(world.clients["hub", "zj"], chain)
    _carries(world, b"by the first")
    first.stop(0)
    _carries(world, b"by the second")
    first = start(world.nodes["zj"], listen=at[0], clock=world.clock)
    _carries(world, b"still by the second")
    second.stop(0)
    _within(5, chain.latest_height)
    _carries(world, b"by the first again")
    first.stop(0)
    refused(Reason.CHAIN_UNREACHABLE, chain.latest_height)
    chain.close()


def _carries(world: World, value: bytes) -> None:
    """Both ways, to the end."""
    for on, to in (("zj", "hub"), ("hub", "zj")):
        _send(world, on, to, value)
    world.settle("hub")
    for on, to in (("zj", "hub"), ("hub", "zj")):
        packets = list_packets(world.nodes[on].store, client_id=world.clients[on, to])
        sent = [view for _, view in packets if view.direction is Direction.OUT]
        assert {view.state for view in sent} == {PacketState.ACKNOWLEDGED}


def test_a_replica_of_another_chain_is_not_asked(world: World) -> None:
    server, hub = (start(world.nodes[name], clock=world.clock) for name in ("zj", "hub"))
    addresses = {"address": f"127.0.0.1:{server.port}", "replicas": f"127.0.0.1:{hub.port}"}
    chain = connect(addresses)
    assert chain.latest_height() == world.nodes["zj"].head.size
    server.stop(0)
    error = refused(Reason.CHAIN_UNREACHABLE, chain.latest_height)
    assert "answers for hub, and not for zj" in error.detail
    chain.close()
    hub.stop(0)


def test_what_one_replica_refuses_is_not_asked_of_the_next(world: World) -> None:
    """There is none at the second address: to ask it would be CHAIN_UNREACHABLE."""
    server = start(world.nodes["zj"], clock=world.clock)
    chain = connect({"address": f"127.0.0.1:{server.port}", "replicas": "127.0.0.1:1"})
    refused(Reason.CLIENT_NOT_FOUND, chain.client, "checkpoint-99")
    chain.close()
    server.stop(0)


@pytest.mark.parametrize(
    "replicas", ["127.0.0.1", "127.0.0.1:0", ",".join(f"127.0.0.1:{n}" for n in range(1, 17))]
)
def test_replicas_are_addresses_and_few(replicas: str) -> None:
    refused(Reason.CONFIG_INVALID, connect, {"address": "127.0.0.1:7101", "replicas": replicas})


def _within(seconds: int, call: Callable[[], int]) -> int:
    until = time.monotonic() + seconds
    while True:
        try:
            return call()
        except Unavailable:
            assert time.monotonic() < until
            time.sleep(0.05)


def test_a_step_is_waited_for(world: World) -> None:
    server, chain = _served(world, "zj")
    client_id = world.clients["zj", "hub"]
    assert not chain.wait(client_id, 0, 0.2)
    threading.Timer(0.1, _send, (world, "zj", "hub", b"x")).start()
    start_time = time.monotonic()
    assert chain.wait(client_id, 0, 10)
    assert time.monotonic() - start_time < 5
    assert chain.wait(client_id, 0, 10)
    (step,) = chain.packets(client_id, 0, 10)
    assert not chain.wait(client_id, step.cursor, 0.2)
    with pytest.raises(LianqiaoError) as err:
        chain.wait("checkpoint-99", 0, 1)
    assert err.value.reason is Reason.CLIENT_NOT_FOUND
    chain.close()
    server.stop(0)


@pytest.mark.slow
def test_a_relayer_runs_over_grpc_and_rests(world: World) -> None:
    """As `serve` runs it: threads, a real clock for its pace, a remote node that tells of steps."""
    server, chain = _served(world, "zj")
    relayer, stop, hub = world.relayer("hub"), threading.Event(), world.nodes["hub"]
    relayer.add_lane(world.clients["hub", "zj"], chain)

    def wait(seconds: float) -> object:
        return hub.wait(hub.head.size, seconds)

    thread = threading.Thread(target=relayer.run, args=(stop, world.clock, wait))
    thread.start()
    for pause in (0.0, 1.5):  # while it is busy, and while it rests
        time.sleep(pause)
        for on, to in (("zj", "hub"), ("hub", "zj")):
            _send(world, on, to, b"x")
            store, client_id = world.nodes[on].store, world.clients[on, to]
            _acknowledged(store, client_id)
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
    chain.close()
    server.stop(0)


def _acknowledged(store: Store, client_id: str) -> None:
    until = time.monotonic() + 10
    while list_packets(store, client_id=client_id, state=PacketState.SENT):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_closed_connection_is_a_chain_that_cannot_be_reached(world: World) -> None:
    server, chain = _served(world, "zj")
    chain.close()
    with pytest.raises(LianqiaoError) as err:
        chain.latest_height()
    assert err.value.reason is Reason.CHAIN_UNREACHABLE
    server.stop(0)


def test_large_payloads_come_in_more_answers(world: World) -> None:
    for _ in range(12):
        _send(world, "zj", "hub", bytes(MAX_PAYLOAD_BYTES))
    server, chain = _served(world, "zj", message_bytes=1024 * 1024)
    steps = list(chain.packets(world.clients["zj", "hub"], 0, 1000))
    assert 1 <= len(steps) <= 3
    while page := chain.packets(world.clients["zj", "hub"], steps[-1].cursor, 1000):
        steps += page
    assert [s.packet.sequence for s in steps] == list(range(1, 13))
    chain.close()
    server.stop(0)


def test_large_payloads_come_in_more_answers_whoever_else_is_away(world: World) -> None:
    for _ in range(12):
        _send(world, "zj", "hub", bytes(MAX_PAYLOAD_BYTES))
    server, alone = _served(world, "zj", message_bytes=1024 * 1024)
    chain = connect({"address": f"127.0.0.1:{server.port}", "replicas": "127.0.0.1:1"})
    assert 1 <= len(chain.packets(world.clients["zj", "hub"], 0, 1000)) <= 3
    for one in (alone, chain):
        one.close()
    server.stop(0)


def test_an_answer_that_never_fits_is_told(world: World) -> None:
    _send(world, "zj", "hub", bytes(MAX_PAYLOAD_BYTES))
    server, chain = _served(world, "zj", message_bytes=64 * 1024)
    with pytest.raises(LianqiaoError) as err:
        chain.packets(world.clients["zj", "hub"], 0, 1000)
    assert err.value.reason is Reason.LIMIT_EXCEEDED
    chain.close()
    server.stop(0)


def test_many_deliveries_take_several_calls() -> None:
    item = Item(Step.RECEIVE, Packet(1, "a", "b", 1, ()))

    def sizes(*items: int) -> list[list[int]]:
        deliveries = [Delivery("c", items=(item,) * count) for count in items]
        return [[len(d.items) for d in part] for part in _parts(deliveries)]

    assert sizes() == []
    assert sizes(MAX_BATCH, 1) == [[MAX_BATCH], [1]]
    assert sizes(600, 400, 400, 600, 1) == [[600, 400], [400, 600], [1]]
    assert [len(part) for part in sizes(*[1] * 130)] == [64, 64, 2]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"address": ""},
        {"address": "localhost"},
        {"address": ":7101"},
        {"address": "host:"},
        {"address": "host:0"},
        {"address": "host:65536"},
        {"address": "host:７１０１"},
        {"address": "host\n:7101"},
        {"address": "h" * 300 + ":7101"},
        {"address": "127.0.0.1:7101", "adress": "x"},
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, str]) -> None:
    with pytest.raises(LianqiaoError) as err:
        connect(settings)
    assert err.value.reason is Reason.CONFIG_INVALID


def test_what_its_clients_were_shown_is_told_over_grpc(world: World) -> None:
    """And proof of two histories is taken there, or refused for its reason."""
    server, chain = _served(world, "zj")
    client_id = world.clients["zj", "hub"]
    (head,) = chain.verified_heads({"hub/0", "elsewhere/0"})
    assert (head.client_id, head.frozen) == (client_id, False)
    assert list(world.chain("zj").verified_heads({"hub/0"})) == [head]
    assert chain.verified_heads({"hub/1"}) == []
    with pytest.raises(LianqiaoError) as err:
        chain.accuse(client_id, encode_evidence(Evidence(head.header, head.header)))
    assert err.value.reason is Reason.NOT_MISBEHAVIOUR
    server.stop(0)
    with pytest.raises(LianqiaoError) as err:
        chain.verified_heads({"hub/0"})
    assert err.value.reason is Reason.CHAIN_UNREACHABLE
    chain.close()


def test_what_its_node_co_signed_is_told_over_grpc(world: World) -> None:
    """Beside what its clients have verified, and of that chain alone."""
    witness, hub = witness_of(world, "zj"), world.nodes["hub"]
    server = start(world.nodes["zj"], clock=world.clock, witness=witness)
    chain = connect({"address": f"127.0.0.1:{server.port}"})
    assert isinstance(chain, LianqiaoChain)
    assert [head.cosigned for head in chain.verified_heads({"hub/0"})] == [False]
    base = CHECKPOINT.decode_header(chain.verified_heads({"hub/0"})[0].header).height
    head = put(hub, "a")
    assert ask(witness, hub, world.clock.now, old=base).lines
    local = LocalChain(world.nodes["zj"], witness)
    verified, cosigned = chain.verified_heads({"hub/0"})
    assert [verified, cosigned] == list(local.verified_heads({"hub/0"}))
    assert (cosigned.client_id, cosigned.cosigned) == (verified.client_id, True)
    shown = CHECKPOINT.decode_header(cosigned.header)
    assert (shown.height, shown.body) == (head.size, head.body)
    assert CHECKPOINT.decode_header(verified.header).height < head.size
    assert local.verified_heads({"elsewhere/0"}) == chain.verified_heads({"elsewhere/0"}) == []
    chain.close()
    server.stop(0)


def test_the_next_replica_is_asked_where_one_is_full(world: World) -> None:
    """Strangers may keep one busy; the lane goes on."""
    busy = start(world.nodes["zj"], clock=world.clock, limits=Limits(threads=1, waiting=0))
    free = start(world.nodes["zj"], clock=world.clock)
    first, second = (f"127.0.0.1:{server.port}" for server in (busy, free))
    said = threading.Event()
    channel = grpc.insecure_channel(first)
    silent = channel.stream_unary("/lianqiao.relay.v1.OperatorService/GetStatus")

    def stay_silent() -> grpc.Future:
        return silent.future((b"" for _ in range(1) if said.wait()), timeout=600)

    call = stay_silent()
    alone = connect({"address": first})
    until = time.monotonic() + 30
    full = False
    while not full and time.monotonic() < until:
        try:
            alone.latest_height()
        except LianqiaoError as err:
            full = err.reason is Reason.LIMIT_EXCEEDED
        if call.done():  # it came second, and was itself refused
            call = stay_silent()
    assert full
    chain = connect({"address": first, "replicas": second})
    assert chain.latest_height() == world.nodes["zj"].head.size
    said.set()
    call.cancel()
    for one in (alone, chain, channel):
        one.close()
    for server in (busy, free):
        server.stop(0)


class _Endless(client_service_pb2_grpc.ClientServiceServicer):
    """A node that always has one page more, and nothing on it."""

    def ListClients(
        self, request: client_service_pb2.ListClientsRequest, context: grpc.ServicerContext
    ) -> client_service_pb2.ListClientsResponse:
        self.pages = getattr(self, "pages", 0) + 1
        token = "more" if self.pages < 100_000 else ""
        return client_service_pb2.ListClientsResponse(next_page_token=token)


def test_a_listing_without_an_end_holds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for in the turn of some other chain's lane."""
    monkeypatch.setattr("adapters.lianqiao.chain.LISTING_SECONDS", 0.2)
    server = grpc.server(ThreadPoolExecutor(1))
    client_service_pb2_grpc.add_ClientServiceServicer_to_server(_Endless(), server)
    chain = connect({"address": f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"})
    assert isinstance(chain, LianqiaoChain)
    server.start()
    refused(Reason.CHAIN_UNREACHABLE, chain.verified_heads, {"hub/0"})
    chain.close()
    server.stop(0)
