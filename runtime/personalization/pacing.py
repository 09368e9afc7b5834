"""A token bucket that many callers share: its state is one item, changed by compare and swap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

TRIES = 8
CONTENDED_SECONDS = 0.5


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
) -> float:
    """Take one token; returns 0, or without taking the seconds until there is one.

    `rate` tokens a second come back, up to `burst`. `swap` puts a new state in place of what `read` gave,
    unless another caller did so first. A caller that is killed after it has lost a token, and nothing else.
    """
    for _ in range(TRIES):
        before = read()
        tokens = burst if before is None else min(burst, before.tokens + max(0.0, now - before.at) * rate)
        if tokens < 1 - 1e-9:  # what rounding leaves of a whole one
            return max(1 - tokens, 0.0) / rate
        # A caller whose clock is behind must not make the bucket fill twice.
        at = now if before is None else max(now, before.at)
        if swap(before, Bucket(tokens - 1, at)):
            return 0.0
    return CONTENDED_SECONDS
