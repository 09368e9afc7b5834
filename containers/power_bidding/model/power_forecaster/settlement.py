"""Revenue of a curve at real-time prices, and revenue of perfect foresight."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .curves import Curve
from .history import Doubles
from .storage import Asset, Scheduler


def settled(
    curve: Curve, prices: Sequence[float], level: float, asset: Asset, intervals: int
) -> tuple[float, float]:
    """Clear a curve at each interval's price; return the dollars earned and the stored MWh afterwards.

    In each interval the output is limited by the stored energy.

    :param prices: dollars per MWh of at most an hour's intervals
    :param level: stored MWh before the first interval
    :param intervals: number of intervals in an hour
    """
    steps = [at for _, at in curve]
    length, kept, dollars = 1 / intervals, asset.retention ** (1 / intervals), 0.0
    for price in prices:
        level *= kept
        energy = curve[max(bisect_right(steps, price) - 1, 0)][0] * length
        if energy > 0:
            stored = min(energy / asset.discharge_efficiency, max(level - asset.lowest, 0.0))
            energy = stored * asset.discharge_efficiency
            level -= stored
            dollars -= asset.degradation * energy
        elif energy < 0:
            stored = min(-energy * asset.charge_efficiency, asset.energy - level)
            energy = -stored / asset.charge_efficiency
            level += stored
        dollars += price * energy
    return dollars, level


def foresight(asset: Asset, prices: Doubles, periods: Sequence[slice]) -> Doubles:
    """Return the revenue of perfect foresight in each hour, by a separate linear program for each period.

    :param prices: [hours, intervals] dollars per MWh
    :param periods: slices of the hours; the store is at its lowest level before each slice
    """
    dollars = np.zeros(len(prices))
    intervals = prices.shape[1]
    # in the linear program, an hour stands for an interval, and a MWh for the energy of 1 MW during an
    # interval
    scaled = replace(
        asset,
        energy=asset.energy * intervals,
        lowest=asset.lowest * intervals,
        retention=asset.retention ** (1 / intervals),
    )
    for period in periods:
        known = prices[period]
        found = Scheduler(scaled, known.size).solve(known.ravel(), scaled.lowest)
        earned = found.net * known.ravel() - asset.degradation * found.discharge
        dollars[period] = earned.reshape(known.shape).sum(1) / intervals
    return dollars
