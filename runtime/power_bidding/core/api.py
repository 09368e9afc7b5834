"""The read-only API: bids and the state of the service, as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Protocol, TypedDict

from power_bidding.core.assets import AssetSettings, MarketSettings
from power_bidding.core.bid_ports import Clock, OfferTable, Serving
from power_bidding.core.curves import plain
from power_bidding.core.hours_table import HourRow
from power_bidding.core.offers import FINAL, Offer, Slot, due, real_time, stamp
from power_feeds import hours

PAGE = 50
MOST_PAGE = 200
STATUS_HOURS = 24
NEXT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:00Z#(RT|DA)")


class GatewayEvent(TypedDict, total=False):
    """Event of an HTTP API (payload 2.0), with the fields that are read."""

    routeKey: str
    pathParameters: Mapping[str, str] | None
    queryStringParameters: Mapping[str, str] | None
    requestContext: Mapping[str, Any]


class GatewayResponse(TypedDict):
    statusCode: int
    headers: dict[str, str]
    body: str


class RequestError(Exception):
    """The request is invalid. The message has the allowed values."""

    def __init__(self, status: int, field: str, message: str):
        super().__init__(message)
        self.status, self.field, self.message = status, field, message


class HourTable(Protocol):
    def rows(self, of: Sequence[int]) -> Mapping[int, HourRow]:
        """Return the rows of those hours that have a row."""
        ...


@dataclass(frozen=True)
class Reader:
    assets: Mapping[str, AssetSettings]
    market: MarketSettings
    offers: OfferTable
    hours: HourTable
    clock: Clock
    switch: Callable[[], str]
    serving: Callable[[], Serving | None]


def response(status: int, body: Mapping[str, Any]) -> GatewayResponse:
    headers = {"content-type": "application/json", "cache-control": "no-store"}
    return {"statusCode": status, "headers": headers, "body": json.dumps(body)}


def answer(reader: Reader, event: GatewayEvent) -> GatewayResponse:
    """Return the response to a request. An invalid request gets an error response."""
    try:
        route = event.get("routeKey", "")
        if route not in ROUTES:
            raise RequestError(404, "path", f"the path must be one of {', '.join(ROUTES)}")
        allowed, operation = ROUTES[route]
        query = event.get("queryStringParameters") or {}
        if unknown := sorted(set(query) - set(allowed)):
            known = ", ".join(allowed) or "none"
            raise RequestError(400, unknown[0], f"{unknown[0]} is unknown, must be one of {known}")
        return response(200, operation(reader, event.get("pathParameters") or {}, query))
    except RequestError as error:
        return response(error.status, {"error": error.message, "field": error.field})


def _bids_of_day(reader: Reader, path: Mapping[str, str], query: Mapping[str, str]) -> dict[str, Any]:
    first = hours.parse(f"{_day(query.get('date'))}T00:00Z")
    name = query.get("asset", "")
    if name not in reader.assets:
        raise RequestError(
            400, "asset", f"asset must be one of {', '.join(sorted(reader.assets))}, got {name!r}"
        )
    limit = _limit(query.get("limit", str(PAGE)))
    rows = reader.offers.between(name, first, first + 23)
    if after := query.get("next"):
        if not NEXT.fullmatch(after):
            raise RequestError(
                400, "next", f"next must be the value of next in the previous response, got {after!r}"
            )
        rows = [row for row in rows if row.slot.key > after]
    page = rows[:limit]
    more = {"next": page[-1].slot.key} if len(rows) > limit else {}
    return {"bids": [_shown(row) for row in page], **more}


def _bids_of_hour(reader: Reader, path: Mapping[str, str], query: Mapping[str, str]) -> dict[str, Any]:
    text = path.get("hour", "")
    try:
        hour = hours.parse(text)
    except ValueError:
        raise RequestError(
            400, "hour", f"hour must be a UTC hour like 2022-01-31T05:00Z, got {text!r}"
        ) from None
    slots = [Slot(hour, "RT"), Slot(hour, "DA")]
    found = [reader.offers.get(name, slot) for name in sorted(reader.assets) for slot in slots]
    return {"hour": text, "bids": [_shown(row) for row in found if row]}


def _status(reader: Reader, path: Mapping[str, str], query: Mapping[str, str]) -> dict[str, Any]:
    now = reader.clock.now()
    run = int(now // 1)
    serving = reader.serving()
    model = (
        {
            "endpoint": serving.endpoint,
            "version": serving.version,
            "trained_to": hours.text(serving.trained_to),
        }
        if serving
        else None
    )
    known = reader.hours.rows(range(run - STATUS_HOURS, run + 1))
    newest = known[max(known)] if known else None
    return {
        "now": stamp(now),
        "switch": reader.switch(),
        "model": model,
        "dataset": newest
        and {
            "hour": hours.text(newest.hour),
            "version": newest.version,
            "status": newest.status,
            "flags": newest.flags,
        },
        "assets": {name: _asset_status(reader, name, run) for name in sorted(reader.assets)},
    }


def _asset_status(reader: Reader, name: str, run: int) -> dict[str, Any]:
    """Return the asset's next real-time offer, and counts over the 24 hours that end with this offer's hour:
    fallbacks, no-offers and offers that are not final."""
    slot = real_time(run, reader.market)
    rows = reader.offers.between(name, slot.hour - STATUS_HOURS + 1, slot.hour)
    recent = [row for row in rows if row.slot.market == "RT"]
    following = next((row for row in recent if row.slot == slot), None)
    return {
        "next": {"offer": slot.key, "due": stamp(due(slot, reader.market)), "status": _word(following)},
        "fallback_hours": sum(row.source == "fallback" for row in recent),
        "no_offer_hours": sum(row.status == "no_offer" for row in recent),
        "open_hours": sum(row.status not in FINAL for row in recent),
    }


def _word(row: Offer | None) -> str:
    return row.status if row else "not made"


def _shown(row: Offer) -> dict[str, Any]:
    return {
        "asset": row.asset,
        "hour": hours.text(row.slot.hour),
        "market": row.slot.market,
        "segments": plain(row.curve),
        "status": row.status,
        "source": row.source,
        "model": row.model,
        "version": row.version,
        "made": row.made,
        "sent": row.sent,
        "reason": row.reason,
    }


def _day(text: str | None) -> str:
    try:
        if text and re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            return date.fromisoformat(text).isoformat()
    except ValueError:
        pass
    raise RequestError(400, "date", f"date must be a UTC day like 2022-01-31, got {text!r}")


def _limit(text: str) -> int:
    if re.fullmatch(r"\d{1,3}", text) and 1 <= int(text) <= MOST_PAGE:
        return int(text)
    raise RequestError(400, "limit", f"limit must be a whole number from 1 to {MOST_PAGE}, got {text!r}")


Operation = Callable[[Reader, Mapping[str, str], Mapping[str, str]], dict[str, Any]]
ROUTES: dict[str, tuple[Sequence[str], Operation]] = {
    "GET /bids": (("date", "asset", "limit", "next"), _bids_of_day),
    "GET /bids/{hour}": ((), _bids_of_hour),
    "GET /status": ((), _status),
}
