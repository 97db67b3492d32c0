"""An account's day: opening balance, entries, closing balance; they tie or there is no statement.

A day is a civil day in Shanghai and Hong Kong (+08:00), one for each posting. Lines that only hold
or free money move none: they are no entries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from relay.contracts.civil import day as civil_day
from relay.contracts.civil import day_of
from relay.contracts.escrow import Line
from relay.contracts.escrow.books import POSTINGS
from relay.errors import Invalid, Reason
from relay.money import check_currency


@dataclass(frozen=True, slots=True)
class Entry:
    """One posting; the amount is negative where it debits."""

    number: int
    time: int
    kind: str
    amount: int
    balance: int
    counterparty: str
    """The other account of the posting."""
    reference: bytes
    uetr: str
    """End-to-end reference of the settlement; empty for deposits and withdrawals."""


@dataclass(frozen=True, slots=True)
class Statement:
    """Amounts in minor units; opening + sum of entries = closing."""

    ledger: str
    account: str
    owner: str
    currency: str
    day: str
    opening: int
    closing: int
    entries: tuple[Entry, ...]


def statement(
    ledger: str,
    account: str,
    owner: str,
    currency: str,
    day: str,
    lines: Sequence[Line],
    uetrs: Mapping[bytes, str] | None = None,
) -> Statement:
    """The statement of one account and day from all its lines, ascending.

    `uetrs`: settlement → UETR. Raises Malformed for no such day, Invalid(JOURNAL_CORRUPT) where
    lines are missing, of another account, or do not tie, Invalid(CURRENCY_UNKNOWN).
    """
    wanted = day_of(day)
    check_currency(currency)
    balance, opening, entries = 0, 0, []
    for number, line in enumerate(lines, 1):
        if (line.account, line.number) != (account, number):
            raise Invalid(Reason.JOURNAL_CORRUPT, f"line {number} of {account} is missing")
        balance += line.amount
        if balance != line.balance:
            raise Invalid(Reason.JOURNAL_CORRUPT, f"line {number} of {account} does not tie")
        today = civil_day(line.time)
        if today > wanted:
            balance -= line.amount
            break
        if today < wanted:
            opening = balance
        elif line.entry in POSTINGS:
            entries.append(_entry(line, uetrs or {}))
    closing = balance
    if opening + sum(entry.amount for entry in entries) != closing:
        raise Invalid(Reason.JOURNAL_CORRUPT, f"{account} does not tie on {day}")
    return Statement(ledger, account, owner, currency, day, opening, closing, tuple(entries))


def _entry(line: Line, uetrs: Mapping[bytes, str]) -> Entry:
    return Entry(
        number=line.number,
        time=line.time,
        kind=line.entry.value,
        amount=line.amount,
        balance=line.balance,
        counterparty=line.twin,
        reference=line.reference,
        uetr=uetrs.get(line.reference, ""),
    )
