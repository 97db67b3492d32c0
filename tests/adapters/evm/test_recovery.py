"""An endpoint that judges no more is recovered by its owner, after a delay, and nothing is lost."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters.evm import calls
from adapters.evm.practice.chain import KEYS
from adapters.evm.sender import Sender
from relay.chain import Delivery
from relay.cli.root import run
from relay.errors import Reason
from relay.light.checkpoint import encode_body, parse_body
from relay.light.checkpoint_client import CHECKPOINT
from relay.light.types import DAY, Header, Signature
from relay.light.validators import set_hash
from relay.server import start
from relay.steps import proven_paths
from tests.adapters.evm.ledger import EvmLedger, install
from tests.adapters.evm.test_connect import file_of
from tests.adapters.evm.test_endpoint import (
    NOTHING,
    delivery_of,
    echo,
    head_now,
    outcomes,
    post,
    relayer_of,
    rest,
)
from tests.echo import ECHO
from tests.world import keys_of, set_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
HOUR = 3600


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EvmLedger]:
    install(monkeypatch)
    made = EvmLedger(tmp_path, [ECHO])
    yield made
    made.close()


def newest(ledger: EvmLedger) -> Header:
    local = ledger.world.chain("hub")
    return CHECKPOINT.decode_header(local.headers(0, local.latest_height(), "secp256k1")[-1])


def body_of(header: Header, **changed: Any) -> tuple[Any, ...]:
    parts = {
        "size": header.height, "time": header.time, "root": header.root,
        "set": header.set_hash, "next": header.next_set_hash, **changed,
    }  # fmt: skip
    return tuple(parts.values())


def evidence(ledger: EvmLedger) -> tuple[Any, ...]:
    """Two heads of one size, both signed by the relay's operators."""
    header = head_now(ledger)
    body, signatures, *_ = calls.update_of(header)
    text = encode_body(replace(parse_body(header.body), root=bytes(32)))
    return body, signatures, (*body[:2], bytes(32), *body[3:]), signed(ledger, text)


def signed(ledger: EvmLedger, text: bytes, keys: Any = None) -> list[Any]:
    return [
        calls._signature(i, k.public, text, Signature("", "secp256k1", k.sign(text)))
        for i, k in enumerate(keys or ledger.world.signers["hub"])
    ]


def freeze(ledger: EvmLedger) -> tuple[Any, ...]:
    shown = evidence(ledger)
    ledger.transact("Endpoint", "submitMisbehaviour", *shown)
    return shown


def later(ledger: EvmLedger, seconds: int) -> None:
    ledger.world.clock.advance(seconds)
    ledger.anvil.mine()


def proposes(ledger: EvmLedger, body: tuple[Any, ...], epoch: int = 0, delay: int = HOUR) -> str:
    return ledger.reverts("Endpoint", "proposeRecovery", epoch, body, delay)


def test_what_cannot_be_proposed(ledger: EvmLedger) -> None:
    body = body_of(newest(ledger))
    assert proposes(ledger, body) == Reason.RECOVERY_NOT_NEEDED
    for delay in (0, HOUR - 1, 30 * DAY + 1):
        assert proposes(ledger, body, 1, delay) == Reason.LIMIT_EXCEEDED
    assert proposes(ledger, body, 1, 30 * DAY) == ""
    strange = body_of(newest(ledger), set=b"\x01" * 32)
    assert proposes(ledger, strange, 1) == Reason.VALIDATOR_SET_MISMATCH
    strange = body_of(newest(ledger), next=b"\x01" * 32)
    assert proposes(ledger, strange, 1) == Reason.VALIDATOR_SET_MISMATCH
    ahead = body_of(newest(ledger), time=ledger.world.clock.now + DAY)
    assert proposes(ledger, ahead, 1) == Reason.HEADER_FROM_FUTURE
    old = body_of(newest(ledger), time=ledger.world.clock.now - 91 * DAY)
    assert proposes(ledger, old, 1) == Reason.CLIENT_EXPIRED
    assert ledger.reverts("Endpoint", "endRecovery", True) == Reason.NOT_FOUND
    assert ledger.reverts("Endpoint", "endRecovery", False) == Reason.NOT_FOUND
    ledger.transact("Endpoint", "proposeRecovery", 1, body, HOUR)
    assert proposes(ledger, body, 1) == Reason.RECOVERY_PENDING
    later(ledger, HOUR + 10)
    ledger.transact("Endpoint", "endRecovery", True)
    assert ledger.chain.client("checkpoint-0").chain_id == "hub/1"
    freeze_epoch(ledger)
    assert proposes(ledger, body, 0) == Reason.CHAIN_ID_MISMATCH


