"""Evaluation of the values, conditions, durations and retry policies of pipelines."""

from __future__ import annotations

from typing import Any

import pytest

from local.sagemaker.api import ApiError
from local.sagemaker.pipelines import caching, conditions, retries
from local.sagemaker.pipelines.expressions import Evaluator, NoValueError, find, json_path, parse_path
from local.sagemaker.pipelines.retries import AUTOMATIC, RetryPolicy
from tests.support.pipelines import compare, get, join, metric

DOCUMENT = {"metrics": {"rmse": 0.25, "list": [{"value": 1}, {"value": 2}], "a b": True}}
JOB = {
    "TrainingJobName": "pipelines-1",
    "FinalMetricDataList": [
        {"MetricName": "val:rmse", "Value": 0.5},
        {"MetricName": "val:mae", "Value": 0.1},
    ],
    "HyperParameters": {"rate": "3"},
}


def read(uri: str) -> Any:
    if uri != "s3://bucket/metrics.json":
        raise NoValueError(f"{uri} is not there")
    return DOCUMENT


EVALUATOR = Evaluator(
    {"Text": "t", "Count": 3, "Share": 0.5, "Sure": True},
    {"PipelineName": "p"},
    {"Train": JOB, "Check": {"Outcome": False}}.__getitem__,
    lambda step, file: f"s3://bucket/{file.lower()}.json",
    read,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("plain", "plain"),
        ({"a": [get("Parameters.Count")]}, {"a": [3]}),
        (get("Execution.PipelineName"), "p"),
        (get("Steps.Train.TrainingJobName"), "pipelines-1"),
        (get("Steps.Train.FinalMetricDataList['val:mae'].Value"), 0.1),
        (get("Steps.Train.FinalMetricDataList[0].Value"), 0.5),
        (get("Steps.Train.HyperParameters['rate']"), "3"),
        (join("s3:/", get("Parameters.Text"), 5, 0.5, True, on="/"), "s3://t/5/0.5/true"),
        (join("outcome ", get("Steps.Check.Outcome")), "outcome false"),
        (join(join("a", "b"), metric("metrics.rmse")), "ab0.25"),
        (metric("$.metrics.list[1].value"), 2),
        (metric("metrics['a b']"), True),
        ({"Std:JsonGet": {"S3Uri": join("s3://bucket/", "metrics.json"), "Path": "metrics.rmse"}}, 0.25),
    ],
)
def test_reference_is_replaced_by_its_value(value: Any, expected: Any) -> None:
    assert EVALUATOR.value(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        get("Steps.Train.FinalMetricDataList['val:auc'].Value"),
        get("Steps.Train.FailureReason"),
        get("Steps.Other.TrainingJobName"),
        metric("metrics.mae"),
        metric("metrics.rmse.deeper"),
        metric("metrics.rmse", file="Other"),
    ],
)
def test_value_that_is_missing_is_an_error(value: Any) -> None:
    with pytest.raises(NoValueError):
        EVALUATOR.value(value)


def test_current_time_is_iso_8601() -> None:
    now = EVALUATOR.value(get("Execution.CurrentDateTime"))
    assert (len(now), now[10], now[-1]) == (24, "T", "Z")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a", ("a",)),
        (".a.b-c", ("a", "b-c")),
        ("a[0]['b c'].d", ("a", 0, "b c", "d")),
        ('["a"]', ("a",)),
        ("a b", None),
        ("a..b", None),
        ("a[b]", None),
        ("a[0]b", None),
        (".", None),
    ],
)
def test_path_is_parsed_completely_or_refused(text: str, path: Any) -> None:
    assert parse_path(text) == path


def test_item_is_found_by_its_name() -> None:
    outputs = [
        {"OutputName": "a", "S3Output": {"S3Uri": "1"}},
        {"OutputName": "b", "S3Output": {"S3Uri": "2"}},
    ]
    assert find({"Outputs": outputs}, ("Outputs", "b", "S3Output", "S3Uri")) == "2"


@pytest.mark.parametrize("path", ["$..a", "a[*]", "a[?(@.b)]", "a[0:]", "a[0,1]"])
def test_json_path_to_several_values_is_unsupported(path: str) -> None:
    with pytest.raises(ApiError, match="which may name several values") as error:
        json_path(path)
    assert error.value.code == "NotImplementedByLocalCloud"


# Conditions


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (compare("Equals", get("Parameters.Text"), "t"), True),
        (compare("Equals", get("Parameters.Count"), 3.0), True),
        (compare("Equals", get("Parameters.Sure"), True), True),
        (compare("GreaterThan", metric("metrics.rmse"), 0.25), False),
        (compare("GreaterThanOrEqualTo", metric("metrics.rmse"), 0.25), True),
        (compare("LessThan", 2, get("Parameters.Count")), True),
        (compare("LessThanOrEqualTo", "b", "a"), False),
        ({"Type": "In", "QueryValue": get("Parameters.Text"), "Values": ["s", "t"]}, True),
        ({"Type": "In", "QueryValue": get("Parameters.Text"), "Values": []}, False),
        ({"Type": "Not", "Condition": compare("Equals", 1, 1)}, False),
        ({"Type": "Or", "Conditions": [compare("Equals", 1, 2), compare("Equals", 1, 1)]}, True),
        ({"Type": "Or", "Conditions": []}, False),
    ],
)
def test_condition_is_evaluated(condition: dict[str, Any], expected: bool) -> None:
    assert conditions.holds(condition, EVALUATOR) is expected


