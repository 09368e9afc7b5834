"""Every bound of a setting is accepted by the container and SageMaker."""

from __future__ import annotations

from typing import Any

import pytest
from aws_cdk import Duration

import snowflake_xgboost.settings
from settings import load
from settings.snowflake_training import SnowflakeTraining
from stacks.shared import retention
from tests.support.bounds import NETWORK, SHARED, accepted, chosen, untried, walk
from tests.support.workflow import workflow

TEXTS = {
    **SHARED,
    "secret_name": ["a", "a" * 255],
    "table": ["T", '"a b"."c"."d"', "A" * 255],
    "target": ["Y", '"Sale Price"', "A" * 255],
    "instance_type": ["ml.m5.large"],
    "notebook_instance_type": ["ml.t3.medium"],
    "coordinates": ["", 'LATITUDE,"b c"'],
}
CHOICES = list(walk(SnowflakeTraining, "snowflake_training", TEXTS))


def test_every_setting_is_tried_at_its_bounds() -> None:
    assert untried(SnowflakeTraining, CHOICES) == set()


@pytest.mark.parametrize(("path", "value"), CHOICES)
def test_bound_of_a_setting_is_accepted(path: str, value: Any) -> None:
    # given a setting at its bound
    settings = chosen(path, value, NETWORK).of(SnowflakeTraining)
    # then the container's parser accepts the hyperparameters
    inputs = {"table": settings.table, "target": settings.target}
    hyperparameters = {**settings.hyperparameters.as_texts(), **inputs}
    given = hyperparameters | {"secret": settings.secret_name, "mode": "train"}
    snowflake_xgboost.settings.Settings.read(given)
    # and SageMaker accepts the workflow's requests
    states = definition(settings, inputs)["States"]
    job = states["Train"]["Arguments"] | {
        "TrainingJobName": "a" * 40 + "-0123456789ab-train",
        "HyperParameters": given,
        "Tags": [],
    }
    job["ResourceConfig"] = job["ResourceConfig"] | {"InstanceCount": settings.hosts}
    job["CheckpointConfig"] = {"S3Uri": "s3://bucket/checkpoints/name", "LocalPath": "/opt/ml/checkpoints"}
    accepted("CreateTrainingJob", job)
    [state] = [state for state in states.values() if "createEndpointConfig" in state.get("Resource", "")]
    variants = state["Arguments"]["ProductionVariants"]
    config = {
        "EndpointConfigName": "a" * 40,
        "ProductionVariants": [variants[0] | {"ModelName": "model", "VariantName": "AllTraffic"}],
    }
    accepted("CreateEndpointConfig", config)
    assert retention(settings.log_retention_days)


def definition(settings: SnowflakeTraining, inputs: dict[str, str]) -> dict[str, Any]:
    return workflow(
        training={
            "inputs": inputs,
            "hyperparameters": settings.hyperparameters.as_texts(),
            "fixed": {"secret": settings.secret_name},
            "hosts": settings.hosts,
            "instance_type": settings.instance_type,
            "volume_gb": settings.volume_gb,
            "max_runtime": Duration.minutes(settings.max_runtime_minutes),
        },
        endpoint={
            "name": settings.endpoint_name or "endpoint",
            "memory_mb": settings.serverless_memory_mb,
            "concurrency": settings.serverless_concurrency,
            "deployment": Duration.minutes(settings.deployment_minutes),
        },
        metric={"minimum_improvement": settings.minimum_improvement},
        subnets=settings.subnet_ids,
        groups=settings.security_group_ids,
        encrypted=True,
    ).definition()


@pytest.mark.parametrize("env", ["dev", "prod"])
def test_defaults_stay_within_a_new_accounts_quotas(env: str) -> None:
    # The quota is 10 concurrent invocations for all serverless endpoints of an account.
    assert load({"env": env}).of(SnowflakeTraining).serverless_concurrency <= 10
