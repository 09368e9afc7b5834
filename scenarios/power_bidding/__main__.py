"""Commands of `power_bidding` that need no deployment.

.groundplan/envs/app/bin/python -m scenarios.power_bidding backtest --history A.csv --evaluate B.csv
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tooling import envs
from tooling.containers import CONTAINERS, import_path
from tooling.table import print_table

IMAGE = CONTAINERS / "power_bidding" / "model"
BACKTEST = """Compute what a storage asset would have earned with day-ahead schedules in the hours of B.csv,
without looking ahead: for every day, models are fitted to the hours of A.csv and the earlier hours of B.csv.
A CSV file has a row for each hour: hour_utc, such as 2022-01-31T05:00Z, a price in $/MWh, and any feeds. A
column price_forecast has price forecasts that were made before the deadline for the day's bids. With a table
[regulation] in the asset's file, and columns regulation_up and regulation_down ($ for each MW in the hour),
capacity is sold beside energy, and both revenues are shown."""


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder, "results.json")
        given = vars(options) | {"json": results}
        given.pop("command")
        pairs = [(f"--{name}", str(value)) for name, value in given.items() if value is not None]
        code = forecaster("backtest", *(word for pair in pairs for word in pair))
        if code == 0:
            show(json.loads(results.read_text()))
            if options.json:
                options.json.write_text(results.read_text())
    return code


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scenarios.power_bidding", description=(__doc__ or "").splitlines()[0]
    )
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser(
        "backtest", help="compute what day-ahead schedules earn", description=BACKTEST
    ).add_argument
    add(
        "--history",
        type=Path,
        required=True,
        metavar="A.csv",
        help="hours before those of B.csv, at least 35 days",
    )
    add("--evaluate", type=Path, required=True, metavar="B.csv", help="hours to schedule")
    add("--price", metavar="COLUMN", help="the price, if its name does not begin with price or lmp")
    add("--zone", default="UTC", help="time zone of the market's days, such as America/Chicago (UTC)")
    add(
        "--asset",
        type=Path,
        metavar="FILE",
        help="TOML with power, energy and so on, and [regulation] to sell it (8 MW, 32 MWh, no regulation)",
    )
    add("--seeds", type=int, default=1, help="number of seeds over which results are averaged (1)")
    add("--json", type=Path, metavar="FILE", help="also write the results to this file")
    options = parser.parse_args(arguments)
    for path in (options.history, options.evaluate, options.asset):
        if path and not path.is_file():
            parser.error(f"there is no file {path}")
    return options


def forecaster(*arguments: str) -> int:
    """Run a command of the image in an environment with its packages, and return its exit code."""
    python = envs.environment("scenarios-power_bidding")
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = os.environ | threads | {"PYTHONPATH": import_path(IMAGE), "PYTHONUNBUFFERED": "1"}
    return subprocess.run([str(python), "-m", "power_forecaster", *arguments], env=environment).returncode


def show(report: dict[str, Any]) -> None:
    """Print the results as a table."""
    left_out = f", {report['days_left_out']} left out for missing prices" if report["days_left_out"] else ""
    print(f"\n{report['days']} market days{left_out}; mean of {report['seeds']} seeds; 95 % intervals\n")
    rows = [
        (
            row["forecast"],
            f"${row['dollars']:,.0f}",
            interval(row["capture"]),
            interval(row["over_best_naive"], "+"),
        )
        for row in report["rows"]
    ]
    rows.append(("perfect foresight", f"${report['perfect_foresight_dollars']:,.0f}", "1", ""))
    print_table(rows, ("forecast", "revenue", "share of perfect foresight", f"minus {report['best_naive']}"))
    if "regulation" in report:
        show_regulation(report["regulation"])


def show_regulation(found: dict[str, Any]) -> None:
    """Print a table of revenues with and without regulation."""
    left_out = f", {found['days_left_out']} left out for missing prices" if found["days_left_out"] else ""
    print(
        f"\nWith regulation: {found['days']} market days{left_out}; calls as expected, every offer accepted\n"
    )
    rows = [
        (
            row["forecast"],
            f"${row['dollars_without']:,.0f}",
            f"${row['dollars']:,.0f}",
            f"${row['capacity_dollars']:,.0f}",
            interval(row["capture"]),
        )
        for row in found["rows"]
    ]
    rows.append(("perfect foresight", "", f"${found['perfect_foresight_dollars']:,.0f}", "", "1"))
    heads = ("forecast", "without regulation", "with", "of which capacity", "share of perfect foresight")
    print_table(rows, heads)


def interval(found: dict[str, float], sign: str = "") -> str:
    value, low, high = (f"{found[name]:{sign}.4f}" for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
