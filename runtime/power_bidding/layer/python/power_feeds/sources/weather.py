"""The weather from Open-Meteo's forecast API for customers.

Open-Meteo was chosen for three reasons. Its customer plans allow commercial use, unlike its free host
(https://open-meteo.com/en/terms); the data are CC BY 4.0. One answer has past and future hours. It covers the
whole world. api.weather.gov is in the public domain, but has no past hours and covers only the United States.
Format: https://open-meteo.com/en/docs. `weather.url` in the feeds' secret contains the coordinates:
https://customer-api.open-meteo.com/v1/forecast?latitude=29.76&longitude=-95.36.
"""

from __future__ import annotations

import json

from power_feeds import hours
from power_feeds.errors import FeedMalformedError
from power_feeds.http import AnsweredError, Client
from power_feeds.sources.fetched import Fetched, number

CELSIUS = "°C"
KEPT_HOURS = 92 * 24
"""Number of past hours that the forecast API has; requests for earlier hours are answered with 400."""


def fetch(client: Client, url: str, key: str, start: int, end: int) -> Fetched:
    """Return `temperature` in degrees Celsius from `start` to before `end`; null is a missing value.

    Raises `FeedDownError`, `FeedRefusedError` or `FeedMalformedError`.
    """
    found = Fetched()
    query = {
        "hourly": "temperature_2m",
        "timezone": "GMT",
        "start_hour": hours.moment(start).strftime("%Y-%m-%dT%H:00"),
        "end_hour": hours.moment(end - 1).strftime("%Y-%m-%dT%H:00"),
        "apikey": key,
    }
    try:
        answer = client.get(url, query, {})
    except AnsweredError as error:
        found.kept_from = int(error.clock) - KEPT_HOURS
        if error.status == 400 and start < found.kept_from:
            return found
        raise
    found.keep("json", answer)
    try:
        document = json.loads(answer.body)
        unit = document["hourly_units"]["temperature_2m"]
        rows = list(zip(document["hourly"]["time"], document["hourly"]["temperature_2m"], strict=True))
        placed = [(hours.parse(f"{time}Z"), value) for time, value in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise FeedMalformedError(
            f"the weather does not have the expected JSON format: {type(error).__name__}"
        ) from error
    if unit != CELSIUS:
        raise FeedMalformedError(f"units: temperature_2m must be in {CELSIUS}")
    for hour, value in placed:
        if start <= hour < end:
            found.add("temperature", hour, number(value, "temperature_2m"))
    return found
