"""An account's day: opening balance, entries, closing balance; they tie or there is no statement.

A day is a civil day in Shanghai and Hong Kong (+08:00), one for each posting. Lines that only hold
or free money move none: they are no entries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from relay.contracts.civil import day as civil_day
from relay.contracts.civil import day_of
from relay.contracts.escrow import Entry as LineEntry
from relay.contracts.escrow import Line, Netted
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
    relay: str
    """Of whose settlement; empty for what the ledger did alone."""
    uetr: str
    """End-to-end reference of the settlement; empty for deposits, withdrawals and nets."""
    netted: tuple[Netted, ...] = ()
    """With the first entry of a netting window: what all its entries here are made of."""


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

    @property
    def rounding(self) -> int | None:
        """What rounding differences of itemised bills come to that day, netted ones included;
        None where there are none."""
        found = [e.amount for e in self.entries if e.kind in _ROUNDING]
        found += [one.rounding for e in self.entries for one in e.netted if one.rounding]
        return sum(found) if found else None


_ROUNDING = (LineEntry.ROUNDING, LineEntry.ROUNDING_BACK)


Referred = Callable[[str, bytes], tuple[str, tuple[Netted, ...]]]
"""(relay, settlement) → its UETR, and of a netting window its instructions on this account."""


def _nothing(_relay: str, _settlement: bytes) -> tuple[str, tuple[Netted, ...]]:
    return "", ()


def statement(
    ledger: str,
    account: str,
    owner: str,
    currency: str,
    day: str,
    lines: Iterable[Line],
    referred: Referred = _nothing,
) -> Statement:
    """The statement of one account and day from all its lines, ascending.

    `referred` is asked once for each settlement of the day. Raises Malformed for no such day,
    Invalid(JOURNAL_CORRUPT) where lines are missing, of another account, or do not tie, or where
    the instructions of a netting window do not come to its net, Invalid(CURRENCY_UNKNOWN).
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
            entries.append(_entry(line))
    closing = balance
    if opening + sum(entry.amount for entry in entries) != closing:
        raise Invalid(Reason.JOURNAL_CORRUPT, f"{account} does not tie on {day}")
    told = tuple(_referred(entries, referred))
    return Statement(ledger, account, owner, currency, day, opening, closing, told)


def _entry(line: Line) -> Entry:
    return Entry(
        number=line.number,
        time=line.time,
        kind=line.entry.value,
        amount=line.amount,
        balance=line.balance,
        counterparty=line.twin,
        reference=line.reference,
        relay=line.relay,
        uetr="",
    )


def _referred(entries: Sequence[Entry], referred: Referred) -> Iterator[Entry]:
    """The entries with their UETRs; with the first of a netting window what all of it is made of.

    Raises Invalid(JOURNAL_CORRUPT).
    """
    nets: dict[tuple[str, bytes], int] = {}
    for entry in entries:
        if entry.kind == LineEntry.NET:
            name = (entry.relay, entry.reference)
            nets[name] = nets.get(name, 0) + entry.amount
    known: dict[tuple[str, bytes], tuple[str, tuple[Netted, ...]]] = {}
    for entry in entries:
        name = (entry.relay, entry.reference)
        if not entry.relay:
            yield entry
            continue
        first = name not in known
        if first:
            known[name] = referred(*name)
        uetr, netted = known[name]
        if first and netted and sum(one.amount for one in netted) != nets.get(name):
            raise Invalid(
                Reason.JOURNAL_CORRUPT, f"the net of line {entry.number} is not what was netted"
            )
        yield replace(entry, uetr=uetr, netted=netted if first else ())
