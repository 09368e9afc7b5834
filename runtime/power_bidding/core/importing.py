"""Import of a user's history as CSV: hours before the first run, so that a model can be trained at once.

The file has a row for each hour: `hour_utc`, then `price:LOCATION`, `real_time:LOCATION`, `load` and
`temperature`, as far as they are known. Values from feeds are not replaced.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from power_bidding.core.history import utc_day
from power_feeds import hours
from power_feeds.rows import COLUMNS, packed, series_name

TIME = "hour_utc"


class Days(Protocol):
    def add(self, location: str, day: str, rows: Mapping[int, str]) -> bool:
        """Write the hours of a UTC day, unless the day has stored hours; return whether it was written."""
        ...


def import_history(text: str, locations: Sequence[str], table: Days) -> int:
    """Write the hours of a CSV file to the history; return the number of rows.

    Raises `ValueError` that names line and column.
    """
    found: dict[tuple[str, str], dict[int, str]] = {}
    count = 0
    for hour, values in _rows(text, locations):
        count += 1
        for location in locations:
            row = {column: values.get(series_name(column, location)) for column in COLUMNS}
            found.setdefault((location, utc_day(hour)), {})[hour] = packed(row)
    for (location, day), rows in sorted(found.items()):
        table.add(location, day, rows)
    return count


def _rows(text: str, locations: Sequence[str]) -> Iterator[tuple[int, dict[str, float | None]]]:
    reader = csv.DictReader(io.StringIO(text))
    known = {series_name(column, location) for column in COLUMNS for location in locations}
    names = set(reader.fieldnames or ())
    needed = {TIME, *(series_name("price", location) for location in locations)}
    if missing := sorted(needed - names):
        raise ValueError(f"the columns {', '.join(missing)} are missing")
    for line, row in enumerate(reader, start=2):
        try:
            hour = hours.parse(row[TIME] or "")
        except ValueError as error:
            raise ValueError(f"line {line} column {TIME}: {error}") from None
        yield hour, {name: _number(row[name], line, name) for name in sorted(known & names)}


def _number(cell: str | None, line: int, name: str) -> float | None:
    if not (cell or "").strip():
        return None
    try:
        value = float(cell or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"line {line} column {name} must be a number or empty, got {cell!r}")
    return value
