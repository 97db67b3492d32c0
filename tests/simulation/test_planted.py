"""The simulation finds every planted bug within the stated number of seeds."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from relay.contracts.escrow import contract as escrow
from relay.contracts.escrow import endings
from relay.contracts.settlement import accept
from relay.contracts.settlement import contract as settlement
from tests.simulation import harm
from tests.simulation.money.planted import MONEY_BUGS
from tests.simulation.planted import BUGS
from tests.simulation.planting import Bug, planted
from tests.simulation.run import Failure, run_seed

QUICK = (
    "no receipt check, and nothing else stops it",
    "no dedupe of acknowledgements, and nothing stops it",
    "fold-breaking update of a packet's row",
    "signature before commit",
)
"""Found in the first ticks of the first seed: these have their turn every day."""
SOON = 15
"""Seeds in which a bug is found that the longer tier has time for."""


def find(bug: Bug, money: bool = False) -> tuple[int, Failure] | None:
    """(the first seed that finds the bug, how), or None."""
    with planted(bug):
        for seed in range(bug.within):
            try:
                run_seed(seed, quiet=True, money=money)
            except Failure as failure:
                return seed, failure
    return None


def hold(bug: Bug, money: bool = False) -> None:
    """Fails where the bug is not found, or by another invariant than is stated."""
    found = find(bug, money)
    assert found is not None, f"not found within {bug.within} seeds"
    assert found[1].invariant in bug.invariants, found[1]


@pytest.mark.parametrize("bug", [b for b in BUGS if b.name in QUICK], ids=lambda bug: bug.name)
def test_a_bug_that_shows_at_once(bug: Bug) -> None:
    hold(bug)


@pytest.mark.slow
def test_every_bug_can_be_planted_still() -> None:
    """The lines that they spoil are there, and are there again afterwards."""
    for bug in BUGS:
        with planted(bug):
            pass
    run_seed(0, 2, quiet=True)


def test_what_is_spoilt_is_spoilt_wherever_it_was_imported() -> None:
    before = endings.end
    table = accept.instruct
    bug = Bug("both", (), 0, (harm.Swap(endings, "end", len), harm.Swap(accept, "instruct", len)))
    with planted(bug):
        assert escrow.end is len  # type: ignore[attr-defined]
        assert settlement._CALLS["instruct"] is len
    assert escrow.end is before  # type: ignore[attr-defined]
    assert settlement._CALLS["instruct"] is table


HERE = Path(__file__).parent
MONEY = HERE / "money"
RAISED_BY = {"Broken": 0, "require": 1, "_require": 1}
"""Call -> which of its arguments names the invariant."""
NO_INVARIANT = "no fault of ours"
"""What Failure says where the product failed with an error that nobody expects."""


def invariants(money: bool) -> set[str]:
    """What the code of the simulation can raise, read from its source; of money, or of the rest."""
    files = [path for path in HERE.rglob("*.py") if (MONEY in path.parents) == money]
    return {name for path in files for name in _raised(ast.parse(path.read_text()))}


def _raised(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.Call):
            called = node.func.id if isinstance(node.func, ast.Name) else ""
            called = node.func.attr if isinstance(node.func, ast.Attribute) else called
            if called in RAISED_BY and len(node.args) > 1:
                named = node.args[RAISED_BY[called]]
                if isinstance(named, ast.Constant):
                    yield str(named.value)
                else:  # in `require` itself, and nowhere else: what is hidden is not covered
                    assert ast.unparse(named) == "invariant", ast.unparse(node)


@pytest.mark.parametrize(("money", "bugs"), [(False, BUGS), (True, MONEY_BUGS)])
def test_every_invariant_finds_a_bug_that_no_other_finds(money: bool, bugs: Sequence[Bug]) -> None:
    """Else nobody knows whether it is worth anything: it could be deleted unnoticed."""
    alone = {bug.invariants[0] for bug in bugs if len(bug.invariants) == 1}
    known = invariants(money)
    assert len(known) > 10
    assert known - alone == set()
    stated = {name for bug in bugs for name in bug.invariants}
    assert stated - known - invariants(not money) - {NO_INVARIANT} == set()


def longer(bugs: Sequence[Bug]) -> list[Any]:
    """Parameters: what is found soon is for the longer tier, what takes many seeds for the deep."""
    return [
        pytest.param(bug, id=bug.name, marks=[pytest.mark.deep] if bug.within > SOON else [])
        for bug in bugs
    ]


@pytest.mark.slow
@pytest.mark.parametrize("bug", longer([b for b in BUGS if b.name not in QUICK]))
def test_a_bug(bug: Bug) -> None:
    hold(bug)
