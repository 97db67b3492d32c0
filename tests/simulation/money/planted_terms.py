"""Bugs in what limits a payer, in who co-signs, in the lines of bills and in returns.

Each was found in seed 0 to 6. Limits of 10 and 20 were measured (tests.simulation.measure); those
of 40 and 60 are not yet.
"""

from __future__ import annotations

from typing import Any

import relay.contracts.accounts
from relay.contracts import quotes
from relay.contracts.escrow import postings, telling
from relay.contracts.settlement import accept
from tests.simulation.harm import Swap
from tests.simulation.planting import Bug, Edit


def _nothing(*_: Any) -> None:
    """Checks nothing."""


TERMS_BUGS = (
    # --- a day's limits, and who co-signs
    Bug(
        "the limit of a day is looked over",
        ("limits",),
        40,
        (Edit(relay.contracts.accounts, "check_day", "total > limits.daily:", "False:"),),
    ),
    Bug(
        "the limit for one payee is looked over",
        ("limits",),
        10,
        (Swap(relay.contracts.accounts, "check_counterparty", _nothing),),
    ),
    Bug(
        "nobody need co-sign",
        ("limits",),
        20,
        (
            Edit(
                relay.contracts.accounts,
                "check_day",
                "total > threshold and not _cosigned(signed, terms, role, now):",
                "False:",
            ),
        ),
    ),
    Bug(
        "a forged co-signature counts",
        ("limits",),
        40,
        (Edit(relay.contracts.accounts, "_cosigned", "base.signed(", "(lambda *_: True)("),),
    ),
    Bug(
        "relays do not hear that an account has changed",
        ("liveness",),
        40,
        (Edit(telling, "tell", "sorted({*relays, *before})", "relays"),),
    ),
    # --- the lines of a bill
    Bug(
        "lines that are not the bill are taken",
        ("terms",),
        10,
        (
            Edit(
                quotes,
                "_check_itemised",
                "if sum(bill.lines) - bill.adjustment != instruction.quote.bill.amount:",
                "if False:",
            ),
        ),
    ),
    Bug(
        "the rounding difference is not posted apart",
        ("rounding",),
        40,
        (
            Edit(
                postings,
                "movements",
                "difference = 0 if found is None else found.difference",
                "difference = 0",
            ),
        ),
    ),
    Bug(
        "what the lines exceed the total by is kept by the maker",
        ("terms", "ended", "rounding"),
        60,
        (Edit(postings, "_leg", "elif difference < 0:", "elif False:"),),
    ),
    # --- returns
    Bug(
        "what was not committed is given back",
        ("returns",),
        40,
        (
            Edit(
                accept,
                "check_return",
                "if _ruling(first, state) is not Ruling.COMMIT:",
                "if False:",
            ),
        ),
    ),
    Bug(
        "a settlement is given back twice",
        ("returns",),
        60,
        (
            Edit(
                accept,
                "check_return",
                "is not Ruling.ABORT:",
                "is None:",
            ),
        ),
    ),
)
