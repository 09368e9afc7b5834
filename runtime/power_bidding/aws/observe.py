"""Logger and metrics of the Lambda functions: JSON lines with request ids, and embedded metrics."""

from __future__ import annotations

import os
import warnings

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

logger = Logger(service="power_bidding")
metrics = Metrics(namespace=os.environ.get("POWERTOOLS_METRICS_NAMESPACE", "Groundplan"))
"""The dimension `service` has the value of the environment variable `POWERTOOLS_SERVICE_NAME`."""
warnings.filterwarnings("ignore", "No application metrics to publish")


def count(name: str, value: float = 1) -> None:
    metrics.add_metric(name=name, unit=MetricUnit.Count, value=value)
