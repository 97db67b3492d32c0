"""What must arrive and cannot be sent (relay.contracts.undelivered), by itself."""

from __future__ import annotations

import pytest

from relay.canonical import decode, encode
from relay.contracts import undelivered
from relay.contracts.payloads import RECOGNITION_PORT, REGISTRY_PORT
from relay.contracts.registry import CONTRACT
from relay.errors import Reason
from relay.packet import MAX_PAYLOAD_BYTES, Payload
from tests.contracts.ledger import Ledger, Peer
from tests.refusals import refused

NOW = 1_770_000_000


@pytest.fixture
def zj() -> Ledger:
    """A ledger whose clients to its two relays are frozen."""
    peers = {f"checkpoint-{n}": Peer(f"relay-{n}", "checkpoint-0", frozen=True) for n in (1, 2)}
    return Ledger("zj", CONTRACT, peers, now=NOW)


def note(n: int) -> Payload:
    return undelivered.payload_for(RECOGNITION_PORT, REGISTRY_PORT, b"note %d" % n)


def hold(zj: Ledger, *numbers: int, chain: str = "relay-1") -> None:
    for n in numbers:
        assert undelivered.post(zj, chain, note(n), NOW) == ("", 0)


def sent(zj: Ledger) -> list[tuple[str, bytes]]:
    return [(packet.source_client, packet.payloads[0].value) for packet in zj.sent]


def test_what_is_held_is_sent_in_order_when_its_chain_can_be_reached(zj: Ledger) -> None:
    hold(zj, 1, 2)
    hold(zj, 3, chain="relay-2")
    assert undelivered.send_held(zj, NOW) == 0
    assert undelivered.count_held(zj) == 3
    zj.peers["checkpoint-2"].frozen = False
    CONTRACT.tick(zj, NOW)
    assert undelivered.count_held(zj) == 2
    assert [undelivered.is_held(zj, f"relay-{n}") for n in (1, 2, 3)] == [True, False, False]
    zj.peers["checkpoint-1"].frozen = False
    assert undelivered.send_held(zj, NOW, 1) == 1
    assert undelivered.send_held(zj, NOW, 9) == 1
    assert undelivered.send_held(zj, NOW) == undelivered.count_held(zj) == 0
    assert sent(zj) == [
        ("checkpoint-2", b"note 3"),
        ("checkpoint-1", b"note 1"),
        ("checkpoint-1", b"note 2"),
    ]
    assert zj.sent[0].payloads == (note(3),)
    assert zj.sent[0].timeout_timestamp == NOW + undelivered.ROW_TIMEOUT


def test_what_was_answered_by_an_error_is_sent_by_the_call_alone(zj: Ledger) -> None:
    hold(zj, 1)
    undelivered.set_aside(zj, "relay-2", note(2), NOW)
    for peer in zj.peers.values():
        peer.frozen = False
    assert undelivered.send_held(zj, NOW) == 1
    assert not undelivered.is_held(zj, "relay-2")
    assert undelivered.count_held(zj) == 1
    body = encode({"limit": 10})
    assert decode(undelivered.resend(body, zj, NOW)) == {"failed": 0, "sent": 1}
    assert sent(zj) == [("checkpoint-1", b"note 1"), ("checkpoint-2", b"note 2")]


def test_the_call_sends_no_more_than_its_limit_of_both_queues(zj: Ledger) -> None:
    hold(zj, 1, 2)
    undelivered.set_aside(zj, "relay-1", note(3), NOW)
    zj.peers["checkpoint-1"].frozen = False
    for limit, failed, values in ((1, 2, [b"note 1"]), (2, 0, [b"note 2", b"note 3"])):
        before = len(zj.sent)
        answer = decode(undelivered.resend(encode({"limit": limit}), zj, NOW))
        assert answer == {"failed": failed, "sent": limit}
        assert [value for _, value in sent(zj)[before:]] == values


def test_what_was_sent_by_other_means_is_no_longer_held(zj: Ledger) -> None:
    """Only what is held first: of what follows it another tells, in its turn."""
    hold(zj, 1, 2)

    def note_sent(n: int, sequence: int) -> list[str]:
        undelivered.note_sent(zj, "relay-1", note(n), "evm-0", sequence)
        return zj.keys("redelivered/")

    assert note_sent(2, 7) == []
    assert note_sent(3, 7) == []
    where = "redelivered/" + b"relay-1".hex()
    assert note_sent(1, 8) == [f"{where}/{1:012d}"]
    assert zj.written[f"{where}/{1:012d}".encode()] == encode({"client": "evm-0", "sequence": 8})
    assert undelivered.is_held(zj, "relay-1")
    assert note_sent(1, 9) == [f"{where}/{1:012d}"], "it was held once"
    assert len(note_sent(2, 10)) == 2
    assert not undelivered.is_held(zj, "relay-1")
    assert len(note_sent(2, 11)) == 2, "nothing is held"


def sized(size: int) -> Payload:
    return undelivered.payload_for(RECOGNITION_PORT, REGISTRY_PORT, b"x" * size)


def test_the_longest_payload_is_held_and_stops_nothing_behind_it(zj: Ledger) -> None:
    """What one institution made long must not keep back what others have retracted."""
    long = sized(MAX_PAYLOAD_BYTES)
    assert undelivered.post(zj, "relay-1", long, NOW) == ("", 0)
    hold(zj, 2)
    hold(zj, 3, chain="relay-2")
    for peer in zj.peers.values():
        peer.frozen = False
    CONTRACT.tick(zj, NOW)
    assert undelivered.count_held(zj) == 0
    assert [value for _, value in sent(zj)] == [long.value, b"note 2", b"note 3"]
    undelivered.set_aside(zj, "relay-1", long, NOW)
    assert decode(undelivered.resend(encode({"limit": 1}), zj, NOW)) == {"failed": 0, "sent": 1}


def test_the_longest_payload_that_was_sent_by_other_means(zj: Ledger) -> None:
    long = sized(MAX_PAYLOAD_BYTES)
    undelivered.post(zj, "relay-1", long, NOW)
    undelivered.note_sent(zj, "relay-1", long, "evm-0", 1)
    assert not undelivered.is_held(zj, "relay-1")


def test_what_no_packet_can_carry_is_not_held(zj: Ledger) -> None:
    """It could never be sent, and all that is held for the chain after it would wait for ever."""
    for peer in zj.peers.values():
        refused(
            Reason.INVALID_PACKET,
            undelivered.post,
            zj,
            "relay-1",
            sized(MAX_PAYLOAD_BYTES + 1),
            NOW,
        )
        peer.frozen = False
    assert zj.keys("undelivered/") == []
