"""Day-ahead forecasts: families of models, each fitted to the days before, and their combination.

Nothing here looks ahead: a forecast for day D is made of prices before D and feeds before D-1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from . import boosting, features, linear
from .ensemble import weights
from .history import Days, Doubles, History
from .scale import Scale

WINDOW = 364
"""Days that a model is fitted to, at most."""
LINEAR_WINDOWS = (56, 91, 182, 364)
"""The linear model is fitted to each: together they are better than one (Marcjasz et al., 2018)."""
LEAST = 35
"""Days before the first forecast of a model."""
TRAILING, PRIOR = 182, 10.0
"""Days that the weights of the families are learnt on, and the days that equal weights count for."""
LEAST_TRAILING = 14


@dataclass(frozen=True)
class Panel:
    """A history as one row for each market day."""

    days: Days
    prices: Doubles
    """[D, 24] dollars per MWh"""
    feeds: dict[str, Doubles]
    """By name, [D, 24] in the feed's unit"""

    @staticmethod
    def of(history: History) -> Panel:
        days = history.days
        prices = features.carried(days.grid(history.prices))
        return Panel(days, prices, {name: days.grid(feed) for name, feed in history.feeds.items()})


@dataclass(frozen=True)
class Family:
    """A kind of model and how often it is fitted anew."""

    name: str
    every: int
    """Days from one fit to the next"""
    forecast: Callable[[Panel, int, int], Doubles]
    """From a panel and the days `begin` to `end`: their prices [end - begin, 24] in dollars, forecast by a
    model that is fitted to days before `begin`"""


def families(seed: int) -> list[Family]:
    """Return the families without a network."""
    found = [Family(f"linear, {window} days", 1, partial(_linear, window)) for window in LINEAR_WINDOWS]
    return [*found, Family("boosted trees", 7, partial(_boosted, seed))]


def _fitted_to(panel: Panel, begin: int, window: int) -> tuple[slice, Scale, Doubles]:
    """Return the days that a model for `begin` is fitted to, their scale, and all prices by it, [D, 24]."""
    first = max(max(features.LAGS) + 1, begin - window)
    scale = Scale.of(panel.prices[first:begin])
    return slice(first, begin), scale, scale.scaled(panel.prices)


def _linear(window: int, panel: Panel, begin: int, end: int) -> Doubles:
    past, scale, scaled = _fitted_to(panel, begin, window)
    x = features.daily(panel.days, scaled, panel.feeds)
    return scale.prices(linear.ridge(x[past], scaled[past], x[begin:end]))


def _boosted(seed: int, panel: Panel, begin: int, end: int) -> Doubles:
    past, scale, scaled = _fitted_to(panel, begin, WINDOW)
    x = features.hourly(panel.days, scaled, panel.feeds)
    model = boosting.fit(x[past], scaled[past], seed)
    return scale.prices(boosting.forecast(model, x[begin:end]))


def walk(panel: Panel, family: Family, begin: int, end: int) -> Doubles:
    """Return a family's forecasts for the days `begin` to `end`, fitted anew on the way, [D, 24] dollars.

    Other days are NaN.
    """
    found = np.full_like(panel.prices, np.nan)
    for first in range(max(begin, LEAST), end, family.every):
        last = min(first + family.every, end)
        found[first:last] = family.forecast(panel, first, last)
    return found


def combined(panel: Panel, forecasts: dict[str, Doubles], begin: int, end: int) -> Doubles:
    """Return the combination of the families' forecasts for the days `begin` to `end`, [D, 24] dollars.

    Its weights for a day are learnt on the days before it. Other days are NaN.
    """
    every = np.stack(list(forecasts.values()))
    found = np.full_like(panel.prices, np.nan)
    for day in range(begin, end):
        scale = Scale.of(panel.prices[max(0, day - WINDOW) : day])
        trailing = np.arange(max(0, day - TRAILING), day)
        trailing = trailing[np.isfinite(every[:, trailing]).all((0, 2))]
        share = np.full(len(every), 1 / len(every))
        if len(trailing) >= LEAST_TRAILING:
            share = weights(scale.scaled(every[:, trailing]), scale.scaled(panel.prices[trailing]), PRIOR)
        found[day] = scale.prices(np.tensordot(share, scale.scaled(every[:, day]), 1))
    return found
