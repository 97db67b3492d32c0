"""Headers between: a client too far behind is led there in steps that it can verify."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from relay.chain import ClientStatus, Delivery, DeliveryResult, PacketStep
from relay.deliveries import Deliveries, Ends
from relay.errors import LianqiaoError, NotFound, Reason
from relay.lane_report import SideReport
from relay.light.types import ClientState
from relay.local import LocalChain
from relay.node import Node
from relay.query import get_client
from relay.signing import CheckpointSigner, HighWaterMark
from relay.store import Store
from tests.light.skipping import ALGORITHM, SKIPPING, raw_header
from tests.world import TYPES, Clock, World, keys_of

LETTERS = "abcdefghijklmnopqrstuvwxyz"
TOP = 61
ENDS = Ends("x-0", "test-skipping-0")


def _names(height: int) -> str:
    """Four validators, of whom one is replaced every third height."""
    start = height // 3
    return "".join(LETTERS[(start + i) % len(LETTERS)] for i in range(4))


class Skipping:
    """A chain whose set moves on; any header of it can be had."""

    chain_id = "test-1"

    def __init__(self, missing: frozenset[int] = frozenset()) -> None:
        self.asked: list[int] = []
        self._missing = missing

    def latest_height(self) -> int:
        return TOP

    def headers(
        self, trusted_height: int, height: int, algorithm: str = "", witnesses: Sequence = ()
    ) -> Sequence[bytes]:
        self.asked.append(height)
        if height in self._missing:
            raise NotFound(Reason.HEIGHT_NOT_FOUND, "no such header")
        return [raw_header(height, _names(height), following=_names(height + 1))]

    def client(self, client_id: str) -> ClientStatus:
        raise NotImplementedError

    def packets(self, client_id: str, after: int, limit: int) -> Sequence[PacketStep]:
        return []

    def prove(self, paths: Sequence[bytes], height: int) -> bytes:
        raise NotImplementedError

    def submit(self, deliveries: Sequence[Delivery]) -> Sequence[DeliveryResult]:
        raise NotImplementedError


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A node that knows the skipping type and follows the chain from height 2."""
    world = World(tmp_path, Clock(1100))
    world.node("hub", "relay").close()
    signers = [(f"hub-{i}", key) for i, key in enumerate(keys_of("hub"))]
    made = Node(
        chain_id="hub",
        role="relay",
        store=Store(world.url_of(tmp_path / "hub.db")),
        signer=CheckpointSigner(signers, HighWaterMark(tmp_path / "hub.mark")),
        client_types={**TYPES, "test-skipping": SKIPPING},
        contracts={},
        clock=world.clock,
    )
    state = ClientState("test-skipping", "test-1", algorithm=ALGORITHM, trusting_period=10_000)
    made.create_client(state, raw_header(2, _names(2), following=_names(3)))
    yield made
    made.close()


def _update(node: Node, chain: Skipping, height: int = TOP) -> SideReport:
    report = SideReport()
    Deliveries(chain, LocalChain(node)).update(ENDS, height, report)
    return report


def _height(node: Node) -> int:
    return get_client(node.store, ENDS.destination).latest.height


def test_a_client_far_behind_is_led_there_by_halves(node: Node) -> None:
    chain = Skipping()
    report = _update(node, chain)
    assert _height(node) == TOP
    assert chain.asked[:3] == [TOP, TOP, (2 + TOP) // 2]
    assert report.deliveries < 40
    assert report.headers <= report.deliveries


def test_what_can_be_verified_at_once_costs_one_header(node: Node) -> None:
    report = _update(node, Skipping(), 4)
    assert (_height(node), report.deliveries, report.headers) == (4, 1, 1)


def test_a_header_between_that_is_not_to_be_had_stops_the_way(node: Node) -> None:
    with pytest.raises(LianqiaoError) as err:
        _update(node, Skipping(frozenset(range(3, TOP))))
    assert err.value.reason is Reason.HEIGHT_NOT_FOUND
    assert _height(node) == 2


def test_the_way_is_bounded(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.deliveries.MAX_BRIDGE", 4)
    with pytest.raises(LianqiaoError) as err:
        _update(node, Skipping())
    assert err.value.reason is Reason.LIMIT_EXCEEDED


class Broken(Skipping):
    """A set that nobody of the one before signs stands between."""

    def headers(
        self, trusted_height: int, height: int, algorithm: str = "", witnesses: Sequence = ()
    ) -> Sequence[bytes]:
        self.asked.append(height)
        names = "wxyz" if height >= 30 else _names(3)
        return [raw_header(height, names)]


def test_a_step_that_cannot_be_halved_is_refused(node: Node) -> None:
    with pytest.raises(LianqiaoError) as err:
        _update(node, Broken())
    assert err.value.reason is Reason.VALIDATOR_SET_MISMATCH
    assert _height(node) == 29
