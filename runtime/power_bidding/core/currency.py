"""Checks whether the model in service is current, by the age of its data and its loss on trailing days.

The loss ratio of a day is the mean absolute error of the day-ahead prices that were forecast before the
deadline, divided by the error of the persistence forecast. Each day's ratio is clipped, because a day of
price spikes would dominate the mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypedDict

from power_bidding.core import readings
from power_bidding.core.assets import AssetSettings, MarketSettings, ModelSettings
from power_bidding.core.bid_ports import Forecast, HistoryTable, OfferTable, Serving
from power_feeds import hours

TRAILING_DAYS = 14
LEAST_DAYS = 7
"""Minimum number of days with forecasts. A model with fewer days is not judged by its loss."""
WORST_DAY = 3.0


class Currency(TypedDict):
    current: bool
    reason: str
    endpoint: str
    """"" if no model is in service"""


class Trainings(Protocol):
    def executing(self) -> bool:
        """Return whether an execution of the pipeline is running."""
        ...


@dataclass(frozen=True)
class Inspection:
    """The data by which the model in service is judged."""

    assets: Mapping[str, AssetSettings]
    market: MarketSettings
    model: ModelSettings
    offers: OfferTable
    history: HistoryTable


def check_model(
    desk: Inspection, trainings: Trainings, serving: Serving | None, last_start: int | None, run: int
) -> Currency:
    """Return whether the run may continue without training.

    :param serving: the model in service
    :param last_start: the hour whose run last started the pipeline
    """
    endpoint = serving.endpoint if serving else ""
    reason = "no model is in service" if serving is None else _fault(desk, serving, last_start, run)
    if not reason:
        return {"current": True, "reason": "current", "endpoint": endpoint}
    if trainings.executing():
        return {"current": True, "reason": f"already retraining: {reason}", "endpoint": endpoint}
    return {"current": False, "reason": reason, "endpoint": endpoint}


def _fault(desk: Inspection, serving: Serving, last_start: int | None, run: int) -> str:
    """Return the reason to train the model in service again, or ""."""
    if last_start is not None and run - desk.model.pause_hours < last_start <= run:
        return ""
    age = run - serving.trained_to
    if age > desk.model.max_age_hours:
        return (
            f"the training data ends {age} hours before the run, must be at most {desk.model.max_age_hours}"
        )
    for name, asset in sorted(desk.assets.items()):
        ratio = loss_ratio(desk, name, asset.location, serving.version, run)
        if ratio is not None and ratio >= 1:
            return f"the trailing loss of {name} is {ratio:.2f} of persistence's loss, must be less than 1"
    return ""


def loss_ratio(desk: Inspection, name: str, location: str, version: str, run: int) -> float | None:
    """Return the mean of the model's clipped loss ratios over the trailing days.

    None with fewer than `LEAST_DAYS` days. The days are market days that end before the run's hour ends.
    """
    zone = desk.market.time_zone
    today = hours.market_day(run + 1, zone)
    made = desk.offers.forecasts(name, hours.shifted(today, -TRAILING_DAYS), hours.shifted(today, -1))
    prices = readings.stored(desk.history, location, run, TRAILING_DAYS + 3)["price"]
    ratios = [
        ratio
        for each in made
        if each.model == version and (ratio := day_ratio(each, prices, zone)) is not None
    ]
    return sum(ratios) / len(ratios) if len(ratios) >= LEAST_DAYS else None


def day_ratio(forecast: Forecast, prices: Mapping[int, float], zone: str) -> float | None:
    """Return the day's clipped loss ratio; None if a price of the day or of the day before is missing."""
    day = hours.hours_of(forecast.day, zone)
    before = hours.hours_of(hours.shifted(forecast.day, -1), zone)
    if len(forecast.prices) != len(day) or any(hour not in prices for hour in (*before, *day)):
        return None
    true = [prices[hour] for hour in day]
    # For a day of 25 hours, the last hour of the 24-hour day before it is used twice
    naive = [prices[before[min(at, len(before) - 1)]] for at in range(len(day))]
    ours, theirs = _error(forecast.prices, true), _error(naive, true)
    if theirs == 0:
        return 0.0 if ours == 0 else WORST_DAY
    return min(ours / theirs, WORST_DAY)


def _error(guess: Sequence[float], true: Sequence[float]) -> float:
    return sum(abs(a - b) for a, b in zip(guess, true, strict=True)) / len(true)
