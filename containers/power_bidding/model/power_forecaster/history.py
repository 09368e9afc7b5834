"""An hourly price history, and its local market days.

Times are UTC. A market day is a day of the market's time zone: 24 hours, or 23 when daylight saving begins
and 25 when it ends.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from toolkit.failure import FatalError

Doubles = np.ndarray[Any, np.dtype[np.float64]]
Whole = np.ndarray[Any, np.dtype[np.int64]]
HOURS = 24
"""Number of columns of a grid with a row for each day: one for each local hour, also on days of 23 or
25 hours."""
TIME = "hour_utc"
REAL_TIME = "real_time"
"""Column of the real-time price, dollars per MWh."""
EXTERNAL = "price_forecast"
"""Column of an external price forecast, made before the deadline for the day's bids."""
EPOCH = datetime(1970, 1, 1).toordinal()
LARGEST = 1e9
"""Maximum absolute value in a file, in any unit."""
MOST_HOURS = 100 * 8766


@dataclass(frozen=True)
class History:
    """Prices and feeds of T consecutive hours."""

    start: int
    """The first hour, in hours since 1970-01-01 UTC"""
    prices: Doubles
    """[T] dollars per MWh; NaN if missing"""
    feeds: dict[str, Doubles]
    """Feeds by name, [T] in the feed's unit; NaN if missing"""
    zone: str
    """Time zone of the market, such as America/Chicago"""

    @cached_property
    def days(self) -> Days:
        return Days.of_hours(self.start, len(self.prices), self.zone)


@dataclass(frozen=True)
class Days:
    """The D whole market days of T consecutive hours."""

    dates: Whole
    """[D] local date, in days since 1970-01-01"""
    begin: Whole
    """[D] index of the day's first hour"""
    length: Whole
    """[D] number of hours of the day: 23, 24 or 25"""
    clock: Whole
    """[T] local hour, 0 to 23"""
    of: Whole
    """[T] index of the hour's day among these days; -1 if not all hours of the day are included"""

    @staticmethod
    def of_hours(start: int, count: int, zone: str) -> Days:
        """Return the market days of `count` hours from `start`, in hours since 1970-01-01 UTC."""
        here = ZoneInfo(zone)
        local = [datetime.fromtimestamp(3600 * (start + hour), here) for hour in range(count)]
        ordinal = np.array([moment.toordinal() for moment in local]) - EPOCH
        dates, begin, length = np.unique(ordinal, return_index=True, return_counts=True)
        whole = length == [_hours_of(int(day), here) for day in dates]
        place = np.where(whole, np.cumsum(whole) - 1, -1)
        return Days(
            dates[whole],
            begin[whole],
            length[whole],
            np.array([moment.hour for moment in local]),
            place[np.searchsorted(dates, ordinal)],
        )

    def __len__(self) -> int:
        return len(self.dates)

    @cached_property
    def weekday(self) -> Whole:
        """[D] 0 is Monday."""
        return (self.dates + 3) % 7

    def hours(self, day: int) -> slice:
        """Return the slice of a day's hours among all hours."""
        return slice(int(self.begin[day]), int(self.begin[day] + self.length[day]))

    def grid(self, values: Doubles) -> Doubles:
        """Return [D, 24] values by local hour.

        At the end of daylight saving, the two values of the repeated hour are averaged. When it begins,
        the skipped hour gets the mean of the hours next to it. Missing values stay NaN.
        """
        known = (self.of >= 0) & np.isfinite(values)
        sums, counts = np.zeros((len(self), HOURS)), np.zeros((len(self), HOURS))
        np.add.at(sums, (self.of[known], self.clock[known]), values[known])
        np.add.at(counts, (self.of[known], self.clock[known]), 1)
        found = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
        for day in np.flatnonzero(self.length < HOURS).tolist():
            (skipped,) = set(range(HOURS)) - set(self.clock[self.hours(day)].tolist())
            found[day, skipped] = (found[day, skipped - 1] + found[day, (skipped + 1) % HOURS]) / 2
        return found

    def spread(self, day: int, row: Doubles) -> Doubles:
        """Return the values of a day's hours, [23 to 25], from its row of a grid, [24]."""
        return row[self.clock[self.hours(day)]]


