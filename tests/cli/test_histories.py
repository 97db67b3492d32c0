"""A ledger that goes on twice from one copy of itself, by real commands and processes: whoever has
a bundle of each proves it, although no head of the one has the size of a head of the other."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from relay.contracts.catalogue import shipped
from relay.demo.generator import generate
from relay.keys import SigningKey
from tests.cli.conftest import Run, Served, make
from tests.cli.test_nodes import command

pytestmark = pytest.mark.slow
"""Longer than a day's run should take; .ci/run has it."""


def test_two_histories_of_a_ledger_freeze_its_client(tmp_path: Path, run: Run) -> None:
    hub = Served(make(tmp_path / "hub", "hub", "relay"))
    zj = Served(make(tmp_path / "zj", "zj-medical", "ledger"))
    trust, evidence = tmp_path / "trust.json", tmp_path / "e"
    command("connect", "--node", zj.address, "--relay", hub.address, "--trust", trust)
    reports = generate(json.loads(shipped()), seed=3, now=int(time.time()), count=40, share=0)
    hospital = reports[0].hospital.id
    key = tmp_path / "key.pem"
    SigningKey.generate().save(key)
    command("institutions", "register", hospital, "--key", key, "--node", zj.address)
    assert zj.stop() == 0
    shutil.copytree(tmp_path / "zj", tmp_path / "twin")

    own = [report for report in reports if report.hospital.id == hospital]
    bundles = []
    for name, attested in (("zj", own[:1]), ("twin", own[1:3])):
        served = Served(tmp_path / name)
        for number, report in enumerate(attested):
            file = tmp_path / f"{name}-{number}.json"
            file.write_bytes(report.data)
            command("attest", file, "--institution", hospital, "--key", key,
                    "--cards", tmp_path / "cards", "--node", served.address)  # fmt: skip
        sent = run("packets", "list", "--node", served.address, "--json").json["packets"]
        names = [packet["name"] for packet in sent]
        file = tmp_path / f"{name}.bundle"
        command("bundle", *names, "-o", file, "--trust", trust, "--node", served.address)
        bundles.append(file)
        assert served.stop() == 0

    for file in bundles:
        assert run("verify", file, "--trust", trust).code == 0
    done = run("verify", *bundles, "--trust", trust, "--evidence", evidence)
    assert done.code == 1
    assert "zj-medical/0 contradicts itself: " in done.err
    assert "two headers of height" not in done.err
    clients = run("clients", "list", "--node", hub.address, "--json").json["clients"]
    (client,) = [c["client_id"] for c in clients if c["state"]["chain_id"] == "zj-medical/0"]
    done = run("clients", "accuse", client, evidence, "--node", hub.address)
    assert (done.code, f"{client} is frozen" in done.out) == (0, True), done.err
    assert hub.stop() == 0
    assert run("fsck", "--config", hub.config).code == 0
