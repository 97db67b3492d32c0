"""Currencies, amounts, rates, rounding: against ISO 4217, against Fraction, and at every edge."""

from __future__ import annotations

from fractions import Fraction

import iso4217
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Reason
from relay.money import (
    MAX_AMOUNT,
    MAX_RATE,
    ROUNDING,
    TABLE,
    Converted,
    Rate,
    Residue,
    check_amount,
    check_conversion,
    check_currency,
    check_rounding,
    convert,
    cross,
    exponent,
    format_amount,
    format_rate,
    parse_amount,
    parse_rate,
    within_collar,
)
from relay.money.rate import ratio
from tests.refusals import refused, refusing

CODES = ("CNY", "HKD", "JPY", "KWD", "MOP", "USD")
amounts = st.integers(1, 10**13)
rates = st.builds(ratio, st.integers(1, 10**6), st.integers(1, 10**6))


def test_the_table_is_that_of_iso_4217() -> None:
    published = {c.code: c.exponent for c in iso4217.Currency if c.exponent is not None}
    assert iso4217.__published__.isoformat() == "2026-01-01", "a new list: add a version"
    assert dict(TABLE[1]) == published
    assert [exponent(c) for c in CODES] == [2, 2, 0, 3, 2, 2]


@pytest.mark.parametrize("code", ["CNH", "XXX", "XTS", "XAU", "QQQ", "hkd", "", "HKD "])
def test_what_cannot_be_paid_is_no_currency(code: str) -> None:
    refused(Reason.CURRENCY_UNKNOWN, check_currency, code)


def test_another_list_is_refused() -> None:
    refused(Reason.UNSUPPORTED_VERSION, exponent, "HKD", 2)


@pytest.mark.parametrize(
    ("text", "code", "minor"),
    [
        ("1234.50", "HKD", 123450),
        ("1234.5", "HKD", 123450),
        ("1234", "HKD", 123400),
        ("0.01", "CNY", 1),
        ("0", "CNY", 0),
        ("1235", "JPY", 1235),
        ("1.250", "KWD", 1250),
        ("90071992547409.91", "CNY", MAX_AMOUNT),
    ],
)
def test_amounts_are_read(text: str, code: str, minor: int) -> None:
    assert parse_amount(text, code) == minor


@pytest.mark.parametrize(
    ("text", "code", "reason"),
    [
        ("1234.500", "HKD", Reason.AMOUNT_INVALID),
        ("1.0", "JPY", Reason.AMOUNT_INVALID),
        ("90071992547409.92", "CNY", Reason.AMOUNT_INVALID),
        ("-1", "CNY", Reason.MALFORMED),
        ("+1", "CNY", Reason.MALFORMED),
        ("1e2", "CNY", Reason.MALFORMED),
        ("01", "CNY", Reason.MALFORMED),
        ("1,000", "CNY", Reason.MALFORMED),
        ("1.", "CNY", Reason.MALFORMED),
        (".5", "CNY", Reason.MALFORMED),
        (" 1", "CNY", Reason.MALFORMED),
        ("1\n", "CNY", Reason.MALFORMED),
        ("१", "CNY", Reason.MALFORMED),
        ("9" * 40, "CNY", Reason.MALFORMED),
        ("1", "CNH", Reason.CURRENCY_UNKNOWN),
    ],
)
def test_what_is_no_amount_is_refused(text: str, code: str, reason: Reason) -> None:
    refused(reason, parse_amount, text, code)


@given(st.integers(0, MAX_AMOUNT), st.sampled_from(CODES))
def test_amounts_survive_their_text(minor: int, code: str) -> None:
    assert parse_amount(format_amount(minor, code), code) == minor


def test_a_balance_below_zero_has_a_sign() -> None:
    assert [format_amount(-5, c) for c in ("HKD", "JPY", "KWD")] == ["-0.05", "-5", "-0.005"]


@pytest.mark.parametrize("minor", [0, -1, MAX_AMOUNT + 1, 2**63, True, 1.0, "1", None])
def test_only_whole_positive_minor_units_are_paid(minor: object) -> None:
    refused(Reason.AMOUNT_INVALID, check_amount, minor)


def test_half_goes_up_and_not_to_even() -> None:
    """0.005, 1.005, 2.675: half-even and floats give 0.00, 1.00 and 2.67."""
    thousandths, due = (5, 1005, 2675, 14, 15), [1, 101, 268, 1, 2]
    assert [convert(t, "KWD", "HKD", Rate(1, 1)).amount for t in thousandths] == due
    refused(Reason.AMOUNT_INVALID, convert, 4, "KWD", "HKD", Rate(1, 1))


