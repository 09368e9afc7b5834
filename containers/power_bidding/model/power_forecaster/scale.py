"""A variance-stabilising transformation of prices (Uniejewski, Weron and Ziel, 2018).

asinh((price - median) / width) is linear near the median and logarithmic far from it; prices may be negative.
The width is the scaled median absolute deviation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

NORMAL = 1.4826
"""Standard deviation of a normal distribution divided by its median absolute deviation."""


@dataclass(frozen=True)
class Scale:
    """Median and width (scaled median absolute deviation) of the prices to which a model is fitted."""

    median: float
    width: float

    @staticmethod
    def of(prices: Any) -> Scale:
        known = prices[np.isfinite(prices)]
        median = float(np.median(known))
        return Scale(median, max(NORMAL * float(np.median(np.abs(known - median))), 1e-3))

    def scaled(self, prices: Any) -> Any:
        return np.arcsinh((prices - self.median) / self.width)

    def prices(self, scaled: Any) -> Any:
        return np.sinh(scaled) * self.width + self.median
