"""The feeds as a Chalice app. Each function fetches, checks and writes a feed for an hour.

Only Chalice's decorators and test client are used. The functions are deployed as plain Lambda functions with
the handlers `power_bidding.feeds.app.market_prices` and so on.
"""

from __future__ import annotations

import functools
from typing import Any, TypedDict

from chalice.app import Chalice

from power_bidding.aws.bucket import S3Bucket
from power_bidding.aws.environment import client, number, setting, settings_list
from power_bidding.aws.observe import logger
from power_bidding.aws.secret import JsonSecret
from power_feeds import hours
from power_feeds.errors import FeedDownError, FeedRefusedError
from power_feeds.fetch import FeedResult, FeedSettings, fetch

app = Chalice(app_name="power-bidding-feeds", configure_logs=False)


class FeedRequest(TypedDict, total=False):
    hour: str
    attempt: int


@app.lambda_function(name="market_prices")
def market_prices(event: FeedRequest, context: Any) -> FeedResult:
    """Fetch day-ahead and real-time prices of all locations."""
    return _run("market_prices", event)


@app.lambda_function(name="load")
def load(event: FeedRequest, context: Any) -> FeedResult:
    """Fetch the market operator's load forecast."""
    return _run("load", event)


@app.lambda_function(name="weather")
def weather(event: FeedRequest, context: Any) -> FeedResult:
    """Fetch the temperature, past and forecast."""
    return _run("weather", event)


@app.lambda_function(name="price_forecast")
def price_forecast(event: FeedRequest, context: Any) -> FeedResult:
    """Fetch an external forecast of day-ahead prices."""
    return _run("price_forecast", event)


@functools.cache
def _secret() -> JsonSecret:
    return JsonSecret(client("secretsmanager"), setting("FEEDS_SECRET_ARN"))


def _run(feed: str, event: FeedRequest) -> FeedResult:
    hour = hours.parse(event["hour"])
    settings = FeedSettings(settings_list("LOCATIONS"), setting("TIME_ZONE"), number("HORIZON_HOURS"))
    bucket = S3Bucket(client("s3"), setting("BUCKET"))
    known = _secret().read()
    try:
        result = fetch(feed, hour, settings, known, bucket)
    except (FeedRefusedError, FeedDownError):
        # Keys and addresses may have changed since this execution environment read the secret
        now = _secret().read(again=True)
        if now == known:
            raise
        result = fetch(feed, hour, settings, now, bucket)
    logger.info("fetched", extra={"result": result, "attempt": event.get("attempt")})
    return result
