"""A price history with one row for each market day."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from . import features
from .history import EXTERNAL, REAL_TIME, Days, Doubles, History
from .scale import Scale

WINDOW = 364
"""Maximum number of days to which a model is fitted."""
LEAST = 35
"""Minimum number of days before the first forecast of a model."""


@dataclass(frozen=True)
class Panel:
    """Prices and feeds of D market days."""

    days: Days
    prices: Doubles
    """[D, 24] dollars per MWh"""
    feeds: dict[str, Doubles]
    """By name, [D, 24] in the feed's unit"""
    external: Doubles | None = None
    """[D, 24] dollars per MWh: an external price forecast, made before the deadline for the day's bids; NaN
    if there is none"""

    @staticmethod
    def of(history: History) -> Panel:
        days = history.days
        prices = features.carried(days.grid(history.prices))
        grids = {name: days.grid(feed) for name, feed in history.feeds.items()}
        external = grids.pop(EXTERNAL, None)
        grids.pop(REAL_TIME, None)  # not a feature of the day-ahead price, because it is known later
        return Panel(days, prices, grids, external)

    def past(self, begin: int, window: int = WINDOW, lags: int = max(features.LAGS)) -> slice:
        """Return the days to which a model is fitted whose forecasts begin with the day `begin`.

        The features of each of these days need the `lags` days before it.
        """
        return slice(max(lags + 1, begin - window), begin)

    def feeds_known(self, past: slice) -> dict[str, Doubles]:
        """Return the feeds that have a value on at least half of the past days."""
        known = slice(past.start, past.stop - 1)  # feeds of the last day are published after the bids are due
        return {
            name: feed for name, feed in self.feeds.items() if np.isfinite(feed[known]).any(1).mean() >= 0.5
        }

    def feeds_named(self, names: Any) -> dict[str, Doubles]:
        """Return the feeds of these names. A feed that the history lacks has missing values on all days."""
        nothing = np.full_like(self.prices, np.nan)
        return {name: self.feeds.get(name, nothing) for name in names}

    def scale(self, past: slice) -> Scale:
        return Scale.of(self.prices[past])
