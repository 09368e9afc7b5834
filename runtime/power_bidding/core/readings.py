"""The model's input: the history known at the run's hour, and the asset's state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from power_bidding.core.assets import AssetSettings, MarketSettings
from power_bidding.core.bid_ports import Cells, Datasets, HistoryTable
from power_feeds import hours, rows

HISTORY_DAYS = 392
"""A year, which is the window of the model, and four weeks, on which its weights are learned."""
HORIZON_HOURS = 72
"""Number of hours after the run's hour that are read, because the table has frozen forecasts for them."""
FORECAST = "price_forecast"
NAMES = (*rows.COLUMNS, FORECAST)
Values = dict[str, dict[int, float]]
"""Values by column, then by hour."""


def stored(history: HistoryTable, location: str, run: int, days: int = HISTORY_DAYS) -> Values:
    """Return the values of `days` days up to the run's hour, and the frozen forecasts of later hours."""
    first = run - 24 * days
    found: Values = {name: {} for name in NAMES}
    items = history.days(location, hours.text(first)[:10], hours.text(run + HORIZON_HOURS)[:10])
    # If the run is repeated, the table also has values of later runs; omit them
    for hour, part, item in _cells(items):
        if hour < first:
            continue
        if (frozen := item.get(f"f{part}")) and int(item.get(f"g{part}", run)) <= run:
            found[FORECAST][hour] = float(frozen)
        if hour <= run and (text := item.get(f"h{part}")):
            for name, value in rows.unpacked(str(text)).items():
                if value is not None:
                    found[name][hour] = value
    return found


def _cells(items: Mapping[str, Cells]) -> Iterator[tuple[int, str, Cells]]:
    for day, item in sorted(items.items()):
        start = hours.parse(f"{day}T00:00Z")
        for at in range(24):
            yield start + at, f"{at:02d}", item


def gathered(
    history: HistoryTable, datasets: Datasets, location: str, run: int, version: int | None
) -> Values:
    """Return the values known at the run's hour: from the table, and for later hours from the dataset.

    For an hour whose day-ahead market is closed, the forecast is the frozen one if it exists.
    """
    found = stored(history, location, run)
    forward = datasets.forward(run, version)
    for name in NAMES:
        for text, value in forward.get(rows.series_name(name, location), {}).items():
            if (hour := hours.parse(text)) > run:
                found[name].setdefault(hour, float(value))
    return found


def listed(values: Values) -> dict[str, Any]:
    """Return the values in the model's format: hourly lists from the same start, missing values as null."""
    known = {hour for column in values.values() for hour in column}
    if not known:
        raise ValueError("the history is empty")
    start = min(known)
    columns = {
        name: [column.get(hour) for hour in range(start, max(column) + 1)] if column else []
        for name, column in values.items()
    }
    return {"start": hours.text(start), **columns}


def request(
    asset: AssetSettings,
    market: MarketSettings,
    run: int,
    values: Values,
    level: float,
    awards: Mapping[int, float],
    day_ahead: str | None,
) -> dict[str, Any]:
    """Return the body of the model's request."""
    rules = market.rules_of(hours.market_day(run, market.time_zone))
    return {
        "hour": hours.text(run + market.lead_hours),
        "now": hours.text(run),
        "location": asset.location,
        "mode": asset.mode,
        "real_time_policy": asset.real_time_policy,
        "asset": asdict(asset.battery),
        "market": {
            "floor": rules.floor,
            "cap": rules.cap,
            "least_mw": rules.least_mw,
            "most_segments": rules.most_segments,
        },
        "time_zone": market.time_zone,
        "history": listed(values),
        "state_of_charge": level,
        "awards": {hours.text(hour): mw for hour, mw in sorted(awards.items())} if asset.keep_awards else {},
        "day_ahead": day_ahead,
    }
