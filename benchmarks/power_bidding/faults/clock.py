"""The market's clock: at the replay's rate, or held at real time while the machine catches up."""

from __future__ import annotations

import time

from scenarios.power_bidding.desk import Desk
from scenarios.power_bidding.replay import FeedServer


class HeldClock:
    """The clock of feeds, market and functions. It starts at `hour` and runs at the rate of `desk`."""

    def __init__(self, desk: Desk, feeds: FeedServer, hour: str) -> None:
        self._desk, self._feeds, self._hour = desk, feeds, hour
        self._since, self._hours = 0.0, 0.0
        """Time of the last change of the rate: in real seconds, and in market hours since the start"""
        self._held_since: float | None = None
        self.held_seconds = 0.0

    def start(self) -> None:
        self._since = time.monotonic()
        self._feeds.clock(paused=False)
        self._desk.clock(self._hour, self.rate)

    @property
    def held(self) -> bool:
        return self._held_since is not None

    @property
    def rate(self) -> int:
        return 1 if self.held else self._desk.rate

    def hours(self) -> float:
        """Return the market hours since the start."""
        return self._hours + (time.monotonic() - self._since) * self.rate / 3600

    def hold(self) -> None:
        """Slow the clock down to real time."""
        if not self.held:
            self._turn(time.monotonic())

    def release(self) -> None:
        """Run the clock at its rate again."""
        if self._held_since is not None:
            self.held_seconds += time.monotonic() - self._held_since
            self._turn(None)

    def _turn(self, held_since: float | None) -> None:
        self._hours, self._since = self.hours(), time.monotonic()
        self._held_since = held_since
        self._feeds.clock(rate=self.rate)
        self._desk.clock(self._hour, self.rate, after=self._hours)
