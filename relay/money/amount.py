"""Amounts: whole minor units, and the one text of each.

The text of an amount has exactly the digits of its currency's minor unit when it is written
(`1234.50` HKD, `1235` JPY, `1.250` KWD) and at most as many when it is read: `1234.5` HKD is read,
`1234.500` is refused, since whoever wrote three digits took it for another currency.
"""

from __future__ import annotations

import re

from relay.errors import Invalid, Malformed, Reason
from relay.money.currency import TABLE_VERSION, exponent

MAX_AMOUNT = 2**53 - 1
"""Minor units. The greatest integer of our JSON (RFC 8785); 90 trillion yuan."""

_TEXT = re.compile(r"(0|[1-9][0-9]{0,15})(?:\.([0-9]{1,4}))?", re.ASCII)


def check_amount(minor: int, *, zero: bool = False) -> int:
    """`minor`, if it is an amount that can be paid: 1 to MAX_AMOUNT, or 0 where `zero`.

    Raises Invalid(AMOUNT_INVALID).
    """
    if type(minor) is not int or not (0 if zero else 1) <= minor <= MAX_AMOUNT:
        raise Invalid(
            Reason.AMOUNT_INVALID,
            f"an amount is {0 if zero else 1} to 2^53-1 whole minor units",
            amount=minor,
        )
    return minor


def parse_amount(text: str, code: str, *, version: int = TABLE_VERSION) -> int:
    """Minor units of a decimal text such as `1234.50`; zero is read too.

    Raises Malformed (no sign, exponent, blank, leading zero or separator is read),
    Invalid(AMOUNT_INVALID) for more digits than the minor unit has or beyond MAX_AMOUNT, and
    Invalid(CURRENCY_UNKNOWN).
    """
    digits = exponent(code, version)
    match = _TEXT.fullmatch(text)
    if match is None:
        raise Malformed("an amount is written as digits, a point and digits: 1234.50")
    whole, fraction = match[1], match[2] or ""
    if len(fraction) > digits:
        raise Invalid(Reason.AMOUNT_INVALID, f"{code} has {digits} digits after the point")
    return check_amount(int(whole + fraction.ljust(digits, "0")), zero=True)


def format_amount(minor: int, code: str, *, version: int = TABLE_VERSION) -> str:
    """The text of an amount, with exactly the digits of its minor unit; a minus where below zero.

    Raises Invalid(CURRENCY_UNKNOWN).
    """
    digits = exponent(code, version)
    sign, number = ("-" if minor < 0 else ""), str(abs(minor)).rjust(digits + 1, "0")
    return f"{sign}{number[:-digits]}.{number[-digits:]}" if digits else sign + number
