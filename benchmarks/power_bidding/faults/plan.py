"""Trial plan: faults in a seeded random order."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from local.feeds.faults import FEEDS

FEED_KINDS = ("down", "late", "malformed", "duplicated", "unauthorized", "corrupt", "corrected")
WAITED_FOR = ("down", "late")
"""Faults after which a run retries the feed with a pause. They share hours, so that few runs are slow."""
PIPELINE_KINDS = ("failing", "stopped", "silent")
ALONE_KINDS = ("killed", "restarted")
"""Faults that are injected only while no other hour's offer is pending, since they would affect that hour
too."""
KINDS = (*FEED_KINDS, *PIPELINE_KINDS, "throttled", *ALONE_KINDS)
HOURS, PIPELINE, ENDPOINT, ALONE = LANES = ("hours", "pipeline", "endpoint", "alone")
"""Trials of the same lane, except `hours`, run in sequence: the cloud has one setting for the pipeline and
one for the endpoint. Trials of `alone` run last, between hours with feed faults."""
LANE_OF = {
    **dict.fromkeys(PIPELINE_KINDS, PIPELINE),
    "throttled": ENDPOINT,
    **dict.fromkeys(ALONE_KINDS, ALONE),
}
ATTEMPTS = 3
"""Maximum attempts of a trial whose fault has no effect."""


@dataclass(frozen=True)
class TrialFault:
    kind: str
    feed: str = ""
    variant: int = 0
    """Index among the faults of its kind; selects the variant"""

    @property
    def name(self) -> str:
        """Row name in the table."""
        if self.feed:
            return f"{self.feed} {self.kind}"
        return f"pipeline {self.kind}" if self.kind in PIPELINE_KINDS else self.kind


@dataclass(frozen=True)
class Trial:
    """An hour and its faults: none, one, or one for each of several feeds."""

    faults: tuple[TrialFault, ...] = ()
    attempt: int = 1

    @property
    def lane(self) -> str:
        return next((LANE_OF[fault.kind] for fault in self.faults if fault.kind in LANE_OF), HOURS)


def plan(kinds: Collection[str], times: int, together: int, chance: random.Random) -> list[Trial]:
    """Return trials with each fault of the kinds `times` times; for a feed fault, `times` times per feed.

    :param together: number of feeds that fail in the same hour
    """
    trials: list[Trial] = []
    for at in range(0, len(FEEDS), together):
        trials += _of_feeds(FEEDS[at : at + together], kinds, times, chance)
    for kind in KINDS:
        if kind in kinds and kind not in FEED_KINDS:
            trials += [Trial((TrialFault(kind, variant=number),)) for number in range(times)]
    chance.shuffle(trials)
    return trials


def _of_feeds(feeds: Sequence[str], kinds: Collection[str], times: int, chance: random.Random) -> list[Trial]:
    shared = [kind for kind in FEED_KINDS if kind in kinds and kind in WAITED_FOR]
    mixed = [kind for kind in FEED_KINDS if kind in kinds and kind not in WAITED_FOR]
    columns: list[list[TrialFault]] = []
    for feed in feeds:
        own = [TrialFault(kind, feed, number) for kind in mixed for number in range(times)]
        chance.shuffle(own)
        own += [TrialFault(kind, feed, number) for kind in shared for number in range(times)]
        columns.append(own)
    return [Trial(faults) for faults in zip(*columns, strict=True)]


class Queue:
    """Queue of remaining trials, by lane."""

    def __init__(self, trials: Sequence[Trial], chance: random.Random) -> None:
        self._chance = chance
        self._lanes: dict[str, list[Trial]] = {lane: [] for lane in LANES}
        for trial in trials:
            self._lanes[trial.lane].append(trial)

    def __len__(self) -> int:
        return self.left(LANES)

    def left(self, lanes: Collection[str]) -> int:
        """Return the number of remaining trials of the given lanes."""
        return sum(len(self._lanes[lane]) for lane in lanes)

    def next(self, free: Collection[str]) -> Trial:
        """Return the next trial of a random free lane, or a trial without faults if none remain. A lane's
        probability is proportional to its number of remaining trials."""
        lanes = [lane for lane in LANES if lane in free and self._lanes[lane]]
        if not lanes:
            return Trial()
        (lane,) = self._chance.choices(lanes, [len(self._lanes[lane]) for lane in lanes])
        return self._lanes[lane].pop(0)

    def again(self, trial: Trial, missed: Sequence[TrialFault]) -> None:
        """Requeue those faults of a trial that had no effect, up to the maximum number of attempts."""
        if missed and trial.attempt < ATTEMPTS:
            self._lanes[trial.lane].append(Trial(tuple(missed), trial.attempt + 1))
