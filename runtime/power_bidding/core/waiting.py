"""A state machine's wait for a pipeline: a row of `Waits` with the task's token and the pipeline's end.

One update writes the token, another one writes how the pipeline ended, in any order. Each update returns the
updated row, so the later one gets both values. Its caller answers the token: it tells Step Functions that the
task has succeeded or failed. Both updates may be repeated at any time.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypedDict

from power_bidding.core import readings
from power_feeds import hours

ENDED = ("Succeeded", "Failed", "Stopped", "CompletedWithFailures")
"""Statuses of an execution that has ended."""
LONGEST_CAUSE = 500


class Wait(TypedDict, total=False):
    request: str
    token: str
    hour: str
    machine: str
    """ARN of the waiting execution of the state machine"""
    execution: str
    """ARN of the pipeline's execution"""
    ended: str
    """Last status of the execution"""
    why: str
    answered: str
    """The last token that was answered"""


class Waits(Protocol):
    def set(self, request: str, values: Wait) -> Wait:
        """Set attributes of the row, and create it if it does not exist; return the updated row."""
        ...

    def open(self) -> Sequence[Wait]:
        """Return the rows with an unanswered token."""
        ...

    def started(self, hour: int) -> None:
        """Store the hour of the last run that started the pipeline."""
        ...

    def last_start(self) -> int | None: ...


@dataclass(frozen=True)
class Progress:
    status: str
    why: str


class Pipeline(Protocol):
    def start(self, request: str, hour: str, training: str) -> str:
        """Start the pipeline, once for each client request token `request`; return the execution's ARN."""
        ...

    def request_of(self, execution: str) -> str | None:
        """Return the execution's parameter `Request`; None if it has none."""
        ...

    def progress(self, execution: str) -> Progress: ...


class Callbacks(Protocol):
    """Step Functions' callbacks. Each returns False if no task waits for the token any more."""

    def succeed(self, token: str, output: str) -> bool: ...

    def fail(self, token: str, error: str, cause: str) -> bool: ...

    def beat(self, token: str) -> bool: ...


@dataclass(frozen=True)
class WaitingRoom:
    waits: Waits
    pipeline: Pipeline
    callbacks: Callbacks


def request_of(machine: str) -> str:
    """Return the id of the training that a state machine's execution requests, the same for retries."""
    return hashlib.sha256(machine.encode()).hexdigest()[:32]


def begin(room: WaitingRoom, hour: int, token: str, machine: str, training: str) -> str:
    """Store the token, start the pipeline once, and return its execution's ARN.

    :param training: S3 folder of the history
    """
    request = request_of(machine)
    waiting: Wait = {"token": token, "hour": hours.text(hour), "machine": machine, "answered": ""}
    row = room.waits.set(request, waiting)
    if not row.get("ended"):
        execution = room.pipeline.start(request, hours.text(hour), training)
        room.waits.started(hour)
        row = room.waits.set(request, {"execution": execution})
    _answer(room, row)
    return row.get("execution", "")


def execution_changed(room: WaitingRoom, execution: str, status: str) -> str | None:
    """Process a new status of the pipeline's execution; return its request, None if it has none."""
    request = room.pipeline.request_of(execution)
    if request is None:
        return None
    if status in ENDED:  # the status from the pipeline's API may be older than the event
        _end(room, request, execution, Progress(status, room.pipeline.progress(execution).why))
    return request


def step_changed(room: WaitingRoom, execution: str) -> str | None:
    """Send a heartbeat to the waiting state machine; return the execution's request, or None."""
    request = room.pipeline.request_of(execution)
    if request is not None:
        row = room.waits.set(request, {"execution": execution})
        _beat(room, row)
    return request


def sweep(room: WaitingRoom) -> int:
    """Complete waits after lost events and killed functions; return the number of waits that were open.

    Raises the first exception after processing all waits.
    """
    rows, failures = room.waits.open(), list[Exception]()
    for row in rows:
        try:
            _look_at(room, row)
        except Exception as error:  # continue with the other waits
            failures.append(error)
    if failures:
        raise failures[0]
    return len(rows)


def _look_at(room: WaitingRoom, row: Wait) -> None:
    execution = row.get("execution")
    if row.get("ended"):
        _answer(room, row)
    elif execution:
        progress = room.pipeline.progress(execution)
        if progress.status in ENDED:
            _end(room, row["request"], execution, progress)
        else:
            _beat(room, row)


def _end(room: WaitingRoom, request: str, execution: str, progress: Progress) -> None:
    row = room.waits.set(request, {"execution": execution, "ended": progress.status, "why": progress.why})
    _answer(room, row)


def _answer(room: WaitingRoom, row: Wait) -> None:
    """Answer the token if the row has the token and the pipeline's end."""
    token, ended = row.get("token"), row.get("ended")
    if not token or not ended or row.get("answered") == token:
        return
    if ended == "Succeeded":
        told = {"request": row["request"], "status": ended, "execution": row.get("execution", "")}
        room.callbacks.succeed(token, json.dumps(told))
    else:
        room.callbacks.fail(token, f"Pipeline{ended}", row.get("why", "")[:LONGEST_CAUSE])
    room.waits.set(row["request"], {"answered": token})


def _beat(room: WaitingRoom, row: Wait) -> None:
    token = row.get("token")
    if token and not row.get("ended"):
        room.callbacks.beat(token)


def training_csv(values: Mapping[str, Mapping[int, float]], run: int) -> bytes:
    """Return a history as CSV for the training: a row for each hour from the first known hour to `run`."""
    known = {hour for column in values.values() for hour in column}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["hour_utc", *readings.NAMES])
    for hour in range(min(known), run + 1) if known else ():
        cells = [values[name].get(hour) for name in readings.NAMES]
        writer.writerow([hours.text(hour), *("" if cell is None else repr(cell) for cell in cells)])
    return text.getvalue().encode()
