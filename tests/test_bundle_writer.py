"""Bundles made by a node verify offline with its trust file, from either end and at any age."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay import bundle_writer
from relay.bundle import ClaimKind, decode_bundle, verify_bundle
from relay.bundle_writer import BundleWriter
from relay.chain import Chain, Item, Step
from relay.errors import LianqiaoError, Reason
from relay.light.checkpoint_client import CHECKPOINT
from relay.light.types import DAY, ClientState
from relay.query import get_packet
from relay.store import Direction
from relay.trust import Anchor, Trust, TrustedChain
from tests.echo import ECHO
from tests.refusals import refused
from tests.world import TYPES, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.node("zj", "ledger", [ECHO])
    made.node("hub", "relay", [ECHO])
    made.connect("zj", "hub")
    for round_ in range(3):
        for n in range(5):
            _send(made, f"value {round_} {n}")
        made.relay_once("zj", "hub")
        made.relay_once("hub", "zj")
    return made


def _send(world: World, value: str, timeout: int = 600) -> None:
    client_id = world.clients[("zj", "hub")]
    body = f"{client_id}\n{world.clock() + timeout}\n{value}".encode()
    world.nodes["zj"].call("echo", "send", body)


def _kinds(world: World, raw: bytes, trust: Trust) -> set[tuple[str, ClaimKind]]:
    report = verify_bundle(raw, trust, world.clock(), TYPES)
    return {(hop.chain, claim.kind) for hop in report.hops for claim in hop.claims}


@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize("sequence", [1, 8, 15])
def test_both_ends_show_the_same_story(world: World, online: bool, sequence: int) -> None:
    for name, other, direction in (("zj", "hub", Direction.OUT), ("hub", "zj", Direction.IN)):
        remote = world.chain(other) if online else None
        writer = BundleWriter(world.nodes[name], lambda _, chain=remote: chain)
        raw = writer.bundle([(world.clients[(name, other)], sequence, direction)])
        kinds = _kinds(world, raw, writer.trust())
        assert ("zj/0", ClaimKind.COMMITMENT) in kinds
        assert ("hub/0", ClaimKind.ACKNOWLEDGEMENT) in kinds


def test_a_chain_that_can_be_asked_gives_the_shorter_way(world: World) -> None:
    key = (world.clients[("hub", "zj")], 15, Direction.IN)
    chain = world.chain("zj")
    asked = BundleWriter(world.nodes["hub"], lambda _: chain).bundle([key])
    kept = BundleWriter(world.nodes["hub"]).bundle([key])
    assert len(asked) < len(kept)


def test_a_chain_that_does_not_answer_is_done_without(world: World) -> None:
    class Silent:
        def headers(self, *_: object) -> list[bytes]:
            raise LianqiaoError(Reason.CHAIN_UNREACHABLE, "down")

    silent: Chain = Silent()  # type: ignore[assignment]
    writer = BundleWriter(world.nodes["hub"], lambda _: silent)
    raw = writer.bundle([(world.clients[("hub", "zj")], 15, Direction.IN)])
    assert _kinds(world, raw, writer.trust())


def test_several_packets_share_hops(world: World) -> None:
    client_id = world.clients[("hub", "zj")]
    writer = BundleWriter(world.nodes["hub"])
    raw = writer.bundle([(client_id, n, Direction.IN) for n in (6, 7, 8)])
    report = verify_bundle(raw, writer.trust(), world.clock(), TYPES)
    assert len(report.hops) == 2


def test_a_timed_out_packet_shows_that_it_was_never_received(world: World) -> None:
    _send(world, "late", timeout=5)
    world.clock.advance(6)
    client_id = world.clients[("zj", "hub")]
    packet = get_packet(world.nodes["zj"].store, client_id, 16, Direction.OUT).packet
    world.deliver("zj", "hub", [Item(Step.EXPIRE, packet)])
    world.relay_once("hub", "zj")
    writer = BundleWriter(world.nodes["zj"])
    raw = writer.bundle([(client_id, 16, Direction.OUT)])
    assert ("hub/0", ClaimKind.ABSENT) in _kinds(world, raw, writer.trust())
    writer = BundleWriter(world.nodes["hub"])
    raw = writer.bundle([(world.clients[("hub", "zj")], 16, Direction.IN)])
    told = {("zj/0", ClaimKind.COMMITMENT), ("hub/0", ClaimKind.ABSENT)}
    assert _kinds(world, raw, writer.trust()) == told


def test_a_packet_that_is_not_answered_yet_shows_its_receipt(world: World) -> None:
    _send(world, "defer")
    world.relay_once("zj", "hub")
    writer = BundleWriter(world.nodes["hub"])
    raw = writer.bundle([(world.clients[("hub", "zj")], 16, Direction.IN)])
    told = {("zj/0", ClaimKind.COMMITMENT), ("hub/0", ClaimKind.RECEIPT)}
    assert _kinds(world, raw, writer.trust()) == told


def test_a_trust_that_is_younger_than_the_packet_reads_it_backwards(world: World) -> None:
    client_id = world.clients[("hub", "zj")]
    hub, chain = world.nodes["hub"], world.chain("zj")
    young = {"zj/0": chain.latest_height(), "hub/0": hub.head.size}
    writer = BundleWriter(hub, lambda _: chain)
    raw = writer.bundle([(client_id, 1, Direction.IN)], {c: Anchor(h) for c, h in young.items()})
    anchors = {
        "zj/0": chain.headers(0, young["zj/0"])[-1],
        "hub/0": world.chain("hub").headers(0, young["hub/0"])[-1],
    }
    from relay.light.client import consensus_of

    trust = Trust(
        tuple(
            TrustedChain(
                pinned.state,
                consensus_of(TYPES["checkpoint"].decode_header(anchors[pinned.state.chain_id])),
            )
            for pinned in writer.trust().chains
        )
    )
    assert _kinds(world, raw, trust)
    with pytest.raises(LianqiaoError) as err:
        BundleWriter(hub).bundle([(client_id, 1, Direction.IN)], {"zj/0": Anchor(10_000)})
    assert err.value.reason is Reason.BUNDLE_INCOMPLETE


def test_a_trust_that_begins_where_the_packet_was_proven_needs_no_header(world: World) -> None:
    client_id = world.clients[("hub", "zj")]
    writer = BundleWriter(world.nodes["hub"])
    whole = decode_bundle(writer.bundle([(client_id, 8, Direction.IN)]))
    (hop,) = [hop for hop in whole.hops if hop.chain == "zj/0"]
    assert hop.headers
    anchors = {"zj/0": Anchor(hop.height)}
    short = decode_bundle(writer.bundle([(client_id, 8, Direction.IN)], anchors))
    (hop,) = [hop for hop in short.hops if hop.chain == "zj/0"]
    assert hop.headers == ()


def test_after_a_recovery_the_trust_begins_with_what_was_pinned_then(world: World) -> None:
    """And the headers that were kept begin there, so nobody is led from before it."""
    hub, client_id = world.nodes["hub"], world.clients[("hub", "zj")]
    before = BundleWriter(hub).trust()
    world.clock.advance(91 * DAY)
    for node in world.nodes.values():
        node.tick()
    size = world.nodes["zj"].head.size
    for on, of in (("hub", "zj"), ("zj", "hub")):
        state, head = ClientState("checkpoint", f"{of}/0"), world.nodes[of].head.size
        header = world.chain(of).headers(0, head)[-1]
        world.nodes[on].propose_recovery(world.clients[on, of], state, header, DAY)
    world.clock.advance(DAY)
    for node in world.nodes.values():
        node.tick()
    _send(world, "later")
    world.relay_once("zj", "hub")
    writer = BundleWriter(hub)
    key = (client_id, 16, Direction.IN)
    pinned = [c.anchor.height for c in writer.trust().chains if c.state.chain_id == "zj/0"]
    assert pinned == [size]
    (hop,) = [h for h in decode_bundle(writer.bundle([key])).hops if h.chain == "zj/0"]
    assert TYPES["checkpoint"].decode_header(hop.headers[0]).link_height == size
    (old,) = [c.anchor.height for c in before.chains if c.state.chain_id == "zj/0"]
    refused(Reason.BUNDLE_INCOMPLETE, writer.bundle, [key], {"zj/0": Anchor(old)})


class _Behind(BundleWriter):
    """A node that has committed the packet and not signed a head over it."""

    def _own_height(self, reader: Anchor) -> int:
        return self._first()


def test_a_packet_that_no_head_covers_yet_is_not_found(world: World) -> None:
    """Where witnesses are asked for, they may lag: tests/test_bundle_witnesses.py."""
    key = (world.clients[("hub", "zj")], 15, Direction.IN)
    refused(Reason.PATH_NOT_FOUND, _Behind(world.nodes["hub"]).bundle, [key])
    anchors = {"hub/0": Anchor(1, (), 1)}
    refused(Reason.BUNDLE_INCOMPLETE, _Behind(world.nodes["hub"]).bundle, [key], anchors)


@pytest.mark.parametrize("count", [0, 65])
def test_limits(world: World, count: int) -> None:
    with pytest.raises(LianqiaoError) as err:
        BundleWriter(world.nodes["hub"]).bundle([("checkpoint-0", 1, Direction.IN)] * count)
    assert err.value.reason is Reason.LIMIT_EXCEEDED


@pytest.mark.parametrize("limit", ["MAX_HEADERS", "MAX_BUNDLE_BYTES"])
def test_years_of_headers_are_weighed_before_they_are_read(
    world: World, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """Whoever asks names where the way begins, and sixty-four of them at once."""
    read: list[int] = []
    rows = bundle_writer.header_rows
    monkeypatch.setattr(bundle_writer, "header_rows", lambda *a: (read.append(1), rows(*a))[1])
    key = (world.clients[("hub", "zj")], 15, Direction.IN)
    BundleWriter(world.nodes["hub"]).bundle([key])
    assert read == [1]
    monkeypatch.setattr(bundle_writer, limit, 2)
    refused(Reason.LIMIT_EXCEEDED, BundleWriter(world.nodes["hub"]).bundle, [key])
    assert read == [1]


def test_many_ways_together_have_one_limit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the last of them is made before the first is found to be too much."""
    keys = [(world.clients[("hub", "zj")], n, Direction.IN) for n in (1, 6, 11)]
    made: list[int] = []
    narrow = type(CHECKPOINT).narrow_membership
    monkeypatch.setattr(
        type(CHECKPOINT), "narrow_membership", lambda *a: (made.append(1), narrow(*a))[1]
    )
    chain = world.chain("zj")
    longest = len(chain.headers(1, chain.latest_height())[-1])
    writer = BundleWriter(world.nodes["hub"], lambda _: chain)
    assert writer.bundle(keys)
    assert len(made) == 3
    monkeypatch.setattr(bundle_writer, "MAX_BUNDLE_BYTES", longest)
    refused(Reason.LIMIT_EXCEEDED, writer.bundle, keys)
    assert len(made) == 5


def test_a_packet_that_was_never_seen(world: World) -> None:
    with pytest.raises(LianqiaoError) as err:
        BundleWriter(world.nodes["hub"]).bundle([("checkpoint-0", 99, Direction.IN)])
    assert err.value.reason is Reason.PACKET_NOT_FOUND
