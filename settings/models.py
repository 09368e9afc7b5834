"""Settings of architectures that train a model and serve it if it is better than the one in service."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from settings.base import ArchitectureSettings, whole
from settings.instance_types import InstanceUse, cpu

TRAINING_INSTANCES = InstanceUse(
    "training", cpu, "an x86 instance type for SageMaker training, without a GPU", "ml.m5.xlarge"
)
NOTEBOOK_INSTANCES = InstanceUse(
    "notebook", lambda family: True, "an instance type for SageMaker notebook instances", "ml.t3.medium"
)


class ModelSettings(ArchitectureSettings):
    """Settings of architectures that train a model and serve it from a serverless endpoint."""

    hosts: int = Field(default=1, ge=1, le=64, description="a whole number from 1 to 64")
    instance_type: Annotated[str, AfterValidator(TRAINING_INSTANCES)] = Field(
        default="ml.m5.xlarge", description=TRAINING_INSTANCES.description
    )
    volume_gb: int = Field(default=30, ge=1, le=16384, description="a whole number from 1 to 16384")
    max_runtime_minutes: int = Field(
        default=60, ge=1, le=40320, description="a whole number from 1 to 40320 (28 days)"
    )
    minimum_improvement: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="a number from 0, below 1: the share by which a new model must be better",
    )
    endpoint_name: str = Field(
        default="",
        pattern=r"^([a-z0-9](-?[a-z0-9]){0,39})?$",
        description="1 to 40 lower-case letters, digits and single hyphens, or empty for the stack's name",
    )
    serverless_memory_mb: Annotated[Literal[1024, 2048, 3072, 4096, 5120, 6144], BeforeValidator(whole)] = (
        Field(default=2048, description="one of 1024, 2048, 3072, 4096, 5120, 6144")
    )
    serverless_concurrency: int = Field(
        default=2,
        ge=1,
        le=200,
        description="a whole number from 1 to 200. All serverless endpoints of an account share 10 until"
        " 'Maximum total concurrency that can be allocated across all serverless endpoints' is raised in"
        " Service Quotas",
    )
    deployment_minutes: int = Field(
        default=30,
        ge=1,
        le=240,
        description="a whole number from 1 to 240: how long an endpoint may take to change",
    )
    notebook_instance_type: Annotated[str, AfterValidator(NOTEBOOK_INSTANCES)] = Field(
        default="ml.t3.medium", description=NOTEBOOK_INSTANCES.description
    )

    @property
    def serverless_units(self) -> int:
        return self.serverless_concurrency