def test_the_cross_of_2026_10_30() -> None:
    """HKD per CNY 1.179291 (DOMAIN: 2026-10-30): 12 345.67 CNY by the exact ratio."""
    rate = cross("1.1793", "1")
    assert rate == Rate(11793, 10000)
    assert format_rate(rate) == "1.1793000000"
    done = convert(1234567, "CNY", "HKD", rate)
    assert done == Converted(1455925, Residue(-1369, 10000))


@given(amounts, rates, st.sampled_from(CODES), st.sampled_from(CODES))
def test_rounding_is_exact_to_half_a_unit(
    amount: int, rate: Rate, source: str, target: str
) -> None:
    exact = Fraction(amount * rate.numerator * 10 ** exponent(target)) / (
        rate.denominator * 10 ** exponent(source)
    )
    if source == target and rate != Rate(1, 1):
        refused(Reason.RATE_INVALID, convert, amount, source, target, rate)
        return
    nearest = (exact + Fraction(1, 2)).__floor__()
    if not 1 <= nearest <= MAX_AMOUNT:
        refused(Reason.AMOUNT_INVALID, convert, amount, source, target, rate)
        return
    done = convert(amount, source, target, rate)
    left = Fraction(done.residue.numerator, done.residue.denominator)
    assert done.amount + left == exact
    assert Fraction(-1, 2) <= left < Fraction(1, 2)
    check_conversion(amount, source, target, rate, done)


@given(st.integers(10**4, 10**9), st.integers(10**4, 10**9), st.integers(10**5, 10**7))
def test_more_never_comes_to_less(a: int, b: int, millionths: int) -> None:
    rate, (low, high) = ratio(millionths, 10**6), sorted((a, b))
    assert convert(low, "CNY", "HKD", rate).amount <= convert(high, "CNY", "HKD", rate).amount


@pytest.mark.parametrize("change", [1, -1])
def test_another_amount_than_the_rate_gives_is_refused(change: int) -> None:
    rate = parse_rate("1.1793")
    done = convert(1234567, "CNY", "HKD", rate)
    other = Converted(done.amount + change, done.residue)
    refused(Reason.RATE_INVALID, check_conversion, 1234567, "CNY", "HKD", rate, other)
    other = Converted(done.amount, Residue(0, 1))
    refused(Reason.RATE_INVALID, check_conversion, 1234567, "CNY", "HKD", rate, other)


@pytest.mark.parametrize(
    ("n", "d"),
    [(0, 1), (-1, 1), (1, 0), (2, 4), (MAX_RATE + 1, 1), (1, MAX_RATE + 1), (True, 1), (1.0, 1)],
)
def test_a_rate_is_a_ratio_in_lowest_terms(n: int, d: int) -> None:
    refused(Reason.RATE_INVALID, Rate, n, d)


@pytest.mark.parametrize(("n", "d"), [(1, 2), (-3, 5), (2, 4), (1, 0), (0, 2), (1, -3)])
def test_a_residue_is_below_half_a_unit(n: int, d: int) -> None:
    refused(Reason.RATE_INVALID, Residue, n, d)
    Residue(-1, 2)


@pytest.mark.parametrize("text", ["1.", "", "-1", "1e1", "1.12345678901", "01.1", "1 "])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with refusing(Reason.MALFORMED):
        parse_rate(text)


def test_a_rate_of_zero_is_refused() -> None:
    refused(Reason.RATE_INVALID, parse_rate, "0.000")
    refused(Reason.RATE_INVALID, cross, "1", "0")


def test_rates_are_shown_in_eleven_digits() -> None:
    assert format_rate(Rate(1, 3)) == "0.3333333333"
    assert format_rate(Rate(2000, 3)) == "666.66666667"
    assert format_rate(Rate(99999999999, 1)) == "99999999999"


def test_the_collar_includes_its_bounds() -> None:
    last = parse_rate("1.0000")
    assert within_collar(parse_rate("1.01"), last, 10_000)
    assert within_collar(parse_rate("0.99"), last, 10_000)
    assert not within_collar(parse_rate("1.0100000001"), last, 10_000)
    assert not within_collar(parse_rate("0.9899999999"), last, 10_000)


def test_another_rounding_rule_is_refused() -> None:
    check_rounding(ROUNDING)
    refused(Reason.UNSUPPORTED_VERSION, check_rounding, "half-even-1")
