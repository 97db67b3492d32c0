"""The endpoint on a real EVM: witnesses, sets that change, hostile applications, another chain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters.evm import calls
from adapters.evm.deploy import deploy
from adapters.evm.light.crypto import keccak
from relay.chain import Delivery, Item, Outcome, Step
from relay.errors import LianqiaoError, Reason
from relay.light.checkpoint import encode_body, parse_body
from relay.light.checkpoint_client import CHECKPOINT
from relay.light.keys import SECP256K1_N
from relay.light.types import DAY, Header, Signature, Validator, Witness
from relay.light.validators import set_hash, validator_set
from relay.packet import ERROR_ACKNOWLEDGEMENT, acknowledgement_path, receipt_path
from relay.registry import connect_chain
from relay.steps import proven_paths
from relay.store.cosignatures import Cosignature
from tests.adapters.evm.ledger import EvmLedger, install
from tests.echo import ECHO
from tests.world import keys_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
NOTHING: tuple[list[object], tuple[object, ...]] = ([], calls.NO_PROOF)
WITNESS_KEYS = keys_of("witness", 3, "secp256k1")
WITNESSES = [Witness(f"w{i}", "secp256k1", key.public) for i, key in enumerate(WITNESS_KEYS)]


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EvmLedger]:
    install(monkeypatch)
    made = EvmLedger(tmp_path, [ECHO])
    yield made
    made.close()


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EvmLedger]:
    """A ledger that requires two of three witnesses."""
    install(monkeypatch)
    made = EvmLedger(tmp_path, [ECHO], witnesses=WITNESSES, quorum=2)
    yield made
    made.close()


def echo(ledger: EvmLedger, value: bytes, seconds: int = 600) -> int:
    head = f"{ledger.on_hub}\n{ledger.world.clock.now + seconds}\n".encode()
    return int(ledger.hub.call("echo", "send", head + value))


def head_now(ledger: EvmLedger) -> Header:
    """A head of the relay that the endpoint has not seen."""
    echo(ledger, b"more")
    return newest(ledger)


def newest(ledger: EvmLedger) -> Header:
    size = ledger.chain.client("checkpoint-0").latest_height
    local = ledger.world.chain("hub")
    raw = local.headers(size, local.latest_height(), "secp256k1")[-1]
    return CHECKPOINT.decode_header(raw)


def why(ledger: EvmLedger, update: tuple[Any, ...]) -> str:
    return ledger.reverts("Endpoint", "deliver", [update], *NOTHING)


def signed(keys: Any, text: bytes) -> list[tuple[Any, ...]]:
    """Signatures of keys over a body, as an update holds them."""
    return [
        calls._signature(i, k.public, text, Signature("", "secp256k1", k.sign(text)))
        for i, k in enumerate(keys)
    ]


# --- witnesses


def test_witnesses_are_required_and_counted_once(watched: EvmLedger) -> None:
    header = head_now(watched)
    body, signatures, none, start, link = calls.update_of(header)
    assert none == []
    one, two, three = signed(WITNESS_KEYS, header.body)
    foreign = signed(WITNESS_KEYS, header.body.replace(b"hub/0", b"hub/1", 1))
    vs = int.from_bytes(one[2], "big")
    high = SECP256K1_N - (vs & (2**255 - 1))
    cases = {
        "none": ([], Reason.WITNESS_MISSING),
        "too few": ([two], Reason.WITNESS_MISSING),
        "one twice": ([two, two], Reason.DUPLICATE_SIGNER),
        "not in order": ([two, one], Reason.DUPLICATE_SIGNER),
        "a stranger": ([one, (3, *two[1:])], Reason.UNKNOWN_SIGNER),
        "another's": ([one, (1, *three[1:])], Reason.INVALID_SIGNATURE),
        "an operator's": ([one, (1, *signatures[0][1:])], Reason.INVALID_SIGNATURE),
        "over another chain's head": ([foreign[0], foreign[1]], Reason.INVALID_SIGNATURE),
        "nothing": ([one, (1, bytes(32), bytes(32))], Reason.INVALID_SIGNATURE),
    }
    if high < 2**255:
        turned = high | ((1 - (vs >> 255)) << 255)
        cases["a high s"] = (
            [(0, one[1], turned.to_bytes(32, "big")), two],
            Reason.INVALID_SIGNATURE,
        )
    for name, (shown, reason) in cases.items():
        assert why(watched, (body, signatures, shown, start, link)) == reason, name
    few = (body, signatures[:2], [one, two, three], start, link)
    assert why(watched, few) == Reason.QUORUM_NOT_REACHED
    for enough in ([one, two], [one, three], [two, three], [one, two, three]):
        assert why(watched, (body, signatures, enough, start, link)) == ""


def test_the_adapter_brings_co_signatures(watched: EvmLedger) -> None:
    status = watched.chain.client("checkpoint-0")
    assert status.witnesses == tuple(WITNESSES)
    header, local = head_now(watched), watched.world.chain("hub")

    def delivered() -> tuple[Outcome, str]:
        raw = tuple(
            local.headers(status.latest_height, header.height, "secp256k1", status.witnesses)
        )
        (result,) = watched.chain.submit([Delivery("checkpoint-0", raw)])
        return result.headers.outcome, result.headers.reason

    assert delivered() == (Outcome.REFUSED, Reason.WITNESS_MISSING)
    for witness, key in list(zip(WITNESSES, WITNESS_KEYS, strict=True))[::-2]:
        value = key.sign(header.body)
        watched.hub.add_cosignature(Cosignature(header.height, witness, value))
    assert delivered() == (Outcome.DONE, "")
    assert watched.chain.client("checkpoint-0").latest_height == header.height


def test_the_settings_name_the_witnesses_that_the_endpoint_has(watched: EvmLedger) -> None:
    turned = ",".join(reversed(watched.settings["witnesses"].split(",")))
    for text in (
        turned,
        watched.settings["witnesses"] + ",w3=" + "secp256k1:" + WITNESSES[0].key.hex(),
    ):
        chain = connect_chain("evm", {**watched.settings, "witnesses": text})
        with pytest.raises(LianqiaoError) as err:
            chain.client("checkpoint-0")
        assert err.value.reason is Reason.CONFIG_INVALID
    for text in ("w0", "w0=ed25519:" + "11" * 32, "w0=secp256k1:zz", "w0=secp256k1:0011"):
        with pytest.raises(LianqiaoError) as err:
            connect_chain("evm", {**watched.settings, "witnesses": text})
        assert err.value.reason is Reason.CONFIG_INVALID, text


# --- operators


def changed_set(ledger: EvmLedger, count: int = 3) -> None:
    """The relay goes on with fewer of its operators."""
    keys = ledger.world.signers["hub"][:count]
    ledger.hub.announce_set(
        validator_set(
            [Validator(f"hub-{i}", 1, ((k.algorithm, k.public),)) for i, k in enumerate(keys)]
        )
    )


def test_a_set_that_was_announced_signs_what_follows(ledger: EvmLedger) -> None:
    changed_set(ledger)
    echo(ledger, b"under the new set")
    local = ledger.world.chain("hub")
    status = ledger.chain.client("checkpoint-0")
    raw = local.headers(status.latest_height, local.latest_height(), "secp256k1")
    announcing, following = (CHECKPOINT.decode_header(one) for one in raw)
    assert announcing.next_set_hash == following.set_hash != announcing.set_hash
    skipped = calls.update_of(following)
    assert why(ledger, skipped) == Reason.NOT_ENOUGH_TRUST
    unknown = calls.update_of(announcing)
    assert why(ledger, unknown) == Reason.VALIDATOR_SET_MISMATCH  # nobody has shown the next one
    encoded, ys = calls.set_of(following.validators)
    assert ledger.reverts("Endpoint", "registerSet", encoded, ys[:-1]) == Reason.WEAK_KEY
    assert ledger.reverts("Endpoint", "registerSet", encoded, [*ys, 1]) == Reason.MALFORMED
    assert ledger.reverts("Endpoint", "registerSet", encoded[:-1], ys) == Reason.MALFORMED
    wrong = [ys[0] ^ 1, *ys[1:]]
    assert ledger.reverts("Endpoint", "registerSet", encoded, wrong) == Reason.WEAK_KEY
    (result,) = ledger.chain.submit([Delivery("checkpoint-0", tuple(raw))])
    assert result.headers.outcome is Outcome.DONE
    assert ledger.reverts("Endpoint", "registerSet", encoded, ys) == Reason.MALFORMED  # once
    assert ledger.chain.client("checkpoint-0").set_hash == set_hash(following.validators)


def test_who_left_the_set_signs_nothing_more(ledger: EvmLedger) -> None:
    changed_set(ledger)
    echo(ledger, b"more")
    local, status = ledger.world.chain("hub"), ledger.chain.client("checkpoint-0")
    raw = local.headers(status.latest_height, local.latest_height(), "secp256k1")
    assert ledger.chain.submit([Delivery("checkpoint-0", tuple(raw))])[0].headers.outcome is (
        Outcome.DONE
    )
    header = head_now(ledger)
    body, signatures, _, start, link = calls.update_of(header)
    keys = ledger.world.signers["hub"]
    everybody = signed(keys, header.body)
    assert why(ledger, (body, everybody, [], start, link)) == Reason.UNKNOWN_SIGNER
    two_and_former = [*everybody[:2], (2, *everybody[3][1:])]
    assert why(ledger, (body, two_and_former, [], start, link)) == Reason.INVALID_SIGNATURE
    assert why(ledger, (body, everybody[:2], [], start, link)) == Reason.QUORUM_NOT_REACHED
    assert why(ledger, (body, signatures, [], start, link)) == ""


def carried(ledger: EvmLedger, key: bytes) -> Header:
    """The endpoint has the relay's newest head, after one more entry."""
    ledger.hub.call("echo", "put", key + b"\n\nx")
    local, status = ledger.world.chain("hub"), ledger.chain.client("checkpoint-0")
    raw = local.headers(status.latest_height, local.latest_height(), "secp256k1")
    (result,) = ledger.chain.submit([Delivery("checkpoint-0", tuple(raw))])
    assert result.headers.outcome is Outcome.DONE
    return CHECKPOINT.decode_header(raw[-1])


