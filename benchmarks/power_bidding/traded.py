"""The measurements of `benchmarks.power_bidding.real_time`, which run in a separate Python environment."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet

from benchmarks.power_bidding.real_time import FILES, parse
from power_forecaster import curves, measures, settlement
from power_forecaster.curves import Curve, Terms
from power_forecaster.history import Doubles
from power_forecaster.real_time import HORIZON
from power_forecaster.replay import (
    DAY,
    Market,
    Policy,
    by_water_value,
    replay,
    rolling,
    selected,
    self_schedule,
)
from power_forecaster.storage import Asset, Scheduler
from tooling.table import print_table

ASSET = Asset()
TERMS = Terms(floor=-1000, cap=2000)
BAND = (0.85, 1.15)

ROLLING, DUAL, BANDED = "rolling LP", "LP's dual", "LP's dual with a band"
SELF, CURVE, SELECTOR = "self-schedule", "water value curve", "selector"
HOURLY = "selector, hourly prices"
"""Selects the policy by revenues at hourly mean prices, because a deployment's history has only these"""
BASELINES = (ROLLING, DUAL, SELF)
SELECTABLE = (CURVE, ROLLING, SELF)
"""Policies for the selector. It uses the first one until the revenue of a day is known."""


@dataclass(frozen=True)
class Source:
    """A market's files."""

    intervals: int
    """Number of price intervals in an hour"""
    published: int
    """Hour of the day from which the next day's prices are known"""
    tuning: tuple[str, str]
    """First day of the tuning period, and the day after its last day"""
    judging: tuple[str, str]


NYISO = Source(12, 11, ("2018-01-01", "2019-01-01"), ("2019-01-01", "2020-01-01"))
ERCOT = Source(4, 14, ("2024-06-01", "2024-09-01"), ("2024-09-01", "2024-12-01"))
SOURCES = {"nyc": NYISO, "north": NYISO, "hb_south": ERCOT}

BOUNDS = {
    "real_time_ratio_vs_mpc_nyc": 1.5,
    "real_time_ratio_vs_mpc_north": 1.8,
    "real_time_ratio_vs_lp_dual": 1.02,
    "real_time_ratio_selector_hb_south": 0.98,
    "real_time_ratio_selector_vs_second_hb_south": 1.0,
}


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    daily: dict[str, dict[str, Doubles]] = {}
    foresight: dict[str, Doubles] = {}
    for zone in options.zone:
        market, first = read(options.data / FILES[zone], SOURCES[zone])
        daily[zone], foresight[zone] = traded(zone, market, first, options.tuning)
    figures = compared(daily, foresight)
    report = {"period": "tuning" if options.tuning else "judging", "figures": figures}
    report["captures"] = {
        zone: {name: asdict(measures.capture(each, foresight[zone])) for name, each in found.items()}
        for zone, found in daily.items()
    }
    report["dollars"] = {
        zone: {name: float(each.sum()) for name, each in found.items()} for zone, found in daily.items()
    }
    show(report)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    missed = [name for name, each in figures.items() if each["value"] < BOUNDS.get(name, -np.inf)]
    for name in missed:
        print(f"{name} misses its bound of {BOUNDS[name]}", file=sys.stderr)
    return int(bool(missed))


def read(path: Path, source: Source) -> tuple[Market, np.datetime64]:
    """Return the prices of a file, and its first day."""
    table = pyarrow.parquet.read_table(path)
    days = table.column(0).to_pylist()  # market days or local times: both start with the date
    prices = [table.column(name).to_numpy().astype(np.float64) for name in ("real_time", "day_ahead")]
    real_time, day_ahead = (each.reshape(-1, source.intervals) for each in prices)
    if len(real_time) % DAY or not all(np.isfinite(each).all() for each in prices):
        raise ValueError(f"{path.name} must have whole days and a price in every row")
    return Market(real_time, day_ahead[:, 0], source.published), np.datetime64(str(days[0])[:10])


def traded(
    zone: str, market: Market, first: np.datetime64, tuning: bool
) -> tuple[dict[str, Doubles], Doubles]:
    """Return the revenue of each day in dollars by policy, and the revenue of perfect foresight."""
    period = SOURCES[zone].tuning if tuning else SOURCES[zone].judging
    days = [int((np.datetime64(day) - first) / np.timedelta64(1, "D")) for day in period]
    begin, end = (day * DAY for day in days)
    found: dict[str, Doubles] = {}
    for name in (ROLLING, DUAL, BANDED, SELF, CURVE):
        started = time.process_time()
        found[name] = replay(market, ASSET, policy(name, market), begin, end).daily
        print(f"{zone}: {name}, {time.process_time() - started:.0f} CPU s", flush=True)
    # the selector compares the revenues that each policy had alone since the first day of the file
    alone = {
        name: found[name] if begin == 0 else replay(market, ASSET, policy(name, market), 0, end).daily
        for name in SELECTABLE
    }
    means = replace(market, real_time=market.real_time.mean(1, keepdims=True))
    hourly = {name: replay(means, ASSET, policy(name, means), 0, end).daily for name in SELECTABLE}
    for name, past in ((SELECTOR, alone), (HOURLY, hourly)):
        chooser = selected({name: policy(name, market) for name in SELECTABLE}, past, 0)
        found[name] = replay(market, ASSET, chooser, begin, end).daily
    prices = market.real_time[begin:end]
    dollars = settlement.foresight(ASSET, prices, months(first, days[0], days[1]))
    return found, dollars.reshape(-1, DAY).sum(1)


