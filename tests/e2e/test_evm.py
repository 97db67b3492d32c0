"""`lianqiao demo --chains evm,lianqiao`: the record story with a source on an EVM chain."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from adapters.evm.deploy import deploy_play_money
from adapters.evm.rpc import Rpc
from adapters.evm.sender import Sender
from relay.contracts.catalogue import shipped
from relay.demo.clearing.evm import MoneyStage
from relay.demo.clearing.story import HK, HUB
from relay.demo.evm import EvmStage
from relay.demo.generator import generate
from relay.demo.lots import tell_story
from relay.demo.stage import ASKING, RELAY, SOURCE
from relay.demo.story import cases_of_generated, introduce
from relay.errors import LianqiaoError
from relay.views import Direction
from tests.adapters.evm.ledger import anvil_binary

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def lianqiao(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), **more}
    return subprocess.run(
        [sys.executable, "-m", "relay.cli", *arguments],
        capture_output=True, text=True, env=environment, timeout=600, check=False,
    )  # fmt: skip


def test_records_of_an_evm_ledger_are_recognised_elsewhere(tmp_path: Path) -> None:
    anvil_binary()
    done = lianqiao(
        "demo", "--chains", "evm,lianqiao", "--count", "8", "--dir", str(tmp_path / "demo")
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "✗" not in done.stdout
    assert "four test validators of one process" in " ".join(done.stdout.split())
    bundles = sorted((tmp_path / "demo/bundles").glob("*.bundle"))
    assert bundles
    trust = tmp_path / "demo/trust.json"
    verified = lianqiao("verify", str(bundles[0]), "--trust", str(trust), "--json")
    assert verified.returncode == 0, verified.stderr
    (told,) = json.loads(verified.stdout)["bundles"]
    assert {hop["chain"] for hop in told["hops"]} >= {"zj-medical/0", "relay/0", "sh-medical/0"}


class BothStage(EvmStage):
    """Source and asking ledger, both on the chain: two endpoints that do not know each other."""

    on_chain = (SOURCE, ASKING)


def test_an_evm_ledger_asks_and_is_answered(tmp_path: Path) -> None:
    """Requests, decisions and outcomes cross an EVM ledger, and its node can be made anew."""
    anvil_binary()
    now = int(time.time())
    made = generate(json.loads(shipped()), seed=11, now=now, count=6)
    cases = cases_of_generated(made)
    stage = BothStage(tmp_path / "both", keep=False)
    stage.prepare()
    with stage:
        stage.begin()
        stage.start()
        stage.join()
        introduce(stage, now)
        tell_story(stage, cases, now, lambda *_: None)
        assert all(case.as_expected for case in cases), [c.findings for c in cases]
        delivered = [case for case in cases if case.fetched is not None]
        assert delivered
        wait_quiet(stage)
        incoming = {
            json.loads(view.packet.payloads[0].value)["type"]
            for view in stage.node(SOURCE).packets()
            if view.direction is Direction.IN
        }
        assert incoming == {"notice", "outcome_notice"}
        for name in BothStage.on_chain:
            before = told(stage, name)
            assert before["records"] if name == SOURCE else before["recognitions"]
            stage.kill(name)
            directory = stage.processes[name].directory
            stage.command("evm", "reread", "--config", str(directory / "config.toml"))
            stage.restart(name)
            assert told(stage, name) == before
        again = stage.node(ASKING).request_recognition([c.request for c in cases if c.request])
        assert [r.recognition.decision for r in again if r.recognition] == [
            c.decision for c in cases
        ]


def wait_quiet(stage: EvmStage) -> None:
    """Until nothing that a node has sent is open."""
    for name in (SOURCE, RELAY, ASKING):
        while stage.node(name).status().packets_open:
            time.sleep(0.2)


def told(stage: EvmStage, name: str) -> dict[str, list[object]]:
    """All that a node knows of its ledger."""
    node = stage.node(name)
    return {
        "records": list(node.records()),
        "recognitions": list(node.recognitions()),
        "grants": list(node.grants()),
        "packets": sorted(repr((p.direction, p.state, p.packet)) for p in node.packets()),
        "access": list(node.access_log()),
    }


def test_what_it_needs_is_asked_for(tmp_path: Path) -> None:
    away = {"XDG_CACHE_HOME": str(tmp_path), "PATH": str(tmp_path)}
    done = lianqiao("demo", "--chains", "evm,lianqiao", "--dir", str(tmp_path / "demo"), **away)
    assert done.returncode == 2
    assert "CONFIG_INVALID: no program anvil is installed" in done.stderr
    assert "hint: npm install --prefix" in done.stderr
    assert not (tmp_path / "demo").exists()


def test_money_on_an_evm_ledger_by_its_commands(tmp_path: Path) -> None:
    """Deployed, opened, filled, emptied, stated, reconciled: as adapters/evm/README has it."""
    anvil_binary()
    stage = MoneyStage(tmp_path / "money", False, {HK: "ledger", HUB: "relay"})
    stage.prepare()
    with stage:
        stage.begin()
        stage.start()
        node, file = stage.processes[HK].address, stage.directory / "nodes" / f"{HK}.toml"
        key, owner = stage.directory / "keys" / "insurer.pem", stage._key(HK)
        stage.command("keys", "new", str(key), "--algorithm", "secp256k1")
        account = ("accounts", "open", "insurer", "HKD", "--owner", "hk-insurer", "--key", str(key))
        stage.command(*account, "--node", node)
        name = "ab" * 32
        for _ in range(2):  # the same again moves nothing
            stage.command(
                "accounts", "deposit", "insurer", "100.00", "HKD", "--reference", name,
                "--node", node,
            )  # fmt: skip
        with pytest.raises(LianqiaoError, match="REQUEST_ID_REUSED"):
            stage.command(
                "accounts", "deposit", "insurer", "200.00", "HKD", "--reference", name,
                "--node", node,
            )  # fmt: skip
        stage.command(
            "accounts", "withdraw", "insurer", "10.50", "HKD", "--key", str(key), "--node", node
        )
        to = "0x" + "22" * 20
        stage.command(
            "evm", "withdraw", str(file), "insurer", "1.00", "HKD", "--key", str(owner), "--to", to
        )
        shown = stage.command("evm", "account", str(file), "insurer")
        assert "balance 88.50 HKD" in shown
        assert "of HKD 88500000 units of the token are booked, 88500000 are there" in shown
        token = "0x" + deploy_play_money(Rpc([stage._rpc]), Sender(owner, 10**12), []).hex()
        opened = stage.command(
            "evm", "currency", str(file), "USD", "--token", token, "--key", str(owner)
        )
        assert "has 6 digits" in opened
        told = json.loads(stage.command("accounts", "list", "--node", node, "--json"))
        found = {one["account"]: one["balance"] for one in told["accounts"]}
        assert found["insurer"] == 8_850
        assert found["nostro:HKD"] == -8_850
        assert found["nostro:USD"] == 0
        first = next(iter(stage.node(HK).lines("insurer")))
        day = datetime.fromtimestamp(first.time, timezone(timedelta(hours=8))).date().isoformat()
        xml = stage.directory / "camt053.xml"
        stage.command(
            "settlement", "statement", "insurer", "--date", day, "--xml", str(xml), "--node", node
        )
        assert "camt.053.001.08" in xml.read_text()
        trust = str(stage.directory / "trust.json")
        relay = stage.processes[HUB].address
        stage.command("trust", "--node", relay, "-o", trust)
        agreed = json.loads(
            stage.command("reconcile", "--node", relay, "--node", node, "--trust", trust, "--json")
        )
        assert agreed["agrees"] is True
        assert agreed["lines"] == 6
