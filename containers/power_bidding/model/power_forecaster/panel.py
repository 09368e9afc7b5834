"""A price history as one row for each market day."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from . import features
from .history import EXTERNAL, REAL_TIME, Days, Doubles, History
from .scale import Scale

WINDOW = 364
"""Days that a model is fitted to, at most."""
LEAST = 35
"""Days before the first forecast of a model."""


@dataclass(frozen=True)
class Panel:
    """D market days."""

    days: Days
    prices: Doubles
    """[D, 24] dollars per MWh"""
    feeds: dict[str, Doubles]
    """By name, [D, 24] in the feed's unit"""
    external: Doubles | None = None
    """[D, 24] dollars per MWh: an external price forecast, made before the deadline for the day's bids; NaN
    where there is none"""

    @staticmethod
    def of(history: History) -> Panel:
        days = history.days
        prices = features.carried(days.grid(history.prices))
        grids = {name: days.grid(feed) for name, feed in history.feeds.items()}
        external = grids.pop(EXTERNAL, None)
        grids.pop(REAL_TIME, None)  # no feature of a day-ahead price: it follows that price
        return Panel(days, prices, grids, external)

    def past(self, begin: int, window: int = WINDOW, lags: int = max(features.LAGS)) -> slice:
        """Return the days that a model for `begin` is fitted to. Their features reach `lags` days back."""
        return slice(max(lags + 1, begin - window), begin)

    def feeds_known(self, past: slice) -> dict[str, Doubles]:
        """Return the feeds with a value on half of the past days or more."""
        known = slice(past.start, past.stop - 1)  # the last day's values come after its deadline
        return {
            name: feed for name, feed in self.feeds.items() if np.isfinite(feed[known]).any(1).mean() >= 0.5
        }

    def feeds_named(self, names: Any) -> dict[str, Doubles]:
        """Return the feeds of these names; one that this history lacks is missing on all days."""
        nothing = np.full_like(self.prices, np.nan)
        return {name: self.feeds.get(name, nothing) for name in names}

    def scale(self, past: slice) -> Scale:
        return Scale.of(self.prices[past])
