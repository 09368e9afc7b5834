"""The input of a sweep: its jobs, their cost, and refusals before the first job."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from data_centric.aws import sweep_desk
from data_centric.core.sweep import (
    Rates,
    SweepError,
    cells,
    check_cost,
    estimate,
    estimated,
    parse,
    tuning_config,
)
from local.sagemaker.api import service_model, validate
from tests.support.data_centric.sweeps import LIMITS, sweep


def test_controls_are_in_every_sweep() -> None:
    found = sweep(strategies=["glister"])
    assert found.strategies == ("full", "fewer_epochs", "adaptive_random", "glister")
    assert [(cell.id, cell.strategy, cell.fraction) for cell in cells(found, LIMITS)] == [
        ("001", "full", 1.0),
        ("002", "fewer_epochs", 0.5),
        ("003", "fewer_epochs", 0.1),
        ("004", "adaptive_random", 0.5),
        ("005", "adaptive_random", 0.1),
        ("006", "glister", 0.5),
        ("007", "glister", 0.1),
    ]


def test_strategy_without_a_fraction_has_one_job() -> None:
    found = [cell for cell in cells(sweep(), LIMITS) if cell.strategy == "infobatch"]
    assert [cell.fraction for cell in found] == [1.0]


def test_hyperparameters_become_text() -> None:
    found = sweep(hyperparameters={"epochs": 40, "augment": True})
    assert found.hyperparameters == {"epochs": "40", "augment": "true"}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"fractions": [0]}, "fractions must be numbers above 0 and up to 1, got 0"),
        ({"fractions": [1.01]}, "fractions must be numbers above 0 and up to 1, got 1.01"),
        ({"fractions": [float("nan")]}, "fractions must be numbers above 0 and up to 1, got nan"),
        ({"fractions": ["0.1"]}, "fractions must be numbers above 0 and up to 1, got '0.1'"),
        ({"fractions": [True]}, "fractions must be numbers above 0 and up to 1, got True"),
        ({"fractions": []}, "fractions must be a list that is not empty, got []"),
        ({"strategies": ["glitter"]}, "strategies must be among full, fewer_epochs, adaptive_random"),
        ({"seeds": [0, 0]}, "seeds must be a list without repetitions, got [0, 0]"),
        ({"seeds": [-1]}, "seeds must be whole numbers from 0 to 2147483647, got -1"),
        ({"seeds": [0, 1, 2, 3, 4, 5]}, "seeds must be at most 5 numbers, got 6"),
        ({"dataset": "../other"}, "dataset must be 1 to 40 letters, digits and hyphens"),
        ({"hyperparameters": {"rate": 1}}, "unknown hyperparameter rate, must be one of epochs, augment"),
        ({"hyperparameters": {"epochs": None}}, "hyperparameter epochs must be a text, a number"),
        ({"tolerance": 2}, "tolerance must be a number from 0 to 1, got 2"),
        ({"estimate_only": "yes"}, "estimate_only must be true or false, got 'yes'"),
        ({"fraction": 0.5}, "unknown field fraction, must be one of experiment, dataset"),
        ({"fractions": [n / 10 for n in range(1, 10)]}, "a sweep must have at most 20 jobs, got 29"),
    ],
)
def test_invalid_input_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SweepError) as refused:
        sweep(**changes)
    assert len(refused.value.problems) == 1
    assert refused.value.problems[0].startswith(sentence)


@pytest.mark.parametrize("given", [None, [], "digits", {}])
def test_empty_input_is_refused(given: Any) -> None:
    with pytest.raises(SweepError):
        parse(given, LIMITS)


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(SweepError) as refused:
        parse({"fractions": [2], "seeds": "0"}, LIMITS)
    assert len(refused.value.problems) == 4


def test_estimate_is_known_before_the_first_job() -> None:
    # given jobs with 3 seeds for `full`, and for the two control strategies at fractions of 50 % and 10 %
    found = sweep(strategies=["full"])
    jobs = cells(found, LIMITS)
    # when no earlier sweep has measured job durations
    first = estimate(found, jobs, Rates(3600, 0.5))
    # then the estimate has only the maximum time and cost
    assert (first["jobs"], first["runs"], first["full_runs"]) == (5, 15, 6.6)
    assert (first["most_seconds"], first["most_dollars"]) == (18_000, 2.5)
    assert (first["expected_seconds"], first["expected_dollars"]) == (None, None)
    # when an earlier sweep has measured job durations, then the estimate also has the expected cost
    second = estimate(found, jobs, Rates(3600, 0.5, full_seconds=100, start_seconds=60))
    assert (second["expected_seconds"], second["expected_dollars"]) == (960, 0.13)


@pytest.mark.parametrize(
    ("hour", "sentence"),
    [
        (0.5, "the sweep can cost 2.50 dollars, more than most_dollars, which is 2"),
        (None, "the price of the instance is"),
    ],
)
def test_sweep_above_its_limit_is_refused(hour: float | None, sentence: str) -> None:
    found = sweep(strategies=["full"], most_dollars=2)
    cost = estimate(found, cells(found, LIMITS), Rates(3600, hour))
    with pytest.raises(SweepError, match=sentence):
        check_cost(found, cost)
    check_cost(replace(found, most_dollars=None), cost)


SEARCH = {"strategies": ["glister"], "fractions": [0.5, 0.05], "search": {"jobs": 8, "at_once": 2}}


def test_search_lists_the_controls_at_the_ends_of_its_range() -> None:
    found = sweep(**SEARCH)
    assert [(cell.strategy, cell.fraction) for cell in cells(found, LIMITS)] == [
        ("full", 1.0),
        ("fewer_epochs", 0.5),
        ("fewer_epochs", 0.05),
        ("adaptive_random", 0.5),
        ("adaptive_random", 0.05),
    ]
    # and the estimate includes the search's jobs, each with the middle of the range as its fraction
    assert [cell.fraction for cell in estimated(found, LIMITS)[5:]] == [0.275] * 8


def test_search_is_a_tuning_job_over_the_fraction() -> None:
    assert tuning_config(sweep()) is None
    config = tuning_config(sweep(**SEARCH))
    assert config is not None
    (fraction,) = config["ParameterRanges"]["ContinuousParameterRanges"]
    assert (fraction["Name"], fraction["MinValue"], fraction["MaxValue"]) == ("fraction", "0.05", "0.5")
    assert (config["Strategy"], config["TrainingJobEarlyStoppingType"]) == ("Bayesian", "Off")
    accepted = {"HyperParameterTuningJobName": "x", "HyperParameterTuningJobConfig": config}
    model = service_model().operation_model("CreateHyperParameterTuningJob")
    validate(model.input_shape, accepted)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"strategies": ["glister", "infobatch"]}, "for a search, strategies must have exactly one"),
        ({"strategies": ["infobatch"]}, "for a search, strategies must have exactly one"),
        ({"strategies": ["full"]}, "for a search, strategies must have exactly one"),
        ({"fractions": [0.5]}, "for a search, fractions must be the two ends of the range, got 0.5"),
        ({"search": {}}, "search: jobs must be a whole number from 1 to 20, got None"),
        ({"search": {"jobs": 2, "at_once": 3}}, "search: at_once must be a whole number from 1 to 2, got 3"),
        ({"search": {"jobs": 8, "at_once": 3}}, "search: at_once must be a whole number from 1 to 2, got 3"),
        ({"search": {"jobs": 2, "method": "Grid"}}, "search: method must be one of Bayesian, Random"),
        ({"search": {"jobs": 2, "seed": 1}}, "search: unknown field seed, must be one of method, jobs"),
        ({"search": 8}, "search must be an object, got 8"),
        ({"search": {"jobs": 16}}, "a sweep must have at most 20 jobs, got 21"),
    ],
)
def test_invalid_search_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SweepError) as refused:
        sweep(**SEARCH | changes)
    assert refused.value.problems[0].startswith(sentence)


def test_sweep_can_be_written_as_json() -> None:
    assert asdict(sweep())["fractions"] == (0.5, 0.1)


@pytest.mark.parametrize(("price", "expected"), [(0.25, 0.75), (None, None)])
def test_price_is_of_all_hosts_of_a_job(
    price: float | None, expected: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setattr(sweep_desk, "settings", lambda: {"instance_type": "ml.m5.xlarge", "hosts": 3})
    monkeypatch.setattr(sweep_desk.instance_prices, "hourly", lambda *_: price)
    assert sweep_desk.hourly_price() == expected
