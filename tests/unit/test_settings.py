"""Settings: the defaults, single overrides, and one sentence for each wrong value."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_args

import pytest

import personalization_finetune.settings
import snowflake_xgboost.settings
from settings import Settings, SettingsError, load
from settings.base import Environment
from settings.loading import KINDS
from settings.personalization import FineTuning, Limits, Pace, Personalization
from settings.snowflake_training import SnowflakeTraining, XGBoostHyperparameters

ROOT = Path(__file__).resolve().parents[2]
P, Q = "snowflake_training", "personalization"


def error(context: dict[str, Any]) -> str:
    with pytest.raises(SettingsError) as caught:
        load(context)
    return str(caught.value)


def test_without_a_choice_it_is_dev():
    assert load({}) == load({"env": "dev"})
    assert load({}).env == "dev"


def test_prod_keeps_its_data_and_dev_does_not():
    assert load({"env": "prod"}).of(SnowflakeTraining).retain is True
    assert load({"env": "dev"}).of(SnowflakeTraining).retain is False


def test_single_values_are_overridden_as_the_command_line_gives_them():
    found = load(
        {
            f"{P}.hosts": "4",
            f"{P}.retain": "true",
            f"{P}.log_retention_days": "90",
            f"{P}.subnet_ids": "subnet-0123abcd, subnet-0123abce",
            f"{P}.security_group_ids": "sg-0123abcd",
            f"{P}.hyperparameters.eta": "0.1",
            f"{P}.hyperparameters.lambda": "2",
        }
    ).of(SnowflakeTraining)
    assert (found.hosts, found.retain, found.log_retention_days) == (4, True, 90)
    assert found.subnet_ids == ("subnet-0123abcd", "subnet-0123abce")
    assert (found.hyperparameters.eta, found.hyperparameters.lambda_) == (0.1, 2)
    assert found.table == load({}).of(SnowflakeTraining).table


def test_a_number_from_a_list_must_be_on_the_list():
    assert error({f"{P}.log_retention_days": "8"}).startswith(
        f"{P}.log_retention_days is 8, allowed is: one of 1, "
    )
    assert load({f"{P}.serverless_memory_mb": "4096"}).of(SnowflakeTraining).serverless_memory_mb == 4096


def test_an_override_goes_over_the_environments_own_value():
    assert load({"env": "prod", f"{P}.retain": "false"}).of(SnowflakeTraining).retain is False
    assert load({"env": "prod"}).of(SnowflakeTraining).retain is True


def test_the_cdks_own_context_is_left_alone():
    assert load({"@aws-cdk/core:checkSecretUsage": True, "aws:cdk:x": 1, "availability-zones": []}) == load(
        {}
    )


@pytest.mark.parametrize("key", ["hosts", "snowflke_training.hosts", "prod.hosts"])
def test_a_setting_under_another_name_is_not_passed_over(key: str):
    assert error({key: "4"}) == (f"{key} is not a setting, they begin with an architecture's name: {P}.hosts")


WRONG = {
    "retain": "perhaps",
    "own_key": "2",
    "log_retention_days": "a week",
    "alarm_email": "nobody",
    "subnet_ids": "subnet-1",
    "security_group_ids": "mine",
    "secret_name": "with space",
    "create_secret": "maybe",
    "table": "a.b.c.d",
    "target": "no-column",
    "hosts": "0",
    "instance_type": "m5.xlarge",
    "volume_gb": "0",
    "max_runtime_minutes": "50000",
    "minimum_improvement": "1",
    "endpoint_name": "Upper_Case",
    "serverless_memory_mb": "2 GB",
    "serverless_concurrency": "201",
    "deployment_minutes": "x",
    "notebook": "no thanks",
    "notebook_instance_type": "t3",
}
WRONG_HYPERPARAMETERS = {
    "rounds": "0",
    "early_stopping_rounds": "-1",
    "max_depth": "31",
    "eta": "0",
    "subsample": "1.1",
    "colsample_bytree": "nan",
    "min_child_weight": "-1",
    "gamma": "inf",
    "lambda": "-2",
    "alpha": "x",
    "objective": "binary:logistic",
    "validation_fraction": "0.95",
    "seed": "1.5",
    "blanks": "fill",
    "coordinates": "LATITUDE",
    "checkpoint_every": "-5",
    "record_rows": "some",
    "timeout": "1",
    "nthread": "-1",
}


SHARED = ("retain", "own_key", "log_retention_days", "alarm_email", "subnet_ids", "security_group_ids")
WRONG_PERSONALIZATION = {name: WRONG[name] for name in SHARED} | {
    "base": "s3://no folder",
    "endpoint_name": "a-name-of-more-than-thirty-six-letters",
    "training_instance_type": "ml.g5g.xlarge",
    "hosts_max": "31",
    "tasks_per_host": "0",
    "volume_gb": "0",
    "max_runtime_minutes": "50000",
    "spot": "sometimes",
    "keep_alive_seconds": "3601",
    "serving_instance_type": "ml.p5.48xlarge",
    "serving_registry": "a registry",
    "min_instances": "0",
    "max_instances": "none",
    "invocations_per_instance": "0",
    "serving_memory_mb": "1",
    "steps_per_image": "-1",
    "seconds_per_step": "0",
    "prompts": "a photo of {name}",
    "reserved_concurrency": "-1",
    "sweep_minutes": "61",
    "self_sign_up": "2",
    "point_in_time_recovery": "perhaps",
    "deletion_protection": "perhaps",
}
WRONG_LIMITS = {
    "models": "0",
    "active": "101",
    "requests_per_minute": "0",
    "pictures_per_minute": "3",
    "images_min": "0",
    "images_max": "101",
    "image_bytes": "10",
    "image_pixels": "9",
    "model_pixels": "9",
    "image_side": "31",
    "prompt_chars": "2001",
}
WRONG_PACE = {
    "rate": "0",
    "burst": "0",
    "max_attempts": "11",
    "max_launches": "0",
    "stale_seconds": "0",
    "tombstone_seconds": "899",
}
WRONG_FINE_TUNING = {
    "method": "qlora",
    "targets": "everything",
    "rank": "0",
    "alpha": "0",
    "rank_falloff": "5",
    "train_text_encoder": "a bit",
    "steps": "0",
    "batch_size": "257",
    "optimizer": "adam",
    "learning_rate": "nan",
    "warmup": "0.6",
    "resolution": "-1",
    "variants": "0",
    "prior_weight": "-1",
    "prior_images": "1001",
    "prior_batch": "-1",
    "precision": "int8",
    "previews": "17",
    "preview_steps": "0",
    "guidance": "0",
    "seed": "-1",
    "checkpoint_every": "-1",
    "threads": "-1",
}
GROUPS = [
    (P, SnowflakeTraining, WRONG),
    (f"{P}.hyperparameters", XGBoostHyperparameters, WRONG_HYPERPARAMETERS),
    (Q, Personalization, WRONG_PERSONALIZATION),
    (f"{Q}.limits", Limits, WRONG_LIMITS),
    (f"{Q}.pace", Pace, WRONG_PACE),
    (f"{Q}.hyperparameters", FineTuning, WRONG_FINE_TUNING),
]


@pytest.mark.parametrize(("group", "model", "wrong"), GROUPS, ids=[group[0] for group in GROUPS])
def test_every_setting_is_tried_with_a_wrong_value(group, model, wrong):
    names = {info.alias or name for name, info in model.model_fields.items()}
    assert set(wrong) == names - {"hyperparameters", "limits", "pace"}


@pytest.mark.parametrize(
    ("path", "model", "value"),
    [(f"{group}.{name}", model, value) for group, model, wrong in GROUPS for name, value in wrong.items()],
)
def test_a_wrong_value_is_answered_by_its_own_sentence(path, model, value):
    name = path.rpartition(".")[2]
    allowed = next(i.description for n, i in model.model_fields.items() if name in (n, i.alias))
    assert error({path: value}) == f"{path} is {value!r}, allowed is: {allowed}"


@pytest.mark.parametrize("value", ["stage", "", 7, None, ["dev"]])
def test_another_environment_is_answered_by_what_there_is(value):
    assert error({"env": value}) == f"env is {value!r}, allowed is: dev or prod"


def test_a_setting_that_does_not_exist_is_answered_by_those_that_do():
    text = error({f"{P}.host": "2"})
    assert text.startswith(f"{P}.host is not a setting, allowed are: ")
    assert "hosts" in text
    assert error({f"{P}.hyperparameters.learning_rate": "2"}).startswith(
        f"{P}.hyperparameters.learning_rate is not a setting, allowed are: rounds, "
    )


def test_a_group_is_set_field_by_field():
    assert error({P: {"hosts": 2}}) == f"{P} is set one field at a time, such as {P}.retain=true"
    assert (
        error({f"{P}.hyperparameters": "x"})
        == f"{P}.hyperparameters is 'x', allowed is: its fields, one at a time"
    )


def test_subnets_and_security_groups_come_together():
    assert error({f"{P}.subnet_ids": "subnet-0123abcd"}) == (
        f"{P}.security_group_ids is empty, allowed is: both subnet_ids and security_group_ids, or neither"
    )
    assert error({f"{P}.security_group_ids": "sg-0123abcd"}).startswith(f"{P}.subnet_ids is empty")
    assert error({f"{Q}.subnet_ids": "subnet-0123abcd"}).startswith(f"{Q}.security_group_ids is empty")


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        (
            {"hosts_max": "4", "tasks_per_host": "8"},
            "tasks_per_host is 8, allowed is: at most 30 tasks on the 4 hosts of a job together",
        ),
        ({"min_instances": "3"}, "max_instances is 2, allowed is: min_instances (3) or more"),
        ({"limits.images_min": "30"}, "limits.images_max is 20, allowed is: limits.images_min (30) or more"),
    ],
)
def test_values_that_cannot_go_together_are_named(choice: dict[str, str], sentence: str):
    assert error({f"{Q}.{name}": value for name, value in choice.items()}) == f"{Q}.{sentence}"


def test_the_default_base_is_one_commit():
    assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", load({}).of(Personalization).base)


@pytest.mark.parametrize(
    "base", ["owner/name", "owner/name@fp16", "s3://some-bucket/base/", "s3://some-bucket/a/b.c/"]
)
def test_a_base_is_a_hugging_face_id_or_a_folder_in_s3(base: str):
    assert load({f"{Q}.base": base}).of(Personalization).base == base


@pytest.mark.parametrize(
    "base", ["name", "s3://some-bucket/base", "s3://", "/opt/base", "a/b/c", "https://x/y"]
)
def test_nothing_else_is_a_base(base: str):
    assert error({f"{Q}.base": base}).startswith(
        f"{Q}.base is {base!r}, allowed is: a text-to-image pipeline"
    )


@pytest.mark.parametrize("instance", ["ml.g5.xlarge", "ml.g4dn.2xlarge", "ml.m5d.large", "ml.m5.large"])
def test_an_endpoint_of_many_models_stands_on_the_instances_that_take_it(instance: str):
    chosen = load({f"{Q}.serving_instance_type": instance}).of(Personalization)
    assert chosen.serving_instance_type == instance


@pytest.mark.parametrize(
    "instance",
    ["ml.m7g.large", "ml.c6g.xlarge", "ml.inf2.xlarge", "ml.trn1.2xlarge", "ml.p3.2xlarge", "g5.xlarge"],
)
def test_an_instance_that_cannot_run_the_images_is_refused(instance: str):
    for field in ("serving_instance_type", "training_instance_type"):
        assert error({f"{Q}.{field}": instance}).startswith(
            f"{Q}.{field} is {instance!r}, allowed is: an x86"
        )


HOSTING = "an x86 instance type for SageMaker multi-model endpoints"
TRAINING = "an x86 instance type for SageMaker training"


@pytest.mark.parametrize(
    ("field", "instance", "allowed"),
    [
        # SageMaker does not offer the family for this use, or this size of it
        (
            f"{Q}.serving_instance_type",
            "ml.t3.large",
            HOSTING,
        ),
        (f"{Q}.training_instance_type", "ml.m5d.xlarge", TRAINING),
        (
            f"{P}.instance_type",
            "ml.c5.large",
            "ml.c5 in the sizes xlarge, 2xlarge, 4xlarge, 9xlarge",
        ),
        (f"{P}.notebook_instance_type", "ml.t3.nano", "ml.t3 in the sizes medium, large, xlarge, 2xlarge"),
        # The image cannot use it: Volta, Arm, no multi-model endpoints, a GPU for XGBoost's CPU build
        (f"{Q}.training_instance_type", "ml.p3.2xlarge", TRAINING),
        (
            f"{Q}.serving_instance_type",
            "ml.c7g.xlarge",
            HOSTING,
        ),
        (
            f"{Q}.serving_instance_type",
            "ml.g6.xlarge",
            HOSTING,
        ),
        (f"{P}.instance_type", "ml.g5.xlarge", "an x86 instance type for SageMaker training, without a GPU"),
    ],
)
def test_an_instance_type_is_refused_with_what_is_allowed(field: str, instance: str, allowed: str):
    assert error({field: instance}).startswith(f"{field} is {instance!r}, allowed is: {allowed}")


@pytest.mark.parametrize(
    "registry", ["123456789012.dkr.ecr.eu-central-1.amazonaws.com", "mirror.example.com:5000/aws", ""]
)
def test_the_serving_image_may_come_from_another_registry(registry: str):
    assert load({f"{Q}.serving_registry": registry}).of(Personalization).serving_registry == registry


@pytest.mark.parametrize("env", ["dev", "prod"])
def test_one_user_alone_adds_no_instance(env):
    # Target tracking counts the invocations of all users together: a user's own limit is what bounds one
    chosen = load({"env": env}).of(Personalization)
    assert chosen.limits.pictures_per_minute <= chosen.invocations_per_instance * chosen.min_instances


def test_prod_of_personalization_keeps_and_guards_more():
    dev, prod = (load({"env": env}).of(Personalization) for env in ("dev", "prod"))
    assert (prod.retain, prod.own_key, prod.point_in_time_recovery) == (True, True, True)
    assert (dev.retain, dev.own_key, dev.point_in_time_recovery) == (False, False, False)
    assert not dev.self_sign_up
    assert not prod.self_sign_up
    assert prod.hosts_max * prod.tasks_per_host <= 30


def test_all_wrong_values_are_told_at_once():
    lines = error({"env": "stage", f"{P}.hosts": "0", f"{P}.hyperparameters.eta": "9"}).splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["env", f"{P}.hosts", f"{P}.hyperparameters.eta"]


def test_every_field_says_what_is_allowed():
    for _, model, _ in GROUPS:
        for name, info in model.model_fields.items():
            assert info.description or name in ("hyperparameters", "limits", "pace"), name


def test_environments_name_only_settings_that_exist():
    for env in get_args(Environment):
        assert isinstance(load({"env": env}), Settings)
    assert {env for kind in KINDS.values() for env in kind.ENVIRONMENTS} <= set(get_args(Environment))


def test_hyperparameters_are_texts_as_sagemaker_wants_them():
    texts = load({f"{P}.hyperparameters.record_rows": "true"}).of(SnowflakeTraining).hyperparameters
    given = texts.as_texts()
    assert given["eta"] == "0.05"
    assert given["record_rows"] == "true"
    assert given["lambda"] == "1"
    assert all(isinstance(value, str) for value in given.values())


def test_the_container_reads_the_same_hyperparameters_with_the_same_defaults():
    container = snowflake_xgboost.settings
    ours = XGBoostHyperparameters().as_texts()
    theirs = container.Settings.read(ours | {"secret": "s", "table": "T", "target": "Y"})
    for field in fields(container.Settings):
        if field.name in ("secret", "table", "target", "mode", "tree_method"):
            continue
        assert container.name_of(field.name) in ours, f"the container also reads {field.name}"
        if field.name != "coordinates":  # which are the demonstration's, not the container's
            assert field.default is not MISSING
            assert getattr(theirs, field.name) == field.default, field.name


def test_fine_tuning_reads_the_same_hyperparameters_with_the_same_defaults():
    container = personalization_finetune.settings
    ours = FineTuning().as_texts()
    assert {field.name for field in fields(container.Settings)} == {*ours, "base"}
    assert container.Settings.read(ours) == container.Settings()


def test_the_app_says_it_in_one_sentence_and_ends_with_1(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "app.py")],
        cwd=tmp_path,
        env=os.environ
        | {"CDK_CONTEXT_JSON": '{"snowflake_training.hosts": "0"}', "CDK_OUTDIR": str(tmp_path / "out")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert (
        done.stderr.strip().splitlines()[-1] == f"{P}.hosts is '0', allowed is: a whole number from 1 to 64"
    )
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "out").glob("*"))
