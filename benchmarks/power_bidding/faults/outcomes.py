"""What became of the hours' offers, by fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from benchmarks.power_bidding.faults.plan import FEED_KINDS, KINDS, Trial, TrialFault
from local.feeds.faults import FEEDS

MODEL, FALLBACK, NO_OFFER, LOST = OUTCOMES = ("model", "fallback", "no offer", "lost")
PLAIN = "none"
"""The row of the hours without a fault."""


@dataclass
class Hour:
    """A run and its trial."""

    trial: Trial
    run: str
    offered: str
    """The hour that the run offers for"""
    due: datetime
    """Until when the market takes the offer"""
    missed: list[TrialFault] = field(default_factory=list)
    """Faults that did not strike"""
    notes: list[str] = field(default_factory=list)
    """What else happened"""
    outcome: str = ""
    doubles: int = 0
    """Second offers that reached the market"""
    flagged: bool = False
    """Whether a value of the run's dataset was not the source's own, and flagged"""

    @property
    def struck(self) -> list[TrialFault]:
        return [fault for fault in self.trial.faults if fault not in self.missed]


def outcome(row: Mapping[str, str] | None, at_market: bool, due: datetime) -> str:
    """Return what became of an hour's offer.

    :param row: of the table of offers
    :param at_market: whether the market has accepted an offer for the hour
    """
    if at_market:
        return FALLBACK if row and row.get("source") == "fallback" else MODEL
    if row and row.get("status") == "no_offer" and datetime.fromisoformat(row["made"]) <= due:
        return NO_OFFER
    return LOST


def disagrees(row: Mapping[str, str] | None, at_market: bool) -> bool:
    """Return whether the table of offers says other than the market."""
    return at_market != (bool(row) and row.get("status") == "sent")


def settle(
    hours: Iterable[Hour],
    rows: Iterable[Mapping[str, str]],
    results: Mapping[str, Any],
) -> int:
    """Fill in the outcomes; return how many rows say other than the market.

    :param rows: the table of offers
    :param results: the market's
    """
    by_offer = {row["offer"]: row for row in rows}
    accepted = {(offer["hour"], offer["market"]) for offer in results["offers"]}
    doubles = Counter(one["hour"] for one in results["refused"] if one["kind"] == "double")
    wrong = 0
    for hour in hours:
        row, there = by_offer.get(f"{hour.offered}#RT"), (hour.offered, "RT") in accepted
        hour.outcome = outcome(row, there, hour.due)
        hour.doubles = doubles[hour.offered]
        wrong += disagrees(row, there)
    return wrong


@dataclass
class Row:
    """A fault: its hours, and what became of their offers."""

    name: str
    hours: int = 0
    flagged: int = 0
    doubles: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)


def table(hours: Iterable[Hour], kinds: Sequence[str]) -> list[Row]:
    """Return a row for each fault of the kinds, with the hours that it struck, and one for those without."""
    rows = {name: Row(name) for name in [*names(kinds), PLAIN]}
    for hour in hours:
        for name in [fault.name for fault in hour.struck] or ([] if hour.trial.faults else [PLAIN]):
            row = rows[name]
            row.hours += 1
            row.flagged += hour.flagged
            row.doubles += hour.doubles
            row.outcomes[hour.outcome] += 1
    return list(rows.values())


def names(kinds: Sequence[str]) -> list[str]:
    """Return the names of the faults of some kinds, in the order of the table."""
    chosen = [kind for kind in KINDS if kind in kinds]
    of_feeds = [TrialFault(kind, feed) for feed in FEEDS for kind in chosen if kind in FEED_KINDS]
    others = [TrialFault(kind) for kind in chosen if kind not in FEED_KINDS]
    return [fault.name for fault in (*of_feeds, *others)]


def missing(rows: Iterable[Row], times: int) -> list[str]:
    """Return a sentence for each fault that struck fewer hours than it should."""
    return [
        f"{row.name} struck {row.hours} hours of {times}"
        for row in rows
        if row.name != PLAIN and row.hours < times
    ]
