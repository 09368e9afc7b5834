"""Caching of an origin's errors in a CloudFront edge."""

from __future__ import annotations

import pytest

from local.emulator.edge import ErrorCache, seconds


@pytest.mark.parametrize(
    ("status", "control", "minimum", "expected"),
    [
        (500, "", 10, 10),
        (503, "no-store", 10, 10),  # Cache-Control applies to four error statuses only, and not to 503
        (503, "no-store", 0, 0),
        (404, "", 10, 10),
        (404, "private, no-cache", 10, 0),
        (404, "max-age=60", 10, 60),
        (503, "max-age=5", 10, 10),
        (403, "", 10, 0),
        (403, "max-age=60", 10, 60),
        (429, "max-age=60", 10, 0),
    ],
)
def test_error_is_kept_as_long_as_cloudfront_documents(
    status: int, control: str, minimum: float, expected: float
) -> None:
    assert seconds(status, {"cache-control": control}, minimum) == expected


def test_cached_error_is_returned_until_its_ttl_ends() -> None:
    # given
    now = [0.0]
    cache = ErrorCache(lambda: now[0])
    cache.keep("distribution", "/api/models", "answer", 10)

    # then
    assert cache.find("distribution", "/api/models") == "answer"
    assert cache.find("distribution", "/api") is None
    assert cache.find("another", "/api/models") is None
    now[0] = 10.0
    assert cache.find("distribution", "/api/models") is None


def test_error_with_a_time_of_zero_is_not_kept() -> None:
    cache = ErrorCache()
    cache.keep("distribution", "/", "answer", 0)
    assert cache.find("distribution", "/") is None
