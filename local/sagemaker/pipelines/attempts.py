"""Shared code of step attempts of all types: access to the execution, calls with its role, errors."""

from __future__ import annotations

import abc
import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local.sagemaker import api, artifacts
from local.sagemaker.api import ApiError, Context
from local.sagemaker.pipelines import state
from local.sagemaker.pipelines.definition import PipelineDefinition, StepDefinition
from local.sagemaker.pipelines.expressions import Evaluator, NoValueError, find, iso_time
from local.sagemaker.pipelines.retries import exception_of
from local.sagemaker.store import Record

SESSION = "SageMaker"
"""Session name with which SageMaker assumes a role."""
LOST = "InternalServerError: The local cloud ended while the step ran."


class StepError(Exception):
    """An attempt of a step failed. The message becomes the step's FailureReason."""

    def __init__(
        self,
        reason: str,
        exception: str | None = None,
        properties: dict[str, Any] | None = None,
        timed_out: bool = False,
    ):
        super().__init__(reason)
        self.reason = reason
        self.exception = exception
        """Exception type, as in retry policies; None: never retried."""
        self.properties = properties or {}
        self.timed_out = timed_out


@dataclass(frozen=True)
class Ended:
    """Result of an attempt that ended without a failure."""

    properties: dict[str, Any] = field(default_factory=dict)
    """Properties that other steps may reference"""
    metadata: dict[str, Any] = field(default_factory=dict)
    """Members to add to the step's `Metadata`"""
    status: str = "Succeeded"
    """Succeeded or Stopped"""


@dataclass(frozen=True)
class StepRun:
    """A step of a running execution. Calls are made with the pipeline's role."""

    context: Context
    """Context of the cloud itself, without IAM checks"""
    name: str
    """Key of the execution's record in the store"""
    execution: Record
    """The execution's record at the start of the step"""
    definition: PipelineDefinition
    step: StepDefinition
    wake: Callable[[], None] = lambda: None
    """Wakes the execution's thread, so that it polls its steps immediately"""

    @property
    def record(self) -> Record:
        """The step's current record."""
        execution = self.context.store.get(state.EXECUTION, self.name) or {"Steps": {}}
        return execution["Steps"].get(self.step.name, {})

    def save(self, **members: Any) -> None:
        """Store members of the step's record."""
        state.change_step(self.context, self.name, self.step.name, lambda step: step.update(members))

    def add_metadata(self, metadata: dict[str, Any]) -> None:
        self.save(Metadata=self.record.get("Metadata", {}) | metadata)

    def call(self, operation: str, params: dict[str, Any]) -> dict[str, Any]:
        """Call a SageMaker operation and return its response. Raises StepError with AWS's message."""
        try:
            account, region = self.context.account, self.context.region
            keys = self.context.platform.credentials(account, region, self.execution["_RoleArn"], SESSION)
            acting = dataclasses.replace(self.context, access_key=keys["AWS_ACCESS_KEY_ID"])
            return api.call(acting, operation, params)
        except ApiError as error:
            raise StepError(
                f"ClientError: Failed to invoke sagemaker:{operation}. Error Details: {error.message}",
                exception_of(error),
            ) from error

    def client(self, service: str, read_timeout: float | None = None) -> Any:
        """Return a boto3 client. Raises StepError if SageMaker cannot assume the role."""
        account, region = self.context.account, self.context.region
        role = self.execution["_RoleArn"]
        try:
            return self.context.platform.client(service, account, region, role, SESSION, read_timeout)
        except ApiError as error:
            raise StepError(f"ClientError: {error.message}") from error

    def values(self, value: Any, **variables: str) -> Any:
        """Evaluate a value of the definition. Raises StepError if a reference in it has no value.

        :param variables: additional execution variables
        """
        try:
            return self._evaluator(variables).value(value)
        except NoValueError as error:
            raise StepError(f"ClientError: {error}") from None

    def evaluated(self, evaluate: Callable[[Evaluator], Any]) -> Any:
        """Return the result of `evaluate`. Raises StepError if a reference has no value."""
        try:
            return evaluate(self._evaluator({}))
        except NoValueError as error:
            raise StepError(f"ClientError: {error}") from None

    def _evaluator(self, variables: dict[str, str]) -> Evaluator:
        return Evaluator(
            self.execution["_Parameters"],
            execution_variables(self.execution) | variables,
            self._properties,
            self._property_file,
            self._read_json,
        )

    def _properties(self, step: str) -> dict[str, Any]:
        execution = self.context.store.get(state.EXECUTION, self.name) or {"Steps": {}}
        return execution["Steps"].get(step, {}).get("_Properties", {})

    def _property_file(self, step: str, file: str) -> str:
        output, path = self.definition.steps[step].property_files[file]
        place = ("ProcessingOutputConfig", "Outputs", output, "S3Output", "S3Uri")
        return f"{find(self._properties(step), place).rstrip('/')}/{path}"

    def _read_json(self, uri: str) -> Any:
        try:
            bucket, key = artifacts.split(uri)
            body = self.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
            return json.loads(body)
        except (ClientError, BotoCoreError, ValueError) as error:
            raise NoValueError(f"{uri} could not be read as JSON: {error}") from None


def execution_variables(execution: Record) -> dict[str, str]:
    """Return the execution variables that do not change while an execution runs."""
    return {
        "PipelineName": execution["PipelineArn"].rpartition("/")[2],
        "PipelineArn": execution["PipelineArn"],
        "PipelineExecutionId": state.execution_id(execution),
        "PipelineExecutionArn": execution["PipelineExecutionArn"],
        "StartDateTime": iso_time(execution["CreationTime"]),
    }


class StepAttempt(abc.ABC):
    """One attempt of a step. No method blocks: `begin` starts it, and `poll` checks whether it has ended.

    `begin`, `resume` and `poll` return None while the attempt runs, and raise StepError if it failed.
    """

    stoppable = True
    """Whether `stop` can end the attempt. A Lambda function cannot be stopped."""

    def __init__(self, run: StepRun):
        self.run = run

    @abc.abstractmethod
    def begin(self) -> Ended | None:
        """Start the attempt. State that must survive a restart must be stored before any side effect."""

    def resume(self) -> Ended | None:
        """Resume an attempt that the previous server began."""
        return self.begin()

    def poll(self) -> Ended | None:
        """Check whether a started attempt has ended."""
        return None

    def stop(self) -> None:  # noqa: B027 - optional
        """Request a stop. Called once."""


def with_iso_times(shape: Any, value: Any) -> Any:
    """Return a response with its times in ISO 8601, as in the properties of steps."""
    if shape.type_name == "structure":
        return {name: with_iso_times(shape.members[name], member) for name, member in value.items()}
    if shape.type_name == "list":
        return [with_iso_times(shape.member, item) for item in value]
    return iso_time(float(value)) if shape.type_name == "timestamp" else value
