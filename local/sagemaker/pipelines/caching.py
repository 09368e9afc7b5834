"""Step caching: the maximum age of a result, and the key by which results are matched."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from local.sagemaker.pipelines.expressions import check_members, malformed

_DATE = {"y": 365 * 86_400, "m": 30 * 86_400, "w": 7 * 86_400, "d": 86_400}
_TIME = {"h": 3_600, "m": 60}
"""Seconds of the units before and behind the `T`."""
_DURATION = re.compile(r"p?((?:\d+[ymwd])*)(?:t((?:\d+[hm])+))?")


def seconds_of(duration: str) -> int | None:
    """The seconds of an ISO 8601 duration, with or without its `P`, in either case; None for another text.

    AWS takes years, months, weeks, days, hours and minutes.
    """
    found = _DURATION.fullmatch(duration.lower())
    if not found or not any(found.groups()):
        return None
    parts = ((found[1], _DATE), (found[2] or "", _TIME))
    return sum(
        int(number) * units[unit] for text, units in parts for number, unit in re.findall(r"(\d+)(\D)", text)
    )


def parse(config: Any) -> int | None:
    """The age in seconds up to which a step's results are reused, by its `CacheConfig`; None without caching.

    Raises ApiError.
    """
    check_members(config, ("Enabled", "ExpireAfter"))
    if not isinstance(config.get("Enabled", False), bool):
        raise malformed(f"Enabled of CacheConfig must be true or false, got {config['Enabled']!r}")
    if not config.get("Enabled"):
        return None
    expiry = config.get("ExpireAfter")
    seconds = seconds_of(expiry) if isinstance(expiry, str) else None
    if seconds is None:
        raise malformed(
            "ExpireAfter of CacheConfig must be an ISO 8601 duration of years, months, weeks, days, hours "
            f"and minutes, got {expiry!r}"
        )
    return seconds


def key_of(arguments: Mapping[str, Any]) -> str:
    """A digest of the evaluated arguments that decide whether a result can be reused."""
    return hashlib.sha256(json.dumps(arguments, sort_keys=True).encode()).hexdigest()
