"""Civil dates of China, at a fixed +08:00, as plain arithmetic.

Rules of recognition count days: "issued at most 30 days ago", "assessed from 1 January to 30 June".
China has one time and no summer time since 1991, so a date is a division, and no time zone data can
make two nodes disagree. The conversion from year, month and day is Howard Hinnant's
`days_from_civil` (public domain), proleptic Gregorian.
"""

from __future__ import annotations

import re

from relay.errors import Malformed

SHANGHAI = 8 * 3600
"""Seconds east of UTC."""
_DAY = 86_400
_DATE = re.compile(r"(\d{4})-(\d{2})-(\d{2})", re.ASCII)
_MONTH_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def day(seconds: int) -> int:
    """The civil day in Shanghai of a moment, as days since 1970-01-01."""
    return (seconds + SHANGHAI) // _DAY


def day_of(date: str) -> int:
    """The days since 1970-01-01 of a date written YYYY-MM-DD. Raises Malformed."""
    match = _DATE.fullmatch(date)
    if match is None:
        raise Malformed("a date must be written YYYY-MM-DD")
    year, month, date_day = (int(group) for group in match.groups())
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if (
        not 1900 <= year <= 2999
        or not 1 <= month <= 12
        or not 1 <= date_day <= _MONTH_DAYS[month - 1]
        or (month == 2 and date_day == 29 and not leap)
    ):
        raise Malformed("no such date", hint="a day between 1900-01-01 and 2999-12-31")
    shifted = year - (month <= 2)
    era, year_of_era = divmod(shifted, 400)
    day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + date_day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * 146_097 + day_of_era - 719_468
