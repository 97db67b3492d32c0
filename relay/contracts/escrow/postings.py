"""What an instruction posts on one ledger: principal, fee, and the rounding difference of a bill.

What is payable for an itemised bill is its total, rounded once; its lines, each rounded by itself,
come to a few minor units more or less. Where the lines are signed (Instruction.itemised), the leg
that pays is posted as what they come to, and the difference beside it, so that both books show the
lines as they were adjudicated and the two postings together are the leg:

    difference     payer to maker                    held of the payer
    none           principal = leg                   leg
    above zero     principal = lines, rounding       leg
    below zero     principal = lines                 lines
                   rounding back, maker to payer     nothing: paid out of the principal

Nothing here is anyone's choice: rate, rule and lines are in what payer and maker signed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from relay.contracts import quotes
from relay.contracts.escrow.books import Entry
from relay.contracts.escrow.keys import Movement
from relay.contracts.payloads import Instruction, Leg, Side
from relay.money import Obligation


def movements(instruction: Instruction, ledger: str) -> Iterator[Movement]:
    """What a release of it posts on a ledger, in order. `quotes.check_amounts` came before."""
    found = quotes.itemised(instruction)
    difference = 0 if found is None else found.difference
    for leg in instruction.legs_on(ledger):
        yield from _leg(leg, difference if leg.side is Side.PAY else 0)
        if leg.fee is not None:
            yield Movement(Entry.FEE, leg.debtor, leg.fee.account, leg.fee.amount)


def _leg(leg: Leg, difference: int) -> Iterator[Movement]:
    yield Movement(Entry.PRINCIPAL, leg.debtor, leg.creditor, leg.amount - difference)
    if difference > 0:
        yield Movement(Entry.ROUNDING, leg.debtor, leg.creditor, difference)
    elif difference < 0:
        yield Movement(Entry.ROUNDING_BACK, leg.creditor, leg.debtor, -difference)


def held(moves: Iterable[Movement]) -> dict[str, int]:
    """What must be held of each account, so that a release cannot fail."""
    found: dict[str, int] = {}
    for one in moves:
        if one.entry is not Entry.ROUNDING_BACK:
            found[one.debtor] = found.get(one.debtor, 0) + one.amount
    return found


def obligations(instruction: Instruction, ledger: str) -> Iterable[Obligation]:
    """What an instruction makes accounts of one ledger owe each other, fees included.

    A rounding difference is within its leg: what is owed is what is payable.
    """
    for leg in instruction.legs_on(ledger):
        yield Obligation(leg.debtor, leg.creditor, leg.currency, leg.amount)
        if leg.fee is not None:
            yield Obligation(leg.debtor, leg.fee.account, leg.currency, leg.fee.amount)
