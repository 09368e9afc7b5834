"""The labeling workflow: load a run, assign tasks, store answers, request more labels, close the run.

Every function is idempotent and may be killed after any of its writes. Another call completes the work. A
task that was leased but not answered becomes available when the lease expires.
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
from data_centric.core.reviews import Review
from data_centric.core.runs import RunSettings
from data_centric.core.tasks import LabelerRow, Row, RunRow, TaskRow

TRIES = 20
"""Maximum number of attempts of a write that conflicts with other writes."""
ROWS_AT_ONCE = 25
"""Maximum number of rows in a write. With the longest texts they still fit into DynamoDB's limit of 4 MB for
a transaction."""
LOOKED_AT = 25
"""Number of available tasks from which a labeler's next task is drawn at random, to avoid write conflicts."""


class RunConflictError(Exception):
    """A run of this name exists with other settings, items or gold questions."""


class NoRunError(Exception):
    """No run of this name is open: it does not exist, is still loading, or is closed."""


class NoTaskError(Exception):
    """The labeler has no lease on this task: it was reassigned, or never assigned to the labeler."""


class BlockedError(Exception):
    """The labeler is blocked: too many answers to gold questions are wrong."""


class BusyError(Exception):
    """All attempts conflicted with other writes. Retry later."""


class Table(Protocol):
    def run(self, run: str) -> RunRow | None:
        """Return the row. The reads `run`, `task` and `labeler` are strongly consistent."""
        ...

    def task(self, run: str, item: str) -> TaskRow | None: ...

    def labeler(self, run: str, labeler: str) -> LabelerRow | None: ...

    def write(self, rows: Sequence[Row]) -> bool:
        """Write all rows atomically; return whether they were written.

        Unless the version of each row is its stored version plus 1, no row is written. A row of version 1
        must not exist yet. At most `ROWS_AT_ONCE` rows.
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

    def open_runs(self) -> Iterator[str]:
        """Yield the names of open runs, the earliest first. Eventually consistent."""
        ...

    def incomplete(self, run: str) -> int:
        """Return the number of tasks that need labels, without gold questions. Eventually consistent."""
        ...


@dataclass(frozen=True)
class Desk:
    table: Table
    run: RunSettings
    now: Callable[[], float]
    """Returns the seconds since 1970-01-01 UTC"""


@dataclass(frozen=True)
class Assignment:
    """A task as its labeler sees it: without others' answers, and not marked as a gold question."""

    item: str
    source_field: str
    source: str
    until: int
    """End of the lease, in seconds since 1970-01-01 UTC"""
    review: Review | None = None


@dataclass(frozen=True)
class Progress:
    items: int
    complete: int
    answers: int
    """Number of answers, without gold questions"""
    unsure: int
    extra: int
    """Number of extra labels requested so far"""
    labelers: int
    blocked: int


def load(
    desk: Desk,
    entries: Sequence[Entry],
    gold_entries: Sequence[Entry] = (),
    truths: Mapping[str, int] | None = None,
) -> None:
    """Create a run with one task for each entry, and open it. A repeated call completes an interrupted one.

    :param gold_entries: items of the gold questions
    :param truths: class of each gold question, by item
    Raises `RunConflictError`, and `ValueError` for an item that is a gold question too, a gold question
    without a class, and a run with `gold_every` but without gold questions.
    """
    known = truths or {}
    if begin(desk, entries, gold_entries, known).status != "loading":
        return
    add_tasks(desk, tasks_of(desk.run, (*entries, *gold_entries), known))
    open_run(desk, len(entries))


def begin(
    desk: Desk, entries: Sequence[Entry], gold_entries: Sequence[Entry], truths: Mapping[str, int]
) -> RunRow:
    """Create the row of a run, with the status `loading`, or return the stored row of the same run.

    Arguments and errors as in `load`.
    """
    _check_gold(desk.run, entries, gold_entries, truths)
    digest = desk.run.digest(
        (entry.item for entry in entries), ((entry.item, truths[entry.item]) for entry in gold_entries)
    )
    first = RunRow(desk.run.name, digest, "loading", len(entries), settings=desk.run.to_json())
    if desk.table.write([first]):
        return first
    stored = desk.table.run(desk.run.name)
    if stored is None or stored.digest != digest:
        raise RunConflictError(
            f"run {desk.run.name} exists already, with other settings, items or gold questions"
        )
    return stored


def tasks_of(run: RunSettings, entries: Iterable[Entry], truths: Mapping[str, int]) -> list[TaskRow]:
    """Return a new task for each entry. Entries whose item is in `truths` become gold questions."""
    return [
        TaskRow(run.name, each.item, each.source_field, each.source, run.labels, truths.get(each.item))
        for each in entries
    ]


