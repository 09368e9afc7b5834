"""Interfaces for making and sending bids; `aws/` implements them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from power_bidding.core.assets import AssetSettings, MarketSettings
from power_bidding.core.offers import Offer, Slot

Switch = Literal["go", "approve", "stop"]
SWITCHES: tuple[Switch, ...] = ("go", "approve", "stop")


class EndpointThrottledError(Exception):
    """The endpoint has no capacity now, or is starting. Retry later."""


class ModelAnswerError(Exception):
    """The model's answer is invalid, or there is no answer. The message has the reason."""


class MarketRefusedError(Exception):
    """The market rejects the offer; a retry does not help. The message has the market's reason."""


class MarketDownError(Exception):
    """The market gave no valid answer, so it may or may not have the offer. Send the same offer again."""


class Clock(Protocol):
    def now(self) -> float:
        """Return the market's time in hours since 1970-01-01 UTC."""
        ...


@dataclass(frozen=True)
class Forecast:
    """Forecast of the day-ahead prices of a market day, made before the deadline of its day-ahead offers."""

    asset: str
    day: str
    start: int
    """The day's first hour"""
    prices: Sequence[float]
    """$/MWh, one for each hour of the day"""
    model: str
    run: int
    made: str


class OfferTable(Protocol):
    def get(self, asset: str, slot: Slot) -> Offer | None:
        """Return the current row; None if it does not exist."""
        ...

    def swap(self, before: Offer | None, now: Offer) -> bool:
        """Write the row `now` if the stored row equals `before`; return whether it was written.

        Raises `ValueError` if `before` is final.
        """
        ...

    def between(self, asset: str, first: int, last: int) -> list[Offer]:
        """Return the rows of the hours from `first` to `last`, both included, in order."""
        ...

    def level(self, asset: str, hour: int) -> tuple[int, float] | None:
        """Return the newest known state of charge up to an hour: the hour that began with it, and the MWh."""
        ...

    def put_level(self, asset: str, hour: int, level: float) -> None: ...

    def put_forecast(self, forecast: Forecast) -> None:
        """Store the forecast, unless a forecast of a later run is stored."""
        ...

    def forecasts(self, asset: str, first_day: str, last_day: str) -> list[Forecast]: ...


Cells = Mapping[str, str | int]
"""For each hour NN of a UTC day: `hNN` the values, `fNN` the frozen forecast, `gNN` the run that froze it."""


class HistoryTable(Protocol):
    def days(self, location: str, first: str, last: str) -> Mapping[str, Cells]:
        """Return `hNN`, `fNN` and `gNN` of the stored UTC days from `first` to `last`."""
        ...


class Datasets(Protocol):
    def forward(self, hour: int, version: int | None) -> Mapping[str, Mapping[str, float]]:
        """Return the values of later hours in the dataset of `hour`, by series and hour; {} without a
        dataset.

        :param version: version of the dataset; None: the newest one
        """
        ...


@dataclass(frozen=True)
class Telemetry:
    level: float
    """Expected MWh at the beginning of the hour"""
    awards: Mapping[int, float]
    """Awarded MW by hour"""


class OfferMarket(Protocol):
    @property
    def open(self) -> bool:
        """Return whether there is a market. If not, no offers are sent."""
        ...

    def send(self, offer: Offer) -> None:
        """Send the offer. Does nothing if the market already has it.

        Raises `MarketRefusedError` and `MarketDownError`.
        """
        ...

    def telemetry(self, asset: str, hour: int) -> Telemetry:
        """Return the telemetry of an hour. Raises `MarketDownError`."""
        ...


@dataclass(frozen=True)
class Serving:
    """The model in service."""

    endpoint: str
    version: str
    trained_to: int
    """The newest hour of its training data"""


class Models(Protocol):
    def serving(self) -> Serving | None: ...

    def ask(self, endpoint: str, request: Mapping[str, Any]) -> Any:
        """Return the endpoint's JSON answer. Raises `EndpointThrottledError` and `ModelAnswerError`."""
        ...


@dataclass(frozen=True)
class Desk:
    """Settings and adapters for making bids."""

    assets: Mapping[str, AssetSettings]
    settings: MarketSettings
    offers: OfferTable
    history: HistoryTable
    datasets: Datasets
    market: OfferMarket
    models: Models
    clock: Clock
    switch: Callable[[], Switch]
    """Reads the switch at each call"""
    put: Callable[[str, bytes, str], None]
    """Writes an object to the bucket: key, body, content type"""
    count: Callable[[str, float], None]
    """Adds to a metric: name, value"""

    def asset(self, name: str) -> AssetSettings:
        if name not in self.assets:
            raise ValueError(f"asset must be one of {', '.join(sorted(self.assets))}, got {name}")
        return self.assets[name]
