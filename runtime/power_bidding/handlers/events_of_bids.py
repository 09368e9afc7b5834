"""Events of the functions for models and bids, with the fields that are read."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from power_feeds import hours


class HourEvent(TypedDict):
    hour: str


class RetrainEvent(HourEvent):
    token: str
    """Token of the waiting task"""
    execution: str
    """ARN of the state machine's execution"""


class BidEvent(HourEvent):
    version: int
    asset: str


class FallBackEvent(HourEvent):
    asset: str
    error: NotRequired[str | dict[str, str]]
    """Text, or the output of a Catch: {"Error", "Cause"}"""


class DeployEvent(HourEvent, total=False):
    request: str
    version: str
    model_package_arn: str
    model_data: str
    image: str
    capture: float
    """The model's revenue in the evaluation, as a share of the revenue with perfect foresight"""


class RollBackEvent(TypedDict, total=False):
    version: str


class PipelineDetail(TypedDict):
    pipelineExecutionArn: str
    currentPipelineExecutionStatus: NotRequired[str]
    currentStepStatus: NotRequired[str]


class PipelineEvent(TypedDict):
    """EventBridge events of a pipeline's executions and their steps."""

    detail: PipelineDetail


def hour_of(event: HourEvent) -> int:
    """Return the event's hour. Raises `ValueError` if it is invalid."""
    return hours.parse(event["hour"])


def error_of(event: FallBackEvent) -> str:
    """Return the failure as one line."""
    error = event.get("error", "")
    return error if isinstance(error, str) else f"{error.get('Error', '')}: {error.get('Cause', '')}"
