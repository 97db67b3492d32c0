"""The same path on real nodes: databases, journals, proofs, and the relay's own relayer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from relay.canonical import Json, encode
from relay.chain import Delivery, DeliveryResult, Outcome, Step
from relay.contracts import undelivered
from relay.contracts.payloads import Action, Notice
from relay.contracts.recognition import CONTRACT as RECOGNITION
from relay.contracts.registry import CONTRACT as REGISTRY
from relay.contracts.registry import RequestStatus, find_grant, find_request, standing
from relay.errors import Denied, Reason
from relay.fsck import fsck
from relay.host import HostState
from relay.light.misbehaviour import Evidence, encode_evidence
from relay.light.types import ClientState
from relay.node import Node
from relay.packet import MAX_INT
from relay.steps import item_of
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
from tests.echo import ECHO
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


# --- a retraction that is kept back


@pytest.fixture
def recognised(world: World) -> World:
    """A record is attested and recognised; then its ledger retracts it, and nobody brings that."""
    body: Json = {"attestations": [attestation().to_json()], "relays": [RELAY]}
    world.nodes[ZJ].call("registry", "attest", encode(body))
    world.settle(RELAY)
    _bring_all(world)
    assert _ask(world, "first") == ("", ["RECOGNISED_WITH_FLAG"])
    retraction = HOSPITAL.sign(replace(attestation(), action=Action.RETRACT, items=()))
    body = {"attestations": [retraction.to_json()], "relays": [RELAY]}
    world.nodes[ZJ].call("registry", "retract", encode(body))
    return world


def _ask(world: World, name: str) -> tuple[str, list[str]]:
    """(why a request made now is refused as a whole, the verdicts on its items)."""
    now = world.clock.now = world.clock.now + 1
    asked = request(request=digest(name), time=now)
    world.nodes[SH].call("registry", "request", encode({"request": asked.to_json()}))
    world.relay_once(SH, RELAY)
    world.relay_once(RELAY, SH)
    decision = find_request(Window(world.nodes[SH], "registry"), digest(name)).decision
    assert decision is not None
    return str(decision.reason) if decision.reason else "", [str(i.verdict) for i in decision.items]


def _bring_head(world: World, *, sent: bool) -> DeliveryResult:
    """What anybody may give the relay: the newest head of the source and not one packet; with its
    statement of what it has sent, or without."""
    chain, client_id = world.chain(ZJ), world.clients[RELAY, ZJ]
    known, height = world.chain(RELAY).client(client_id).latest_height, chain.latest_height()
    headers = tuple(chain.headers(known, height)) if known < height else ()
    claims = tuple(chain.sent(world.clients[ZJ, RELAY], height, MAX_INT)) if sent else ()
    proof = chain.prove([claim.path for claim in claims], height) if sent else b""
    delivery = Delivery(client_id, headers, height if sent else 0, proof, (), claims)
    (result,) = world.nodes[RELAY].deliver([delivery])
    assert result.headers.outcome is not Outcome.REFUSED
    assert world.chain(RELAY).client(client_id).latest_time == chain.node.head.time
    return result


def _bring_all(world: World) -> None:
    """The honest relayer: every packet, then the statement."""
    world.settle(RELAY)
    for lane in world.relayer(RELAY).lanes:
        assert lane.bring_complete(world.clock())


def test_a_head_without_the_retraction_below_it_makes_nothing_current(recognised: World) -> None:
    world = recognised
    world.clock.advance(601)
    world.nodes[ZJ].tick()
    _bring_head(world, sent=False)
    assert _ask(world, "a young head") == ("HEAD_STALE", ["NOT_ELIGIBLE"])
    assert _bring_head(world, sent=True).sent.reason == Reason.PACKETS_MISSING
    assert _ask(world, "and its statement") == ("HEAD_STALE", ["NOT_ELIGIBLE"])
    _bring_all(world)
    assert _ask(world, "and its packets") == ("", ["NOT_ELIGIBLE"])


def test_a_retraction_kept_back_until_it_expires_makes_nothing_current(recognised: World) -> None:
    """Its ledger sends it again as soon as it knows, so whoever hides that it expired hides
    everything."""
    world = recognised
    world.clock.advance(3601)
    world.nodes[ZJ].tick()
    _bring_head(world, sent=False)
    late = world.chain(ZJ).packets(world.clients[ZJ, RELAY], -1, 9)[-1]
    (expired,) = world.deliver(ZJ, RELAY, [replace(item_of(late), step=Step.EXPIRE)])
    assert expired.outcome is Outcome.DONE
    assert _bring_head(world, sent=True).sent.reason == Reason.PACKETS_MISSING
    assert _ask(world, "expired") == ("HEAD_STALE", ["NOT_ELIGIBLE"])
    world.relay_once(RELAY, ZJ)
    world.clock.advance(61)
    world.nodes[ZJ].tick()
    assert _bring_head(world, sent=True).sent.reason == Reason.PACKETS_MISSING
    _bring_all(world)
    assert _ask(world, "sent again") == ("", ["NOT_ELIGIBLE"])


# --- a retraction that its ledger could not send


def _freeze(world: World, on: str, of: str) -> None:
    """Shows a node two heads of one size that the keys of another have signed."""
    size = world.chain(on).client(world.clients[on, of]).latest_height
    fork = World(world.path / "fork", clock=Clock(world.clock.now - HOUR))
    fork.path.mkdir()
    fork.node(of, "relay", [ECHO])
    while fork.nodes[of].head.size < size:
        fork.nodes[of].call("echo", "put", b"%d\n\nx" % fork.nodes[of].head.size)
    true, other = (w.chain(of).headers(0, size)[-1] for w in (world, fork))
    fork.close()
    world.nodes[on].submit_misbehaviour(
        world.clients[on, of], encode_evidence(Evidence(true, other))
    )


def _recover(world: World, on: str, of: str) -> None:
    node, client_id = world.nodes[on], world.clients[on, of]
    header = world.chain(of).headers(0, world.nodes[of].head.size)[-1]
    delay = 3600
    node.propose_recovery(
        client_id, ClientState("checkpoint", world.nodes[of].origin), header, delay
    )
    world.clock.advance(delay)
    node.complete_recovery(client_id)


def _retract(world: World, relays: Sequence[str] = (RELAY,)) -> None:
    retraction = HOSPITAL.sign(replace(attestation(), action=Action.RETRACT, items=()))
    body: Json = {"attestations": [retraction.to_json()], "relays": list(relays)}
    world.nodes[ZJ].call("registry", "retract", encode(body))


@pytest.fixture
def attested(world: World) -> World:
    """A record is attested, and announced to the relay."""
    body: Json = {"attestations": [attestation().to_json()], "relays": [RELAY]}
    world.nodes[ZJ].call("registry", "attest", encode(body))
    world.settle(RELAY)
    _bring_all(world)
    assert _ask(world, "first") == ("", ["RECOGNISED_WITH_FLAG"])
    return world


def test_a_retraction_made_while_its_client_was_frozen_counts_once_it_is_recovered(
    attested: World,
) -> None:
    """It is sent with the recovery, before the ledger states anything: whoever keeps it back keeps
    everything back."""
    world = attested
    _freeze(world, ZJ, RELAY)
    _retract(world)
    assert len(Window(world.nodes[ZJ], "registry").scan(b"undelivered/")) == 1
    _recover(world, ZJ, RELAY)
    assert len(Window(world.nodes[ZJ], "registry").scan(b"redelivered/")) == 1
    assert _bring_head(world, sent=True).sent.reason == Reason.PACKETS_MISSING
    assert _ask(world, "kept back") == ("HEAD_STALE", ["NOT_ELIGIBLE"])
    _bring_all(world)
    assert _ask(world, "brought") == ("", ["NOT_ELIGIBLE"])


def test_a_retraction_that_still_cannot_be_sent_leaves_nothing_stated(
    attested: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client is active again, and what is held waits: until it is sent, all is silent."""
    world = attested
    _freeze(world, ZJ, RELAY)
    _retract(world)
    monkeypatch.setattr(undelivered, "send_held", lambda state, now: 0)
    _recover(world, ZJ, RELAY)
    world.clock.advance(601)
    world.nodes[ZJ].tick()
    _bring_all(world)
    assert _ask(world, "still held") == ("HEAD_STALE", ["NOT_ELIGIBLE"])
    monkeypatch.undo()
    world.clock.advance(61)
    world.nodes[ZJ].tick()
    _bring_all(world)
    assert _ask(world, "sent") == ("", ["NOT_ELIGIBLE"])


def test_a_relay_that_knows_a_record_hears_of_its_retraction_named_or_not(attested: World) -> None:
    _retract(attested, relays=())
    _bring_all(attested)
    assert _ask(attested, "unnamed") == ("", ["NOT_ELIGIBLE"])
