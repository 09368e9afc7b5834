"""The rows of a labeling run, and how they change. No labeler gets an item twice.

Every row has a version, and is written only if the stored one has the version before it. Times are in seconds
since 1970-01-01 UTC.
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
    """Of settings, items and gold questions"""
    status: Literal["loading", "open"]
    items: int
    """Without gold questions"""
    extra: int = 0
    """Extra labels that were asked for"""
    version: int = 1


@dataclass(frozen=True)
class TaskRow:
    """An item, with all answers to it."""

    run: str
    item: str
    source_field: str
    source: str
    wanted: int
    """Labels"""
    truth: int | None = None
    """The true class of a gold question, which every labeler may get"""
    answers: Mapping[str, int | None] = field(default_factory=dict)
    """By labeler; None: unsure"""
    leases: Mapping[str, int] = field(default_factory=dict)
    """By labeler, when it ends. An ended one counts until another labeler needs its place"""
    version: int = 1

    @property
    def gold(self) -> bool:
        return self.truth is not None

    @property
    def missing(self) -> int:
        """Labels that it has not got."""
        return max(self.wanted - len(self.answers), 0)

    @property
    def complete(self) -> bool:
        return not self.gold and not self.missing

    @property
    def due(self) -> int | None:
        """When another labeler can get it: a time, a small number for now (the fewer labels, the smaller), or
        None for never."""
        if self.gold:
            return 0
        if self.complete:
            return None
        if len(self.leases) < self.missing:
            return len(self.answers) + len(self.leases)
        return min(self.leases.values())

    def leased(self, labeler: str, now: float, until: int) -> TaskRow | None:
        """Return the row with a lease for the labeler, or None if the labeler may not have it."""
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
        """Return the row with the labeler's answer, or None if the labeler has no lease (any more)."""
        if labeler not in self.leases:
            return None
        leases = {name: until for name, until in self.leases.items() if name != labeler}
        answers = {**self.answers, labeler: choice}
        return replace(self, leases=leases, answers=answers, version=self.version + 1)


@dataclass(frozen=True)
class LabelerRow:
    run: str
    labeler: str
    """A pseudonym"""
    given: int = 0
    """Leases"""
    done: int = 0
    """Answers to items that are no gold questions"""
    unsure: int = 0
    """Of those"""
    gold: int = 0
    """Answers to gold questions; to be unsure is no error, and not counted"""
    right: int = 0
    """Right ones of those"""
    holds: str = ""
    """The item of the last lease, until it is answered"""
    version: int = 0
    """0: not stored yet"""

    def blocked(self, run: RunSettings) -> bool:
        """Return whether too many answers to gold questions are wrong."""
        return self.gold >= run.gold_least and self.right < run.gold_share * self.gold

    def next_is_gold(self, run: RunSettings) -> bool:
        """Return whether the next task is a gold question: in no order that a labeler could guess."""
        if not run.gold_every:
            return False
        digest = hashlib.sha256(f"{self.run}\n{self.labeler}\n{self.given}".encode()).digest()
        return int.from_bytes(digest[:8], "big") % run.gold_every == 0

    def holding(self, item: str) -> LabelerRow:
        return replace(self, holds=item, given=self.given + 1, version=self.version + 1)

    def having_answered(self, task: TaskRow, choice: int | None) -> LabelerRow:
        holds = "" if self.holds == task.item else self.holds
        now = replace(self, holds=holds, version=self.version + 1)
        if task.gold:
            sure, right = choice is not None, choice == task.truth
            return replace(now, gold=self.gold + sure, right=self.right + right)
        return replace(now, done=self.done + 1, unsure=self.unsure + (choice is None))


Row = RunRow | TaskRow | LabelerRow
