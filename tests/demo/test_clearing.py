"""The settlement story: its texts are complete, its bill ties, and (slow) it holds end to end."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from relay.contracts.payloads import Ended, Ruling
from relay.demo.clearing.story import HK, HUB, LINES, SZ, bill_of
from relay.demo.clearing.texts import TEXTS, speaker
from relay.record.bill import take_bill
from tests.adapters.engine.network import binary

ROOT = Path(__file__).parent.parent.parent
SOURCES = ROOT / "relay" / "demo" / "clearing"


@pytest.mark.parametrize("key", TEXTS)
def test_both_languages_say_it_with_the_same_values(key: str) -> None:
    english, chinese = TEXTS[key]
    assert english
    assert re.search("[一-鿿]", chinese)
    assert set(re.findall(r"{\w+}", english)) == set(re.findall(r"{\w+}", chinese))
    values = dict.fromkeys(re.findall(r"{(\w+)}", english), "x")
    assert speaker("en")(key, **values) != speaker("zh")(key, **values)


def test_nothing_is_said_that_has_no_text() -> None:
    code = "\n".join(path.read_text() for path in SOURCES.glob("*.py"))
    asked = set(re.findall(r'(?:say|_tell|tell|_print_tried)\(\s*"(\w+)"', code))
    assert asked <= TEXTS.keys()


def test_the_bill_of_the_story_can_be_cleared() -> None:
    bill = take_bill(bill_of(LINES, "2026-10-30"))
    assert bill.amount == sum(minor for _, minor in LINES)
    assert bill.lines == tuple(minor for _, minor in LINES)


def test_every_step_that_can_be_told_has_its_text() -> None:
    for word in (*Ruling, *Ended):
        assert f"step_{word}" in TEXTS


def test_in_chinese_no_english_is_left_but_names_and_codes() -> None:
    """What is written in capitals, in braces, or as an id stays as it is."""
    for key, (_, chinese) in TEXTS.items():
        plain = re.sub(r"{\w+}|[A-Z][A-Z0-9_]+", "", chinese)
        assert not re.search("[A-Za-z]", plain), key
    source = (SOURCES / "show.py").read_text()
    printed = re.findall(r'(?:add_column|add_row|print)\(\s*"([^"]+)"', source)
    assert printed == [], "every text comes from texts.py"


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(("chains", "faults"), [("lianqiao", 10), ("cometbft,lianqiao", 13)])
def test_the_story_is_told_and_its_books_agree(tmp_path: Path, chains: str, faults: int) -> None:
    """With every fault: each node killed at each step, of a replicated relay two replicas."""
    if "cometbft" in chains:
        binary()
    where = tmp_path / "out"
    command = [sys.executable, "-m", "relay.cli"]
    told = subprocess.run(
        [*command, "demo", "settlement", "--chains", chains, "--dir", str(where), "--lang", "zh"],
        cwd=ROOT, capture_output=True, text=True, timeout=2900,
    )  # fmt: skip
    assert told.returncode == 0, told.stdout + told.stderr
    assert "✗" not in told.stdout
    assert told.stdout.count("✓") == 9 + faults
    assert "step_" not in told.stdout
    checked = subprocess.run(
        [*command, "reconcile", where / "books.json", "--trust", where / "trust.json", "--json"],
        cwd=ROOT, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout)["breaks"] == []
    assert not re.search("Patient/demo", (where / "books.json").read_text())


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_the_story_with_money_on_an_evm_chain(tmp_path: Path) -> None:
    """Hong Kong dollars are a token there; cheats on the chain too, which stands still at times."""
    from tests.adapters.evm.ledger import anvil_binary  # loads what an EVM needs, which is much

    anvil_binary()
    where, command = tmp_path / "out", [sys.executable, "-m", "relay.cli"]
    told = subprocess.run(
        [*command, "demo", "settlement", "--chains", "evm,lianqiao", "--dir", str(where)],
        cwd=ROOT, capture_output=True, text=True, timeout=2900,
    )  # fmt: skip
    assert told.returncode == 0, told.stdout + told.stderr
    assert "✗" not in told.stdout
    assert told.stdout.count("✓") == 9 + 3 + 10 + 3
    books, trust = where / "books.json", ["--trust", where / "trust.json", "--json"]
    checked = subprocess.run(
        [*command, "reconcile", books, *trust],
        cwd=ROOT, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr
    assert {one["chain"] for one in json.loads(checked.stdout)["books"]} == {HK, SZ, HUB}
    given = json.loads(books.read_text())
    (one,) = [b for b in given["books"] if b["chain_id"] == f"{HK}/0"]
    del one["records"][-1]
    less = tmp_path / "less.json"
    less.write_text(json.dumps(given, separators=(",", ":"), sort_keys=True))
    noticed = subprocess.run(
        [*command, "reconcile", less, *trust],
        cwd=ROOT, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert noticed.returncode == 1
    assert "BUNDLE_INCOMPLETE" in noticed.stderr
