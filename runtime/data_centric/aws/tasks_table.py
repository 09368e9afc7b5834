"""The DynamoDB table `Tasks`, which implements `workflow.Table`.

Its keys are `run`, the run's name, and `row`, which is `run`, `task#ITEM` or `labeler#NAME`.

The index `due` has the tasks that need more labels, and the open runs. Its keys are `queue` (`task#RUN`,
`gold#RUN` or `runs`) and the number `due`: `TaskRow.due` for a task, the time of opening for a run. The index
projects `answers`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.exceptions import ClientError

from data_centric.core.tasks import LabelerRow, Row, RunRow, TaskRow

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

INDEX = "due"
RUN_ROW, TASK, LABELER = "run", "task#", "labeler#"
QUEUES = {False: "task#", True: "gold#"}
"""Prefix of `queue`, by whether the task is a gold question."""
OPEN_RUNS = "runs"
FAILED_CONDITION = "ConditionalCheckFailed"
PASSING = {"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"}
"""Reasons for which a cancelled transaction is retried: they do not mean that a condition failed."""
THROTTLING = {"ThrottlingException", "ProvisionedThroughputExceededException", "RequestLimitExceeded"}
WRITE_TRIES = 6

Item = dict[str, Any]
_Kind = TypeVar("_Kind", RunRow, TaskRow, LabelerRow)
_serialize, _deserialize = TypeSerializer().serialize, TypeDeserializer().deserialize


class DynamoTasks:
    def __init__(
        self, client: DynamoDBClient, name: str, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.client, self.name, self.sleep = client, name, sleep

    def run(self, run: str) -> RunRow | None:
        return self._get(RunRow, run, RUN_ROW)

    def task(self, run: str, item: str) -> TaskRow | None:
        return self._get(TaskRow, run, TASK + item)

    def labeler(self, run: str, labeler: str) -> LabelerRow | None:
        return self._get(LabelerRow, run, LABELER + labeler)

    def write(self, rows: Sequence[Row]) -> bool:
        for attempt in range(WRITE_TRIES - 1):
            try:
                return self._write(rows)
            except self.client.exceptions.TransactionCanceledException as error:
                if not _reasons(error) & PASSING:
                    raise
            self.sleep(0.05 * 2**attempt)
        return self._write(rows)

    def due(self, run: str, labeler: str, now: float, gold: bool) -> Iterator[str]:
        asked = {
            "IndexName": INDEX,
            "KeyConditionExpression": "#queue = :queue AND #due <= :now",
            "FilterExpression": "attribute_not_exists(#answers.#labeler)",
            "ProjectionExpression": "#row",
            "ExpressionAttributeNames": {
                **{f"#{name}": name for name in ("queue", "due", "answers", "row")},
                "#labeler": labeler,
            },
            "ExpressionAttributeValues": _marshal({":queue": QUEUES[gold] + run, ":now": int(now)}),
        }
        for page in self._pages(asked):
            yield from (item["row"]["S"].removeprefix(TASK) for item in page["Items"])

    def tasks(self, run: str) -> Iterator[TaskRow]:
        return self._rows(TaskRow, run, TASK)

    def labelers(self, run: str) -> Iterator[LabelerRow]:
        return self._rows(LabelerRow, run, LABELER)

    def open_runs(self) -> Iterator[str]:
        asked = {
            "IndexName": INDEX,
            "KeyConditionExpression": "#queue = :queue",
            "ProjectionExpression": "#run",
            "ExpressionAttributeNames": {"#queue": "queue", "#run": "run"},
            "ExpressionAttributeValues": _marshal({":queue": OPEN_RUNS}),
        }
        for page in self._pages(asked):
            yield from (item["run"]["S"] for item in page["Items"])

    def incomplete(self, run: str) -> int:
        asked = {
            "IndexName": INDEX,
            "Select": "COUNT",
            "KeyConditionExpression": "#queue = :queue",
            "ExpressionAttributeNames": {"#queue": "queue"},
            "ExpressionAttributeValues": _marshal({":queue": QUEUES[False] + run}),
        }
        return sum(page["Count"] for page in self._pages(asked))

    def _get(self, kind: type[_Kind], run: str, row: str) -> _Kind | None:
        key = _marshal({"run": run, "row": row})
        answer = self.client.get_item(TableName=self.name, Key=key, ConsistentRead=True)
        return _row_of(kind, answer["Item"]) if "Item" in answer else None

    def _write(self, rows: Sequence[Row]) -> bool:
        puts: Any = [{"Put": self._put(row)} for row in rows]
        try:
            self.client.transact_write_items(TransactItems=puts)
        except self.client.exceptions.TransactionCanceledException as error:
            if FAILED_CONDITION in _reasons(error):
                return False
            raise
        return True

    def _put(self, row: Row) -> dict[str, Any]:
        put: dict[str, Any] = {"TableName": self.name, "Item": item_of(row)}
        if row.version == 1:
            return put | {
                "ConditionExpression": "attribute_not_exists(#row)",
                "ExpressionAttributeNames": {"#row": "row"},
            }
        return put | {
            "ConditionExpression": "#version = :before",
            "ExpressionAttributeNames": {"#version": "version"},
            "ExpressionAttributeValues": _marshal({":before": row.version - 1}),
        }

    def _rows(self, kind: type[_Kind], run: str, begin: str) -> Iterator[_Kind]:
        asked = {
            "KeyConditionExpression": "#run = :run AND begins_with(#row, :begin)",
            "ExpressionAttributeNames": {"#run": "run", "#row": "row"},
            "ExpressionAttributeValues": _marshal({":run": run, ":begin": begin}),
            "ConsistentRead": True,
        }
        for page in self._pages(asked):
            yield from (_row_of(kind, item) for item in page["Items"])

    def _pages(self, asked: Mapping[str, Any]) -> Iterator[Any]:
        more: dict[str, Any] = {}
        while True:
            answer = self.client.query(TableName=self.name, **asked, **more)
            yield answer
            if "LastEvaluatedKey" not in answer:
                return
            more = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}


def is_busy(error: ClientError) -> bool:
    """Return whether a request failed because of throttling or a transaction conflict, and can be retried."""
    code = error.response.get("Error", {}).get("Code", "")
    return code in THROTTLING or bool(_reasons(error) & PASSING)


def _reasons(error: ClientError) -> set[str]:
    """Return the reason codes of a cancelled transaction."""
    reasons: Any = error.response.get("CancellationReasons", [])
    return {reason.get("Code", "") for reason in reasons}


def item_of(row: Row) -> Item:
    """Return the row as a DynamoDB item."""
    values = asdict(row)
    if isinstance(row, TaskRow):
        values["row"] = TASK + row.item
        if row.due is not None:
            values |= {"queue": QUEUES[row.gold] + row.run, "due": row.due}
    elif isinstance(row, RunRow) and row.status == "open":
        values |= {"row": RUN_ROW, "queue": OPEN_RUNS, "due": row.opened}
    else:
        values["row"] = LABELER + row.labeler if isinstance(row, LabelerRow) else RUN_ROW
    return _marshal(values)


def _row_of(kind: type[_Kind], item: Mapping[str, Any]) -> _Kind:
    values = {name: _plain(_deserialize(value)) for name, value in item.items()}
    return kind(**{field.name: values[field.name] for field in fields(kind)})


def _marshal(values: Mapping[str, Any]) -> Item:
    return {name: _serialize(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value)
    return {key: _plain(each) for key, each in value.items()} if isinstance(value, dict) else value