def add_tasks(desk: Desk, tasks: Sequence[TaskRow]) -> None:
    """Create the tasks that do not exist yet."""
    for start in range(0, len(tasks), ROWS_AT_ONCE):
        rows = tasks[start : start + ROWS_AT_ONCE]
        if not desk.table.write(rows):  # an earlier attempt wrote some of the rows
            for row in rows:
                desk.table.write([row])


def open_run(desk: Desk, items: int) -> None:
    """Open a run for labelers. All its tasks must exist.

    :param items: number of tasks, without gold questions
    Raises `NoRunError` if there is no run.
    """
    row = _stored(desk)
    if row.status == "loading":  # a conflicting write can only be another `open_run`
        now = int(desk.now())
        desk.table.write([replace(row, status="open", items=items, opened=now, version=row.version + 1)])


def close_run(desk: Desk) -> RunRow:
    """Close a run for labelers; return its row. Raises `NoRunError` and `BusyError`."""
    for _ in range(TRIES):
        row = _stored(desk)
        if row.status == "closed":
            return row
        closed = replace(row, status="closed", closed=int(desk.now()), version=row.version + 1)
        if row.status == "open" and desk.table.write([closed]):
            return closed
    raise BusyError("could not close the run: its row changed at every attempt")


def next_task(desk: Desk, labeler: str) -> Assignment | None:
    """Return the labeler's current task, or a new one; None if no task is available.

    Raises `NoRunError`, `BlockedError` and `BusyError`.
    """
    _open_run(desk)
    for _ in range(TRIES):
        me = desk.table.labeler(desk.run.name, labeler) or LabelerRow(desk.run.name, labeler)
        if me.blocked(desk.run):
            raise BlockedError(
                f"too many answers to gold questions are wrong: {me.right} of {me.gold} are right"
            )
        found = _in_hand(desk, me) or _leased(desk, me)
        if not isinstance(found, str):
            return found
    raise BusyError("could not lease a task: other labelers leased each of them first")


def submit(desk: Desk, labeler: str, item: str, choice: int | None) -> Literal["kept", "already"]:
    """Store an answer. Return "already" and keep the first answer if the labeler has answered the item.

    An answer after the lease has expired is stored unless the task was reassigned.

    :param choice: index of the class, or None: unsure
    Raises `NoRunError`, `NoTaskError` and `BusyError`, and `ValueError` for an invalid choice.
    """
    if choice is not None and (type(choice) is not int or not 0 <= choice < len(desk.run.classes)):
        raise ValueError(f"the choice must be from 0 to {len(desk.run.classes) - 1}, or None, got {choice!r}")
    for _ in range(TRIES):
        task = desk.table.task(desk.run.name, item)
        if task and labeler in task.answers:
            return "already"
        _open_run(desk)
        answered = task.answered(labeler, choice) if task else None
        me = desk.table.labeler(desk.run.name, labeler)
        if task is None or answered is None or me is None:
            raise NoTaskError(f"the labeler has no lease on {item}")
        if desk.table.write([answered, me.having_answered(task, choice)]):
            return "kept"
    raise BusyError("could not store the answer: the task's row changed at every attempt")


def ask_for_more(desk: Desk) -> int:
    """Request one more label for each fully labeled item with too low a confidence, least confident first.

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
    """Return the progress of an open or closed run. Raises `NoRunError`."""
    row = _stored(desk)
    if row.status == "loading":
        raise NoRunError(f"the run {desk.run.name} is still loading")
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


def _check_gold(
    run: RunSettings, entries: Sequence[Entry], gold_entries: Sequence[Entry], truths: Mapping[str, int]
) -> None:
    gold = {entry.item for entry in gold_entries}
    for entry in entries:
        if entry.item in gold:
            raise ValueError(f"the item of line {entry.line} must not be a gold question too")
    for entry in gold_entries:
        if truths.get(entry.item) not in range(len(run.classes)):
            raise ValueError(f"gold questions: line {entry.line} must have one of the run's classes")
    if run.gold_every and not gold_entries:
        raise ValueError("gold_every must be 0 without gold questions")


def _stored(desk: Desk) -> RunRow:
    row = desk.table.run(desk.run.name)
    if row is None:
        raise NoRunError(f"there is no run {desk.run.name}")
    return row


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
    """Lease and return a new task; None if no task is available, "again" after a write conflict."""
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
    """Yield the items of available tasks, in groups that are shuffled by a hash of labeler and item."""

    def order(item: str) -> bytes:
        return hashlib.sha256(f"{me.labeler}\n{item}".encode()).digest()

    for gold in (True, False) if me.next_is_gold(desk.run) else (False,):
        due = desk.table.due(desk.run.name, me.labeler, now, gold)
        while some := sorted(itertools.islice(due, LOOKED_AT), key=order):
            yield from some


def _shown(task: TaskRow, until: int) -> Assignment:
    review = Review.from_json(task.review) if task.review else None
    return Assignment(task.item, task.source_field, task.source, until, review)


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
    raise BusyError("could not request a label: the run's row changed at every attempt")
