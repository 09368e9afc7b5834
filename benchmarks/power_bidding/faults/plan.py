"""The trials: which faults strike which hour, in a random order from a seed."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from local.feeds.faults import FEEDS

FEED_KINDS = ("down", "late", "malformed", "duplicated", "unauthorized", "corrupt", "corrected")
WAITED_FOR = ("down", "late")
"""A run asks such a feed again after a pause. They share hours, so that few runs have one."""
PIPELINE_KINDS = ("failing", "stopped", "silent")
ALONE_KINDS = ("killed", "restarted")
"""No other hour may be at work: the fault would strike that one."""
KINDS = (*FEED_KINDS, *PIPELINE_KINDS, "throttled", *ALONE_KINDS)
HOURS, PIPELINE, ENDPOINT, ALONE = LANES = ("hours", "pipeline", "endpoint", "alone")
"""Trials of the lane `pipeline` follow each other, as do those of `endpoint`: the cloud has one setting for
each. Those of `alone` come last, between hours with faults of feeds."""
LANE_OF = {
    **dict.fromkeys(PIPELINE_KINDS, PIPELINE),
    "throttled": ENDPOINT,
    **dict.fromkeys(ALONE_KINDS, ALONE),
}
ATTEMPTS = 3
"""How often a trial is made whose fault did not strike."""


@dataclass(frozen=True)
class TrialFault:
    kind: str
    feed: str = ""
    variant: int = 0
    """Number of the fault among those of its kind: what it does in detail goes in turn"""

    @property
    def name(self) -> str:
        """The row in the table."""
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
    """Return trials with each fault of the kinds so many times; those of feeds once for each feed.

    :param together: how many feeds fail in the same hour
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
    """Trials that are still to be made, by lane."""

    def __init__(self, trials: Sequence[Trial], chance: random.Random) -> None:
        self._chance = chance
        self._lanes: dict[str, list[Trial]] = {lane: [] for lane in LANES}
        for trial in trials:
            self._lanes[trial.lane].append(trial)

    def __len__(self) -> int:
        return self.left(LANES)

    def left(self, lanes: Collection[str]) -> int:
        """Return the trials of some lanes."""
        return sum(len(self._lanes[lane]) for lane in lanes)

    def next(self, free: Collection[str]) -> Trial:
        """Return the next trial of one of the free lanes, a lane with more trials more often; an hour
        without a fault where none is left."""
        lanes = [lane for lane in LANES if lane in free and self._lanes[lane]]
        if not lanes:
            return Trial()
        (lane,) = self._chance.choices(lanes, [len(self._lanes[lane]) for lane in lanes])
        return self._lanes[lane].pop(0)

    def again(self, trial: Trial, missed: Sequence[TrialFault]) -> None:
        """Put back the faults of a trial that did not strike, unless they were tried often enough."""
        if missed and trial.attempt < ATTEMPTS:
            self._lanes[trial.lane].append(Trial(tuple(missed), trial.attempt + 1))
