"""The functions of the state machine `Label` in this process, over a table and objects in memory."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from data_centric.aws.objects import ObjectError
from data_centric.core import hooks, workflow
from data_centric.core.places import Places
from data_centric.core.runs import RunSettings
from data_centric.core.workflow import Desk
from data_centric.handlers import check_run, consolidate_run, load_run, watch_run
from tests.support.data_centric.desks import Rows

DEFAULTS = {
    "attribute": "label",
    "labels": 2,
    "most_labels": 5,
    "extra_share": 0,
    "least_confidence": 0.8,
    "lease_seconds": 600,
    "gold_every": 10,
    "gold_least": 5,
    "gold_share": 0.6,
    "most_items": 1000,
    "most_hours": 1,
    "answer_seconds": 6,
    "hourly_wage": 20,
    "answer_dollars": 0.00003,
}
ENVIRONMENT = {
    "LABELING": json.dumps(DEFAULTS),
    "BUCKET": "data",
    "PRE_ANNOTATION_ARN": "arn:aws:lambda:r:1:function:pre",
    "POST_ANNOTATION_ARN": "arn:aws:lambda:r:1:function:post",
}


@dataclass
class Steps:
    """State that the functions share. Replaces `data_centric.aws.environment` and the AWS clients."""

    table: Rows = field(default_factory=Rows)
    stored: dict[str, bytes] = field(default_factory=dict)
    """Objects of the bucket by key"""
    time: float = 1_000_000.0
    left: list[int] = field(default_factory=list)
    """Remaining milliseconds that successive calls of `Load` read from the Lambda context; later calls read a
    large value"""
    pre: Callable[[Mapping[str, Any]], Any] = hooks.task_input
    places = Places("data")

    # Methods of data_centric.aws.objects.Objects

    def read(self, key: str, most: int | None = None) -> bytes:
        if key not in self.stored:
            raise ObjectError(f"there is no object {self.places.url(key)}")
        return self.stored[key]

    def write(self, key: str, body: bytes, content_type: str) -> None:
        self.stored[key] = body

    # Methods of a boto3 client for Lambda

    def invoke(self, FunctionName: str, Payload: bytes) -> dict[str, Any]:
        request = json.loads(Payload)
        try:
            if FunctionName.endswith("pre"):
                response = self.pre(request)
            else:
                key = self.places.key(request["payload"]["s3Uri"], "labels")
                response = hooks.consolidated(request, json.loads(self.stored[key]))
        except Exception as error:
            told = json.dumps({"errorMessage": str(error)}).encode()
            return {"FunctionError": "Unhandled", "Payload": io.BytesIO(told)}
        return {"Payload": io.BytesIO(json.dumps(response).encode())}

    # The steps

    def put(self, key: str, lines: list[dict[str, Any]]) -> str:
        self.stored[key] = "".join(json.dumps(line) + "\n" for line in lines).encode()
        return self.places.url(key)

    def check(self, given: Any) -> dict[str, Any]:
        return check_run.handler({"input": given}, self.context)

    def load(self, given: Any, next: int = 0, tasks: int = 0) -> dict[str, Any]:
        event = {"input": given, "execution": "arn:execution", "next": next, "tasks": tasks}
        return load_run.handler(event, self.context)

    def watch(self, name: str) -> dict[str, Any]:
        return watch_run.handler({"name": name}, self.context)

    def consolidate(self, given: Any) -> dict[str, Any]:
        return consolidate_run.handler({"input": given, "execution": "arn:execution"}, self.context)

    @property
    def context(self) -> Any:
        return SimpleNamespace(
            function_name="step",
            memory_limit_in_mb=256,
            invoked_function_arn="arn:step",
            aws_request_id="1",
            get_remaining_time_in_millis=lambda: self.left.pop(0) if self.left else 1_000_000,
        )

    def desk(self, name: str) -> Desk:
        row = self.table.run(name)
        assert row
        return Desk(self.table, RunSettings.from_json(row.settings), lambda: self.time)

    def label(self, name: str, choice: int, *labelers: str) -> None:
        """Let the labelers, one after the other, answer all available tasks of the run `name` with
        `choice`."""
        desk = self.desk(name)
        for labeler in labelers:
            while found := workflow.next_task(desk, labeler):
                workflow.submit(desk, labeler, found.item, choice)
