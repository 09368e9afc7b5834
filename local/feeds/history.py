"""Hourly history from a CSV file."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from local.feeds import times

MARKET_COLUMNS = ("load", "temperature")
LOCATION_COLUMNS = ("price", "real_time")


@dataclass(frozen=True)
class History:
    series: dict[str, dict[int, float]]
    """Values by series name, such as `price:HB_NORTH` or `load`, and by hour; missing values are absent"""
    first: int
    last: int

    @property
    def locations(self) -> list[str]:
        return sorted(name.partition(":")[2] for name in self.series if name.startswith("price:"))


def read(path: Path) -> History:
    """Read a history from CSV. Raises `ValueError` with the line of an invalid value.

    Columns are `hour_utc`, `price:LOCATION` of each location, and optionally `real_time:LOCATION`, `load` and
    `temperature`.
    """
    with path.open(newline="") as lines:
        reader = csv.DictReader(lines)
        names = [name for name in reader.fieldnames or () if name != "hour_utc"]
        unknown = [name for name in names if not _known(name)]
        if unknown or not any(name.startswith("price:") for name in names):
            allowed = "price:LOCATION, real_time:LOCATION, load, temperature"
            raise ValueError(
                f"{path.name}: columns must be hour_utc, {allowed}; got {', '.join(unknown or names)}"
            )
        series: dict[str, dict[int, float]] = {name: {} for name in names}
        hours = []
        for number, row in enumerate(reader, 2):
            try:
                hours.append(times.parse(row["hour_utc"]))
                for name in names:
                    if row[name]:
                        series[name][hours[-1]] = _finite(row[name])
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path.name}, line {number}: {error}") from error
    if not hours:
        raise ValueError(f"{path.name} has no hours")
    return History(series, min(hours), max(hours))


def _known(name: str) -> bool:
    column, _, location = name.partition(":")
    return name in MARKET_COLUMNS or (column in LOCATION_COLUMNS and bool(location))


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"a value must be finite, got {text}")
    return value
