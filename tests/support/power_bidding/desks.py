"""The ports of bidding, through which its code reaches services, implemented in memory. Workers interleave at
each call and can be killed after each write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from power_bidding.core.assets import AssetSettings, Battery, MarketSettings, Rules
from power_bidding.core.bid_ports import (
    Cells,
    Desk,
    EndpointThrottledError,
    Forecast,
    MarketDownError,
    MarketRefusedError,
    Serving,
    Telemetry,
)
from power_bidding.core.offers import Offer, Slot, due
from power_feeds import hours, rows
from tests.support.turns import Turns

ZONE = "America/Chicago"
BATTERY = Battery(8.0, 32.0, 0.85, 1.0, 1.0, 0.0, 0.0)
RULES = Rules("2000-01-01", -150.0, 2000.0, 0.1, 10)
SETTINGS = MarketSettings(ZONE, 2, 75, 3, [RULES])
ASSET, LOCATION = "battery", "HB_HOUSTON"
NIGHT = hours.parse("2022-01-31T05:00Z")
"""Local 23:00: no day-ahead market is open."""
LAST = hours.parse("2022-01-31T13:00Z")
"""Local 07:00: the last run before the day-ahead deadline."""


class Offers:
    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.rows: dict[tuple[str, str], Offer] = {}
        self.levels: dict[tuple[str, int], float] = {}
        self.kept: dict[tuple[str, str], Forecast] = {}
        self.written: list[Offer] = []

    def get(self, asset: str, slot: Slot) -> Offer | None:
        self.turns.point()
        return self.rows.get((asset, slot.key))

    def swap(self, before: Offer | None, now: Offer) -> bool:
        self.turns.point()
        if before and before.final:
            raise ValueError("the row is final")
        key = now.asset, now.slot.key
        if self.rows.get(key) != before:
            return False
        self.rows[key] = now
        self.written.append(now)
        self.turns.wrote()
        return True

    def between(self, asset: str, first: int, last: int) -> list[Offer]:
        self.turns.point()
        found = [row for row in self.rows.values() if row.asset == asset and first <= row.slot.hour <= last]
        return sorted(found, key=lambda row: row.slot.key)

    def level(self, asset: str, hour: int) -> tuple[int, float] | None:
        known = [at for name, at in self.levels if name == asset and at <= hour]
        return (max(known), self.levels[asset, max(known)]) if known else None

    def put_level(self, asset: str, hour: int, level: float) -> None:
        self.levels[asset, hour] = level
        self.turns.wrote()

    def put_forecast(self, forecast: Forecast) -> None:
        there = self.kept.get((forecast.asset, forecast.day))
        if there is None or there.run <= forecast.run:
            self.kept[forecast.asset, forecast.day] = forecast
        self.turns.wrote()

    def forecasts(self, asset: str, first_day: str, last_day: str) -> list[Forecast]:
        return [each for (name, day), each in sorted(self.kept.items()) if first_day <= day <= last_day]


class Past:
    """A history of some days with the same values in each hour, except for values that a test sets."""

    def __init__(self, price: float = 30.0, days: int = 1) -> None:
        self.price, self.most = price, days
        self.prices: dict[int, float] = {}

    def days(self, location: str, first: str, last: str) -> Mapping[str, Cells]:
        found: dict[str, dict[str, str | int]] = {}
        end = hours.parse(f"{last}T23:00Z") + 1
        for hour in range(max(hours.parse(f"{first}T00:00Z"), end - 24 * (self.most + 3)), end):
            day, part = hours.text(hour)[:10], hours.text(hour)[11:13]
            price = self.prices.get(hour, self.price)
            values = {"price": price, "real_time": price, "load": 40_000.0, "temperature": 12.0}
            found.setdefault(day, {})[f"h{part}"] = rows.packed(values)
        return found


class Ahead:
    def __init__(self) -> None:
        self.known: dict[str, dict[str, float]] = {}

    def forward(self, hour: int, version: int | None) -> Mapping[str, Mapping[str, float]]:
        return self.known


class Market:
    """A market that accepts at most one offer for each asset and slot (an hour and a market), and only before
    the slot's deadline."""

    def __init__(self, turns: Turns, clock: Clock) -> None:
        self.turns, self.clock = turns, clock
        self.url = True
        self.accepted: dict[tuple[str, str], Offer] = {}
        self.sent = 0
        self.down = 0
        """Number of calls that fail before they reach the market; if negative, after they reached it"""
        self.refuses: set[str] = set()
        """Sources of offers that are refused"""
        self.known = Telemetry(16.0, {})

    @property
    def open(self) -> bool:
        return self.url

    def send(self, offer: Offer) -> None:
        self.turns.point()
        self.sent += 1
        if self.down > 0:
            self.down -= 1
            raise MarketDownError("no answer")
        key = offer.asset, offer.slot.key
        there = self.accepted.get(key)
        if there is None:
            if self.clock.now() >= due(offer.slot, SETTINGS):
                raise MarketRefusedError("late")
            if offer.source in self.refuses:
                raise MarketRefusedError("invalid")
            self.accepted[key] = offer
        elif there.digest != offer.digest:
            raise MarketRefusedError("already offered")
        self.turns.wrote()
        if self.down < 0:
            self.down += 1
            raise MarketDownError("no answer")

    def telemetry(self, asset: str, hour: int) -> Telemetry:
        if self.down > 0:
            self.down -= 1
            raise MarketDownError("no answer")
        return self.known


