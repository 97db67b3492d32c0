"""`lianqiao demo`, once: what it ends with, what it leaves, what a stranger can check of it."""

from __future__ import annotations

import base64
import json
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from relay.cli.root import run as run_command
from relay.contracts.catalogue import shipped
from relay.demo.attacks import PLANS
from relay.demo.generator import Generated, generate
from relay.demo.stage import Stage
from relay.errors import Reason, Refused
from tests.e2e.conftest import (
    COUNT,
    SEED,
    Demo,
    command,
    environment,
    lianqiao,
    missing,
    processes_of,
)

pytestmark = pytest.mark.slow
"""Fifteen seconds of four processes; .ci/run has it, and the README's own command beside it."""
SAMPLE = 150
"""Bytes by lot of one bundle that are changed, beside every one that gives it its form."""


def generated() -> list[Generated]:
    """The records that the run made: the seed decides, the time only dates them."""
    catalogue = json.loads(shipped())
    return generate(catalogue, seed=SEED, now=int(time.time()), count=COUNT)


def test_it_ends_well_and_begins_with_what_it_is_not(demo: Demo) -> None:
    assert demo.ran.code == 0, demo.ran.out + demo.ran.err
    first = " ".join(demo.ran.out.split()[:80])
    assert "arithmetic of a quorum" in first
    assert "independence" in first
    assert "✗" not in demo.ran.out
    assert "Traceback" not in demo.ran.err


def test_it_leaves_bundles_records_and_one_trust_file(demo: Demo) -> None:
    assert demo.trust.exists()
    bundles = [path.name.removesuffix(".bundle") for path in demo.bundles]
    records = [path.name.removesuffix(".record.json") for path in demo.records]
    assert bundles == records
    granted = [one for one in generated() if any(e.recognised for e in one.expected)]
    assert len(bundles) == len(granted) > 0
    assert processes_of(demo.directory) == []


def test_every_attack_is_shown_refused_for_its_own_reason(demo: Demo) -> None:
    assert missing(demo.ran.out, "en") == []
    assert demo.ran.out.count("✓") == len(PLANS)


def test_the_line_it_prints_works_as_printed(demo: Demo) -> None:
    lines = [line.strip() for line in demo.ran.out.splitlines()]
    line = next(line for line in lines if line.startswith("lianqiao verify "))
    done = lianqiao(*shlex.split(line)[1:], cwd=demo.base)
    assert done.code == 0, done.err
    assert "each exactly as committed to" in done.out


