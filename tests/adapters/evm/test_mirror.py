"""Tables made of what an EVM ledger tells: what the chain could not send is kept, not dreamt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters.evm import calls
from adapters.evm.engine.logs import Answered, Block, Lapsed, Place, Recorded, Told
from adapters.evm.engine.mirror import Mirror, last_read
from adapters.evm.light.state import CLIENT_ID
from adapters.evm.sdk import Web3
from relay.canonical import Json, encode
from relay.chain import PacketStep, Step
from relay.contracts.payloads import Action, Answer, OutcomeNotice
from relay.contracts.registry import CONTRACT as REGISTRY
from relay.contracts.registry import standing
from relay.contracts.undelivered import payload_for
from relay.errors import Reason
from relay.host import HostState
from relay.node import create
from relay.packet import ERROR_ACKNOWLEDGEMENT, Packet, check_packet
from relay.packet_bytes import decode_packet, encode_packet
from relay.store import Direction, PacketRow, Store, Transaction
from relay.ticking import close_batch
from tests.contracts.world import HOSPITAL, NOW, RECORD, adopted, attestation, digest
from tests.databases import everyday_url, new_store
from tests.refusals import refusing
from tests.world import keys_of, set_of

LEDGER, RELAY = "zj-medical", "relay-1"
HOUR = 3600


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = new_store(everyday_url(tmp_path / "node.db"))
    create(made, LEDGER, "ledger", set_of(keys_of(LEDGER, 1), LEDGER), epoch=0, now=NOW)
    return made


@pytest.fixture
def tx(store: Store) -> Iterator[Transaction]:
    with store.reading() as tx:
        yield tx


@pytest.fixture
def mirror() -> Mirror:
    return Mirror(LEDGER, f"{RELAY}/0", {"registry": REGISTRY})


def _attested(sequence: int, action: Action = Action.NEW) -> PacketStep:
    given = attestation()
    if action is Action.RETRACT:
        given = HOSPITAL.sign(replace(given, action=action, items=()))
    payload = payload_for("recognition", "registry", given.encode())
    packet = Packet(sequence, CLIENT_ID, "evm-0", NOW + HOUR, (payload,))
    return PacketStep(sequence, sequence, Step.SEND, packet)


def _fold(mirror: Mirror, tx: Transaction, number: int, *told: Told) -> None:
    body: Json = {"institution": "zj-h1", "keys": [HOSPITAL.dated()], "version": 1}
    first = Recorded(encode({"body": body, "method": "institution.register"}))
    blocks = [Block(number, NOW + number, told)]
    if number == 1:
        blocks.insert(0, Block(0, NOW, (first,)))
    mirror.fold(tx, blocks, Place(number, number))


def _state(mirror: Mirror, tx: Transaction) -> HostState:
    return HostState(mirror, tx, "registry", NOW)


def test_what_was_posted_is_in_the_tables(mirror: Mirror, tx: Transaction) -> None:
    _fold(mirror, tx, 1, _attested(1))
    assert standing(_state(mirror, tx), RECORD) == ""
    _fold(mirror, tx, 2, _attested(2, Action.RETRACT))
    assert standing(_state(mirror, tx), RECORD) == "RETRACTED"
    assert last_read(tx, mirror) == Place(2, 2)


def test_what_the_contract_refuses_leaves_the_packet(mirror: Mirror, tx: Transaction) -> None:
    """Anybody whom the registry admits can post what nobody signed: it was sent all the same."""
    bad = attestation(institution="zj-h9")
    payload = payload_for("recognition", "registry", bad.encode())
    packet = Packet(1, CLIENT_ID, "evm-0", NOW + HOUR, (payload,))
    _fold(mirror, tx, 1, PacketStep(1, 1, Step.SEND, packet))
    assert not _state(mirror, tx).scan(b"attestation/")
    _fold(mirror, tx, 2, Answered(1, Answer(RECORD).encode()))


@pytest.mark.parametrize(
    "version", [b"\xff\xfe", b"v" * 129, b"a b", b"\xf0\x9f\x98\x80" * 60, b"\0", b""]
)
def test_a_version_that_is_none_keeps_nobody_from_reading_on(
    mirror: Mirror, tx: Transaction, version: bytes
) -> None:
    """Endpoints have sent whatever one of the institutions gave as a version."""
    names = (b"registry", b"recognition", version, b"application/json")
    words = (1, CLIENT_ID.encode(), b"evm-0", NOW + HOUR, *names, attestation().encode())
    kinds = calls.PACKET.replace("string", "bytes")
    log = {
        "topics": [calls.SENT_TOPIC, f"0x{1:064x}", f"0x{1:064x}"],
        "blockNumber": "0x1",
        "data": "0x" + Web3().codec.encode([kinds], [words]).hex(),
    }
    (step,) = calls.read_steps([log])
    with refusing(Reason.INVALID_PACKET):
        check_packet(step.packet)
    assert decode_packet(encode_packet(step.packet)) == step.packet
    _fold(mirror, tx, 1, step, _attested(2))
    assert standing(_state(mirror, tx), RECORD) == ""


def test_an_answer_is_told_to_the_contract(mirror: Mirror, tx: Transaction) -> None:
    _fold(mirror, tx, 1, _attested(1))
    _fold(mirror, tx, 2, Answered(1, Answer(RECORD).encode()))
    assert len(_state(mirror, tx).scan(b"announced/")) == 1


def test_what_timed_out_has_the_sequence_that_the_chain_gave_it(
    mirror: Mirror, tx: Transaction
) -> None:
    _fold(mirror, tx, 1, _attested(1))
    _fold(mirror, tx, 2, Lapsed(1, 2))
    assert not _state(mirror, tx).scan(b"undelivered/")


def test_what_the_chain_could_not_send_is_kept_until_it_is_posted(
    mirror: Mirror, tx: Transaction
) -> None:
    """A tick of the node sends nothing, since it could not: only what is posted is on the chain."""
    _fold(mirror, tx, 1, _attested(1))
    _fold(mirror, tx, 2, Lapsed(1, 0))
    state = _state(mirror, tx)
    assert REGISTRY.holds(RELAY, state)
    close_batch(mirror, tx, NOW + HOUR, 60)
    assert REGISTRY.holds(RELAY, state)
    assert not state.scan(b"redelivered/")
    _fold(mirror, tx, 3, _attested(2, Action.RETRACT))  # something else
    assert REGISTRY.holds(RELAY, state)
    _fold(mirror, tx, 4, _attested(3))
    assert not REGISTRY.holds(RELAY, state)


def _told(sequence: int, answer: bytes, **changes: Any) -> PacketStep:
    notice = OutcomeNotice(
        relay=RELAY, origin="sh-medical", target=LEDGER, hops=1, request=digest("request"),
        commitment=RECORD, institution="sh-h1", outcome=digest("outcome"), time=NOW,
        items=(adopted(),),
    )  # fmt: skip
    value = replace(notice, **changes).encode()
    payload = payload_for("registry", "recognition", value)
    packet = Packet(sequence, "evm-0", CLIENT_ID, NOW + HOUR, (payload,))
    return PacketStep(sequence, sequence, Step.RECEIVE, packet, (answer,))


def _why(tx: Transaction, sequence: int) -> str:
    row = tx.load(PacketRow, CLIENT_ID, Direction.IN, sequence)
    assert row is not None
    return row.error


def test_why_the_chain_refused_a_packet_is_told(mirror: Mirror, tx: Transaction) -> None:
    """The chain answers with the error alone; the contract in Python knows the reason."""
    accepted = Answer(digest("outcome")).encode()
    _fold(mirror, tx, 1, _told(1, accepted))
    assert _why(tx, 1) == ""
    assert len(_state(mirror, tx).scan(b"outcome-notice/")) == 1
    _fold(mirror, tx, 2, _told(2, ERROR_ACKNOWLEDGEMENT, target="elsewhere"))
    assert _why(tx, 2) == "CHAIN_ID_MISMATCH"
    # What the contract would have taken and the chain has not leaves nothing here, either.
    _fold(mirror, tx, 3, _told(3, ERROR_ACKNOWLEDGEMENT, outcome=digest("another")))
    assert _why(tx, 3) == "CONTRACT_REFUSED"
    assert len(_state(mirror, tx).scan(b"outcome-notice/")) == 1
