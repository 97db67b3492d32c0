"""Splitting a total into shares, and the lines of an itemised bill against its total.

Shares go by the largest remainder (Hamilton): each gets the whole part of what it is due, and the
minor units that are left go to the largest remainders, among equal ones to the first. They sum to
the total exactly, and each is within one minor unit of what it is due.

The lines of a bill are each rounded for themselves; what is payable is the total, rounded once. The
difference between the two has a sign and is posted by itself (relay.contracts.escrow.postings).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relay.errors import Invalid, Reason
from relay.money.amount import MAX_AMOUNT, check_amount
from relay.money.currency import TABLE_VERSION
from relay.money.rate import Rate, Residue, convert, exact, round_half_up

MAX_SHARES = 10_000


def allocate(total: int, weights: Sequence[int]) -> tuple[int, ...]:
    """Shares of `total`, minor units, in proportion to `weights`; they sum to `total`.

    Raises Invalid(AMOUNT_INVALID) where the total or a weight is below zero or beyond MAX_AMOUNT,
    where the weights sum to zero, or where there are none or more than MAX_SHARES.
    """
    check_amount(total, zero=True)
    if not 1 <= len(weights) <= MAX_SHARES:
        raise Invalid(Reason.AMOUNT_INVALID, f"1 to {MAX_SHARES} shares, not {len(weights)}")
    for weight in weights:
        check_amount(weight, zero=True)
    whole = sum(weights)
    if not whole:
        raise Invalid(Reason.AMOUNT_INVALID, "weights that sum to zero divide nothing")
    shares, remainders = [], []
    for index, weight in enumerate(weights):
        share, remainder = divmod(total * weight, whole)
        shares.append(share)
        remainders.append((-remainder, index))
    for _, index in sorted(remainders)[: total - sum(shares)]:
        shares[index] += 1
    return tuple(shares)


@dataclass(frozen=True, slots=True)
class Itemised:
    """A converted bill: `total` is payable, rounded once; `lines` and `less` are each rounded.

    total = sum(lines) - less + difference, all in minor units of the target currency.
    """

    total: int
    residue: Residue
    lines: tuple[int, ...]
    difference: int
    less: int = 0
    """What is taken off the lines' sum: the adjustment of a payment."""

    @property
    def summed(self) -> int:
        """What the lines come to; zero or less where they are too small to be converted apart."""
        return self.total - self.difference


def itemise(
    lines: Sequence[int],
    source: str,
    target: str,
    rate: Rate,
    *,
    less: int = 0,
    version: int = TABLE_VERSION,
) -> Itemised:
    """Converts a bill of `lines` less an adjustment, minor units of `source`; zero stays zero.

    Raises what `convert` raises, and Invalid(AMOUNT_INVALID) for no lines or too many.
    """
    if not 1 <= len(lines) <= MAX_SHARES:
        raise Invalid(Reason.AMOUNT_INVALID, f"1 to {MAX_SHARES} lines, not {len(lines)}")
    for line in (*lines, less):
        check_amount(line, zero=True)
    due = min(sum(lines) - less, MAX_AMOUNT + 1)
    payable = convert(due, source, target, rate, version=version)
    shown = tuple(_line(line, source, target, rate, version) for line in lines)
    off = _line(less, source, target, rate, version)
    return Itemised(payable.amount, payable.residue, shown, payable.amount - sum(shown) + off, off)


def _line(line: int, source: str, target: str, rate: Rate, version: int) -> int:
    """A line may come to nothing, which a payable total may not."""
    rounded = round_half_up(*exact(line, source, target, rate, version))
    return check_amount(rounded, zero=True)
