"""The events that the functions get, as far as they read them."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict


class TrainingJobDetail(TypedDict):
    TrainingJobName: str


class TrainingJobChange(TypedDict):
    """`SageMaker Training Job State Change`, by EventBridge."""

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
    """Attributes in DynamoDB's format, as in the old image."""


class StreamRecord(TypedDict):
    dynamodb: StreamChange


class StreamBatch(TypedDict):
    """A batch of a DynamoDB stream with both images."""

    Records: list[StreamRecord]
