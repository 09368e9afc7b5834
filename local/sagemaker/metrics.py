"""Metrics of a training job: values that regular expressions match in log lines, sent to CloudWatch."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

NAMESPACE = "/aws/sagemaker/TrainingJobs"
BATCH = 500  # CloudWatch allows 1,000 values in a request


class Metrics:
    """Values that one job's `MetricDefinitions` match in its log lines. Thread-safe.

    A value is the first group of the definition's expression, if that is a number.
    """

    def __init__(self, definitions: Iterable[Mapping[str, str]]):
        self._expressions = [(each["Name"], re.compile(each["Regex"])) for each in definitions]
        self._lock = threading.Lock()
        self._last: dict[str, dict[str, Any]] = {}
        self._values: dict[str, list[float]] = {}
        self._unsent: list[dict[str, Any]] = []

    def read(self, line: str) -> None:
        for name, expression in self._expressions:
            if not (match := expression.search(line)):
                continue
            try:
                value = float(match[1])
            except (TypeError, ValueError):
                continue
            found = {"MetricName": name, "Value": value, "Timestamp": round(time.time(), 3)}
            with self._lock:
                self._last[name] = found
                self._values.setdefault(name, []).append(value)
                self._unsent.append(found)

    def final(self) -> list[dict[str, Any]]:
        """Return the last value of each metric, in the format of `FinalMetricDataList`."""
        with self._lock:
            return list(self._last.values())

    def values(self, name: str) -> list[float]:
        """Return all values of a metric so far, in order."""
        with self._lock:
            return list(self._values.get(name, []))

    def send(self, cloudwatch: Any, job: str) -> None:
        """Send the values found since the last call. Raises the client's errors."""
        with self._lock:
            values, self._unsent = self._unsent, []
        dimensions = [{"Name": "TrainingJobName", "Value": job}]
        for start in range(0, len(values), BATCH):
            cloudwatch.put_metric_data(
                Namespace=NAMESPACE,
                MetricData=[value | {"Dimensions": dimensions} for value in values[start : start + BATCH]],
            )


def check(definitions: Iterable[Mapping[str, str]]) -> None:
    """Raise ValueError naming the first definition whose expression is invalid or has no group."""
    for each in definitions:
        try:
            groups = re.compile(each["Regex"]).groups
        except re.error as error:
            raise ValueError(f"The regex of metric {each['Name']} is not valid: {error}") from None
        if not groups:
            raise ValueError(f"The regex of metric {each['Name']} has no group that captures the value")
