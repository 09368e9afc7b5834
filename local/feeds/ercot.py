"""ERCOT's public reports: JSON pages that name each hour by its end. In day-ahead prices, the hour that
clocks skip in spring has null as its value."""

from __future__ import annotations

import datetime
import json
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

from local.feeds import times
from local.feeds.world import World

BASE = "/api/public-reports"
TOKEN_PATH = "/oauth2/v2.0/token"  # noqa: S105 - a path
TOKEN_SECONDS = 3_600
DAY_AHEAD, REAL_TIME = "/np4-190-cd/dam_stlmnt_pnt_prices", "/np6-905-cd/spp_node_zone_hub"
LOAD = "/np3-565-cd/lf_by_model_weather_zone"
FIELDS = {
    DAY_AHEAD: ("deliveryDate", "hourEnding", "settlementPoint", "settlementPointPrice", "DSTFlag"),
    REAL_TIME: (
        *("deliveryDate", "deliveryHour", "deliveryInterval", "settlementPoint", "settlementPointType"),
        *("settlementPointPrice", "DSTFlag"),
    ),
    LOAD: (
        *(
            "postedDatetime",
            "deliveryDate",
            "hourEnding",
            "coast",
            "east",
            "farWest",
            "north",
            "northCentral",
        ),
        *("southCentral", "southern", "west", "systemTotal", "model", "inUseFlag", "DSTFlag"),
    ),
}
ZONES = 8
MOST_SIZE = 1_000
Row = list[Any]


class Tokens:
    """Bearer tokens of one user, issued for the user's name and password."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.known: dict[str, float] = {}

    def issue(self) -> bytes:
        token = secrets.token_urlsafe(32)
        self.known[token] = self.clock() + TOKEN_SECONDS
        answer = {
            "id_token": token,
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": TOKEN_SECONDS,
        }
        return json.dumps(answer).encode()

    def valid(self, header: str) -> bool:
        kind, _, token = header.partition(" ")
        return kind == "Bearer" and self.known.get(token, 0) > self.clock()


def feed_of(path: str) -> str:
    return "load" if path == BASE + LOAD else "market_prices"


def answer(world: World, path: str, query: Mapping[str, str], now: float, *, doubled: bool) -> bytes | None:
    """Return the JSON of one page of a report, or None if the path is not a report.

    Raises `ValueError` or `KeyError` for an invalid query.

    :param doubled: whether every row occurs twice
    """
    report = path.removeprefix(BASE)
    reports = {DAY_AHEAD: _day_ahead, REAL_TIME: _real_time, LOAD: _load}
    if report not in reports:
        return None
    first = times.hours_of(datetime.date.fromisoformat(query["deliveryDateFrom"]), world.zone)[0]
    end = times.hours_of(datetime.date.fromisoformat(query["deliveryDateTo"]), world.zone)[-1] + 1
    rows = reports[report](world, query, first, end, now)
    rows += rows[::-1] if doubled else []
    size, page = min(int(query.get("size", MOST_SIZE)), MOST_SIZE), int(query.get("page", 1))
    pages = max(-(-len(rows) // size), 1)
    document = {
        "_meta": {"totalRecords": len(rows), "pageSize": size, "totalPages": pages, "currentPage": page},
        "report": {"reportEMIL": report.split("/")[1].upper()},
        "fields": [{"name": name, "label": name} for name in FIELDS[report]],
        "data": rows[(page - 1) * size : page * size],
    }
    return json.dumps(document).encode()


def _ending(world: World, hour: int) -> tuple[str, int, bool]:
    """Return the delivery date, the hour's end, and whether it is the hour that clocks repeat in autumn."""
    local = times.local(hour, world.zone)
    return local.date().isoformat(), local.hour + 1, bool(local.fold)


def _skipped(world: World, hour: int) -> bool:
    """Return whether the hour before `hour` is the one that clocks skip in spring."""
    before, here = times.local(hour - 1, world.zone), times.local(hour, world.zone)
    return (here.hour - before.hour) % 24 == 2


def _day_ahead(world: World, query: Mapping[str, str], first: int, end: int, now: float) -> list[Row]:
    point, rows = query["settlementPoint"], []
    for hour, value in world.series(f"price:{point}", first, end, now):
        day, ending, repeated = _ending(world, hour)
        if _skipped(world, hour):
            rows.append([day, f"{ending - 1:02d}:00", point, None, False])
        rows.append([day, f"{ending:02d}:00", point, value, repeated])
    return rows


def _real_time(world: World, query: Mapping[str, str], first: int, end: int, now: float) -> list[Row]:
    point, rows = query["settlementPoint"], []
    for hour, value in world.series(f"real_time:{point}", first, end, now):
        if value is None:
            continue
        day, ending, repeated = _ending(world, hour)
        rows += [[day, ending, quarter, point, "HU", value, repeated] for quarter in (1, 2, 3, 4)]
    return rows


def _load(world: World, query: Mapping[str, str], first: int, end: int, now: float) -> list[Row]:
    """Return the rows of all hourly postings. A posting has the load forecasts published by its hour.

    It has the forecasts of two models, and a flag for the model in use."""
    rows = []
    posted = [_local_hour(world, query[name]) for name in ("postedDatetimeFrom", "postedDatetimeTo")]
    for posting in range(posted[0], min(posted[1], int(now // 1)) + 1):
        when = times.local(posting, world.zone).strftime("%Y-%m-%dT%H:%M:%S")
        by = posting if posting < now // 1 else now
        for hour, value in world.series("load", first, end, now, by):
            day, ending, repeated = _ending(world, hour)
            for model, used in (("E", True), ("M", False)):
                total = value if value is None or used else round(value * 1.01, 2)
                parts = [None if total is None else round(total / ZONES, 2)] * ZONES
                rows.append([when, day, f"{ending:02d}:00", *parts, total, model, used, repeated])
    return rows


def _local_hour(world: World, text: str) -> int:
    return int(datetime.datetime.fromisoformat(text).replace(tzinfo=world.zone).timestamp()) // 3_600
