"""Hours and market days. An hour is a count of hours since 1970-01-01 UTC; its text is
`2022-01-31T05:00Z`."""

from __future__ import annotations

import datetime
import functools
import re
import zoneinfo

DAY_AHEAD_CLOSES = 10
"""Local hour at which day-ahead offers are due, on the day before the market day."""
_TEXT = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:00Z")
_SECONDS = 3_600
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def parse(text: str) -> int:
    """Return the hour of a text such as `2022-01-31T05:00Z`. Raises `ValueError` for any other form."""
    if not _TEXT.fullmatch(text):
        raise ValueError(f"an hour must look like 2022-01-31T05:00Z, got {text!r}")
    return of(datetime.datetime.fromisoformat(text))


def text(hour: int) -> str:
    """Return the text of an hour, such as `2022-01-31T05:00Z`."""
    return moment(hour).strftime("%Y-%m-%dT%H:00Z")


def moment(hour: float) -> datetime.datetime:
    """Return the UTC time of a number of hours since 1970."""
    return _EPOCH + datetime.timedelta(hours=hour)


def of(when: datetime.datetime) -> int:
    """Return the hour that contains the time `when`, which must have a time zone."""
    return int(exactly(when) // 1)


def exactly(when: datetime.datetime) -> float:
    """Return the time `when` in hours since 1970."""
    return (when - _EPOCH).total_seconds() / _SECONDS


@functools.cache
def _zone(zone: str) -> zoneinfo.ZoneInfo:
    return zoneinfo.ZoneInfo(zone)


def local(hour: float, zone: str) -> datetime.datetime:
    """Return the time `hour`, in hours since 1970, as local time of the time zone `zone`."""
    return moment(hour).astimezone(_zone(zone))


def at(day: str, zone: str, clock: str = "00:00") -> float:
    """Return the time at which the local time of `zone` is `clock` on `day`, in hours since 1970."""
    when = datetime.datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=_zone(zone))
    return exactly(when.astimezone(datetime.UTC))


def shifted(day: str, days: int) -> str:
    """Return the day that is `days` days after `day`."""
    return (datetime.date.fromisoformat(day) + datetime.timedelta(days=days)).isoformat()


def market_day(hour: float, zone: str) -> str:
    """Return the day of `hour` in `zone`, such as `2022-01-31`."""
    return local(hour, zone).date().isoformat()


def hours_of(day: str, zone: str) -> range:
    """Return the hours of a market day: 24, or 23 in spring and 25 in autumn when the clocks change."""
    return range(int(at(day, zone)), int(at(shifted(day, 1), zone)))


def day_ahead_deadline(day: str, zone: str) -> float:
    """Return the deadline of the day-ahead offers for `day`, in hours since 1970."""
    return at(shifted(day, -1), zone, f"{DAY_AHEAD_CLOSES:02d}:00")


def hour_ending(day: str, ending: int, zone: str, *, repeated: bool = False) -> int | None:
    """Return the hour that ends at the local hour `ending` (1 to 24) of `day`.

    `repeated` selects the second of the two hours with the same local time in autumn. Returns None for the
    hour that is skipped in spring.
    """
    if not 1 <= ending <= 24:
        raise ValueError(f"an hour ending must be from 1 to 24, got {ending}")
    begin = datetime.datetime.fromisoformat(f"{day}T{ending - 1:02d}:00")
    found = of(begin.replace(tzinfo=_zone(zone), fold=int(repeated)).astimezone(datetime.UTC))
    return found if local(found, zone).replace(tzinfo=None) == begin else None
