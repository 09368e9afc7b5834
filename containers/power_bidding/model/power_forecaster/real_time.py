"""Real-time offers: one curve per hour, fixed 75 minutes before the hour begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from . import curves, water_value
from .curves import Curve, Terms
from .history import Doubles
from .storage import Asset, OptimizationError
from .water_value import Errors, Limits

LEAD_MINUTES = 75
"""Minutes from a curve's deadline to the beginning of its hour."""
HORIZON = 30
"""Number of hours that are considered for an offer, including the offer's hour."""

# The following values were chosen on NYISO's prices of 2018, see benchmarks/README.md
SPREAD_HOURS = 3
"""Number of hours before the deadline over which the spread (real-time minus day-ahead price) is averaged."""
SPREAD_SHARE = 0.7
"""Share of the spread that is expected to continue."""
SPREAD_KEPT = 0.8
"""Share of an hour's expected spread that is expected for the next hour."""
ERROR_DAYS = 28
"""Number of past days whose price errors are the possible errors of the expected prices."""
TRAILING_DAYS = 84
"""Number of past days on which policies are compared."""


def expected_prices(day_ahead: Doubles, spread: float) -> Doubles:
    """Return the expected real-time prices.

    :param day_ahead: [T] dollars per MWh from the offer's hour on: prices as far as published, then forecasts
    :param spread: mean of real-time minus day-ahead prices over the last `SPREAD_HOURS`
    """
    return day_ahead + SPREAD_SHARE * spread * SPREAD_KEPT ** np.arange(1, len(day_ahead) + 1)


def curve(
    asset: Asset,
    prices: Any,
    state_of_charge: float,
    *,
    floor: float,
    cap: float,
    most_segments: int = 10,
    least_mw: float = 0.1,
    awards: Any = None,
    errors: Errors | None = None,
) -> Curve:
    """Return the curve for the first of T hours.

    A market that dispatches every few minutes limits the output by the stored energy at each dispatch. So the
    curve offers the asset's full power for a price spike of five minutes, even if the store could not deliver
    it for the whole hour. If later awards need energy or room in the store, the curve's MW are limited so
    that enough remains for these awards after a whole hour.

    :param prices: [T] expected dollars per MWh, see `expected_prices`
    :param state_of_charge: stored MWh when the hour begins
    :param floor, cap: lowest and highest price of the market
    :param awards: [T] MW sold in the day-ahead market, purchases below zero, NaN or 0 for none; see
        `Limits.of` for how awards are kept
    :param errors: possible differences of real-time prices from `prices`; None: no differences
    Raises `OptimizationError`.
    """
    prices = np.asarray(prices, np.float64)
    if prices.ndim != 1 or not len(prices) or not np.isfinite(prices).all():
        raise OptimizationError("prices must be finite numbers, one or more")
    awarded = np.zeros(len(prices)) if awards is None else np.asarray(awards, np.float64)
    if awarded.shape != prices.shape:
        raise OptimizationError(f"awards must be {len(prices)} numbers, got {awarded.size}")
    limits = Limits.of(asset, awarded)
    values = water_value.water_values(asset, prices[None], errors or Errors.none(), limits)[0]
    terms = Terms(floor, cap, most_segments, least_mw)
    return offered(asset, values, state_of_charge, terms, limits)


def offered(
    asset: Asset, values: Doubles, state_of_charge: float, terms: Terms, limits: Limits | None = None
) -> Curve:
    """Return the curve of an hour from the water values [LEVELS] at its end."""
    at = water_value.levels(asset)
    left = asset.retention * state_of_charge

    def value(level: float) -> float:
        return float(np.interp(level, at, values))

    least, most = -asset.power, asset.power
    if limits is not None:
        least, most = _allowed(asset, left, limits)
    return curves.water_value_curve(asset, value, left, least, most, terms)


def _allowed(asset: Asset, left: float, limits: Limits) -> tuple[float, float]:
    """Return the lowest and highest MW of the first hour with which the awards can be delivered."""
    least, most = float(limits.least[0]), float(limits.most[0])
    if limits.room[0] < asset.energy:
        least = max(least, min(_mw(asset, left - float(limits.room[0])), most))
    if limits.need[0] > asset.lowest:
        most = min(most, max(_mw(asset, left - float(limits.need[0])), least))
    lowest, highest = _mw(asset, left - asset.energy), _mw(asset, left - asset.lowest)
    if least > 0:  # the energy sold day-ahead may exceed the stored energy
        least = min(least, max(highest, 0.0))
    if most < 0:
        most = max(most, min(lowest, 0.0))
    return least, most


def _mw(asset: Asset, energy: float) -> float:
    """Return the MW that, for an hour, remove `energy` MWh from the store, as far as the power allows."""
    mw = energy * asset.discharge_efficiency if energy > 0 else energy / asset.charge_efficiency
    return min(max(mw, -asset.power), asset.power)


def chosen(dollars: Mapping[str, Doubles]) -> str:
    """Return the policy that earned most in the last `TRAILING_DAYS`, or the first one if no day has passed.

    :param dollars: [days] revenue of each policy on past days, the same days for all, oldest first
    """
    return max(dollars, key=lambda name: float(dollars[name][-TRAILING_DAYS:].sum()))
