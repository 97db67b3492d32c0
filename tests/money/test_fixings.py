"""Rates are what the ECB published: exact texts, no interpolation, nothing too old."""

from __future__ import annotations

from relay.errors import Reason
from relay.fixings import fixing, fixings, last_day
from relay.money import Rate, cross, format_rate
from tests.refusals import refused


def test_the_cross_is_the_exact_ratio_of_the_published_texts() -> None:
    found = fixing("CNY", "HKD", "2026-10-30")
    assert found.texts == ("8.7652", "7.4326")
    assert found.rate == Rate(43826, 37163) == cross("8.7652", "7.4326")
    assert format_rate(found.rate) == "1.1792912305"


def test_a_sunday_has_the_fixing_of_its_friday() -> None:
    assert fixing("CNY", "HKD", "2026-10-25").day == "2026-10-23"
    assert [f.day for f in fixings("CNY", "HKD", "2026-10-26", 2)] == ["2026-10-26", "2026-10-23"]


def test_the_euro_is_one() -> None:
    assert fixing("EUR", "HKD", "2026-10-30").texts == ("8.7652", "1")


def test_what_is_too_old_unknown_or_no_day_is_refused() -> None:
    assert last_day() == "2026-10-30"
    refused(Reason.RATE_STALE, fixing, "CNY", "HKD", "2026-11-27")
    refused(Reason.RATE_STALE, fixing, "CNY", "HKD", "2026-10-25", 1)
    refused(Reason.RATE_NOT_FOUND, fixing, "CNY", "HKD", "2005-03-31")
    refused(Reason.RATE_NOT_FOUND, fixing, "CNY", "MOP", "2026-10-30")
    refused(Reason.CURRENCY_UNKNOWN, fixing, "CNH", "HKD", "2026-10-30")
    for day in ("2026-02-30", "20261030", "", "2026-10-3x"):
        refused(Reason.MALFORMED, fixing, "CNY", "HKD", day)
