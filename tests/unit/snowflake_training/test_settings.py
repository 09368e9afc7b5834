"""Settings of snowflake_training."""

from __future__ import annotations

from dataclasses import MISSING, fields

import pytest

import snowflake_xgboost.settings
from settings import load
from settings.snowflake_training import SnowflakeTraining, XGBoostHyperparameters
from tests.support.settings import error

NAME = "snowflake_training"


def test_hyperparameters_are_overridden_as_the_command_line_gives_them():
    found = load(
        {f"{NAME}.hosts": "4", f"{NAME}.hyperparameters.eta": "0.1", f"{NAME}.hyperparameters.lambda": "2"}
    ).of(SnowflakeTraining)
    assert found.hosts == 4
    assert (found.hyperparameters.eta, found.hyperparameters.lambda_) == (0.1, 2)
    assert found.table == load({}).of(SnowflakeTraining).table


def test_serverless_memory_of_4096_mb_is_accepted():
    assert load({f"{NAME}.serverless_memory_mb": "4096"}).of(SnowflakeTraining).serverless_memory_mb == 4096


@pytest.mark.parametrize(
    ("field", "instance", "allowed"),
    [
        # SageMaker does not offer this size of the instance family for this use
        ("instance_type", "ml.c5.large", "ml.c5 in the sizes xlarge, 2xlarge, 4xlarge, 9xlarge"),
        ("notebook_instance_type", "ml.t3.nano", "ml.t3 in the sizes medium, large, xlarge, 2xlarge"),
        # XGBoost's CPU build cannot use the GPU of this instance type
        ("instance_type", "ml.g5.xlarge", "an x86 instance type for SageMaker training, without a GPU"),
    ],
)
def test_invalid_instance_type_is_refused_with_the_allowed_ones(field: str, instance: str, allowed: str):
    assert error({f"{NAME}.{field}": instance}).startswith(f"{NAME}.{field} must be {allowed}")


def test_hyperparameters_are_converted_to_text():
    texts = load({f"{NAME}.hyperparameters.record_rows": "true"}).of(SnowflakeTraining).hyperparameters
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
        # the default of `coordinates` is for the demonstration's table, so the container has another default
        if field.name != "coordinates":
            assert field.default is not MISSING
            assert getattr(theirs, field.name) == field.default, field.name
