"""The value of stored energy with uncertain future prices.

A stochastic dynamic program over the levels of the store: in each step a price is drawn, the asset trades,
and the value of one more MWh is computed from its value after the trade (Zheng, Jaworski and Xu, 2022).
Without errors of the expected prices the result is, for all levels, the dual of the linear program in
`storage.py`, up to the resolution of the levels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .history import Doubles
from .storage import Asset

LEVELS = 41
"""Number of levels of the store for which the value is computed."""
STEPS = 2
"""Number of steps in an hour, each with one price. Of 1, 2 and 4 steps, 2 earned most at NYISO in 2018."""
ERROR_SHARE = 0.5
"""Factor that multiplies past price errors. Of 0.5, 0.7 and 1, 0.5 earned most at NYISO in 2018."""

CUTS = (0, 0.01, 0.05, 0.15, 0.3, 0.5, 0.7, 0.85, 0.95, 0.99, 1)
"""Quantiles between which errors are averaged. They are closer at the ends, where the price spikes are."""
BEYOND = 1e6
"""Value of one more MWh below the lowest level, in dollars; above the highest level, minus this value."""


@dataclass(frozen=True)
class Errors:
    """Distribution of the differences of real-time prices from the expected prices."""

    dollars: Doubles
    """[K] dollars per MWh"""
    shares: Doubles
    """[K] probabilities"""

    @classmethod
    def none(cls) -> Errors:
        return cls(np.zeros(1), np.ones(1))

    @classmethod
    def seen(cls, differences: Doubles) -> Errors:
        """Return the distribution that is computed from past differences.

        :param differences: of real-time from expected prices, dollars per MWh, of any shape, NaN if missing
        """
        ordered = np.sort(differences[np.isfinite(differences)])
        ends = np.unique(np.round(np.array(CUTS) * len(ordered)).astype(int))
        if len(ends) < 2:
            return cls.none()
        means = np.add.reduceat(ordered, ends[:-1]) / np.diff(ends)
        return cls(ERROR_SHARE * means, np.diff(ends) / len(ordered))


@dataclass(frozen=True)
class Limits:
    """Limits of real-time trades in T hours because of day-ahead awards."""

    least: Doubles
    """[T] minimum output in MW"""
    most: Doubles
    """[T] maximum output in MW"""
    need: Doubles
    """[T] minimum stored MWh at the end of each hour, for later awards"""
    room: Doubles
    """[T] maximum stored MWh at the end of each hour, for later purchases"""

    @classmethod
    def of(cls, asset: Asset, awards: Doubles) -> Limits:
        """Return the limits that keep the awards.

        An hour whose award is a sale sells at least the award. An hour whose award is a purchase buys at
        least the award. The energy that later awards sell must be stored, or be bought by earlier awards.
        Other future purchases do not count.

        :param awards: [T] MW, NaN or 0 for hours without an award
        """
        awards = np.nan_to_num(awards)
        hours = len(awards)
        least = np.where(awards > 0, np.minimum(awards, asset.power), -asset.power)
        most = np.where(awards < 0, np.maximum(awards, -asset.power), asset.power)
        need, room = np.full(hours, asset.lowest), np.full(hours, asset.energy)
        for hour in range(hours - 1, 0, -1):
            mw = awards[hour]
            taken = mw * asset.charge_efficiency if mw < 0 else mw / asset.discharge_efficiency
            before = np.array([need[hour] + taken, room[hour] + taken]) / asset.retention
            need[hour - 1], room[hour - 1] = np.clip(before, asset.lowest, asset.energy)
        return cls(least, most, need, room)


def levels(asset: Asset) -> Doubles:
    """Return the stored MWh for which values are computed, [LEVELS]."""
    return np.linspace(asset.lowest, asset.energy, LEVELS)


def water_values(asset: Asset, prices: Doubles, errors: Errors, limits: Limits | None = None) -> Doubles:
    """Return the value in dollars of one more MWh stored at the end of the first hour, [B, LEVELS].

    :param prices: [B, T] expected dollars per MWh for B curves; the price of the first hour has no effect
    :param limits: limits of trades in the T hours, the same for all B curves
    """
    hours = prices.shape[1]
    limits = limits or Limits.of(asset, np.zeros(hours))
    at = levels(asset)
    values = _bounded(np.zeros((len(prices), LEVELS)), at, limits, hours - 1)
    for hour in range(hours - 1, 0, -1):
        least, most = limits.least[hour], limits.most[hour]
        idle = min(max(0.0, least), most)
        step = _Step(asset, at, idle, least, most)
        drawn = prices[:, hour, None, None] + errors.dollars
        for _ in range(STEPS):
            values = step.before(values, drawn) @ errors.shares
        values = _bounded(values * step.kept, at, limits, hour - 1)
    return values


def _bounded(values: Doubles, at: Doubles, limits: Limits, hour: int) -> Doubles:
    """Return the values, replaced by `BEYOND` or -`BEYOND` at levels that later awards do not allow."""
    slack = 1e-9
    values = np.where(at < limits.need[hour] - slack, BEYOND, values)
    return np.where(at > limits.room[hour] + slack, -BEYOND, values)


class _Step:
    """A part of an hour, with one price and one trade."""

    def __init__(self, asset: Asset, at: Doubles, idle: float, least: float, most: float):
        self.asset = asset
        self.kept = asset.retention
        left = at - (1 - asset.retention) * at / STEPS
        self._after = [self._positions(at, left, mw / STEPS) for mw in (idle, least, most)]

    def before(self, values: Doubles, prices: Doubles) -> Doubles:
        """Return the values before the step at each price, [B, LEVELS, K].

        :param values: [B, LEVELS] after the step
        :param prices: [B, 1, K]
        """
        idle, charged, sold = (_looked_up(values, each)[:, :, None] for each in self._after)
        sale = (prices - self.asset.degradation) * self.asset.discharge_efficiency
        purchase = prices / self.asset.charge_efficiency
        return np.where(
            sale > idle,
            np.minimum(sale, np.maximum(sold, idle)),
            np.minimum(idle, np.maximum(purchase, charged)),
        )

    def _positions(self, at: Doubles, left: Doubles, energy: float) -> Doubles:
        """Return, for each level, the position among the levels to which a trade of `energy` MWh leads."""
        asset = self.asset
        taken = energy * asset.charge_efficiency if energy < 0 else energy / asset.discharge_efficiency
        return (left - taken - at[0]) / (at[1] - at[0])


def _looked_up(values: Doubles, positions: Doubles) -> Doubles:
    """Return the values at positions between the levels, by interpolation."""
    last, slack = LEVELS - 1, 1e-9
    below = np.clip(np.floor(positions + slack).astype(int), 0, last)
    part = np.clip(positions - below, 0, 1)
    found = values[:, below] * (1 - part) + values[:, np.minimum(below + 1, last)] * part
    found[:, positions < -slack] = BEYOND
    found[:, positions > last + slack] = -BEYOND
    return found
