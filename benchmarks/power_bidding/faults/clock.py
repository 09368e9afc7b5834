"""The market's clock: at the replay's rate, or held at real time while the machine catches up."""

from __future__ import annotations

import time

from scenarios.power_bidding.desk import Desk
from scenarios.power_bidding.replay import FeedServer


class HeldClock:
    """The clock of feeds, market and functions. It begins at `hour`, and runs at the desk's rate."""

    def __init__(self, desk: Desk, feeds: FeedServer, hour: str) -> None:
        self._desk, self._feeds, self._hour = desk, feeds, hour
        self._since, self._hours = time.monotonic(), 0.0
        self._held: float | None = None
        """Since when it is held, in real seconds"""
        self.held_seconds = 0.0
        """How long it was held"""

    def start(self) -> None:
        self._since, self._hours = time.monotonic(), 0.0
        self._feeds.clock(paused=False)
        self._desk.clock(self._hour, self.rate)

    @property
    def rate(self) -> int:
        return 1 if self._held is not None else self._desk.rate

    def hours(self) -> float:
        """Return the market hours since the begin."""
        return self._hours + (time.monotonic() - self._since) * self.rate / 3600

    def hold(self) -> None:
        """Slow the clock down to real time."""
        if self._held is None:
            self._turn(time.monotonic())

    def release(self) -> None:
        """Let the clock run at its rate again."""
        if self._held is not None:
            self.held_seconds += time.monotonic() - self._held
            self._turn(None)

    def _turn(self, held: float | None) -> None:
        self._hours, self._since = self.hours(), time.monotonic()
        self._held = held
        self._feeds.clock(rate=self.rate)
        self._desk.clock(self._hour, self.rate, after=self._hours)