def freeze_epoch(ledger: EvmLedger) -> None:
    """Freezes an endpoint that follows hub/1, whose operators sign two heads of one size."""
    header = newest(ledger)
    text = header.body.replace(b"hub/0", b"hub/1", 1)
    other = encode_body(replace(parse_body(text), root=bytes(32)))
    ledger.transact(
        "Endpoint", "submitMisbehaviour",
        body_of(header), signed(ledger, text),
        body_of(header, root=bytes(32)), signed(ledger, other),
    )  # fmt: skip


def test_nothing_moves_meanwhile_and_all_goes_on_after_a_withdrawal(ledger: EvmLedger) -> None:
    true = delivery_of(ledger, [b"a"])
    ledger.transact("Endpoint", "proposeRecovery", 1, body_of(newest(ledger)), HOUR)
    assert outcomes(ledger, true) == [Reason.RECOVERY_PENDING] * 2
    until = ledger.world.clock.now + 60
    posted = ("Registry", "post", [b"x"], "recognition-1", until, False)
    assert ledger.reverts(*posted) == Reason.RECOVERY_PENDING
    assert ledger.reverts("Endpoint", "endRecovery", True) == Reason.RECOVERY_NOT_DUE
    ledger.transact("Endpoint", "endRecovery", False)
    assert outcomes(ledger, true)[1:] == ["done"]


def test_what_was_sent_and_received_stays(ledger: EvmLedger) -> None:
    relayer = relayer_of(ledger)
    received = delivery_of(ledger, [b"received before"])
    assert outcomes(ledger, received)[1:] == ["done"]
    (open_one,) = post(ledger, [b"open"], 3 * HOUR)
    freeze(ledger)
    late = delivery_of(ledger, [b"after it froze"])
    assert outcomes(ledger, late) == [Reason.CLIENT_FROZEN] * 2
    ledger.transact("Endpoint", "proposeRecovery", 0, body_of(newest(ledger)), HOUR)
    later(ledger, HOUR + 10)
    ledger.transact("Endpoint", "endRecovery", True)
    assert not ledger.chain.client("checkpoint-0").frozen
    assert outcomes(ledger, replace(received, headers=()))[1:] == ["noop"]
    assert ledger.chain._view("nextSequence") == (open_one + 1,)  # type: ignore[attr-defined]
    echo(ledger, b"after it was recovered")
    rest(ledger, relayer)
    assert ledger.chain._view("lowestOpen") == (open_one + 1,)  # type: ignore[attr-defined]


def test_heads_from_before_prove_nothing_more(ledger: EvmLedger) -> None:
    """A history that turned out to be one of two is left with all that was signed of it."""
    first = delivery_of(ledger, [b"seen"])
    assert outcomes(ledger, first)[1:] == ["done"]
    unseen = delivery_of(ledger, [b"unseen"], 3 * HOUR)
    ledger.transact("Endpoint", "deliver", [calls.update_of(head_of(unseen))], *NOTHING)
    echo(ledger, b"the anchor is another head")
    freeze(ledger)
    ledger.transact("Endpoint", "proposeRecovery", 0, body_of(newest(ledger)), HOUR)
    later(ledger, HOUR + 10)
    before = replace(unseen, headers=())
    ledger.transact("Endpoint", "endRecovery", True)
    assert outcomes(ledger, before)[1:] == [Reason.HEIGHT_NOT_TRUSTED]
    local = ledger.world.chain("hub")
    anchor = ledger.chain.client("checkpoint-0").latest_height
    proof = local.prove(proven_paths(before.items), anchor)
    anew = Delivery("checkpoint-0", (), anchor, proof, before.items)
    assert outcomes(ledger, anew)[1:] == ["done"]