@pytest.mark.parametrize(
    "condition",
    [
        compare("Equals", metric("metrics"), 1),
        compare("Equals", metric("metrics.rmse"), "0.25"),
        compare("LessThan", metric("metrics['a b']"), True),
    ],
)
def test_values_that_cannot_be_compared_are_an_error(condition: dict[str, Any]) -> None:
    with pytest.raises(NoValueError, match="cannot compare"):
        conditions.holds(condition, EVALUATOR)


# Caching

DAY = 86_400


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [
        ("30d", 30 * DAY),
        ("P30D", 30 * DAY),
        ("5y", 5 * 365 * DAY),
        ("T16m", 16 * 60),
        ("PT1H", 3_600),
        ("30dT5h", 30 * DAY + 5 * 3_600),
        ("p4dt12h", 4 * DAY + 12 * 3_600),
        ("2w", 14 * DAY),
        ("1m", 30 * DAY),
        ("", None),
        ("P", None),
        ("PT", None),
        ("5", None),
        ("PT5S", None),
        ("1.5d", None),
        ("an hour", None),
    ],
)
def test_duration_is_parsed_in_the_format_of_aws(duration: str, seconds: int | None) -> None:
    assert caching.seconds_of(duration) == seconds


def test_cache_key_is_of_values_not_of_their_order() -> None:
    assert caching.key_of({"a": 1, "b": {"c": 2}}) == caching.key_of({"b": {"c": 2}, "a": 1})
    assert caching.key_of({"a": 1}) != caching.key_of({"a": "1"})


# Retries


@pytest.mark.parametrize(
    ("policy", "delays"),
    [
        ({}, [1.0, 2.0, 4.0, 8.0, 16.0, None]),
        ({"IntervalSeconds": 3, "BackoffRate": 1, "MaxAttempts": 2}, [3, 3, None]),
        ({"MaxAttempts": 0}, [None]),
        ({"IntervalSeconds": 20, "BackoffRate": 2.0, "ExpireAfterMin": 1}, [20, 40, None]),
        ({"ExpireAfterMin": 0}, [None]),
    ],
)
def test_retries_follow_their_policy(policy: dict[str, Any], delays: list[float | None]) -> None:
    # given a policy, and a step whose attempts fail immediately
    (found,) = retries.parse([{"ExceptionType": ["Step.THROTTLING"]} | policy], jobs=True)
    elapsed, seen = 0.0, []
    # when the step is retried as long as the policy allows
    for made in range(len(delays)):
        seen.append(found.delay(made, elapsed))
        elapsed += seen[-1] or 0
    # then
    assert seen == delays


def test_first_policy_for_an_exception_decides() -> None:
    capacity, other = RetryPolicy((retries.CAPACITY_ERROR,)), RetryPolicy((retries.THROTTLING,))
    assert retries.policy_for(retries.CAPACITY_ERROR, (other, capacity)) == (1, capacity)
    assert retries.policy_for(retries.THROTTLING, (other, capacity)) == (0, other)
    assert retries.policy_for(retries.SERVICE_FAULT, (other, capacity)) == (-1, AUTOMATIC)
    assert retries.policy_for(retries.INTERNAL_ERROR, (other, capacity)) is None
    assert retries.policy_for(None, (other, capacity)) is None


@pytest.mark.parametrize(
    ("code", "status", "exception"),
    [
        ("ThrottlingException", 400, retries.THROTTLING),
        ("ResourceLimitExceeded", 400, retries.RESOURCE_LIMIT),
        ("InternalFailure", 500, retries.SERVICE_FAULT),
        ("InsufficientStorage", 507, retries.SERVICE_FAULT),
        ("NotImplementedByLocalCloud", 501, None),
        ("ValidationException", 400, None),
        ("AccessDeniedException", 400, None),
    ],
)
def test_errors_of_requests_have_exception_types(code: str, status: int, exception: str | None) -> None:
    assert retries.exception_of(ApiError(code, "", status)) == exception


@pytest.mark.parametrize(
    ("reason", "exception"),
    [
        ("InternalServerError: We encountered an internal error.", retries.INTERNAL_ERROR),
        ("CapacityError: Unable to provision requested ML compute capacity.", retries.CAPACITY_ERROR),
        ("AlgorithmError: , exit code: 1", None),
    ],
)
def test_failures_of_jobs_have_exception_types(reason: str, exception: str | None) -> None:
    assert retries.exception_of_job(reason) == exception
