"""What a run shows of its attacks; in the slow tier, a thousand records and the user's own."""

from __future__ import annotations

import json
import os
import resource
import time
from pathlib import Path

import pytest

from relay.contracts.catalogue import shipped
from relay.demo.generator import generate
from relay.demo.hospitals import SOURCES
from tests.e2e.conftest import lianqiao, missing

MANY, MANY_SECONDS = 1000, 60
BUSY = 3.0
"""A load that four processes on two cores, most of which wait, do not make by themselves."""


def used() -> float:
    """Processor seconds of all processes that this one has started and seen end."""
    of = resource.getrusage(resource.RUSAGE_CHILDREN)
    return of.ru_utime + of.ru_stime


@pytest.mark.slow
@pytest.mark.deep  # it wants the machine for itself
@pytest.mark.timeout(4 * MANY_SECONDS)
def test_a_thousand_records_end_within_a_minute(tmp_path: Path) -> None:
    """On two free cores. Where others compute too, what the run itself took of them is judged."""
    start, before = time.monotonic(), used()
    args = ["--count", MANY, "--dir", "out", "--lang", "zh"]
    ran = lianqiao("demo", *args, cwd=tmp_path, seconds=4 * MANY_SECONDS)
    seconds, own = time.monotonic() - start, used() - before
    assert ran.code == 0, ran.out + ran.err
    busy = os.getloadavg()[0] > BUSY
    assert (own if busy else seconds) < MANY_SECONDS, (seconds, own)
    assert f"存证 {MANY} 份" in ran.out
    assert missing(ran.out, "zh") == []
    assert not (tmp_path / "out" / "nodes").exists()


@pytest.mark.slow
def test_records_of_the_users_own_take_the_same_way(tmp_path: Path) -> None:
    """One report as JSON, two as NDJSON, of the hospital in whose name they are attested."""
    now, catalogue = int(time.time()), json.loads(shipped())
    made = generate(catalogue, seed=13, now=now, count=24, share=0)
    own = [one for one in made if one.hospital == SOURCES[0]][:3]
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "report.json").write_bytes(own[0].data)
    (mine / "more.ndjson").write_bytes(b"\n".join(one.data for one in own[1:]) + b"\n")
    ran = lianqiao("demo", "--records", "mine", "--dir", "out", cwd=tmp_path)
    assert ran.code == 0, ran.out + ran.err
    assert "3 records attested" in ran.out
    assert "3 records delivered" in ran.out
    assert len(list((tmp_path / "out" / "bundles").glob("*.bundle"))) == 3
    assert missing(ran.out, "en") == []
