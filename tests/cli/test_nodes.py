"""Real commands against real nodes in processes of their own: one journey, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from relay.cli.root import run as run_command
from relay.client import connect
from relay.contracts.catalogue import LABORATORY, shipped
from relay.demo.generator import generate
from relay.demo.hospitals import HOSPITALS, policy_documents
from relay.keys import SigningKey
from tests.cli.conftest import Done, Run, Served, make

ASKING = "sh-h1"


@dataclass(frozen=True)
class Network:
    """Two ledgers and a relay, joined; policy loaded; one report attested."""

    directory: Path
    zj: Served
    sh: Served
    hub: Served
    source: str
    """The hospital that attested."""
    record: str
    items: list[dict[str, Any]]

    def key(self, name: str) -> Path:
        return self.directory / f"{name}.pem"

    @property
    def card(self) -> Path:
        return self.directory / "cards" / f"{self.record}.card.json"


def command(*args: object) -> None:
    """Runs what must be done."""
    assert run_command([str(arg) for arg in args]) == 0


def _prepare(base: Path) -> tuple[str, Path]:
    """Keys of all hospitals, policy files, one report; (its hospital, its file)."""
    now, keys = int(time.time()), {}
    for name in (n for h in HOSPITALS for n in (h.id, h.doctor)):
        key = SigningKey.generate()
        key.save(base / f"{name}.pem")
        keys[name] = (key.algorithm, key.public)
    catalogue = json.loads(shipped())
    (base / "policy").mkdir()
    (base / "policy" / "catalogue.json").write_text(json.dumps(catalogue, indent=1))
    items = [item["item"] for item in catalogue["items"]]
    for document in policy_documents(now, keys, items, LABORATORY):
        (base / "policy" / f"{document['kind']}.json").write_text(json.dumps(document))
    (made,) = generate(catalogue, seed=3, now=now, count=1, share=0)
    (base / "report.json").write_bytes(made.data)
    return made.hospital.id, base / "report.json"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    base = tmp_path_factory.mktemp("network")
    source, file = _prepare(base)
    zj = Served(make(base / "zj", "zj-medical", "ledger"))
    sh = Served(make(base / "sh", "sh-medical", "ledger"))
    hub = Served(make(base / "hub", "hub", "relay"))
    for ledger in (zj, sh):
        command("connect", "--node", ledger.address, "--relay", hub.address,
                "--trust", base / "trust.json")  # fmt: skip
    files = sorted((base / "policy").iterdir())
    command("policy", "load", *files, "--node", hub.address)
    for node, name in ((zj, source), (zj, ASKING), (sh, ASKING)):
        command("institutions", "register", name, "--key", base / f"{name}.pem",
                "--node", node.address)  # fmt: skip
    command("attest", file, "--institution", source, "--key", base / f"{source}.pem",
            "--cards", base / "cards", "--node", zj.address)  # fmt: skip
    card = json.loads(next((base / "cards").glob("*.json")).read_text())
    with connect(zj.address) as client:
        items = client.record(bytes.fromhex(card["record"])).attestation.items
    codes = [{"part": i.part, "code": f"{i.system}|{i.code}"} for i in items]
    yield Network(base, zj, sh, hub, source, card["record"], codes)
    for node in (zj, sh, hub):
        assert node.stop() == 0


def consent(network: Network, run: Run, file: Path, items: list[str]) -> Done:
    patient = network.directory / "patient.pem"
    if not patient.exists():
        SigningKey.generate().save(patient)
    scope = [word for item in items for word in ("--item", item)]
    return run(
        "recognise", "consent", "--card", network.card, "--grantee", ASKING, *scope,
        "--key", patient, "-o", file,
    )  # fmt: skip


def ask(network: Network, run: Run, agreed: Path, parts: list[int], *more: object) -> Done:
    chosen = [word for part in parts for word in ("--part", part)]
    return run(
        "recognise", "request", "--card", network.card, *chosen, "--consent", agreed,
        "--institution", ASKING, "--clinician", f"{ASKING}-d1",
        "--key", network.key(f"{ASKING}-d1"), "--node", network.sh.address, *more,
    )  # fmt: skip


def test_connect_is_idempotent_and_says_what_is_trusted(network: Network, run: Run) -> None:
    args = ["connect", "--node", network.zj.address, "--relay", network.hub.address]
    done = run(*args)
    assert done.code == 0
    assert "connected already" in done.out
    for words in (
        "facts: that a record was written on zj-medical needs no trust in the relay",
        "decisions: what is recognised is decided by hub",
        "more than 2/3 of the power of 4 validators (zj-medical-1, ",
        "A wrong decision is not prevented; it is attributable",
        "who speaks: for zj-medical checkpoint-0 alone, for hub",
        "zj-medical/0, size ",
    ):
        assert words in done.out
    shown = run(*args, "--json").json
    assert shown["made"] is False
    assert shown["lane"] == {
        "client_id": shown["relay"]["client"]["client_id"],
        "adapter": "lianqiao",
        "address": network.zj.address,
        "replicas": [],
    }
    # The lane's addresses are replaced, and nothing that is pinned.
    elsewhere = ("--address", "127.0.0.1:9", "--address", network.zj.address)
    moved = run(*args, *elsewhere)
    assert f"or by {network.zj.address}, where that does not answer" in moved.out
    lanes = ("clients", "lanes", "--node", network.hub.address)
    assert f"127.0.0.1:9, {network.zj.address}" in " ".join(run(*lanes).out.split())
    assert run(*args).code == 0
    for option, reason in (("30", "CHAIN_BOUND"), ("p256", "ALGORITHM_NOT_PINNED")):
        name = "--algorithm" if reason.startswith("A") else "--trusting-days"
        refused = run(*args, name, option)
        assert (refused.code, refused.reason) == (1, reason)
    for node, chains in (("hub", ["zj-medical/0", "sh-medical/0"]), ("zj", ["hub/0"])):
        address = getattr(network, node).address
        clients = run("clients", "list", "--node", address, "--json").json["clients"]
        assert [c["state"]["chain_id"] for c in clients] == chains


@pytest.mark.parametrize(
    ("node", "relay", "reason"),
    [("zj", "sh", "NOT_PERMITTED"), ("hub", "hub", "CHAIN_ID_MISMATCH")],
)
def test_connect_refuses(network: Network, run: Run, node: str, relay: str, reason: str) -> None:
    done = run(
        "connect", "--node", getattr(network, node).address,
        "--relay", getattr(network, relay).address,
    )  # fmt: skip
    assert (done.code, done.reason) == (1, reason)


def test_a_result_is_found_recognised_fetched_and_verified(
    network: Network, run: Run, tmp_path: Path
) -> None:
    agreed, codes = tmp_path / "consent.json", [item["code"] for item in network.items]
    parts = [item["part"] for item in network.items]
    zj, sh, hub = network.zj.address, network.sh.address, network.hub.address
    assert consent(network, run, agreed, codes).code == 0
    found = run(
        "records", "find", "--institution", ASKING, "--key", network.key(ASKING),
        "--card", network.card, "--consent", agreed, "--item", codes[0], "--node", zj, "--json",
        "--cards", tmp_path / "found",
    )  # fmt: skip
    assert [one["commitment"] for one in found.json["records"]] == [network.record]
    assert len(list((tmp_path / "found").iterdir())) == 2

    done = ask(network, run, agreed, parts, "--json")
    assert done.code == 0, done.err
    decision = done.json["decision"]
    assert {item["verdict"] for item in decision["items"]} == {"RECOGNISED_WITH_FLAG"}
    request = done.json["request"]
    shown = run("recognise", "show", request, "--node", sh)
    assert "RECOGNISED_WITH_FLAG" in shown.out
    assert "next: lianqiao records fetch" in shown.out
    assert request in run("recognise", "list", "--node", sh).out

    result = tmp_path / "result.record.json"
    fetched = run(
        "records", "fetch", network.record, "--grant", decision["grant"],
        "--institution", ASKING, "--key", network.key(ASKING), "--person", "Dr Li",
        "-o", result, "--node", zj, "--json",
    )  # fmt: skip
    assert fetched.json["shown"] == parts
    assert stat.S_IMODE(result.stat().st_mode) == 0o600

    packet, file, trusted = done.json["packet"], tmp_path / "b", tmp_path / "trust"
    assert run("trust", "-o", trusted, "--node", sh).code == 0
    assert run("bundle", packet, "-o", file, "--node", sh).code == 0
    verified = run("verify", file, "--trust", trusted, "--record", result)
    assert verified.code == 0
    assert "RECOGNISED_WITH_FLAG" in verified.out
    assert f"record {network.record}: {len(parts)} of" in verified.out
    refused = run("verify", file, "--trust", network.directory / "trust.json")
    assert refused.code == 1

    again = tmp_path / "hub.bundle"
    client = next(
        c["client_id"]
        for c in run("clients", "list", "--node", hub, "--json").json["clients"]
        if c["state"]["chain_id"] == "sh-medical/0"
    )
    name = f"{client}/{packet.split('/')[1]}/in"
    args = ["--trust", network.directory / "trust.json"]
    assert run("bundle", name, "-o", again, *args, "--node", hub).code == 0
    assert run("verify", again, *args).code == 0

    traced = run("packets", "trace", packet, "--node", sh, "--also", hub, "--json").json
    assert [(s["chain"], s["step"]) for s in traced["steps"]] == [
        ("sh-medical", "send"),
        ("hub", "receive"),
        ("hub", "receive"),
        ("sh-medical", "acknowledge"),
    ]
    assert "under the other chain's head" in run("packets", "trace", packet, "--node", sh).out

    outcome = run(
        "recognise", "outcome", request, "--adopted", parts[0],
        *(word for part in parts[1:] for word in ("--reexamined", f"{part}:R6")),
        "--note", "asked for by the patient", "--institution", ASKING,
        "--clinician", f"{ASKING}-d1", "--key", network.key(f"{ASKING}-d1"),
        "--node", sh, "--json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    counts: list[dict[str, object]] = []
    while not counts:  # the relayer carries it; pytest's own time limit ends this
        counts = run("recognise", "count", "--node", hub, "--json").json["counts"]
    assert {one["result"] for one in counts} <= {"adopted", "R6"}
    log = run("access-log", "--node", zj, "--card", network.card, "--json").json["entries"]
    assert [entry["act"] for entry in log][:2] == ["find", "fetch"]
    assert log[1]["who"] == "Dr Li"
    assert "fetch" in run("access-log", "--node", zj, "--record", network.record).out


def test_a_consent_that_covers_nothing_of_it_is_refused_with_its_code(
    network: Network, run: Run, tmp_path: Path
) -> None:
    agreed = tmp_path / "consent.json"
    assert consent(network, run, agreed, ["http://loinc.org|0-0"]).code == 0
    done = ask(network, run, agreed, [network.items[0]["part"]])
    assert done.code == 1
    assert "CONSENT/SCOPE" in done.out
    found = run(
        "records", "find", "--institution", ASKING, "--key", network.key(ASKING),
        "--card", network.card, "--consent", agreed, "--item", network.items[0]["code"],
        "--node", network.zj.address,
    )  # fmt: skip
    assert (found.code, found.reason) == (1, "CONSENT_INVALID")


def test_every_listing_is_one_json_document(network: Network, run: Run) -> None:
    zj, hub = network.zj.address, network.hub.address
    for args, name in (
        (["clients", "list", "--node", zj], "clients"),
        (["packets", "list", "--node", hub], "packets"),
        (["records", "list", "--node", zj], "records"),
        (["recognise", "list", "--node", zj], "requests"),
        (["policy", "show", "--node", hub], "policies"),
        (["access-log", "--node", zj], "entries"),
        (["clients", "lanes", "--node", hub], "lanes"),
        (["recognise", "count", "--node", hub], "counts"),
        (["records", "announce", network.record, "--node", zj], "records"),
    ):
        done = run(*args, "--json")
        assert (done.code, done.err) == (0, "")
        assert isinstance(done.json[name], list)
        assert run(*args).code == 0
    for args in (
        ["status", "--node", zj],
        ["clients", "show", "checkpoint-0", "--node", zj],
        ["packets", "show", "checkpoint-0/1/out", "--node", zj],
        ["packets", "trace", "checkpoint-0/1/out", "--node", zj],
        ["records", "show", network.record, "--node", zj],
        ["records", "show", network.record, "--card", "--node", zj],
        ["policy", "show", "rules/demo", "--node", hub],
        ["policy", "show", "rules/demo@1", "--node", hub],
        ["packets", "resend", "--node", zj],
    ):
        done = run(*args, "--json")
        assert (done.code, done.err) == (0, "")
        assert isinstance(done.json, dict)
        assert run(*args).code == 0


def test_the_node_may_come_from_the_environment(
    network: Network, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIANQIAO_NODE", network.hub.address)
    assert run("status", "--json").json["chain_id"] == "hub"


def test_the_card_of_a_record(network: Network, run: Run, tmp_path: Path) -> None:
    args = ["records", "show", network.record, "--card", "--node", network.zj.address]
    assert run(*args, "--json").json == json.loads(network.card.read_text())
    assert "\u2588" in run(*args).out
    for name, start in (("c.svg", b"<?xml"), ("c.png", b"\x89PNG"), ("c.json", b"{")):
        assert run(*args, "-o", tmp_path / name).code == 0
        assert (tmp_path / name).read_bytes().startswith(start)
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    done = run(*args, "-o", tmp_path / "c.gif")
    assert (done.code, done.reason) == (2, "MALFORMED")


def test_what_nobody_knows(network: Network, run: Run, tmp_path: Path) -> None:
    zj, sh, hub = network.zj.address, network.sh.address, network.hub.address
    key = network.key(ASKING)
    fetch = ["--institution", ASKING, "--key", key, "-o", tmp_path / "x", "--node", zj]
    for args, reason in (
        (["clients", "show", "checkpoint-9", "--node", zj], "CLIENT_NOT_FOUND"),
        (["packets", "show", "checkpoint-0/999", "--node", zj], "PACKET_NOT_FOUND"),
        (["packets", "trace", "checkpoint-0/999", "--node", zj], "PACKET_NOT_FOUND"),
        (["bundle", "checkpoint-0/999", "-o", tmp_path / "x", "--node", zj], "PACKET_NOT_FOUND"),
        (["records", "show", "ab" * 32, "--node", zj], "RECORD_NOT_FOUND"),
        (["records", "show", "ab" * 32, "--card", "--node", zj], "RECORD_NOT_FOUND"),
        (["records", "list", "--node", hub], "PORT_NOT_FOUND"),
        (["recognise", "count", "--node", zj], "PORT_NOT_FOUND"),
        (["clients", "lanes", "--node", zj], "NOT_PERMITTED"),
        (["packets", "resend", "--port", "nobody", "--node", zj], "PORT_NOT_FOUND"),
        (["recognise", "show", "ab" * 32, "--node", sh], "NOT_FOUND"),
        (["policy", "show", "--node", zj], "PORT_NOT_FOUND"),
        (["policy", "show", "rules/none", "--node", hub], "POLICY_NOT_FOUND"),
        (["policy", "show", "rules/demo@7", "--node", hub], "POLICY_NOT_FOUND"),
        (["records", "fetch", network.record, "--grant", "ab" * 32, *fetch], "NO_GRANT"),
    ):
        done = run(*args)
        assert (done.code, done.reason, done.out) == (1, reason, ""), args
        assert run(*args, "--json").code == (1 if "bundle" not in args else 2)
    assert not (tmp_path / "x").exists()


def test_what_cannot_be_attested(network: Network, run: Run, tmp_path: Path) -> None:
    zj, key = network.zj.address, network.key(network.source)
    by = ["--institution", network.source, "--key", key, "--node", zj]
    for raw, code in (
        (b"no json", 2),
        (b'{"a": 1, "a": 2}', 2),
        (b"\xef\xbb\xbf{}", 2),
        (b'{"resourceType": "Patient", "id": "p"}', 1),
    ):
        (tmp_path / "r.json").write_bytes(raw)
        done = run("attest", tmp_path / "r.json", *by, "--json")
        assert done.code == code, (raw, done.err)
        assert done.json["records"] == []
        (refused,) = done.json["refused"]
        assert refused["from"] == "r.json"
        assert refused["reason"]
    other = ["--institution", network.source, "--key", network.key(ASKING), "--node", zj]
    done = run("attest", network.directory / "report.json", *other)
    assert (done.code, done.reason) == (1, "UNKNOWN_SIGNER")
    done = run("attest", tmp_path / "none.json", *by)
    assert (done.code, done.reason) == (2, "MALFORMED")


def test_amended_and_retracted(network: Network, run: Run) -> None:
    zj, report = network.zj.address, network.directory / "report.json"
    by = ["--institution", network.source, "--key", network.key(network.source), "--node", zj]
    first = run("attest", report, *by, "--json").json["records"][0]["commitment"]
    second = run("records", "amend", first, report, *by, "--json").json["records"][0]["commitment"]
    assert run("records", "show", first, "--node", zj, "--json").json["revised_by"] == second
    assert run("records", "retract", second, *by).code == 0
    shown = run("records", "show", second, "--node", zj, "--json").json
    assert shown["state"] == "retracted"
    done = run("records", "amend", first, report, *by)
    assert (done.code, done.reason) == (1, "RECORD_REVISED")


def test_policy_that_cannot_be_loaded(network: Network, run: Run, tmp_path: Path) -> None:
    for raw in (b"{}", b"no json", b'{"kind": "rules"}'):
        (tmp_path / "p.json").write_bytes(raw)
        done = run("policy", "load", tmp_path / "p.json", "--node", network.hub.address)
        assert (done.code, done.reason) == (2, "MALFORMED")
        assert "p.json" in done.err


def test_an_accusation_without_evidence(network: Network, run: Run, tmp_path: Path) -> None:
    (tmp_path / "e").write_bytes(b"no evidence")
    done = run("clients", "accuse", "checkpoint-0", tmp_path / "e", "--node", network.hub.address)
    assert (done.code, done.reason) == (2, "MALFORMED")
    args = ["clients", "show", "checkpoint-0", "--node", network.hub.address, "--json"]
    assert run(*args).json["status"] == "active"


def test_a_second_process_of_one_directory_does_not_start(network: Network, run: Run) -> None:
    done = run("serve", "--config", network.zj.config)
    assert (done.code, done.reason) == (1, "CONFLICT")
    done = run("migrate", "--config", network.zj.config)
    assert (done.code, done.reason) == (1, "CONFLICT")


def test_a_running_node_passes_fsck_and_warns_of_its_keys(network: Network, run: Run) -> None:
    assert run("fsck", "--config", network.hub.config).code == 0
    told = network.hub.errors.read_text()
    assert "show the arithmetic of a quorum, not independence" in told


def test_the_lanes_of_connect_outlive_a_restart(network: Network, run: Run) -> None:
    lanes = json.loads((network.hub.config.parent / "lanes.json").read_text())["lanes"]
    assert [lane["address"] for lane in lanes] == [network.zj.address, network.sh.address]


@pytest.mark.slow
def test_a_killed_node_starts_again(tmp_path: Path, run: Run) -> None:
    directory = make(tmp_path / "n", "zj", "ledger")
    node = Served(directory)
    os.kill(node._process.pid, signal.SIGKILL)
    node._process.wait(10)
    again = Served(directory)
    assert run("status", "--node", again.address, "--json").json["chain_id"] == "zj"
    assert again.stop() == 0


def test_lanes_that_cannot_be_read(tmp_path: Path, run: Run) -> None:
    directory = make(tmp_path / "n", "hub", "relay")
    (directory / "lanes.json").write_text("[1, 2]")
    done = run("serve", "--config", directory / "config.toml")
    assert (done.code, done.reason) == (2, "CONFIG_INVALID")
    assert "lianqiao connect" in done.err


def test_a_client_is_recovered_and_packets_are_cleared(network: Network, run: Run) -> None:
    hub, zj = network.hub.address, network.zj.address
    args = ["clients", "recover", "checkpoint-0", "--node", hub]
    done = run(*args, "--from", zj)
    assert (done.code, done.reason) == (1, "RECOVERY_NOT_NEEDED")
    done = run(*args, "--from", network.sh.address)
    assert (done.code, done.reason) == (1, "CHAIN_ID_MISMATCH")
    for wrong in ([], ["--from", zj, "--cancel"]):
        assert run(*args, *wrong).code == 2
    done = run(*args, "--cancel")
    assert (done.code, done.out) == (0, "no recovery of checkpoint-0 is pending; it is active\n")
    assert run(*args, "--cancel", "--json").json["status"] == "active"
    done = run("clients", "skip", "checkpoint-0", "1", "--node", hub)
    assert (done.code, done.reason) == (1, "SEQUENCE_USED")
    cleared = run("packets", "clear", "checkpoint-0", "--node", hub, "--json")
    assert (cleared.code, cleared.json["dead"]) == (0, 0)
    done = run("packets", "clear", "checkpoint-0", "--from", "1", "--to", "5", "--node", hub)
    assert f"packets undelivered --client checkpoint-0 --node {hub}" in done.out
    done = run("packets", "clear", "checkpoint-9", "--node", hub)
    assert (done.code, done.reason) == (1, "CLIENT_NOT_FOUND")
    done = run("packets", "clear", "checkpoint-0", "--node", zj)
    assert (done.code, done.reason) == (1, "NOT_PERMITTED")
