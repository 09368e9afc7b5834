"""Fetch a feed for an hour: request, check, normalize, write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict

from power_feeds import files, hours, quality
from power_feeds.errors import FeedMalformedError
from power_feeds.http import AnsweredError, Client
from power_feeds.rows import series_name
from power_feeds.sources import forecast, weather
from power_feeds.sources.caiso import Caiso
from power_feeds.sources.ercot import Ercot
from power_feeds.sources.fetched import Fetched

FEEDS = ("market_prices", "load", "weather", "price_forecast")
BEFORE_HOURS = 24
"""Number of hours before the run's hour that are read too, because sources correct prices afterwards."""
REFERENCE_HOURS = 3
"""Maximum age in hours of the earlier response with which a new one is compared."""
SECRET_FIELDS = ("key", "subscription_key", "username", "password")


class Store(Protocol):
    """Objects in the bucket."""

    def get(self, key: str) -> bytes | None: ...
    def put(self, key: str, body: bytes, content_type: str) -> None: ...
    def list(self, prefix: str) -> list[str]: ...


@dataclass(frozen=True)
class FeedSettings:
    locations: Sequence[str]
    zone: str
    horizon_hours: int


class FeedResult(TypedDict, total=False):
    """Has `key`, `digest` and `rows` if `status` is `ready`; otherwise `reason`."""

    feed: str
    hour: str
    status: str
    key: str
    digest: str
    rows: int
    reason: str


def fetch(
    feed: str,
    hour: int,
    settings: FeedSettings,
    secret: Mapping[str, Any],
    store: Store,
    client: Client | None = None,
) -> FeedResult:
    """Fetch `feed` for the run of `hour`, check it, write the raw answers and the normalized file.

    `secret` is the JSON of the feeds' secret. Raises `FeedDownError`, `FeedRefusedError` and
    `FeedMalformedError`. The raw answers are written even if a check rejects them.
    """
    client = client or Client()
    client.secrets = secrets_of(secret)
    try:
        found = _fetched(feed, hour, settings, secret, client)
    except AnsweredError as error:
        raise FeedMalformedError(str(error)) from error  # the state machine catches the classes of errors.py
    raw_folder = files.folder(f"raw/{feed}", hour)
    for extension, body in found.raw:
        store.put(files.named(raw_folder, body, extension), body, "application/octet-stream")
    missing = [name for name in _required(feed, settings) if hour not in found.series.get(name, {})]
    if missing:
        gone = found.kept_from is not None and hour < found.kept_from
        reason = "the source no longer keeps the hour" if gone else f"not published yet: {', '.join(missing)}"
        return {
            "feed": feed,
            "hour": hours.text(hour),
            "status": "gone" if gone else "late",
            "reason": reason,
        }
    quality.refuse(found.series, settings.zone, _reference(feed, hour, store))
    body = files.encoded(files.Normalized(feed, hour, found.published, found.series))
    key = files.named(files.folder(f"feeds/{feed}", hour), body, "json")
    store.put(key, body, "application/json")
    return {
        "feed": feed,
        "hour": hours.text(hour),
        "status": "ready",
        "key": key,
        "digest": files.digest(body),
        "rows": sum(len(values) for values in found.series.values()),
    }


def secrets_of(secret: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the texts of the secret that errors must not contain."""
    return tuple(
        str(part[field])
        for part in secret.values()
        if isinstance(part, Mapping)
        for field in SECRET_FIELDS
        if part.get(field)
    )


def _fetched(
    feed: str, hour: int, settings: FeedSettings, secret: Mapping[str, Any], client: Client
) -> Fetched:
    start, end = hour - BEFORE_HOURS, hour + settings.horizon_hours + 1
    if feed == "market_prices":
        return _market(secret, "prices", settings, client).prices(settings.locations, start, end, hour)
    if feed == "load":
        return _market(secret, "load", settings, client).load(start, end, hour)
    part = _part(secret, feed)
    if feed == "weather":
        return weather.fetch(client, part["url"], part["key"], start, end)
    if feed == "price_forecast":
        return forecast.fetch(client, part["url"], part["key"], settings.locations, start, end)
    raise ValueError(f"feed must be one of {', '.join(FEEDS)}, got {feed!r}")


def _part(secret: Mapping[str, Any], name: str) -> Mapping[str, str]:
    part = secret.get(name)
    if not isinstance(part, Mapping) or not part.get("url"):
        raise ValueError(f"the feeds' secret has no {name}.url")
    return part


def _market(secret: Mapping[str, Any], name: str, settings: FeedSettings, client: Client) -> Caiso | Ercot:
    part = _part(secret, name)
    if part.get("source") == "caiso":
        return Caiso(client, part["url"])
    if part.get("source") == "ercot":
        fields = ("url", "token_url", "subscription_key", "username", "password")
        if missing := [field for field in fields if not part.get(field)]:
            raise ValueError(f"the feeds' secret has no {name}.{missing[0]}")
        return Ercot(client, *(part[field] for field in fields), zone=settings.zone)
    raise ValueError(f"{name}.source of the feeds' secret must be caiso or ercot")


def _required(feed: str, settings: FeedSettings) -> list[str]:
    """Return the series that must have a value for the run's hour."""
    column = {"market_prices": "price", "load": "load", "weather": "temperature"}.get(feed, feed)
    return sorted({series_name(column, location) for location in settings.locations})


def _reference(feed: str, hour: int, store: Store) -> Mapping[str, Mapping[int, float | None]] | None:
    """Return the series of the newest response within `REFERENCE_HOURS`; None if there is none."""
    for earlier in range(hour - 1, hour - 1 - REFERENCE_HOURS, -1):
        for key in sorted(store.list(files.folder(f"feeds/{feed}", earlier)), reverse=True):
            if body := store.get(key):
                return files.decoded(body).series
    return None
