"""Outcomes of the hours' offers, by fault."""

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
"""Row for hours without a fault."""


@dataclass
class Hour:
    """A run, its trial and its outcome."""

    trial: Trial
    run: str
    offered: str
    """Hour of the run's offer"""
    due: datetime
    """Deadline of the offer"""
    missed: list[TrialFault] = field(default_factory=list)
    """Faults that had no effect"""
    notes: list[str] = field(default_factory=list)
    """Remarks"""
    outcome: str = ""
    row: str = ""
    """The offer's status in the table of offers, the time at which it was made, and its deadline, as text"""
    doubles: int = 0
    """Number of offers for the hour that reached the market after the first one"""
    flagged: bool = False
    """Whether the run's dataset has a flagged value"""

    @property
    def struck(self) -> list[TrialFault]:
        return [fault for fault in self.trial.faults if fault not in self.missed]


def outcome(row: Mapping[str, str] | None, at_market: bool, due: datetime) -> str:
    """Return the outcome of an hour's offer.

    :param row: the offer's row in the table of offers
    :param at_market: whether the market accepted an offer for the hour
    """
    if at_market:
        return FALLBACK if row and row.get("source") == "fallback" else MODEL
    if row and row.get("status") == "no_offer" and datetime.fromisoformat(row["made"]) <= due:
        return NO_OFFER
    return LOST


def disagrees(row: Mapping[str, str] | None, at_market: bool) -> bool:
    """Return whether the table of offers contradicts the market."""
    return at_market != (bool(row) and row.get("status") == "sent")


def settle(
    hours: Iterable[Hour],
    rows: Iterable[Mapping[str, str]],
    results: Mapping[str, Any],
) -> int:
    """Set the outcomes. Return the number of rows that contradict the market.

    :param rows: the table of offers
    :param results: the market's results
    """
    by_offer = {row["offer"]: row for row in rows}
    accepted = {(offer["hour"], offer["market"]) for offer in results["offers"]}
    doubles = Counter(one["hour"] for one in results["refused"] if one["kind"] == "double")
    wrong = 0
    for hour in hours:
        row, there = by_offer.get(f"{hour.offered}#RT"), (hour.offered, "RT") in accepted
        hour.outcome = outcome(row, there, hour.due)
        hour.row = f"{row.get('status')}, made {row.get('made')}, due {hour.due:%FT%TZ}" if row else "no row"
        if row and row.get("reason"):
            hour.row += f", because {row['reason']}"
        hour.doubles = doubles[hour.offered]
        wrong += disagrees(row, there)
    return wrong


@dataclass
class Row:
    """A fault, and the outcomes of its hours."""

    name: str
    hours: int = 0
    flagged: int = 0
    doubles: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)


def table(hours: Iterable[Hour], kinds: Sequence[str]) -> list[Row]:
    """Return a row for each fault of the kinds, and one for hours without a fault."""
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
    """Return the fault names of the given kinds, in table order."""
    chosen = [kind for kind in KINDS if kind in kinds]
    of_feeds = [TrialFault(kind, feed) for feed in FEEDS for kind in chosen if kind in FEED_KINDS]
    others = [TrialFault(kind) for kind in chosen if kind not in FEED_KINDS]
    return [fault.name for fault in (*of_feeds, *others)]


def missing(rows: Iterable[Row], times: int) -> list[str]:
    """Return a message for each fault that was effective in too few hours."""
    return [
        f"{row.name} was effective in {row.hours} hours, must be {times}"
        for row in rows
        if row.name != PLAIN and row.hours < times
    ]