def test_keys_that_were_retired_long_ago_accuse_nobody(ledger: EvmLedger) -> None:
    """Whoever holds them by now writes what time he likes into two heads; but a set that is in
    force again accuses again."""
    old, keys = carried(ledger, b"a"), ledger.world.signers["hub"]

    def accused() -> str:
        newest_ = carried(ledger, b"%d" % ledger.world.clock.now)
        heads: list[Any] = []
        for root in (b"\x01" * 32, b"\x02" * 32):
            body = replace(
                parse_body(newest_.body),
                size=newest_.height + 9,
                root=root,
                set_hash=old.set_hash,
                next_set_hash=old.set_hash,
            )
            words = (body.size, body.time, root, old.set_hash, old.set_hash)
            heads += [words, signed(keys, encode_body(body))]
        return ledger.reverts("Endpoint", "submitMisbehaviour", *heads)

    def days_later() -> str:
        ledger.world.clock.advance(46 * DAY)
        ledger.anvil.mine()
        return accused()

    changed_set(ledger)
    assert accused() == ""
    assert days_later() == "", "the last head of that set is young enough"
    assert days_later() == Reason.NOT_MISBEHAVIOUR
    changed_set(ledger, 4)
    assert carried(ledger, b"again").set_hash == old.set_hash
    assert accused() == ""


