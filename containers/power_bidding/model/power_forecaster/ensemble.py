"""A convex combination of forecasts, with weights learned on earlier days."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import nnls

from .history import Doubles

SUM_TO_ONE = 1e3
"""Factor of the least-squares row that makes the weights sum to 1, relative to the size of the errors."""


def weights(forecasts: Doubles, actual: Doubles, prior: float) -> Doubles:
    """Return the weights [K] that minimize the squared error; they are at least 0 and their sum is 1.

    A schedule depends on the shape of a day's prices, not on their mean, so the day's mean error is
    subtracted from its errors. The combination follows Bates and Granger (1969), with Stein-type shrinkage
    towards equal weights.

    :param forecasts: [K, days, 24] scaled prices
    :param actual: [days, 24] scaled prices
    :param prior: weight, in days, of the prior that all weights are equal
    """
    families, days, _ = forecasts.shape
    errors = forecasts - actual
    errors = (errors - errors.mean(-1, keepdims=True)).reshape(families, -1)
    size = np.sqrt((errors**2).mean() * errors.shape[1]) + 1e-12
    pull = np.sqrt(prior / max(days, 1))
    rows = np.concatenate(
        [errors.T / size, np.full((1, families), SUM_TO_ONE), pull * np.eye(families)], axis=0
    )
    target: Any = np.concatenate(
        [np.zeros(errors.shape[1]), [SUM_TO_ONE], np.full(families, pull / families)]
    )
    found, _ = nnls(rows, target)
    return found / found.sum()
