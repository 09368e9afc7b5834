"""The measurements of `benchmarks.power_bidding.quest`, which run in a separate Python environment."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highspy
import numpy as np
from pyomo.common import errors

from benchmarks.power_bidding.quest import parse
from power_forecaster.history import Doubles, read_csv
from power_forecaster.regulation import Prices, Regulation, RegulationScheduler
from power_forecaster.storage import Asset
from tooling.table import print_table

ASSET = Asset(initial=16, final=16)
"""QuEST requires the final stored energy to equal the initial one."""
CALLED = 0.25
"""Share of the regulation capacity that is called, in each direction: QuEST's default."""
ZONE = "America/Chicago"
SEED = 0
UP, DOWN = (2, 6.0), (2, 3.0)
"""Shape and scale of the gamma distributions of regulation prices, with means of 12 and 6 dollars."""
SOLVER = "appsi_highs"
CLOSE = 1e-6
"""Tolerance of bids in MW, of stored energy in MWh, and of the optimum as a relative difference."""
EQUAL = 0.999
"""Minimum share of hours with equal bids. It is below 1 because a day can have several optima."""
ERCOT, CAISO, RESERVE = "ercot", "caiso", "ercot, reserve"
PEERS = {ERCOT: ("ercot_arbreg", 0), CAISO: ("caiso_pfp", 0), RESERVE: ("ercot_arbreg", 1)}
"""QuEST's name of the market, and the energy kept in reserve, in hours of a full call."""
SAME_ROWS = "the same rows"
WAYS = {
    SAME_ROWS: (Regulation(CALLED, CALLED, sustained=0, shared_power=True), ERCOT),
    "own rows, expected level": (Regulation(CALLED, CALLED, sustained=0), ERCOT),
    "own rows, calls sustained": (Regulation(CALLED, CALLED), RESERVE),
}
"""Our regulation terms, and the entry of `PEERS` whose bids are compared with ours."""


@dataclass(frozen=True)
class Bids:
    """The bids of a day."""

    charge: Doubles
    discharge: Doubles
    up: Doubles
    down: Doubles
    level: Doubles
    """Expected MWh at the end of each hour"""
    dollars: float

    def all(self) -> Doubles:
        """Return the bids in MW, [4, hours]."""
        return np.stack([self.charge, self.discharge, self.up, self.down])


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    days = list(drawn(options.prices, options.days))
    peers = {name: Quest(options.published, *each) for name, each in PEERS.items()}
    theirs = {name: [each.bids(prices) for prices in days] for name, each in peers.items()}
    # The first HiGHS solver in a process fixes the number of threads; later solvers with another number fail
    highspy.Highs.resetGlobalScheduler(True)
    ours = {name: own(terms, days) for name, (terms, _) in WAYS.items()}
    figures = compared(theirs, ours)
    show(figures)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return int(abs(figures["quest_objective_ratio"] - 1) > CLOSE or figures["quest_bids_equal"] < EQUAL)


def drawn(path: Path, count: int) -> Iterator[Prices]:
    """Return prices of market days: the hub's energy prices and random regulation prices."""
    history = read_csv([path], "price", ZONE)
    first = int(np.searchsorted(history.days.dates, np.datetime64("2022-01-01").astype(int)))
    generator = np.random.default_rng(SEED)
    for day in range(first, min(first + count, len(history.days))):
        energy = history.prices[history.days.hours(day)]
        if np.isfinite(energy).all():
            yield Prices(energy, generator.gamma(*UP, len(energy)), generator.gamma(*DOWN, len(energy)))


def own(terms: Regulation, days: list[Prices]) -> list[Bids]:
    """Return the bids of our program."""
    programs: dict[int, RegulationScheduler] = {}
    found: list[Bids] = []
    for prices in days:
        hours = len(prices.energy)
        if hours not in programs:
            programs[hours] = RegulationScheduler(ASSET, terms, hours)
        bids = programs[hours].solve(prices)
        dollars = bids.profit(prices, ASSET)
        found.append(Bids(bids.charge, bids.discharge, bids.up, bids.down, bids.level, dollars))
    return found


