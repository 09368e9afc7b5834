"""States of alarms by CloudWatch's documented rules."""

from __future__ import annotations

from typing import Any

import pytest

from local.emulator import alarms


def state(values: dict[str, alarms.Series], **alarm: Any) -> str | None:
    """Return the state of an alarm whose metrics have these values in its periods, the latest first."""

    def lookup(metric: dict[str, Any], statistic: str, period: int, periods: int) -> alarms.Series:
        return values[metric["MetricName"]]

    base = {"ComparisonOperator": "GreaterThanThreshold", "Threshold": 0.0}
    base["EvaluationPeriods"] = len(next(iter(values.values())))
    judged = alarms.judge(base | alarm, lookup)
    return judged and judged[0]


def metric(name: str) -> dict[str, Any]:
    stat = {"Metric": {"MetricName": name, "Namespace": "n"}, "Stat": "Sum", "Period": 60}
    return {"Id": name, "MetricStat": stat, "ReturnData": False}


def test_one_metric_against_its_threshold() -> None:
    assert state({"a": [1]}, MetricName="a") == "ALARM"
    assert state({"a": [0]}, MetricName="a") == "OK"
    assert state({"a": [1, 0]}, MetricName="a") == "OK"  # by default, all periods must breach the threshold
    # DatapointsToAlarm is the number of periods that must breach the threshold
    assert state({"a": [1, 0]}, MetricName="a", DatapointsToAlarm=1) == "ALARM"


@pytest.mark.parametrize(
    ("treatment", "wanted"),
    [("missing", "INSUFFICIENT_DATA"), ("notBreaching", "OK"), ("breaching", "ALARM"), ("ignore", None)],
)
def test_missing_data_is_treated_as_configured(treatment: str, wanted: str | None) -> None:
    assert state({"a": [None]}, MetricName="a", TreatMissingData=treatment) == wanted


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("a + b", "OK"),  # the sum is missing if one of its values is missing
        ("FILL(a, 0) + FILL(b, 0)", "ALARM"),
        ("SUM([a, b])", "ALARM"),
        ("2 * (a - 3)", "OK"),
        ("a / 0", "OK"),
        ("-a", "OK"),
    ],
)
def test_metric_math(expression: str, wanted: str) -> None:
    metrics = [{"Id": "e", "Expression": expression}, metric("a"), metric("b")]
    assert state({"a": [2], "b": [None]}, Metrics=metrics, TreatMissingData="notBreaching") == wanted


@pytest.mark.parametrize("expression", ["ANOMALY_DETECTION_BAND(a)", "a if a else b", "nobody + 1"])
def test_unsupported_arithmetic_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r"not implemented|none of the IDs"):
        state({"a": [1]}, Metrics=[{"Id": "e", "Expression": expression}, metric("a")])
