"""A token bucket that many callers share. Its state is one item that is changed by compare and swap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

TRIES = 8
CONTENDED_SECONDS = 0.5
SKEW_SECONDS = 60.0
"""Maximum difference of two callers' clocks. Times that are further ahead were written by a wrong clock."""


@dataclass(frozen=True)
class Bucket:
    """Number of tokens at the time `at` (seconds since 1970) of the last change."""

    tokens: float
    at: float


def take(
    read: Callable[[], Bucket | None],
    swap: Callable[[Bucket | None, Bucket], bool],
    now: float,
    rate: float,
    burst: float,
    cost: float = 1,
) -> float:
    """Take `cost` tokens and return 0; or take none and return the seconds until there are enough.

    A caller that is killed afterwards loses its tokens, nothing else. A clock that jumps in either direction
    allows at most one extra burst and delays no caller by more than `SKEW_SECONDS`.

    :param read: returns the current state
    :param swap: replaces the state that `read` returned; False if another caller changed it first
    :param rate: tokens added per second, up to `burst`
    """
    for _ in range(TRIES):
        before = read()
        tokens, at = burst, now
        if before is not None:
            # A caller whose clock is behind must not make the bucket fill twice.
            at = max(now, before.at) if before.at - now <= SKEW_SECONDS else now
            tokens = min(burst, before.tokens + max(0.0, now - before.at) * rate)
        empty = tokens < cost - 1e-9  # tolerance for rounding errors
        # Leave an empty bucket unchanged, unless its time lies in the future and would keep it empty.
        if empty and (before is None or at >= before.at):
            return max(cost - tokens, 0.0) / rate
        if swap(before, Bucket(tokens if empty else tokens - cost, at)):
            return max(cost - tokens, 0.0) / rate if empty else 0.0
    return CONTENDED_SECONDS


def is_ahead(moment: float, now: float) -> bool:
    """Return whether a wrong clock wrote `moment`: it is more than `SKEW_SECONDS` ahead."""
    return moment - now > SKEW_SECONDS
