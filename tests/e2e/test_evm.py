"""`lianqiao demo --chains evm,lianqiao`: the record story with a source on an EVM chain."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from relay.contracts.catalogue import shipped
from relay.demo.evm import EvmStage
from relay.demo.generator import generate
from relay.demo.lots import tell_story
from relay.demo.stage import ASKING, RELAY, SOURCE
from relay.demo.story import cases_of_generated, introduce
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
