"""Step caching: the maximum age of a result, and the key with which results are matched."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from local.sagemaker.pipelines.expressions import check_members, malformed

_DATE = {"y": 365 * 86_400, "m": 30 * 86_400, "w": 7 * 86_400, "d": 86_400}
_TIME = {"h": 3_600, "m": 60}
"""Seconds in each unit of a duration: `_DATE` before its `T`, `_TIME` after it."""
_DURATION = re.compile(r"p?((?:\d+[ymwd])*)(?:t((?:\d+[hm])+))?")


def seconds_of(duration: str) -> int | None:
    """Return the seconds of an ISO 8601 duration, or None for any other text.

    As on AWS, units are years, months, weeks, days, hours and minutes. The `P` may be missing, and letters
    may have lower or upper case.
    """
    found = _DURATION.fullmatch(duration.lower())
    if not found or not any(found.groups()):
        return None
    parts = ((found[1], _DATE), (found[2] or "", _TIME))
    return sum(
        int(number) * units[unit] for text, units in parts for number, unit in re.findall(r"(\d+)(\D)", text)
    )


def parse(config: Any) -> int | None:
    """Return the maximum age in seconds of a result to reuse, from a step's `CacheConfig`; None: no caching.

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
    """Return a digest of a step's evaluated arguments. A result is reused if the digest is the same."""
    return hashlib.sha256(json.dumps(arguments, sort_keys=True).encode()).hexdigest()
