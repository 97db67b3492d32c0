"""The tool itself: mutants compile, names are stable, noticed and survived are told apart."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from tests.mutation.mutants import ROOT, mutants_of, mutated_code, targets
from tests.mutation.survivors import EXPLAINED

MUTANTS = [m for path in targets() for m in mutants_of(path)]


def test_every_target_has_mutants_and_every_name_is_of_one() -> None:
    assert {"relay/channel.py", "relay/packet.py", "relay/bundle.py"} <= {m.file for m in MUTANTS}
    assert len({m.name for m in MUTANTS}) == len(MUTANTS)
    assert {m.kind for m in MUTANTS} == {"never", "invert", "drop", "edge", "skip", "result"}


def test_mutants_compile_and_differ() -> None:
    for mutant in random.Random(7).sample(MUTANTS, 40):
        path = ROOT / mutant.file
        whole = compile(path.read_text(encoding="utf-8"), str(path), "exec")
        assert compile(mutated_code(path, mutant), str(path), "exec") != whole, mutant.name


def test_every_explanation_is_of_a_mutant_that_is_there() -> None:
    gone = [part for part in EXPLAINED if not any(m.name.startswith(part) for m in MUTANTS)]
    assert gone == [], "an explanation outlives its code: take it out"


@pytest.mark.slow
def test_a_check_that_only_one_test_knows_survives_without_it() -> None:
    command = [sys.executable, "-m", "tests.mutation", "--children", "1", "--only"]
    check = "relay/light/note.py"
    whole = subprocess.run(
        [*command, check, "--tests", "tests/light/test_note.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    without = subprocess.run(
        [*command, check, "--tests", "tests/light/test_wire.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "SURVIVES" in without.stdout
    assert without.returncode == 1
    assert without.stdout.count("SURVIVES") > whole.stdout.count("SURVIVES")