def head_of(delivery: Delivery) -> Header:
    return CHECKPOINT.decode_header(delivery.headers[-1])


def test_evidence_that_comes_after_the_proposal_must_be_answered(ledger: EvmLedger) -> None:
    ledger.transact("Endpoint", "proposeRecovery", 1, body_of(newest(ledger)), HOUR)
    freeze(ledger)
    later(ledger, HOUR + 10)
    assert ledger.reverts("Endpoint", "endRecovery", True) == Reason.CLIENT_FROZEN
    ledger.transact("Endpoint", "endRecovery", False)
    assert ledger.chain.client("checkpoint-0").frozen
    ledger.transact("Endpoint", "proposeRecovery", 1, body_of(newest(ledger)), HOUR)
    later(ledger, HOUR + 10)
    assert ledger.reverts("Endpoint", "endRecovery", True) == ""


def test_the_same_evidence_again_does_not_stop_a_recovery(ledger: EvmLedger) -> None:
    shown = freeze(ledger)
    fresh = keys_of("hub anew", algorithm="secp256k1")
    made = set_of(fresh, "hub")
    encoded, ys = calls.set_of(made)
    ledger.transact("Endpoint", "registerSet", encoded, ys)
    digest = set_hash(made)
    body = body_of(newest(ledger), set=digest, next=digest)
    ledger.transact("Endpoint", "proposeRecovery", 0, body, HOUR)
    ledger.transact("Endpoint", "submitMisbehaviour", *shown)  # by whoever wants to hinder it
    later(ledger, HOUR + 10)
    ledger.transact("Endpoint", "endRecovery", True)
    # Nor do keys that were given up stop the client of the new ones.
    again = ledger.reverts("Endpoint", "submitMisbehaviour", *shown)
    assert again == Reason.NOT_MISBEHAVIOUR
    assert not ledger.chain.client("checkpoint-0").frozen


def test_a_client_that_expired(ledger: EvmLedger) -> None:
    later(ledger, 91 * DAY)
    ledger.hub.tick()
    head = newest(ledger)
    update = [calls.update_of(head)]
    assert ledger.reverts("Endpoint", "deliver", update, *NOTHING) == Reason.CLIENT_EXPIRED
    ledger.transact("Endpoint", "proposeRecovery", 0, body_of(head), HOUR)
    later(ledger, HOUR + 10)
    ledger.transact("Endpoint", "endRecovery", True)
    later(ledger, DAY)
    ledger.hub.tick()
    local = ledger.world.chain("hub")
    raw = local.headers(head.height, local.latest_height(), "secp256k1")[-1]
    ledger.transact(
        "Endpoint", "deliver", [calls.update_of(CHECKPOINT.decode_header(raw))], *NOTHING
    )
    assert ledger.chain.client("checkpoint-0").latest_height > head.height


def test_the_anchor_may_not_expire_while_it_waits(ledger: EvmLedger) -> None:
    header = newest(ledger)
    later(ledger, 80 * DAY)
    ledger.transact("Endpoint", "proposeRecovery", 1, body_of(header), 30 * DAY)
    later(ledger, 30 * DAY + 10)
    assert ledger.reverts("Endpoint", "endRecovery", True) == Reason.CLIENT_EXPIRED


# --- whose it is


def other(path: Path, account: int = 1) -> Sender:
    file = path / f"other{account}.hex"
    file.write_text(KEYS[account])
    return Sender(file, 10**12)


