"""Interfaces that making and sending bids depends on; `aws/` implements them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from power_bidding.core.assets import AssetSettings, MarketSettings
from power_bidding.core.offers import Offer, Slot

Switch = Literal["go", "approve", "stop"]
SWITCHES: tuple[Switch, ...] = ("go", "approve", "stop")


class EndpointThrottledError(Exception):
    """The endpoint has no capacity now, or is starting. Try again."""


class ModelAnswerError(Exception):
    """The model's answer may not become bids, or there is no answer. The message says why."""


class MarketRefusedError(Exception):
    """The market refuses the offer for good. The message has its reason."""


class MarketDownError(Exception):
    """Whether the market has the offer is not known. Send the same one again."""


class Clock(Protocol):
    def now(self) -> float:
        """Return the market's time in hours since 1970-01-01 UTC."""
        ...


@dataclass(frozen=True)
class Forecast:
    """The day-ahead prices of a market day, as forecast before its deadline."""

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
        """Return the row as it is now."""
        ...

    def swap(self, before: Offer | None, now: Offer) -> bool:
        """Write the row if it still is `before`; return whether it was.

        Raises `ValueError` where `before` is final.
        """
        ...

    def between(self, asset: str, first: int, last: int) -> list[Offer]:
        """Return the rows of the hours from `first` to `last`, both included, in order."""
        ...

    def level(self, asset: str, hour: int) -> tuple[int, float] | None:
        """Return the newest known state of charge up to an hour: the hour that began with it, and MWh."""
        ...

    def put_level(self, asset: str, hour: int, level: float) -> None: ...

    def put_forecast(self, forecast: Forecast) -> None:
        """Keep the forecast, unless a later run's is kept already."""
        ...

    def forecasts(self, asset: str, first_day: str, last_day: str) -> list[Forecast]: ...


Cells = Mapping[str, str | int]
"""Of a UTC day's hour NN: `hNN` its values, `fNN` the frozen forecast, `gNN` the run that froze it."""


class HistoryTable(Protocol):
    def days(self, location: str, first: str, last: str) -> Mapping[str, Cells]:
        """Return `hNN`, `fNN` and `gNN` of the UTC days from `first` to `last` that are there."""
        ...


class Datasets(Protocol):
    def forward(self, hour: int, version: int | None) -> Mapping[str, Mapping[str, float]]:
        """Return what the dataset knows of later hours, by series, by hour; {} where there is no dataset.

        Without a version: of the newest one.
        """
        ...


@dataclass(frozen=True)
class Telemetry:
    level: float
    """MWh expected at the begin of the hour"""
    awards: Mapping[int, float]
    """MW by hour"""


class OfferMarket(Protocol):
    @property
    def open(self) -> bool:
        """Whether there is a market: without one nothing is sent."""
        ...

    def send(self, offer: Offer) -> None:
        """Send the offer; one that the market has already is fine.

        Raises `MarketRefusedError` and `MarketDownError`.
        """
        ...

    def telemetry(self, asset: str, hour: int) -> Telemetry:
        """Raises `MarketDownError`."""
        ...


@dataclass(frozen=True)
class Serving:
    """The model in service."""

    endpoint: str
    version: str
    trained_to: int
    """The newest hour of its data"""


class Models(Protocol):
    def serving(self) -> Serving | None: ...

    def ask(self, endpoint: str, request: Mapping[str, Any]) -> Any:
        """Return the endpoint's JSON answer. Raises `EndpointThrottledError` and `ModelAnswerError`."""
        ...


@dataclass(frozen=True)
class Desk:
    """The dependencies of making bids."""

    assets: Mapping[str, AssetSettings]
    settings: MarketSettings
    offers: OfferTable
    history: HistoryTable
    datasets: Datasets
    market: OfferMarket
    models: Models
    clock: Clock
    switch: Callable[[], Switch]
    """Read anew at each call"""
    put: Callable[[str, bytes, str], None]
    """Write an object of the bucket: key, body, content type"""
    count: Callable[[str, float], None]
    """Add to a metric"""

    def asset(self, name: str) -> AssetSettings:
        if name not in self.assets:
            raise ValueError(f"asset must be one of {', '.join(sorted(self.assets))}, got {name}")
        return self.assets[name]