def test_an_earlier_time_above_a_later_one_freezes_the_client(ledger: EvmLedger) -> None:
    header = head_now(ledger)
    keys = ledger.world.signers["hub"]
    body, signatures, *_ = calls.update_of(header)
    parsed = parse_body(header.body)
    early = encode_body(replace(parsed, size=parsed.size + 1, time=parsed.time - 1))
    above = (body[0] + 1, body[1] - 1, *body[2:])
    fair = encode_body(replace(parsed, size=parsed.size + 1))
    later = (body[0] + 1, *body[1:])
    call = ("Endpoint", "submitMisbehaviour")
    assert ledger.reverts(*call, body, signatures, later, signed(keys, fair)) == (
        Reason.NOT_MISBEHAVIOUR
    )
    assert ledger.reverts(*call, above, signed(keys, early), body, signatures) == (
        Reason.NOT_MISBEHAVIOUR
    )
    strangers = signed(keys_of("stranger", 4, "secp256k1"), early)
    assert ledger.reverts(*call, body, signatures, above, strangers) == Reason.INVALID_SIGNATURE
    ledger.transact(*call, body, signatures, above, signed(keys, early))
    assert ledger.chain.client("checkpoint-0").frozen


# --- applications


def test_an_application_that_burns_its_gas_leaves_no_half_packet(ledger: EvmLedger) -> None:
    hostile = put_application(ledger, burns=True)
    sequence = echo(ledger, b"burn this")
    delivery = delivery_of(ledger, {sequence})
    data = "0x" + encoded_delivery(ledger, delivery).hex()
    call = {
        "from": "0x" + ledger.sender.address.hex(), "to": "0x" + ledger.endpoint.address.hex(),
        "data": data,
    }  # fmt: skip
    starved = ledger.anvil._forward(
        {"jsonrpc": "2.0", "id": 1, "method": "eth_call",
         "params": [{**call, "gas": hex(2_500_000)}, "latest"]}
    )  # fmt: skip
    said = str(starved["error"].get("data"))
    assert said == "0x" + keccak(b"LIMIT_EXCEEDED()")[:4].hex()
    (result,) = ledger.chain.submit([delivery])
    assert [a.outcome for a in result.items] == [Outcome.DONE]
    assert any(word(ledger, receipt_path("checkpoint-0", sequence)))
    assert any(word(ledger, acknowledgement_path("checkpoint-0", sequence)))
    (step,) = ledger.chain.packets("checkpoint-0", 0, 10)
    assert step.acknowledgements == (ERROR_ACKNOWLEDGEMENT,)
    (again,) = ledger.chain.submit([delivery])
    assert [a.outcome for a in again.items] == [Outcome.NOOP]
    # The end of its own packet does not hang on it either.
    until = ledger.world.clock.now + 600
    ledger.sender.send(
        ledger.rpc, hostile, calls.encode("ask", ["echo", b"echo this", until], "Hostile")
    )
    assert any(word(ledger, _commitment(1)))
    acknowledge(ledger, 1)
    assert not any(word(ledger, _commitment(1)))


