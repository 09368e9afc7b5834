"""The labeling workflow on a DynamoDB table of a running local cloud."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from data_centric.aws.tasks_table import DynamoTasks
from data_centric.core import workflow
from data_centric.core.workflow import Desk, NoTaskError, Progress, RunConflictError
from tests.support.data_centric.desks import entries, with_settings

TABLE = "data-centric-tasks"


@pytest.fixture(scope="module")
def client(aws):
    client = aws("dynamodb")
    client.create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "run", "KeyType": "HASH"}, {"AttributeName": "row", "KeyType": "RANGE"}],
        AttributeDefinitions=[
            {"AttributeName": name, "AttributeType": kind}
            for name, kind in (("run", "S"), ("row", "S"), ("queue", "S"), ("due", "N"))
        ],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "due",
                "KeySchema": [
                    {"AttributeName": "queue", "KeyType": "HASH"},
                    {"AttributeName": "due", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["answers"]},
            }
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    yield client
    client.delete_table(TableName=TABLE)


def desk_of(client, **changes) -> Desk:
    return Desk(DynamoTasks(client, TABLE), with_settings(**changes), time.time)


def all_done(desk: Desk, name: str, choice: int | None) -> int:
    """Answer all tasks that are available to the labeler `name` with `choice`; return the number of tasks."""
    count = 0
    while found := workflow.next_task(desk, name):
        workflow.submit(desk, name, found.item, choice)
        count += 1
    return count


def gold_answers(desk: Desk, name: str) -> int:
    return sum(name in task.answers for task in desk.table.tasks(desk.run.name) if task.gold)


def test_run_goes_from_manifest_to_answers(client) -> None:
    # given gold questions, and more items than one batch write accepts
    desk = desk_of(client, name="whole", labels=2, extra_labels=3, gold_every=4, gold_least=10)
    items, gold = entries(30), entries(5, "gold")
    known = {each.item: 1 for each in gold}
    workflow.load(desk, items, gold, known)
    workflow.load(desk, items, gold, known)
    with pytest.raises(RunConflictError):
        workflow.load(desk, items[1:], gold, known)
    # when two labelers do all tasks, and one of them is unsure
    assert all_done(desk, "a", 1) == 30 + gold_answers(desk, "a") > 30
    assert all_done(desk, "b", None) == 30 + gold_answers(desk, "b")
    # then each item has the answers of both, and the budget for additional labels goes to three items
    tasks = [task for task in desk.table.tasks("whole") if not task.gold]
    assert [dict(task.answers) for task in tasks] == [{"a": 1, "b": None}] * 30
    assert {task.source for task in tasks} == {entry.source for entry in items}
    before = workflow.progress(desk)
    assert (before.items, before.complete, before.answers, before.unsure) == (30, 30, 60, 30)
    desk = replace(desk, run=replace(desk.run, least_confidence=1.0))
    assert workflow.ask_for_more(desk) == 3
    assert workflow.progress(desk) == replace(before, complete=27, extra=3)
    assert all_done(desk, "c", 2) == 3 + gold_answers(desk, "c")


def test_ended_lease_goes_to_another_labeler(client) -> None:
    desk = desk_of(client, name="late", labels=1)
    workflow.load(desk, entries(1))
    given = workflow.next_task(desk, "a")
    assert given
    assert workflow.next_task(desk, "b") is None
    later = replace(desk, now=lambda: time.time() + 61)
    assert workflow.next_task(later, "b")
    with pytest.raises(NoTaskError):
        workflow.submit(desk, "a", given.item, 0)
    assert workflow.submit(desk, "b", given.item, 0) == "kept"


def test_concurrent_labelers_lose_and_duplicate_no_answers(client) -> None:
    # given five concurrent labelers who submit each answer twice
    desk = desk_of(client, name="race", labels=3)
    workflow.load(desk, entries(12))
    failed: list[BaseException] = []

    def work(name: str) -> None:
        try:
            while found := workflow.next_task(desk, name):
                assert workflow.submit(desk, name, found.item, 0) == "kept"
                assert workflow.submit(desk, name, found.item, 1) == "already"
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(f"labeler-{number}",)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # when labelers who were without a free task request one again
    for number in range(5):
        all_done(desk, f"labeler-{number}", 0)
    # then
    assert failed == []
    assert [len(task.answers) for task in desk.table.tasks("race")] == [3] * 12
    assert workflow.progress(desk) == Progress(12, 12, 36, 0, 0, 5, 0)
