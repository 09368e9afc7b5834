"""A rate limiter that several dispatchers share."""

from __future__ import annotations

from personalization.core.pacing import Bucket, take


class Shared:
    """An item that several callers change by compare and swap. The next `rivals` swaps fail, as if other
    callers had changed the item."""

    def __init__(self, rivals: int = 0):
        self.state: Bucket | None = None
        self.rivals = rivals

    def read(self) -> Bucket | None:
        return self.state

    def swap(self, before: Bucket | None, after: Bucket) -> bool:
        if self.rivals:
            self.rivals -= 1
            return False
        assert self.state == before, "the item must not have changed since it was read"
        self.state = after
        return True

    def take(self, now: float, rate: float = 0.5, burst: float = 3) -> float:
        return take(self.read, self.swap, now, rate, burst)
