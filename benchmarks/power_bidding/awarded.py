"""The measurements of `benchmarks.power_bidding.modes`, which run in a separate Python environment."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.power_bidding.modes import parse
from benchmarks.power_bidding.real_time import FILES
from benchmarks.power_bidding.traded import ASSET, SOURCES, TERMS, interval, read
from power_forecaster import curves, measures, real_time, water_value
from power_forecaster.curves import Curve
from power_forecaster.history import Doubles
from power_forecaster.replay import DAY, Market, Policy, by_water_value, replay
from power_forecaster.storage import Scheduler
from power_forecaster.water_value import Limits
from tooling.table import print_table

SEEN_DAYS = 7
"""Number of earlier days whose mean prices, for each hour of the day, are the forecast of a day's prices."""

SCHEDULE = "day-ahead schedule, kept in real time"
CURVES = "day-ahead schedule, real-time curves that keep it"
FREE = "day-ahead schedule, real-time curves that do not"
HOURLY = "day-ahead curves cleared hour by hour, real-time curves that keep them"
ALONE = "real-time curves alone"
NAMES = {
    CURVES: "mode_ratio_curves",
    FREE: "mode_ratio_free_curves",
    HOURLY: "mode_ratio_hourly_curves",
    ALONE: "mode_ratio_real_time_alone",
}


@dataclass(frozen=True)
class Days:
    """A market and its evaluation period."""

    market: Market
    begin: int
    end: int

    def expected(self, hour: int) -> Doubles:
        """Return the forecast of day-ahead prices, [DAY], for the market day that begins at `hour`."""
        return self.market.day_ahead[hour - SEEN_DAYS * DAY : hour].reshape(SEEN_DAYS, DAY).mean(0)

    def settled(self, awards: Doubles) -> Doubles:
        """Return each day's settlement of awards: MW times (day-ahead price - real-time price), in dollars.

        :param awards: [hours] MW
        """
        hours = slice(self.begin, self.end)
        difference = self.market.day_ahead - self.market.real_time.mean(1)
        return (awards * difference)[hours].reshape(-1, DAY).sum(1)

    def traded(self, policy: Policy, awards: Doubles) -> Doubles:
        """Return the revenue of each day in dollars, day-ahead and real-time settlement together."""
        return replay(self.market, ASSET, policy, self.begin, self.end).daily + self.settled(awards)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    figures: dict[str, Any] = {}
    dollars: dict[str, dict[str, float]] = {}
    for zone in options.zone:
        source = SOURCES[zone]
        market, first = read(options.data / FILES[zone], source)
        begin, end = (
            DAY * int((np.datetime64(day) - first) / np.timedelta64(1, "D")) for day in source.judging
        )
        found = earned(Days(market, begin, end), zone)
        dollars[zone] = {name: float(each.sum()) for name, each in found.items()}
        for name, figure in NAMES.items():
            figures[f"{figure}_{zone}"] = asdict(measures.capture(found[name], found[SCHEDULE]))
        print()
        print_table([(name, f"${each:,.0f}") for name, each in dollars[zone].items()], (zone, ""), left=(0,))
        print()
    print_table([(name, interval(each)) for name, each in figures.items()], left=(0,))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"figures": figures, "dollars": dollars}, indent=1) + "\n")
    return 0


def earned(days: Days, zone: str) -> dict[str, Doubles]:
    """Return the daily revenue in dollars of each bidding mode."""
    schedule, levels = scheduled(days)
    hourly = cleared_hourly(days, levels)
    nothing = np.zeros_like(schedule)
    curve = by_water_value(days.market, ASSET, TERMS)
    found: dict[str, Doubles] = {}
    for name, policy, awards in (
        (SCHEDULE, kept(schedule), schedule),
        (CURVES, within(days.market, schedule), schedule),
        (FREE, curve, schedule),
        (HOURLY, within(days.market, hourly), hourly),
        (ALONE, curve, nothing),
    ):
        started = time.process_time()
        found[name] = days.traded(policy, awards)
        print(f"{zone}: {name}, {time.process_time() - started:.0f} CPU s", flush=True)
    return found


def scheduled(days: Days) -> tuple[Doubles, Doubles]:
    """Return the day-ahead schedules' awards, [hours] MW, and the MWh in store at the start of each hour.

    A schedule starts with the charge at the end of the previous day's schedule.
    """
    awards, levels = np.zeros_like(days.market.day_ahead), np.zeros_like(days.market.day_ahead)
    program, level = Scheduler(ASSET, DAY), ASSET.initial
    for begin in range(days.begin, days.end, DAY):
        plan = program.solve(days.expected(begin), level)
        awards[begin : begin + DAY] = plan.net
        levels[begin : begin + DAY] = [level, *plan.level[:-1]]
        level = float(plan.level[-1])
    return awards, levels


def cleared_hourly(days: Days, levels: Doubles) -> Doubles:
    """Return the awards of day-ahead curves, [hours] MW, each hour cleared independently.

    :param levels: [hours] MWh in store assumed for each hour's curve
    """
    awards = np.zeros_like(levels)
    for begin in range(days.begin, days.end, DAY):
        expected = days.expected(begin)
        for hour in range(DAY):
            at = begin + hour
            curve = real_time.curve(
                ASSET, expected[hour:], float(levels[at]), floor=TERMS.floor, cap=TERMS.cap
            )
            awards[at] = curves.mw_at(curve, float(days.market.day_ahead[at]))
    return awards


def kept(awards: Doubles) -> Policy:
    """Return the policy that offers the award's MW at any price."""

    def policy(hour: int, expected: Doubles, level: float) -> Curve:
        return curves.fixed(float(awards[hour]), TERMS.floor)

    return policy


def within(market: Market, awards: Doubles) -> Policy:
    """Return the policy of real-time curves by water value, limited to offers that can deliver the published
    awards."""

    def policy(hour: int, expected: Doubles, level: float) -> Curve:
        ahead = awards[hour : hour + len(expected)].copy()
        ahead[market.known(hour) - hour :] = 0.0
        ahead = np.pad(ahead, (0, len(expected) - len(ahead)))
        limits = Limits.of(ASSET, ahead)
        values = water_value.water_values(ASSET, expected[None], market.errors(hour), limits)[0]
        return real_time.offered(ASSET, values, level, TERMS, limits)

    return policy


if __name__ == "__main__":
    sys.exit(main())
