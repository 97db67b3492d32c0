"""Packets from a chain behind headers of CometBFT: received, answered, checked again, shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.cometbft.light import CLIENT
from adapters.cometbft.light.zip215 import ED25519
from relay.bundle import verify_bundle
from relay.bundle_writer import BundleWriter
from relay.chain import Delivery, Outcome, Step
from relay.errors import Invalid, LianqiaoError, Reason
from relay.fsck import fsck
from relay.light.misbehaviour import Evidence, encode_evidence
from relay.local import LocalChain
from relay.steps import item_of
from relay.store import Direction
from tests.adapters.cometbft.test_conformance import CometSubject
from tests.adapters.subjects import ZJ
from tests.echo import ECHO
from tests.world import TYPES

EAST = "east"


class Flow:
    """`zj` behind headers of CometBFT, and the relay `east` that follows it so."""

    def __init__(self, path: Path) -> None:
        self.subject = CometSubject(path)
        self.world = self.subject.world
        self.east = self.world.node(EAST, "relay", [ECHO])
        chain = self.subject.chain
        self.anchor = chain.latest_height()
        raw = chain.headers(0, self.anchor, ED25519)[-1]
        self.here = self.east.create_client(self.subject.state, raw)
        self.there = self.world._follow(ZJ, EAST, {})
        self.world.nodes[ZJ].register_counterparty(self.there, self.here)
        self.east.register_counterparty(self.here, self.there)
        self.world.clients[(EAST, ZJ)] = self.here

    def send(self, *values: str) -> None:
        self.world.clock.advance(1)
        for value in values:
            body = f"{self.there}\n{self.world.clock() + 600}\n{value}".encode()
            self.world.nodes[ZJ].call("echo", "send", body)

    def delivery(self) -> Delivery:
        """Everything that was sent, under the newest header."""
        chain = self.subject.chain
        steps = chain.packets(self.there, 0, 100)
        items = tuple(item_of(step) for step in steps if step.step is Step.SEND)
        height = chain.latest_height()
        trusted = LocalChain(self.east).client(self.here).latest_height
        headers = tuple(chain.headers(trusted, height, ED25519)) if height > trusted else ()
        from relay.packet import commitment_path

        paths = [commitment_path(i.packet.source_client, i.packet.sequence) for i in items]
        return Delivery(self.here, headers, height, chain.prove(paths, height), items)


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    made = Flow(tmp_path_factory.mktemp("flow"))
    yield made
    made.subject.close()


def test_packets_are_received_checked_again_and_shown_offline(flow: Flow) -> None:
    flow.send("one", "two", "three")
    (result,) = flow.east.deliver([flow.delivery()])
    assert result.headers.outcome is Outcome.DONE
    assert [item.outcome for item in result.items] == [Outcome.DONE] * 3
    answers = flow.world.relay_once(EAST, ZJ)
    assert [answer.outcome for _, _, answer in answers if answer.reason] == []
    assert fsck(flow.east.store, TYPES, flow.east.origin)[1] == []
    for writer in (BundleWriter(flow.east), BundleWriter(flow.east, lambda _: flow.subject.chain)):
        raw = writer.bundle([(flow.here, 2, Direction.IN)])
        report = verify_bundle(raw, writer.trust(), flow.world.clock(), TYPES)
        (hop,) = [hop for hop in report.hops if hop.chain == flow.subject.state.chain_id]
        assert len(hop.signers) == 3
        for at in range(0, len(raw), 61):
            changed = raw[:at] + bytes((raw[at] ^ 1,)) + raw[at + 1 :]
            with pytest.raises(LianqiaoError):
                verify_bundle(changed, writer.trust(), flow.world.clock(), TYPES)


def test_what_the_chain_never_wrote_is_not_received(flow: Flow) -> None:
    flow.send("four")
    delivery = flow.delivery()
    item = delivery.items[-1]
    payload = replace(item.packet.payloads[0], value=b"forged")
    forged = replace(item, packet=replace(item.packet, payloads=(payload,)))
    (result,) = flow.east.deliver([replace(delivery, items=(*delivery.items[:-1], forged))])
    assert result.items[-1].reason == Reason.INVALID_PROOF
    (result,) = flow.east.deliver([flow.delivery()])
    assert result.items[-1].outcome is Outcome.DONE


def test_two_histories_freeze_the_client(flow: Flow) -> None:
    """Last: nothing is received any more."""
    chain = flow.subject.chain
    raw = chain.headers(0, chain.latest_height(), ED25519)[-1]
    forged = flow.subject.forge(CLIENT.decode_header(raw), root=bytes(40))
    with pytest.raises(Invalid) as err:
        flow.east.submit_misbehaviour(flow.here, encode_evidence(Evidence(raw, raw)))
    assert err.value.reason is Reason.NOT_MISBEHAVIOUR
    flow.east.submit_misbehaviour(flow.here, encode_evidence(Evidence(raw, forged)))
    flow.send("five")
    (result,) = flow.east.deliver([flow.delivery()])
    assert result.items[-1].reason == Reason.CLIENT_FROZEN
    assert fsck(flow.east.store, TYPES, flow.east.origin)[1] == []
