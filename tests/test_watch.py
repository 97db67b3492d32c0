"""A chain that shows two histories is caught by whoever sees both, and everyone is told."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.cometbft.light.block import Timestamp
from adapters.memory.chain import MemoryChain
from relay.fsck import fsck
from relay.light.checkpoint_client import CHECKPOINT
from relay.light.misbehaviour import decode_evidence
from relay.light.types import ClientState
from relay.query import get_client
from relay.watch import COMPARE_SECONDS, KnowingChain
from tests.adapters.cometbft.maker import STATE as COMETBFT_STATE
from tests.adapters.cometbft.maker import raw_header
from tests.echo import ECHO
from tests.world import TYPES, Clock, World

ZJ, SH, HUB = "zj", "sh", "hub"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Two ledgers and a relay."""
    made = World(tmp_path)
    made.node(ZJ, "ledger", [ECHO])
    made.node(SH, "ledger", [ECHO])
    made.node(HUB, "relay", [ECHO])
    made.connect(ZJ, HUB)
    made.connect(SH, HUB)
    made.settle(HUB)
    yield made
    for node in made.nodes.values():
        assert fsck(node.store, TYPES, node.origin)[1] == []
    made.close()


@pytest.fixture
def fork(world: World) -> Iterator[World]:
    """The same keys of every node with another history."""
    (world.path / "fork").mkdir()
    other = World(world.path / "fork", clock=Clock(world.clock.now))
    for name in (ZJ, HUB):
        other.node(name, "relay", [ECHO])
    yield other
    other.close()


def _put(world: World, on: str, text: str) -> None:
    world.nodes[on].call("echo", "put", f"{text}\n\nx".encode())


def _grow(world: World, on: str, size: int) -> None:
    while world.nodes[on].head.size < size:
        _put(world, on, f"entry-{world.nodes[on].head.size}")


def _newest(world: World, on: str) -> tuple[ClientState, bytes]:
    node = world.nodes[on]
    return ClientState("checkpoint", node.origin), world.chain(on).headers(0, node.head.size)[-1]


def _frozen(world: World, on: str, client_id: str) -> bool:
    return get_client(world.nodes[on].store, client_id).frozen


def _look(world: World, times: int = 1) -> None:
    for _ in range(times):
        world.clock.advance(COMPARE_SECONDS)
        world.tick(HUB)


def _second_client(world: World, fork: World) -> str:
    """The relay follows the ledger by another client too, which was shown the other history."""
    size = get_client(world.nodes[HUB].store, world.clients[HUB, ZJ]).latest.height
    _grow(fork, ZJ, size)
    state, header = _newest(fork, ZJ)
    return world.nodes[HUB].create_client(state, header)


def test_two_lanes_that_are_shown_two_histories_find_out(world: World, fork: World) -> None:
    """Each client accepts what it is shown; the relayer compares them."""
    second = _second_client(world, fork)
    _look(world)
    assert not _frozen(world, HUB, world.clients[HUB, SH])
    for client_id in (world.clients[HUB, ZJ], second):
        assert _frozen(world, HUB, client_id)
    ((chain_id, raw),) = world.evidence
    assert chain_id == "zj/0"
    heights = [CHECKPOINT.decode_header(h).height for h in
               (decode_evidence(raw).first, decode_evidence(raw).second)]  # fmt: skip
    assert len(set(heights)) == 1


@pytest.mark.parametrize(("ahead", "seconds"), [(0, 0), (3, -3600)])
def test_a_header_on_its_way_is_compared_with_every_client(
    world: World, fork: World, ahead: int, seconds: int
) -> None:
    """Another client has verified another header of that height, or a greater height of an
    earlier time; neither lane has anything to refuse."""
    body = f"{world.clients[ZJ, HUB]}\n{world.clock() + 600}\nhello".encode()
    world.nodes[ZJ].call("echo", "send", body)
    fork.close()
    earlier = World(world.path / "earlier", clock=Clock(world.clock.now + seconds))
    earlier.path.mkdir()
    earlier.node(ZJ, "relay", [ECHO])
    _grow(earlier, ZJ, world.nodes[ZJ].head.size + ahead)
    state, header = _newest(earlier, ZJ)
    earlier.close()
    second = world.nodes[HUB].create_client(state, header)
    world.relayer(HUB)._next_look = 1 << 40
    world.tick(HUB)
    assert _frozen(world, HUB, second)
    assert _frozen(world, HUB, world.clients[HUB, ZJ])
    assert len(world.evidence) == 1


