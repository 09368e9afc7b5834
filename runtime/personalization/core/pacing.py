"""A token bucket that many callers share: its state is one item, changed by compare and swap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

TRIES = 8
CONTENDED_SECONDS = 0.5
SKEW_SECONDS = 60.0
"""How far the clocks of two callers may be apart. What is further ahead was written by a wrong clock."""


@dataclass(frozen=True)
class Bucket:
    """`tokens` at the moment `at` (seconds since 1970), when one was taken last."""

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
    """Take `cost` tokens; returns 0, or without taking the seconds until there are so many.

    `rate` tokens a second come back, up to `burst`. `swap` puts a new state in place of what `read` gave,
    unless another caller did so first. A caller that is killed after it has lost a token, and nothing else.

    A clock that jumps, either way, lets at most one burst more through and delays nobody by more than
    `SKEW_SECONDS`.
    """
    for _ in range(TRIES):
        before = read()
        tokens, at = burst, now
        if before is not None:
            # A caller whose clock is behind must not make the bucket fill twice.
            at = max(now, before.at) if before.at - now <= SKEW_SECONDS else now
            tokens = min(burst, before.tokens + max(0.0, now - before.at) * rate)
        empty = tokens < cost - 1e-9  # what rounding leaves of a whole one
        # Leave an empty bucket unchanged, unless its time lies in the future and would keep it empty.
        if empty and (before is None or at >= before.at):
            return max(cost - tokens, 0.0) / rate
        if swap(before, Bucket(tokens if empty else tokens - cost, at)):
            return max(cost - tokens, 0.0) / rate if empty else 0.0
    return CONTENDED_SECONDS


def is_ahead(moment: float, now: float) -> bool:
    """Whether a wrong clock wrote `moment`: it lies further ahead than two clocks are apart."""
    return moment - now > SKEW_SECONDS
