"""Bid curves: cleared MW, and the rules of offers.

A curve is a list of segments (MW, $/MWh), both strictly increasing. At a clearing price the asset delivers
the MW of the last segment whose price is at most the clearing price; below the first price, the MW of the
first segment. Charging is below 0 MW. A self-schedule is one segment at the floor price.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from power_bidding.core.assets import Battery, Rules

Segment = tuple[float, float]
Curve = tuple[Segment, ...]
DIGITS = 6
TOLERANCE = 10.0**-DIGITS
"""Tolerance of the optimizer's bounds, in MW and MWh."""


class CurveError(ValueError):
    """The curve must not be sent. The message names the rule that the curve breaks."""


def cleared(curve: Curve, price: float) -> float:
    """Return the asset's MW at a clearing price in $/MWh."""
    mw = curve[0][0]
    for segment_mw, segment_price in curve:
        if segment_price > price:
            break
        mw = segment_mw
    return mw


def curve_of(value: Any) -> Curve:
    """Return the curve in a JSON value. Raises `CurveError` if it is not a curve of finite numbers."""
    if not isinstance(value, list) or not value:
        raise CurveError("segments must be a list of at least one [MW, price]")
    return tuple(_segment(each) for each in value)


def _segment(value: Any) -> Segment:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise CurveError(f"a segment must be [MW, price], got {value!r}")
    mw, price = value
    return finite(mw, "MW"), finite(price, "price")


def finite(value: Any, name: str) -> float:
    """Return the number. Raises `CurveError` if the value is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise CurveError(f"{name} must be a finite number, got {value!r}")
    return float(value)


def rounded(curve: Curve) -> Curve:
    """Return the curve rounded to `DIGITS`, because the optimizer may exceed bounds by its tolerance."""
    return tuple((round(mw, DIGITS) + 0.0, round(price, DIGITS) + 0.0) for mw, price in curve)


def checked(curve: Curve, battery: Battery, rules: Rules) -> Curve:
    """Return the curve. Raises `CurveError`, which names the rule that the curve breaks."""
    if not 1 <= len(curve) <= rules.most_segments:
        raise CurveError(f"a curve must have from 1 to {rules.most_segments} segments, got {len(curve)}")
    for mw, price in curve:
        finite(mw, "MW")
        finite(price, "price")
        if not rules.floor <= price <= rules.cap:
            raise CurveError(f"price must be from {rules.floor:g} to {rules.cap:g}, got {price:g}")
        if abs(mw) > battery.power:
            raise CurveError(f"MW must be from {-battery.power:g} to {battery.power:g}, got {mw:g}")
        if mw and abs(mw) < rules.least_mw:
            raise CurveError(f"MW must be 0 or at least {rules.least_mw:g} in either direction, got {mw:g}")
    for name, at in (("MW", 0), ("price", 1)):
        values = [segment[at] for segment in curve]
        if any(after <= before for before, after in pairwise(values)):
            raise CurveError(f"{name} must increase from segment to segment, got {values}")
    _check_spread(curve, battery)
    return curve


def _check_spread(curve: Curve, battery: Battery) -> None:
    """Raise `CurveError` if charging at the highest charge price and selling at the lowest sell price loses
    money."""
    charging = [price for mw, price in curve if mw < 0]
    selling = [price for mw, price in curve if mw > 0]
    if charging and selling and not max(charging) < battery.round_trip * min(selling):
        raise CurveError(
            "the highest charge price must be below the lowest sell price after losses, got"
            f" {max(charging):g} and {min(selling):g} times {battery.round_trip:g}"
        )


def plain(curve: Sequence[Segment]) -> list[list[float]]:
    """Return the curve as lists, for JSON."""
    return [[mw, price] for mw, price in curve]
