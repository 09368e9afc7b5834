"""The settings of `data_centric`."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from settings.base import ArchitectureSettings, Choices
from settings.instance_types import GPU_TRAINING_INSTANCES

FUNCTION = r"^(arn:[a-z-]+:lambda:[a-z0-9-]+:\d{12}:function:[A-Za-z0-9_-]{1,64}(:[A-Za-z0-9_-]+)?)?$"


class Labeling(Choices):
    """Defaults of labeling runs, their limits, and the rates of the cost estimate."""

    attribute: str = Field(
        default="label",
        pattern=r"^[a-zA-Z0-9](-*[a-zA-Z0-9])*$",
        max_length=127,
        description="1 to 127 letters, digits and hyphens, the label's name in manifests",
    )
    labels: int = Field(default=3, ge=1, le=9, description="a whole number from 1 to 9 for each item")
    most_labels: int = Field(
        default=5,
        ge=1,
        le=9,
        description="a whole number from labeling.labels to 9, for an item on which labelers disagree",
    )
    extra_share: float = Field(
        default=0.2,
        ge=0,
        le=8,
        description="a number from 0 to 8: extra labels for a run's items, as a share of the usual ones",
    )
    least_confidence: float = Field(
        default=0.8, ge=0, le=1, description="a number from 0 to 1; items below it get extra labels"
    )
    lease_seconds: int = Field(
        default=600,
        ge=30,
        le=86_400,
        description="a whole number of seconds from 30 to 86400 that a labeler has for a task",
    )
    gold_every: int = Field(
        default=10,
        ge=2,
        le=1000,
        description="a whole number from 2 to 1000: one task in so many is a gold question, if a run has any",
    )
    gold_least: int = Field(
        default=5,
        ge=1,
        le=1000,
        description="a whole number from 1 to 1000 of answered gold questions before a labeler is blocked",
    )
    gold_share: float = Field(
        default=0.6,
        ge=0,
        le=1,
        description="a number from 0 to 1; labelers with a lower share of right answers are blocked",
    )
    most_items: int = Field(
        default=20_000, ge=1, le=20_000, description="a whole number of items from 1 to 20000 in a run"
    )
    most_hours: int = Field(
        default=336,
        ge=1,
        le=4000,
        description="a whole number of hours from 1 to 4000 after which a run ends, complete or not",
    )
    answer_seconds: float = Field(
        default=6, gt=0, le=3600, description="a number of seconds above 0 and at most 3600 for an answer"
    )
    hourly_wage: float = Field(
        default=20, ge=0, le=1000, description="a number of dollars from 0 to 1000 for a labeler's hour"
    )
    answer_dollars: float = Field(
        default=0.00003,
        ge=0,
        le=1,
        description="a number of dollars from 0 to 1 for the AWS requests of an answer",
    )


class Sweeps(Choices):
    """Settings of the sweeps' training jobs."""

    instance_type: Annotated[str, AfterValidator(GPU_TRAINING_INSTANCES)] = Field(
        default="ml.m5.xlarge", description=GPU_TRAINING_INSTANCES.description
    )
    volume_gb: int = Field(default=30, ge=1, le=16_384, description="a whole number of GB from 1 to 16384")
    max_runtime_minutes: int = Field(
        default=240, ge=1, le=7200, description="a whole number of minutes from 1 to 7200 for a job"
    )
    at_once: int = Field(
        default=4,
        ge=1,
        le=40,
        description="a whole number from 1 to 40 of jobs at the same time; the account's quota for the"
        " instance type must allow it",
    )
    hosts: int = Field(
        default=1,
        ge=1,
        le=16,
        description="a whole number from 1 to 16 of instances that train each job together",
    )
    tracking: bool = Field(
        default=False, description="true or false, whether runs are logged with an MLflow app, which costs"
    )


class DataCentric(ArchitectureSettings):
    """Train on the data that matters: consistent labels, and the examples that teach most."""

    ENVIRONMENTS: ClassVar = {
        "prod": {
            "retain": True,
            "own_key": True,
            "log_retention_days": 365,
            "point_in_time_recovery": True,
        },
    }

    labeling: Labeling = Labeling()
    sweep: Sweeps = Sweeps()
    pre_annotation: str = Field(
        default="",
        pattern=FUNCTION,
        description="the ARN of a Lambda function with Ground Truth's pre-annotation contract, or empty for"
        " the stack's own",
    )
    post_annotation: str = Field(
        default="",
        pattern=FUNCTION,
        description="the ARN of a Lambda function with Ground Truth's post-annotation contract, or empty for"
        " the stack's own",
    )
    self_sign_up: bool = Field(
        default=False, description="true or false, whether anybody may make an account"
    )
    point_in_time_recovery: bool = Field(
        default=False, description="true or false, whether tasks can be put back to any second of 35 days"
    )
    deletion_protection: bool = Field(
        default=False,
        description="true or false, whether DynamoDB and Amazon Cognito refuse to delete tasks and accounts;"
        " for a stack that is there already, because a first deployment that fails could not be rolled back",
    )

    def contradictions(self) -> list[str]:
        found = super().contradictions()
        if self.labeling.most_labels < self.labeling.labels:
            found.append(
                f"labeling.most_labels must be at least labeling.labels ({self.labeling.labels}), got"
                f" {self.labeling.most_labels}"
            )
        return found
