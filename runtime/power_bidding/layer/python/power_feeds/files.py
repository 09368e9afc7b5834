"""Keys and content of the feeds' files in the bucket. Equal input gives equal keys and bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from power_feeds import hours


@dataclass(frozen=True)
class Normalized:
    """The data of a feed for one hourly run: series by name, each with its values by hour."""

    feed: str
    hour: int
    published: str | None
    series: Mapping[str, Mapping[int, float | None]]


def folder(root: str, hour: int) -> str:
    """Return the prefix `ROOT/date=2022-01-31/hour=05/`."""
    when = hours.moment(hour)
    return f"{root}/date={when:%Y-%m-%d}/hour={when:%H}/"


def encoded(normalized: Normalized) -> bytes:
    """Return `normalized` as JSON."""
    document = {
        "feed": normalized.feed,
        "hour": hours.text(normalized.hour),
        "published": normalized.published,
        "series": {
            name: {hours.text(hour): value for hour, value in values.items()}
            for name, values in normalized.series.items()
        },
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def decoded(body: bytes) -> Normalized:
    """Return the decoded file."""
    document = json.loads(body)
    series = {
        name: {hours.parse(hour): value for hour, value in values.items()}
        for name, values in document["series"].items()
    }
    return Normalized(document["feed"], hours.parse(document["hour"]), document["published"], series)


def digest(body: bytes) -> str:
    """Return the SHA-256 of a file, in hex."""
    return hashlib.sha256(body).hexdigest()


def named(prefix: str, body: bytes, extension: str) -> str:
    """Return the key of a file: `prefix`, the first 12 digits of the file's digest, and `extension`."""
    return f"{prefix}{digest(body)[:12]}.{extension}"
