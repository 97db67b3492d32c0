"""The tool itself: mutants compile, names are stable, noticed and survived are told apart."""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
from collections import defaultdict
from types import CodeType

import pytest

from tests.mutation.__main__ import chosen, share
from tests.mutation.kept import Function, Lines, carry
from tests.mutation.mutants import ROOT, mutants_of, mutated_code, targets
from tests.mutation.near import NEAR, near
from tests.mutation.survivors import EXPLAINED

MUTANTS = [m for path in targets() for m in mutants_of(path)]


def test_every_target_has_mutants_and_every_name_is_of_one() -> None:
    assert {"relay/channel.py", "relay/packet.py", "relay/bundle.py"} <= {m.file for m in MUTANTS}
    assert len({m.name for m in MUTANTS}) == len(MUTANTS)
    assert {m.kind for m in MUTANTS} == {"never", "invert", "drop", "edge", "skip", "result"}


def test_mutants_compile_and_differ() -> None:
    for mutant in random.Random(7).sample(MUTANTS, 15):
        path = ROOT / mutant.file
        whole = compile(path.read_text(encoding="utf-8"), str(path), "exec")
        assert compile(mutated_code(path, mutant), str(path), "exec") != whole, mutant.name


@pytest.mark.parametrize("name", ["_ecdsa", "_matching"])
def test_a_function_within_another_keeps_what_it_takes_from_it(name: str) -> None:
    """Else a mutant of it cannot be put in, and is taken for a survivor."""
    tried = 0
    for mutant in MUTANTS:
        if mutant.function == name:
            path = ROOT / mutant.file
            whole = compile(path.read_text(encoding="utf-8"), str(path), "exec")
            changed = compile(mutated_code(path, mutant), str(path), "exec")
            assert _taken(whole, name) == _taken(changed, name), mutant.name
            tried += 1
    assert tried >= 2


def _taken(code: CodeType, outer: str) -> dict[str, tuple[str, ...]]:
    """Names that functions within `outer` take from it."""
    inner = [one for one in code.co_consts if isinstance(one, CodeType)]
    found = {one.co_qualname: one.co_freevars for one in inner if f"{outer}.<" in one.co_qualname}
    for one in inner:
        found |= _taken(one, outer)
    return found


def test_every_explanation_is_of_a_mutant_that_is_there() -> None:
    gone = [part for part in EXPLAINED if not any(m.name.startswith(part) for m in MUTANTS)]
    assert gone == [], "an explanation outlives its code: take it out"


def test_every_module_has_tests_near_it() -> None:
    missing = [test for _, tests in NEAR for test in tests if not (ROOT / test).exists()]
    assert missing == []
    assert [m.file for m in MUTANTS if near([m.file]) == ("tests",)] == []


@pytest.mark.slow
def test_shares_are_all_of_it_once() -> None:
    options = argparse.Namespace(edges=True, only=None, every=1, seed=0)
    whole: list[str] = []
    for number in range(1, 8):
        options.share = share(f"{number}/7")
        whole += [mutant.name for mutant in chosen(options)]
    assert whole == [mutant.name for mutant in MUTANTS]
    for wrong in ("0/7", "8/7", "1", "a/b"):
        with pytest.raises(ValueError):  # noqa: PT011
            share(wrong)


def test_what_was_measured_holds_wherever_a_function_stands_now() -> None:
    then: Lines = {("a.py", 3): {"one"}, ("a.py", 4): {"two"}, ("a.py", 8): {"three"}}
    known = [Function("same", 3, 4, "x"), Function("changed", 7, 8, "y")]
    now = [Function("same", 13, 14, "x"), Function("changed", 1, 2, "z"), Function("new", 5, 5, "")]
    lines: Lines = defaultdict(set)
    carry("a.py", known, now, then, lines)
    assert lines == {
        ("a.py", 13): {"one"},
        ("a.py", 14): {"two"},
        ("a.py", 1): {"three"},
        ("a.py", 2): {"three"},
        ("a.py", 5): {"one", "two", "three"},
    }


def test_a_condition_of_a_comprehension_stands_where_its_text_does() -> None:
    [mutant] = [m for m in MUTANTS if m.name.endswith("select_signatures::never::s.algorithm == "
                                                       "state.algorithm #1")]  # fmt: skip
    source = (ROOT / mutant.file).read_text(encoding="utf-8").splitlines()
    assert "s.algorithm == state.algorithm" in source[mutant.line - 1]


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
