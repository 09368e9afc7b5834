"""Open-Meteo's forecast API, and the API of the external price forecast."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping

from local.feeds import times
from local.feeds.world import World

PATH, FORECAST_PATH = "/v1/forecast", "/forecasts"
KEPT_DAYS = 92


def answer(world: World, query: Mapping[str, str], now: float, *, doubled: bool) -> bytes:
    """Return hourly temperatures as JSON. Raises `KeyError` or `ValueError` for an invalid query.

    :param doubled: whether every hour occurs twice
    """
    first, end = (
        int(datetime.datetime.fromisoformat(f"{query[name]}+00:00").timestamp()) // 3_600
        for name in ("start_hour", "end_hour")
    )
    if first < now - KEPT_DAYS * 24:
        raise ValueError("start_hour is out of the allowed range")
    rows = list(world.series("temperature", first, end + 1, now))
    rows += rows[::-1] if doubled else []
    document = {
        "latitude": 0.0,
        "longitude": 0.0,
        "utc_offset_seconds": 0,
        "timezone": "GMT",
        "hourly_units": {"time": "iso8601", "temperature_2m": "°C"},
        "hourly": {
            "time": [times.text(hour).removesuffix("Z") for hour, _ in rows],
            "temperature_2m": [value for _, value in rows],
        },
    }
    return json.dumps(document).encode()


def forecasts(world: World, query: Mapping[str, str], now: float, *, doubled: bool) -> bytes:
    """Return the external price forecast as JSON. Raises the same errors as `answer`."""
    first, end = times.parse(query["from"]), times.parse(query["to"])
    document = {
        "published": times.moment(now // 1).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "unit": "USD/MWh",
        "forecasts": {
            location: {
                times.text(hour): value
                for hour, value in world.series(f"price_forecast:{location}", first, end, now)
                if value is not None
            }
            for location in query["locations"].split(",")
            if location in world.history.locations
        },
    }
    text = json.dumps(document)
    if doubled:  # a JSON object that contains every location twice; a reader must use one of the two
        inner = json.dumps(document["forecasts"])[1:-1]
        text = text.replace(inner, f"{inner}, {inner}", 1)
    return text.encode()