def test_an_owner_must_accept(ledger: EvmLedger, tmp_path: Path) -> None:
    one, two = other(tmp_path), other(tmp_path, 2)
    ledger.transact("Endpoint", "proposeOwner", "0x" + one.address.hex())
    for sender in (two.address, ledger.sender.address, bytes(20)):
        why = ledger.reverts("Endpoint", "acceptOwner", sender=sender)
        assert why == Reason.NOT_PERMITTED
    register = ("Registry", "registerInstitution", "0x" + two.address.hex(), True)
    assert ledger.reverts(*register) == ""  # nothing has changed yet
    assert ledger.reverts(*register, sender=one.address) == Reason.NOT_PERMITTED
    mine, ledger.sender = ledger.sender, one
    ledger.transact("Endpoint", "acceptOwner")
    assert ledger.reverts("Endpoint", "acceptOwner") == Reason.NOT_PERMITTED
    ledger.transact(*register)
    assert ledger.reverts(*register, sender=mine.address) == Reason.NOT_PERMITTED
    again = ("Endpoint", "proposeOwner", "0x" + mine.address.hex())
    assert ledger.reverts(*again, sender=mine.address) == Reason.NOT_PERMITTED


# --- the commands


def test_the_commands(
    ledger: EvmLedger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    relayer = relayer_of(ledger)
    file = str(file_of(ledger, tmp_path / "sz.toml"))
    server = start(ledger.hub, clock=ledger.world.clock)
    hub = f"127.0.0.1:{server.port}"

    def said(*arguments: str, code: int = 0) -> str:
        capsys.readouterr()
        assert run(["evm", *arguments]) == code
        told = capsys.readouterr()
        return told.err if code else told.out

    def shown() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(said("recover", file, "--json"))
        return found

    try:
        assert shown()["state"] == "active"
        needless = said("recover", file, "--relay", hub, "--delay", "1", code=1)
        assert Reason.RECOVERY_NOT_NEEDED in needless
        freeze(ledger)
        assert shown()["state"] == "frozen"
        first = said("recover", file, "--relay", hub, "--delay", "1")
        head = newest(ledger)
        assert f"follow size {head.height}" in first
        assert head.root.hex() in first
        assert "recovering" in first
        pending = shown()
        assert pending["recovery"]["size"] == head.height
        assert pending["recovery"]["root"] == head.root.hex()
        assert Reason.RECOVERY_NOT_DUE in said("recover", file, "--complete", code=1)
        assert "frozen" in said("recover", file, "--cancel")
        printed = said("recover", file, "--relay", hub, "--print")
        (data,) = re.findall(r"^  0x([0-9a-f]+)$", printed, re.M)
        assert ledger.data("Endpoint", "proposeRecovery", 0, body_of(head), DAY).hex() == data
        assert shown()["state"] == "frozen"  # only printed
        said("recover", file, "--relay", hub, "--delay", "1")
        later(ledger, HOUR + 10)
        assert "active" in said("recover", file, "--complete")
        echo(ledger, b"after")
        rest(ledger, relayer)
    finally:
        server.stop(0)
    one = other(tmp_path)
    me, you = "0x" + ledger.sender.address.hex(), "0x" + one.address.hex()
    assert f"owner {me}" in said("owner", file)
    assert f"to accept it: {you}" in said("owner", file, you)
    assert Reason.NOT_PERMITTED in said("owner", file, "--accept", code=1)
    assert f"owner {you}" in said("owner", file, "--accept", "--key", str(tmp_path / "other1.hex"))
    assert Reason.NOT_PERMITTED in said("owner", file, me, code=1)
    assert json.loads(said("owner", file, "--json"))["owner"] == you


def test_another_relays_head_is_not_proposed(
    ledger: EvmLedger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.world.signers["elsewhere"] = keys_of("elsewhere", algorithm="secp256k1")
    node = ledger.world.node("elsewhere", "relay", [ECHO])
    file = str(file_of(ledger, tmp_path / "sz.toml"))
    server = start(node, clock=ledger.world.clock)
    try:
        assert run(["evm", "recover", file, "--relay", f"127.0.0.1:{server.port}"]) == 1
        assert Reason.CHAIN_ID_MISMATCH in capsys.readouterr().err
        assert run(["evm", "recover", file, "--complete", "--cancel"]) == 2
        assert run(["evm", "owner", file, "0x" + "11" * 20, "--accept"]) == 2
        assert run(["evm", "owner", file, "0x11"]) == 2
    finally:
        server.stop(0)
