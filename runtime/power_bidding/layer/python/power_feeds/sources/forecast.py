"""An external forecast of day-ahead prices, as JSON over HTTPS with a key.

There is no public source, so this project defines the format: `{"published": "2022-01-31T14:00:00Z", "unit":
"USD/MWh", "forecasts": {"HB_NORTH": {"2022-02-01T06:00Z": 31.2, ...}}}`. A vendor with another format needs
an adapter next to this module.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence

from power_feeds import hours
from power_feeds.errors import FeedMalformedError
from power_feeds.http import Client
from power_feeds.rows import series_name
from power_feeds.sources.fetched import Fetched, number

UNIT = "USD/MWh"


def fetch(client: Client, url: str, key: str, locations: Sequence[str], start: int, end: int) -> Fetched:
    """Return `price_forecast` of all locations from `start` to before `end`, and its publication time.

    Raises `FeedDownError`, `FeedRefusedError` or `FeedMalformedError`.
    """
    found = Fetched()
    query = {"locations": ",".join(locations), "from": hours.text(start), "to": hours.text(end)}
    answer = client.get(url, query, {"x-api-key": key})
    found.keep("json", answer)
    try:
        document = json.loads(answer.body)
        when = datetime.datetime.fromisoformat(document["published"])
        hours.exactly(when)  # must have a time zone
        unit, forecasts = document["unit"], document["forecasts"]
        placed = [
            (series_name("price_forecast", location), hours.parse(hour), value)
            for location in locations
            for hour, value in forecasts.get(location, {}).items()
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FeedMalformedError(
            f"the forecast does not have the expected JSON format: {type(error).__name__}"
        ) from error
    if unit != UNIT:
        raise FeedMalformedError(f"units: the forecast must be in {UNIT}")
    for name, hour, value in placed:
        if start <= hour < end:
            found.add(name, hour, number(value, "a forecast"))
    found.published = when.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return found
