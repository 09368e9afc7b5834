"""The data that is published at a time of the replay.

    series                         published
    day-ahead prices of day D      13:00 local time of D-1
    real-time price of an hour     after the hour
    load forecast of D             21:10 local time of D-2
    temperature                    measured: after the start of the hour; forecast: hourly, from past values
    external price forecast of D   hourly until D's day-ahead deadline, from published prices

The external price forecast is the average of the same hour a week before and the mean of the same hour over
the last 7 published days. The temperature forecast is the temperature at the same hour of the last known day,
moved towards the mean of that hour over 7 days: its difference from the mean halves with each day ahead. If
the load in the history is metered, not a forecast, the published forecast is the load of the same hour a week
before.
"""

from __future__ import annotations

import datetime
import functools
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from local.feeds import times
from local.feeds.clock import ReplayClock
from local.feeds.faults import Faults
from local.feeds.history import History

DAY_AHEAD_PUBLISHED = datetime.time(13)
DAY_AHEAD_DEADLINE = datetime.time(10)
LOAD_PUBLISHED = datetime.time(21, 10)
HORIZON_HOURS = 72
FORECAST_DAYS = 7
WEEK_HOURS = 168
TWELVE = 12
FEED_OF = {
    "price": "market_prices",
    "real_time": "market_prices",
    "load": "load",
    "temperature": "weather",
    "price_forecast": "price_forecast",
}
"""Feed of each column."""


@dataclass(eq=False)
class World:
    history: History
    zone: ZoneInfo
    clock: ReplayClock
    metered_load: bool = False
    faults: Faults = field(default_factory=Faults)

    def series(
        self, name: str, first: int, end: int, now: float, published_by: float | None = None
    ) -> Iterator[tuple[int, float | None]]:
        """Yield the published hours from `first` to before `end` with their values; None: a missing value.

        :param published_by: a time before `now`: yield only hours that were published by then. Faults apply
            as of `now`
        """
        column = name.partition(":")[0]
        feed = FEED_OF[column]
        active = self.faults.of(feed, now)
        late = min((fault.first for fault in active if fault.kind == "late"), default=None)
        for hour in range(first, end):
            if not self._published(column, hour, now if published_by is None else published_by) or (
                late is not None and hour >= late
            ):
                continue
            yield hour, self._faulty(name, hour, first, now)

    def day_ahead_published(self, day: datetime.date) -> float:
        return times.at(times.shifted(day, -1), DAY_AHEAD_PUBLISHED, self.zone)

    def day_ahead_deadline(self, day: datetime.date) -> float:
        return times.at(times.shifted(day, -1), DAY_AHEAD_DEADLINE, self.zone)

    def price(self, location: str, hour: int, column: str = "price") -> float | None:
        """Return the market's clearing price, even if it is not published yet."""
        return self.history.series.get(f"{column}:{location}", {}).get(hour)

    @functools.lru_cache(maxsize=100_000)  # noqa: B019 - there is one world, as long as its server runs
    def _when(self, column: str, hour: int) -> float:
        day = times.day_of(hour, self.zone)
        if column == "price":
            return self.day_ahead_published(day)
        if column == "load":
            return times.at(times.shifted(day, -2), LOAD_PUBLISHED, self.zone)
        return hour + 1 if column == "real_time" else hour - HORIZON_HOURS

    def _published(self, column: str, hour: int, now: float) -> bool:
        inside = self.history.first <= hour <= self.history.last
        return inside and self._when(column, hour) <= now

    def _faulty(self, name: str, hour: int, first: int, now: float) -> float | None:
        column = name.partition(":")[0]
        active = self.faults.of(FEED_OF[column], now)
        kinds = {fault.kind for fault in active}
        if "corrupt_hubs" in kinds and column == "price":
            name = f"price:{self.history.locations[0]}"
        if "corrupt_flat" in kinds:
            hour = max(first, self.history.first)
        value = self._value(name, hour, now)
        for fault in active:
            if fault.kind == "corrected" and (fault.series, fault.hour) == (name, hour):
                value = fault.value
        return value * TWELVE if value is not None and "corrupt_units" in kinds else value

    def _value(self, name: str, hour: int, now: float) -> float | None:
        column, _, location = name.partition(":")
        known = self.history.series.get(name, {})
        if column == "price_forecast":
            return self._forecast(location, hour, now)
        if column == "temperature":
            return known.get(hour) if hour <= now else self._temperature(known, hour, now)
        if column == "load" and self.metered_load:
            return known.get(hour - WEEK_HOURS)
        return known.get(hour)

    def _temperature(self, known: dict[int, float], hour: int, now: float) -> float | None:
        """Forecast a temperature by the rule in the module's docstring."""
        days = int(-(-(hour - now) // 24))
        past = [
            known[earlier]
            for earlier in range(hour - 24 * days, hour - 24 * (days + FORECAST_DAYS), -24)
            if earlier in known
        ]
        if not past:
            return None
        mean = statistics.fmean(past)
        return round(mean + (past[0] - mean) * 0.5**days, 2)

    def _forecast(self, location: str, hour: int, now: float) -> float | None:
        """Forecast the day-ahead price of `hour` as of now, or of its day's deadline if that has passed."""
        as_of = min(now // 1, self.day_ahead_deadline(times.day_of(hour, self.zone)))
        known = self.history.series[f"price:{location}"]
        past = [
            known[earlier]
            for earlier in range(hour - 24, hour - 24 * (FORECAST_DAYS + 4), -24)
            if earlier in known and self._when("price", earlier) <= as_of
        ][:FORECAST_DAYS]
        if not past:
            return None
        week = known.get(hour - WEEK_HOURS, statistics.fmean(past))
        return round((statistics.fmean(past) + week) / 2, 2)
