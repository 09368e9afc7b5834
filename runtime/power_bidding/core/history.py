"""The table `History`: hourly values and the frozen forecast for each location and UTC day.

The hour 05 of a day, for example, has the attributes `h05`, its values (`rows.packed`), `n05`, their version,
`f05`, the frozen `price_forecast`, and `g05`, the run that froze it.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Protocol

from power_bidding.core.hours_table import HourRow
from power_feeds import hours
from power_feeds.rows import COLUMNS, packed


class History(Protocol):
    def versions(self, location: str, day: str) -> dict[int, int]:
        """Return the versions of the stored hours of a UTC day, by hour."""
        ...

    def put(self, location: str, hour: int, text: str, version: int) -> None:
        """Write the values of an hour, unless the same or a newer version is stored."""
        ...

    def freeze(self, location: str, forecast: Mapping[int, float], run: int) -> None:
        """Write the forecasts of a market day, unless forecasts of a later run are stored. Atomic by UTC
        day."""
        ...


def utc_day(hour: int) -> str:
    return hours.moment(hour).date().isoformat()


def catch_up(rows: Sequence[HourRow], table: History) -> None:
    """Write all versions of `rows` that the history lacks, including those of interrupted runs."""
    known: dict[tuple[str, str], dict[int, int]] = {}
    for row in rows:
        for location, values in row.values.items():
            place = location, utc_day(row.hour)
            if place not in known:
                known[place] = table.versions(*place)
            if known[place].get(row.hour, 0) < row.version:
                text = packed({name: values.get(name) for name in COLUMNS})
                table.put(location, row.hour, text, row.version)


def freeze(
    run: int,
    zone: str,
    forecasts: Mapping[str, Mapping[int, float | None]],
    published: str | None,
    table: History,
) -> str | None:
    """Freeze the forecast of the next market day while its day-ahead market is open; return that day.

    A forecast that was published after the deadline, or has no time of publication, is never frozen, because
    bids could not use it. A later run before the deadline overwrites the forecast of an earlier run. After
    the deadline, nothing is written and None is returned.
    """
    day = hours.shifted(hours.market_day(run, zone), 1)
    deadline = hours.day_ahead_deadline(day, zone)
    if run >= deadline or published is None:
        return None
    if hours.exactly(datetime.datetime.fromisoformat(published)) > deadline:
        return None
    for location, values in sorted(forecasts.items()):
        found = {hour: value for hour in hours.hours_of(day, zone) if (value := values.get(hour)) is not None}
        if found:
            table.freeze(location, found, run)
    return day
