"""Checks of an open run until it is complete or its time is over."""

from __future__ import annotations

import math
from dataclasses import dataclass

from data_centric.core import workflow
from data_centric.core.tasks import TaskRow
from data_centric.core.workflow import Desk, NoRunError

LEAST_PAUSE = 5
"""Minimum pause between checks, in seconds."""
PAUSE_SHARE = 0.05
"""Pause between later checks, as a share of the time for which the run has been open."""
MOST_CHECKS = 1_500
"""Number of checks with the longest pause that fit into a run's maximum duration. A Step Functions execution
can have 25,000 events, and a check has 9."""


@dataclass(frozen=True)
class Watched:
    """A run's state."""

    closed: bool
    complete: bool
    """Whether every item has its labels"""
    open: int
    """Number of tasks that need labels"""
    oldest: int
    """Seconds since the run was opened, if a task needs labels; else 0"""
    blocked: int
    """Number of blocked labelers"""
    disputed: int | None
    """Number of items on which labelers disagree; None: not counted while tasks need labels"""
    asked: int
    """Number of extra labels that this check requested"""
    pause: int
    """Seconds until the next check"""


def watch(desk: Desk, most_hours: int) -> Watched:
    """If all labels were given, request more where labelers disagree, or close the run if none are needed.

    A run is also closed after `most_hours`. Raises `NoRunError` and `BusyError`.
    """
    row = desk.table.run(desk.run.name)
    if row is None or row.status == "loading":
        raise NoRunError(f"the run {desk.run.name} is not loaded")
    missing = desk.table.incomplete(desk.run.name)
    tasks, asked = [], 0
    if not missing:  # the index may lag: read the tasks themselves
        tasks = [*desk.table.tasks(desk.run.name)]
        missing = sum(not task.complete for task in tasks if not task.gold)
        if not missing and row.status == "open":
            asked = workflow.ask_for_more(desk)
            missing += asked
    over = desk.now() >= row.opened + 3600 * most_hours
    if row.status == "open" and (over or not missing):
        row = workflow.close_run(desk)
    return Watched(
        closed=row.status == "closed",
        complete=not missing,
        open=missing,
        oldest=int(desk.now()) - row.opened if missing else 0,
        blocked=sum(person.blocked(desk.run) for person in desk.table.labelers(desk.run.name)),
        disputed=sum(map(_disputed, tasks)) if tasks else None,
        asked=asked,
        pause=pause(desk.now() - row.opened, most_hours),
    )


def pause(seconds: float, most_hours: int) -> int:
    """Return the seconds until the next check of a run that has been open for `seconds`."""
    most = max(LEAST_PAUSE, 3600 * most_hours / MOST_CHECKS)
    return math.ceil(min(max(PAUSE_SHARE * seconds, LEAST_PAUSE), most))


def _disputed(task: TaskRow) -> bool:
    return not task.gold and len({choice for choice in task.answers.values() if choice is not None}) > 1
