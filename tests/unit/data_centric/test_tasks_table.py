"""The table's adapter: rows are read back unchanged, and only a failed condition means that another process
has written the row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from data_centric.aws import tasks_table
from data_centric.aws.tasks_table import DynamoTasks, item_of
from data_centric.core.tasks import LabelerRow, Row, RunRow, TaskRow

TASK = TaskRow("r", "i", "source", "a text", 3, None, {"a": 1, "b": None}, {"c": 1_764_475_200}, 4, "{}")
LABELER = LabelerRow("r", "a", 7, 5, 1, 2, 1, "i", 9, 8)
RUN = RunRow("r", "digest", "open", 20, 3, 5, "{}", 1_764_475_200)


def stubbed() -> tuple[DynamoTasks, Stubber, list[float]]:
    client = boto3.client(
        "dynamodb", region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    stubber, pauses = Stubber(client), list[float]()
    stubber.activate()
    return DynamoTasks(client, "tasks", pauses.append), stubber, pauses


@pytest.mark.parametrize("row", [TASK, replace(TASK, truth=0, answers={}, leases={}), LABELER, RUN])
def test_row_is_read_back_unchanged(row: Row) -> None:
    table, stub, _ = stubbed()
    stub.add_response("get_item", {"Item": item_of(row)})
    if isinstance(row, TaskRow):
        assert table.task("r", "i") == row
    else:
        assert (table.labeler("r", "a") if isinstance(row, LabelerRow) else table.run("r")) == row


@pytest.mark.parametrize(
    ("task", "queue", "due"),
    [
        (TASK, "task#r", "1764475200"),
        (replace(TASK, leases={}), "task#r", "2"),
        (replace(TASK, truth=1), "gold#r", "0"),
        (replace(TASK, wanted=2, leases={}), None, None),
    ],
)
def test_only_tasks_that_lack_labels_are_in_the_index(
    task: TaskRow, queue: str | None, due: str | None
) -> None:
    item = item_of(task)
    assert (item.get("queue", {}).get("S"), item.get("due", {}).get("N")) == (queue, due)


def test_write_compares_the_version_of_every_row() -> None:
    table, stub, _ = stubbed()
    puts: list[Any] = [
        {
            "TableName": "tasks",
            "Item": item_of(TASK),
            "ConditionExpression": "#version = :before",
            "ExpressionAttributeNames": {"#version": "version"},
            "ExpressionAttributeValues": {":before": {"N": "3"}},
        },
        {
            "TableName": "tasks",
            "Item": item_of(replace(RUN, version=1)),
            "ConditionExpression": "attribute_not_exists(#row)",
            "ExpressionAttributeNames": {"#row": "row"},
        },
    ]
    asked = {"TransactItems": [{"Put": put} for put in puts]}
    stub.add_response("transact_write_items", {}, asked)
    assert table.write([TASK, replace(RUN, version=1)])


def cancelled(stub: Stubber, *codes: str) -> None:
    stub.add_client_error(
        "transact_write_items",
        "TransactionCanceledException",
        modeled_fields={"CancellationReasons": [{"Code": code} for code in codes]},
    )


def test_failed_condition_is_another_write() -> None:
    table, stub, pauses = stubbed()
    cancelled(stub, "None", "ConditionalCheckFailed")
    cancelled(stub, "TransactionConflict", "ConditionalCheckFailed")
    assert [table.write([TASK, RUN]) for _ in range(2)] == [False, False]
    assert pauses == []


def test_conflict_of_transactions_is_tried_again() -> None:
    # A transaction with a conflict is retried, because the conflict can cancel both transactions
    table, stub, pauses = stubbed()
    cancelled(stub, "TransactionConflict", "None")
    cancelled(stub, "ThrottlingError", "None")
    stub.add_response("transact_write_items", {})
    assert table.write([TASK, RUN])
    assert pauses == [0.05, 0.1]


def test_conflict_that_lasts_and_other_errors_are_raised() -> None:
    table, stub, pauses = stubbed()
    for _ in range(tasks_table.WRITE_TRIES):
        cancelled(stub, "TransactionConflict")
    with pytest.raises(ClientError, match="TransactionCanceled"):
        table.write([TASK])
    assert len(pauses) == tasks_table.WRITE_TRIES - 1
    cancelled(stub, "ItemCollectionSizeLimitExceeded")
    with pytest.raises(ClientError, match="TransactionCanceled"):
        table.write([TASK])


def test_queries_read_every_page() -> None:
    table, stub, _ = stubbed()
    more = {"LastEvaluatedKey": {"row": {"S": "x"}}}
    stub.add_response("query", {"Items": [{"row": {"S": "task#i"}}], **more})
    stub.add_response("query", {"Items": [{"row": {"S": "task#j"}}]})
    assert [*table.due("r", "a", 5.5, False)] == ["i", "j"]
    stub.add_response("query", {"Count": 2, **more})
    stub.add_response("query", {"Count": 1})
    assert table.incomplete("r") == 3
    stub.add_response("query", {"Items": [item_of(TASK)], **more})
    stub.add_response("query", {"Items": [item_of(replace(TASK, item="j"))]})
    assert [task.item for task in table.tasks("r")] == ["i", "j"]


def test_only_open_runs_are_listed() -> None:
    table, stub, _ = stubbed()
    indexed = [item_of(replace(RUN, status=status)).get("queue") for status in ("loading", "open", "closed")]
    assert indexed == [None, {"S": "runs"}, None]
    stub.add_response("query", {"Items": [{"run": {"S": "r"}}], "LastEvaluatedKey": {"row": {"S": "run"}}})
    stub.add_response("query", {"Items": [{"run": {"S": "s"}}]})
    assert [*table.open_runs()] == ["r", "s"]


@pytest.mark.parametrize(
    ("code", "reasons", "busy"),
    [
        ("ThrottlingException", [], True),
        ("TransactionCanceledException", [{"Code": "None"}, {"Code": "TransactionConflict"}], True),
        ("TransactionCanceledException", [{"Code": "ItemCollectionSizeLimitExceeded"}], False),
        ("AccessDeniedException", [], False),
    ],
)
def test_retryable_error_is_recognized(code: str, reasons: list[Any], busy: bool) -> None:
    answered: Any = {"Error": {"Code": code}, "CancellationReasons": reasons}
    assert tasks_table.is_busy(ClientError(answered, "TransactWriteItems")) is busy
