"""Faults of the feeds: the local server that replays them gives wrong answers while a run fetches data."""

from __future__ import annotations

import json
import random
import urllib.request
from typing import Any

from benchmarks.power_bidding.faults.outcomes import Hour
from benchmarks.power_bidding.faults.plan import FEED_KINDS, TrialFault
from scenarios.power_bidding.history import later
from scenarios.power_bidding.replay import SECONDS, FeedServer

LASTS_HOURS = 96
"""Hours until a fault expires: longer than any fetch. It is removed once the run has its dataset."""
CORRUPT = {
    "market_prices": ("corrupt_units", "corrupt_flat"),
    "load": ("corrupt_units", "corrupt_flat"),
    "weather": ("corrupt_flat",),
    "price_forecast": ("corrupt_units", "corrupt_flat"),
}
"""Kinds of corruption, used in turn. The corruption to equal prices at all hubs is left out, since the replay
has one hub."""
CORRECTED: dict[str, tuple[str, int, float, float]] = {
    "market_prices": ("price:{location}", -6, 15, 60),
    "load": ("load", 3, 40_000, 60_000),
    "weather": ("temperature", 3, 10, 35),
    "price_forecast": ("price_forecast:{location}", 20, 15, 60),
}
"""Corrections: (series, hours after the run's hour, bounds of the new value)."""


class FeedFaults:
    def __init__(self, server: FeedServer, location: str, chance: random.Random) -> None:
        self._server, self._location, self._chance = server, location, chance
        self._before: dict[str, dict[str, int]] = {}

    def begin(self, hour: Hour) -> None:
        """Inject the faults of an hour's trial, before its run starts."""
        self._before = self._answers()
        for fault in _of(hour):
            when: dict[str, Any] = {"from": hour.run, "to": later(hour.run, LASTS_HOURS)}
            if fault.kind == "corrected":
                series, hours, least, most = CORRECTED[fault.feed]
                when |= {
                    "series": series.format(location=self._location),
                    "hour": later(hour.run, hours),
                    "value": round(self._chance.uniform(least, most), 2),
                }
            self._server.fault(fault.feed, served(fault), **when)

    def end(self, hour: Hour) -> None:
        """Remove the faults. Record the faults that changed no answer."""
        now = self._answers()
        for fault in _of(hour):
            kind = served(fault)
            before, after = (found.get(fault.feed, {}).get(kind, 0) for found in (self._before, now))
            if after <= before:
                hour.missed.append(fault)
            if kind != "corrected":  # corrections stay in place
                self._ask("DELETE", f"/faults?feed={fault.feed}&kind={kind}")

    def _answers(self) -> dict[str, dict[str, int]]:
        """Return the number of answers changed by each fault, by feed and kind."""
        return self._ask("GET", "/faults")

    def _ask(self, method: str, path: str) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 - of the server that was started
            self._server.url + path, headers={"x-api-key": self._server.control}, method=method
        )
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
            return json.load(answer)


def served(fault: TrialFault) -> str:
    """Return the replay server's name for a kind of fault."""
    if fault.kind != "corrupt":
        return fault.kind
    kinds = CORRUPT[fault.feed]
    return kinds[fault.variant % len(kinds)]


def _of(hour: Hour) -> list[TrialFault]:
    return [fault for fault in hour.trial.faults if fault.kind in FEED_KINDS]
