"""Offers, one for each asset, hour and market, and their deadlines."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Literal

from power_bidding.core.assets import MarketSettings
from power_bidding.core.curves import Curve, plain
from power_feeds import hours

Market = Literal["RT", "DA"]
Status = Literal["proposed", "sent", "no_offer", "stopped"]
FINAL = ("sent", "no_offer")
"""Statuses after which a row is never changed."""
MINUTES = 60
LAST_RUN_HOURS = 3
"""Hours from the last run that makes day-ahead offers to their deadline: one hour for the run, and two hours
of reserve"""
LATE = "late"
"""Prefix of the reason of each offer that missed its deadline."""


@dataclass(frozen=True)
class Slot:
    """An hour of a market for which an offer is made."""

    hour: int
    """Hours since 1970-01-01 UTC"""
    market: Market

    @property
    def key(self) -> str:
        return f"{hours.text(self.hour)}#{self.market}"


@dataclass(frozen=True)
class Offer:
    """An offer: a row of the table `Bids`."""

    asset: str
    slot: Slot
    run: int
    """Hour of the run that made it"""
    curve: Curve
    """Empty if nothing is offered"""
    status: Status
    source: Literal["model", "fallback", "none"]
    model: str
    """Version of the model"""
    version: int
    """Version of the run's dataset"""
    made: str
    sent: str = ""
    tried: str = ""
    """Time of the first attempt to send it, or "". Once it is set, the segments stay unless the market
    rejects them"""
    refused: str = ""
    """Digest of the segments that the market rejected, or \"\""""
    reason: str = ""
    """Reason why it is not sent, or is a fallback"""

    @property
    def digest(self) -> str:
        """Id of the offer at the market, derived from its content."""
        return digest(self.asset, self.slot, self.curve)

    @property
    def final(self) -> bool:
        return self.status in FINAL

    @property
    def free(self) -> bool:
        """Whether its segments can be replaced: they were never sent, or the market rejected them."""
        return not self.final and (not self.tried or self.refused == self.digest)

    def replaced_by(self, other: Offer) -> Offer:
        """Return `other` as this offer's replacement.

        Raises `ValueError` if this offer may have been sent.
        """
        if not self.free:
            raise ValueError(
                f"the offer {self.asset} {self.slot.key} may have been sent, and must not change"
            )
        return replace(other, refused=self.refused)


def digest(asset: str, slot: Slot, curve: Curve) -> str:
    text = json.dumps([asset, slot.key, plain(curve)], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def stamp(now: float) -> str:
    """Return the time in hours since 1970-01-01 as text to the second, UTC."""
    return hours.moment(now).strftime("%Y-%m-%dT%H:%M:%SZ")


def due(slot: Slot, market: MarketSettings) -> float:
    """Return the deadline of the offer, in hours since 1970-01-01 UTC."""
    if slot.market == "RT":
        return slot.hour - market.lockout_minutes / MINUTES
    day = hours.market_day(slot.hour, market.time_zone)
    return hours.day_ahead_deadline(day, market.time_zone)


def real_time(run: int, market: MarketSettings) -> Slot:
    """Return the real-time hour for which a run makes an offer."""
    return Slot(run + market.lead_hours, "RT")


def open_day(run: int, market: MarketSettings) -> str | None:
    """Return the market day for which a run makes day-ahead offers; None if it makes none."""
    day = hours.shifted(hours.market_day(run, market.time_zone), 1)
    left = hours.day_ahead_deadline(day, market.time_zone) - run
    return day if LAST_RUN_HOURS <= left < LAST_RUN_HOURS + market.day_ahead_runs else None


def slots(run: int, market: MarketSettings) -> list[Slot]:
    """Return the slots of a run: one real-time hour, then the hours of the open day-ahead market."""
    day = open_day(run, market)
    ahead = hours.hours_of(day, market.time_zone) if day else ()
    return [real_time(run, market), *(Slot(hour, "DA") for hour in ahead)]


def sends(run: int, slot: Slot, market: MarketSettings) -> bool:
    """Return whether the run is the last one for the slot, and so sends the offer. Earlier runs prepare
    it."""
    return slot.market == "RT" or due(slot, market) - run < LAST_RUN_HOURS + 1
