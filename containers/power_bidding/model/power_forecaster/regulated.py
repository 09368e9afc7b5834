"""Revenue of day-ahead schedules with and without regulation.

There is no look-ahead: the forecast of capacity prices is their mean over the seven days before the scheduled
day. It is assumed that all offers are accepted, and that the called energy has its expected
value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

import numpy as np

from toolkit.failure import FatalError

from . import measures
from .features import WEEK, carried, mean_before
from .history import Doubles, History
from .regulation import Prices, RegulatedSchedule, Regulation, RegulationScheduler
from .schedules import Revenue
from .storage import Asset, Scheduler

COLUMNS = UP, DOWN = "regulation_up", "regulation_down"
"""Columns with capacity prices, in dollars per MW for an hour."""


def check_columns(history: History, where: str) -> None:
    """Raise `FatalError` unless the history has regulation prices.

    :param where: name of the file, for the error
    """
    for name in COLUMNS:
        if name not in history.feeds:
            raise FatalError(f"{where} must have the columns {UP} and {DOWN} for an asset with [regulation]")
        if not np.isfinite(history.feeds[name]).any():
            raise FatalError(f"{where} must have prices in the column {name}, got none")


@dataclass(frozen=True)
class Sold:
    """Results of schedules with regulation on D market days."""

    revenue: Revenue
    capacity: Doubles
    """[D] dollars of capacity payments; NaN if a price is missing"""
    schedules: dict[int, RegulatedSchedule]
    """Schedules by day"""


def sold(
    history: History, forecasts: Mapping[str, Doubles], asset: Asset, terms: Regulation, begin: int, end: int
) -> dict[str, Sold]:
    """Schedule the days `begin` to `end` by each forecast and settle each schedule at the day's prices.

    :param forecasts: [all days, 24] dollars per MWh, by name
    """
    days = history.days
    expected = {name: mean_before(carried(days.grid(history.feeds[name])), WEEK) for name in COLUMNS}
    count = end - begin
    foresight = np.full(count, np.nan)
    dollars = {name: np.full(count, np.nan) for name in forecasts}
    capacity = {name: np.full(count, np.nan) for name in forecasts}
    schedules: dict[str, dict[int, RegulatedSchedule]] = {name: {} for name in forecasts}

    @cache
    def scheduler(hours: int) -> RegulationScheduler:
        return RegulationScheduler(asset, terms, hours)

    for row, day in enumerate(range(begin, end)):
        hours = days.hours(day)
        prices = Prices(history.prices[hours], *(history.feeds[name][hours] for name in COLUMNS))
        if not np.isfinite([prices.energy, prices.up, prices.down]).all():
            continue
        program = scheduler(len(prices.energy))
        foresight[row] = program.solve(prices).profit(prices, asset)
        up, down = (days.spread(day, expected[name][day]) for name in COLUMNS)
        for name, each in forecasts.items():
            energy = days.spread(day, each[day])
            if np.isfinite([energy, up, down]).all():
                schedule = schedules[name][day] = program.solve(Prices(energy, up, down))
                dollars[name][row] = schedule.profit(prices, asset)
                capacity[name][row] = schedule.capacity_payment(prices)
    return {
        name: Sold(Revenue(dollars[name], foresight), capacity[name], schedules[name]) for name in forecasts
    }


def summary(
    with_it: list[dict[str, Sold]], without: list[dict[str, Revenue]], terms: Regulation
) -> dict[str, Any]:
    """Return each forecast's revenue with and without regulation, as means over seeds.

    Days without a price are omitted.
    """
    names = list(with_it[0])
    dollars = {name: np.mean([each[name].revenue.dollars for each in with_it], axis=0) for name in names}
    capacity = {name: np.mean([each[name].capacity for each in with_it], axis=0) for name in names}
    energy_only = {name: np.mean([each[name].dollars for each in without], axis=0) for name in names}
    foresight = with_it[0][names[0]].revenue.foresight
    known = np.isfinite(foresight)
    for name in names:
        known &= np.isfinite(dollars[name]) & np.isfinite(energy_only[name])
    if not known.any():
        raise FatalError(
            f"the hours to schedule must have a day with all prices of energy, {UP} and {DOWN}, got none"
        )
    rows = [
        {
            "forecast": name,
            "dollars": float(each[known].sum()),
            "capacity_dollars": float(capacity[name][known].sum()),
            "dollars_without": float(energy_only[name][known].sum()),
            "capture": asdict(measures.capture(each[known], foresight[known])),
        }
        for name, each in sorted(dollars.items(), key=lambda item: -item[1][known].sum())
    ]
    return {
        "terms": asdict(terms),
        "days": int(known.sum()),
        "days_left_out": int((~known).sum()),
        "perfect_foresight_dollars": float(foresight[known].sum()),
        "rows": rows,
    }


def hours(history: History, found: Sold, forecast: Doubles, asset: Asset) -> list[dict[str, Any]]:
    """Return each hour's schedule with regulation, and its MW without regulation.

    :param forecast: [all days, 24] dollars per MWh, the forecast on which `found` is based
    """
    days = history.days
    rows: list[dict[str, Any]] = []
    for day, schedule in found.schedules.items():
        first, count = int(days.begin[day]), len(schedule.net)
        without = Scheduler(asset, count).solve(days.spread(day, forecast[day])).net
        for hour in range(count):
            moment = datetime.fromtimestamp(3600 * (history.start + first + hour), UTC)
            row = {
                "mw_without": without[hour],
                "mw": schedule.net[hour],
                UP: schedule.up[hour],
                DOWN: schedule.down[hour],
                "state_of_charge": schedule.level[hour],
            }
            rounded = {name: round(float(value), 4) + 0.0 for name, value in row.items()}
            rows.append({"hour_utc": f"{moment:%Y-%m-%dT%H:%MZ}"} | rounded)
    return rows
