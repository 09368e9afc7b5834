"""Error caching of a CloudFront edge location.

The rules are in CloudFront's developer guide: "Control how long CloudFront caches errors" and "How CloudFront
processes HTTP 4xx and 5xx status codes". Responses other than errors are not cached.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

ALWAYS = frozenset({404, 410, 414, 500, 501, 502, 503, 504})
"""Error statuses that are cached unless the Error Caching Minimum TTL is 0 seconds."""
WHEN_TOLD = frozenset({400, 403, 405, 412, 415})
"""Error statuses that are cached only if the origin's response has a maximum age."""
NOT_STORED = frozenset({404, 410, 414, 501})
"""Error statuses that are not cached if the origin's response has `no-store`, `no-cache` or `private`. For
other statuses these directives are ignored."""
DEFAULT_SECONDS = 10.0

_AGE = re.compile(r"(?:s-maxage|max-age)\s*=\s*(\d+)")
_NO_STORE = re.compile(r"no-store|no-cache|private")


def seconds(status: int, headers: Mapping[str, str], minimum: float) -> float:
    """Return for how many seconds an error response is cached.

    :param minimum: the distribution's Error Caching Minimum TTL for the status
    """
    control = headers.get("cache-control", "").lower()
    ages = [float(age) for age in _AGE.findall(control)]
    if status in NOT_STORED and _NO_STORE.search(control):
        return 0.0
    if status in ALWAYS or (status in WHEN_TOLD and ages):
        return max([minimum, *ages])
    return 0.0


class ErrorCache:
    """Cached errors of all distributions. The cache key has no headers and no cookies."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock, self._lock = clock, threading.Lock()
        self._kept: dict[tuple[str, str], tuple[float, Any]] = {}

    def find(self, distribution: str, path: str) -> Any | None:
        """Return the cached error for a path, or None if there is none or it has expired."""
        with self._lock:
            until, answer = self._kept.get((distribution, path), (0.0, None))
            if answer is not None and until <= self._clock():
                del self._kept[distribution, path]
                return None
            return answer

    def keep(self, distribution: str, path: str, answer: Any, duration: float) -> None:
        if duration > 0:
            with self._lock:
                self._kept[distribution, path] = self._clock() + duration, answer
