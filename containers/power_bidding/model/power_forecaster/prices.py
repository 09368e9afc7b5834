"""Expected prices of the next hours. Expected day-ahead prices are the published prices, then forecasts.
Expected real-time prices are these prices plus an expected spread."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np

from .history import EPOCH, Doubles, History
from .panel import Panel
from .real_time import ERROR_DAYS, SPREAD_HOURS, expected_prices
from .request import Request, RequestError
from .trained import Fit
from .water_value import Errors


@dataclass(frozen=True)
class Outlook:
    """Day-ahead prices: known prices, then forecasts."""

    history: History
    """Ends with the end of a market day. No price from `published` on is missing."""
    published: int
    """Beginning of the first market day that is not completely published, in hours since 1970-01-01 UTC"""

    @property
    def start(self) -> int:
        return self.history.start

    @property
    def end(self) -> int:
        return self.start + len(self.history.prices)

    def between(self, begin: int, end: int) -> Doubles:
        """Return the prices of the hours from `begin` to before `end`."""
        return self.history.prices[begin - self.start : end - self.start]


def day_begin(day: int, zone: str) -> int:
    """Return the first hour of a market day, in hours since 1970-01-01 UTC."""
    return round(datetime.fromordinal(EPOCH + day).replace(tzinfo=ZoneInfo(zone)).timestamp() / 3600)


def day_of(hour: int, zone: str) -> int:
    """Return the market day of an hour, in days since 1970-01-01."""
    return datetime.fromtimestamp(3600 * hour, ZoneInfo(zone)).toordinal() - EPOCH


def outlook(fit: Fit, request: Request, until: int) -> Outlook:
    """Return prices up to the end of the market day that contains the hour before `until`.

    Missing hours of the first market day that is not completely published are forecast from the days before
    it. For each later day, the forecasts of the days before it are used like published prices. All forecasts
    are limited to the market's floor and cap.
    """
    history, market = request.history, request.market
    known = np.flatnonzero(np.isfinite(history.prices))
    last = history.start + int(known[-1]) + 1
    first_day = day_of(last, history.zone)
    published = day_begin(first_day, history.zone)
    last_day = day_of(until - 1, history.zone)
    found = _cut(history, published)
    for day in range(first_day, last_day + 1):
        end = day_begin(day + 1, history.zone)
        longer = _extended(found, history, end)
        panel = Panel.of(longer)
        row = int(np.searchsorted(panel.days.dates, day))
        prices, hours = longer.prices.copy(), panel.days.hours(row)
        forecast = np.clip(fit.forecast(panel, row), market.floor, market.cap)
        prices[hours] = panel.days.spread(row, forecast)
        seen = history.prices[hours]  # prices of a partly published day
        prices[hours][: len(seen)] = np.where(np.isfinite(seen), seen, prices[hours][: len(seen)])
        found = replace(longer, prices=prices)
    return Outlook(_filled(found), published)


def _cut(history: History, end: int) -> History:
    count = end - history.start
    return replace(
        history,
        prices=history.prices[:count],
        feeds={name: feed[:count] for name, feed in history.feeds.items()},
    )


def _extended(found: History, given: History, end: int) -> History:
    """Return the history `found` extended to `end`: new hours have no price, and feeds come from `given`."""
    count = end - found.start
    prices = np.pad(found.prices, (0, count - len(found.prices)), constant_values=np.nan)
    feeds: dict[str, Doubles] = {}
    for name, feed in given.feeds.items():
        known = feed[:count]
        feeds[name] = np.pad(known, (0, count - len(known)), constant_values=np.nan)
    return History(found.start, prices, feeds, found.zone)


def _filled(history: History) -> History:
    """Return the history with earlier prices of the same local hour in place of missing prices."""
    panel = Panel.of(history)
    prices = history.prices.copy()
    for row in range(len(panel.days)):
        hours = panel.days.hours(row)
        if not np.isfinite(prices[hours]).all():
            spread = panel.days.spread(row, panel.prices[row])
            prices[hours] = np.where(np.isfinite(prices[hours]), prices[hours], spread)
    return replace(history, prices=prices)


@dataclass(frozen=True)
class RealTime:
    """Real-time prices that are expected when the curve for the request's hour is due."""

    prices: Doubles
    """[hours] from the request's hour on, dollars per MWh"""
    errors: Errors
    """Possible differences of the real-time prices from `prices`"""


def expected_real_time(request: Request, found: Outlook, hours: int) -> RealTime:
    """Return the expected real-time prices of `hours` hours from the request's hour on, and their errors.

    A price is the hour's day-ahead price, published or forecast, plus a share of the mean spread (real-time
    minus day-ahead price) of the last `SPREAD_HOURS` hours. The errors are the spreads of the last
    `ERROR_DAYS` days.
    """
    day_ahead = found.between(request.hour, request.hour + hours)
    if len(day_ahead) != hours or not np.isfinite(day_ahead).all():
        raise RequestError("history.price must have prices up to the day before hour")
    seen = max(request.now + 1 - found.start, 0)
    count = min(seen, len(request.real_time), len(request.history.prices))
    difference = request.real_time[:count] - request.history.prices[:count]
    last = difference[max(seen - SPREAD_HOURS, 0) :]
    last = last[np.isfinite(last)]
    past = difference[max(seen - 24 * ERROR_DAYS, 0) :]
    prices = expected_prices(day_ahead, float(last.mean()) if len(last) else 0.0)
    return RealTime(prices, Errors.seen(past[np.isfinite(past)]))
