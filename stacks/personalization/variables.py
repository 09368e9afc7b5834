"""Settings as environment variables of the Lambda functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from groundplan.instance_types import device
from settings.personalization import Personalization

METRICS = {
    "train:loss": r"train:loss=([0-9.eE+-]+)",
    "train:steps_per_second": r"train:steps_per_second=([0-9.eE+-]+)",
}
"""MetricDefinitions: regular expressions for metrics in the fine-tuning container's log."""


def job_settings(
    chosen: Personalization,
    *,
    image: str,
    role: str,
    tags: Mapping[str, str],
    vpc: Mapping[str, Sequence[str]] | None = None,
    key: str = "",
    volume_key: str = "",
) -> dict[str, Any]:
    """Return the value of the environment variable `JOB_SETTINGS`.

    ARNs, subnets and the image may be CDK tokens. `vpc` is SageMaker's VpcConfig, `key` the ARN of the key
    for the output. `volume_key` is the ARN of the key for volumes, or "" if the instance type accepts none.
    """
    return {
        "image": image,
        "role": role,
        "instance_type": chosen.training_instance_type,
        "device": device(chosen.training_instance_type),
        "hosts_max": chosen.hosts_max,
        "tasks_per_host": chosen.tasks_per_host,
        "volume_gb": chosen.volume_gb,
        "max_runtime": chosen.max_runtime_minutes * 60,
        "spot": chosen.spot,
        "keep_alive": chosen.keep_alive_seconds,
        "base": {"uri" if chosen.base.startswith("s3://") else "id": chosen.base},
        "hyperparameters": chosen.hyperparameters.as_texts(),
        "steps_per_image": chosen.steps_per_image,
        "prompts": list(chosen.prompts),
        "seconds_per_step": chosen.seconds_per_step,
        "metrics": METRICS,
        "vpc": {"subnets": vpc["Subnets"], "security_groups": vpc["SecurityGroupIds"]} if vpc else {},
        "key": key,
        "volume_key": volume_key,
        "tags": dict(tags),
    }


def limits(chosen: Personalization) -> dict[str, Any]:
    """Return the value of the environment variable `LIMITS`."""
    return chosen.limits.model_dump()


def pace(chosen: Personalization) -> dict[str, Any]:
    """Return the value of the environment variable `PACE`."""
    return chosen.pace.model_dump()
