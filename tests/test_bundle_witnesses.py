"""Bundles for readers who require witnesses of the node that made the bundle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from relay.bundle import verify_bundle
from relay.bundle_format import decode_bundle, encode_bundle
from relay.bundle_writer import BundleWriter
from relay.errors import LianqiaoError, Reason
from relay.light.checkpoint_client import CHECKPOINT
from relay.light.types import Witness
from relay.trust import Anchor, Trust, decode_trust, encode_trust
from relay.views import Direction
from tests.test_cosigning import Witnessed
from tests.witnessing import HUB, SH, ZJ, hub_world, pinned, put, witness_key
from tests.world import TYPES, World, keys_of, set_of

ORIGIN = "hub/0"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = hub_world(tmp_path / "world")
    here, _ = world.connect(ZJ, HUB)
    body = f"{here}\n{world.clock.now + 600}\nhello".encode()
    world.nodes[ZJ].call("echo", "send", body)
    world.relay_once(ZJ, HUB)
    yield world
    world.close()


def _bundle(world: World, trust: Trust | None = None) -> bytes:
    key = (world.clients[HUB, ZJ], 1, Direction.IN)
    anchors = None if trust is None else {c.state.chain_id: c.reader for c in trust.chains}
    return BundleWriter(world.nodes[HUB]).bundle([key], anchors)


def _requiring(world: World, *names: str, quorum: int = 0, also: tuple[Witness, ...] = ()) -> Trust:
    """The relay's own trust file, with other witnesses of the relay itself."""
    chains = []
    for chain in BundleWriter(world.nodes[HUB]).trust().chains:
        if chain.state.chain_id == ORIGIN:
            witnesses = tuple(sorted((*pinned(*names), *also), key=lambda w: w.name))
            quorum = quorum or len(witnesses)
            state = replace(chain.state, witnesses=witnesses, witness_quorum=quorum)
            chain = replace(chain, state=state)
        chains.append(chain)
    return decode_trust(encode_trust(Trust(tuple(chains))))


def _verify(world: World, raw: bytes, trust: Trust) -> tuple[str, ...]:
    """Who has co-signed the relay's own hop."""
    report = verify_bundle(raw, trust, world.clock(), TYPES)
    return next(hop.witnesses for hop in report.hops if hop.chain == ORIGIN)


def _reason(act) -> Reason:  # type: ignore[no-untyped-def]
    with pytest.raises(LianqiaoError) as err:
        act()
    return err.value.reason


def _lines(raw: bytes) -> set[str]:
    """Names of the witnesses whose lines are on the relay's headers in a bundle."""
    hop = next(hop for hop in decode_bundle(raw).hops if hop.chain == ORIGIN)
    headers = [CHECKPOINT.decode_header(header) for header in hop.headers]
    return {line.signer for header in headers for line in header.cosignatures}


def test_a_bundle_goes_with_the_trust_file_of_the_same_node(world: World) -> None:
    """Which pins the witnesses that the node's own operator demands."""
    Witnessed(world).tick()
    trust = BundleWriter(world.nodes[HUB]).trust()
    own = trust.chain(ORIGIN).state
    assert (own.witnesses, own.witness_quorum) == (pinned(ZJ, SH), 2)
    assert sorted(_verify(world, _bundle(world), trust)) == [SH, ZJ]


@pytest.mark.parametrize("names", [(ZJ,), (SH,), (SH, ZJ)])
def test_a_bundle_carries_the_witnesses_asked_for_and_no_others(
    world: World, names: tuple[str, ...]
) -> None:
    Witnessed(world).tick()
    trust = _requiring(world, *names)
    raw = _bundle(world, trust)
    assert _lines(raw) == set(names)
    assert sorted(_verify(world, raw, trust)) == sorted(names)
    without = _requiring(world, *names)
    plain = Trust(
        tuple(
            replace(c, state=replace(c.state, witnesses=(), witness_quorum=0))
            for c in without.chains
        )
    )
    assert _lines(_bundle(world, plain)) == set()
    assert _verify(world, _bundle(world, plain), plain) == ()


def test_a_line_that_nobody_asked_for_is_refused(world: World) -> None:
    Witnessed(world).tick()
    raw = _bundle(world, _requiring(world, SH, ZJ))
    assert _reason(lambda: _verify(world, raw, _requiring(world, ZJ))) is Reason.UNKNOWN_SIGNER


def test_a_witness_that_is_missing_is_missed(world: World) -> None:
    """The bundle of a reader without witnesses does not do for one who requires them."""
    Witnessed(world).tick()
    strict = _requiring(world, ZJ)
    raw = _bundle(
        world,
        Trust(
            tuple(
                replace(c, state=replace(c.state, witnesses=(), witness_quorum=0))
                for c in strict.chains
            )
        ),
    )
    assert _reason(lambda: _verify(world, raw, strict)) is Reason.WITNESS_MISSING


