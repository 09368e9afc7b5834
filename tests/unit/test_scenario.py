"""Metrics of scenarios, each with a meaning, and the results of a run."""

import importlib
import math

import pytest

import architectures
from scenarios import Metric, Report, ScenarioError, ScenarioResult, aws
from scenarios.measuring import measure

LOW = Metric("error", "how wrong it is", "$", "lower", 0.42)
HIGH = Metric("coverage", "how much of it", "", "higher", 1)


@pytest.mark.parametrize(
    ("metric", "value", "reached"),
    [(LOW, 0.42, True), (LOW, 0.43, False), (HIGH, 1, True), (HIGH, 0.99, False), (LOW, math.nan, False)],
)
def test_value_at_the_bound_is_reached(metric, value, reached):
    assert metric.reached(value) is reached


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"meaning": " "}, "must have a meaning"),
        ({"meaning": "m", "better": "smaller"}, "'higher', 'lower'"),
        ({"meaning": "m", "bound": 1.0}, "better must be 'higher' or 'lower'"),
    ],
)
def test_metric_without_a_complete_description_is_refused(wrong, told):
    with pytest.raises(ValueError, match=told):
        Metric("x", **wrong)


def test_undeclared_metric_is_refused():
    with pytest.raises(ValueError, match="metrics that are not declared: speed"):
        ScenarioResult({"error": 0.4, "speed": 3}, (LOW,), [], Report())


def test_missed_metric_is_reported_with_its_bound():
    result = ScenarioResult({"error": 0.5, "coverage": 1}, (LOW, HIGH), [], Report())
    assert result.missed() == ["error must be at most 0.42, got 0.5"]


@pytest.mark.parametrize(("low", "misses"), [(0.41, 0), (0.43, 1)])
def test_estimate_misses_its_bound_when_its_whole_interval_does(low, misses):
    declared = (LOW, Metric("error_low", "the interval's lower end"))
    assert len(ScenarioResult({"error": 0.44, "error_low": low}, declared, [], Report()).missed()) == misses


@pytest.mark.parametrize("name", architectures.BY_NAME)
def test_every_scenario_declares_each_metric_once(name):
    scenario = importlib.import_module(architectures.BY_NAME[name].scenario)
    names = [metric.name for metric in scenario.METRICS]
    assert names
    assert len(names) == len(set(names))
    assert callable(scenario.run)


def test_address_on_aws_is_used_unchanged(monkeypatch):
    monkeypatch.delenv("GROUNDPLAN_ADDRESS", raising=False)
    assert aws.address("https://a1.execute-api.eu-west-1.amazonaws.com/") == (
        "https://a1.execute-api.eu-west-1.amazonaws.com"
    )


def test_address_is_resolved_by_the_environment(monkeypatch):
    monkeypatch.setenv("GROUNDPLAN_ADDRESS", "http://{label}.{service}.here:4566")
    assert aws.address("https://a1.execute-api.eu-west-1.amazonaws.com/") == "http://a1.execute-api.here:4566"
    assert aws.address("https://d2.cloudfront.net/page") == "http://d2.cloudfront.here:4566/page"


def test_failed_benchmark_is_reported_with_its_exit(tmp_path, monkeypatch):
    (tmp_path / "failing.py").write_text("print('first')\nraise SystemExit('no room left')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    told = []
    with pytest.raises(ScenarioError, match="failing failed: first … no room left"):
        measure("failing", tmp_path / "figures.json", told.append)
    assert told == ["first", "no room left"]


def test_benchmark_returns_its_written_figures(tmp_path, monkeypatch):
    program = "import json, sys\njson.dump({'given': sys.argv[3:]}, open(sys.argv[2], 'w'))\n"
    (tmp_path / "measuring_me.py").write_text(program)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    figures = measure("measuring_me", tmp_path / "figures.json", print, "--seeds", "3")
    assert figures == {"given": ["--seeds", "3"]}
