"""Offers to a market: curves of segments from schedules and from water values, and their validation.

A segment is (MW, $/MWh). At a clearing price, the asset's output is the MW of the last segment whose price is
at most the clearing price; if there is none, it is the MW of the first segment. Negative MW charge the store.
"""

from __future__ import annotations

import math
from itertools import pairwise

from .curves import CENT, Curve, Terms
from .storage import Asset

CLOSE = 1e-6


class OfferError(Exception):
    """An offer would break a rule of the market or of the asset. The message names the rule."""


def quantity(mw: float, terms: Terms) -> float:
    """Return MW in steps of `least_mw`, rounded towards zero, so that the energy is always available."""
    steps = math.floor(abs(mw) / terms.least_mw + CLOSE)
    return round(math.copysign(steps * terms.least_mw, mw), 6) if steps else 0.0


def self_scheduled(mw: float, terms: Terms) -> Curve:
    """Return the curve of a self-schedule: the same MW at every price."""
    return [(quantity(mw, terms), terms.floor)]


def price_taker(asset: Asset, water_value: float, terms: Terms) -> Curve:
    """Return the curve of an asset whose stored energy is worth `water_value` dollars per MWh.

    The asset charges at prices below this value and discharges at prices above it, with losses and
    degradation taken into account. If the market schedules the store, this curve in all hours leads to the
    asset's optimal schedule, with any water value: the curve's two prices differ exactly by the asset's
    costs.
    """
    power = quantity(asset.power, terms)
    if power == 0:
        return [(0.0, terms.floor)]
    buys = min(max(water_value * asset.charge_efficiency, terms.floor + CENT), terms.cap - CENT)
    sells = min(water_value / asset.discharge_efficiency + asset.degradation, terms.cap)
    buys, sells = round(buys, 2), max(round(sells, 2), round(buys, 2) + CENT)
    return [(-power, terms.floor), (0.0, buys), (power, round(sells, 2))]


def limited(segments: Curve, least: float, most: float) -> Curve:
    """Return the curve with its MW limited to the range from `least` to `most`."""
    found: Curve = []
    for mw, price in segments:
        mw = min(max(mw, least), most)
        if found and mw <= found[-1][0]:
            continue
        found.append((mw, price))
    return found


def checked(segments: Curve, asset: Asset, terms: Terms) -> Curve:
    """Return the curve. Raises `OfferError` if it breaks a rule of the market or of the asset."""
    numbers = [number for segment in segments for number in segment]
    if not segments or len(segments) > terms.most_segments:
        raise OfferError(f"a curve must have 1 to {terms.most_segments} segments, got {len(segments)}")
    if not all(map(math.isfinite, numbers)):
        raise OfferError("a curve must have finite numbers")
    for mw, price in segments:
        if abs(mw) > asset.power + CLOSE:
            raise OfferError(f"MW must be from {-asset.power:g} to {asset.power:g}, got {mw:g}")
        if not terms.floor <= price <= terms.cap:
            raise OfferError(f"a price must be from {terms.floor:g} to {terms.cap:g}, got {price:g}")
        if 0 < abs(mw) < terms.least_mw - CLOSE:
            raise OfferError(f"MW must be 0 or at least {terms.least_mw:g}, got {mw:g}")
    for (low, cheap), (high, dear) in pairwise(segments):
        if high <= low or dear <= cheap:
            raise OfferError(
                f"segments must increase in MW and in price, got {low:g}@{cheap:g}, {high:g}@{dear:g}"
            )
    return segments
