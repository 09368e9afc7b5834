"""A simulated market on the replay's clock: it accepts offers, clears them, and tracks the state of charge.

Real-time offers (`RT`) are due 75 minutes before their hour, day-ahead offers (`DA`) at 10:00 local time of
the day before. Day-ahead offers are awarded when the day-ahead prices are published, and awards settle at
these prices. At the end of an hour, its real-time offer, or else its day-ahead award, is cleared at the
real-time price, limited by the state of charge. If the history has no real-time price, the day-ahead price is
used instead. Only the difference between the cleared MW and the award settles at the real-time price.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from local.feeds import times
from local.feeds.curves import MarketAsset, Segments, checked, cleared
from local.feeds.world import World

REAL_TIME_LEAD_HOURS = 1.25
MARKETS = ("RT", "DA")
Answer = tuple[int, dict[str, Any]]


@dataclass(frozen=True)
class Offer:
    asset: str
    market: str
    hour: int
    segments: Segments
    id: str
    received: float

    def shown(self) -> dict[str, Any]:
        return {
            **{"asset": self.asset, "market": self.market, "hour": times.text(self.hour), "id": self.id},
            "segments": [list(segment) for segment in self.segments],
            "received": times.moment(self.received).isoformat(timespec="seconds"),
        }


@dataclass
class Market:
    world: World
    assets: Mapping[str, MarketAsset]
    floor: float = -150.0
    cap: float = 2_000.0
    offers: dict[tuple[str, str, int], Offer] = field(default_factory=dict)
    refused: list[dict[str, Any]] = field(default_factory=list)
    awarded: dict[str, dict[int, float]] = field(default_factory=dict)
    """Day-ahead awards: MW by asset and hour"""
    settled: list[dict[str, Any]] = field(default_factory=list)
    state_of_charge: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._next = int(self.world.clock.now() // 1)
        self.state_of_charge = dict.fromkeys(self.assets, 0.0)
        self.awarded = {name: {} for name in self.assets}

    def offer(self, given: Mapping[str, Any], now: float) -> Answer:
        """Process one offer. Return the status and body of the response."""
        self.settle(now)
        try:
            offer = self._read(given, now)
        except ValueError as error:
            return self._refuse(given, 422, "invalid", str(error))
        key = offer.asset, offer.market, offer.hour
        if known := self.offers.get(key):
            if known.id == offer.id:
                return 409, {"accepted": True, "error": "this offer was already accepted"}
            return self._refuse(given, 409, "double", "already offered")
        if now > self.deadline(offer.market, offer.hour):
            return self._refuse(given, 422, "late", f"the offer for {given['hour']} came after its deadline")
        self.offers[key] = offer
        return 200, {"accepted": True}

    def deadline(self, market: str, hour: int) -> float:
        if market == "DA":
            return self.world.day_ahead_deadline(times.day_of(hour, self.world.zone))
        return hour - REAL_TIME_LEAD_HOURS

    def _read(self, given: Mapping[str, Any], now: float) -> Offer:
        asset = self.assets.get(str(given.get("asset")))
        if asset is None:
            raise ValueError(f"asset must be one of {', '.join(self.assets)}")
        if given.get("market") not in MARKETS:
            raise ValueError(f"market must be RT or DA, got {given.get('market')!r}")
        if not isinstance(given.get("id"), str) or not given["id"]:
            raise ValueError("id must be a text that is not empty")
        hour = times.parse(str(given.get("hour")))
        segments = checked(given.get("segments"), asset, self.floor, self.cap)
        return Offer(asset.name, given["market"], hour, segments, given["id"], now)

    def _refuse(self, given: Mapping[str, Any], status: int, kind: str, why: str) -> Answer:
        shown = {name: given.get(name) for name in ("asset", "market", "hour", "id")}
        self.refused.append({**shown, "kind": kind, "error": why})
        return status, {"error": why}

    def settle(self, now: float) -> None:
        """Award the day-ahead offers whose prices are published, and clear the hours that have ended."""
        for (asset, market, hour), offer in self.offers.items():
            if market == "DA" and hour not in self.awarded[asset] and self._awarded_by(hour, now):
                price = self.world.price(self.assets[asset].location, hour)
                if price is not None:
                    self.awarded[asset][hour] = cleared(offer.segments, price)
        while self._next + 1 <= now:
            for asset in self.assets.values():
                self._clear(asset, self._next)
            self._next += 1

    def _awarded_by(self, hour: int, now: float) -> bool:
        return self.world.day_ahead_published(times.day_of(hour, self.world.zone)) <= now

    def _wanted(self, asset: MarketAsset, hour: int, price: float) -> float:
        """Return the MW of the real-time offer at `price`, else of the day-ahead award, else 0."""
        if offer := self.offers.get((asset.name, "RT", hour)):
            return cleared(offer.segments, price)
        return self.awarded[asset.name].get(hour, 0.0)

    def _clear(self, asset: MarketAsset, hour: int) -> None:
        day_ahead = self.world.price(asset.location, hour)
        real_time = self.world.price(asset.location, hour, "real_time")
        price = day_ahead if real_time is None else real_time
        if price is None:
            return
        before = self.state_of_charge[asset.name]
        wanted, award = self._wanted(asset, hour, price), self.awarded[asset.name].get(hour, 0.0)
        mw = asset.limited(wanted, before)
        after = self.state_of_charge[asset.name] = asset.after(mw, before)
        revenue = (mw - award) * price + award * (price if day_ahead is None else day_ahead)
        self.settled.append(
            {
                **{
                    "asset": asset.name,
                    "hour": times.text(hour),
                    "price": price,
                    "day_ahead_price": day_ahead,
                },
                **{"award": award, "wanted": wanted, "mw": mw, "revenue": revenue},
                "state_of_charge": after,
            }
        )

    def telemetry(self, name: str, hour: int, now: float) -> Answer:
        """Return the expected state of charge at the start of `hour`, and awards of present and later hours.

        For hours before `hour` that have not ended, the real-time offer is expected to clear at the day-ahead
        price. Without an offer, the award is expected.
        """
        self.settle(now)
        asset = self.assets.get(name)
        if asset is None:
            return 404, {"error": f"asset must be one of {', '.join(self.assets)}"}
        charge, expected = self.state_of_charge[name], dict[int, float]()
        for ahead in range(self._next, hour):
            price = self.world.price(asset.location, ahead)
            if price is not None and self._awarded_by(ahead, now):
                expected[ahead] = asset.limited(self._wanted(asset, ahead, price), charge)
                charge = asset.after(expected[ahead], charge)
        ahead = {hour: mw for hour, mw in self.awarded[name].items() if hour >= self._next}
        awards = {times.text(hour): mw for hour, mw in sorted(ahead.items())}
        return 200, {"state_of_charge": charge, "awards": awards}

    def results(self, now: float) -> dict[str, Any]:
        """Return every offer, award, settled hour and refusal, and the revenue of each asset."""
        self.settle(now)
        revenue = dict.fromkeys(self.assets, 0.0)
        for row in self.settled:
            revenue[row["asset"]] += row["revenue"]
        kinds = ("late", "double", "invalid")
        return {
            "offers": [offer.shown() for offer in self.offers.values()],
            "awards": {
                name: {times.text(hour): mw for hour, mw in sorted(found.items())}
                for name, found in self.awarded.items()
            },
            "settled": self.settled,
            "revenue": revenue,
            "refused": self.refused,
            **{kind: sum(one["kind"] == kind for one in self.refused) for kind in kinds},
        }
