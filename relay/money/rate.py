"""Rates as ratios of whole numbers, and the one rounding rule.

A rate says how many units of the target currency one unit of the source currency is worth, in
major units as it is quoted (1.1793 HKD for 1 CNY), as a ratio in lowest terms. The minor units of
both currencies come in when an amount is converted:

    exact = amount · numerator · 10^target digits / (denominator · 10^source digits)

Rounding `half-up-1` (四舍五入, once): the exact value is rounded to the nearest minor unit, a half
upwards, in one step and never again on what was rounded. What is left, exact minus rounded, is the
*residue*: at least -1/2 and below 1/2 of a minor unit, kept as an exact fraction.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import gcd

from relay.errors import Invalid, Malformed, Reason
from relay.money.amount import MAX_AMOUNT, check_amount
from relay.money.currency import TABLE_VERSION, exponent

ROUNDING = "half-up-1"
"""The rounding rule that a signed instruction names; another rule would be another name."""
MAX_RATE = 10**11
"""Bound of numerator and denominator: ISO 20022 takes eleven digits for a rate (BaseOneRate)."""

_TEXT = re.compile(r"(0|[1-9][0-9]{0,10})(?:\.([0-9]{1,10}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Rate:
    """`numerator`/`denominator` in lowest terms, each 1 to MAX_RATE.

    Raises Invalid(RATE_INVALID).
    """

    numerator: int
    denominator: int

    def __post_init__(self) -> None:
        pair = (self.numerator, self.denominator)
        if not all(type(n) is int and 1 <= n <= MAX_RATE for n in pair) or gcd(*pair) != 1:
            raise Invalid(
                Reason.RATE_INVALID,
                "a rate is a ratio of whole numbers in lowest terms, each 1 to 10^11",
            )


@dataclass(frozen=True, slots=True)
class Residue:
    """What rounding left, in minor units of the target: exact minus rounded, in lowest terms.

    `denominator` is positive; zero is 0/1. Raises Invalid(RATE_INVALID) outside -1/2 to 1/2.
    """

    numerator: int
    denominator: int

    def __post_init__(self) -> None:
        n, d = self.numerator, self.denominator
        whole = type(n) is int and type(d) is int and d >= 1
        if not whole or gcd(n, d) != 1 or not -d <= 2 * n < d:
            raise Invalid(
                Reason.RATE_INVALID, "a residue is a fraction of one minor unit, -1/2 to below 1/2"
            )


@dataclass(frozen=True, slots=True)
class Converted:
    """A converted amount, minor units of the target currency, and its residue."""

    amount: int
    residue: Residue


EXACT = Residue(0, 1)


def ratio(numerator: int, denominator: int) -> Rate:
    """The rate in lowest terms. Raises Invalid(RATE_INVALID)."""
    if denominator < 1 or numerator < 1:
        raise Invalid(Reason.RATE_INVALID, "a rate is greater than zero")
    divisor = gcd(numerator, denominator)
    return Rate(numerator // divisor, denominator // divisor)


def _decimal(text: str) -> tuple[int, int]:
    match = _TEXT.fullmatch(text)
    if match is None:
        raise Malformed("a rate is written as digits, a point and at most ten digits: 1.1793")
    fraction = match[2] or ""
    return int(match[1] + fraction), 10 ** len(fraction)


def parse_rate(text: str) -> Rate:
    """The rate of a decimal text. Raises Malformed or Invalid(RATE_INVALID) for zero."""
    return ratio(*_decimal(text))


def cross(target: str, source: str) -> Rate:
    """The rate of two decimal texts quoted against one base: units of target for one of source.

    `cross("8.9511", "7.5905")` is HKD for one CNY where both were quoted for one euro: exactly
    89511/75905, reduced. Raises Malformed or Invalid(RATE_INVALID).
    """
    (a, b), (c, d) = _decimal(target), _decimal(source)
    return ratio(a * d, b * c)


def format_rate(rate: Rate, digits: int = 10) -> str:
    """The decimal text of a rate, rounded half up to `digits`; for people, never for arithmetic.

    ISO 20022 allows eleven digits in all, so a large rate gets fewer after the point.
    """
    while True:
        scaled = round_half_up(rate.numerator * 10**digits, rate.denominator)
        text = str(scaled).rjust(digits + 1, "0")
        if len(text) <= 11 or digits == 0:
            break
        digits -= 1
    return f"{text[:-digits]}.{text[-digits:]}" if digits else text


def round_half_up(numerator: int, denominator: int) -> int:
    """The nearest whole number, a half upwards."""
    return (2 * numerator + denominator) // (2 * denominator)


def convert(
    amount: int, source: str, target: str, rate: Rate, *, version: int = TABLE_VERSION
) -> Converted:
    """`amount` minor units of `source` in `target`, rounded `half-up-1`.

    Raises Invalid: AMOUNT_INVALID where the amount, or what comes of it, is not 1 to MAX_AMOUNT;
    CURRENCY_UNKNOWN; RATE_INVALID where both currencies are one and the rate is not 1.
    """
    check_amount(amount)
    if source == target and (rate.numerator, rate.denominator) != (1, 1):
        raise Invalid(Reason.RATE_INVALID, f"{source} is worth itself")
    above, below = exact(amount, source, target, rate, version)
    rounded = round_half_up(above, below)
    if not 1 <= rounded <= MAX_AMOUNT:
        raise Invalid(
            Reason.AMOUNT_INVALID,
            f"{amount} minor units of {source} come to no amount of {target}",
        )
    left = above - rounded * below
    divisor = gcd(left, below)
    return Converted(rounded, Residue(left // divisor, below // divisor))


def exact(amount: int, source: str, target: str, rate: Rate, version: int) -> tuple[int, int]:
    """What `amount` comes to before it is rounded, as numerator and denominator.

    Raises Invalid(CURRENCY_UNKNOWN).
    """
    above = amount * rate.numerator * 10 ** exponent(target, version)
    return above, rate.denominator * 10 ** exponent(source, version)


def check_rounding(name: str) -> None:
    """Raises Invalid(UNSUPPORTED_VERSION) for any rule but ROUNDING."""
    if name != ROUNDING:
        raise Invalid(Reason.UNSUPPORTED_VERSION, f"the rounding rule is {ROUNDING}")


def check_conversion(
    amount: int,
    source: str,
    target: str,
    rate: Rate,
    converted: Converted,
    *,
    version: int = TABLE_VERSION,
) -> None:
    """Checks that `converted` is exactly what the rule gives.

    Raises Invalid(RATE_INVALID) and what `convert` raises.
    """
    due = convert(amount, source, target, rate, version=version)
    if converted != due:
        raise Invalid(
            Reason.RATE_INVALID,
            "the amounts are not what the rate and the rounding rule give",
            due=due.amount,
            given=converted.amount,
        )


def within_collar(rate: Rate, last: Rate, millionths: int) -> bool:
    """Whether `rate` lies within `millionths` of `last`, either way: |rate - last| ≤ last·m/10^6.

    Compared by cross multiplication, bounds included. 10 000 is one per cent.
    """
    here, there = rate.numerator * last.denominator, last.numerator * rate.denominator
    return abs(here - there) * 10**6 <= there * millionths
