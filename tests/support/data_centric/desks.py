"""A labeling run in memory. Workers are interleaved at each table call and can be killed after each write."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from data_centric.core import manifests, workflow
from data_centric.core.manifests import Entry
from data_centric.core.runs import RunSettings
from data_centric.core.tasks import LabelerRow, Row, RunRow, TaskRow
from data_centric.core.workflow import BlockedError, Desk
from tests.support.turns import Turns

RUN = RunSettings(
    name="animals",
    attribute="animal",
    classes=("cat", "dog", "owl"),
    labels=2,
    most_labels=4,
    extra_labels=0,
    least_confidence=0.9,
    lease_seconds=60,
    gold_every=0,
    gold_least=3,
    gold_share=0.7,
)


def entries(count: int, folder: str = "animals") -> list[Entry]:
    lines = "".join(f'{{"source-ref": "s3://pictures/{folder}/{number}.png"}}\n' for number in range(count))
    return manifests.parse(lines.encode())


def key_of(row: Row) -> tuple[str, str, str]:
    if isinstance(row, TaskRow):
        return row.run, "task", row.item
    return (row.run, "labeler", row.labeler) if isinstance(row, LabelerRow) else (row.run, "run", "")


@dataclass
class Rows:
    """`workflow.Table` in memory."""

    turns: Turns = field(default_factory=Turns)
    stale: bool = False
    """Whether reads of the table's index lag one write behind"""
    lies: random.Random | None = None
    """If set, one write in ten succeeds but is reported as failed, as after a lost response"""
    rows: dict[tuple[str, str, str], Row] = field(default_factory=dict)
    before: dict[tuple[str, str, str], Row] = field(default_factory=dict)

    def run(self, run: str) -> RunRow | None:
        self.turns.point()
        row = self.rows.get((run, "run", ""))
        return row if isinstance(row, RunRow) else None

    def task(self, run: str, item: str) -> TaskRow | None:
        self.turns.point()
        row = self.rows.get((run, "task", item))
        return row if isinstance(row, TaskRow) else None

    def labeler(self, run: str, labeler: str) -> LabelerRow | None:
        self.turns.point()
        row = self.rows.get((run, "labeler", labeler))
        return row if isinstance(row, LabelerRow) else None

    def write(self, rows: Sequence[Row]) -> bool:
        self.turns.point()
        assert len({key_of(row) for row in rows}) == len(rows) <= workflow.ROWS_AT_ONCE
        stored = [self.rows.get(key_of(row)) for row in rows]
        if any((old.version if old else 0) != row.version - 1 for old, row in zip(stored, rows, strict=True)):
            return False
        self.before = {**self.rows}
        self.rows |= {key_of(row): row for row in rows}
        self.turns.wrote()
        return not self.lies or self.lies.random() > 0.1

    def due(self, run: str, labeler: str, now: float, gold: bool) -> Iterator[str]:
        self.turns.point()
        shown = self.before if self.stale else self.rows
        found = [
            (row.due, row.item)
            for row in shown.values()
            if isinstance(row, TaskRow) and row.run == run and row.gold == gold and labeler not in row.answers
        ]
        return iter([item for due, item in sorted((d, i) for d, i in found if d is not None) if due <= now])

    def tasks(self, run: str) -> Iterator[TaskRow]:
        self.turns.point()
        return iter([row for row in self.rows.values() if isinstance(row, TaskRow) and row.run == run])

    def labelers(self, run: str) -> Iterator[LabelerRow]:
        return iter([row for row in self.rows.values() if isinstance(row, LabelerRow) and row.run == run])

    def open_runs(self) -> Iterator[str]:
        found = [row for row in self.rows.values() if isinstance(row, RunRow) and row.status == "open"]
        return iter([row.run for row in sorted(found, key=lambda row: (row.opened, row.run))])

    def incomplete(self, run: str) -> int:
        return sum(not task.complete for task in self.tasks(run) if not task.gold)


@dataclass
class World:
    """A loaded run, and a record of all assignments and acknowledgements."""

    items: int = 1
    run: RunSettings = RUN
    stale: bool = False
    lies: random.Random | None = None

    def __post_init__(self) -> None:
        self.turns, self.time = Turns(), 1_000_000.0
        self.table = Rows(self.turns, self.stale)
        self.desk = Desk(self.table, self.run, lambda: self.time)
        self.entries = entries(self.items)
        workflow.load(self.desk, self.entries)
        self.table.lies = self.lies
        self.kept: list[tuple[str, str, int | None]] = []
        """Acknowledged answers: (labeler, item, choice)"""
        self.again: list[tuple[str, str]] = []
        """Assignments of an item that the labeler had already answered"""

    @property
    def item(self) -> str:
        return self.entries[0].item

    @property
    def tasks(self) -> list[TaskRow]:
        return [*self.table.tasks(self.run.name)]

    def labeler(self, name: str) -> LabelerRow:
        return self.table.labeler(self.run.name, name) or LabelerRow(self.run.name, name)

    def next(self, name: str) -> str | None:
        """Return the item assigned to the labeler."""
        answered = {item for who, item, _ in self.kept if who == name}
        found = workflow.next_task(self.desk, name)
        if found and found.item in answered:
            self.again.append((name, found.item))
        return found.item if found else None

    def submit(self, name: str, item: str, choice: int | None = 0) -> str:
        told = workflow.submit(self.desk, name, item, choice)
        if told == "kept":
            self.kept.append((name, item, choice))
        return told

    def pass_time(self) -> None:
        """Let all leases expire."""
        self.time += self.run.lease_seconds + 1

    def finish(self, names: Sequence[str]) -> None:
        """Complete the remaining tasks: one labeler after the other answers every task that they get."""
        self.table.stale, self.table.lies = False, None
        self.pass_time()
        for name in names:
            while item := self._next_or_none(name):
                self.submit(name, item)

    def _next_or_none(self, name: str) -> str | None:
        try:
            return self.next(name)
        except BlockedError:
            return None

    @property
    def lost_tasks(self) -> int:
        """Lost work: tasks that need labels, and acknowledged answers that are not stored."""
        stored = {(name, task.item): choice for task in self.tasks for name, choice in task.answers.items()}
        gone = sum(stored.get((name, item), "none") != choice for name, item, choice in self.kept)
        return gone + sum(not task.complete for task in self.tasks if not task.gold)

    @property
    def double_labels(self) -> int:
        """Duplicate work: surplus labels, repeated assignments and acknowledgements, and errors in the
        labelers' counts of answers."""
        beyond = sum(max(len(task.answers) - task.wanted, 0) for task in self.tasks if not task.gold)
        repeated = len(self.kept) - len({(name, item) for name, item, _ in self.kept})
        given = [name for task in self.tasks if not task.gold for name in task.answers]
        people = [*self.table.labelers(self.run.name)]
        miscounted = sum(abs(person.done - given.count(person.labeler)) for person in people)
        return beyond + repeated + len(self.again) + miscounted


def with_settings(**changes: object) -> RunSettings:
    return replace(RUN, **changes)  # type: ignore[arg-type]
