"""The endpoint on a real EVM: packets both ways through its adapter, and attacks on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from adapters.evm import calls
from adapters.evm.deploy import deploy
from relay.chain import Delivery, Item, Outcome, Step
from relay.contracts.recognition import CONTRACT as RECOGNITION
from relay.errors import Reason
from relay.light.checkpoint import encode_body, parse_body
from relay.light.checkpoint_client import CHECKPOINT
from relay.light.keys import SECP256K1_N
from relay.light.types import Header, Signature
from relay.packet import ABSENT, commitment_path, receipt_path
from relay.paths import record_path
from relay.relayer import Relayer
from relay.steps import proven_paths
from tests.adapters.evm.ledger import EvmLedger, install
from tests.echo import ECHO

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EvmLedger]:
    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        made = EvmLedger(tmp_path_factory.mktemp("evm"), [ECHO, RECOGNITION])
        yield made
        made.close()


def test_it_says_who_it_is(ledger: EvmLedger) -> None:
    assert ledger.chain.chain_id == "sz-money"
    status = ledger.chain.client("checkpoint-0")
    assert status.counterparty_client_id == ledger.on_hub == "evm-0"
    assert (status.algorithm, status.chain_id) == ("secp256k1", "hub/0")
    assert status.latest_height == ledger.anchor.height


def relayer_of(ledger: EvmLedger) -> Relayer:
    node = ledger.hub
    return Relayer(
        node.store,
        ledger.world.networks["hub"],
        [(ledger.on_hub, ledger.chain)],
        heads_needed=node.heads_needed,
        submit_misbehaviour=node.submit_misbehaviour,
        client_types=node.client_types,
    )


def rest(ledger: EvmLedger, relayer: Relayer) -> None:
    """Turns until nothing is done; each begins with a new block, as on a chain that is alive."""
    for _ in range(20):
        ledger.anvil.mine()
        ledger.world.clock.advance(2)
        (report,) = relayer.tick(ledger.world.clock.now)
        assert not ledger_stopped(relayer), ledger_stopped(relayer)
        if report.idle and not report.more:
            return
    raise AssertionError("the lane does not rest")


def ledger_stopped(relayer: Relayer) -> str:
    return " ".join(relayer.lanes[0].stopped).strip()


def post(
    ledger: EvmLedger, values: list[bytes], seconds: int = 600, once: bool = False
) -> list[int]:
    """Posts values from the ledger; their sequences."""
    before = ledger.chain._view("nextSequence")[0]  # type: ignore[attr-defined]
    timeout = ledger.world.clock.now + seconds
    ledger.transact("Registry", "post", values, "recognition-1", timeout, once)
    return list(range(before, before + len(values)))


def echo(ledger: EvmLedger, value: bytes, seconds: int = 600) -> int:
    """Sends a value from the relay to the ledger; its sequence."""
    timeout = ledger.world.clock.now + seconds
    body = f"{ledger.on_hub}\n{timeout}\n".encode() + value
    return int(ledger.hub.call("echo", "send", body))


def read(ledger: EvmLedger, path: bytes) -> bytes | None:
    with ledger.hub.store.reading() as tx:
        return tx.get(path)


def word(ledger: EvmLedger, path: bytes) -> bytes:
    from adapters.evm.light.crypto import keccak

    return bytes(ledger.chain._view("written", keccak(path))[0])  # type: ignore[attr-defined]


def test_packets_of_the_ledger_are_answered_by_the_relay(ledger: EvmLedger) -> None:
    relayer = relayer_of(ledger)
    sequences = post(ledger, [b"one", b"two", b"three"])
    assert all(any(word(ledger, commitment_path("checkpoint-0", s))) for s in sequences)
    rest(ledger, relayer)
    for sequence in sequences:
        assert not any(word(ledger, commitment_path("checkpoint-0", sequence)))
        assert read(ledger, receipt_path(ledger.on_hub, sequence))


def test_packets_of_the_relay_are_answered_by_the_ledger(ledger: EvmLedger) -> None:
    made = deploy(ledger.rpc, ledger.sender, "Echo")
    ledger.transact("Endpoint", "registerApp", "echo", "0x" + made.address.hex())
    relayer = relayer_of(ledger)
    sequence = echo(ledger, b"what was told")
    rest(ledger, relayer)
    told = read(ledger, record_path("echo", f"acknowledged/{ledger.on_hub}/{sequence}".encode()))
    assert told == b"what was told"
    assert any(word(ledger, receipt_path("checkpoint-0", sequence)))


def test_a_packet_of_the_relay_times_out_by_a_proof_of_absence(ledger: EvmLedger) -> None:
    relayer = relayer_of(ledger)
    sequence = echo(ledger, b"late", 30)
    ledger.world.clock.advance(60)
    rest(ledger, relayer)
    told = read(ledger, record_path("echo", f"timed-out/{ledger.on_hub}/{sequence}".encode()))
    assert told == b"late"
    assert not any(word(ledger, receipt_path("checkpoint-0", sequence)))


def test_what_expired_is_told_once(ledger: EvmLedger) -> None:
    """Anybody may deliver it, and each time would be one more step for everyone who follows."""
    sequence = echo(ledger, b"late again", 30)
    ledger.world.clock.advance(60)
    ledger.anvil.mine()
    (step,) = [
        s
        for s in ledger.world.chain("hub").packets(ledger.on_hub, -1, 1000)
        if s.step is Step.SEND and s.packet.sequence == sequence
    ]
    expire = Item(Step.EXPIRE, step.packet)
    source, size = ledger.world.chain("hub"), ledger.chain.client("checkpoint-0").latest_height
    height = source.latest_height()
    headers = tuple(source.headers(size, height, "secp256k1")) if height > size else ()
    proof = source.prove(proven_paths([expire]), height)
    before = ledger.chain._view("steps")[0]  # type: ignore[attr-defined]
    said = []
    for lead in (headers, (), ()):
        delivery = Delivery("checkpoint-0", lead, height, proof, (expire, expire))
        (result,) = ledger.chain.submit([delivery])
        said += [item.outcome for item in result.items]
    assert said == [Outcome.DONE, *[Outcome.NOOP] * 5]
    assert ledger.chain._view("steps")[0] == before + 1  # type: ignore[attr-defined]
    rest(ledger, relayer_of(ledger))
    told = read(ledger, record_path("echo", f"timed-out/{ledger.on_hub}/{sequence}".encode()))
    assert told == b"late again"


def test_a_packet_of_the_ledger_times_out_by_the_relays_sentinel(ledger: EvmLedger) -> None:
    relayer = relayer_of(ledger)
    (sequence,) = post(ledger, [b"late"], 30)
    (asked,) = post(ledger, [b"asked once"], 30, once=True)
    ledger.world.clock.advance(60)
    rest(ledger, relayer)
    for late in (sequence, asked):
        assert not any(word(ledger, commitment_path("checkpoint-0", late)))
        assert read(ledger, receipt_path(ledger.on_hub, late)) == ABSENT
    again = asked + 1  # what must arrive was sent again under a new sequence, the other was not
    assert ledger.chain._view("nextSequence") == (again + 1,)  # type: ignore[attr-defined]
    assert read(ledger, receipt_path(ledger.on_hub, again)) not in (None, ABSENT)
    sent = {s.packet.sequence: s.packet for s in ledger.chain.packets("checkpoint-0", 0, 1000)
            if s.step is Step.SEND}  # fmt: skip
    assert sent[again].payloads == sent[sequence].payloads


def complete(ledger: EvmLedger) -> int:
    """As of when the relay knows everything that the ledger had sent."""
    return ledger.world.chain("hub").client(ledger.on_hub).complete_time


def brought(ledger: EvmLedger, relayer: Relayer) -> int:
    """The same, after the relayer was asked for a statement in a new block."""
    ledger.anvil.mine()
    ledger.world.clock.advance(2)
    relayer.lanes[0].bring_complete(ledger.world.clock.now)
    return complete(ledger)


def test_the_ledger_states_what_it_has_sent(ledger: EvmLedger) -> None:
    relayer = relayer_of(ledger)
    post(ledger, [b"a", b"b"])
    rest(ledger, relayer)
    first = brought(ledger, relayer)
    assert first >= ledger.world.clock.now - 3
    ledger.world.clock.advance(500)  # nothing happens, and that is known under a younger head
    assert brought(ledger, relayer) >= first + 500


def test_a_packet_kept_back_is_missed(ledger: EvmLedger) -> None:
    """Whoever brings the head and the statement, and not the packet, is told so."""
    relayer = relayer_of(ledger)
    rest(ledger, relayer)
    before = brought(ledger, relayer)
    post(ledger, [b"kept back"])
    ledger.world.clock.advance(30)
    height, local = ledger.anvil.mine(), ledger.world.chain("hub")
    claims = ledger.chain.sent("checkpoint-0", height, 2**62)  # type: ignore[attr-defined]
    assert ledger.chain.sent("checkpoint-0", height, 1) == ()  # type: ignore[attr-defined]
    known = local.client(ledger.on_hub).latest_height
    headers = tuple(ledger.chain.headers(known, height))
    proof = ledger.chain.prove([c.path for c in claims], height)
    stated = Delivery(ledger.on_hub, headers, height, proof, (), tuple(claims))
    (result,) = local.submit([stated])
    assert result.sent.reason == Reason.PACKETS_MISSING
    assert complete(ledger) == before
    word = claims[0].value
    assert word is not None
    less = (int.from_bytes(word, "big") - 1).to_bytes(32, "big")
    false = replace(stated, headers=(), sent=(replace(claims[0], value=less),))
    assert local.submit([false])[0].sent.reason == Reason.INVALID_PROOF
    rest(ledger, relayer)
    assert brought(ledger, relayer) > before


def test_a_ledger_whose_packets_expired_is_complete_again(ledger: EvmLedger) -> None:
    """Expired here, closed there, sent again: all of it counts."""
    relayer = relayer_of(ledger)
    post(ledger, [b"lapsed %d" % i for i in range(3)], 30)
    ledger.world.clock.advance(60)
    before = ledger.world.clock.now
    rest(ledger, relayer)
    assert brought(ledger, relayer) >= before


# --- attacks


def head_now(ledger: EvmLedger) -> Header:
    """A head of the relay that the endpoint has not seen, with its link."""
    echo(ledger, b"more")
    status = ledger.chain.client("checkpoint-0")
    local = ledger.world.chain("hub")
    raw = local.headers(status.latest_height, local.latest_height(), "secp256k1")[-1]
    return CHECKPOINT.decode_header(raw)


NOTHING: tuple[list[object], tuple[object, ...]] = ([], calls.NO_PROOF)


def test_updates_that_are_refused(ledger: EvmLedger) -> None:
    header = head_now(ledger)
    good = calls.update_of(header)
    body, signatures, _, link_from, link = good

    def why(update: tuple[object, ...]) -> str:
        return ledger.reverts("Endpoint", "deliver", [update], *NOTHING)

    assert why(good) == ""
    one, two, three, *_ = signatures
    cases = {
        "a signer counted twice": ([one, one, two], Reason.DUPLICATE_SIGNER),
        "not in order": ([two, one, three], Reason.DUPLICATE_SIGNER),
        "too few": ([one, two], Reason.QUORUM_NOT_REACHED),
        "nobody": ([], Reason.QUORUM_NOT_REACHED),
        "a stranger": ([one, two, (9, *three[1:])], Reason.UNKNOWN_SIGNER),
        "another's": ([one, two, (2, *one[1:])], Reason.INVALID_SIGNATURE),
        "nothing": ([one, two, (2, bytes(32), bytes(32))], Reason.INVALID_SIGNATURE),
    }
    parity = int.from_bytes(three[2], "big") >> 255
    high = SECP256K1_N - (int.from_bytes(three[2], "big") & (2**255 - 1))
    turned = high | ((1 - parity) << 255)
    if high < 2**255:
        shown = (2, three[1], turned.to_bytes(32, "big"))
        cases["a high s"] = ([one, two, shown], Reason.INVALID_SIGNATURE)
    for name, (signed, reason) in cases.items():
        assert why((body, signed, [], link_from, link)) == reason, name
    size, at, root, current, following = body
    for changed in (
        (size, at, bytes(32), current, following),
        (size, at, root, current, current[::-1]),
        (size + 1, at, root, current, following),
    ):
        assert why((changed, signatures, [], link_from, link)) in (
            Reason.INVALID_CONSISTENCY, Reason.INVALID_SIGNATURE, Reason.VALIDATOR_SET_MISMATCH,
        )  # fmt: skip
    later = (size, at + 1, root, current, following)
    assert why((later, signatures, [], link_from, link)) == Reason.INVALID_SIGNATURE
    early = (size, 1, root, current, following)
    assert why((early, signatures, [], link_from, link)) == Reason.TIME_NOT_MONOTONIC
    ahead = (size, at + 10**6, root, current, following)
    assert why((ahead, signatures, [], link_from, link)) == Reason.HEADER_FROM_FUTURE
    foreign = (size, at, root, bytes(32), following)
    assert why((foreign, signatures, [], link_from, link)) == Reason.NOT_ENOUGH_TRUST
    assert why((body, signatures, [], link_from, link[:-1])) == Reason.INVALID_CONSISTENCY
    assert why((body, signatures, [], link_from - 1, link)) == Reason.INVALID_CONSISTENCY
    assert why((body, signatures, [one], link_from, link)) == Reason.UNKNOWN_SIGNER
    old = (1, at, root, current, following)
    assert why((old, signatures, [], link_from, link)) == Reason.HEIGHT_NOT_MONOTONIC
    ledger.transact("Endpoint", "deliver", [good], *NOTHING)
    assert why(good) == ""


def test_another_chains_head_is_not_this_relays(ledger: EvmLedger) -> None:
    """The origin is the first line of what is signed."""
    header = head_now(ledger)
    text = header.body.replace(b"hub/0", b"hub/1", 1)
    keys = ledger.world.signers["hub"]
    forged = [
        calls._signature(i, k.public, text, Signature("", "secp256k1", k.sign(text)))
        for i, k in enumerate(keys)
    ]
    body, _, _, link_from, link = calls.update_of(header)
    update = (body, forged, [], link_from, link)
    assert ledger.reverts("Endpoint", "deliver", [update], *NOTHING) == Reason.INVALID_SIGNATURE


def delivery_of(ledger: EvmLedger, values: list[bytes], seconds: int = 600) -> Delivery:
    """A true delivery of new packets of the relay to the ledger."""
    sequences = {echo(ledger, value, seconds) for value in values}
    local = ledger.world.chain("hub")
    steps = local.packets(ledger.on_hub, 0, 1000)
    items = tuple(
        Item(Step.RECEIVE, s.packet)
        for s in steps
        if s.step is Step.SEND and s.packet.sequence in sequences
    )
    status, height = ledger.chain.client("checkpoint-0"), local.latest_height()
    headers = tuple(local.headers(status.latest_height, height, "secp256k1"))
    proof = local.prove(proven_paths(items), height)
    return Delivery("checkpoint-0", headers, height, proof, items)


def outcomes(ledger: EvmLedger, delivery: Delivery) -> list[str]:
    (result,) = ledger.chain.submit([delivery])
    return [a.reason or a.outcome.value for a in (result.headers, *result.items)]


def test_deliveries(ledger: EvmLedger) -> None:
    true = delivery_of(ledger, [b"a", b"b", b"c"])
    first = true.items[0]
    payload = replace(first.packet.payloads[0], value=b"changed")
    forged = replace(first, packet=replace(first.packet, payloads=(payload,)))
    bad = Reason.INVALID_PROOF
    assert outcomes(ledger, replace(true, items=(forged, *true.items[1:])))[1:] == [bad] * 3
    assert outcomes(ledger, replace(true, items=true.items[:2]))[1:] == [bad] * 2
    assert outcomes(ledger, replace(true, items=true.items[::-1]))[1:] == [bad] * 3
    tail = outcomes(ledger, replace(true, proof=true.proof + b"\0"))[1:]
    assert tail == [Reason.MALFORMED] * 3
    untrusted = outcomes(ledger, replace(true, height=true.height + 1))[1:]
    assert untrusted == [Reason.HEIGHT_NOT_TRUSTED] * 3
    stray = replace(first, packet=replace(first.packet, source_client="evm-9"))
    assert outcomes(ledger, replace(true, items=(stray,)))[1:] == [Reason.COUNTERPARTY_MISMATCH]
    cut = replace(true, headers=(true.headers[-1][:-1],) if true.headers else (b"\x01",))
    assert set(outcomes(ledger, cut)) == {Reason.MALFORMED}
    assert outcomes(ledger, true)[1:] == ["done"] * 3
    for again in (true, replace(true, headers=())):
        assert outcomes(ledger, again) == ["noop"] * 4
    other = replace(
        first, packet=replace(first.packet, timeout_timestamp=first.packet.timeout_timestamp + 1)
    )
    mismatch = outcomes(ledger, replace(true, items=(other,)))[1:]
    assert mismatch == [Reason.COMMITMENT_MISMATCH]
    early = outcomes(ledger, replace(true, items=(replace(first, step=Step.EXPIRE),)))[1:]
    assert early == [Reason.RECEIVED]


def test_a_large_delivery_takes_several_calls(ledger: EvmLedger) -> None:
    true = delivery_of(ledger, [b"%d" % i for i in range(calls.MAX_ITEMS + 5)])
    assert outcomes(ledger, true)[1:] == ["done"] * (calls.MAX_ITEMS + 5)


def test_who_may_do_what(ledger: EvmLedger) -> None:
    stranger = b"\x77" * 20
    me = "0x" + ledger.registry.address.hex()
    body = (1, 1, bytes(32), bytes(32), bytes(32))
    refused: dict[tuple[Any, ...], Reason] = {
        ("Endpoint", "registerCounterparty", "evm-1"): Reason.NOT_PERMITTED,
        ("Endpoint", "registerApp", "registry", me): Reason.NOT_PERMITTED,
        ("Endpoint", "proposeOwner", me): Reason.NOT_PERMITTED,
        ("Endpoint", "acceptOwner"): Reason.NOT_PERMITTED,
        ("Endpoint", "proposeRecovery", 1, body, 3600): Reason.NOT_PERMITTED,
        ("Endpoint", "endRecovery", True): Reason.NOT_PERMITTED,
        ("Endpoint", "put", "registry", b"key", b"value"): Reason.NOT_PERMITTED,
        ("Registry", "registerInstitution", me, True): Reason.NOT_PERMITTED,
    }
    for call, reason in refused.items():
        assert ledger.reverts(*call, sender=stranger) == reason, call
    assert ledger.reverts("Endpoint", "registerCounterparty", "evm-1") == Reason.COUNTERPARTY_EXISTS
    assert ledger.reverts("Endpoint", "registerApp", "registry", me) == Reason.PATH_WRITTEN
    assert ledger.reverts("Endpoint", "endRecovery", True) == Reason.NOT_FOUND
    posted = ("Registry", "post", [b"x"], "recognition-1", ledger.world.clock.now + 60, False)
    assert ledger.reverts(*posted, sender=stranger) == Reason.NOT_PERMITTED
    recorded = ("Registry", "record", [b"x"])
    assert ledger.reverts(*recorded) == ""
    assert ledger.reverts(*recorded, sender=stranger) == Reason.NOT_PERMITTED
    packet = (1, "a", "b", 1, "c", "d", "e", "f", b"g")
    assert ledger.reverts("Registry", "onReceive", packet, []) == Reason.NOT_PERMITTED
    assert ledger.reverts("Registry", "onTimeout", packet) == Reason.NOT_PERMITTED
    assert ledger.reverts("Registry", "onAcknowledge", packet, b"") == Reason.NOT_PERMITTED


def test_a_packet_has_a_timeout_within_a_day(ledger: EvmLedger) -> None:
    now = ledger.world.clock.now
    for at, reason in (
        (now - 10, Reason.TIMEOUT_ELAPSED),
        (now + 2 * 86_400, Reason.TIMEOUT_TOO_FAR),
    ):
        assert ledger.reverts("Registry", "post", [b"x"], "recognition-1", at, False) == reason


def test_two_histories_freeze_the_client(ledger: EvmLedger) -> None:
    """Last, since nothing works after it."""
    header = head_now(ledger)
    keys = ledger.world.signers["hub"]
    body, signatures, *_ = calls.update_of(header)
    parsed = parse_body(header.body)
    text = encode_body(replace(parsed, root=bytes(32)))
    forked = [
        calls._signature(i, k.public, text, Signature("", "secp256k1", k.sign(text)))
        for i, k in enumerate(keys)
    ]
    other = (*body[:2], bytes(32), *body[3:])
    why = ledger.reverts("Endpoint", "submitMisbehaviour", body, signatures, body, signatures)
    assert why == Reason.NOT_MISBEHAVIOUR
    few = ledger.reverts("Endpoint", "submitMisbehaviour", body, signatures, other, forked[:2])
    assert few == Reason.QUORUM_NOT_REACHED
    unknown = (*other[:3], bytes(32), other[4])
    strange = ledger.reverts("Endpoint", "submitMisbehaviour", body, signatures, unknown, forked)
    assert strange == Reason.NOT_MISBEHAVIOUR
    strange = ledger.reverts("Endpoint", "submitMisbehaviour", unknown, forked, body, signatures)
    assert strange == Reason.NOT_MISBEHAVIOUR
    delivery = delivery_of(ledger, [b"too late"])
    ledger.transact("Endpoint", "submitMisbehaviour", body, signatures, other, forked)
    assert ledger.chain.client("checkpoint-0").frozen
    assert set(outcomes(ledger, delivery)) == {Reason.CLIENT_FROZEN}
    at = ledger.world.clock.now + 60
    posted = ("Registry", "post", [b"x"], "recognition-1", at, False)
    assert ledger.reverts(*posted) == Reason.CLIENT_FROZEN
    ledger.transact("Endpoint", "proposeRecovery", 0, body, 3600)
    assert ledger.reverts("Endpoint", "endRecovery", True) == Reason.RECOVERY_NOT_DUE
    ledger.world.clock.advance(3700)
    ledger.anvil.mine()
    ledger.transact("Endpoint", "endRecovery", True)
    assert not ledger.chain.client("checkpoint-0").frozen
