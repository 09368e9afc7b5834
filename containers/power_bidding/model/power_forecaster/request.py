"""Parsing and validation of a request's JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from typing import Any, cast
from zoneinfo import ZoneInfo

import numpy as np

from toolkit.failure import FatalError

from .curves import CENT, Terms
from .history import EPOCH, EXTERNAL, REAL_TIME, Doubles, History
from .storage import Asset

SELF_SCHEDULE, CURVES, MANAGED_CURVES = MODES = ("self_schedule", "curves", "managed_curves")
CURVE, SELECTED = REAL_TIME_POLICIES = ("curve", "selected")
LEAST_DAYS, MOST_DAYS = 42, 500
"""Minimum and maximum number of days in a request's history. Linear models need the minimum; the maximum
limits the computing time."""
AHEAD = 72
"""Maximum number of hours from a request's `now` to its `hour`."""
MOST_AWARDS = 200
MOST_SEGMENTS = 100
LONGEST = 30
"""Maximum number of characters of a request's value that an error shows."""

UNITS = {
    "price": ("$/MWh", -50_000, 50_000),
    REAL_TIME: ("$/MWh", -50_000, 50_000),
    "load": ("MW", 0, 1e7),
    "temperature": ("°C", -90, 65),
    EXTERNAL: ("$/MWh", -50_000, 50_000),
}
"""Unit, lowest and highest value of each column of the history."""
FIELDS = (
    "hour",
    "now",
    "location",
    "mode",
    "real_time_policy",
    "asset",
    "market",
    "time_zone",
    "history",
    "state_of_charge",
    "awards",
    "day_ahead",
)


class RequestError(Exception):
    """The request is invalid. The message names the field and what is allowed."""


@dataclass(frozen=True)
class Request:
    """A request. Hours are counted from 1970-01-01 UTC."""

    hour: int
    """The hour T whose real-time curve is due"""
    now: int
    location: str
    mode: str
    real_time_policy: str
    """`CURVE`, or `SELECTED` for the policy that earned most on the previous days"""
    asset: Asset
    market: Terms
    history: History
    """Day-ahead prices, feeds and the external forecast, padded with NaN to the longest column"""
    real_time: Doubles
    """Real-time prices of the history's hours"""
    level: float
    """Stored MWh at the beginning of hour T"""
    awards: dict[int, float]
    """MW sold day-ahead, by hour"""
    day: int | None
    """The market day whose day-ahead offers are due, in days since 1970-01-01"""


def parsed(given: Any) -> Request:
    """Read the JSON of a request. Raises `RequestError`."""
    body = _object(given, "the body", FIELDS)
    zone = _zone(body["time_zone"])
    asset = _asset(body["asset"])
    now, hour = _hour(body["now"], "now"), _hour(body["hour"], "hour")
    if not now < hour <= now + AHEAD:
        raise RequestError(f"hour must be from 1 to {AHEAD} hours after now, got {_shown(body['hour'])}")
    if body["mode"] not in MODES:
        raise RequestError(f"mode must be {' or '.join(MODES)}, got {_shown(body['mode'])}")
    policy = body["real_time_policy"]
    if policy not in REAL_TIME_POLICIES:
        raise RequestError(
            f"real_time_policy must be {' or '.join(REAL_TIME_POLICIES)}, got {_shown(policy)}"
        )
    if policy == SELECTED and body["mode"] != CURVES:
        raise RequestError(f"real_time_policy must be {CURVE} in the mode {body['mode']}, got {policy!r}")
    history, real_time = _history(body["history"], zone, now)
    level = _number(body["state_of_charge"], "state_of_charge", 0, asset.energy)
    return Request(
        hour=hour,
        now=now,
        location=_text(body["location"], "location"),
        mode=body["mode"],
        real_time_policy=policy,
        asset=asset,
        market=_market(body["market"]),
        history=history,
        real_time=real_time,
        level=level,
        awards=_awards(body["awards"], asset),
        day=None if body["day_ahead"] is None else _day(body["day_ahead"]),
    )


def _history(given: Any, zone: str, now: int) -> tuple[History, Doubles]:
    body = _object(given, "history", ("start", *UNITS), others=True)
    start = _hour(body["start"], "history.start")
    columns = {name: _column(body[name], name) for name in UNITS}
    price, most = columns["price"], 24 * MOST_DAYS
    if not np.isfinite(price).any():
        raise RequestError("history.price must have prices, got none")
    end = start + int(np.flatnonzero(np.isfinite(price))[-1]) + 1
    if not 24 * LEAST_DAYS <= end - start <= most:
        raise RequestError(
            f"history.price must have {LEAST_DAYS} to {MOST_DAYS} days, got {end - start} hours"
        )
    if end <= now - 24:
        raise RequestError("history.price must have a price of the 24 hours before now, or a later one")
    columns["price"] = price[: end - start]
    count = max(len(each) for each in columns.values())
    padded = {
        name: np.pad(each, (0, count - len(each)), constant_values=np.nan) for name, each in columns.items()
    }
    feeds = {name: padded[name] for name in UNITS if name not in ("price", REAL_TIME)}
    if not np.isfinite(feeds[EXTERNAL]).any():
        del feeds[EXTERNAL]
    return History(start, padded["price"], feeds, zone), padded[REAL_TIME]


