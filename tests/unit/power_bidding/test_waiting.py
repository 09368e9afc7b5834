"""The wait for a pipeline ends exactly once, in any order of tokens and events, and after any kill."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from power_bidding.core import readings, waiting
from power_bidding.core.waiting import ENDED, Progress, Wait, WaitingRoom
from power_feeds import hours
from tests.support.power_bidding.desks import LOCATION, NIGHT, Past
from tests.support.turns import Killed, Turns

MACHINE = "arn:aws:states:eu-west-1:111122223333:execution:bid:7"
REQUEST = waiting.request_of(MACHINE)


class Room:
    """A state machine's task, a pipeline and the table between them, in memory."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.rows: dict[str, Wait] = {}
        self.latest: int | None = None
        self.executions: dict[str, str] = {}
        """By client request token"""
        self.status = "Executing"
        self.over: set[str] = set()
        """Tokens whose task has ended"""
        self.answers: list[tuple[str, str]] = []
        self.beats: list[str] = []
        self.broken: set[str] = set()
        self.room = WaitingRoom(self, self, self)

    # The table

    def set(self, request: str, values: Wait) -> Wait:
        self.turns.point()
        row = self.rows.setdefault(request, {"request": request})
        row.update(values)
        after: Wait = {**row}
        self.turns.wrote()
        return after

    def open(self) -> Sequence[Wait]:
        self.turns.point()
        # as in DynamoDB, a comparison is false if a row lacks one of the attributes
        whole = [row for row in self.rows.values() if "token" in row and "answered" in row]
        return [{**row} for row in whole if row["answered"] != row["token"]]

    def started(self, hour: int) -> None:
        self.latest = hour
        self.turns.wrote()

    def last_start(self) -> int | None:
        return self.latest

    # The pipeline

    def start(self, request: str, hour: str, training: str) -> str:
        self.turns.point()
        execution = self.executions.setdefault(request, f"arn:execution/{len(self.executions)}")
        self.turns.wrote()
        return execution

    def request_of(self, execution: str) -> str | None:
        self.turns.point()
        return next((name for name, arn in self.executions.items() if arn == execution), None)

    def progress(self, execution: str) -> Progress:
        self.turns.point()
        if execution in self.broken:
            raise OSError("not to be read")
        return Progress(self.status, "a reason" if self.status != "Succeeded" else "")

    # Step Functions

    def succeed(self, token: str, output: str) -> bool:
        assert json.loads(output)["status"] == "Succeeded"
        return self._answer(token, "Succeeded")

    def fail(self, token: str, error: str, cause: str) -> bool:
        return self._answer(token, error)

    def _answer(self, token: str, answer: str) -> bool:
        self.turns.point()
        if token in self.over:
            return False
        self.over.add(token)
        self.answers.append((token, answer))
        self.turns.wrote()
        return True

    def beat(self, token: str) -> bool:
        self.beats.append(token)
        return token not in self.over

    # Events

    def task(self, token: str) -> str:
        return waiting.begin(self.room, NIGHT, token, MACHINE, "s3://bucket/training/")

    def event(self, status: str) -> None:
        """Deliver the event of the pipeline's end, if a pipeline was started."""
        for execution in [*self.executions.values()]:
            if status in ENDED:
                self.status = status
            waiting.execution_changed(self.room, execution, status)

    def step(self) -> None:
        for execution in [*self.executions.values()]:
            waiting.step_changed(self.room, execution)

    def sweep(self) -> None:
        waiting.sweep(self.room)


def answer_of(status: str) -> str:
    return "Succeeded" if status == "Succeeded" else f"Pipeline{status}"


@pytest.mark.parametrize("status", ENDED)
def test_event_after_the_token_ends_the_wait(status: str) -> None:
    room = Room()
    room.task("one")
    room.event("Executing")
    assert room.answers == []
    room.event(status)
    room.event(status)
    assert room.answers == [("one", answer_of(status))]


@pytest.mark.parametrize("status", ENDED)
def test_event_before_the_token_is_kept(status: str) -> None:
    # given a pipeline that ended before the token of the retried task was stored
    room = Room()
    room.turns.run([lambda: room.task("one")], [], [(0, 2)])
    room.rows.clear()
    room.event(status)
    assert room.answers == []
    # when
    room.task("two")
    # then
    assert room.answers == [("two", answer_of(status))]
    assert len(room.executions) == 1


def test_late_status_of_the_pipeline_does_not_hide_the_event() -> None:
    room = Room()
    execution = room.task("one")
    # when the event of the pipeline's end arrives before the pipeline's description has the new status
    waiting.execution_changed(room.room, execution, "Succeeded")
    assert room.answers == [("one", "Succeeded")]


def test_event_out_of_order_changes_nothing() -> None:
    room = Room()
    room.task("one")
    room.event("Stopped")
    waiting.execution_changed(room.room, room.executions[REQUEST], "Executing")
    assert room.rows[REQUEST].get("ended") == "Stopped"
    assert room.answers == [("one", "PipelineStopped")]