def _hours_of(day: int, zone: ZoneInfo) -> int:
    """Return the number of hours of the local day `day`, in days since 1970-01-01."""
    begin, end = (datetime.fromordinal(EPOCH + at).replace(tzinfo=zone).timestamp() for at in (day, day + 1))
    return round((end - begin) / 3600)


def read_csv(paths: list[Path], price: str | None, zone: str) -> History:
    """Read hourly rows from CSV files, each with the column `hour_utc` and a column of the price.

    All other columns must have numbers, and are feeds. An empty cell and an hour without a row are missing
    values. Raises `FatalError` that names file, line and column.

    :param price: name of the price's column; None: the only column that begins with `price` or `lmp`
    """
    rows: dict[int, list[float]] = {}
    names: list[str] = []
    for path in paths:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.reader(handle)
            header = [name.strip() for name in next(reader, [])]
            if TIME not in header:
                raise FatalError(
                    f"{path.name} must have a column {TIME}, its columns are {', '.join(header)}"
                )
            if names and header != names:
                raise FatalError(
                    f"{path.name} must have the columns {', '.join(names)}, got {', '.join(header)}"
                )
            names, at = header, header.index(TIME)
            for line, row in enumerate(reader, start=2):
                where = f"{path.name} line {line}"
                if not row:
                    continue
                if len(row) != len(header):
                    raise FatalError(f"{where} must have {len(header)} cells, got {len(row)}")
                hour = _hour(row[at], where)
                numbers = [
                    _number(cell, f"{where} column {name}")
                    for name, cell in zip(header, row, strict=True)
                    if name != TIME
                ]
                if rows.setdefault(hour, numbers) is not numbers:
                    raise FatalError(f"{where}: hour {row[at]} occurs twice")
    if not rows:
        raise FatalError(f"{paths[-1].name} must have rows, got none")
    names.remove(TIME)
    chosen = _price_column(names, price)
    start, count = min(rows), max(rows) - min(rows) + 1
    if count > MOST_HOURS:
        raise FatalError(
            f"{paths[-1].name} must span at most 100 years, got {count:,} hours from the first to the last"
        )
    table = np.full((count, len(names)), np.nan)
    for hour, numbers in rows.items():
        table[hour - start] = numbers
    feeds = {name: table[:, column] for column, name in enumerate(names) if name != chosen}
    return History(start, table[:, names.index(chosen)], feeds, zone)


def _price_column(names: list[str], price: str | None) -> str:
    candidates = [name for name in names if name != EXTERNAL]
    found = [price] if price else [name for name in candidates if name.lower().startswith(("price", "lmp"))]
    if len(found) != 1 or found[0] not in names:
        given = f"column {price}" if price else "one column whose name begins with price or lmp"
        raise FatalError(
            f"the prices must be in {given}, got the columns {', '.join(names)}; "
            "set price_column (in a backtest: --price) to the column with the prices"
        )
    return found[0]


def _hour(text: str, where: str) -> int:
    try:
        moment = datetime.fromisoformat(text.strip())
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        hour, rest = divmod(moment.timestamp(), 3600)
    except (ValueError, OverflowError):
        rest, hour = 1.0, 0.0
    if rest:
        raise FatalError(
            f"{where} column {TIME} must be a whole hour such as 2022-01-31T05:00Z, got {text!r}"
        )
    return int(hour)


def _number(text: str, where: str) -> float:
    text = text.strip()
    try:
        value = float(text or "nan")
    except ValueError:
        value = np.inf
    if abs(value) > LARGEST:
        raise FatalError(f"{where} must be a number of at most {LARGEST:g}, or empty, got {text!r}")
    return value
