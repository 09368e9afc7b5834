"""Settings: the defaults, single overrides, and one sentence for each wrong value."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

from settings import ENVIRONMENTS, Settings, SettingsError, SnowflakeTraining, XGBoostHyperparameters, load

ROOT = Path(__file__).resolve().parents[2]
P = "snowflake_training"


def error(context: dict[str, Any]) -> str:
    with pytest.raises(SettingsError) as caught:
        load(context)
    return str(caught.value)


def test_without_a_choice_it_is_dev():
    assert load({}) == load({"env": "dev"})
    assert load({}).env == "dev"


def test_prod_keeps_its_data_and_dev_does_not():
    assert load({"env": "prod"}).snowflake_training.retain is True
    assert load({"env": "dev"}).snowflake_training.retain is False


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
    ).snowflake_training
    assert (found.hosts, found.retain, found.log_retention_days) == (4, True, 90)
    assert found.subnet_ids == ("subnet-0123abcd", "subnet-0123abce")
    assert (found.hyperparameters.eta, found.hyperparameters.lambda_) == (0.1, 2)
    assert found.table == load({}).snowflake_training.table


def test_a_number_from_a_list_must_be_on_the_list():
    assert error({f"{P}.log_retention_days": "8"}).startswith(
        f"{P}.log_retention_days is 8, allowed is: one of 1, "
    )
    assert load({f"{P}.serverless_memory_mb": "4096"}).snowflake_training.serverless_memory_mb == 4096


def test_an_override_goes_over_the_environments_own_value():
    assert load({"env": "prod", f"{P}.retain": "false"}).snowflake_training.retain is False
    assert load({"env": "prod"}).snowflake_training.retain is True


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


def test_every_setting_is_tried_with_a_wrong_value():
    assert set(WRONG) | {"hyperparameters"} == set(SnowflakeTraining.model_fields)
    names = {info.alias or name for name, info in XGBoostHyperparameters.model_fields.items()}
    assert set(WRONG_HYPERPARAMETERS) == names


@pytest.mark.parametrize(
    ("path", "model", "value"),
    [(name, SnowflakeTraining, value) for name, value in WRONG.items()]
    + [
        (f"hyperparameters.{name}", XGBoostHyperparameters, value)
        for name, value in WRONG_HYPERPARAMETERS.items()
    ],
)
def test_a_wrong_value_is_answered_by_its_own_sentence(path, model, value):
    name = path.rpartition(".")[2]
    allowed = next(i.description for n, i in model.model_fields.items() if name in (n, i.alias))
    assert error({f"{P}.{path}": value}) == f"{P}.{path} is {value!r}, allowed is: {allowed}"


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
    assert error({P: {"hosts": 2}}) == f"{P} is set one field at a time, such as {P}.hosts=2"
    assert (
        error({f"{P}.hyperparameters": "x"})
        == f"{P}.hyperparameters is 'x', allowed is: its fields, one at a time"
    )


def test_subnets_and_security_groups_come_together():
    assert error({f"{P}.subnet_ids": "subnet-0123abcd"}) == (
        f"{P}.security_group_ids is empty, allowed is: both subnet_ids and security_group_ids, or neither"
    )
    assert error({f"{P}.security_group_ids": "sg-0123abcd"}).startswith(f"{P}.subnet_ids is empty")


def test_all_wrong_values_are_told_at_once():
    lines = error({"env": "stage", f"{P}.hosts": "0", f"{P}.hyperparameters.eta": "9"}).splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["env", f"{P}.hosts", f"{P}.hyperparameters.eta"]


def test_every_field_says_what_is_allowed():
    for model in (SnowflakeTraining, XGBoostHyperparameters):
        for name, info in model.model_fields.items():
            assert info.description or name == "hyperparameters", name


def test_environments_name_only_settings_that_exist():
    assert set(ENVIRONMENTS) == {"dev", "prod"}
    for env in ENVIRONMENTS:
        assert isinstance(load({"env": env}), Settings)


def test_hyperparameters_are_texts_as_sagemaker_wants_them():
    texts = load({f"{P}.hyperparameters.record_rows": "true"}).snowflake_training.hyperparameters
    given = texts.as_hyperparameters()
    assert given["eta"] == "0.05"
    assert given["record_rows"] == "true"
    assert given["lambda"] == "1"
    assert all(isinstance(value, str) for value in given.values())


def test_the_container_reads_the_same_hyperparameters_with_the_same_defaults(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT / "containers" / "snowflake_xgboost"))
    from snowflake_xgboost import settings as container  # pyright: ignore

    ours = XGBoostHyperparameters().as_hyperparameters()
    theirs = container.Settings.read(ours | {"secret": "s", "table": "T", "target": "Y"})
    for field in fields(container.Settings):
        if field.name in ("secret", "table", "target", "mode", "tree_method"):
            continue
        assert container.name_of(field.name) in ours, f"the container also reads {field.name}"
        if field.name != "coordinates":  # which are the demonstration's, not the container's
            assert field.default is not MISSING
            assert getattr(theirs, field.name) == field.default, field.name


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
