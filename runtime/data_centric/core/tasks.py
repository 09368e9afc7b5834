"""Rows of a labeling run and their state changes. No labeler gets an item twice.

Every row has a version. A row is written only if the stored row has the previous version. Times are in
seconds since 1970-01-01 UTC.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from data_centric.core.runs import RunSettings


@dataclass(frozen=True)
class RunRow:
    run: str
    digest: str
    """Hash of settings, items and gold questions"""
    status: Literal["loading", "open", "closed"]
    items: int
    """Number of items, without gold questions"""
    extra: int = 0
    """Number of extra labels requested so far"""
    version: int = 1
    settings: str = ""
    """The run's settings, see `RunSettings.to_json`"""
    opened: int = 0
    closed: int = 0
    """Times at which the status became `open` and `closed`; 0: not yet"""


@dataclass(frozen=True)
class TaskRow:
    """A task: an item with all its answers."""

    run: str
    item: str
    source_field: str
    source: str
    wanted: int
    """Number of labels that the item needs"""
    truth: int | None = None
    """True class of a gold question, which every labeler may get; None for other items"""
    answers: Mapping[str, int | None] = field(default_factory=dict)
    """Answers by labeler; None: unsure"""
    leases: Mapping[str, int] = field(default_factory=dict)
    """End of each lease, by labeler. An expired lease stays until another labeler needs its place"""
    version: int = 1
    review: str = ""
    """The review, see `Review.to_json`; empty: none"""

    @property
    def gold(self) -> bool:
        return self.truth is not None

    @property
    def missing(self) -> int:
        """Number of labels that are still missing."""
        return max(self.wanted - len(self.answers), 0)

    @property
    def complete(self) -> bool:
        return not self.gold and not self.missing

    @property
    def due(self) -> int | None:
        """Time from which another labeler may get the task; None if no more labels are needed.

        A task that is available at once has the number of its answers and leases instead. That is less than
        any time, so in the order of `due` the tasks with the fewest labels come first.
        """
        if self.gold:
            return 0
        if self.complete:
            return None
        if len(self.leases) < self.missing:
            return len(self.answers) + len(self.leases)
        return min(self.leases.values())

    def leased(self, labeler: str, now: float, until: int) -> TaskRow | None:
        """Return the row with a lease for the labeler, or None if the labeler may not get the task."""
        if labeler in self.answers or self.complete:
            return None
        leases = {**self.leases}
        if labeler not in leases and not self.gold and len(leases) >= self.missing:
            first = min(leases, key=lambda each: (leases[each], each))
            if leases[first] > now:
                return None
            del leases[first]
        leases[labeler] = until
        return replace(self, leases=leases, version=self.version + 1)

    def answered(self, labeler: str, choice: int | None) -> TaskRow | None:
        """Return the row with the labeler's answer, or None if the labeler has no lease."""
        if labeler not in self.leases:
            return None
        leases = {name: until for name, until in self.leases.items() if name != labeler}
        answers = {**self.answers, labeler: choice}
        return replace(self, leases=leases, answers=answers, version=self.version + 1)


@dataclass(frozen=True)
class LabelerRow:
    run: str
    labeler: str
    """The labeler's pseudonym"""
    given: int = 0
    """Number of leases"""
    done: int = 0
    """Number of answers, without gold questions"""
    unsure: int = 0
    """Number of these that were unsure"""
    gold: int = 0
    """Number of answers to gold questions, without unsure ones"""
    right: int = 0
    """Number of these that were right"""
    holds: str = ""
    """Item of the last lease; empty once the labeler has answered it"""
    version: int = 0
    """Version of the row; 0: not stored yet"""
    submitted: int = 0
    """Number of answers, including gold questions and unsure ones"""

    def blocked(self, run: RunSettings) -> bool:
        """Return whether the labeler is blocked because of wrong answers to gold questions."""
        return self.gold >= run.gold_least and self.right < run.gold_share * self.gold

    def next_is_gold(self, run: RunSettings) -> bool:
        """Return whether the labeler's next task is a gold question. The order is pseudorandom."""
        if not run.gold_every:
            return False
        digest = hashlib.sha256(f"{self.run}\n{self.labeler}\n{self.given}".encode()).digest()
        return int.from_bytes(digest[:8], "big") % run.gold_every == 0

    def holding(self, item: str) -> LabelerRow:
        return replace(self, holds=item, given=self.given + 1, version=self.version + 1)

    def having_answered(self, task: TaskRow, choice: int | None) -> LabelerRow:
        holds = "" if self.holds == task.item else self.holds
        now = replace(self, holds=holds, submitted=self.submitted + 1, version=self.version + 1)
        if task.gold:
            sure, right = choice is not None, choice == task.truth
            return replace(now, gold=self.gold + sure, right=self.right + right)
        return replace(now, done=self.done + 1, unsure=self.unsure + (choice is None))


Row = RunRow | TaskRow | LabelerRow
