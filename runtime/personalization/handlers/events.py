"""Events of the Lambda functions, with the fields that are read."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict


class TrainingJobDetail(TypedDict):
    TrainingJobName: str


class TrainingJobChange(TypedDict):
    """EventBridge event `SageMaker Training Job State Change`."""

    detail: TrainingJobDetail


class ObjectName(TypedDict):
    key: str
    """URL-encoded."""


class ObjectEntity(TypedDict):
    object: ObjectName


class ObjectRecord(TypedDict):
    s3: ObjectEntity


class ObjectsCreated(TypedDict):
    """S3's notification format."""

    Records: list[ObjectRecord]


class StreamChange(TypedDict):
    SequenceNumber: str
    OldImage: NotRequired[dict[str, Any]]
    NewImage: NotRequired[dict[str, Any]]
    """Attributes in DynamoDB's format, as in `OldImage`."""


class StreamRecord(TypedDict):
    dynamodb: StreamChange


class StreamBatch(TypedDict):
    """A batch of a DynamoDB stream whose records have the old and the new image of an item."""

    Records: list[StreamRecord]
