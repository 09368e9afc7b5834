"""Implements the interfaces of `core/waiting.py`: pipeline, Step Functions callbacks, and table `Waits`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import ClientError

from power_bidding.aws.tables import Table
from power_bidding.core.waiting import Progress, Wait
from power_feeds import hours

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient
    from mypy_boto3_stepfunctions import SFNClient

REQUEST, HOUR, TRAINING = "Request", "Hour", "Training"
"""Parameters of the pipeline."""
OVER = ("TaskTimedOut", "TaskDoesNotExist", "InvalidToken")
LATEST = "#latest"
KEPT_SECONDS = 30 * 86_400
"""A row expires this long after its last change."""
RECENT = 20
"""Number of recent executions that are searched for a running one."""


class SageMakerPipeline:
    def __init__(self, client: SageMakerClient, name: str):
        self.client, self.name = client, name

    def start(self, request: str, hour: str, training: str) -> str:
        given = {REQUEST: request, HOUR: hour, TRAINING: training}
        answer = self.client.start_pipeline_execution(
            PipelineName=self.name,
            ClientRequestToken=request,
            PipelineParameters=[{"Name": name, "Value": value} for name, value in given.items()],
        )
        return answer["PipelineExecutionArn"]

    def request_of(self, execution: str) -> str | None:
        asked: dict[str, Any] = {"PipelineExecutionArn": execution}
        while True:
            answer = self.client.list_pipeline_parameters_for_execution(**asked)
            for each in answer["PipelineParameters"]:
                if each["Name"] == REQUEST:
                    return each["Value"]
            if "NextToken" not in answer:
                return None
            asked["NextToken"] = answer["NextToken"]

    def progress(self, execution: str) -> Progress:
        found = self.client.describe_pipeline_execution(PipelineExecutionArn=execution)
        return Progress(found["PipelineExecutionStatus"], found.get("FailureReason", ""))

    def executing(self) -> bool:
        answer = self.client.list_pipeline_executions(
            PipelineName=self.name, SortBy="CreationTime", SortOrder="Descending", MaxResults=RECENT
        )
        found = answer["PipelineExecutionSummaries"]
        return any(each["PipelineExecutionStatus"] in ("Executing", "Stopping") for each in found)


class StepFunctions:
    def __init__(self, client: SFNClient):
        self.client = client

    def succeed(self, token: str, output: str) -> bool:
        return _waited_for(lambda: self.client.send_task_success(taskToken=token, output=output))

    def fail(self, token: str, error: str, cause: str) -> bool:
        return _waited_for(lambda: self.client.send_task_failure(taskToken=token, error=error, cause=cause))

    def beat(self, token: str) -> bool:
        return _waited_for(lambda: self.client.send_task_heartbeat(taskToken=token))


def _waited_for(send: Callable[[], object]) -> bool:
    try:
        send()
    except ClientError as error:
        if error.response["Error"]["Code"] in OVER:
            return False
        raise
    return True


class DynamoWaits:
    def __init__(self, table: Table):
        self.table = table

    def set(self, request: str, values: Wait) -> Wait:
        change = {**values, "expires": int(time.time()) + KEPT_SECONDS}
        return cast(Wait, self.table.update({"request": request}, change))

    def open(self) -> Sequence[Wait]:
        found = self.table.scan("attribute_exists(#token) AND #answered <> #token")
        return [cast(Wait, item) for item in found]

    def started(self, hour: int) -> None:
        self.table.put({"request": LATEST, "hour": hours.text(hour)})

    def last_start(self) -> int | None:
        found = self.table.get(request=LATEST)
        return hours.parse(found["hour"]) if found else None
