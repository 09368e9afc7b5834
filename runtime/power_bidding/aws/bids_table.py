"""The DynamoDB table `Bids`, as `bid_ports.OfferTable`.

In addition to offers, the table has items with the keys `forecast#DAY`, the forecast prices of a market day,
and `charge#HOUR`, the state of charge at the beginning of an hour.
"""

from __future__ import annotations

import json
from typing import Any

from power_bidding.aws.tables import Item, Table
from power_bidding.core.bid_ports import Forecast
from power_bidding.core.curves import plain
from power_bidding.core.offers import Offer, Slot
from power_feeds import hours

CHARGE, FORECAST = "charge#", "forecast#"
COMPARED = ("status", "digest", "tried", "refused", "made", "run", "version")
"""Attributes that are compared to detect whether a stored row has changed."""


class DynamoBids:
    def __init__(self, table: Table):
        self.table = table

    def get(self, asset: str, slot: Slot) -> Offer | None:
        item = self.table.get(asset=asset, offer=slot.key)
        return offer_of(item) if item else None

    def swap(self, before: Offer | None, now: Offer) -> bool:
        if before is None:
            return self.table.put(item_of(now), "attribute_not_exists(#offer)")
        if before.final:
            raise ValueError(
                f"the offer {before.asset} {before.slot.key} is {before.status}, and must not change"
            )
        held = item_of(before)
        condition = " AND ".join(f"#{name} = :{name}" for name in COMPARED)
        return self.table.put(item_of(now), condition, {name: held[name] for name in COMPARED})

    def between(self, asset: str, first: int, last: int) -> list[Offer]:
        sort = ("offer", f"{hours.text(first)}#", f"{hours.text(last)}#~")
        return [offer_of(item) for item in self.table.between(("asset", asset), sort)]

    def level(self, asset: str, hour: int) -> tuple[int, float] | None:
        sort = ("offer", CHARGE, CHARGE + hours.text(hour))
        for item in self.table.between(("asset", asset), sort, newest=1):
            return hours.parse(str(item["offer"]).removeprefix(CHARGE)), float(item["level"])
        return None

    def put_level(self, asset: str, hour: int, level: float) -> None:
        self.table.put({"asset": asset, "offer": CHARGE + hours.text(hour), "level": level})

    def put_forecast(self, forecast: Forecast) -> None:
        item: Item = {
            "asset": forecast.asset,
            "offer": FORECAST + forecast.day,
            "start": hours.text(forecast.start),
            "prices": json.dumps(list(forecast.prices)),
            "model": forecast.model,
            "run": forecast.run,
            "made": forecast.made,
        }
        self.table.put(item, "attribute_not_exists(#offer) OR #run <= :run", {"run": forecast.run})

    def forecasts(self, asset: str, first_day: str, last_day: str) -> list[Forecast]:
        sort = ("offer", FORECAST + first_day, FORECAST + last_day)
        return [_forecast_of(item) for item in self.table.between(("asset", asset), sort)]


def item_of(offer: Offer) -> Item:
    return {
        "asset": offer.asset,
        "offer": offer.slot.key,
        "run": offer.run,
        "segments": json.dumps(plain(offer.curve)),
        "status": offer.status,
        "source": offer.source,
        "model": offer.model,
        "version": offer.version,
        "made": offer.made,
        "sent": offer.sent,
        "tried": offer.tried,
        "refused": offer.refused,
        "reason": offer.reason,
        "digest": offer.digest,
    }


def offer_of(item: Item) -> Offer:
    hour, _, market = str(item["offer"]).partition("#")
    kept: dict[str, Any] = {
        name: item[name]
        for name in (
            "asset",
            "run",
            "status",
            "source",
            "model",
            "version",
            "made",
            "sent",
            "tried",
            "refused",
        )
    }
    curve = tuple((float(mw), float(price)) for mw, price in json.loads(item["segments"]))
    slot = Slot(hours.parse(hour), "RT" if market == "RT" else "DA")
    return Offer(slot=slot, curve=curve, reason=item["reason"], **kept)


def _forecast_of(item: Item) -> Forecast:
    return Forecast(
        item["asset"],
        str(item["offer"]).removeprefix(FORECAST),
        hours.parse(item["start"]),
        json.loads(item["prices"]),
        item["model"],
        item["run"],
        item["made"],
    )
