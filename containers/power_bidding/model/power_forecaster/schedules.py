"""Day-ahead schedules of a price-taking storage asset, and their revenue.

Each market day begins with the asset's initial level.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from .history import Doubles, History
from .storage import Asset, Scheduler


@dataclass(frozen=True)
class Revenue:
    """Revenue of D market days."""

    dollars: Doubles
    """[D] revenue of the schedule for the forecast; NaN if a price or the forecast is missing"""
    foresight: Doubles
    """[D] revenue of the best schedule for the actual prices; NaN if a price is missing"""


def self_schedules(history: History, forecasts: Doubles, asset: Asset, begin: int, end: int) -> Revenue:
    """Schedule the days `begin` to `end` by their forecasts and settle each schedule at the day's prices.

    :param forecasts: [all days, 24] dollars per MWh
    """
    days = history.days
    earned, best = np.full(end - begin, np.nan), np.full(end - begin, np.nan)

    @cache
    def scheduler(hours: int) -> Scheduler:
        return Scheduler(asset, hours)

    for row, day in enumerate(range(begin, end)):
        prices = history.prices[days.hours(day)]
        if not np.isfinite(prices).all():
            continue
        program = scheduler(len(prices))
        best[row] = program.solve(prices).profit(prices, asset)
        if np.isfinite(forecasts[day]).all():
            earned[row] = program.solve(days.spread(day, forecasts[day])).profit(prices, asset)
    return Revenue(earned, best)
