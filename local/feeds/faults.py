"""Injected faults. Each applies to one feed, between two hours of the replay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from local.feeds import times

FEEDS = ("market_prices", "load", "weather", "price_forecast")
KINDS = (
    *("down", "late", "malformed", "duplicated", "unauthorized"),
    *("corrupt_hubs", "corrupt_units", "corrupt_flat", "corrected"),
)


@dataclass(frozen=True)
class Fault:
    feed: str
    kind: str
    first: int
    """The fault is active from this hour to before `last`; a correction is permanent"""
    last: int
    series: str = ""
    hour: int = 0
    value: float = 0.0
    """For a correction, `series`, `hour` and `value` are the corrected series and hour, and the new value"""

    def active(self, now: float) -> bool:
        return self.first <= now and (self.kind == "corrected" or now < self.last)


def parse(given: Mapping[str, Any]) -> Fault:
    """Parse the fault in a control call. Raises `ValueError` naming the invalid field."""
    feed, kind = given.get("feed"), given.get("kind")
    if feed not in FEEDS:
        raise ValueError(f"feed must be one of {', '.join(FEEDS)}, got {feed!r}")
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    first = times.parse(str(given.get("from")))
    last = times.parse(str(given["to"])) if "to" in given else first + 1
    if kind != "corrected":
        return Fault(feed, kind, first, last)
    if not isinstance(given.get("value"), int | float) or not isinstance(given.get("series"), str):
        raise ValueError("a fault of kind corrected must have series (a text), hour and value (a number)")
    return Fault(
        feed, kind, first, last, given["series"], times.parse(str(given.get("hour"))), float(given["value"])
    )


@dataclass
class Faults:
    all: list[Fault] = field(default_factory=list)
    struck: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Number of responses changed by faults, by feed and kind"""

    def strike(self, feed: str, now: float) -> None:
        """Count one changed response for each active fault of the feed."""
        self.struck.update((fault.feed, fault.kind) for fault in self.of(feed, now))

    def end(self, feed: str = "", kind: str = "") -> None:
        """Remove the faults with this feed and this kind; an empty argument matches all feeds or all
        kinds."""
        self.all = [
            fault for fault in self.all if (feed and fault.feed != feed) or (kind and fault.kind != kind)
        ]

    def shown(self) -> dict[str, dict[str, int]]:
        """Return the number of changed responses by feed and kind."""
        found: dict[str, dict[str, int]] = {}
        for (feed, kind), count in sorted(self.struck.items()):
            found.setdefault(feed, {})[kind] = count
        return found

    def of(self, feed: str, now: float) -> list[Fault]:
        return [fault for fault in self.all if fault.feed == feed and fault.active(now)]

    def has(self, feed: str, kind: str, now: float) -> bool:
        return any(fault.kind == kind for fault in self.of(feed, now))
