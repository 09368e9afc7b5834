"""Every bound of a setting is accepted by what is behind it: the functions, the containers, SageMaker."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import annotated_types
import pytest
from aws_cdk import Duration
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import personalization_finetune.settings
import personalization_finetune.tasks
import snowflake_xgboost.settings
from benchmarks.personalization.memory import MemoryObjects, MemoryStore
from local.sagemaker.api import service_model, validate
from personalization.aws.environment import read
from personalization.core import keys
from personalization.core.dispatch import claim, launch
from personalization.core.jobs import job_request
from personalization.core.model import Request, Status
from personalization.core.ports import Backend
from personalization.core.settings import JobSettings, Limits, Pace
from settings import Settings, load
from settings.personalization import PROMPT_CHARS, Personalization
from settings.snowflake_training import SnowflakeTraining
from stacks.personalization import variables
from stacks.shared import retention
from tests.support.personalization.settings import DEFAULT
from tests.support.workflow import workflow

ROOT = Path(__file__).resolve().parents[2]
ROLE = "arn:aws:iam::123456789012:role/training"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/image:1"
KEY = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
LAMBDA_BYTES = 4096
"""All that Lambda takes of environment variables."""

TEXTS = {
    "alarm_email": ["someone@example.com"],
    "subnet_ids": [",".join(f"subnet-{number:017x}" for number in range(16))],
    "security_group_ids": [",".join(f"sg-{number:017x}" for number in range(5))],
    "secret_name": ["a", "a" * 255],
    "table": ["T", '"a b"."c"."d"', "A" * 255],
    "target": ["Y", '"Sale Price"', "A" * 255],
    "endpoint_name": ["a", "a" * 36],
    "instance_type": ["ml.m5.large"],
    "notebook_instance_type": ["ml.t3.medium"],
    "training_instance_type": ["ml.g5.2xlarge", "ml.m5.xlarge"],
    "serving_instance_type": ["ml.g5.xlarge"],
    "serving_registry": ["", "123456789012.dkr.ecr.eu-west-1.amazonaws.com"],
    "base": ["owner/name", "owner/name@refs/pr-1", f"s3://{'b' * 63}/base/"],
    "prompts": [
        "x",
        "|".join(["{trigger}" * (PROMPT_CHARS // len("{trigger}"))] * 4),
        " | ".join(["a {subject}, {trigger}"] * 2),
    ],
    "coordinates": ["", 'LATITUDE,"b c"'],
}
"""For fields of text: the shortest, the longest, and other shapes that are allowed."""
TOGETHER = {
    "subnet_ids": {"security_group_ids": "sg-0123abcd"},
    "security_group_ids": {"subnet_ids": "subnet-0123abcd"},
    "min_instances": {"max_instances": "1000"},
    "hosts_max": {"tasks_per_host": "1"},
    "tasks_per_host": {"hosts_max": "1"},
    "images_min": {"limits.images_max": "100"},
    "images_max": {"limits.images_min": "1"},
}
"""What else must be chosen so that the bound of a field may be."""


def bounds(name: str, info: FieldInfo) -> list[Any]:
    """The least and the most that a field takes, or each of its literals."""
    if name in TEXTS:
        return TEXTS[name]
    if info.annotation is bool:
        return [True, False]
    if typing.get_origin(info.annotation) is typing.Literal:
        return list(get_args(info.annotation))
    step = 1 if info.annotation is int else 1e-6
    found: list[Any] = []
    for limit in info.metadata:
        match limit:
            case annotated_types.Ge():
                found.append(limit.ge)
            case annotated_types.Gt():
                found.append(typing.cast(Any, limit).gt + step)
            case annotated_types.Le():
                found.append(limit.le)
            case annotated_types.Lt():
                found.append(typing.cast(Any, limit).lt - step)
    assert len(found) == 2, f"{name} has no bounds that this test knows"
    return found


def walk(model: type[BaseModel], path: str) -> Iterator[tuple[str, Any]]:
    for field, info in model.model_fields.items():
        name = info.alias or field
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from walk(info.annotation, f"{path}.{name}")
            continue
        for value in bounds(name, info):
            yield f"{path}.{name}", value


CHOICES = [*walk(SnowflakeTraining, "snowflake_training"), *walk(Personalization, "personalization")]


def chosen(path: str, value: Any) -> Settings:
    """The settings with this one at its bound, as the command line gives it."""
    architecture, _, _ = path.partition(".")
    text = str(value).lower() if isinstance(value, bool) else str(value)
    others = TOGETHER.get(path.rpartition(".")[2], {})
    return load({path: text, **{f"{architecture}.{name}": other for name, other in others.items()}})


def accepted(operation: str, request: dict[str, Any]) -> None:
    """By botocore's model of SageMaker: types, required members, lengths, ranges, patterns, enumerations."""
    validate(service_model().operation_model(operation).input_shape, request)


def test_every_setting_has_bounds_to_try() -> None:
    for model in (SnowflakeTraining, Personalization):
        tried = {path.rpartition(".")[2] for path, _ in CHOICES}
        assert {info.alias or name for name, info in model.model_fields.items()} - tried <= {
            "hyperparameters",
            "limits",
            "pace",
        }