def _column(given: Any, name: str) -> Doubles:
    unit, least, most = UNITS[name]
    where = f"history.{name}"
    if not isinstance(given, list) or len(given) > 24 * MOST_DAYS:
        raise RequestError(f"{where} must be a list of at most {24 * MOST_DAYS} values, one for each hour")
    values = cast(list[Any], given)
    found = np.full(len(values), np.nan)
    for at, value in enumerate(values):
        if value is not None:
            found[at] = _number(value, f"{where}[{at}] ({unit}, or null)", least, most)
    return found


def _asset(given: Any) -> Asset:
    names = [each.name for each in fields(Asset)]
    body = _object(given, "asset", names, optional=True)
    numbers = {name: _number(value, f"asset.{name}") for name, value in body.items() if value is not None}
    try:
        return Asset(**numbers).checked()
    except FatalError as error:
        raise RequestError(str(error).replace("asset: ", "asset.", 1)) from None


def _market(given: Any) -> Terms:
    names = tuple(each.name for each in fields(Terms))
    body = _object(given, "market", names)
    floor = _number(body["floor"], "market.floor", -100_000, 100_000)
    cap = _number(body["cap"], "market.cap", floor + 10 * CENT, 100_000)
    least = _number(body["least_mw"], "market.least_mw", 0.001, 1000)
    most = body["most_segments"]
    if isinstance(most, bool) or not isinstance(most, int) or not 3 <= most <= MOST_SEGMENTS:
        raise RequestError(
            f"market.most_segments must be a whole number from 3 to {MOST_SEGMENTS}, got {_shown(most)}"
        )
    return Terms(floor, cap, most, least)


def _awards(given: Any, asset: Asset) -> dict[int, float]:
    if not isinstance(given, dict) or len(cast(dict[Any, Any], given)) > MOST_AWARDS:
        raise RequestError(f"awards must be an object with at most {MOST_AWARDS} hours as keys")
    awards = cast(dict[Any, Any], given)
    return {
        _hour(hour, "each hour in awards"): _number(mw, f"awards.{_shown(hour)}", -asset.power, asset.power)
        for hour, mw in awards.items()
    }


def _object(
    given: Any, where: str, names: Any, optional: bool = False, others: bool = False
) -> dict[str, Any]:
    """Return a JSON object. Raises `RequestError` unless its fields are `names`.

    :param optional: fields may be missing
    :param others: other fields are ignored, as a new feed is deployed before the model that uses it
    """
    if not isinstance(given, dict):
        raise RequestError(f"{where} must be an object, got {_shown(given)}")
    found = cast(dict[str, Any], given)
    prefix = "" if where == "the body" else f"{where}."
    for name in found:
        if name not in names and not others:
            raise RequestError(f"{prefix}{_shown(name)} is unknown, must be one of {', '.join(names)}")
    for name in names:
        if not optional and name not in found:
            raise RequestError(f"{prefix}{name} is missing")
    return found


def _zone(given: Any) -> str:
    try:
        return ZoneInfo(_text(given, "time_zone")).key
    except (KeyError, ValueError, OSError):
        raise RequestError(
            f"time_zone must be a time zone such as America/Chicago, got {_shown(given)}"
        ) from None


def _text(given: Any, where: str) -> str:
    if not isinstance(given, str) or not given:
        raise RequestError(f"{where} must be a non-empty string, got {_shown(given)}")
    return given


def _hour(given: Any, where: str) -> int:
    try:
        moment = datetime.strptime(_text(given, where), "%Y-%m-%dT%H:%MZ").replace(tzinfo=UTC)
        hour, rest = divmod(moment.timestamp(), 3600)
        if rest == 0:
            return int(hour)
    except (ValueError, OverflowError):
        pass
    raise RequestError(f"{where} must be a whole hour such as 2022-01-31T05:00Z, got {_shown(given)}")


def _day(given: Any) -> int:
    try:
        return date.fromisoformat(_text(given, "day_ahead")).toordinal() - EPOCH
    except ValueError:
        raise RequestError(
            f"day_ahead must be a day such as 2022-02-01 or null, got {_shown(given)}"
        ) from None


def _number(given: Any, where: str, least: float = -math.inf, most: float = math.inf) -> float:
    try:
        is_number = not isinstance(given, bool) and isinstance(given, int | float) and math.isfinite(given)
        if is_number and least <= given <= most:
            return float(given)
    except OverflowError:  # an integer that is too large for a double
        pass
    bounds = "a finite number" if least == -math.inf else f"a number from {least:g} to {most:g}"
    raise RequestError(f"{where} must be {bounds}, got {_shown(given)}")


def _shown(value: Any) -> str:
    """Return a value of a request as a text of bounded length."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    text = repr(value[: LONGEST + 1] if isinstance(value, str) else value)
    return text if len(text) <= LONGEST + 2 else f"{text[:LONGEST]}..."


def hour_text(hour: int) -> str:
    """Return an hour as text, such as 2022-01-31T05:00Z."""
    return f"{datetime.fromtimestamp(3600 * hour, UTC):%Y-%m-%dT%H:%MZ}"