def test_answer_to_a_timed_out_task_is_ignored() -> None:
    room = Room()
    room.task("one")
    room.over.add("one")
    room.event("Failed")
    assert room.answers == []
    assert room.open() == []


def test_steps_and_sweeps_keep_the_task_alive() -> None:
    room = Room()
    room.task("one")
    room.step()
    room.sweep()
    assert room.beats == ["one", "one"]
    room.event("Succeeded")
    room.step()
    room.sweep()
    assert room.beats == ["one", "one"]


def test_sweep_ends_the_wait_whose_event_was_lost() -> None:
    room = Room()
    room.task("one")
    room.status = "CompletedWithFailures"
    room.sweep()
    room.sweep()
    assert room.answers == [("one", "PipelineCompletedWithFailures")]


def test_sweep_continues_after_a_wait_that_fails() -> None:
    room = Room()
    room.rows["broken"] = {"request": "broken", "token": "zero", "execution": "gone", "answered": ""}
    room.broken = {"gone"}
    room.task("one")
    room.status = "Succeeded"
    with pytest.raises(OSError, match="not to be read"):
        room.sweep()
    assert room.answers == [("one", "Succeeded")]


def test_execution_of_another_pipeline_is_ignored() -> None:
    room = Room()
    assert waiting.execution_changed(room.room, "arn:other", "Failed") is None
    assert waiting.step_changed(room.room, "arn:other") is None
    assert room.rows == {}


def test_request_is_of_the_state_machines_execution() -> None:
    assert waiting.request_of(MACHINE) == REQUEST
    assert len(REQUEST) == 32  # a client request token has from 32 to 128 characters
    assert waiting.request_of(MACHINE + "1") != REQUEST


@settings(max_examples=300)
@given(
    st.sampled_from(ENDED),
    st.lists(st.sampled_from(["event", "step", "sweep", "task"]), max_size=3),
    st.lists(st.integers(0, 4), max_size=80),
    st.lists(st.tuples(st.integers(0, 4), st.integers(1, 5)), max_size=4),
    st.booleans(),
)
def test_wait_ends_once_in_any_order_despite_kills(
    status: str, kinds: list[str], schedule: list[int], kill: list, early: bool
) -> None:
    # given a task with concurrent events and sweeps; an earlier attempt may have started the pipeline
    room = Room()
    if early:
        room.turns.run([lambda: room.task("first")], [], [(0, 2)])
    make = {"event": lambda: room.event(status), "step": room.step, "sweep": room.sweep}
    works = [lambda: room.task("one"), lambda: room.event(status)]
    works += [
        make.get(kind, lambda number=number: room.task(f"t{number}")) for number, kind in enumerate(kinds)
    ]
    results = room.turns.run(works, schedule, kill)
    assert not [each for each in results if isinstance(each, Exception)]
    # when a killed task is retried with a new token, the pipeline ends, and only the sweeper runs
    killed = isinstance(results[0], Killed)
    token = "again" if killed else room.rows[REQUEST].get("token", "")
    if killed:
        room.task(token)
    room.status = status
    room.sweep()
    # then the pipeline was started once, and the current token got one answer
    assert len(room.executions) == 1
    assert [answer for each, answer in room.answers if each == token] == [answer_of(status)]
    assert {answer for _, answer in room.answers} == {answer_of(status)}
    assert room.open() == []


@settings(max_examples=30)
@given(st.integers(1, 6), st.sampled_from(ENDED))
def test_sweeper_completes_a_killed_ending(at: int, status: str) -> None:
    room = Room()
    room.task("one")
    room.turns.run([lambda: room.event(status)], [], [(0, at)])
    room.status = status
    room.sweep()
    assert room.answers == [("one", answer_of(status))]
    assert room.open() == []


def test_pipeline_that_never_started_leaves_an_open_wait() -> None:
    # given a task that was killed before it started the pipeline, and that is retried or ends by its
    # heartbeat timeout
    room = Room()
    room.turns.run([lambda: room.task("one")], [], [(0, 1)])
    room.sweep()
    assert (room.answers, room.executions, len(room.open())) == ([], {}, 1)
    room.task("two")
    room.event("Succeeded")
    assert room.answers == [("two", "Succeeded")]


def test_training_reads_the_history_up_to_the_hour() -> None:
    past = Past(days=2)
    past.prices[NIGHT] = 31.25
    body = waiting.training_csv(readings.stored(past, LOCATION, NIGHT, 2), NIGHT)
    rows = list(csv.DictReader(io.StringIO(body.decode())))
    assert list(rows[0]) == ["hour_utc", "price", "real_time", "load", "temperature", "price_forecast"]
    assert rows[-1] == {
        "hour_utc": hours.text(NIGHT),
        "price": "31.25",
        "real_time": "31.25",
        "load": "40000.0",
        "temperature": "12.0",
        "price_forecast": "",
    }
    assert [row["hour_utc"] for row in rows] == [
        hours.text(hour) for hour in range(NIGHT - len(rows) + 1, NIGHT + 1)
    ]
