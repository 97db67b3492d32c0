"""Between the contracts: who may send what to whom, and what happens when it does not arrive."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from relay.canonical import decode, encode
from relay.contract import HeadNeed
from relay.contracts.payloads import Answer, Attestation, Notice, OutcomeNotice
from relay.contracts.registry import find_grant
from relay.contracts.undelivered import send_held
from relay.errors import Invalid, LianqiaoError, Malformed, Reason
from relay.packet import ERROR_ACKNOWLEDGEMENT, Packet, Payload
from tests.contracts.ledger import Ledger
from tests.contracts.world import (
    HOUR,
    NOW,
    RECORD,
    World,
    attestation,
    digest,
    outcome,
    policy,
    request,
)
from tests.refusals import refusal


def carrying(packet: Packet, value: bytes, **changes: Any) -> Packet:
    payload = replace(packet.payloads[0], value=value, **changes)
    return replace(packet, payloads=(payload,))


def not_received(ledger: Ledger, packet: Packet) -> LianqiaoError:
    before, sent = dict(ledger.written), list(ledger.sent)
    error = refusal(ledger.receive, packet)
    assert (ledger.written, ledger.sent) == (before, sent)
    return error


@pytest.fixture
def world() -> World:
    made = World()
    made.decide()
    return made


# --- at the relay


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (attestation(ledger="sh-medical").encode(), Reason.COUNTERPARTY_MISMATCH),
        (attestation(port="escrow").encode(), Reason.COUNTERPARTY_MISMATCH),
        (replace(attestation(), signature=bytes(64)).encode(), Reason.INVALID_SIGNATURE),
        (replace(attestation(), algorithm="rot13").encode(), Reason.ALGORITHM_NOT_PINNED),
        (replace(attestation(), key=bytes(32)).encode(), Reason.WEAK_KEY),
        (request().encode(), Reason.COUNTERPARTY_MISMATCH),
        (outcome().encode(), Reason.COUNTERPARTY_MISMATCH),
        (b"{}", Reason.MALFORMED),
        (b'{"type":"notice"}', Reason.MALFORMED),
        (b"\x00", Reason.MALFORMED),
        (attestation().encode() + b" ", Reason.NOT_CANONICAL),
    ],
)
def test_what_a_source_may_not_send(world: World, value: bytes, reason: Reason) -> None:
    """All of these come, proven, from zj-medical."""
    assert not_received(world.relay, carrying(world.zj.sent[0], value)).reason is reason


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (request(relay="relay-2").encode(), Reason.CHAIN_ID_MISMATCH),
        (request(origin="gd-medical").encode(), Reason.COUNTERPARTY_MISMATCH),
        (request(hops=0).encode(), Reason.HOP_LIMIT),
        (request(parts=(1, 2)).encode(), Reason.REQUEST_ID_REUSED),
        (outcome(relay="relay-2").encode(), Reason.CHAIN_ID_MISMATCH),
        (outcome(origin="gd-medical").encode(), Reason.COUNTERPARTY_MISMATCH),
        (outcome(hops=0).encode(), Reason.HOP_LIMIT),
        (attestation().encode(), Reason.COUNTERPARTY_MISMATCH),
    ],
)
def test_what_a_requester_may_not_send(world: World, value: bytes, reason: Reason) -> None:
    """All of these come, proven, from sh-medical."""
    assert not_received(world.relay, carrying(world.sh.sent[0], value)).reason is reason


def test_a_chain_whose_id_ends_like_an_epoch_is_not_the_one_before_the_slash(world: World) -> None:
    """Its origin is `zj-medical/7/0`: the host takes one epoch off, and nobody another."""
    packet = world.zj.sent[0]
    for peer in world.relay.peers.values():
        if peer.chain_id == "zj-medical":
            peer.chain_id = "zj-medical/7"
    assert not_received(world.relay, packet).reason is Reason.COUNTERPARTY_MISMATCH


@pytest.mark.parametrize("changes", [{"version": "recognition-2"}, {"encoding": "text/plain"}])
def test_other_versions(world: World, changes: dict[str, Any]) -> None:
    packet = world.zj.sent[0]
    error = not_received(world.relay, carrying(packet, packet.payloads[0].value, **changes))
    assert (type(error), error.reason) == (Invalid, Reason.UNSUPPORTED_VERSION)


def test_another_attestation_of_a_record_is_answered_as_a_conflict(world: World) -> None:
    before = dict(world.relay.written)
    packet = carrying(world.zj.sent[0], attestation(issued=NOW - 1).encode())
    answer = Answer.decode(world.relay.receive(packet))
    assert (answer.subject, str(answer.reason)) == (RECORD, "SRC_AUTH/CONFLICT")
    assert world.relay.written == before


# --- at the source ledger


def test_notices_of_another_relay_or_for_another_ledger(world: World) -> None:
    sent = world.relay.sent[0]
    notice = Notice.decode(sent.payloads[0].value)
    for changes, reason in (
        ({"target": "gd-medical"}, Reason.CHAIN_ID_MISMATCH),
        ({"relay": "relay-2"}, Reason.COUNTERPARTY_MISMATCH),
        ({"commitment": digest("x")}, Reason.RECORD_NOT_FOUND),
        ({"expires": notice.expires + 1}, Reason.PATH_WRITTEN),
    ):
        packet = carrying(sent, replace(notice, **changes).encode())
        assert not_received(world.zj, packet).reason is reason
    for value in (attestation().encode(), b"{}", b"[]"):
        assert isinstance(not_received(world.zj, carrying(sent, value)), Malformed)


def test_outcome_notices_of_another_relay_or_for_another_ledger(world: World) -> None:
    world.report()
    world.deliver()
    sent = world.relay.sent[-1]
    told = OutcomeNotice.decode(sent.payloads[0].value)
    for changes, reason in (
        ({"target": "gd-medical"}, Reason.CHAIN_ID_MISMATCH),
        ({"relay": "relay-2"}, Reason.COUNTERPARTY_MISMATCH),
        ({"time": told.time + 1}, Reason.PATH_WRITTEN),
    ):
        packet = carrying(sent, replace(told, **changes).encode())
        assert not_received(world.zj, packet).reason is reason


# --- what does not arrive


def test_an_attestation_is_sent_again_until_it_arrives() -> None:
    world = World()
    world.attest()
    for again in (1, 2):
        world.at(NOW + again * HOUR)
        [lost] = world.drop(world.zj)
        assert lost.sequence == again
    [packet] = world.pending(world.zj)
    assert (packet.sequence, packet.timeout_timestamp) == (3, NOW + 3 * HOUR)
    assert Attestation.decode(packet.payloads[0].value) == attestation()
    world.deliver()
    [name] = world.zj.keys("announced/")
    kept = decode(world.zj.written[name.encode()])
    assert isinstance(kept, dict)
    assert (kept["accepted"], kept["sequence"]) == (True, 3)
    assert len(world.relay.keys("attestation/")) == 1


def test_notices_and_outcomes_are_sent_again_until_they_arrive() -> None:
    world = World()
    world.attest()
    world.deliver()
    world.ask()
    for packet in world.pending(world.sh):
        world.sh.end(packet, world.relay.receive(packet))
    world._done["sh-medical"] = len(world.sh.sent)
    world.at(NOW + HOUR)
    world.drop(world.relay)  # row 3 is lost once
    world.deliver()
    assert find_grant(world.zj, RECORD, "sh-h1", NOW).request == digest("request")
    world.report()
    world.at(NOW + 2 * HOUR)
    world.drop(world.sh)  # row 4 is lost once
    for packet in world.pending(world.sh):
        world.sh.end(packet, world.relay.receive(packet))
    world._done["sh-medical"] = len(world.sh.sent)
    world.at(NOW + 3 * HOUR)
    world.drop(world.relay)  # row 5 is lost once
    world.deliver()
    assert len(world.zj.keys("outcome-notice/")) == 1
    assert len(world.zj.keys("grant/")) == 1
    assert len(world.relay.keys("tally/")) == 1
    assert [p.sequence for p in world.relay.sent] == [1, 2, 3, 4]


def test_what_cannot_be_sent_is_set_aside_and_taken_up_again() -> None:
    world = World()
    world.attest()
    world.deliver()
    world.ask()
    for packet in world.pending(world.sh):
        world.sh.end(packet, world.relay.receive(packet))
    world._done["sh-medical"] = len(world.sh.sent)
    world.relay.peers["checkpoint-0"].frozen = True
    world.at(NOW + HOUR)
    world.drop(world.relay)
    assert len(world.relay.keys("undelivered/")) == 1
    assert world.pending(world.relay) == []
    body = encode({"limit": 10})
    assert decode(world.relay.call("resend", body)) == {"failed": 1, "sent": 0}
    world.relay.peers["checkpoint-0"].frozen = False
    assert decode(world.relay.call("resend", body)) == {"failed": 0, "sent": 1}
    assert decode(world.relay.call("resend", body)) == {"failed": 0, "sent": 0}
    world.deliver()
    assert find_grant(world.zj, RECORD, "sh-h1", NOW)


def test_what_is_set_aside_is_sent_in_its_order_once_its_client_is_active() -> None:
    world = World()
    batch = [attestation(commitment=digest(str(n))) for n in range(3)]
    world.attest(*batch)
    zj, relay = world.zj, "relay-1"
    zj.peers["checkpoint-0"].frozen = True
    world.drop(zj)
    assert zj.contract.holds(relay, zj)
    assert not zj.contract.holds("relay", zj)  # a name that begins like it
    zj.contract.tick(zj, NOW)
    assert zj.contract.holds(relay, zj)
    zj.peers["checkpoint-0"].frozen = False
    zj.contract.tick(zj, NOW)
    assert not zj.contract.holds(relay, zj)
    given = [packet.payloads[0].value for packet in zj.sent]
    assert given[3:] == given[:3]
    zj.contract.tick(zj, NOW)
    assert len(zj.sent) == 6


def test_what_a_tick_sends_again_has_a_limit() -> None:
    world = World()
    world.attest(*[attestation(commitment=digest(str(n))) for n in range(3)])
    world.zj.peers["checkpoint-0"].frozen = True
    world.drop(world.zj)
    world.zj.peers["checkpoint-0"].frozen = False
    assert send_held(world.zj, NOW, 2) == 2
    assert world.zj.contract.holds("relay-1", world.zj)
    assert send_held(world.zj, NOW, 2) == 1


def test_resending_goes_page_by_page() -> None:
    world = World()
    batch = [attestation(commitment=digest(str(n))) for n in range(5)]
    world.attest(*batch)
    world.zj.peers["checkpoint-0"].frozen = True
    world.drop(world.zj)
    world.zj.peers["checkpoint-0"].frozen = False
    answers = [decode(world.zj.call("resend", encode({"limit": 2}))) for _ in range(4)]
    assert [(a["sent"], a["failed"]) for a in answers] == [(2, 3), (2, 1), (1, 0), (0, 0)]  # type: ignore[call-overload, index]


def test_a_notice_answered_by_an_error_is_recorded() -> None:
    world = World()
    world.decide()
    [name] = world.relay.keys("delivered/")
    assert decode(world.relay.written[name.encode()])["accepted"] is True  # type: ignore[index,call-overload]
    other = World()
    other.attest()
    other.deliver()
    other.ask()
    for packet in other.pending(other.sh):
        other.sh.end(packet, other.relay.receive(packet))
    other._done["sh-medical"] = len(other.sh.sent)
    for bad in (ERROR_ACKNOWLEDGEMENT, b"nonsense"):
        other.relay.end(other.relay.sent[0], bad)
    [name] = other.relay.keys("delivered/")
    assert decode(other.relay.written[name.encode()])["accepted"] is False  # type: ignore[index,call-overload]


def test_an_attestation_answered_by_an_error_is_recorded() -> None:
    for bad in (ERROR_ACKNOWLEDGEMENT, b"nonsense"):
        world = World()
        world.attest()
        world.zj.end(world.zj.sent[0], bad)
        [name] = world.zj.keys("announced/")
        kept = decode(world.zj.written[name.encode()])
        assert isinstance(kept, dict)
        assert (kept["accepted"], kept["reason"]) == (False, "ERROR")


# --- heads


def needed(world: World, packet: Packet, payload: Payload | None = None) -> list[HeadNeed]:
    contract = world.relay.contract
    return list(contract.heads_needed(packet, payload or packet.payloads[0], world.relay, NOW))


def test_a_request_needs_a_young_head_of_its_source() -> None:
    world = World()
    world.attest()
    world.ask()
    assert needed(world, world.sh.sent[0]) == [HeadNeed("checkpoint-0", NOW - 300)]
    assert needed(world, world.zj.sent[0]) == []
    world.relay.peers["checkpoint-0"].frozen = True
    assert needed(world, world.sh.sent[0]) == []
    assert list(world.zj.contract.heads_needed(*_any(world), world.zj, NOW)) == []


def _any(world: World) -> tuple[Packet, Payload]:
    return world.sh.sent[0], world.sh.sent[0].payloads[0]


def test_the_regions_own_freshness() -> None:
    documents = policy()
    documents["rules"]["regions"][0]["head_seconds"] = 60
    world = World(documents)
    world.ask()
    assert needed(world, world.sh.sent[0]) == [HeadNeed("checkpoint-0", NOW - 30)]


def test_the_default_freshness_is_ten_minutes() -> None:
    documents = policy()
    del documents["rules"]
    world = World(documents)
    world.ask()
    assert needed(world, world.sh.sent[0]) == [HeadNeed("checkpoint-0", NOW - 300)]
