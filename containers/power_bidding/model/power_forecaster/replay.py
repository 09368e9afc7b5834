"""Real-time trading on a price history, hour by hour, with the data known 75 minutes before each hour."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from . import curves, real_time, water_value
from .curves import Curve, Terms
from .history import Doubles
from .real_time import ERROR_DAYS, HORIZON, LEAD_MINUTES, SPREAD_HOURS
from .settlement import settled
from .storage import Asset, Scheduler
from .water_value import Errors

DAY = 24
BEFORE = -(-LEAD_MINUTES // 60)
"""Number of hours between the hour in which a curve is fixed and the hour in which the curve applies."""

Policy = Callable[[int, Doubles, float], Curve]
"""Returns the curve of an hour, from the hour, the expected prices [HORIZON] and the MWh stored
before that hour."""


@dataclass(frozen=True)
class Market:
    """Prices of consecutive whole days, each with 24 hours."""

    real_time: Doubles
    """[hours, intervals] dollars per MWh"""
    day_ahead: Doubles
    """[hours] dollars per MWh"""
    published: int
    """Hour of the day from which the day-ahead prices of the next day are known"""

    @property
    def intervals(self) -> int:
        """Number of intervals in an hour."""
        return self.real_time.shape[1]

    @property
    def seen(self) -> int:
        """Number of intervals of the current hour that have passed when a curve is fixed."""
        return self.intervals * (60 * BEFORE - LEAD_MINUTES) // 60

    def spread(self, hour: int) -> float:
        """Return the mean spread of the last `SPREAD_HOURS` before the curve of `hour` is fixed.

        The spread is the real-time minus the day-ahead price.
        """
        end = (hour - BEFORE) * self.intervals + self.seen
        at = np.arange(max(end - SPREAD_HOURS * self.intervals, 0), end)
        if not len(at):
            return 0.0
        return float((self.real_time.ravel()[at] - self.day_ahead[at // self.intervals]).mean())

    def known(self, hour: int) -> int:
        """Return the first hour whose day-ahead price is not published when the curve of `hour` is fixed."""
        day, now = divmod(max(hour - BEFORE, 0), DAY)
        return min(DAY * (day + (2 if now >= self.published else 1)), len(self.day_ahead))

    def expected(self, hour: int) -> Doubles:
        """Return the expected prices when the curve of `hour` is fixed, [HORIZON].

        For days without published day-ahead prices, the prices of the last published day are expected.
        """
        known = self.known(hour)
        at = np.arange(hour, hour + HORIZON)
        at -= DAY * np.maximum(-(-(at + 1 - known) // DAY), 0)
        return real_time.expected_prices(self.day_ahead[at], self.spread(hour))

    def errors(self, hour: int) -> Errors:
        """Return the differences of real-time and day-ahead prices on the last `ERROR_DAYS` days.

        Only days that have ended when the curve of `hour` is fixed are used.
        """
        end = self.error_day(hour) * DAY
        past = slice(max(end - ERROR_DAYS * DAY, 0), end)
        return Errors.seen(self.real_time[past] - self.day_ahead[past, None])

    @staticmethod
    def error_day(hour: int) -> int:
        """Return the number of whole past days when the curve of `hour` is fixed."""
        return max(hour - BEFORE, 0) // DAY


@dataclass(frozen=True)
class Replay:
    """Results of T hours."""

    dollars: Doubles
    """[T] revenue"""
    levels: Doubles
    """[T] stored MWh at the end of each hour"""
    curves: list[Curve]

    @property
    def daily(self) -> Doubles:
        """Dollars of each day."""
        return self.dollars.reshape(-1, DAY).sum(1)


def replay(market: Market, asset: Asset, policy: Policy, begin: int, end: int) -> Replay:
    """Trade in the hours `begin` to `end`. The store is at its lowest level before the first hour."""
    intervals, seen = market.intervals, market.seen
    dollars, levels = np.zeros(end - begin), np.zeros(end - begin)
    made: list[Curve] = []

    def settle(hour: int, prices: list[float], level: float) -> tuple[float, float]:
        if hour < begin:
            return 0.0, level
        return settled(made[hour - begin], prices, level, asset, intervals)

    # the stored MWh: `level` after the last settled hour, `known` at the time when the next curve is fixed
    level = known = asset.lowest
    for hour in range(begin, end):
        # project the stored MWh to the beginning of the hour with the curves that are already fixed
        projected, expected = known, market.expected(hour)
        if hour - BEFORE >= begin:
            last = float(market.real_time[hour - BEFORE, seen - 1])
            _, projected = settle(hour - BEFORE, [last] * (intervals - seen), projected)
        for between in range(hour - BEFORE + 1, hour):
            price = float(market.day_ahead[between]) + real_time.SPREAD_SHARE * market.spread(hour)
            _, projected = settle(between, [price] * intervals, projected)
        made.append(policy(hour, expected, projected))
        # settle the previous hour: up to the time when the next curve is fixed, then to the hour's end
        if hour > begin:
            prices = market.real_time[hour - 1].tolist()
            first, known = settle(hour - 1, prices[:seen], level)
            rest, level = settle(hour - 1, prices[seen:], known)
            dollars[hour - 1 - begin], levels[hour - 1 - begin] = first + rest, level
    dollars[-1], levels[-1] = settle(end - 1, market.real_time[end - 1].tolist(), level)
    return Replay(dollars, levels, made)


def rolling(asset: Asset, terms: Terms) -> Policy:
    """Return the policy that offers the MW of the best schedule of the next hours, at any price."""
    program = Scheduler(asset, HORIZON)

    def policy(hour: int, expected: Doubles, level: float) -> Curve:
        return curves.fixed(float(program.solve(expected, level).net[0]), terms.floor)

    return policy


def self_schedule(market: Market, asset: Asset, terms: Terms) -> Policy:
    """Return the policy that follows, for a whole day, the best schedule for the day's day-ahead prices."""
    programs: dict[int, Scheduler] = {}
    plan: dict[int, float] = {}

    def policy(hour: int, expected: Doubles, level: float) -> Curve:
        if hour not in plan:
            hours = range(hour, (hour // DAY + 1) * DAY)
            program = programs.setdefault(len(hours), Scheduler(asset, len(hours)))
            net = program.solve(market.day_ahead[hours.start : hours.stop], level).net
            plan.clear()
            plan.update(zip(hours, net.tolist(), strict=True))
        return curves.fixed(plan[hour], terms.floor)

    return policy


def by_water_value(market: Market, asset: Asset, terms: Terms) -> Policy:
    """Return the policy that offers the curves of `real_time.curve`, with the market's past price errors."""
    values: dict[int, Doubles] = {}

    def policy(hour: int, expected: Doubles, level: float) -> Curve:
        if hour not in values:
            # hours with the same errors are computed together, which is faster; the results are the same
            day = market.error_day(hour)
            hours = [each for each in range(hour, hour + DAY + BEFORE) if market.error_day(each) == day]
            hours = [each for each in hours if each < len(market.day_ahead)]
            rows = np.array([market.expected(each) for each in hours])
            found = water_value.water_values(asset, rows, market.errors(hour))
            values.clear()
            values.update(zip(hours, found, strict=True))
        return real_time.offered(asset, values[hour], level, terms)

    return policy


def selected(policies: Mapping[str, Policy], daily: Mapping[str, Doubles], begin_day: int) -> Policy:
    """Return the policy that follows, on each day, the policy that earned most on the days before.

    :param daily: [days] dollars that each policy earns if it is used on all days, from `begin_day` on
    """

    def policy(hour: int, expected: Doubles, level: float) -> Curve:
        # when the first curve of a day is fixed, the day before has not ended yet
        over = max(hour // DAY - 1 - begin_day, 0)
        name = real_time.chosen({name: dollars[:over] for name, dollars in daily.items()})
        return policies[name](hour, expected, level)

    return policy
