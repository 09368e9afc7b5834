"""Forecasts without a model, as baselines."""

from __future__ import annotations

from .features import lagged, mean_before
from .history import Doubles

MEANS = (7, 28)
PERSISTENCE = "persistence"


def names() -> list[str]:
    return [PERSISTENCE, *(f"mean of {days} days" for days in MEANS)]


def naive(prices: Doubles) -> dict[str, Doubles]:
    """Return forecasts [D, 24] by name, from prices [D, 24]."""
    found = [lagged(prices, 1), *(mean_before(prices, days) for days in MEANS)]
    return dict(zip(names(), found, strict=True))
