"""OperatorService through its client: the node in one glance, and a relay's policy documents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import grpc
import pytest

from lianqiao.relay.v1 import operator_service_pb2 as pb
from lianqiao.relay.v1 import operator_service_pb2_grpc
from relay import canonical
from relay.chain import Item, Step
from relay.codec import pages
from relay.codec.undelivered import undelivered_from_pb
from relay.contracts.policy import MAX_POLICY_BYTES
from relay.contracts.recognition import CONTRACT
from relay.errors import Denied, Malformed, NotFound, Reason, Refused
from relay.light.types import ValidatorSet
from relay.outbox import NEVER, Outbox, Waiting
from relay.packet import Packet, Payload, packet_commitment
from relay.powers import Power
from relay.views import Cleared, Direction, LaneView
from tests.service.nodes import START, Running, join, run

PACKET = Packet(7, "a-0", "b-0", START, (Payload("p", "p", "v", "e", b"value"),))


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Running]:
    running = run(tmp_path / "relay", "east", "relay", {CONTRACT.port: CONTRACT})
    yield running
    running.stop()


def document(name: str = "east", version: int = 1, start: int = START) -> bytes:
    return canonical.encode(
        {
            "kind": "conceptmap",
            "name": name,
            "version": version,
            "effective_from": start,
            "provenance": "a test",
            "rows": [],
        }
    )


def test_status(relay) -> None:
    status = relay.client.status()
    assert (status.chain_id, status.role, status.ports) == ("east", "relay", ("recognition",))
    assert status.head == relay.client.head()
    assert (status.clients, status.packets_open) == (0, 0)
    assert status.version


def test_one_process_has_no_powers_to_change(relay) -> None:
    powers = [Power("ed25519", bytes([7]) * 32, 5)]
    with pytest.raises(Denied) as err:
        relay.client.propose_powers(powers)
    assert err.value.reason is Reason.NOT_PERMITTED
    with pytest.raises(Malformed) as bad:
        relay.client.propose_powers([])
    assert bad.value.reason is Reason.MALFORMED


def test_operators_are_those_of_a_replicated_chain(relay: Running) -> None:
    for asked in (
        lambda: relay.client.operators(),
        lambda: relay.client.propose_operators(relay.validators),
    ):
        with pytest.raises(Denied) as refused:
            asked()
        assert refused.value.reason is Reason.NOT_PERMITTED
    with pytest.raises(Malformed):
        relay.client.propose_operators(ValidatorSet(()))


def test_policies_are_loaded_shown_and_listed(relay) -> None:
    first, second = document(), document(version=2, start=START + 100)
    loaded = relay.client.load_policy(first)
    assert (loaded.kind, loaded.name, loaded.version) == ("conceptmap", "east", 1)
    assert loaded.digest == sha256(first).digest()
    assert loaded.in_force
    assert relay.client.load_policy(first) == loaded
    assert not relay.client.load_policy(second).in_force
    relay.clock.now = START + 100
    assert [(p.version, p.in_force) for p in relay.client.policies()] == [(1, False), (2, True)]
    assert relay.client.policy("conceptmap", "east", 2)[1] == second
    assert list(relay.client.policies("rules")) == []


def test_policies_page(relay) -> None:
    for n in range(5):
        relay.client.load_policy(document(f"p{n}"))
    stub = operator_service_pb2_grpc.OperatorServiceStub(relay.client._connection.channel)
    seen, token = [], ""
    while True:
        page = stub.ListPolicies(pb.ListPoliciesRequest(page_size=2, page_token=token), timeout=5)
        seen += [p.name for p in page.policies]
        token = page.next_page_token
        if not token:
            break
    assert seen == [f"p{n}" for n in range(5)]


def test_refusals(relay) -> None:
    relay.client.load_policy(document(version=2))
    with pytest.raises(Refused) as err:
        relay.client.load_policy(document(version=1))
    assert err.value.reason == Reason.CONFLICT
    with pytest.raises(NotFound) as missing:
        relay.client.policy("conceptmap", "east", 9)
    assert missing.value.reason == Reason.POLICY_NOT_FOUND
    for raw, reason in (
        (b"", Reason.MALFORMED),
        (b"{}", Reason.MALFORMED),
        (bytes(MAX_POLICY_BYTES + 1), Reason.LIMIT_EXCEEDED),
        (document()[:-1] + b" }", Reason.NOT_CANONICAL),
    ):
        with pytest.raises(Malformed) as bad:
            relay.client.load_policy(raw)
        assert bad.value.reason == reason
    stub = operator_service_pb2_grpc.OperatorServiceStub(relay.client._connection.channel)
    with pytest.raises(grpc.RpcError) as rpc:
        stub.ListPolicies(pb.ListPoliciesRequest(page_token="AQ"), timeout=5)
    assert relay.client._connection.error(rpc.value).data["field"] == "page_token"


def test_a_ledger_has_no_policies(one) -> None:
    for call in (
        lambda: one.client.load_policy(document()),
        lambda: one.client.policy("conceptmap", "east", 1),
        lambda: list(one.client.policies()),
    ):
        with pytest.raises(NotFound) as err:
            call()
        assert err.value.reason == Reason.PORT_NOT_FOUND


class Remembered:
    """Lanes that are only listed."""

    def __init__(self) -> None:
        self.lanes: dict[str, LaneView] = {}

    def add(self, lane: LaneView) -> None:
        self.lanes[lane.client_id] = lane

    def list(self) -> list[LaneView]:
        return [self.lanes[name] for name in sorted(self.lanes)]

    def clear(self, client_id: str, now: int, sequences: tuple[int, int]) -> Cleared:
        self.cleared = (client_id, now, sequences)
        return Cleared(1, 2, 3, True)


def test_a_relay_is_asked_to_take_packets_up_again(tmp_path: Path) -> None:
    lanes = Remembered()
    relay = run(tmp_path / "relay", "east", "relay", lanes=lanes)
    try:
        assert relay.client.clear_packets("checkpoint-0", 5, 9) == Cleared(1, 2, 3, True)
        assert lanes.cleared == ("checkpoint-0", relay.clock.now, (5, 9))
        relay.client.clear_packets("checkpoint-0")
        assert lanes.cleared[2] == (1, 2**63 - 1)
        with pytest.raises(Malformed) as err:
            relay.client.clear_packets("")
        assert err.value.reason is Reason.MALFORMED
    finally:
        relay.stop()


def test_what_was_not_delivered_comes_in_pages_with_its_reasons(tmp_path: Path) -> None:
    relay = run(tmp_path / "relay", "east", "relay", lanes=Remembered())
    try:
        outbox, packet = Outbox(relay.node.store), PACKET
        for client, side, step in (
            ("c-0", "in", Step.RECEIVE),
            ("c-0", "out", Step.ACKNOWLEDGE),
            ("c-1", "in", Step.ACKNOWLEDGE),
            ("c-1", "out", Step.EXPIRE),
        ):
            rows = [
                Waiting(cursor, Item(step, replace(packet, sequence=cursor)), 5, attempts=2,
                        not_before=NEVER if cursor == 2 else 77, reason="PRUNED: long ago")
                for cursor in (1, 2)
            ]  # fmt: skip
            outbox.save(client, side, waiting=rows)
        stub = operator_service_pb2_grpc.OperatorServiceStub(relay.client._connection.channel)
        seen, token = [], ""
        while True:
            request = pb.ListUndeliveredRequest(page_size=3, page_token=token)
            page = stub.ListUndelivered(request, timeout=5)
            seen += [undelivered_from_pb(one) for one in page.undelivered]
            token = page.next_page_token
            if not token:
                break
        assert seen == list(relay.client.undelivered())
        received, sent = Direction.IN, Direction.OUT
        assert [(u.client_id, u.sequence, u.direction, u.step) for u in seen] == [
            ("c-0", 1, received, Step.RECEIVE), ("c-0", 2, received, Step.RECEIVE),
            ("c-0", 1, received, Step.ACKNOWLEDGE), ("c-0", 2, received, Step.ACKNOWLEDGE),
            ("c-1", 1, sent, Step.ACKNOWLEDGE), ("c-1", 2, sent, Step.ACKNOWLEDGE),
            ("c-1", 1, sent, Step.EXPIRE), ("c-1", 2, sent, Step.EXPIRE),
        ]  # fmt: skip
        waits, dead = seen[:2]
        assert (waits.given_up, waits.next_attempt, waits.attempts) == (False, 77, 2)
        assert (dead.given_up, dead.next_attempt, dead.reason) == (True, 0, "PRUNED: long ago")
        assert dead.commitment == packet_commitment(replace(packet, sequence=2))
        assert list(relay.client.undelivered("c-1", 2)) == [seen[5], seen[7]]
        for bad in ("c-1 out x", "out 1", "c-0  1", "c-1 out 1 1"):
            listing = pages.filter_hash("ListUndelivered", "", 0)
            token = pages.encode_token(listing, bad.encode())
            with pytest.raises(grpc.RpcError) as rpc:
                stub.ListUndelivered(pb.ListUndeliveredRequest(page_token=token), timeout=5)
            assert relay.client._connection.error(rpc.value).data["field"] == "page_token"
    finally:
        relay.stop()


def test_a_ledger_delivers_nothing_that_it_could_list(one: Running) -> None:
    with pytest.raises(Denied) as err:
        list(one.client.undelivered())
    assert err.value.reason is Reason.NOT_PERMITTED


def test_a_lane_that_stands_still_says_why(tmp_path: Path) -> None:
    lanes = Remembered()
    stopped = LaneView("checkpoint-0", "lianqiao", "127.0.0.1:1", "CHAIN_UNREACHABLE", "no answer")
    lanes.lanes["checkpoint-0"] = stopped
    relay = run(tmp_path / "relay", "east", "relay", lanes=lanes)
    try:
        assert list(relay.client.lanes()) == [stopped]
    finally:
        relay.stop()


def test_a_relay_is_told_its_lanes(tmp_path: Path) -> None:
    relay = run(tmp_path / "relay", "east", "relay", lanes=Remembered())
    ledger = run(tmp_path / "ledger", "zj", "ledger", clock=relay.clock)
    try:
        here, _ = join(relay, ledger)
        relay.client.register_lane(here, ledger.address)
        relay.client.register_lane(here, ledger.address)
        assert list(relay.client.lanes()) == [LaneView(here, "lianqiao", ledger.address)]
        with pytest.raises(NotFound) as err:
            relay.client.register_lane("checkpoint-9", ledger.address)
        assert err.value.reason is Reason.CLIENT_NOT_FOUND
        with pytest.raises(Malformed) as malformed:
            relay.client.register_lane(here, "x" * 5000)
        assert malformed.value.reason is Reason.LIMIT_EXCEEDED
    finally:
        relay.stop()
        ledger.stop()


def test_lanes_come_in_pages(tmp_path: Path) -> None:
    lanes = Remembered()
    for number in range(600):
        lanes.add(LaneView(f"checkpoint-{number:03d}", "lianqiao", "127.0.0.1:1"))
    relay = run(tmp_path / "relay", "east", "relay", lanes=lanes)
    try:
        assert list(relay.client.lanes()) == lanes.list()
    finally:
        relay.stop()


def test_a_node_without_lanes_says_so(relay: Running) -> None:
    for call in (
        lambda: relay.client.register_lane("checkpoint-0", "127.0.0.1:1"),
        lambda: list(relay.client.lanes()),
        lambda: relay.client.clear_packets("checkpoint-0"),
    ):
        with pytest.raises(Denied) as err:
            call()
        assert err.value.reason is Reason.NOT_PERMITTED