class Quest:
    """Wrapper of QuEST's optimizer for a market."""

    def __init__(self, folder: Path, market: str, reserve: float):
        # QuEST imports an exception class from PyUtilib; the class is now in Pyomo
        sys.modules["pyutilib.common._exceptions"] = errors
        sys.path.insert(0, str(folder))
        self._module = importlib.import_module("valuation.es_gui.tools.valuation.valuation_optimizer")
        self._market, self._reserve = market, reserve
        logging.getLogger("pyomo").setLevel(logging.ERROR)  # QuEST uses deprecated parts of Pyomo

    def bids(self, prices: Prices) -> Bids:
        """Return QuEST's bids."""
        nothing = np.zeros(len(prices.energy))
        found = self._module.ValuationOptimizer(
            price_electricity=prices.energy,
            price_reg_up=prices.up,
            price_reg_down=prices.down,
            # In QuEST's objective, CAISO's mileage payment does not depend on the bids, so it is left out
            price_reg_serv_up=nothing,
            price_reg_serv_down=nothing,
            mileage_mult_ru=nothing,
            mileage_mult_rd=nothing,
            fraction_reg_up=CALLED,
            fraction_reg_down=CALLED,
            market_type=self._market,
            solver=SOLVER,
        )
        found.set_model_parameters(
            Power_rating=ASSET.power,
            Energy_capacity=ASSET.energy,
            Round_trip_efficiency=ASSET.charge_efficiency,
            Self_discharge_efficiency=ASSET.retention,
            State_of_charge_init=ASSET.initial / ASSET.energy,
            Reserve_reg_min=self._reserve,
            Reserve_reg_max=self._reserve,
        )
        with contextlib.redirect_stdout(io.StringIO()):
            table, dollars = found.run()
        model = found.model
        level = np.array([model.s[hour].value for hour in model.soc_time][1:])
        charge, discharge, up, down = (table[name].to_numpy(float) for name in ("q_r", "q_d", "q_ru", "q_rd"))
        return Bids(charge, discharge, up, down, level, float(dollars))


def compared(theirs: dict[str, list[Bids]], ours: dict[str, list[Bids]]) -> dict[str, Any]:
    """Return the figures of the comparison."""
    found = {
        name: beside(bids, theirs[WAYS[name][1]]) | {"beside": WAYS[name][1]} for name, bids in ours.items()
    }
    same = {market: beside(ours[SAME_ROWS], theirs[market]) for market in (ERCOT, CAISO)}
    return {
        "days": len(ours[SAME_ROWS]),
        "hours": sum(len(day.up) for day in ours[SAME_ROWS]),
        "quest_bids_equal": min(each["bids_equal"] for each in same.values()),
        "quest_largest_difference_mw": max(each["largest_difference_mw"] for each in same.values()),
        "quest_objective_ratio": same[ERCOT]["objective_ratio"],
        "ways": found,
    }


def beside(ours: list[Bids], theirs: list[Bids]) -> dict[str, Any]:
    """Compare our bids with QuEST's on the same days."""
    away = differences(ours, theirs)
    return {
        "bids_equal": float((away <= CLOSE).mean()),
        "largest_difference_mw": float(away.max()),
        "objective_ratio": total(ours) / total(theirs),
        "followed": followed(ours),
        "followed_quest": followed(theirs),
    }


def differences(ours: list[Bids], theirs: list[Bids]) -> Doubles:
    """Return each hour's maximum difference over the four bids, in MW."""
    pairs = zip(ours, theirs, strict=True)
    return np.concatenate([np.abs(our.all() - their.all()).max(0) for our, their in pairs])


def total(bids: list[Bids]) -> float:
    return sum(day.dollars for day in bids)


def followed(bids: list[Bids]) -> float:
    """Return the share of hours in which a full one-hour call in either direction is feasible from the
    expected level before it."""
    found: list[Doubles] = []
    for day in bids:
        before = ASSET.retention * np.concatenate([[ASSET.initial], day.level[:-1]])
        net = day.discharge - day.charge
        low, high = before - stored_less(net + day.up), before - stored_less(net - day.down)
        power = (net + day.up <= ASSET.power + CLOSE) & (net - day.down >= -ASSET.power - CLOSE)
        # a battery that is too full can waste energy by charging and discharging in alternation
        idle = np.maximum(ASSET.power - np.abs(net - day.down), 0) / 2
        wasted = idle * (1 / ASSET.discharge_efficiency - ASSET.charge_efficiency)
        found.append(power & (low >= ASSET.lowest - CLOSE) & (high - wasted <= ASSET.energy + CLOSE))
    return float(np.concatenate(found).mean())


def stored_less(mw: Doubles) -> Doubles:
    """Return the MWh that an hour's output takes out of the store; negative while charging."""
    return np.where(mw > 0, mw / ASSET.discharge_efficiency, mw * ASSET.charge_efficiency)


def show(figures: dict[str, Any]) -> None:
    """Print the figures."""
    print_table([(name, f"{value:.6g}") for name, value in figures.items() if name != "ways"])
    print()
    keys = ("bids_equal", "objective_ratio", "followed", "followed_quest")
    rows = [
        (name, found["beside"], *(f"{found[key]:.4f}" for key in keys))
        for name, found in figures["ways"].items()
    ]
    heads = ("ours", "QuEST's", "bids equal", "objective ratio", "calls followed", "by QuEST's")
    print_table(rows, heads, left=(0, 1))


if __name__ == "__main__":
    sys.exit(main())
