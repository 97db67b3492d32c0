"""The same path on real nodes: databases, journals, proofs, and the relay's own relayer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from relay.canonical import Json, encode
from relay.contracts.payloads import Notice
from relay.contracts.recognition import CONTRACT as RECOGNITION
from relay.contracts.registry import CONTRACT as REGISTRY
from relay.contracts.registry import RequestStatus, find_grant, find_request, standing
from relay.errors import Denied, Reason
from relay.fsck import fsck
from relay.host import HostState
from relay.node import Node
from tests.contracts.world import (
    ASKING,
    HOSPITAL,
    HOUR,
    NOW,
    RECORD,
    attestation,
    digest,
    flags,
    outcome,
    policy,
    request,
)
from tests.contracts.world import (
    World as InMemory,
)
from tests.world import TYPES, Clock, World

RELAY, ZJ, SH = "relay-1", "zj-medical", "sh-medical"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Two ledgers and a relay, connected, with policy and institutions; journals checked after."""
    made = World(tmp_path, Clock(NOW - 2 * HOUR))
    made.node(ZJ, "ledger", [REGISTRY])
    made.node(SH, "ledger", [REGISTRY])
    made.node(RELAY, "relay", [RECOGNITION])
    made.connect(RELAY, ZJ)
    made.connect(RELAY, SH)
    for document in policy().values():
        made.nodes[RELAY].call("recognition", "policy.load", encode(document))
    for ledger, institution, person in ((ZJ, "zj-h1", HOSPITAL), (SH, "sh-h1", ASKING)):
        body: Json = {"institution": institution, "keys": [person.dated()], "version": 1}
        made.nodes[ledger].call("registry", "institution.register", encode(body))
    made.clock.now = NOW
    yield made
    for node in made.nodes.values():
        _, findings = fsck(node.store, TYPES, node.origin)
        assert findings == []
    made.close()


class Window:
    """What a service reads from: one contract's keys; nothing is written."""

    def __init__(self, node: Node, port: str) -> None:
        self.node, self.port = node, port

    def get(self, key: bytes) -> bytes | None:
        with self.node.store.reading() as tx:
            return HostState(self.node.channel, tx, self.port, 0).get(key)

    def scan(
        self, prefix: bytes, *, after: bytes = b"", limit: int = 1000
    ) -> Sequence[tuple[bytes, bytes]]:
        with self.node.store.reading() as tx:
            state = HostState(self.node.channel, tx, self.port, 0)
            return list(state.scan(prefix, after=after, limit=limit))

    def last(self, prefix: bytes) -> tuple[bytes, bytes] | None:
        with self.node.store.reading() as tx:
            return HostState(self.node.channel, tx, self.port, 0).last(prefix)


def test_recognised_granted_and_adopted_over_proofs(world: World) -> None:
    zj, sh = world.nodes[ZJ], world.nodes[SH]
    body: Json = {"attestations": [attestation().to_json()], "relays": [RELAY]}
    zj.call("registry", "attest", encode(body))
    world.settle(RELAY)
    sh.call("registry", "request", encode({"request": request().to_json()}))
    world.settle(RELAY)
    view = find_request(Window(sh, "registry"), digest("request"))
    assert view.status is RequestStatus.DECIDED
    assert view.decision is not None
    assert view.decision.reason is None
    assert flags(view.decision) == ["CONSENT_ASSERTED"]
    grant = find_grant(Window(zj, "registry"), RECORD, "sh-h1", NOW)
    assert isinstance(grant, Notice)
    assert grant.grant == view.decision.grant
    sh.call("registry", "outcome", encode({"outcome": outcome().to_json()}))
    world.settle(RELAY)
    for ledger, prefix in ((zj, b"outcome-notice/"), (zj, b"announced/"), (sh, b"answered/")):
        assert Window(ledger, "registry").scan(prefix), prefix
    relay = Window(world.nodes[RELAY], "recognition")
    assert len(relay.scan(b"delivered/")) == 2
    assert standing(Window(zj, "registry"), RECORD) == ""


def test_real_nodes_and_the_ledger_in_memory_decide_alike(world: World) -> None:
    body: Json = {"attestations": [attestation().to_json()], "relays": [RELAY]}
    world.nodes[ZJ].call("registry", "attest", encode(body))
    world.settle(RELAY)
    world.nodes[SH].call("registry", "request", encode({"request": request().to_json()}))
    world.settle(RELAY)
    view = find_request(Window(world.nodes[SH], "registry"), digest("request"))
    assert view.decision is not None
    expected = InMemory().decide()
    assert view.decision.items == expected.items
    assert view.decision.policy == expected.policy
    assert view.decision.grant == expected.grant


def test_nothing_is_half_written(world: World) -> None:
    zj = world.nodes[ZJ]
    good, foreign = attestation(), attestation(institution="sh-h1", commitment=digest("x"))
    body: Json = {"attestations": [good.to_json(), foreign.to_json()], "relays": [RELAY]}
    size = zj.head.size
    with pytest.raises(Denied) as err:
        zj.call("registry", "attest", encode(body))
    assert err.value.reason is Reason.NOT_PERMITTED
    assert zj.head.size == size
    assert Window(zj, "registry").scan(b"attestation/") == []
