"""What the Lambdas tell those who run them: JSON lines with request ids, and metrics inside them."""

from __future__ import annotations

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

logger = Logger(service="personalization")
"""Also the parent of every module's own logger here."""
metrics = Metrics(service="personalization", namespace="Groundplan")


def count(name: str, value: float) -> None:
    unit = MetricUnit.Seconds if name.endswith("Seconds") else MetricUnit.Count
    metrics.add_metric(name=name, unit=unit, value=value)