def months(first: np.datetime64, begin: int, end: int) -> list[slice]:
    """Return a slice for each calendar month of the days `begin` to `end`: its hours, counted from
    `begin`."""
    month = (first + np.arange(begin, end)).astype("datetime64[M]")
    starts = [0, *(np.flatnonzero(month[1:] != month[:-1]) + 1).tolist(), end - begin]
    return [slice(a * DAY, b * DAY) for a, b in pairwise(starts)]


def policy(name: str, market: Market) -> Policy:
    if name == ROLLING:
        return rolling(ASSET, TERMS)
    if name == SELF:
        return self_schedule(market, ASSET, TERMS)
    if name == CURVE:
        return by_water_value(market, ASSET, TERMS)
    return dual(BAND if name == BANDED else (1.0, 1.0), band=name == BANDED)


def dual(factors: tuple[float, float], band: bool) -> Policy:
    """Return the policy that derives a curve from the dual of the linear program.

    It charges with the full power below one price and discharges with the full power above another price.
    Between these prices it offers the linear program's MW if `band`, otherwise 0 MW."""
    program = Scheduler(ASSET, HORIZON)

    def found(hour: int, expected: Doubles, level: float) -> Curve:
        schedule = program.solve(expected, level)
        value = float(schedule.water_value[0])
        between = float(schedule.net[0]) if band else 0.0
        low, high = (factor * value for factor in factors)
        charge = ASSET.charge_efficiency * low
        sale = max(high / ASSET.discharge_efficiency, curves.least_sale(ASSET, charge))
        return [(-ASSET.power, TERMS.floor), (between, charge), (ASSET.power, sale)]

    return found


def compared(
    daily: dict[str, dict[str, Doubles]], foresight: dict[str, Doubles]
) -> dict[str, dict[str, Any]]:
    """Return the ratios, with their 95 % intervals over blocks of days."""
    figures: dict[str, dict[str, Any]] = {}
    for zone, found in daily.items():
        ratio = measures.capture(found[CURVE], found[ROLLING])
        figures[f"real_time_ratio_vs_mpc_{zone}"] = asdict(ratio)
        figures[f"real_time_ratio_vs_lp_dual_{zone}"] = asdict(measures.capture(found[CURVE], found[DUAL]))
        figures[f"real_time_ratio_vs_band_{zone}"] = asdict(measures.capture(found[CURVE], found[BANDED]))
        ranked = sorted((*BASELINES, CURVE), key=lambda name: -found[name].sum())
        for suffix, other in (("", ranked[0]), ("_vs_second", ranked[1])):
            ratio = measures.capture(found[SELECTOR], found[other])
            figures[f"real_time_ratio_selector{suffix}_{zone}"] = {**asdict(ratio), "over": other}
        ratio = measures.capture(found[HOURLY], found[SELECTOR])
        figures[f"real_time_ratio_hourly_selector_{zone}"] = asdict(ratio)
        figures[f"real_time_capture_{zone}"] = asdict(measures.capture(found[CURVE], foresight[zone]))
    pooled = [zone for zone in daily if SOURCES[zone] is NYISO]
    if len(pooled) == 2:
        ours, theirs = (sum_of([daily[zone][name] for zone in pooled]) for name in (CURVE, DUAL))
        figures["real_time_ratio_vs_lp_dual"] = asdict(measures.capture(ours, theirs))
        total = sum_of([foresight[zone] for zone in pooled])
        figures["real_time_capture"] = asdict(measures.capture(ours, total))
    return figures


def sum_of(days: list[Doubles]) -> Doubles:
    return np.sum(days, axis=0)


def show(report: dict[str, Any]) -> None:
    for zone, found in report["captures"].items():
        print(f"\n{zone}, {report['period']}: share of perfect foresight")
        print_table(
            [(name, f"${report['dollars'][zone][name]:,.0f}", interval(each)) for name, each in found.items()]
        )
    print()
    print_table(
        [(name, interval(each), BOUNDS.get(name, "")) for name, each in report["figures"].items()],
        left=(0,),
    )


def interval(found: dict[str, Any]) -> str:
    return f"{found['value']:.4f} [{found['low']:.4f}, {found['high']:.4f}]"


if __name__ == "__main__":
    sys.exit(main())