class Clock:
    def __init__(self, now: float) -> None:
        self.time = now

    def now(self) -> float:
        return self.time


class Model:
    """A model that returns a curve for each requested hour, different at each call."""

    def __init__(self) -> None:
        self.calls = 0
        self.throttled = 0
        self.change: dict[str, Any] = {}
        """Replaced fields of the answer"""
        self.asked: list[Mapping[str, Any]] = []
        self.in_service = True

    def serving(self) -> Serving | None:
        return Serving("power-0123456789ab", "7", NIGHT - 24) if self.in_service else None

    def ask(self, endpoint: str, request: Mapping[str, Any]) -> Any:
        json.dumps(request, allow_nan=False)
        self.asked.append(request)
        if self.throttled:
            self.throttled -= 1
            raise EndpointThrottledError("busy")
        self.calls += 1
        price = 40.0 + self.calls
        ahead = None
        start = hours.parse(request["hour"])
        if day := request["day_ahead"]:
            whole = hours.hours_of(day, ZONE)
            start = whole[0]
            ahead = [{"hour": hours.text(hour), "segments": [[0.0, -150.0]]} for hour in whole]
        real_time = {"hour": request["hour"], "segments": [[0.0, -150.0], [5.0, price]]}
        plan = {"hours": [request["hour"]], "mw": [0.0], "state_of_charge": [request["state_of_charge"]]}
        forecast = {"start": hours.text(start), "price": [30.0] * 30}
        answer = {
            "model": "7",
            "real_time": real_time,
            "day_ahead": ahead,
            "forecast": forecast,
            "plan": plan,
        }
        return answer | self.change


@dataclass
class World:
    """A bidding desk, with a market, a model, tables and files in memory."""

    mode: str = "curves"
    run: int = NIGHT
    turns: Turns = field(default_factory=Turns)
    keep_awards: bool = True

    def __post_init__(self) -> None:
        self.clock = Clock(self.run + 0.25)
        self.offers, self.market = Offers(self.turns), Market(self.turns, self.clock)
        self.model, self.past, self.ahead = Model(), Past(), Ahead()
        self.switch = "go"
        self.files: dict[str, bytes] = {}
        self.counts: dict[str, float] = {}
        asset = AssetSettings(LOCATION, self.mode, "curve", self.keep_awards, BATTERY)  # type: ignore[arg-type]
        self.desk = Desk(
            {ASSET: asset},
            SETTINGS,
            self.offers,
            self.past,
            self.ahead,
            self.market,
            self.model,
            self.clock,
            self._switch,
            self._put,
            self._count,
        )

    def _switch(self) -> Any:
        self.turns.point()
        return self.switch

    def _put(self, key: str, body: bytes, content_type: str) -> None:
        self.files[key] = body
        self.turns.wrote()

    def _count(self, name: str, value: float) -> None:
        self.counts[name] = self.counts.get(name, 0) + value

    def row(self, hour: int, market: Any = "RT") -> Offer | None:
        return self.offers.rows.get((ASSET, Slot(hour, market).key))
