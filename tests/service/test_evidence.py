"""EvidenceService through its client: what it answers verifies, what it cannot prove it says."""

from __future__ import annotations

import grpc
import pytest

from lianqiao.relay.v1 import evidence_service_pb2 as pb
from lianqiao.relay.v1 import evidence_service_pb2_grpc, packet_pb2
from relay.bundle import verify_bundle
from relay.errors import LianqiaoError, Malformed, NotFound, Reason
from relay.light.checkpoint_client import CHECKPOINT
from relay.light.merkle import verify_consistency
from relay.light.types import Claim, ConsensusState
from relay.packet import commitment_path, packet_commitment
from relay.trust import Anchor, decode_trust
from relay.views import Direction
from tests.service.nodes import ECHO, START, Running, carry, pin, run, send

KEY = packet_pb2.PacketKey(client_id="c", sequence=1, direction=packet_pb2.DIRECTION_IN)
ANCHOR = pb.Anchor(chain_id="zj-medical/0", height=1)


def stub(running: Running) -> evidence_service_pb2_grpc.EvidenceServiceStub:
    return evidence_service_pb2_grpc.EvidenceServiceStub(running.client._connection.channel)


def test_headers_and_proofs_verify(pair) -> None:
    ledger, _, here, _ = pair
    send(ledger, here, "proven")
    head = ledger.client.head()
    (raw,) = ledger.client.headers(0, head.size)
    header = CHECKPOINT.decode_header(raw)
    assert (header.height, header.root, header.time) == (head.size, head.root, head.time)
    (step,) = ledger.client.steps(here, 0, 10)
    path = commitment_path(here, step.packet.sequence)
    consensus = ConsensusState(
        header.height, header.time, header.root, header.set_hash, header.next_set_hash, header.hash
    )
    claim = Claim(path, packet_commitment(step.packet))
    proof = ledger.client.prove([path], head.size)
    CHECKPOINT.verify_membership(pin(ledger), consensus, proof, [claim])


def test_the_journal_only_grows(pair) -> None:
    ledger, _, here, _ = pair
    old = ledger.client.head()
    send(ledger, here, "more")
    new = ledger.client.head()
    assert new.size > old.size
    proof = ledger.client.consistency(old.size, new.size)
    verify_consistency(old.size, new.size, old.root, new.root, proof)


def test_what_is_not_there_is_not_proven(pair) -> None:
    ledger, _, here, _ = pair
    size = ledger.client.head().size
    for call, reason in (
        (lambda: ledger.client.headers(0, size + 1), Reason.HEIGHT_NOT_FOUND),
        (lambda: ledger.client.prove([b"nothing"], size), Reason.PATH_NOT_FOUND),
        (lambda: ledger.client.prove([b"nothing"], size + 1), Reason.HEIGHT_NOT_FOUND),
        (lambda: ledger.client.consistency(1, size + 1), Reason.HEIGHT_NOT_FOUND),
    ):
        with pytest.raises(NotFound) as err:
            call()
        assert err.value.reason == reason
    send(ledger, here, "later")
    with pytest.raises(NotFound) as err:
        ledger.client.prove([commitment_path(here, 1)], size)
    assert err.value.reason == Reason.PATH_NOT_FOUND


@pytest.mark.parametrize(
    ("method", "request_", "field", "reason"),
    [
        ("GetHeaders", pb.GetHeadersRequest(), "height", Reason.MALFORMED),
        ("GetHeaders", pb.GetHeadersRequest(height=2**63), "height", Reason.MALFORMED),
        (
            "GetHeaders",
            pb.GetHeadersRequest(height=1, algorithm="a" * 33),
            "algorithm",
            Reason.LIMIT_EXCEEDED,
        ),
        ("Prove", pb.ProveRequest(height=1), "paths", Reason.MALFORMED),
        ("Prove", pb.ProveRequest(height=1, paths=[b""]), "paths[0]", Reason.MALFORMED),
        (
            "Prove",
            pb.ProveRequest(height=1, paths=[bytes(1025)]),
            "paths[0]",
            Reason.LIMIT_EXCEEDED,
        ),
        ("Prove", pb.ProveRequest(height=1, paths=[b"p"] * 2001), "paths", Reason.LIMIT_EXCEEDED),
        ("Prove", pb.ProveRequest(paths=[b"p"]), "height", Reason.MALFORMED),
        ("GetConsistency", pb.GetConsistencyRequest(new_size=1), "old_size", Reason.MALFORMED),
        (
            "GetConsistency",
            pb.GetConsistencyRequest(old_size=2, new_size=1),
            "new_size",
            Reason.MALFORMED,
        ),
        ("GetBundle", pb.GetBundleRequest(), "keys", Reason.MALFORMED),
        (
            "GetBundle",
            pb.GetBundleRequest(keys=[KEY] * 65),
            "keys",
            Reason.LIMIT_EXCEEDED,
        ),
        (
            "GetBundle",
            pb.GetBundleRequest(keys=[KEY], anchors=[ANCHOR, ANCHOR]),
            "anchors",
            Reason.MALFORMED,
        ),
        (
            "GetBundle",
            pb.GetBundleRequest(keys=[KEY], anchors=[pb.Anchor(chain_id="zj/0")]),
            "anchors[0].height",
            Reason.MALFORMED,
        ),
    ],
)
def test_malformed(one, method, request_, field, reason) -> None:
    with pytest.raises(grpc.RpcError) as err:
        getattr(stub(one), method)(request_, timeout=5)
    error = one.client._connection.error(err.value)
    assert isinstance(error, Malformed)
    assert (error.data["field"], error.reason) == (field, reason)


def test_a_fresh_node_shows_its_first_head(tmp_path) -> None:
    running = run(tmp_path / "fresh", "fresh", contracts={})
    head = running.client.head()
    assert (head.origin, head.size) == ("fresh/0", 1)
    assert running.client.status().ports == ()
    running.stop()
    assert ECHO


def test_no_bundle_of_a_packet_that_is_not_there(pair) -> None:
    ledger, _, here, _ = pair
    with pytest.raises(NotFound) as err:
        ledger.client.bundle(here, 1, Direction.OUT)
    assert err.value.reason == Reason.PACKET_NOT_FOUND


def test_a_bundle_verifies_offline_from_the_trust_file(pair) -> None:
    ledger, relay, here, there = pair
    sequence = send(ledger, here, "shown to a court")
    send(ledger, here, "another")
    carry(ledger, relay, here)
    raw = relay.client.bundle(there, sequence, Direction.IN)
    trust = decode_trust(relay.client.trust())
    report = verify_bundle(raw, trust, START, {"checkpoint": CHECKPOINT})
    assert [hop.chain for hop in report.hops] == ["zj-medical/0", "east/0"]
    both = [(there, n, Direction.IN) for n in (sequence, sequence + 1)]
    verify_bundle(relay.client.bundle_of(both), trust, START, {"checkpoint": CHECKPOINT})
    own = {"east/0": Anchor(relay.client.head().size)}
    assert relay.client.bundle(there, sequence, Direction.IN, own) != raw
    with pytest.raises(LianqiaoError) as err:
        relay.client.bundle(there, sequence, Direction.IN, {"zj-medical/0": Anchor(2**40)})
    assert err.value.reason in (Reason.BUNDLE_INCOMPLETE, Reason.HEIGHT_NOT_FOUND)
