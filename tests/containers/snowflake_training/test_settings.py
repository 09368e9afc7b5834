"""Hyperparameters: the error of an invalid value is one sentence with the name and the allowed values."""

from __future__ import annotations

from dataclasses import MISSING, fields

import pytest

from snowflake_xgboost.settings import Settings, name_of
from toolkit.failure import FatalError

NEEDED = {"secret": "s", "table": "t", "target": "y"}
WRONG = {
    "secret": " ",
    "table": "a b",
    "target": "",
    "mode": "predict",
    "validation_fraction": "1",
    "seed": "-1",
    "rounds": "0",
    "early_stopping_rounds": "2.5",
    "blanks": "mean",
    "coordinates": "LATITUDE",
    "checkpoint_every": "often",
    "record_rows": "yes",
    "timeout": "1",
    "max_depth": "31",
    "eta": "0",
    "subsample": "1.1",
    "colsample_bytree": "nan",
    "min_child_weight": "-1",
    "lambda": "inf",
    "alpha": "none",
    "gamma": "1e99",
    "objective": "binary:logistic",
    "tree_method": "exact",
    "nthread": "two",
}


def test_every_hyperparameter_has_a_test_of_an_invalid_value():
    assert set(WRONG) == {name_of(field.name) for field in fields(Settings)}


@pytest.mark.parametrize(("name", "value"), WRONG.items())
def test_invalid_value_is_refused_with_the_allowed_ones(name: str, value: str):
    with pytest.raises(FatalError) as raised:
        Settings.read(NEEDED | {name: value})
    (field,) = (field for field in fields(Settings) if name_of(field.name) == name)
    assert str(raised.value) == f"hyperparameter {name} must be {field.metadata['allowed']}, got {value!r}"


@pytest.mark.parametrize("name", NEEDED)
def test_missing_required_hyperparameter_is_refused(name: str):
    given = {key: value for key, value in NEEDED.items() if key != name}
    with pytest.raises(FatalError, match=f"^hyperparameter {name} is missing, must be"):
        Settings.read(given)


def test_unknown_hyperparameter_is_refused_unless_it_is_sagemakers():
    with pytest.raises(FatalError, match="hyperparameter max_dept is unknown, must be one of alpha, "):
        Settings.read(NEEDED | {"max_dept": "3"})
    Settings.read(NEEDED | {"sagemaker_region": "x", "_tuning_objective_metric": "validation:rmse"})


def test_all_defaults_are_allowed():
    given = {
        name_of(field.name): _text(field.default)
        for field in fields(Settings)
        if field.default is not MISSING
    }
    assert Settings.read(NEEDED | given) == Settings.read(NEEDED)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else "" if value == () else str(value)


def test_parameters_of_xgboost_keep_their_names():
    told = Settings.read(NEEDED | {"lambda": "2", "eta": "0.1"}).booster_parameters()
    assert (told["lambda"], told["eta"], told["eval_metric"]) == (2.0, 0.1, "rmse")
