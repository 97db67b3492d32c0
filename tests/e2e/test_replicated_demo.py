"""`lianqiao demo --chains cometbft,lianqiao`: records across the kinds, and the attacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.adapters.engine.network import binary
from tests.e2e.conftest import lianqiao, processes_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def test_records_cross_a_relay_of_four_institutions(tmp_path: Path) -> None:
    binary()
    directory = tmp_path / "out"
    chains = ("--chains", "cometbft,lianqiao")
    told = lianqiao(
        "demo", *chains, "--count", 12, "--dir", directory, cwd=tmp_path, seconds=1400
    )  # fmt: skip
    assert told.code == 0, told.out + told.err
    assert "✗" not in told.out
    assert told.out.count("✓") > 20, "attacks"
    assert processes_of(directory) == []
    bundles = sorted((directory / "bundles").glob("*.bundle"))
    assert bundles
    for bundle in bundles:
        trust = ("--trust", directory / "trust.json")
        assert lianqiao("verify", bundle, *trust, cwd=tmp_path).code == 0
        raw = bytearray(bundle.read_bytes())
        raw[len(raw) // 2] ^= 1
        bundle.write_bytes(raw)
        assert lianqiao("verify", bundle, *trust, cwd=tmp_path).code == 1
