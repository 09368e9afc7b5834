"""Offers to a market: curves of segments, made of schedules and of water values, and their check.

A segment is (MW, $/MWh). At a clearing price the asset's MW is that of the last segment whose price is at
most that price, and of the first segment below all. Negative MW is charging.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from .storage import Asset

Segments = list[tuple[float, float]]

TICK = 0.01
"""Dollars per MWh: the step of prices."""
CLOSE = 1e-6


class OfferError(Exception):
    """An offer would break a rule of the market or of the asset. The text says which."""


@dataclass(frozen=True)
class Market:
    """Rules of a market for offers."""

    floor: float
    """$/MWh, lowest price of an offer"""
    cap: float
    """$/MWh, highest"""
    least_mw: float
    """Smallest quantity, and the step of quantities"""
    most_segments: int

    def quantity(self, mw: float) -> float:
        """Return MW in steps of `least_mw`, rounded towards zero: never more than the store holds."""
        steps = math.floor(abs(mw) / self.least_mw + CLOSE)
        return round(math.copysign(steps * self.least_mw, mw), 6) if steps else 0.0

    def price(self, dollars: float) -> float:
        """Return a price in whole cents, within floor and cap."""
        return round(min(max(dollars, self.floor), self.cap), 2)


def fixed(mw: float, market: Market) -> Segments:
    """Return the curve of a self-schedule: the same MW at every price."""
    return [(market.quantity(mw), market.floor)]


def price_taker(asset: Asset, water_value: float, market: Market) -> Segments:
    """Return the curve of an asset whose stored MWh is worth `water_value` dollars.

    It charges at prices below what the energy is worth after losses, and discharges above. With the same
    curve in all hours, a market that schedules the store itself earns the asset its optimum: charging and
    discharging cost what they cost the asset, whatever the water value.
    """
    power = market.quantity(asset.power)
    if power == 0:
        return [(0.0, market.floor)]
    buys = market.price(water_value * asset.charge_efficiency)
    buys = min(max(buys, market.floor + TICK), market.cap - TICK)
    sells = market.price(water_value / asset.discharge_efficiency + asset.degradation)
    sells = max(sells, buys + TICK)
    return [(-power, market.floor), (0.0, round(buys, 2)), (power, round(sells, 2))]


def limited(segments: Segments, least: float, most: float) -> Segments:
    """Return a curve whose MW are from `least` to `most`: what the store can take and give."""
    found: Segments = []
    for mw, price in segments:
        mw = min(max(mw, least), most)
        if found and mw <= found[-1][0]:
            continue
        found.append((mw, price))
    return found


def checked(segments: Segments, asset: Asset, market: Market) -> Segments:
    """Return the curve. Raises `OfferError` where it must not leave."""
    numbers = [number for segment in segments for number in segment]
    if not segments or len(segments) > market.most_segments:
        raise OfferError(f"a curve must have 1 to {market.most_segments} segments, got {len(segments)}")
    if not all(map(math.isfinite, numbers)):
        raise OfferError("a curve must have finite numbers")
    for mw, price in segments:
        if abs(mw) > asset.power + CLOSE:
            raise OfferError(f"MW must be from {-asset.power:g} to {asset.power:g}, got {mw:g}")
        if not market.floor <= price <= market.cap:
            raise OfferError(f"a price must be from {market.floor:g} to {market.cap:g}, got {price:g}")
        if 0 < abs(mw) < market.least_mw - CLOSE:
            raise OfferError(f"MW must be 0 or at least {market.least_mw:g}, got {mw:g}")
    for (low, cheap), (high, dear) in pairwise(segments):
        if high <= low or dear <= cheap:
            raise OfferError(
                f"segments must increase in MW and in price, got {low:g}@{cheap:g}, {high:g}@{dear:g}"
            )
    return segments