@pytest.mark.parametrize(("path", "value"), [c for c in CHOICES if c[0].startswith("personalization.")])
def test_personalization_accepts_a_bound(
    path: str, value: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # given a setting at its bound
    settings = chosen(path, value).of(Personalization)
    # then the functions' own parser takes what the stack tells them
    told = tell(settings)
    for name, text in told.items():
        monkeypatch.setenv(name, text)
    job, limits, pace = read(JobSettings, "JOB_SETTINGS"), read(Limits, "LIMITS"), read(Pace, "PACE")
    assert limits.images_min <= limits.images_max
    assert sum(len(name) + len(text) for name, text in told.items()) < LAMBDA_BYTES - 1500
    # and SageMaker takes the job that they ask for, with as many requests as fit
    request, tasks = asked(job, pace, limits)
    for one in request:
        accepted("CreateTrainingJob", one)
    # and the container takes its hyperparameters and its tasks
    personalization_finetune.settings.Settings.read(request[0]["HyperParameters"])
    (tmp_path / "tasks.json").write_bytes(tasks)
    found = personalization_finetune.tasks.read(tmp_path / "tasks.json", job.hosts_max)
    assert len(found) == job.capacity
    # and each of its fine-tunes gets steps
    assert all(1 <= task.steps <= int(job.hyperparameters["steps"]) for task in found)
    assert retention(settings.log_retention_days)


def tell(settings: Personalization) -> dict[str, str]:
    """The functions' variables, with ARNs as long as they are on AWS."""
    vpc = {"Subnets": list(settings.subnet_ids), "SecurityGroupIds": list(settings.security_group_ids)}
    job = variables.job_settings(
        settings,
        image=IMAGE,
        role=ROLE,
        tags={"groundplan:architecture": "personalization"},
        vpc=vpc if settings.subnet_ids else None,
        key=KEY,
        volume_key=KEY,
    )
    return {
        "JOB_SETTINGS": json.dumps(job),
        "LIMITS": json.dumps(variables.limits(settings)),
        "PACE": json.dumps(variables.pace(settings)),
    }


def asked(job: JobSettings, pace: Pace, limits: Limits) -> tuple[list[dict[str, Any]], bytes]:
    """What SageMaker is asked for a full job, on spot capacity, on demand and with a warm pool; its tasks."""
    store, objects, requests = MemoryStore(lambda before, after: None), MemoryObjects(), []

    class Training:
        def create(self, request: dict[str, Any]) -> None:
            requests.append(request)

    class Clock:
        def now(self) -> float:
            return 1.8e9

    backend = Backend(
        store, objects, Training(), Clock(), job, pace, bucket="data", prefix="a" * 36  # type: ignore[arg-type]
    )  # fmt: skip
    for number in range(job.capacity):
        images = limits.images_min if number % 2 else limits.images_max
        name = f"{number:026}"
        store.add(
            Request(
                request=name,
                user=name,
                model=name,
                subject="x" * 60,
                images=images,
                steps=job.steps(images),
                estimate=1.0,
                status=Status.QUEUED,
                attempt=1,
                last_attempt=1,
                queued_at=1.0,
                updated=1.0,
            )
        )
    made = claim(backend, store.queue(job.capacity), steady=False)
    assert made
    launch(backend, made)
    for warm in (False, True):
        requests.append(job_request(backend, replace(made, spot=False, warm=warm and job.keep_alive > 0), 1))
    return requests, objects.get(keys.tasks(made.job)) or b""


@pytest.mark.parametrize(("path", "value"), [c for c in CHOICES if c[0].startswith("snowflake_training.")])
def test_snowflake_training_accepts_a_bound(path: str, value: Any) -> None:
    # given a setting at its bound
    settings = chosen(path, value).of(SnowflakeTraining)
    # then the container's own parser takes the hyperparameters
    inputs = {"table": settings.table, "target": settings.target}
    hyperparameters = {**settings.hyperparameters.as_texts(), **inputs}
    given = hyperparameters | {"secret": settings.secret_name, "mode": "train"}
    snowflake_xgboost.settings.Settings.read(given)
    # and SageMaker takes what the workflow asks for
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
    settings = load({"env": env})
    # 10 concurrent invocations of all serverless endpoints together
    assert settings.of(SnowflakeTraining).serverless_concurrency <= 10
    # no warm pools, and nothing of Lambda's concurrency reserved
    assert settings.of(Personalization).keep_alive_seconds == 0
    assert settings.of(Personalization).reserved_concurrency == 0


def test_the_runtime_has_a_setting_for_every_field() -> None:
    told = variables.job_settings(DEFAULT, image=IMAGE, role=ROLE, tags={})
    assert set(told) == set(JobSettings.__dataclass_fields__)
    assert set(variables.limits(DEFAULT)) == set(Limits.__dataclass_fields__)
    assert set(variables.pace(DEFAULT)) == set(Pace.__dataclass_fields__)
