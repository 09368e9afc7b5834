"""`backtest`: revenue of day-ahead schedules on a price history, without look-ahead.

    python -m power_forecaster backtest --history 2021.csv --evaluate 2022.csv --zone America/Chicago

As in production, models are refitted during the backtest, always to days before those that they forecast.
"""

from __future__ import annotations

import argparse
import json
import logging
import tomllib
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from toolkit.failure import FatalError
from toolkit.logs import log_to_stdout

from . import day_ahead, fitting, measures, naive, regulated, schedules
from .history import Doubles, History, read_csv
from .models import RECURRENT
from .panel import LEAST, Panel
from .regulation import Regulation, regulation_of
from .storage import Asset, asset_of

log = logging.getLogger(__name__)

COMBINED = "combination"
DECIDED = ", decision loss"
"""Suffix of the names of forecasts that use a network trained with the decision loss."""


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    log_to_stdout(__package__ or "")
    try:
        report = run(options)
    except FatalError as error:
        log.error("%s", error)
        return 1
    options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m power_forecaster backtest", description=(__doc__ or "").partition("\n")[0]
    )
    add = parser.add_argument
    add("--history", type=Path, required=True, metavar="FILE", help="CSV of the hours before --evaluate")
    add("--evaluate", type=Path, required=True, metavar="FILE", help="CSV of the hours to schedule")
    add("--price", metavar="COLUMN", help="default: the only column whose name begins with price or lmp")
    add("--zone", default="UTC", help="time zone of the market's days (default: UTC)")
    add("--asset", type=Path, metavar="FILE", help="TOML with the asset's fields, such as power, energy")
    add("--seeds", type=int, default=1, help="number of seeds to average over (default: 1)")
    add("--decision-loss", action="store_true", help="add a network trained with the decision loss")
    add("--json", type=Path, required=True, metavar="FILE", help="file for the results")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Return the results. Raises `FatalError` for an invalid file or option."""
    zone, (asset, terms) = _zone(options.zone), read_asset(options.asset)
    if options.seeds < 1:
        raise FatalError(f"--seeds must be a whole number from 1, got {options.seeds}")
    history = read_csv([options.history, options.evaluate], options.price, zone)
    if terms is not None:
        regulated.check_columns(history, options.evaluate.name)
    first = read_csv([options.evaluate], options.price, zone).days.dates
    begin, end = np.searchsorted(history.days.dates, [first[0], first[-1] + 1]) if len(first) else (0, 0)
    if end - begin < measures.BLOCK or begin < LEAST:
        raise FatalError(
            f"{options.evaluate.name} must have at least {measures.BLOCK} whole market days, and"
            f" {options.history.name} {LEAST} before them; got {end - begin} and {begin}"
        )
    runs, sold, found = [], [], {}
    for seed in range(options.seeds):
        log.info("seed %d: backtest of %d market days", seed, end - begin)
        decided = asset if options.decision_loss else None
        found = forecasts(Panel.of(history), int(begin), int(end), seed, decided)
        runs.append(evaluated(history, asset, int(begin), int(end), found))
        if terms is not None:
            sold.append(regulated.sold(history, found, asset, terms, int(begin), int(end)))
    report = summary(runs, asset)
    if terms is not None:
        report["regulation"] = regulated.summary(sold, runs, terms)
        report["regulation"]["hours"] = regulated.hours(history, sold[-1][COMBINED], found[COMBINED], asset)
    return report


def evaluated(
    history: History, asset: Asset, begin: int, end: int, found: dict[str, Doubles]
) -> dict[str, schedules.Revenue]:
    """Return the revenues of the days `begin` to `end` by name of the forecast."""
    return {name: schedules.self_schedules(history, each, asset, begin, end) for name, each in found.items()}


def forecasts(
    panel: Panel, begin: int, end: int, seed: int, asset: Asset | None = None
) -> dict[str, Doubles]:
    """Return the forecasts of the days `begin` to `end` by name, [D, 24] dollars per MWh.

    Rows of other days may be NaN.

    :param asset: add forecasts of a network trained with this asset's decision loss; None: do not add them
    """

    def walked(family: day_ahead.Family) -> Doubles:
        found = day_ahead.walk(panel, family, max(0, begin - day_ahead.TRAILING), end).forecasts
        log.info("  forecasts made: %s", family.name)
        return found

    found = naive.naive(panel.prices)
    found |= {family.name: walked(family) for family in day_ahead.families(seed, panel)}
    result = found | {COMBINED: day_ahead.combined(panel, found, begin, end)}
    if asset is not None:
        fit = partial(fitting.recurrent, seed=seed, epochs=day_ahead.EPOCHS, asset=asset)
        network = walked(day_ahead.Family(RECURRENT + DECIDED, day_ahead.NETWORK_EVERY, fit))
        result[RECURRENT + DECIDED] = network
        result[COMBINED + DECIDED] = day_ahead.combined(panel, found | {RECURRENT: network}, begin, end)
    return result


def summary(runs: list[dict[str, schedules.Revenue]], asset: Asset) -> dict[str, Any]:
    """Return each forecast's revenue and capture, and its difference in capture to the best naive forecast.

    Revenues are means over seeds. Days on which a price or a forecast is missing are omitted.
    `decision_loss_gain`, if measured, is the capture with the decision loss minus the capture without it.
    """
    dollars = {name: np.mean([each[name].dollars for each in runs], axis=0) for name in runs[0]}
    foresight = runs[0][COMBINED].foresight
    known = np.isfinite(foresight)
    for each in dollars.values():
        known &= np.isfinite(each)
    baselines = [name for name in dollars if name in naive.names()]
    best = max(baselines, key=lambda name: dollars[name][known].sum())
    rows = [
        {
            "forecast": name,
            "dollars": float(each[known].sum()),
            "capture": asdict(measures.capture(each[known], foresight[known])),
            "over_best_naive": asdict(
                measures.difference(each[known], dollars[best][known], foresight[known])
            ),
        }
        for name, each in sorted(dollars.items(), key=lambda item: -item[1][known].sum())
    ]
    gains = {
        name: asdict(measures.difference(dollars[name + DECIDED][known], each[known], foresight[known]))
        for name, each in dollars.items()
        if name + DECIDED in dollars
    }
    found: dict[str, Any] = {
        "asset": asdict(asset),
        "days": int(known.sum()),
        "days_left_out": int((~known).sum()),
        "seeds": len(runs),
        "perfect_foresight_dollars": float(foresight[known].sum()),
        "best_naive": best,
        "rows": rows,
    }
    return found | ({"decision_loss_gain": gains} if gains else {})


def read_asset(path: Path | None) -> tuple[Asset, Regulation | None]:
    """Read an asset from TOML, with its regulation terms if there is a table `[regulation]`.

    Missing fields get their defaults. Raises `FatalError` if the file is invalid.
    """
    if path is None:
        return Asset(), None
    try:
        given = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FatalError(f"{path.name} must be TOML: {error}") from None
    terms = regulation_of(given.pop("regulation"), path.name) if "regulation" in given else None
    return asset_of(given, path.name), terms


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise FatalError(f"--zone must be a time zone such as America/Chicago, got {name!r}") from None
    return name
