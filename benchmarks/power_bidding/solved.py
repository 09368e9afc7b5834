"""The measurements of `benchmarks.power_bidding.lp_speed`, which run in a separate Python environment."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_array

from benchmarks.power_bidding.lp_speed import parse
from power_forecaster.history import Doubles
from power_forecaster.storage import Asset, Scheduler
from tooling.table import print_table

ASSET = Asset()
HOURS = 24
RUN = 100
"""Number of program instances that a solver solves before the next solver's turn."""
BOUND = 10
TOLERANCE = 1e-6
"""Maximum relative difference of the optimum."""

Solve = Callable[[Doubles, float], float]
"""Returns the dollars of the best schedule, from prices [HOURS] and the stored MWh before the first hour."""


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    generator = np.random.default_rng(0)
    instances = [random_day(generator) for _ in range(options.instances)]
    ways = {
        "warm HiGHS": warm(),
        "linprog, levels as columns": with_levels(),
        "linprog, levels as sums": without_levels(),
    }
    seconds = dict.fromkeys(ways, 0.0)
    optima: dict[str, list[float]] = {name: [] for name in ways}
    # The solvers take turns, so that other load on the machine affects all of them equally. A turn has many
    # instances, because a backtest also solves many in sequence.
    for first in range(0, len(instances), RUN):
        for name, solve in ways.items():
            solve(*instances[first])
            started = time.process_time()
            optima[name] += [solve(*each) for each in instances[first : first + RUN]]
            seconds[name] += time.process_time() - started
    milliseconds = {name: each / len(instances) * 1000 for name, each in seconds.items()}
    ours, *others = ways
    found = {name: np.array(each) for name, each in optima.items()}
    difference = max(
        float((abs(found[each] - found[ours]) / np.maximum(abs(found[each]), 1)).max()) for each in others
    )
    figures = {
        "lp_speed_ratio": min(milliseconds[each] for each in others) / milliseconds[ours],
        "optimum_difference": difference,
        "instances": len(instances),
        "milliseconds": milliseconds,
    }
    print_table([(name, f"{each:.3f} ms") for name, each in milliseconds.items()])
    print(f"\nlp_speed_ratio {figures['lp_speed_ratio']:.1f}, optimum_difference {difference:.1e}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return int(figures["lp_speed_ratio"] < BOUND or difference > TOLERANCE)


def random_day(generator: np.random.Generator) -> tuple[Doubles, float]:
    """Return random prices with an evening peak, and a random level of the store."""
    shape = -np.cos((np.arange(HOURS) - 6) / HOURS * 2 * np.pi)
    prices = 30 + generator.uniform(5, 30) * shape + generator.normal(0, generator.uniform(2, 20), HOURS)
    return prices, float(generator.uniform(0, ASSET.energy))


def warm() -> Solve:
    program = Scheduler(ASSET, HOURS)
    return lambda prices, level: program.solve(prices, level).profit(prices, ASSET)


def with_levels() -> Solve:
    """Return a solver with `linprog` for the program of `storage.py`, whose matrices are built once."""
    one, previous = np.eye(HOURS), np.eye(HOURS, k=-1) * ASSET.retention
    balance = csr_array(
        np.hstack([-ASSET.charge_efficiency * one, one / ASSET.discharge_efficiency, one - previous])
    )
    power = csr_array(np.hstack([one, one, np.zeros((HOURS, HOURS))]))
    bounds = [(0, ASSET.power)] * (2 * HOURS) + [(ASSET.lowest, ASSET.energy)] * HOURS

    def solve(prices: Doubles, level: float) -> float:
        start = np.zeros(HOURS)
        start[0] = ASSET.retention * level
        cost = np.concatenate([prices, ASSET.degradation - prices, np.zeros(HOURS)])
        limit = np.full(HOURS, ASSET.power)
        found = linprog(cost, power, limit, balance, start, bounds=bounds, method="highs")
        return -float(found.fun)

    return solve


def without_levels() -> Solve:
    """Return a solver with `linprog` for another formulation: each level is the sum of the trades before
    it."""
    k = np.arange(HOURS)
    left = np.where(k[:, None] >= k, ASSET.retention ** np.maximum(k[:, None] - k, 0), 0.0)
    change = np.hstack([left * ASSET.charge_efficiency, -left / ASSET.discharge_efficiency])
    rows = np.vstack([change, -change, np.hstack([np.eye(HOURS), np.eye(HOURS)])])

    def solve(prices: Doubles, level: float) -> float:
        start = ASSET.retention ** (k + 1) * level
        limits = [ASSET.energy - start, start - ASSET.lowest, np.full(HOURS, ASSET.power)]
        cost = np.concatenate([prices, ASSET.degradation - prices])
        found = linprog(cost, rows, np.concatenate(limits), bounds=(0, ASSET.power), method="highs")
        return -float(found.fun)

    return solve


if __name__ == "__main__":
    sys.exit(main())
