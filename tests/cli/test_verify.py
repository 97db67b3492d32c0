"""verify: what it prints, and how it ends."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from relay import canonical
from relay.bundle import encode_bundle, encode_trust
from relay.light.checkpoint_client import CHECKPOINT
from relay.light.misbehaviour import verify_misbehaviour
from relay.packet import ERROR_ACKNOWLEDGEMENT
from relay.record.parts import Opened, encode_record
from tests import test_bundle
from tests.cli.conftest import Run
from tests.light.ledger import START
from tests.test_bundle import World
from tests.test_contradictions import bundle_of, told

AT = str(START + 600)
"""The world of the bundle lies in the past: it is judged as of then."""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    world = World()
    (tmp_path / "b").write_bytes(encode_bundle(world.bundle()))
    (tmp_path / "t").write_bytes(encode_trust(world.trust()))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_prints_each_hop(files: Path, run: Run) -> None:
    done = run("verify", "b", "--trust", "t", "--at", AT)
    assert done.code == 0
    for words in (
        "verified: 1 packet, 2 hops",
        "hop 1: zj-medical/0, height 6, 2025-10-09 08:53:26Z",
        "signed by zj-a, zj-b, zj-c, zj-d",
        "proven: packet 0 was sent from here",
        "proven: packet 0 was answered here, as shown",
        "assumption: judged as of 2025-10-09 09:03:20Z because --at says so",
    ):
        assert words in done.out


def test_json_holds_the_same(files: Path, run: Run) -> None:
    done = run("verify", "b", "--trust", "t", "--at", "2025-10-09T17:03:20+08:00", "--json")
    assert done.code == 0
    (one,) = done.json["bundles"]
    assert done.json["verified"] is one["verified"] is True
    assert one["assumed_time"] == START + 600
    assert (one["hops"][0]["chain"], one["hops"][0]["height"]) == ("zj-medical/0", 6)


def test_without_at_the_old_trust_is_refused(files: Path, run: Run) -> None:
    done = run("verify", "b", "--trust", "t")
    assert (done.code, done.reason) == (1, "TRUST_TOO_OLD")


@pytest.mark.parametrize("place", [0, 1, 40, 400, -2, -1])
def test_a_changed_byte_is_a_refusal_wherever_it_lies(files: Path, run: Run, place: int) -> None:
    raw = bytearray((files / "b").read_bytes())
    raw[place] ^= 1
    (files / "b").write_bytes(raw)
    done = run("verify", "b", "--trust", "t", "--at", AT)
    assert done.code == 1
    assert done.reason
    assert done.out == ""


@pytest.mark.parametrize("raw", [b"", b"\x00" * 100, b"{}", b"[" * 60])
def test_what_is_no_bundle_is_refused(files: Path, run: Run, raw: bytes) -> None:
    (files / "b").write_bytes(raw)
    done = run("verify", "b", "--trust", "t", "--at", AT)
    assert (done.code, done.reason) == (1, "MALFORMED")


@pytest.mark.parametrize(
    "args",
    [
        ["none", "--trust", "t"],
        [".", "--trust", "t"],
        ["b", "--trust", "none"],
        ["b", "--trust", "b"],
        ["b"],
        ["b", "--trust", "t", "--record", "none"],
        ["b", "--trust", "t", "--at", "yesterday"],
        ["b", "--trust", "t", "--at", "2025-10-09T17:03:20"],
        ["b", "--trust", "t", "--at", "9999999999"],
        ["b", "--trust", "t", "--at", "9" * 50],
        ["b", "b", "--trust", "t", "--record", "r"],
    ],
)
def test_what_the_user_gave_wrongly_ends_with_2(files: Path, run: Run, args: list[str]) -> None:
    (files / "r").write_bytes(b"{}")
    done = run("verify", *args)
    assert (done.code, done.reason) == (2, "MALFORMED")


def test_several_bundles(files: Path, run: Run) -> None:
    done = run("verify", "b", "b", "--trust", "t", "--at", AT)
    assert done.code == 0
    assert done.out.count("verified") == 2
    (files / "x").write_bytes(b"{}")
    done = run("verify", "b", "x", "--trust", "t", "--at", AT)
    assert done.code == 1
    assert "b: verified" in done.out
    assert "x: MALFORMED" in done.err
    done = run("verify", "b", "x", "--trust", "t", "--at", AT, "--json")
    assert done.code == 1
    assert [one["verified"] for one in done.json["bundles"]] == [True, False]
    assert done.json["bundles"][1]["reason"] == "MALFORMED"


def test_a_record_that_the_bundle_is_not_about(files: Path, run: Run) -> None:
    (files / "r").write_bytes(encode_record([Opened(bytes(32), b"{}")]))
    done = run("verify", "b", "--trust", "t", "--at", AT, "--record", "r")
    assert (done.code, done.reason) == (1, "RECORD_MISMATCH")
    (files / "r").write_bytes(b"no record")
    done = run("verify", "b", "--trust", "t", "--at", AT, "--record", "r")
    assert (done.code, done.reason) == (1, "MALFORMED")


def test_errors_are_json_where_results_are(files: Path, run: Run) -> None:
    done = run("verify", "b", "--trust", "none", "--json")
    assert done.code == 2
    assert done.out == ""
    error = json.loads(done.err)
    assert error["reason"] == "MALFORMED"
    assert error["hint"]


@pytest.mark.parametrize(
    ("origin", "relay", "answer", "reason"),
    [
        ("zj-medical", "relay", b"yes", ""),
        ("sh-medical", "relay", b"yes", "CHAIN_ID_MISMATCH"),
        ("zj-medical", "hub", b"yes", "CHAIN_ID_MISMATCH"),
        ("sh-medical", "hub", ERROR_ACKNOWLEDGEMENT, ""),
    ],
)
def test_nobody_speaks_for_another_chain(
    files: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    origin: str,
    relay: str,
    answer: bytes,
    reason: str,
) -> None:
    value = canonical.encode({"origin": origin, "relay": relay, "type": "request"})
    (payload,) = test_bundle.PACKET.payloads
    packet = replace(test_bundle.PACKET, payloads=(replace(payload, value=value),))
    monkeypatch.setattr(test_bundle, "PACKET", packet)
    monkeypatch.setattr(test_bundle, "ACKNOWLEDGEMENTS", (answer,))
    world = World()
    Path("b").write_bytes(encode_bundle(world.bundle()))
    Path("t").write_bytes(encode_trust(world.trust()))
    done = run("verify", "b", "--trust", "t", "--at", AT)
    assert (done.code, done.reason if reason else "") == (1 if reason else 0, reason)


@pytest.fixture
def histories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Bundles under one trust file, of two decisions that one relay has signed."""
    for decision in ("commit", "abort"):
        raw = bundle_of(told(decision.encode(), 3 * (decision == "abort")), decision.encode())
        (tmp_path / decision).write_bytes(raw)
    (tmp_path / "t").write_bytes(encode_trust(World().trust()))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_two_histories_are_refused_with_what_proves_them(histories: Path, run: Run) -> None:
    args = ["verify", "commit", "abort", "--trust", "t", "--at", AT]
    assert run("verify", "commit", "--trust", "t", "--at", AT).code == 0
    done = run(*args)
    assert done.code == 1
    assert "relay/0 contradicts itself: two entries of index 6" in done.err
    assert "signed both: relay/0-w, relay/0-x" in done.err
    assert "hint: --evidence FILE" in done.err
    done = run(*args, "--evidence", "e")
    assert done.code == 1
    assert "clients accuse CLIENT e" in done.err
    chain = World().trust().chain("relay/0")
    known = {chain.anchor.set_hash}
    raw = (histories / "e").read_bytes()
    assert verify_misbehaviour(CHECKPOINT, chain.state, known, raw, int(AT)).culprits
    done = run(*args, "--json")
    assert (done.code, done.json["verified"]) == (1, False)
    assert [b["verified"] for b in done.json["bundles"]] == [True, True]
    (told_,) = done.json["contradictions"]
    assert (told_["chain"], bytes.fromhex(told_["evidence"])) == ("relay/0", raw)


def test_bundles_of_one_history_leave_no_evidence(histories: Path, run: Run) -> None:
    done = run("verify", "commit", "commit", "--trust", "t", "--at", AT, "--evidence", "e")
    assert done.code == 0
    assert "e was not written" in done.err
    assert not (histories / "e").exists()


def test_evidence_replaces_no_bundle(histories: Path, run: Run) -> None:
    before = (histories / "abort").read_bytes()
    args = ["commit", "abort", "--trust", "t", "--at", AT, "--evidence", "./abort"]
    done = run("verify", *args)
    assert (done.code, done.reason) == (2, "MALFORMED")
    assert (histories / "abort").read_bytes() == before


def test_evidence_that_cannot_be_written_is_told_after_what_was_found(
    histories: Path, run: Run
) -> None:
    args = ["commit", "abort", "--trust", "t", "--at", AT, "--evidence", "nowhere/e"]
    done = run("verify", *args, "--json")
    assert done.code == 2
    assert done.json["contradictions"]
