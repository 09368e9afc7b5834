"""Settings of a sweep's Lambda functions, from environment variables, and their AWS clients."""

from __future__ import annotations

import functools
import json
import os
import warnings
from typing import Any

import boto3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from botocore.config import Config

from data_centric.aws import instance_prices
from data_centric.aws.mlflow_app import MlflowApp
from data_centric.aws.sweep_store import SweepBucket
from data_centric.aws.sweep_tuning import TuningJobs
from data_centric.core.sweep import Limits

CONFIG = Config(connect_timeout=3, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 4})
ONCE = Config(connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 1})

logger = Logger(service="data_centric")
metrics = Metrics(namespace=os.environ.get("POWERTOOLS_METRICS_NAMESPACE", "Groundplan"))
"""The dimension `service` has the value of the environment variable `POWERTOOLS_SERVICE_NAME`."""
warnings.filterwarnings("ignore", "No application metrics to publish")


def count(name: str, value: float) -> None:
    metrics.add_metric(name=name, unit=MetricUnit.Count, value=value)


def variable(name: str) -> str:
    """Return an environment variable. Raises `ValueError` if it is not set."""
    value = os.environ.get(name)
    if not value:
        raise ValueError(f"the environment variable {name} is not set")
    return value


@functools.cache
def settings() -> dict[str, Any]:
    return json.loads(variable("SWEEP"))


def limits() -> Limits:
    found = settings()
    return Limits(
        found["strategies"],
        tuple(found["hyperparameters"]),
        found["most_jobs"],
        found["most_seeds"],
        found["at_once"],
    )


@functools.cache
def bucket() -> SweepBucket:
    return SweepBucket(boto3.client("s3", config=CONFIG), variable("BUCKET"))


@functools.cache
def tuning() -> TuningJobs:
    return TuningJobs(boto3.client("sagemaker", config=CONFIG))


@functools.cache
def tracking() -> MlflowApp | None:
    """Return the MLflow app; None if the stack has none."""
    arn = os.environ.get("MLFLOW_APP_ARN")
    return MlflowApp(boto3.Session(), arn) if arn else None


def hourly_price() -> float | None:
    """Return the price of a job's instances in dollars per hour; None if it is unknown."""
    pricing = boto3.client("pricing", region_name=instance_prices.REGION, config=ONCE)
    price = instance_prices.hourly(pricing, settings()["instance_type"], variable("AWS_REGION"))
    return None if price is None else price * settings()["hosts"]
