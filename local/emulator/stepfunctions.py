"""Tasks of state machines: calls to SageMaker, and IAM authorization of every call."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from botocore.model import ListShape, MapShape, StructureShape

from local.sagemaker import api
from local.sagemaker.api import ApiError
from local.sagemaker.jobs.kinds import KINDS
from local.sagemaker.jobs.status import ENDED

POLL_SECONDS = 0.1
"""Interval between checks whether the job of a `.sync` task has ended."""

MODELLED_ERRORS = {
    "ConflictException": "ConflictException",
    "ResourceInUse": "ResourceInUseException",
    "ResourceLimitExceeded": "ResourceLimitExceededException",
    "ResourceNotFound": "ResourceNotFoundException",
}
"""Names of the AWS SDK's exception classes for SageMaker, by error code. Errors with other codes have the
name of the service's base class: a `Retry` of throttled calls needs `SageMaker.AmazonSageMakerException`."""

OPTIMIZED = {
    "CreateEndpoint",
    "CreateEndpointConfig",
    "CreateHyperParameterTuningJob",
    "CreateLabelingJob",
    "CreateModel",
    "CreateProcessingJob",
    "CreateTrainingJob",
    "CreateTransformJob",
    "UpdateEndpoint",
}
"""Operations of the optimized integrations `arn:aws:states:::sagemaker:*`."""

WAITING: dict[str, str] = {}
"""ARN of the state machine that waits, by task token"""

JOBS = {f"Create{kind.noun}Job": kind for kind in KINDS.values()}
"""Operations that start a job. A `.sync` task waits until the job has ended."""


class TaskError(Exception):
    """A task failed with this error name and cause."""

    def __init__(self, error: str, cause: str):
        super().__init__(f"{error}: {cause}")
        self.error, self.cause = error, cause


