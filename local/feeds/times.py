"""Hours of the replay. This module shares no code with `runtime/`, so that an error in one of them makes
tests fail."""

from __future__ import annotations

import datetime
from zoneinfo import ZoneInfo

UTC = datetime.UTC


def parse(text: str) -> int:
    """Parse a time such as `2022-01-31T05:00Z`. Return hours since 1970. Raises `ValueError`."""
    try:
        when = datetime.datetime.strptime(text, "%Y-%m-%dT%H:00Z").replace(tzinfo=UTC)
    except ValueError:
        raise ValueError(f"an hour must look like 2022-01-31T05:00Z, got {text!r}") from None
    return int(when.timestamp()) // 3_600


def text(hour: float) -> str:
    """Return the hour as a text such as `2022-01-31T05:00Z`."""
    return moment(int(hour // 1)).strftime("%Y-%m-%dT%H:%MZ")


def moment(hour: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(hour * 3_600, UTC)


def local(hour: float, zone: ZoneInfo) -> datetime.datetime:
    return moment(hour).astimezone(zone)


def day_of(hour: float, zone: ZoneInfo) -> datetime.date:
    """Return the market day of an hour."""
    return local(hour, zone).date()


def at(day: datetime.date, clock: datetime.time, zone: ZoneInfo) -> float:
    """Convert a day and a local time to hours since 1970."""
    return datetime.datetime.combine(day, clock, zone).timestamp() / 3_600


def shifted(day: datetime.date, days: int) -> datetime.date:
    return day + datetime.timedelta(days=days)


def hours_of(day: datetime.date, zone: ZoneInfo) -> range:
    """Return the 23, 24 or 25 hours of a market day."""
    midnight = datetime.time()
    return range(int(at(day, midnight, zone)), int(at(shifted(day, 1), midnight, zone)))
