"""The clock of the fault benchmark."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from benchmarks.power_bidding.faults import clock
from benchmarks.power_bidding.faults.clock import HeldClock


@dataclass
class Desk:
    rate: int = 3600
    set: list[tuple[float, float]] = field(default_factory=list)
    """(rate, hours after the start)"""

    def clock(self, hour: str, rate: float, after: float = 0.0) -> None:
        self.set.append((rate, after))


@dataclass
class Feeds:
    set: list[dict[str, Any]] = field(default_factory=list)

    def clock(self, **change: Any) -> None:
        self.set.append(change)


def test_held_clock_almost_stops_until_it_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    # given a clock that advances by an hour a second
    now = 100.0
    monkeypatch.setattr(clock.time, "monotonic", lambda: now)
    desk, feeds = Desk(), Feeds()
    held = HeldClock(desk, feeds, "2024-01-01T00:00Z")  # type: ignore[arg-type]
    held.start()
    # when the clock runs for 10 seconds, is held for 36 seconds, and runs for 5 more seconds
    now += 10
    held.hold()
    held.hold()
    now += 36
    at_the_end_of_the_hold = held.hours()
    held.release()
    held.release()
    now += 5
    # then the simulated time hardly changes during the hold
    assert at_the_end_of_the_hold == pytest.approx(10.01)
    assert held.hours() == pytest.approx(15.01)
    assert held.held_seconds == 36
    # and feeds and functions get each change of the clock once, with the same time
    assert desk.set == [(3600, 0.0), (1, pytest.approx(10)), (3600, pytest.approx(10.01))]
    assert feeds.set == [{"paused": False}, {"rate": 1}, {"rate": 3600}]
