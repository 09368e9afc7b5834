"""The labeling workflow over one table: load a run, give tasks, take answers, ask for more labels.

Every function is idempotent and may be killed after any of its writes. Calling it again completes the work;
a task that was leased but not returned becomes available when the lease expires.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from data_centric.core.answers import Answer
from data_centric.core.consensus import Estimate, dawid_skene
from data_centric.core.manifests import Entry
from data_centric.core.runs import RunSettings
from data_centric.core.tasks import LabelerRow, Row, RunRow, TaskRow

TRIES = 20
"""Attempts of a write that conflicts with other writes."""
ROWS_AT_ONCE = 25
"""Rows per write: this many of the longest texts fit into DynamoDB's transaction limit of 4 MB."""
LOOKED_AT = 25
"""Number of available tasks from which a labeler's next task is drawn at random, to avoid conflicts."""


class RunConflictError(Exception):
    """A run of this name exists with other settings, items or gold questions."""


class NoRunError(Exception):
    """No run of this name exists, or it is still loading."""


class NoTaskError(Exception):
    """The labeler holds no lease on this task: it was reassigned, or never assigned to the labeler."""


class BlockedError(Exception):
    """The labeler is blocked: too many answers to gold questions are wrong."""


class BusyError(Exception):
    """Every attempt conflicted with another write. Retry later."""


class Table(Protocol):
    def run(self, run: str) -> RunRow | None:
        """Return the row by a consistent read, like `task` and `labeler`."""
        ...

    def task(self, run: str, item: str) -> TaskRow | None: ...

    def labeler(self, run: str, labeler: str) -> LabelerRow | None: ...

    def write(self, rows: Sequence[Row]) -> bool:
        """Write all rows atomically. Return False and write none where a stored version is not the preceding.

        A row of version 1 must not exist yet. At most `ROWS_AT_ONCE` rows.
        """
        ...

    def due(self, run: str, labeler: str, now: float, gold: bool) -> Iterator[str]:
        """Yield the items of available tasks that the labeler has not answered, sorted by `TaskRow.due`.

        The read is eventually consistent.

        :param gold: True: gold questions only; False: all other tasks
        """
        ...

    def tasks(self, run: str) -> Iterator[TaskRow]:
        """Yield all tasks, gold questions included."""
        ...

    def labelers(self, run: str) -> Iterator[LabelerRow]: ...

    def incomplete(self, run: str) -> int:
        """Return the number of tasks that need labels, without gold questions. Eventually consistent."""
        ...


@dataclass(frozen=True)
class Desk:
    table: Table
    run: RunSettings
    now: Callable[[], float]
    """Seconds since 1970-01-01 UTC"""


@dataclass(frozen=True)
class Assignment:
    """A task as the labeler sees it, without other answers and without marking gold questions."""

    item: str
    source_field: str
    source: str
    until: int
    """End of the lease, in seconds since 1970-01-01 UTC"""


@dataclass(frozen=True)
class Progress:
    items: int
    complete: int
    answers: int
    """Number of items, without gold questions"""
    unsure: int
    extra: int
    """Extra labels requested so far"""
    labelers: int
    blocked: int


def load(
    desk: Desk,
    entries: Sequence[Entry],
    gold_entries: Sequence[Entry] = (),
    truths: Mapping[str, int] | None = None,
) -> None:
    """Create the run's tasks, then open the run.

    :param gold_entries: gold questions, not among the entries
    :param truths: true classes of the gold questions, by item
    Raises `RunConflictError`, and `ValueError` for an item that is also a gold question, or a gold question
    without a class.
    """
    known = truths or {}
    tasks = _tasks(desk.run, entries, gold_entries, known)
    digest = desk.run.digest(
        (entry.item for entry in entries), ((entry.item, known[entry.item]) for entry in gold_entries)
    )
    first = RunRow(desk.run.name, digest, "loading", len(entries))
    if not desk.table.write([first]):
        stored = desk.table.run(desk.run.name)
        if stored is None or stored.digest != digest:
            raise RunConflictError(f"there is another run {desk.run.name}")
        if stored.status == "open":
            return
    for start in range(0, len(tasks), ROWS_AT_ONCE):
        rows = tasks[start : start + ROWS_AT_ONCE]
        if not desk.table.write(rows):  # an earlier attempt wrote some of the rows
            for row in rows:
                desk.table.write([row])
    desk.table.write([RunRow(desk.run.name, digest, "open", len(entries), version=2)])


def next_task(desk: Desk, labeler: str) -> Assignment | None:
    """Return the labeler's current task, or a new one; None if no task is available.

    Raises `NoRunError`, `BlockedError` and `BusyError`.
    """
    _open_run(desk)
    for _ in range(TRIES):
        me = desk.table.labeler(desk.run.name, labeler) or LabelerRow(desk.run.name, labeler)
        if me.blocked(desk.run):
            raise BlockedError(f"{me.right} of {me.gold} gold questions are right")
        found = _in_hand(desk, me) or _leased(desk, me)
        if not isinstance(found, str):
            return found
    raise BusyError("other labelers took each task first")


