"""Offers to the market: their validation, and the MW of an offer at a clearing price."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MOST_SEGMENTS = 10
Segments = list[tuple[float, float]]
"""An offer's segments: pairs of MW and price, both strictly rising."""


@dataclass(frozen=True)
class MarketAsset:
    """A storage asset in the market: power in MW, energy in MWh, efficiencies of charging and discharging."""

    name: str
    location: str
    power: float
    energy: float
    charge_efficiency: float = 1.0
    discharge_efficiency: float = 1.0

    def limited(self, mw: float, state_of_charge: float) -> float:
        """Return how much of `mw` the storage can deliver in one hour. Negative values are charging."""
        if mw > 0:
            return min(mw, state_of_charge * self.discharge_efficiency)
        return max(mw, -(self.energy - state_of_charge) / self.charge_efficiency)

    def after(self, mw: float, state_of_charge: float) -> float:
        """Return the state of charge in MWh after an hour at `mw`."""
        change = -mw / self.discharge_efficiency if mw > 0 else -mw * self.charge_efficiency
        return min(max(state_of_charge + change, 0.0), self.energy)


def cleared(segments: Sequence[tuple[float, float]], price: float) -> float:
    """Return the MW of the last segment whose price is at most `price`, or of the first segment if none
    is."""
    below = [mw for mw, asked in segments if asked <= price]
    return below[-1] if below else segments[0][0]


def checked(given: Any, asset: MarketAsset, floor: float, cap: float) -> Segments:
    """Return the segments of an offer. Raises `ValueError` with the violated rule."""
    if not isinstance(given, list) or not 1 <= len(given) <= MOST_SEGMENTS:
        raise ValueError(f"segments must be a list of 1 to {MOST_SEGMENTS} segments")
    segments: Segments = []
    for item in given:
        if not isinstance(item, list) or len(item) != 2 or not all(_number(value) for value in item):
            raise ValueError("a segment must be [mw, price], two finite numbers")
        mw, price = float(item[0]), float(item[1])
        if abs(mw) > asset.power:
            raise ValueError(f"mw must be from {-asset.power} to {asset.power}, got {mw}")
        if not floor <= price <= cap:
            raise ValueError(f"price must be from {floor} to {cap}, got {price}")
        if segments and not (mw > segments[-1][0] and price > segments[-1][1]):
            raise ValueError("mw and price must rise from segment to segment")
        segments.append((mw, price))
    return segments


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def asset_of(given: Mapping[str, Any]) -> MarketAsset:
    """Convert a JSON object with the fields of `MarketAsset`. Raises `ValueError` or `TypeError`."""
    asset = MarketAsset(**given)
    shares = (asset.charge_efficiency, asset.discharge_efficiency)
    if not (asset.power > 0 and asset.energy > 0 and all(0 < share <= 1 for share in shares)):
        raise ValueError(
            f"asset {asset.name}: power and energy must be above 0, efficiencies above 0 and at most 1"
        )
    return asset