def test_an_application_cannot_deliver_while_it_is_called(ledger: EvmLedger) -> None:
    put_application(ledger, burns=False)
    sequence = echo(ledger, b"call back")
    (result,) = ledger.chain.submit([delivery_of(ledger, {sequence})])
    assert [a.outcome for a in result.items] == [Outcome.DONE]
    (step,) = ledger.chain.packets("checkpoint-0", 0, 10)
    assert step.acknowledgements == (keccak(b"NOT_PERMITTED()")[:4],)


def test_another_chain_with_the_same_endpoint_takes_nothing(ledger: EvmLedger) -> None:
    """As after a fork whose number was changed: the endpoint knows its chain."""
    update = calls.update_of(head_now(ledger))
    assert why(ledger, update) == ""
    ledger.anvil.ask("anvil_setChainId", 4711)
    ledger.anvil.mine()
    assert why(ledger, update) == Reason.WRONG_CHAIN


def put_application(ledger: EvmLedger, *, burns: bool) -> bytes:
    where = "0x" + ledger.endpoint.address.hex()
    made = deploy(ledger.rpc, ledger.sender, "Hostile", where, burns)
    ledger.transact("Endpoint", "registerApp", "echo", "0x" + made.address.hex())
    return made.address


def delivery_of(ledger: EvmLedger, sequences: set[int]) -> Delivery:
    local = ledger.world.chain("hub")
    items = tuple(
        Item(Step.RECEIVE, step.packet)
        for step in local.packets(ledger.on_hub, 0, 1000)
        if step.step is Step.SEND and step.packet.sequence in sequences
    )
    status, height = ledger.chain.client("checkpoint-0"), local.latest_height()
    headers = tuple(local.headers(status.latest_height, height, "secp256k1"))
    return Delivery(
        "checkpoint-0", headers, height, local.prove(proven_paths(items), height), items
    )


def encoded_delivery(ledger: EvmLedger, delivery: Delivery) -> bytes:
    """The data of the call by which the adapter would deliver."""
    from relay.light.membership import decode_membership_proof

    headers = [calls.decode_checkpoint(raw) for raw in delivery.headers]
    indexes, hashes = decode_membership_proof(delivery.proof)
    last = headers[-1]
    proof = calls.proof_of(
        delivery, last.root, last.time, indexes, hashes, calls.claims_of(delivery)
    )
    items = [calls.item_of(item) for item in delivery.items]
    return calls.encode("deliver", [[calls.update_of(h) for h in headers], items, proof])


def acknowledge(ledger: EvmLedger, sequence: int) -> None:
    """Carries a packet of the ledger to the relay, and its answer back."""
    from tests.adapters.evm.test_endpoint import relayer_of, rest

    rest(ledger, relayer_of(ledger))


def _commitment(sequence: int) -> bytes:
    return b"checkpoint-0\x01" + sequence.to_bytes(8, "big")


def word(ledger: EvmLedger, path: bytes) -> bytes:
    found: bytes = ledger.chain._view("written", keccak(path))[0]  # type: ignore[attr-defined]
    return found
