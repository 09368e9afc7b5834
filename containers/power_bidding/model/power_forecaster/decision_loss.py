"""SPO+: a forecast loss based on the revenue of the resulting schedule (Elmachtoub and Grigas, 2022).

The regret of a forecast is the revenue that its schedule loses against the optimal schedule. It is a step
function of the forecast, so its gradient is 0 or undefined. SPO+ is a convex upper bound of the regret, and 0
for a perfect forecast: for prices p and a forecast f, it is the regret of p's optimal schedule at prices
2f - p.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .history import HOURS, Doubles
from .scale import Scale
from .storage import Asset, Scheduler

ROUNDING = 1e-6
"""A loss of at most this many dollars is considered a rounding error of the solver, and set to 0."""
STEEPEST = 20.0
"""Maximum gradient norm of a day in training. At ERCOT's hubs a norm of 8 is typical; after the storm of
February 2021 norms reached 2,000."""


class DecisionLoss:
    """The SPO+ loss of scaled forecasts of D days.

    A day's loss is divided by the asset's power, and by the larger of two numbers: the standard deviation of
    the day's prices, and the width of the forecasts' `Scale`. Otherwise days with price spikes would
    dominate.
    """

    def __init__(self, prices: Doubles, scale: Scale, asset: Asset):
        """Solve for the optimal schedules of the true prices.

        :param prices: [D, 24] dollars per MWh
        :param scale: the scale of the forecasts
        Raises `storage.OptimizationError`.
        """
        self._prices, self._scale, self._asset = prices, scale, asset
        self._scheduler = Scheduler(asset, HOURS)
        self._best = [self._scheduler.solve(each) for each in prices]
        self._size = asset.power * np.maximum(prices.std(axis=1), scale.width)

    def __call__(self, scaled: Any, days: Any) -> tuple[Doubles, Doubles]:
        """Return losses [n] and their gradients [n, 24] with respect to the scaled forecasts.

        :param scaled: [n, 24] forecasts
        :param days: [n] the day of each forecast, from 0 to D - 1
        Raises `storage.OptimizationError`.
        """
        forecasts = self._scale.prices(np.asarray(scaled, np.float64))
        mirrored = 2 * forecasts - self._prices[days]
        losses, gradients = np.zeros(len(forecasts)), np.zeros(forecasts.shape)
        for row, day in enumerate(days):
            best, other = self._best[day], self._scheduler.solve(mirrored[row])
            loss = other.profit(mirrored[row], self._asset) - best.profit(mirrored[row], self._asset)
            # at the minimum, 0 is a subgradient, whichever optimal schedule the solver returns
            if loss > ROUNDING:
                losses[row] = loss
                gradients[row] = 2 * (other.net - best.net)
        # the derivative of Scale.prices: width * cosh(scaled)
        slopes = np.hypot(forecasts - self._scale.median, self._scale.width)
        size = self._size[days]
        return losses / size, gradients * slopes / size[:, np.newaxis]


def clipped(gradients: Doubles) -> Doubles:
    """Return gradients [n, 24] with norms clipped to `STEEPEST`."""
    norms = np.linalg.norm(gradients, axis=1, keepdims=True)
    return gradients * STEEPEST / np.maximum(norms, STEEPEST)
