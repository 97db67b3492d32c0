"""`lianqiao demo --chains evm,lianqiao`: the record story with a source on an EVM chain."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_what_it_needs_is_asked_for(tmp_path: Path) -> None:
    away = {"XDG_CACHE_HOME": str(tmp_path), "PATH": str(tmp_path)}
    done = lianqiao("demo", "--chains", "evm,lianqiao", "--dir", str(tmp_path / "demo"), **away)
    assert done.returncode == 2
    assert "CONFIG_INVALID: no program anvil is installed" in done.stderr
    assert "hint: npm install --prefix" in done.stderr
    assert not (tmp_path / "demo").exists()
