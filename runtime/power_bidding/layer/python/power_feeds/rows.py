"""Values of an hour at a location, and names of series."""

from __future__ import annotations

import math
from collections.abc import Mapping

COLUMNS = ("price", "real_time", "load", "temperature")
"""Day-ahead price and mean real-time price of the hour in $/MWh, load in MW, temperature in °C."""
FIRST_COLUMNS = 4
"""Number of columns of the oldest stored rows. Append further columns at the end: older rows lack them."""
BY_LOCATION = ("price", "real_time", "price_forecast")
"""Columns that differ between locations; the others are valid for the whole market."""


def series_name(column: str, location: str) -> str:
    """Return the name of the column's series, such as `price:HB_NORTH` or `load`."""
    return f"{column}:{location}" if column in BY_LOCATION else column


def packed(values: Mapping[str, float | None]) -> str:
    """Return the values of `COLUMNS` as `31.2,,41000.0,3.5`; a missing value is empty.

    Raises `ValueError` for a value that is not finite.
    """
    return ",".join(_text(name, values.get(name)) for name in COLUMNS)


def _text(name: str, value: float | None) -> str:
    if value is None:
        return ""
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite or missing, got {value}")
    return repr(float(value))


def unpacked(text: str) -> dict[str, float | None]:
    """Return the values in a text that `packed` made; None for missing values and for columns added later.

    Raises `ValueError` if the number of values is wrong.
    """
    parts = text.split(",")
    if not FIRST_COLUMNS <= len(parts) <= len(COLUMNS):
        raise ValueError(f"a row must have {FIRST_COLUMNS} to {len(COLUMNS)} values, got {len(parts)}")
    given = zip(COLUMNS, parts, strict=False)
    return dict.fromkeys(COLUMNS) | {name: float(part) if part else None for name, part in given}
