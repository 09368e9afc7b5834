"""The offers for a request: prices are forecast, a schedule is computed from them, and curves are made."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import real_time, selection
from .curves import Curve, Terms
from .history import Doubles
from .offers import checked, limited, price_taker, quantity, self_scheduled
from .prices import Outlook, RealTime, day_begin, day_of, expected_real_time, outlook
from .real_time import HORIZON
from .request import (
    CURVE,
    MANAGED_CURVES,
    SELECTED,
    SELF_SCHEDULE,
    Request,
    RequestError,
    hour_text,
)
from .storage import Asset, Scheduler
from .trained import SERVED, Trained


def answer(trained: Trained, request: Request) -> dict[str, Any]:
    """Return the offers as JSON. Raises `RequestError`, `OptimizationError` and `OfferError`."""
    if request.location not in trained.locations:
        raise RequestError(f"location must be one of {', '.join(sorted(trained.locations))}")
    if request.history.zone != trained.zone:
        raise RequestError(f"time_zone must be {trained.zone}, which the model was trained with")
    zone, day = trained.zone, request.day
    until = request.hour + HORIZON
    if day is not None:
        until = max(until, day_begin(day + 1, zone))
        if not request.now < day_begin(day, zone) <= request.hour + 3 * 24:
            raise RequestError(
                "day_ahead must be a market day that begins after now, and at most 3 days after hour"
            )
    found = outlook(trained.locations[request.location][SERVED], request, until)
    if day is not None and day_begin(day, zone) < found.published:
        raise RequestError("day_ahead must be a market day without prices in history.price")
    asset = request.asset

    begin = day_begin(day, zone) if day is not None else request.hour
    hours = max(HORIZON, begin - request.hour)
    expected = expected_real_time(request, found, hours)
    awards = np.array([request.awards.get(request.hour + k, np.nan) for k in range(hours)])
    before = request.awards.get(request.hour - 1)
    plan = Scheduler(asset, hours).solve(expected.prices, request.level, before=before)
    offers: list[dict[str, Any]] | None = None
    if day is not None:
        net = np.where(np.isfinite(awards), awards, plan.net)[: max(begin - request.hour, 0)]
        level, before = level_after(asset, request.level, net), float(net[-1]) if len(net) else None
        offers = _day_ahead(request, found, begin, day_begin(day + 1, zone), level, before)
    policy = _policy(request, found)
    if policy == CURVE:
        segments = _curve(request, expected, awards)
    else:
        mw = _of_the_day(request, found) if policy == selection.SCHEDULE else float(plan.net[0])
        segments = _fixed(request, mw, awards)
    return {
        "model": trained.version,
        "real_time": {
            "hour": hour_text(request.hour),
            "policy": policy,
            "segments": _sent(segments, request),
        },
        "day_ahead": offers,
        "forecast": {
            "start": hour_text(found.published),
            "price": _rounded(found.between(found.published, found.end), 4),
        },
        "plan": {
            "hours": [hour_text(request.hour + k) for k in range(hours)],
            "mw": _rounded(plan.net, 4),
            "state_of_charge": _rounded(plan.level, 4),
        },
    }


def _day_ahead(
    request: Request, found: Outlook, begin: int, end: int, level: float, before: float | None
) -> list[dict[str, Any]]:
    """Return the offers for the hours of a market day that begins with `level` MWh stored."""
    asset, market = request.asset, request.market
    prices = found.between(begin, end)
    if request.mode == MANAGED_CURVES:
        curves = [price_taker(asset, 0.0, market)] * (end - begin)
    # self-schedules, because curves with prices are cleared hour by hour and might sell the same energy twice
    else:
        schedule = Scheduler(asset, end - begin).solve(prices, level, before=before)
        curves = [self_scheduled(mw, market) for mw in deliverable(asset, schedule.net, level, market)]
    return [
        {"hour": hour_text(begin + k), "segments": _sent(curve, request)} for k, curve in enumerate(curves)
    ]


def _policy(request: Request, found: Outlook) -> str:
    """Return the real-time policy for the request's hour."""
    if request.mode == SELF_SCHEDULE:
        return selection.ROLLING
    return selection.policy_of(request, found) if request.real_time_policy == SELECTED else CURVE


def _of_the_day(request: Request, found: Outlook) -> float:
    """Return the MW of the request's hour in the best schedule for the rest of its market day.

    The schedule is made with day-ahead prices.
    """
    zone = found.history.zone
    prices = found.between(request.hour, day_begin(day_of(request.hour, zone) + 1, zone))
    return float(Scheduler(request.asset, len(prices)).solve(prices, request.level).net[0])


def _fixed(request: Request, mw: float, awards: Doubles) -> Curve:
    """Return a curve for the request's hour with the same MW at every price: the award, or else `mw`.

    The MW are limited to what the store can deliver.
    """
    least, most = reach(request.asset, request.level)
    mw = float(awards[0]) if np.isfinite(awards[0]) else mw
    return self_scheduled(min(max(mw, least), most), request.market)


def _curve(request: Request, expected: RealTime, awards: Doubles) -> Curve:
    """Return the curve for the request's hour that is based on the value of the stored energy."""
    asset, market = request.asset, request.market
    least, most = reach(asset, request.level)
    found = real_time.curve(
        asset,
        expected.prices[:HORIZON],
        request.level,
        floor=market.floor,
        cap=market.cap,
        most_segments=market.most_segments,
        least_mw=market.least_mw,
        awards=awards[:HORIZON],
        errors=expected.errors,
    )
    if request.mode == MANAGED_CURVES:  # the market manages the state of charge
        return found
    return limited(found, quantity(least, market), quantity(most, market))


def deliverable(asset: Asset, net: Doubles, level: float, terms: Terms) -> list[float]:
    """Round a schedule's MW to the market's steps so that the battery can still deliver in every hour.

    Rounding each hour independently could sell more energy than the rounded purchases store.

    :param net: [hours] MW sold, purchases below zero
    :param level: stored MWh before the first hour
    """
    rounded: list[float] = []
    for mw in net.tolist():
        least, most = reach(asset, level)
        rounded.append(quantity(min(max(mw, least), most), terms))
        level = level_after(asset, level, np.array(rounded[-1:]))
    return rounded


def reach(asset: Asset, level: float) -> tuple[float, float]:
    """Return the minimum and maximum MW that a store with `level` MWh can deliver for an hour."""
    left = asset.retention * level
    most = min(asset.power, max(left - asset.lowest, 0.0) * asset.discharge_efficiency)
    least = -min(asset.power, max(asset.energy - left, 0.0) / asset.charge_efficiency)
    return least, most


def level_after(asset: Asset, level: float, net: Doubles) -> float:
    """Return the stored MWh after hours in which `net` MW were sold, as far as the store can deliver them."""
    for mw in net.tolist():
        least, most = reach(asset, level)
        mw = min(max(mw, least), most)
        stored = -asset.charge_efficiency * mw if mw < 0 else -mw / asset.discharge_efficiency
        level = min(max(asset.retention * level + stored, 0.0), asset.energy)
    return level


def _sent(segments: Curve, request: Request) -> list[list[float]]:
    return [[mw, price] for mw, price in checked(segments, request.asset, request.market)]


def _rounded(values: Doubles, digits: int) -> list[float]:
    if not np.isfinite(values).all():
        raise RequestError("history must have enough values for a forecast")
    return np.round(values, digits).tolist()