@dataclass(frozen=True)
class Task:
    """A running task, with the state machine's role as its caller."""

    context: api.Context
    goes_on: Callable[[], bool]
    """Returns False once the execution was stopped or the task's timeout has passed"""

    def sagemaker(self, resource: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Run a `sagemaker:` or `aws-sdk:sagemaker:` task and return its result. Raises `TaskError`."""
        integration, _, action = resource.removeprefix("arn:aws:states:::").rpartition(":")
        action, _, pattern = action.partition(".")
        operation = action[:1].upper() + action[1:]
        optimized = integration == "sagemaker"
        known = {"": not optimized or operation in OPTIMIZED, "sync": optimized and operation in JOBS}
        if not known.get(pattern):
            raise TaskError("States.Runtime", f"Step Functions has no integration {resource}")
        base = "AmazonSageMakerException" if optimized else "SageMakerException"
        try:
            if pattern == "sync":
                return self._job(operation, arguments)
            request = api.with_tokens(operation, renamed(operation, arguments))
            answer = api.call(self.context, operation, request)
        except ApiError as error:
            name = MODELLED_ERRORS.get(error.code, base)
            raise TaskError(
                f"SageMaker.{name}",
                f"{error.message} (Service: SageMaker, Status Code: {error.status}, "
                f"Error Code: {error.code})",
            ) from error
        shape = api.service_model().operation_model(operation).output_shape
        return shown(shape, answer, milliseconds=optimized) if shape else answer

    def _job(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Start a job, wait for its end, and return its description.

        The state machine's role needs the permissions in AWS's policy for this integration: to create,
        describe and stop the job, to list its tags, and to manage the rule through which Step Functions
        receives its events.
        """
        kind = JOBS[operation]
        rule = f"arn:aws:events:{self.context.region}:{self.context.account}:rule/{kind.rule}"
        for action in ("events:PutTargets", "events:PutRule", "events:DescribeRule"):
            self._authorize(action, rule)
        job = self.context.arn(kind.records, str(arguments.get(kind.name, "")))
        self._authorize("sagemaker:ListTags", job)
        api.call(self.context, operation, arguments)
        name, describe = {kind.name: arguments[kind.name]}, f"Describe{kind.noun}Job"
        while True:
            described = api.call(self.context, describe, name)
            if described[kind.status] in ENDED:
                break
            if not self.goes_on():
                if described[kind.status] != "Stopping":
                    api.call(self.context, f"Stop{kind.noun}Job", name)
                raise TaskError(
                    "States.Timeout",
                    f"The task timed out or was stopped before the job {name[kind.name]} ended",
                )
            time.sleep(POLL_SECONDS)
        shape = api.service_model().operation_model(describe).output_shape
        result = shown(shape, described, milliseconds=True)
        if described[kind.status] != "Completed":
            raise TaskError("States.TaskFailed", json.dumps(result))
        return result

    def _authorize(self, action: str, resource: str) -> None:
        context = self.context
        if context.access_key is not None:
            context.platform.authorize(context.account, context.region, context.access_key, action, resource)

    def authorize(self, resource: str, arguments: Any) -> None:
        """Check that the role may perform an optimized integration of another service. Raises `TaskError`."""
        for action, target, error in needs(resource, arguments, self.context.account, self.context.region):
            try:
                self._authorize(action, target)
            except ApiError as denied:
                raise TaskError(error, denied.message) from denied


def needs(resource: str, arguments: Any, account: str, region: str) -> Iterator[tuple[str, str, str]]:
    """Yield the permissions that an optimized integration needs: action, resource, error name if denied."""

    def arn(service: str, name: str) -> str:
        return name if name.startswith("arn:") else f"arn:aws:{service}:{region}:{account}:{name}"

    service, _, action = resource.removeprefix("arn:aws:states:::").partition(":")
    action = action.partition(".")[0]
    arguments = arguments if isinstance(arguments, dict) else {}
    if service == "lambda":
        function = str(arguments.get("FunctionName", ""))
        target = function if function.startswith("arn:") else arn("lambda", f"function:{function}")
        yield "lambda:InvokeFunction", target, "Lambda.AWSLambdaException"
    elif service == "sqs":
        queue = str(arguments.get("QueueUrl", "")).rpartition("/")[2]
        yield "sqs:SendMessage", arn("sqs", queue), "SQS.AmazonSQSException"
    elif service == "sns":
        topic = str(arguments.get("TopicArn") or arguments.get("TargetArn") or "*")
        yield "sns:Publish", topic, "SNS.AuthorizationErrorException"
    elif service == "events":
        for entry in arguments.get("Entries", []):
            bus = arn("events", f"event-bus/{entry.get('EventBusName', 'default')}")
            if str(entry.get("EventBusName", "")).startswith("arn:"):
                bus = entry["EventBusName"]
            yield "events:PutEvents", bus, "EventBridge.AmazonEventBridgeException"
    elif service == "dynamodb":
        table = str(arguments.get("TableName", ""))
        target = table if table.startswith("arn:") else arn("dynamodb", f"table/{table}")
        name = action[:1].upper() + action[1:]
        yield f"dynamodb:{name}", target, "DynamoDB.AmazonDynamoDBException"
    elif service == "states":
        machine = str(arguments.get("StateMachineArn", ""))
        yield "states:StartExecution", machine, "StepFunctions.AWSStepFunctionsException"
    elif service == "ecs":
        task = arn("ecs", f"task-definition/{arguments.get('TaskDefinition', '')}")
        yield "ecs:RunTask", task, "ECS.AmazonECSException"


def sdk_name(name: str) -> str:
    """Return a member's name as spelled by Step Functions' SDK: `EnableSsmAccess` for `EnableSSMAccess`."""
    return re.sub(r"([A-Z])([A-Z]+)(?=[A-Z][a-z])", lambda found: found[1] + found[2].lower(), name)


def renamed(operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return a task's arguments with members named as in the service's API."""

    def value_of(shape: Any, value: Any) -> Any:
        if isinstance(shape, StructureShape) and isinstance(value, dict):
            members: Any = shape.members
            names = {sdk_name(name): name for name in members}
            wire = {key if key in members else names.get(key, key): item for key, item in value.items()}
            return {key: value_of(members.get(key), item) for key, item in wire.items()}
        if isinstance(shape, ListShape) and isinstance(value, list):
            return [value_of(shape.member, item) for item in value]
        if isinstance(shape, MapShape) and isinstance(value, dict):
            return {key: value_of(shape.value, item) for key, item in value.items()}
        return value

    model = api.service_model()
    if operation not in model.operation_names:
        return arguments
    return value_of(model.operation_model(operation).input_shape, arguments)


def shown(shape: Any, value: Any, milliseconds: bool) -> Any:
    """Convert a response to a task's result.

    :param milliseconds: True for optimized integrations, whose results have the service's member names, and
        times in epoch milliseconds; False for SDK integrations, whose results have the SDK's names, and times
        in ISO 8601
    """
    if isinstance(shape, StructureShape):
        members: Any = shape.members
        return {
            name if milliseconds else sdk_name(name): shown(members.get(name), item, milliseconds)
            for name, item in value.items()
            if item is not None
        }
    if isinstance(shape, ListShape):
        return [shown(shape.member, item, milliseconds) for item in value]
    if isinstance(shape, MapShape):
        return {key: shown(shape.value, item, milliseconds) for key, item in value.items()}
    if shape is not None and shape.type_name == "timestamp":
        whole = round(float(value) * 1000)
        if milliseconds:
            return whole
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole // 1000))
        return f"{moment}.{whole % 1000:03d}Z"
    return value