def submit(desk: Desk, labeler: str, item: str, choice: int | None) -> Literal["kept", "already"]:
    """Store an answer. Return "already" and keep the first answer if the labeler has answered the item.

    An answer after the lease has expired is stored unless the task was reassigned.

    :param choice: index of the class, or None: unsure
    Raises `NoTaskError` and `BusyError`, and `ValueError` for an invalid choice.
    """
    if choice is not None and (type(choice) is not int or not 0 <= choice < len(desk.run.classes)):
        raise ValueError(f"the choice must be from 0 to {len(desk.run.classes) - 1}, or none, got {choice!r}")
    for _ in range(TRIES):
        task = desk.table.task(desk.run.name, item)
        if task and labeler in task.answers:
            return "already"
        answered = task.answered(labeler, choice) if task else None
        me = desk.table.labeler(desk.run.name, labeler)
        if task is None or answered is None or me is None:
            raise NoTaskError(f"the labeler has no lease on {item}")
        if desk.table.write([answered, me.having_answered(task, choice)]):
            return "kept"
    raise BusyError("other labelers answered first each time")


def ask_for_more(desk: Desk) -> int:
    """Request one more label for each complete item whose confidence is too low, least confident first.

    Return the number of requests, limited by the run's budget and `most_labels`. Raises `NoRunError`.
    """
    tasks = [*desk.table.tasks(desk.run.name)]
    items = estimated(desk.run, tasks).items

    def confidence(task: TaskRow) -> float:
        return items[task.item].confidence if task.item in items else 0.0

    poor = [
        task
        for task in tasks
        if task.complete
        and task.wanted < desk.run.most_labels
        and confidence(task) < desk.run.least_confidence
    ]
    return sum(_extended(desk, task) for task in sorted(poor, key=lambda task: (confidence(task), task.item)))


def estimated(run: RunSettings, tasks: Iterable[TaskRow]) -> Estimate:
    """Fit the Dawid-Skene model to all answers, with the known classes of gold questions."""
    whole = [*tasks]
    known = {task.item: task.truth for task in whole if task.truth is not None}
    return dawid_skene(answers_of(whole), len(run.classes), known)


def answers_of(tasks: Iterable[TaskRow]) -> list[Answer]:
    return [Answer(task.item, labeler, choice) for task in tasks for labeler, choice in task.answers.items()]


def progress(desk: Desk) -> Progress:
    """Return the run's progress. Raises `NoRunError`."""
    row = _open_run(desk)
    people = [*desk.table.labelers(desk.run.name)]
    return Progress(
        items=row.items,
        complete=row.items - desk.table.incomplete(desk.run.name),
        answers=sum(person.done for person in people),
        unsure=sum(person.unsure for person in people),
        extra=row.extra,
        labelers=len(people),
        blocked=sum(person.blocked(desk.run) for person in people),
    )


def _tasks(
    run: RunSettings, entries: Sequence[Entry], gold_entries: Sequence[Entry], truths: Mapping[str, int]
) -> list[TaskRow]:
    gold = {entry.item for entry in gold_entries}
    for entry in entries:
        if entry.item in gold:
            raise ValueError(f"line {entry.line} is a gold question too")
    for entry in gold_entries:
        if truths.get(entry.item) not in range(len(run.classes)):
            raise ValueError(f"gold questions: line {entry.line} has no class of this run")
    if run.gold_every and not gold_entries:
        raise ValueError("gold_every must be 0 without gold questions")
    return [
        TaskRow(run.name, each.item, each.source_field, each.source, run.labels, truths.get(each.item))
        for each in (*entries, *gold_entries)
    ]


def _open_run(desk: Desk) -> RunRow:
    row = desk.table.run(desk.run.name)
    if row is None or row.status != "open":
        raise NoRunError(f"there is no open run {desk.run.name}")
    return row


def _in_hand(desk: Desk, me: LabelerRow) -> Assignment | None:
    """Return the labeler's last task if its lease has not expired."""
    task = desk.table.task(desk.run.name, me.holds) if me.holds else None
    until = task.leases.get(me.labeler, 0) if task else 0
    return _shown(task, until) if task and until > desk.now() else None


def _leased(desk: Desk, me: LabelerRow) -> Assignment | Literal["again"] | None:
    """Return a new task, None if none is available, or "again" after a write conflict."""
    now = desk.now()
    until = int(now) + desk.run.lease_seconds
    for item in _drawn(desk, me, now):
        task = desk.table.task(desk.run.name, item)
        leased = task.leased(me.labeler, now, until) if task else None
        if leased:
            written = desk.table.write([leased, me.holding(item)])
            return _shown(leased, until) if written else "again"
    return None


def _drawn(desk: Desk, me: LabelerRow, now: float) -> Iterator[str]:
    """Yield the items of available tasks, shuffled in small groups by a seed of the labeler's own."""

    def order(item: str) -> bytes:
        return hashlib.sha256(f"{me.labeler}\n{item}".encode()).digest()

    for gold in (True, False) if me.next_is_gold(desk.run) else (False,):
        due = desk.table.due(desk.run.name, me.labeler, now, gold)
        while some := sorted(itertools.islice(due, LOOKED_AT), key=order):
            yield from some


def _shown(task: TaskRow, until: int) -> Assignment:
    return Assignment(task.item, task.source_field, task.source, until)


def _extended(desk: Desk, task: TaskRow) -> bool:
    """Request one more label for a task, if the task is unchanged and the budget allows it."""
    for _ in range(TRIES):
        run = _open_run(desk)
        if run.extra >= desk.run.extra_labels:
            return False
        now = [
            replace(run, extra=run.extra + 1, version=run.version + 1),
            replace(task, wanted=task.wanted + 1, version=task.version + 1),
        ]
        if desk.table.write(now):
            return True
        if desk.table.task(desk.run.name, task.item) != task:
            return False
    raise BusyError("the run's row changed each time")
