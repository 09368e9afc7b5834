"""Settings, clients and adapters of a Lambda function, made from its environment variables.

Clients are made once per execution environment of the function, and each of their calls has a timeout.
"""

from __future__ import annotations

import functools
import json
import os
import time
from dataclasses import fields
from typing import Any, TypeVar

import boto3
from botocore.config import Config

from personalization.aws.accounts import DynamoAccounts
from personalization.aws.bucket import S3Bucket
from personalization.aws.follow_ups import DynamoFollowUps
from personalization.aws.observe import count
from personalization.aws.store import DynamoStore
from personalization.aws.tables import Table
from personalization.aws.topic import SnsTopic
from personalization.aws.training import SageMaker
from personalization.core.ports import Backend
from personalization.core.settings import JobSettings, Limits, Pace

T = TypeVar("T")

CONFIG = Config(connect_timeout=3, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 4})
ONCE = Config(connect_timeout=3, read_timeout=24, retries={"mode": "standard", "total_max_attempts": 1})
"""Configuration of the client that invokes the endpoint: no retries, so that no picture is made twice, and a
timeout below API Gateway's 30 seconds."""
PRESIGNED = Config(signature_version="s3v4", s3={"addressing_style": "virtual"})


def read(kind: type[T], name: str) -> T:
    """Return the settings in the JSON object of the environment variable `name`.

    Raises `ValueError` if the variable is not set, or has missing or unknown fields.
    """
    text = os.environ.get(name)
    if not text:
        raise ValueError(f"the environment variable {name} is not set")
    given, known = json.loads(text), {item.name for item in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(given) - known):
        raise ValueError(
            f"{name} has unknown fields: {', '.join(unknown)}; allowed: {', '.join(sorted(known))}"
        )
    if missing := sorted(known - set(given)):
        raise ValueError(f"{name} has missing fields: {', '.join(missing)}")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})


@functools.cache
def client(service: Any) -> Any:  # `Any`, because boto3's type stubs accept only literal service names
    config = ONCE if service == "sagemaker-runtime" else CONFIG
    return boto3.client(service, config=config.merge(PRESIGNED) if service == "s3" else config)


class SystemClock:
    def now(self) -> float:
        return time.time()


def table(name: str) -> Table:
    """Return the table that the environment variable `{NAME}_TABLE` names."""
    return Table(client("dynamodb"), os.environ[f"{name.upper()}_TABLE"])


def bucket() -> S3Bucket:
    return S3Bucket(client("s3"), os.environ["DATA_BUCKET"])


@functools.cache
def store() -> DynamoStore:
    return DynamoStore(client("dynamodb"), *(table(name) for name in ("users", "models", "requests", "jobs")))


@functools.cache
def accounts() -> DynamoAccounts:
    tables = (table(name) for name in ("users", "models", "requests", "generations"))
    return DynamoAccounts(client("dynamodb"), *tables, limits=read(Limits, "LIMITS"))


@functools.cache
def follow_ups() -> DynamoFollowUps:
    return DynamoFollowUps(table("requests"))


@functools.cache
def topic() -> SnsTopic:
    return SnsTopic(client("sns"), os.environ["TOPIC_ARN"])


@functools.cache
def backend() -> Backend:
    """Return the adapters and settings for training users' models."""
    return Backend(
        store=store(),
        objects=bucket(),
        training=SageMaker(client("sagemaker")),
        clock=SystemClock(),
        settings=read(JobSettings, "JOB_SETTINGS"),
        pace=read(Pace, "PACE"),
        bucket=os.environ["DATA_BUCKET"],
        prefix=os.environ["JOB_PREFIX"],
        count=count,
    )


CACHED = (store, accounts, follow_ups, topic, backend)
"""Functions with cached results. After `cache_clear` they read the environment variables again."""
