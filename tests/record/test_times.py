"""FHIR times as seconds: the rule for partial dates, zones and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Invalid, Reason
from relay.record.times import effective, seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-10-01T08:00:00+08:00", 1790812800),
        ("2026-10-01T00:00:00Z", 1790812800),
        ("2026-10-01T00:00:00.999Z", 1790812800),
        ("2026-09-30T18:30:00-05:30", 1790812800),
        # Partial: the first moment at +08:00.
        ("2026-10-01", 1790812800 - 8 * 3600),
        ("2026-10", 1790812800 - 8 * 3600),
        ("2026", 1767196800),
        # A leap second is the next minute's second 0.
        ("2016-12-31T23:59:60Z", 1483228800),
    ],
)
def test_seconds(text: str, expected: int) -> None:
    assert seconds(text, "x") == expected


@pytest.mark.parametrize(
    "text",
    [
        "2026-10-01T08:00:00",  # no zone: not guessed
        "2026-10-01T08:00",
        "2026-02-30",
        "2026-13",
        "2026-10-01T24:00:00Z",
        "2026-10-01T08:60:00Z",
        "2026-10-01T08:00:61Z",
        "2026-10-01T08:00:00+15:00",
        "2026-10-01T08:00:00+08:60",
        "0000",
        "1969-12-31T23:59:59Z",
        "1970",  # its first moment at +08:00 lies before 1970 UTC
        "٢٠٢٦",
        "2026-10-01T08:00:00Z\n",
        "",
        None,
        5,
    ],
)
def test_refused(text: object) -> None:
    with pytest.raises(Invalid) as err:
        seconds(text, "Observation.issued")
    assert err.value.reason == Reason.RECORD_INVALID
    assert "Observation.issued" in err.value.hint


@given(
    st.datetimes(datetime(1971, 1, 1), datetime(9998, 1, 1)),
    st.integers(-14 * 60 + 1, 14 * 60 - 1),
)
def test_agrees_with_datetime(moment: datetime, minutes: int) -> None:
    zoned = moment.replace(microsecond=0, tzinfo=timezone(timedelta(minutes=minutes)))
    assert seconds(zoned.isoformat(), "x") == int(zoned.astimezone(UTC).timestamp())


def test_effective() -> None:
    assert effective({"effectiveDateTime": "2026-10-01T00:00:00Z"}, "x") == 1790812800
    assert effective({"effectiveInstant": "2026-10-01T00:00:00Z"}, "x") == 1790812800
    period = {"start": "2026-10-01T00:00:00Z", "end": "2026-10-02T00:00:00Z"}
    assert effective({"effectivePeriod": period}, "x") == 1790812800
    del period["start"]
    assert effective({"effectivePeriod": period}, "x") == 1790812800 + 86_400
    timing = {"event": ["2026-10-01T00:00:00Z"]}
    assert effective({"effectiveTiming": timing}, "x") == 1790812800
    assert effective({}, "x") is None
    assert effective({"effectivePeriod": {}}, "x") is None