def test_a_forged_line_is_refused(world: World) -> None:
    Witnessed(world).tick()
    trust = _requiring(world, ZJ)
    made = decode_bundle(_bundle(world, trust))
    hops = []
    for hop in made.hops:
        headers = [CHECKPOINT.decode_header(raw) for raw in hop.headers]
        if hop.chain == ORIGIN:
            line = headers[-1].cosignatures[0]
            spoiled = replace(line, value=line.value[:-1] + bytes((line.value[-1] ^ 1,)))
            headers[-1] = replace(headers[-1], cosignatures=(spoiled,))
        hops.append(replace(hop, headers=tuple(map(CHECKPOINT.encode_header, headers))))
    raw = encode_bundle(replace(made, hops=tuple(hops)))
    assert _reason(lambda: _verify(world, raw, trust)) is Reason.INVALID_SIGNATURE


def test_heads_that_the_witness_has_not_seen_yet_are_not_shown(world: World) -> None:
    """The newest head is not co-signed: the one below it covers the packet as well."""
    hub = Witnessed(world, quorum=1)
    hub.tick()
    seen = world.nodes[HUB].head.size
    put(world.nodes[HUB], "more")
    hub.tick(SH)
    strict = _requiring(world, ZJ)
    raw = _bundle(world, strict)
    hop = next(hop for hop in decode_bundle(raw).hops if hop.chain == ORIGIN)
    assert hop.height == seen < world.nodes[HUB].head.size
    assert _verify(world, raw, strict) == (ZJ,)


def test_a_packet_that_no_cosigned_head_covers_waits(world: World) -> None:
    hub = Witnessed(world, quorum=1)
    hub.tick(SH)
    assert _reason(lambda: _bundle(world, _requiring(world, ZJ))) is Reason.BUNDLE_INCOMPLETE
    stranger = Witness("x", "ed25519", witness_key("x").public)
    nobody = _requiring(world, SH, quorum=2, also=(stranger,))
    with pytest.raises(LianqiaoError) as err:
        _bundle(world, nobody)
    assert err.value.reason is Reason.BUNDLE_INCOMPLETE
    assert "lianqiao status" in err.value.hint
    hub.tick(ZJ)
    assert _verify(world, _bundle(world, _requiring(world, ZJ)), _requiring(world, ZJ)) == (ZJ,)


def test_a_packet_written_after_the_cosigned_head_waits(world: World) -> None:
    hub = Witnessed(world, quorum=1)
    hub.tick()
    here = world.clients[ZJ, HUB]
    body = f"{here}\n{world.clock.now + 600}\nagain".encode()
    world.nodes[ZJ].call("echo", "send", body)
    world.relay_once(ZJ, HUB)
    hub.tick(SH)
    trust = _requiring(world, ZJ)
    anchors = {c.state.chain_id: c.reader for c in trust.chains}
    key = (world.clients[HUB, ZJ], 2, Direction.IN)
    writer = BundleWriter(world.nodes[HUB])
    assert _reason(lambda: writer.bundle([key], anchors)) is Reason.BUNDLE_INCOMPLETE
    hub.tick(ZJ)
    assert _verify(world, writer.bundle([key], anchors), trust) == (ZJ,)


def test_the_way_over_a_change_of_the_set_is_cosigned_too(world: World) -> None:
    hub = Witnessed(world)
    hub.tick()
    keys = keys_of("hub-next")
    hub.node.announce_set(set_of(keys, "hub-next"))
    hub.node._heads.signer._signers += [(f"hub-next-{i}", key) for i, key in enumerate(keys)]
    put(hub.node, "after")
    hub.tick()
    trust = _requiring(world, ZJ, SH)
    raw = _bundle(world, trust)
    hop = next(hop for hop in decode_bundle(raw).hops if hop.chain == ORIGIN)
    assert len(hop.headers) == 2
    assert sorted(_verify(world, raw, trust)) == [SH, ZJ]


def test_a_younger_anchor_reads_backwards_with_its_witnesses(world: World) -> None:
    """The packet's own head is not needed: what was co-signed last is the anchor itself."""
    Witnessed(world).tick()
    strict = _requiring(world, ZJ)
    height = world.nodes[HUB].head.size
    anchor = Anchor(height, pinned(ZJ), 1)
    key = (world.clients[HUB, ZJ], 1, Direction.IN)
    raw = BundleWriter(world.nodes[HUB]).bundle([key], {ORIGIN: anchor})
    hop = next(hop for hop in decode_bundle(raw).hops if hop.chain == ORIGIN)
    assert (hop.height, hop.headers) == (height, ())
    assert strict.chain(ORIGIN).reader == replace(anchor, height=1)
