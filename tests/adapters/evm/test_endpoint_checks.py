"""Each check of the endpoint by itself: what is sent, what is delivered, sets, proofs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from adapters.evm import calls
from adapters.evm.chain import EvmChain
from adapters.evm.deploy import deploy_endpoint
from adapters.evm.light.crypto import keccak
from relay.chain import Delivery
from relay.errors import Malformed, Reason
from relay.light.checkpoint import encode_body, parse_body
from relay.light.membership import decode_membership_proof
from relay.light.types import DAY, Witness
from relay.packet import commitment_path, packet_commitment
from tests.adapters.evm.ledger import EvmLedger, install
from tests.adapters.evm.test_endpoint import NOTHING, delivery_of, head_now, post
from tests.adapters.evm.test_recovery import body_of, signed
from tests.echo import ECHO
from tests.refusals import refusal
from tests.world import keys_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
P = 2**256 - 2**32 - 977
MAX_VALUE = 65_536


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EvmLedger]:
    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        made = EvmLedger(tmp_path_factory.mktemp("evm"), [ECHO])
        yield made
        made.close()


def sends(ledger: EvmLedger, **changes: Any) -> str:
    parts = {
        "source": "registry", "destination": "recognition", "version": "v", "encoding": "e",
        "value": b"x", "timeout": ledger.world.clock.now + 60,
    } | changes  # fmt: skip
    sender = parts.pop("sender", ledger.registry.address)
    return ledger.reverts("Endpoint", "send", *parts.values(), sender=sender)


def test_what_an_application_may_send(ledger: EvmLedger) -> None:
    assert sends(ledger) == ""
    assert sends(ledger, sender=b"\x77" * 20) == Reason.NOT_PERMITTED
    assert sends(ledger, source="escrow") == Reason.NOT_PERMITTED
    assert sends(ledger, source="") == Reason.NOT_PERMITTED
    for empty in ({"destination": ""}, {"version": ""}, {"encoding": ""}, {"value": b""}):
        assert sends(ledger, **empty) == Reason.INVALID_PACKET
    for part in ("destination", "version", "encoding"):
        for length in (1, 31, 32, 33, 128):
            assert sends(ledger, **{part: "~" * (length - 1) + "!"}) == "", (part, length)
        for bad in (
            "~" * 129,
            "a b",
            " ",
            "\x7f",
            "x" * 40 + "\n",
            "x" * 31 + "\0",
            "é",
            "\ud7ff" * 9,
        ):
            assert sends(ledger, **{part: bad}) == Reason.INVALID_PACKET, (part, bad)
    port = ("Endpoint", "registerApp", "a b", "0x" + ledger.registry.address.hex())
    assert ledger.reverts(*port) == Reason.INVALID_PACKET
    assert sends(ledger, value=bytes(MAX_VALUE)) == ""
    assert sends(ledger, value=bytes(MAX_VALUE + 1)) == Reason.LIMIT_EXCEEDED


def test_nothing_is_sent_to_nobody(ledger: EvmLedger) -> None:
    alone = deploy_endpoint(ledger.rpc, ledger.sender, "alone", ledger.anchor)
    joined, ledger.deployed["Endpoint"] = ledger.deployed["Endpoint"], alone
    try:
        me = "0x" + ledger.registry.address.hex()
        ledger.transact("Endpoint", "registerApp", "registry", me)
        assert sends(ledger) == Reason.COUNTERPARTY_UNKNOWN
    finally:
        ledger.deployed["Endpoint"] = joined


def test_what_an_application_may_record(ledger: EvmLedger) -> None:
    def puts(key: bytes, value: bytes) -> str:
        sender = ledger.registry.address
        return ledger.reverts("Endpoint", "put", "registry", key, value, sender=sender)

    assert puts(b"", b"x") == Reason.LIMIT_EXCEEDED
    assert puts(b"k" * 512, b"x") == ""
    assert puts(b"k" * 513, b"x") == Reason.LIMIT_EXCEEDED
    post(ledger, [b"recorded"])
    name = b"posted/" + sha256(b"recorded").digest()
    assert puts(name, b"recorded") == ""
    assert puts(name, b"otherwise") == Reason.PATH_WRITTEN


def test_more_witnesses_than_there_are_are_not_required(ledger: EvmLedger) -> None:
    keys = keys_of("witness", 2, "secp256k1")
    witnesses = [Witness(f"w{i}", "secp256k1", key.public) for i, key in enumerate(keys)]
    error = refusal(
        lambda: deploy_endpoint(
            ledger.rpc, ledger.sender, "watched", ledger.anchor,
            witnesses=witnesses, witness_quorum=3,
        ),
        kind=Malformed,
    )  # fmt: skip
    assert keccak(b"NOT_PERMITTED()")[:4].hex() in error.detail


# --- sets


def text(raw: bytes) -> bytes:
    return len(raw).to_bytes(4, "big") + raw


def encoded(*keys: bytes, version: int = 1, count: int | None = None) -> bytes:
    """A set whose members have one key each, or none where it is empty."""
    raw = bytes((version,)) + (len(keys) if count is None else count).to_bytes(4, "big")
    for n, key in enumerate(keys):
        raw += text(b"v%03d" % n) + (1).to_bytes(8, "big")
        raw += (1).to_bytes(4, "big") + text(b"secp256k1") + text(key) if key else bytes(4)
    return raw


def point(x: int, y: int, prefix: int = 0) -> tuple[bytes, int]:
    return bytes((prefix or 2 + (y & 1),)) + x.to_bytes(32, "big"), y


def small_y() -> tuple[int, int]:
    """A point of the curve whose y + P is below 2^256."""
    for y in range(1, 1000):
        x = pow(y * y - 7, (P + 2) // 9, P)
        if pow(x, 3, P) == (y * y - 7) % P:
            return x, y
    raise AssertionError


def test_sets_that_are_refused(ledger: EvmLedger) -> None:
    def registers(raw: bytes, *ys: int) -> str:
        return ledger.reverts("Endpoint", "registerSet", raw, list(ys))

    y1 = pow(8, (P + 1) // 4, P)  # of x = 1
    good, y = point(1, y1)
    assert registers(encoded(good), y) == ""
    assert registers(encoded(good, version=2), y) == Reason.MALFORMED
    assert registers(encoded(count=0)) == Reason.MALFORMED
    assert registers(encoded(*[b""] * 200)) == ""
    assert registers(encoded(*[b""] * 201)) == Reason.MALFORMED
    assert registers(encoded(good) + b"\0", y) == Reason.MALFORMED
    assert registers(encoded(good)[:-1], y) == Reason.MALFORMED
    assert registers(encoded(good, count=2), y) == Reason.MALFORMED
    assert registers(encoded(good), y, y) == Reason.MALFORMED
    assert registers(encoded(good)) == Reason.WEAK_KEY
    assert registers(encoded(good[:-1]), y) == Reason.WEAK_KEY
    assert registers(encoded(good + b"\0"), y) == Reason.WEAK_KEY
    assert registers(encoded(point(1, y, 5 - good[0])[0]), y) == Reason.WEAK_KEY
    assert registers(encoded(good), y + 2) == Reason.WEAK_KEY  # of the same parity, off the curve
    # The same point by another name: two encodings would be two voices.
    far_x, _ = point(1 + P, y)
    assert registers(encoded(far_x), y) == Reason.WEAK_KEY
    x, low = small_y()
    assert registers(encoded(point(x, low)[0]), low) == ""
    assert registers(encoded(point(x, low + P)[0]), low + P) == Reason.WEAK_KEY
    long = encoded(good).replace(text(b"secp256k1"), (1000).to_bytes(4, "big") + b"secp256k1")
    assert registers(long, y) == Reason.MALFORMED


# --- heads


def test_a_head_of_a_known_size(ledger: EvmLedger) -> None:
    header = head_now(ledger)
    body, signatures, none, start, link = calls.update_of(header)
    ledger.transact("Endpoint", "deliver", [(body, signatures, none, start, link)], *NOTHING)

    def why(changed: tuple[Any, ...], given: list[Any]) -> str:
        return ledger.reverts("Endpoint", "deliver", [(changed, given, [], start, link)], *NOTHING)

    other = encode_body(replace(parse_body(header.body), root=bytes(32)))
    forked = body_of(header, root=bytes(32))
    assert why(forked, signed(ledger, other)) == Reason.HEAD_CONFLICT
    assert why(forked, signed(ledger, other)[:2]) == Reason.QUORUM_NOT_REACHED
    foreign = body_of(header, root=bytes(32), set=b"\x01" * 32)
    assert why(foreign, signatures) == Reason.VALIDATOR_SET_MISMATCH


def test_what_is_no_misbehaviour(ledger: EvmLedger) -> None:
    """An honest history told backwards; and what is older than the trusting period."""
    header = head_now(ledger)
    body, signatures, *_ = calls.update_of(header)
    parsed = parse_body(header.body)
    above = encode_body(replace(parsed, size=parsed.size + 1, time=parsed.time + 5))
    later = (body[0] + 1, body[1] + 5, *body[2:])
    backwards = (later, signed(ledger, above), body, signatures)
    call = ("Endpoint", "submitMisbehaviour")
    assert ledger.reverts(*call, *backwards) == Reason.NOT_MISBEHAVIOUR
    long_ago = ledger.world.clock.now - 90 * DAY
    old = encode_body(replace(parsed, time=long_ago))
    again = encode_body(replace(parsed, time=long_ago, root=bytes(32)))
    shown = (
        (body[0], long_ago, *body[2:]), signed(ledger, old),
        (body[0], long_ago, bytes(32), *body[3:]), signed(ledger, again),
    )  # fmt: skip
    assert ledger.reverts(*call, *shown) == Reason.NOT_MISBEHAVIOUR


# --- items


def answers(ledger: EvmLedger, verb: int, packet: tuple[Any, ...], at: int = 0) -> str:
    """What the endpoint says of an item before it looks at the proof."""
    chain = ledger.chain
    assert isinstance(chain, EvmChain)
    nothing = (*calls.NO_PROOF[:2], at, *calls.NO_PROOF[3:])
    (code,) = chain._simulate([[], [(verb, packet, b"", [])], nothing])
    done = calls.submission_of(code)
    return done.reason or done.outcome.value


def test_items_that_need_no_proof_to_be_refused(ledger: EvmLedger) -> None:
    now = ledger.world.clock.now
    receive, acknowledge, timeout, expire = range(4)

    def packet(sequence: int = 7, value: bytes = b"x", ahead: int = 600, **ends: str) -> Any:
        source = ends.get("source", ledger.on_hub)
        destination = ends.get("destination", "checkpoint-0")
        return (sequence, source, destination, now + ahead, "echo", "echo", "v", "e", value)

    own = {"source": "checkpoint-0", "destination": ledger.on_hub}
    (sequence,) = post(ledger, [b"open"])
    sent = ledger.chain.packets("checkpoint-0", 0, 1000)[-1].packet
    assert sent.sequence == sequence
    for verb, given, reason in (
        (4, packet(), Reason.INVALID_PACKET),
        (receive, packet(0), Reason.INVALID_PACKET),
        (receive, packet(value=b""), Reason.INVALID_PACKET),
        (receive, packet(value=bytes(MAX_VALUE + 1)), Reason.LIMIT_EXCEEDED),
        (receive, packet(destination="checkpoint-1"), Reason.COUNTERPARTY_MISMATCH),
        (receive, packet(source="evm-9"), Reason.COUNTERPARTY_MISMATCH),
        (acknowledge, packet(**{**own, "source": "checkpoint-1"}), Reason.COUNTERPARTY_MISMATCH),
        (timeout, packet(**{**own, "destination": "evm-9"}), Reason.COUNTERPARTY_MISMATCH),
        (receive, packet(ahead=-10), Reason.TIMEOUT_ELAPSED),
        (expire, packet(), Reason.TIMEOUT_NOT_REACHED),
        (acknowledge, packet(1000, **own), "noop"),
        (timeout, packet(1000, **own), "noop"),
        (acknowledge, packet(sequence, **own), Reason.COMMITMENT_MISMATCH),
        (timeout, packet(sequence, **own), Reason.COMMITMENT_MISMATCH),
        (timeout, calls.packet_of(sent), Reason.TIMEOUT_NOT_REACHED),
    ):
        assert answers(ledger, verb, given) == reason


# --- proofs


def test_places_in_a_proof(ledger: EvmLedger) -> None:
    """Each claim has its own leaf, none is written over by another, and all of them are used."""
    true = delivery_of(ledger, [b"one", b"two"])
    headers = [calls.decode_checkpoint(raw) for raw in true.headers]
    indexes, hashes = decode_membership_proof(true.proof)
    head = headers[-1]
    claims = calls.claims_of(true)
    good = calls.proof_of(true, head.root, head.time, indexes, hashes, claims)
    updates = [calls.update_of(h) for h in headers]
    items = [calls.item_of(item) for item in true.items]

    def why(proof: tuple[Any, ...], given: list[Any] | None = None) -> str:
        return ledger.reverts("Endpoint", "deliver", updates, given or items, proof)

    size, root, time, leaves, place, path, sent = good
    assert why(good) == ""
    bad = Reason.INVALID_PROOF
    assert why((size, root, time, leaves, [*place, 0], path, sent)) == bad
    assert why((size, root, time, leaves, place[:-1], path, sent)) == bad
    assert why((size, root, time, leaves, [place[0], 9], path, sent)) == bad
    assert why((size, root, time, leaves, [place[0], place[0]], path, sent)) == bad
    assert why((size, root, time + 1, leaves, place, path, sent)) == Reason.HEIGHT_NOT_TRUSTED
    stated = [(b"", b"x")]
    assert why((size, root, time, leaves, [0, *place], path, stated)) == bad

    # One leaf cannot stand for a forged packet beside the true one.
    first = replace(true, items=true.items[:1])
    local = ledger.world.chain("hub")
    one = local.prove([commitment_path(ledger.on_hub, first.items[0].packet.sequence)], size)
    (only,), alone = decode_membership_proof(one)
    forged = (items[0][0], (*items[0][1][:-1], b"forged"), b"", [])
    both = (size, root, time, [only], [0, 0], list(alone), [])
    assert why(both, [items[0], items[0]]) == ""
    assert why(both, [forged, items[0]]) == bad
    assert why(both, [items[0], forged]) == bad

    # What looks like a record beside a packet may not be a packet's own path.
    packet = first.items[0].packet
    own = commitment_path(ledger.on_hub, packet.sequence)
    with_own = (*items[0][:3], [(own, packet_commitment(packet))])
    assert why(both, [with_own]) == bad


def test_a_proof_without_items_is_not_looked_at(ledger: EvmLedger) -> None:
    (result,) = ledger.chain.submit([Delivery("checkpoint-0", ())])
    assert result.items == ()
