"""The records of pipelines and of their executions: names, status changes and events.

An execution's record has its steps by name in `Steps`, in the order of their start. Members that begin with
an underscore are not part of any response.
"""

from __future__ import annotations

import logging
import secrets
import string
from collections.abc import Callable
from typing import Any

from local.sagemaker.api import ApiError, Context, now
from local.sagemaker.pipelines.expressions import iso_time
from local.sagemaker.store import Record

logger = logging.getLogger(__name__)

PIPELINE, EXECUTION = "pipeline", "pipeline-execution"
ENDED = ("Succeeded", "Failed", "Stopped", "CompletedWithFailures")
"""Final statuses of an execution."""
STEP_ENDED = ("Succeeded", "Failed", "Stopped")
STEPS_FAILED = "Step failure: One or multiple steps failed."
LONGEST_REASON = 1_300
LONGEST_STEP_REASON = 1_024

_LETTERS = string.ascii_letters + string.digits
_LONGEST_JOB_NAME = 63
_NAME_OF_STEP = 20
"""Maximum characters of a step's name in the names of its jobs, as on AWS."""


def random_letters(count: int, letters: str = _LETTERS) -> str:
    return "".join(secrets.choice(letters) for _ in range(count))


def new_execution_id() -> str:
    return random_letters(12, string.ascii_lowercase + string.digits)


def execution_id(record: Record) -> str:
    return record["PipelineExecutionArn"].rpartition("/")[2]


def name_of(arn: str) -> str:
    """Return the key of an execution's record, `PIPELINE/execution/ID`, from its ARN."""
    return arn.partition(":pipeline/")[2]


def missing(arn: str) -> ApiError:
    return ApiError("ResourceNotFound", f"{arn} does not exist.")


def conflict(message: str) -> ApiError:
    return ApiError("ConflictException", message)


def find(context: Context, arn: str) -> Record:
    """Return an execution's record. Raises ApiError, also for an execution of another account or Region."""
    name = name_of(arn)
    record = context.store.get(EXECUTION, name)
    if record is None or record["PipelineExecutionArn"] != arn:
        raise missing(f"Pipeline execution {arn}")
    return record


def job_name(execution: str, step: str, prefix: str | None) -> str:
    """Return a new name for a step's job: `pipelines-EXECUTION-STEP-RANDOM`, or `PREFIX-EXECUTION-RANDOM`."""
    ending = f"-{random_letters(10)}"
    if prefix:
        middle = f"-{execution}"
        return prefix[: _LONGEST_JOB_NAME - len(middle + ending)].rstrip("-") + middle + ending
    return f"pipelines-{execution}-{step[:_NAME_OF_STEP].strip('-_').replace('_', '-')}{ending}"


def advance(context: Context, name: str, status: str, reason: str | None = None) -> bool:
    """Change the status of an execution and publish the event.

    Return False if the execution has ended or already has the status."""
    before = ""

    def edit(record: Record) -> None:
        nonlocal before
        if record["PipelineExecutionStatus"] in (*ENDED, status):
            return
        before = record["PipelineExecutionStatus"]
        record |= {"PipelineExecutionStatus": status, "LastModifiedTime": now()}
        if reason:
            record["FailureReason"] = reason[:LONGEST_REASON]

    record = context.store.change(EXECUTION, name, edit)
    if before and record is not None:
        publish(context, record, before)
    return bool(before)


def change_step(context: Context, name: str, step: str, edit: Callable[[Record], Any]) -> Record:
    """Edit and return the record of a step, created if needed. Publish an event if its status changed."""
    before: str | None = None

    def edit_step(record: Record) -> None:
        nonlocal before
        found = record["Steps"].setdefault(step, {"StepName": step})
        before = found.get("StepStatus")
        edit(found)
        record["LastModifiedTime"] = now()

    record = context.store.change(EXECUTION, name, edit_step)
    if record is None:
        raise missing(f"Pipeline execution {name}")
    found = record["Steps"][step]
    if found.get("StepStatus") != before:
        publish_step(context, record, found, before)
    return found


# Events


def publish(context: Context, record: Record, before: str | None = None) -> None:
    detail = {
        "pipelineExecutionDisplayName": record["PipelineExecutionDisplayName"],
        "currentPipelineExecutionStatus": record["PipelineExecutionStatus"],
        "executionStartTime": _event_time(record["CreationTime"]),
        "pipelineArn": record["PipelineArn"],
        "pipelineExecutionArn": record["PipelineExecutionArn"],
    }
    if description := record.get("PipelineExecutionDescription"):
        detail["pipelineExecutionDescription"] = description
    if before:
        detail["previousPipelineExecutionStatus"] = before
    if record["PipelineExecutionStatus"] in ENDED:
        detail["executionEndTime"] = _event_time(record["LastModifiedTime"])
    _put(context, record, "SageMaker Model Building Pipeline Execution Status Change", detail)


def publish_step(context: Context, record: Record, step: Record, before: str | None) -> None:
    detail = {
        "metadata": _lower(step.get("Metadata", {})),
        "stepStartTime": _event_time(step["StartTime"]),
        "stepName": step["StepName"],
        "stepType": step["_Type"],
        "currentStepStatus": step["StepStatus"],
        "pipelineArn": record["PipelineArn"],
        "pipelineExecutionArn": record["PipelineExecutionArn"],
    }
    if before:
        detail["previousStepStatus"] = before
    if "EndTime" in step:
        detail["stepEndTime"] = _event_time(step["EndTime"])
    if "CacheHitResult" in step:
        detail["cacheHitResult"] = _lower(step["CacheHitResult"])
    if step.get("FailureReason"):
        detail["failureReason"] = step["FailureReason"]
    _put(context, record, "SageMaker Model Building Pipeline Execution Step Status Change", detail)


def _event_time(seconds: float) -> str:
    return iso_time(seconds)[:-5] + "Z"


def _lower(value: Any) -> Any:
    """Return a response with its members spelled as in events: `trainingJob` for `TrainingJob`."""
    if isinstance(value, dict):
        return {name[:1].lower() + name[1:]: _lower(member) for name, member in value.items()}
    return [_lower(item) for item in value] if isinstance(value, list) else value


def _put(context: Context, record: Record, kind: str, detail: dict[str, Any]) -> None:
    resources = (record["PipelineArn"], record["PipelineExecutionArn"])
    try:
        context.platform.publish(context.account, context.region, kind, detail, *resources)
    except Exception:  # a failure of the event bus must not end an execution
        logger.exception("Could not publish the status change of %s", resources[1])
