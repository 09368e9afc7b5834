"""Bid curves: output in MW that increases with the price, with a maximum number of segments.

A curve is a list of segments (MW, dollars per MWh), both increasing. At a clearing price, the asset's output
is the MW of the last segment whose price is at most the clearing price; if there is none, it is the MW of the
first segment. Negative MW charge the store.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from .storage import Asset

Curve = list[tuple[float, float]]

MARGIN = 0.05
"""Minimum advantage of a trade over later use of the energy, as a share of the water value.

Of 0, 0.05 and 0.1, the margin 0.05 earned most on NYISO's prices of 2018."""

CENT = 0.01
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Terms:
    """A market's rules for curves."""

    floor: float
    """Lowest price of a segment, in dollars per MWh"""
    cap: float
    """Highest price of a segment, in dollars per MWh"""
    most_segments: int = 10
    least_mw: float = 0.1
    """Step of the output in MW; also its smallest absolute value, apart from 0"""


def mw_at(curve: Curve, price: float) -> float:
    """Return the MW of a curve at a price."""
    return curve[max(bisect_right([at for _, at in curve], price) - 1, 0)][0]


def fixed(mw: float, floor: float) -> Curve:
    """Return the curve with the same MW at every price."""
    return [(mw, floor)]


def water_value_curve(
    asset: Asset, value: Callable[[float], float], level: float, least: float, most: float, terms: Terms
) -> Curve:
    """Return the curve that trades each block of energy if the price is better than the value of later use.

    :param value: returns, for the stored MWh after the hour, the value in dollars of one more MWh
    :param level: stored MWh after the hour if nothing is traded
    :param least: minimum output in MW
    :param most: maximum output in MW
    """
    step = terms.least_mw
    most = round(math.floor(most / step + _ROUNDING) * step, 9)
    least = min(round(math.ceil(least / step - _ROUNDING) * step, 9), most)
    idle = min(max(0.0, least), most)
    sides = (least < idle) + (idle < most)
    blocks = (terms.most_segments - 1) // max(sides, 1)
    charged = _blocks(idle, least, blocks, step)
    sold = _blocks(idle, most, blocks, step)
    moves: Curve = []
    limit = math.inf
    for before in charged[:-1]:
        worth = value(level_after(asset, level, before))
        limit = min(_down((1 - MARGIN) * asset.charge_efficiency * worth), limit - CENT)
        moves.insert(0, (before, limit))
    limit = least_sale(asset, moves[-1][1]) - CENT if moves else -math.inf
    for before, after in pairwise(sold):
        worth = value(level_after(asset, level, before))
        price = (1 + MARGIN) * worth / asset.discharge_efficiency + asset.degradation
        limit = max(_up(price), limit + CENT)
        moves.append((after, limit))
    return _within(charged[-1], moves, terms)


def level_after(asset: Asset, level: float, mw: float) -> float:
    """Return the stored MWh after an hour with an output of `mw`; `level` is the value without output."""
    stored = -mw * asset.charge_efficiency if mw < 0 else -mw / asset.discharge_efficiency
    return level + stored


def least_sale(asset: Asset, charge: float) -> float:
    """Return the lowest price in whole cents at which energy bought at `charge` is sold at a profit."""
    losses = asset.charge_efficiency * asset.discharge_efficiency
    return _down(max(charge, charge / losses)) + CENT


def _within(first: float, moves: Curve, terms: Terms) -> Curve:
    """Return the curve of `first` MW at the market's lowest price, then `moves` up to its highest price."""
    curve = [(first, terms.floor)]
    for mw, price in moves:
        if price <= terms.floor:
            curve = [(mw, terms.floor)]
        elif price <= terms.cap:
            curve.append((mw, round(price, 2)))
    return curve


def _blocks(begin: float, end: float, most: int, step: float) -> list[float]:
    """Return up to `most` + 1 MW values from `begin` to `end`, about evenly spaced multiples of `step`."""
    steps = round(abs(end - begin) / step)
    count = min(most, steps)
    sign = 1 if end > begin else -1
    parts = [steps * k // count for k in range(count + 1)] if count else [0]
    return [round(begin + sign * step * part, 9) for part in parts]


def _down(price: float) -> float:
    return math.floor(price / CENT + _ROUNDING) * CENT


def _up(price: float) -> float:
    return math.ceil(price / CENT - _ROUNDING) * CENT
