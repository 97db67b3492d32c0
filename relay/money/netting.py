"""Multilateral netting: many obligations of one window, few transfers, everyone as well off.

For each currency by itself, what a party is owed less what it owes is its *position*; positions sum
to zero. Transfers bring every position to zero: the greatest debtor pays the greatest creditor as
much as both have, and so on, among equals the name first in byte order. Each transfer settles a
party for good, so there are at most n-1 for n parties, and their value is at most the gross value.
Deterministic, so that anyone computes the same set from the same journal.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from relay.errors import Invalid, Reason
from relay.money.amount import MAX_AMOUNT, check_amount

MAX_OBLIGATIONS = 200_000


@dataclass(frozen=True, slots=True)
class Obligation:
    """`debtor` owes `creditor` `amount` minor units of `currency`."""

    debtor: str
    creditor: str
    currency: str
    amount: int


@dataclass(frozen=True, slots=True, order=True)
class Transfer:
    """One payment of the net set; ordered by currency, debtor, creditor."""

    currency: str
    debtor: str
    creditor: str
    amount: int


def positions(obligations: Iterable[Obligation]) -> dict[str, dict[str, int]]:
    """Owed less owing by currency and party; parties at zero are in it too.

    Raises Invalid(AMOUNT_INVALID) for an amount that is not 1 to MAX_AMOUNT or more obligations
    than MAX_OBLIGATIONS, and Invalid(PARTY_INVALID) where someone owes himself.
    """
    found: dict[str, dict[str, int]] = {}
    for count, owed in enumerate(obligations, 1):
        if count > MAX_OBLIGATIONS:
            raise Invalid(Reason.AMOUNT_INVALID, f"more than {MAX_OBLIGATIONS} obligations")
        check_amount(owed.amount)
        if owed.debtor == owed.creditor:
            raise Invalid(Reason.PARTY_INVALID, "nobody owes himself")
        parties = found.setdefault(owed.currency, {})
        parties[owed.debtor] = parties.get(owed.debtor, 0) - owed.amount
        parties[owed.creditor] = parties.get(owed.creditor, 0) + owed.amount
    return found


def net(obligations: Iterable[Obligation]) -> tuple[Transfer, ...]:
    """The transfers that settle `obligations`, ascending. Raises what `positions` raises, and
    Invalid(AMOUNT_INVALID) where one transfer would be beyond MAX_AMOUNT."""
    return tuple(
        sorted(
            transfer
            for currency, parties in positions(obligations).items()
            for transfer in _settle(currency, parties)
        )
    )


def _settle(currency: str, parties: dict[str, int]) -> list[Transfer]:
    debtors = [(amount, party) for party, amount in parties.items() if amount < 0]
    creditors = [(-amount, party) for party, amount in parties.items() if amount > 0]
    heapify(debtors)
    heapify(creditors)
    transfers = []
    while debtors:
        (owes, debtor), (owed, creditor) = heappop(debtors), heappop(creditors)
        amount = min(-owes, -owed)
        if amount > MAX_AMOUNT:
            raise Invalid(Reason.AMOUNT_INVALID, "a net transfer beyond the greatest amount")
        transfers.append(Transfer(currency, debtor, creditor, amount))
        if -owes > amount:
            heappush(debtors, (owes + amount, debtor))
        if -owed > amount:
            heappush(creditors, (owed + amount, creditor))
    return transfers
