"""Settings of personalization."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest

import personalization_finetune.settings
from settings import load
from settings.personalization import FineTuning, Personalization
from tests.support.settings import error

NAME = "personalization"
HOSTING = "an x86 instance type for SageMaker multi-model endpoints"
TRAINING = "an x86 instance type for SageMaker training"


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        (
            {"hosts_max": "4", "tasks_per_host": "8"},
            "tasks_per_host must be at most 7 with hosts_max 4, because a job has at most 30 tasks, got 8",
        ),
        ({"min_instances": "3"}, "max_instances must be at least min_instances (3), got 2"),
        ({"limits.images_min": "30"}, "limits.images_max must be at least limits.images_min (30), got 20"),
    ],
)
def test_contradictory_values_are_refused(choice: dict[str, str], sentence: str):
    assert error({f"{NAME}.{name}": value for name, value in choice.items()}) == f"{NAME}.{sentence}"


def test_default_base_is_one_commit():
    assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", load({}).of(Personalization).base)


@pytest.mark.parametrize(
    "base", ["owner/name", "owner/name@fp16", "s3://some-bucket/base/", "s3://some-bucket/a/b.c/"]
)
def test_base_may_be_a_hugging_face_id_or_s3_folder(base: str):
    assert load({f"{NAME}.base": base}).of(Personalization).base == base


@pytest.mark.parametrize(
    "base", ["name", "s3://some-bucket/base", "s3://", "/opt/base", "a/b/c", "https://x/y"]
)
def test_invalid_base_is_refused(base: str):
    assert error({f"{NAME}.base": base}).startswith(f"{NAME}.base must be a text-to-image pipeline")


@pytest.mark.parametrize("instance", ["ml.g5.xlarge", "ml.g4dn.2xlarge", "ml.m5d.large", "ml.m5.large"])
def test_supported_instance_type_of_a_multi_model_endpoint_is_accepted(instance: str):
    chosen = load({f"{NAME}.serving_instance_type": instance}).of(Personalization)
    assert chosen.serving_instance_type == instance


@pytest.mark.parametrize(
    "instance",
    ["ml.m7g.large", "ml.c6g.xlarge", "ml.inf2.xlarge", "ml.trn1.2xlarge", "ml.p3.2xlarge", "g5.xlarge"],
)
def test_instance_that_cannot_run_the_images_is_refused(instance: str):
    for field in ("serving_instance_type", "training_instance_type"):
        assert error({f"{NAME}.{field}": instance}).startswith(f"{NAME}.{field} must be an x86")


@pytest.mark.parametrize(
    ("field", "instance", "allowed"),
    [
        # SageMaker does not offer this family, or this size of the family, for this use
        ("serving_instance_type", "ml.t3.large", HOSTING),
        ("training_instance_type", "ml.m5d.xlarge", TRAINING),
        # Not usable: a Volta GPU, an Arm CPU, and an instance without support for multi-model endpoints
        ("training_instance_type", "ml.p3.2xlarge", TRAINING),
        ("serving_instance_type", "ml.c7g.xlarge", HOSTING),
        ("serving_instance_type", "ml.g6.xlarge", HOSTING),
    ],
)
def test_invalid_instance_type_is_refused_with_the_allowed_ones(field: str, instance: str, allowed: str):
    assert error({f"{NAME}.{field}": instance}).startswith(f"{NAME}.{field} must be {allowed}")


@pytest.mark.parametrize(
    "registry", ["123456789012.dkr.ecr.eu-central-1.amazonaws.com", "mirror.example.com:5000/aws", ""]
)
def test_serving_image_may_come_from_another_registry(registry: str):
    assert load({f"{NAME}.serving_registry": registry}).of(Personalization).serving_registry == registry


@pytest.mark.parametrize("env", ["dev", "prod"])
def test_rate_limit_of_one_user_cannot_scale_the_endpoint(env):
    # Target tracking counts the invocations of all users together, so only the rate limit of a user limits
    # how far one user can scale the endpoint
    chosen = load({"env": env}).of(Personalization)
    assert chosen.limits.pictures_per_minute <= chosen.invocations_per_instance * chosen.min_instances


def test_prod_retains_and_encrypts_data_unlike_dev():
    dev, prod = (load({"env": env}).of(Personalization) for env in ("dev", "prod"))
    assert (prod.retain, prod.own_key, prod.point_in_time_recovery) == (True, True, True)
    assert (dev.retain, dev.own_key, dev.point_in_time_recovery) == (False, False, False)
    assert not dev.self_sign_up
    assert not prod.self_sign_up
    assert prod.hosts_max * prod.tasks_per_host <= 30


def test_fine_tuning_reads_the_same_hyperparameters_with_the_same_defaults():
    container = personalization_finetune.settings
    ours = FineTuning().as_texts()
    assert {field.name for field in fields(container.Settings)} == {*ours, "base"}
    assert container.Settings.read(ours) == container.Settings()
