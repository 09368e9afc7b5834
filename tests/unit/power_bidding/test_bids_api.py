"""The read-only API: bids by day and hour, the state of the service, and errors that name the field."""

from __future__ import annotations

import json
from typing import Any

import pytest

from power_bidding.core.api import ROUTES, GatewayEvent, Reader, answer
from power_bidding.core.bidding import make_bids
from power_bidding.core.fallback import fall_back
from power_bidding.core.hours_table import HourRow
from power_feeds import hours
from tests.support.power_bidding.desks import ASSET, LAST, NIGHT, SETTINGS, World


class Hours:
    def __init__(self) -> None:
        self.known: dict[int, HourRow] = {}

    def rows(self, of: Any) -> dict[int, HourRow]:
        return {hour: self.known[hour] for hour in of if hour in self.known}


def reader(world: World) -> Reader:
    table = Hours()
    for hour in (NIGHT - 1, NIGHT):
        table.known[hour] = HourRow(hour, 2, "interpolated", "d", "k", {"load": "carried"}, {}, hour, "i", [])
    desk = world.desk
    return Reader(
        desk.assets, SETTINGS, world.offers, table, world.clock, lambda: world.switch, world.model.serving
    )


def get(world: World, route: str, query: dict[str, str] | None = None, **path: str) -> tuple[int, Any]:
    event: GatewayEvent = {"routeKey": f"GET {route}", "queryStringParameters": query, "pathParameters": path}
    answered = answer(reader(world), event)
    assert answered["headers"]["content-type"] == "application/json"
    return answered["statusCode"], json.loads(answered["body"])


def day_of_bids() -> World:
    """Return a world in which the last run before the deadline has sent its offers."""
    world = World("self_schedule", LAST)
    make_bids(world.desk, LAST, 1, ASSET)
    return world


def test_bids_of_a_day_are_returned_in_pages() -> None:
    world = day_of_bids()
    seen: list[tuple[str, str]] = []
    query = {"date": "2022-02-01", "asset": ASSET, "limit": "5"}
    while True:
        status, body = get(world, "/bids", query)
        assert status == 200
        assert len(body["bids"]) <= 5
        seen += [(bid["hour"], bid["market"]) for bid in body["bids"]]
        if "next" not in body:
            break
        query["next"] = body["next"]
    assert seen == [(f"2022-02-01T{hour:02d}:00Z", "DA") for hour in range(6, 24)]


def test_bids_of_an_hour_have_the_offered_segments() -> None:
    world = day_of_bids()
    status, body = get(world, "/bids/{hour}", hour="2022-01-31T15:00Z")
    assert status == 200
    assert body["hour"] == "2022-01-31T15:00Z"
    assert body["bids"] == [
        {
            "asset": ASSET,
            "hour": "2022-01-31T15:00Z",
            "market": "RT",
            "segments": [[0.0, -150.0], [5.0, 41.0]],
            "status": "sent",
            "source": "model",
            "model": "7",
            "version": 1,
            "made": "2022-01-31T13:15:00Z",
            "sent": "2022-01-31T13:15:00Z",
            "reason": "",
        }
    ]
    assert get(world, "/bids/{hour}", hour="2022-01-30T17:00Z") == (
        200,
        {"hour": "2022-01-30T17:00Z", "bids": []},
    )


@pytest.mark.parametrize(
    ("query", "field", "allowed"),
    [
        ({"asset": ASSET}, "date", "2022-01-31"),
        ({"date": "2022-02-30", "asset": ASSET}, "date", "2022-01-31"),
        ({"date": "20220201", "asset": ASSET}, "date", "2022-01-31"),
        ({"date": "2022-02-01"}, "asset", ASSET),
        ({"date": "2022-02-01", "asset": "x"}, "asset", ASSET),
        ({"date": "2022-02-01", "asset": ASSET, "limit": "0"}, "limit", "from 1 to 200"),
        ({"date": "2022-02-01", "asset": ASSET, "limit": "201"}, "limit", "from 1 to 200"),
        ({"date": "2022-02-01", "asset": ASSET, "limit": "1.5"}, "limit", "from 1 to 200"),
        ({"date": "2022-02-01", "asset": ASSET, "next": "x"}, "next", "next must be"),
        ({"date": "2022-02-01", "asset": ASSET, "page": "1"}, "page", "date, asset, limit, next"),
    ],
)
def test_invalid_query_is_refused_with_its_field(query: dict[str, str], field: str, allowed: str) -> None:
    status, body = get(World(), "/bids", query)
    assert (status, body["field"]) == (400, field)
    assert allowed in body["error"]


@pytest.mark.parametrize(
    "hour", ["", "2022-01-31", "2022-01-31T05:30Z", "2022-01-31T25:00Z", "forecast#2022-02-01"]
)
def test_invalid_hour_is_refused_with_its_field(hour: str) -> None:
    status, body = get(World(), "/bids/{hour}", hour=hour)
    assert (status, body["field"]) == (400, "hour")
    assert "2022-01-31T05:00Z" in body["error"]


def test_unknown_route_lists_those_that_are() -> None:
    status, body = get(World(), "/prices")
    assert (status, body["field"]) == (404, "path")
    assert all(route in body["error"] for route in ROUTES)


def test_status_shows_model_dataset_switch_and_assets() -> None:
    world = World()
    world.switch = "stop"
    status, body = get(world, "/status")
    assert (status, body["switch"], body["now"]) == (200, "stop", "2022-01-31T05:15:00Z")
    assert body["model"] == {
        "endpoint": "power-0123456789ab",
        "version": "7",
        "trained_to": hours.text(NIGHT - 24),
    }
    assert body["dataset"] == {
        "hour": hours.text(NIGHT),
        "version": 2,
        "status": "interpolated",
        "flags": {"load": "carried"},
    }
    following = {"offer": "2022-01-31T07:00Z#RT", "due": "2022-01-31T05:45:00Z", "status": "not made"}
    assert body["assets"][ASSET]["next"] == following
    world.switch, world.model.in_service = "go", False
    fall_back(world.desk, NIGHT, ASSET, "x")
    _, body = get(world, "/status")
    assert body["model"] is None
    assert body["assets"][ASSET] == {
        "next": following | {"status": "no_offer"},
        "fallback_hours": 0,
        "no_offer_hours": 1,
        "open_hours": 0,
    }
