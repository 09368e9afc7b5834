"""Logs and metrics of the Lambda functions: JSON lines with request ids, and metrics in the same log."""

from __future__ import annotations

import os
import warnings

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

logger = Logger(service="personalization")
"""This logger is also the parent of the loggers of all modules of this package."""
metrics = Metrics(namespace=os.environ.get("POWERTOOLS_METRICS_NAMESPACE", "Groundplan"))
"""The dimension `service` has the value of the environment variable `POWERTOOLS_SERVICE_NAME`."""
warnings.filterwarnings("ignore", "No application metrics to publish")


def count(name: str, value: float) -> None:
    unit = MetricUnit.Seconds if name.endswith("Seconds") else MetricUnit.Count
    metrics.add_metric(name=name, unit=unit, value=value)
