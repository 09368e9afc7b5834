"""Evaluation of forecasts on market days to which their models were not fitted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import naive, schedules
from .history import Doubles
from .locations import Location
from .panel import Panel
from .storage import Asset
from .trained import Fit, Trained

CLIPPED = 3.0
"""Maximum loss of a day, so that a day with price spikes does not dominate."""
TINY = 1e-9


@dataclass(frozen=True)
class Judged:
    """Results of D market days."""

    dollars: Doubles
    """[D] revenue of the schedule, NaN if a price or the forecast is missing"""
    foresight: Doubles
    """[D] revenue of the best schedule for the actual prices"""
    loss: Doubles
    """[D] mean absolute error divided by that of the naive forecast `persistence`, at most `CLIPPED`"""

    def capture(self, known: Any) -> float:
        """Return the capture on the days `known`: revenue as a share of perfect foresight."""
        return float(self.dollars[known].sum() / self.foresight[known].sum())


def pooled(locations: list[Judged]) -> Judged:
    """Return the results of several locations together: revenues are added, losses averaged."""
    return Judged(
        np.sum([each.dollars for each in locations], axis=0),
        np.sum([each.foresight for each in locations], axis=0),
        np.mean([each.loss for each in locations], axis=0),
    )


def known(judged: Iterable[Judged]) -> Any:
    """Return the days, [D] booleans, on which all forecasts can be evaluated."""
    return np.all(
        [np.isfinite(part) for each in judged for part in (each.dollars, each.foresight, each.loss)], axis=0
    )


def forecasts_by(model: Trained, location: str, panel: Panel, begin: int, end: int) -> Doubles:
    """Return a model's forecasts of the days `begin` to `end`, [all days, 24] dollars per MWh.

    Each forecast is made with the newest fit that uses only days before the forecast day; NaN if there is
    no such fit.
    """
    found = np.full_like(panel.prices, np.nan)
    for row in range(begin, end):
        fit: Fit | None = model.unseen(location, int(panel.days.dates[row]))
        if fit is not None:
            found[row] = fit.forecast(panel, row)
    return found


def judged(location: Location, forecasts: Doubles, asset: Asset, begin: int, end: int) -> Judged:
    """Evaluate forecasts [all days, 24] of the days `begin` to `end`."""
    prices = location.panel.prices
    revenue = schedules.self_schedules(location.history, forecasts, asset, begin, end)
    persistence = naive.naive(prices)[naive.PERSISTENCE]
    days = slice(begin, end)
    ours, theirs = (np.abs(each[days] - prices[days]).mean(1) for each in (forecasts, persistence))
    ratio = np.minimum(ours / np.maximum(theirs, TINY), CLIPPED)
    return Judged(revenue.dollars, revenue.foresight, ratio)
