"""A replay of a synthetic history, and the interfaces of the runtime to services, implemented in memory."""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

from local.feeds.clock import ReplayClock
from local.feeds.curves import MarketAsset
from local.feeds.history import History
from local.feeds.market import Market
from local.feeds.server import FeedServer
from local.feeds.world import World
from power_bidding.core.hours_table import HourRow
from power_feeds import hours
from power_feeds.fetch import FeedSettings

TEXAS, CALIFORNIA = "America/Chicago", "America/Los_Angeles"
HUBS = ("HB_HOUSTON", "HB_NORTH", "HB_WEST")
ASSET = MarketAsset("battery", "HB_NORTH", power=8.0, energy=32.0, charge_efficiency=0.85)


def settings(zone: str = TEXAS, locations: Sequence[str] = HUBS) -> FeedSettings:
    return FeedSettings(locations, zone, horizon_hours=48)


def history(first: int, days: int, *, zone: str = TEXAS, real_time: bool = True, seed: int = 1) -> History:
    """Return a history of days like those of the electricity market ERCOT. At night, the prices of all hubs
    are equal to the cent, and some hours repeat the price of the hour before."""
    chance = random.Random(seed)
    series: dict[str, dict[int, float]] = {"load": {}, "temperature": {}}
    last = {}
    for hour in range(first, first + 24 * days):
        local = hours.local(hour, zone).hour
        shape = 30 + 20 * math.sin((local - 9) / 24 * 2 * math.pi) + chance.gauss(0, 4)
        for number, hub in enumerate(HUBS):
            spread = 0 if local < 6 else number * 1.5 + chance.gauss(0, 0.5)
            price = last[hub] if local in (2, 3, 4) and hub in last else round(shape + spread, 2)
            last[hub] = price
            series.setdefault(f"price:{hub}", {})[hour] = price
            if real_time:
                series.setdefault(f"real_time:{hub}", {})[hour] = round(price * chance.uniform(0.7, 1.4), 2)
        series["load"][hour] = round(
            40_000 + 8_000 * math.sin((local - 10) / 24 * 2 * math.pi) + chance.gauss(0, 300), 1
        )
        series["temperature"][hour] = round(
            15 + 8 * math.sin((local - 9) / 24 * 2 * math.pi) + chance.gauss(0, 1), 1
        )
    return History(series, first, first + 24 * days - 1)


@contextlib.contextmanager
def replay(
    now: str, shape: str = "ercot", *, past: History | None = None, **options: Any
) -> Iterator[FeedServer]:
    """Serve a replay with a clock that is paused at `now`: three weeks of history, or `past`.

    `now` begins the third week of the history.
    """
    zone = TEXAS if shape == "ercot" else CALIFORNIA
    hour = hours.parse(now)
    past = past or history(hour - 14 * 24, 21, zone=zone)
    world = World(past, ZoneInfo(zone), ReplayClock(hour, 1, paused=True), **options)
    server = FeedServer(world, Market(world, {ASSET.name: ASSET}), shape).start()
    try:
        yield server
    finally:
        server.stop()


class KilledError(BaseException):
    """The function was killed."""


@dataclass
class Kills:
    """Kills the function at its write number `at`, before the write or after it."""

    at: int = -1
    after: bool = False
    writes: int = 0

    @contextlib.contextmanager
    def write(self) -> Iterator[None]:
        self.writes += 1
        if self.writes == self.at and not self.after:
            raise KilledError
        yield
        if self.writes == self.at and self.after:
            raise KilledError


@dataclass
class MemoryObjects:
    """S3: `datasets.Objects` and `fetch.Store`."""

    kills: Kills = field(default_factory=Kills)
    all: dict[str, bytes] = field(default_factory=dict)

    def get(self, key: str) -> bytes | None:
        return self.all.get(key)

    def put(self, key: str, body: bytes, content_type: str) -> None:
        with self.kills.write():
            self.all[key] = body

    def put_new(self, key: str, body: bytes, content_type: str) -> bool:
        with self.kills.write():
            return self.all.setdefault(key, body) is body

    def list(self, prefix: str) -> list[str]:
        return sorted(key for key in self.all if key.startswith(prefix))


@dataclass
class MemoryHours:
    kills: Kills = field(default_factory=Kills)
    all: dict[int, HourRow] = field(default_factory=dict)

    def row(self, hour: int) -> HourRow | None:
        return self.all.get(hour)

    def rows(self, of: Sequence[int]) -> dict[int, HourRow]:
        return {hour: self.all[hour] for hour in of if hour in self.all}

    def put(self, row: HourRow, before: int) -> bool:
        with self.kills.write():
            if (self.all[row.hour].version if row.hour in self.all else 0) != before:
                return False
            self.all[row.hour] = row
            return True


@dataclass
class MemoryHistory:
    kills: Kills = field(default_factory=Kills)
    cells: dict[tuple[str, int], tuple[str, int]] = field(default_factory=dict)
    frozen: dict[tuple[str, int], tuple[float, int]] = field(default_factory=dict)

    def versions(self, location: str, day: str) -> dict[int, int]:
        first = hours.parse(f"{day}T00:00Z")
        return {
            hour: self.cells[location, hour][1]
            for hour in range(first, first + 24)
            if (location, hour) in self.cells
        }

    def put(self, location: str, hour: int, text: str, version: int) -> None:
        with self.kills.write():
            if self.cells.get((location, hour), ("", 0))[1] < version:
                self.cells[location, hour] = (text, version)

    def freeze(self, location: str, forecast: Mapping[int, float], run: int) -> None:
        with self.kills.write():
            for hour, value in forecast.items():
                if self.frozen.get((location, hour), (0.0, run))[1] <= run:
                    self.frozen[location, hour] = (value, run)
