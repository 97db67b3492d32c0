"""The measurement itself: it runs, its parts agree, and memory is no disk to it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from tests.bench import __main__ as command
from tests.bench.passes import STAGES, quantiles
from tests.bench.report import disk, show

pytestmark = pytest.mark.slow
"""Longer than a day's run should take; .ci/run has it."""

SMALL = ("--records", "3", "--batch", "2", "--runs", "1", "--singles", "1", "--json")


@pytest.mark.parametrize("more", [(), pytest.param(("--grpc",), marks=pytest.mark.slow)])
def test_a_small_measurement_is_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...]
) -> None:
    assert command.main([*SMALL, "--dir", str(tmp_path), *more]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["stages"]) == list(STAGES)
    assert found["seconds"] == pytest.approx(sum(s["seconds"] for s in found["stages"].values()))
    assert found["floor_seconds"] == pytest.approx(
        sum(s["floor_seconds"] for s in found["stages"].values())
    )
    assert found["ratio_to_floor"] == pytest.approx(found["seconds"] / found["floor_seconds"])
    assert found["records_per_second"] == pytest.approx(3 / found["seconds"])
    assert found["stages"]["attest"]["commits"] == 4  # two calls
    # Request and consent of each record; four headers for each of two batches.
    assert found["stages"]["decide"]["signatures_verified"] == 3 * 2 + 2 * 4 * 3
    assert found["resident_bytes"]["peak"] >= found["resident_bytes"]["before"] > 2**20
    assert set(found["alone_seconds"]) == {"hop", "whole", "paced"}
    assert found["alone_seconds"]["hop"]["p50"] < found["alone_seconds"]["whole"]["p50"]
    assert list(tmp_path.iterdir()) == []
    shown = io.StringIO()
    show(found, Console(file=shown, width=160))
    assert all(f"│ {stage}" in shown.getvalue() for stage in STAGES)
    assert "time above the floor" in shown.getvalue()


@pytest.mark.skipif(disk(Path("/dev/shm")) != "tmpfs", reason="no memory file system here")
def test_memory_is_not_taken_for_a_disk(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--dir", "/dev/shm"]) == 2
    assert "memory and no disk" in capsys.readouterr().err


def test_quantiles_of_few() -> None:
    assert quantiles([]) == (0.0, 0.0)
    assert quantiles([2.0]) == (2.0, 2.0)
    assert quantiles([float(n) for n in range(101)]) == (50.0, 99.0)


def test_a_small_measurement_of_settlement_is_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ("settlement", "--settlements", "3", "--singles", "2")
    assert command.main([*small, "--dir", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["settlements_per_second"] == pytest.approx(3 / found["seconds"])
    assert found["ratio_to_floor"] == pytest.approx(found["seconds"] / found["floor_seconds"])
    assert found["alone_seconds"]["p50"] <= found["alone_seconds"]["p99"]
    # However many they are: what is asked is one batch of the relay, and so is each answer of a
    # ledger; a batch is two commits. The others are what the relayer keeps of its lanes.
    assert found["commits"]["hk-money"] == found["commits"]["sz-money"] == 4
    assert found["commits"]["hub"] <= 24
    # Two debtors' signatures of each, at the relay and at the ledger that each debits.
    assert found["signatures_verified"] >= 3 * 4