@pytest.mark.parametrize(
    ("seconds", "nanos", "refuted"),
    [(-1, 500, True), (0, 499, True), (0, 500, True), (0, 501, False), (1, 0, False)],
)
def test_times_are_compared_as_clients_compare_them(
    tmp_path: Path, seconds: int, nanos: int, refuted: bool
) -> None:
    """To the nanosecond, and the same time where the type has no equal times."""
    world = World(tmp_path)
    hub = world.node(HUB, "relay")
    lower = raw_header(5, "abcd", time=Timestamp(world.clock.now, 500))
    upper = raw_header(9, "abcd", time=Timestamp(world.clock.now + seconds, nanos))
    clients = [hub.create_client(COMETBFT_STATE, raw) for raw in (lower, upper)]
    world.relayer(HUB).watch.carried(clients[1], [upper], refused=False)
    assert [_frozen(world, HUB, client_id) for client_id in clients] == [refuted, refuted]
    assert len(world.evidence) == int(refuted)
    assert fsck(hub.store, TYPES, hub.origin)[1] == []
    world.close()


def test_a_ledger_that_shows_another_history_to_others(world: World, fork: World) -> None:
    """The other relay's client of the ledger was shown another head than this relay's."""
    world.connect(SH, ZJ)
    client_id = world.clients[SH, ZJ]
    size = get_client(world.nodes[SH].store, client_id).latest.height
    _grow(fork, ZJ, size)
    _put(fork, ZJ, "other")
    _put(world, ZJ, "own")
    status = world.chain(SH).client(client_id)
    state, header = _newest(fork, ZJ)
    forked = world.nodes[SH].create_client(state, header)
    assert status.latest_height < CHECKPOINT.decode_header(header).height
    _grow(world, ZJ, CHECKPOINT.decode_header(header).height)
    _look(world, 2)
    assert _frozen(world, SH, forked)
    assert _frozen(world, SH, client_id)
    assert _frozen(world, HUB, world.clients[HUB, ZJ])
    assert len(world.evidence) == 1


def test_a_relay_whose_keys_showed_a_ledger_another_history(world: World, fork: World) -> None:
    """Found by comparing what the ledgers have verified of this very relay."""
    _grow(fork, HUB, 5)
    state, header = _newest(fork, HUB)
    forked = world.nodes[ZJ].create_client(state, header)
    _look(world)
    assert _frozen(world, ZJ, forked)
    for name in (ZJ, SH):
        assert _frozen(world, name, world.clients[name, HUB])
    assert [chain_id for chain_id, _ in world.evidence] == ["hub/0"]


def test_what_agrees_freezes_nothing_and_rests(world: World) -> None:
    world.connect(SH, ZJ)
    state, header = _newest(world, ZJ)
    world.nodes[HUB].create_client(state, header)
    before = world.sizes()
    _look(world, 5)
    assert world.sizes() == before
    assert world.evidence == []
    assert not any(_frozen(world, HUB, c) for c in (world.clients[HUB, ZJ], "checkpoint-2"))


def test_two_headers_that_nobody_signed_are_no_evidence(world: World) -> None:
    liar = _Liar(world.networks[SH])
    world.relayer(HUB).add_lane(world.clients[HUB, SH], liar)
    _, header = _newest(world, ZJ)
    decoded = CHECKPOINT.decode_header(header)
    liar.header = CHECKPOINT.encode_header(replace(decoded, signatures=decoded.signatures[:1]))
    _look(world, 3)
    assert world.evidence == []
    assert not _frozen(world, HUB, world.clients[HUB, ZJ])


class _Liar(MemoryChain):
    """Says that its clients have verified what they have not."""

    header = b""

    def verified_heads(self, chain_ids: Collection[str]) -> list:  # type: ignore[type-arg]
        heads = super().verified_heads(chain_ids)
        lies = [self.header, b"", b"no header", bytes(1000)]
        return [replace(h, header=lie) for h in heads for lie in lies]


def test_a_chain_out_of_reach_is_looked_at_later(world: World, fork: World) -> None:
    second = _second_client(world, fork)
    world.networks[ZJ].reachable = False
    world.tick(HUB)
    _look(world, 2)
    world.networks[ZJ].reachable = True
    _look(world, 3)
    assert _frozen(world, HUB, second)


def test_what_knows_nothing_of_others_is_not_asked(world: World) -> None:
    assert isinstance(world.networks[ZJ], KnowingChain)
    assert isinstance(world.chain(ZJ), KnowingChain)
    bare = MemoryChain(_Bare())  # type: ignore[arg-type]
    assert bare.verified_heads({"zj/0"}) == ()
    bare.accuse("checkpoint-0", b"")


class _Bare:
    chain_id = "bare"
