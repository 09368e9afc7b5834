"""Every bound of a setting is accepted by the functions, the container and SageMaker."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import personalization_finetune.settings
import personalization_finetune.tasks
from benchmarks.personalization.memory import MemoryObjects, MemoryStore
from personalization.aws.environment import read
from personalization.core import keys
from personalization.core.dispatch import claim, launch
from personalization.core.jobs import job_request
from personalization.core.model import Request, Status
from personalization.core.ports import Backend
from personalization.core.settings import JobSettings, Limits, Pace
from settings import load
from settings.personalization import PROMPT_CHARS, Personalization
from stacks.personalization import variables
from stacks.shared import retention
from tests.support.bounds import NETWORK, SHARED, accepted, chosen, untried, walk
from tests.support.personalization.settings import DEFAULT

ROLE = "arn:aws:iam::123456789012:role/training"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/image:1"
KEY = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
LAMBDA_BYTES = 4096
"""Maximum bytes of a function's environment variables."""

TEXTS = {
    **SHARED,
    "training_instance_type": ["ml.g5.2xlarge", "ml.m5.xlarge"],
    "serving_instance_type": ["ml.g5.xlarge"],
    "serving_registry": ["", "123456789012.dkr.ecr.eu-west-1.amazonaws.com"],
    "base": ["owner/name", "owner/name@refs/pr-1", f"s3://{'b' * 63}/base/"],
    "prompts": [
        "x",
        "|".join(["{trigger}" * (PROMPT_CHARS // len("{trigger}"))] * 4),
        " | ".join(["a {subject}, {trigger}"] * 2),
    ],
}
TOGETHER = {
    **NETWORK,
    "min_instances": {"max_instances": "1000"},
    "hosts_max": {"tasks_per_host": "1"},
    "tasks_per_host": {"hosts_max": "1"},
    "images_min": {"limits.images_max": "100"},
    "images_max": {"limits.images_min": "1"},
}
CHOICES = list(walk(Personalization, "personalization", TEXTS))


def test_every_setting_is_tried_at_its_bounds() -> None:
    assert untried(Personalization, CHOICES) == set()


@pytest.mark.parametrize(("path", "value"), CHOICES)
def test_bound_of_a_setting_is_accepted(
    path: str, value: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # given a setting at its bound
    settings = chosen(path, value, TOGETHER).of(Personalization)
    # then the functions' parser accepts the stack's environment variables
    told = tell(settings)
    for name, text in told.items():
        monkeypatch.setenv(name, text)
    job, limits, pace = read(JobSettings, "JOB_SETTINGS"), read(Limits, "LIMITS"), read(Pace, "PACE")
    assert limits.images_min <= limits.images_max
    assert sum(len(name) + len(text) for name, text in told.items()) < LAMBDA_BYTES - 1500
    # and SageMaker accepts the job that the functions create, with as many requests as fit into one job
    request, tasks = asked(job, pace, limits)
    for one in request:
        accepted("CreateTrainingJob", one)
    # and the container accepts the job's hyperparameters and tasks
    personalization_finetune.settings.Settings.read(request[0]["HyperParameters"])
    (tmp_path / "tasks.json").write_bytes(tasks)
    found = personalization_finetune.tasks.read(tmp_path / "tasks.json", job.hosts_max)
    assert len(found) == job.capacity
    # and each fine-tune gets at least one step
    assert all(1 <= task.steps <= int(job.hyperparameters["steps"]) for task in found)
    assert retention(settings.log_retention_days)


def tell(settings: Personalization) -> dict[str, str]:
    """Return the functions' environment variables, with ARNs as long as on AWS."""
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
    """Return the requests to SageMaker for a full job: on spot, on demand and with a warm pool; and the job's
    tasks."""
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


@pytest.mark.parametrize("env", ["dev", "prod"])
def test_defaults_stay_within_a_new_accounts_quotas(env: str) -> None:
    # A new account has no quota for warm pools, and cannot reserve concurrency of Lambda.
    settings = load({"env": env}).of(Personalization)
    assert (settings.keep_alive_seconds, settings.reserved_concurrency) == (0, 0)


def test_runtime_has_a_setting_for_every_field() -> None:
    told = variables.job_settings(DEFAULT, image=IMAGE, role=ROLE, tags={})
    assert set(told) == set(JobSettings.__dataclass_fields__)
    assert set(variables.limits(DEFAULT)) == set(Limits.__dataclass_fields__)
    assert set(variables.pace(DEFAULT)) == set(Pace.__dataclass_fields__)