def test_every_bundle_is_verified_offline(demo: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(path) for path in demo.bundles]
    assert run_command(["verify", *files, "--trust", str(demo.trust), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [bundle["verified"] for bundle in told["bundles"]] == [True] * len(files)
    for bundle in told["bundles"]:
        chains = {hop["chain"].partition("/")[0] for hop in bundle["hops"]}
        assert {"zj-medical", "sh-medical"} < chains


def positions(raw: bytes) -> list[int]:
    """Every byte outside of values (braces, commas, keys), the ends of each value, some by lot."""
    structural = set()
    inside = False
    for place, byte in enumerate(raw):
        if byte == ord('"'):
            inside = not inside
            structural |= {place - 1, place, place + 1}
        elif not inside:
            structural.add(place)
    lot = Random(1).sample(range(len(raw)), min(SAMPLE, len(raw)))
    return sorted({p for p in (*structural, *lot) if 0 <= p < len(raw)})


def refused(path: Path, trust: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The reason by which `lianqiao verify` refuses; empty where it does not."""
    code = run_command(["verify", str(path), "--trust", str(trust)])
    error = capsys.readouterr().err
    assert code in (0, 1), error
    return error.partition(":")[0] if code else ""


@pytest.mark.slow
def test_a_bundle_is_refused_after_any_one_byte_is_changed(
    demo: Demo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = demo.bundles[0].read_bytes()
    changed = tmp_path / "changed.bundle"
    reasons = set()
    for place in positions(raw):
        changed.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
        reason = refused(changed, demo.trust, capsys)
        assert reason, f"byte {place} may be changed"
        reasons.add(reason)
    assert {"MALFORMED", "INVALID_SIGNATURE", "INVALID_PROOF"} <= reasons
    for cut in (raw[:-1], raw[1:], raw + b"\n", raw + raw, b""):
        changed.write_bytes(cut)
        assert refused(changed, demo.trust, capsys)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_byte_of_any_bundle_may_be_changed(
    demo: Demo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = tmp_path / "changed.bundle"
    for number, path in enumerate(demo.bundles):
        raw = path.read_bytes()
        chosen = range(len(raw)) if number == 0 else Random(number).sample(range(len(raw)), 200)
        for place in chosen:
            flip = 1 << (place % 7)
            changed.write_bytes(raw[:place] + bytes([raw[place] ^ flip]) + raw[place + 1 :])
            assert refused(changed, demo.trust, capsys), f"{path.name}, byte {place}"


def test_a_record_is_refused_after_its_content_is_changed(
    demo: Demo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = json.loads(demo.records[0].read_bytes())
    part = next(p for p in body["parts"] if "content" in p)
    content = base64.b64decode(part["content"])
    assert b"Observation" in content
    part["content"] = base64.b64encode(content.replace(b"final", b"Final")).decode()
    changed = tmp_path / "changed.record.json"
    changed.write_text(json.dumps(body, separators=(",", ":"), sort_keys=True))
    args = ["--trust", str(demo.trust), "--record", str(changed)]
    assert run_command(["verify", str(demo.bundles[0]), *args]) == 1
    assert capsys.readouterr().err.startswith("RECORD_MISMATCH")


def test_no_patient_is_in_any_database_log_or_bundle(demo: Demo) -> None:
    people = [one.person for one in generated()]
    texts = {t for p in people for t in (p.number, p.name_zh, p.name_en, p.born)}
    told = "".join(path.read_text() for path in demo.records)
    shown = base64.b64decode(json.loads(demo.records[0].read_bytes())["parts"][1]["content"])
    assert people[0].number not in told  # the person is no part of a delivered record
    assert b"resourceType" in shown
    needles = [n for text in texts for n in spellings(text)]
    files = [p for p in demo.directory.rglob("*") if p.is_file() and p.parent.name != "records"]
    names = {path.suffix or path.name for path in files}
    assert {".db", ".log", ".bundle"} <= names, names
    for path in files:
        raw = path.read_bytes()
        assert not [needle for needle in needles if needle in raw], path


def spellings(text: str) -> list[bytes]:
    """A text as it may stand in a file: plain, escaped in JSON, hex, base64 at each offset."""
    raw = text.encode()
    found = {raw, json.dumps(text)[1:-1].encode(), raw.hex().encode()}
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + raw)
        found.add(encoded[(0, 2, 3)[offset] : len(encoded) - 4])
    return [spelling for spelling in found if len(spelling) >= 6]


@pytest.mark.slow
def test_it_leaves_alone_what_is_not_its_own(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    done = lianqiao("demo", "--dir", "mine", cwd=tmp_path)
    assert done.code == 1
    assert done.err.startswith("CONFLICT: ")
    assert "hint: " in done.err
    assert [path.name for path in mine.iterdir()] == ["thesis.txt"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name
)
def test_however_it_is_stopped_no_node_stays_behind(tmp_path: Path, number: signal.Signals) -> None:
    directory = tmp_path / "out"
    with (tmp_path / "told").open("w+") as told:
        running = subprocess.Popen(
            command("demo", "--dir", directory),
            cwd=tmp_path,
            env=environment(),
            stdout=told,
            stderr=subprocess.STDOUT,
        )
        wait_for(lambda: len(serving(directory)) == 3)
        running.send_signal(number)
        killed = number is signal.SIGKILL
        assert running.wait(30) == (-number if killed else 130)
        wait_for(lambda: not processes_of(directory))
        told.seek(0)
        text = told.read()
    assert list((directory / "nodes").glob("*.log"))
    if not killed:
        assert "Traceback" not in text
        assert str(directory / "nodes") in text


def wait_for(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def serving(directory: Path) -> list[int]:
    """Processes that serve a node below a directory."""
    return [
        number
        for number in processes_of(directory)
        if b"\0serve\0" in Path(f"/proc/{number}/cmdline").read_bytes()
    ]


def test_two_of_them_do_not_share_a_directory(tmp_path: Path) -> None:
    one = Stage(tmp_path / "out", keep=False)
    one.prepare()
    with one:
        with pytest.raises(Refused) as err:
            Stage(tmp_path / "out", keep=False).prepare()
        assert err.value.reason is Reason.CONFLICT
    Stage(tmp_path / "out", keep=False).prepare()
