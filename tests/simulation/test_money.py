"""Settlement under the faults of the simulation: seeds with money beside the rest.

What is drawn, and what must hold: tests.simulation.money. The figures: tests/README.md.
"""

from __future__ import annotations

from collections import Counter

import pytest

from relay.errors import Reason
from tests.simulation.money.options import PROGRAMS
from tests.simulation.money.planted import MONEY_BUGS
from tests.simulation.money.stranger import FORGERIES
from tests.simulation.money.town import Cosigned
from tests.simulation.options import draw
from tests.simulation.planting import Bug, planted
from tests.simulation.run import run_seed
from tests.simulation.test_planted import hold, longer

EVERYDAY = 9
EVERYDAY_TICKS = 7
CHUNK = 10
REACHING = (*range(20), 41)
"""Seeds in which all that can happen has happened, each at least once."""


@pytest.mark.slow
def test_a_fixed_seed() -> None:
    marks = run_seed(EVERYDAY, EVERYDAY_TICKS, money=True)
    assert marks["money: committed"] + marks["money: aborted"]


def test_money_is_drawn_apart_from_the_rest() -> None:
    with_money, without = draw(7, money=True), draw(7)
    assert with_money.money is not None
    assert without.money is None
    assert [line for line in with_money.lines() if not line.startswith("money")] == without.lines()
    programs = {draw(seed, money=True).money.program for seed in range(50)}  # type: ignore[union-attr]
    assert programs == {"", *PROGRAMS}


def test_every_bug_can_be_planted_still() -> None:
    for bug in MONEY_BUGS:
        with planted(bug):
            pass


@pytest.mark.slow
@pytest.mark.deep
@pytest.mark.parametrize("first", range(0, 60, CHUNK))
def test_seeds_with_money(first: int) -> None:
    for seed in range(first, first + CHUNK):
        run_seed(seed, money=True)


@pytest.mark.slow
def test_the_simulation_reaches_what_it_is_for() -> None:
    """Every kind of instruction, end, refusal and program is met within these seeds."""
    marks: Counter[str] = Counter()
    for seed in REACHING:
        marks += run_seed(seed, quiet=True, money=True)
    wanted = {
        "money: committed",
        "money: aborted",
        "money: window cut off",
        "money: decided again",
        *(f"money: instruction {kind}" for kind in ("right", "right netted", "short", "long")),
        *(f"money: instruction {kind}" for kind in ("unsigned", "altered")),
        *(f"money: refused {why}" for why in (Reason.FUNDS_MISSING, Reason.QUOTE_USED)),
        f"money: refused {Reason.TIMED_OUT}",
        *(f"money: instruct {why}" for why in (Reason.QUOTE_EXPIRED, Reason.QUOTE_USED)),
        *(f"money: instruct {why}" for why in (Reason.RATE_INVALID, Reason.INVALID_SIGNATURE)),
        f"money: instruct {Reason.UNKNOWN_SIGNER}",
        f"money: withdraw {Reason.FUNDS_MISSING}",
        f"stranger: {Reason.ENTRY_MISSING}",
        *(f"money: ended {ended}" for ended in ("released", "refunded", "nothing")),
        *(f"money: {program}" for program in PROGRAMS),
        *(f"money: instruction {what}" for what in ("lines", "itemised", "return")),
        *(f"money: co-signed by {who}" for who in Cosigned),
        *(f"money: instruct {why}" for why in (Reason.LIMIT_REACHED, Reason.COSIGNATURE_MISSING)),
        "money: co-signed above the threshold",
        "money: given back",
        "money: account.open",
        "money: rounding",
        "money: rounding back",
        *(f"stranger: forged {what}" for what in FORGERIES),
        "money: deposit",
        "money: withdraw",
        "money: retry",
        "night",
        "two heads",
    }
    assert wanted - set(marks) == set()


@pytest.mark.slow
@pytest.mark.parametrize("bug", longer(MONEY_BUGS))
def test_a_bug(bug: Bug) -> None:
    hold(bug, money=True)
