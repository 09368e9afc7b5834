"""Validates the model's answer before its bid curves become offers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from power_bidding.core import charge, curves
from power_bidding.core.assets import AssetSettings, MarketSettings
from power_bidding.core.bid_ports import ModelAnswerError
from power_bidding.core.curves import Curve, CurveError
from power_bidding.core.offers import Slot
from power_feeds import hours


@dataclass(frozen=True)
class Answer:
    model: str
    """Version"""
    curves: Mapping[Slot, Curve]
    forecast: Mapping[int, float]
    """Forecast day-ahead prices in $/MWh, by hour"""


def checked(
    body: Any, wanted: list[Slot], asset: AssetSettings, market: MarketSettings, level: float
) -> Answer:
    """Check the body of the model's response, and return it as an `Answer`.

    :param wanted: the real-time hour, then the hours of the day-ahead market if it is open
    :param level: state of charge in MWh at the beginning of the real-time hour
    Raises `ModelAnswerError` that names the error.
    """
    try:
        return _read(body, wanted, asset, market, level)
    except CurveError as error:
        raise ModelAnswerError(f"the model's answer is invalid: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelAnswerError(f"the model's answer cannot be read: {error!r}") from error


def _read(
    body: Any, wanted: list[Slot], asset: AssetSettings, market: MarketSettings, level: float
) -> Answer:
    version = body["model"]
    if not isinstance(version, str) or not version:
        raise CurveError(f"model must be the model's version, a text that is not empty, got {version!r}")
    offers = [body["real_time"], *(body["day_ahead"] or [])]
    if (found := [each["hour"] for each in offers]) != (asked := [hours.text(slot.hour) for slot in wanted]):
        raise CurveError(f"hours must be {', '.join(asked)}, got {', '.join(map(str, found))}")
    accepted: dict[Slot, Curve] = {}
    for slot, each in zip(wanted, offers, strict=True):
        rules = market.rules_of(hours.market_day(slot.hour, market.time_zone))
        try:
            curve = curves.rounded(curves.curve_of(each["segments"]))
            accepted[slot] = curves.checked(curve, asset.battery, rules)
        except CurveError as error:
            raise CurveError(f"{slot.key}: {error}") from error
    check_charge(accepted, asset, level)
    _check_plan(body["plan"], asset)
    return Answer(version, accepted, _forecast(body["forecast"], market))


def check_charge(accepted: Mapping[Slot, Curve], asset: AssetSettings, level: float) -> None:
    """Raise `CurveError` if the state of charge does not allow the curves.

    A market that manages the state of charge accepts any curve within the asset's power.
    """
    if asset.mode == "managed_curves":
        return
    for slot, curve in accepted.items():
        if slot.market == "RT" and not charge.allows(curve, level, asset.battery):
            least, most = charge.limits(level, asset.battery)
            raise CurveError(
                f"{slot.key}: a battery with {level:g} MWh allows {least:g} to {most:g} MW, got {list(curve)}"
            )
    fixed = [curve[0][0] for slot, curve in accepted.items() if slot.market == "DA" and len(curve) == 1]
    if not charge.possible(fixed, asset.battery):
        raise CurveError("day_ahead: no state of charge allows this schedule")


def _check_plan(plan: Any, asset: AssetSettings) -> None:
    lengths = {len(plan[name]) for name in ("hours", "mw", "state_of_charge")}
    if len(lengths) != 1:
        raise CurveError("plan: hours, mw and state_of_charge must have the same length")
    battery = asset.battery
    for mw, level in zip(plan["mw"], plan["state_of_charge"], strict=True):
        if abs(curves.finite(mw, "plan: mw")) > battery.power + curves.TOLERANCE:
            raise CurveError(f"plan: mw must be at most {battery.power:g} in either direction, got {mw:g}")
        low, high = battery.lowest - curves.TOLERANCE, battery.energy + curves.TOLERANCE
        if not low <= curves.finite(level, "plan: state_of_charge") <= high:
            raise CurveError(
                f"plan: state_of_charge must be from {battery.lowest:g} to {battery.energy:g}, got {level:g}"
            )


def _forecast(forecast: Any, market: MarketSettings) -> dict[int, float]:
    start = hours.parse(forecast["start"])
    found: dict[int, float] = {}
    for at, price in enumerate(forecast["price"]):
        hour = start + at
        rules = market.rules_of(hours.market_day(hour, market.time_zone))
        value = curves.finite(price, "forecast: price")
        if not rules.floor <= value <= rules.cap:
            raise CurveError(f"forecast: price must be from {rules.floor:g} to {rules.cap:g}, got {value:g}")
        found[hour] = value
    return found
