"""FHIR instants and dateTimes as integer seconds since 1970 UTC, by one written rule.

Source: FHIR R4 4.0.1, datatypes `instant` and `dateTime`. The rule where FHIR leaves a choice:
- A partial date (`2024`, `2024-03`, `2024-03-05`) is its *first* moment at +08:00, the civil time
  of China (DESIGN §5). The first and not the last: a result must never look younger than it is,
  since age limits are what the time is used for.
- A time without a zone is not valid FHIR and is refused: guessing a zone moves a result by hours.
- A fraction of a second is dropped (towards the past); second 60 (a leap second) is the next
  minute's second 0.
- Of a Period the start counts; where only the end is known, the end.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Any

from relay.errors import Invalid, Reason

CHINA = 8 * 3600
"""Seconds that the civil time of China is ahead of UTC; it has had no summer time since 1991."""

_DATE_TIME = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d):(\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d))?)?)?",
    re.ASCII,
)
_EPOCH = date(1970, 1, 1).toordinal()


def seconds(text: object, where: str) -> int:
    """Seconds since 1970 UTC of a FHIR instant, dateTime or date.

    Raises Invalid(RECORD_INVALID), naming `where` (an element) and never the value; also for times
    before 1970, which no laboratory result on a ledger has.
    """
    match = _DATE_TIME.fullmatch(text) if isinstance(text, str) else None
    result = _moment(match) if match else None
    if result is None or result < 0:
        raise Invalid(
            Reason.RECORD_INVALID,
            "not a time that is accepted",
            hint=f"{where}: write date and time with zone, as in 2026-01-31T08:00:00+08:00",
        )
    return result


def _moment(match: re.Match[str]) -> int | None:
    year, month, day, hour, minute, second, zone = match.groups()
    try:
        days = date(int(year), int(month or 1), int(day or 1)).toordinal() - _EPOCH
    except ValueError:
        return None
    if hour is None:
        return days * 86_400 - CHINA
    if int(hour) > 23 or int(minute) > 59 or int(second) > 60:
        return None
    offset = 0
    if zone != "Z":
        hours, minutes = int(zone[1:3]), int(zone[4:6])
        if hours > 14 or minutes > 59:
            return None
        offset = (hours * 3600 + minutes * 60) * (-1 if zone[0] == "-" else 1)
    return days * 86_400 + int(hour) * 3600 + int(minute) * 60 + int(second) - offset


def effective(resource: dict[str, Any], where: str) -> int | None:
    """The moment of `effective[x]` of a DiagnosticReport or Observation, or None where it has none.

    `effectiveTiming` counts by its first `event`. Raises Invalid(RECORD_INVALID).
    """
    for name in ("effectiveDateTime", "effectiveInstant"):
        if name in resource:
            return seconds(resource[name], f"{where}.{name}")
    period = resource.get("effectivePeriod")
    if isinstance(period, dict):
        for name in ("start", "end"):
            if name in period:
                return seconds(period[name], f"{where}.effectivePeriod.{name}")
    timing = resource.get("effectiveTiming")
    if isinstance(timing, dict) and isinstance(timing.get("event"), list) and timing["event"]:
        return seconds(timing["event"][0], f"{where}.effectiveTiming.event")
    return None
