"""A Lambda function's settings, from its environment variables, and its AWS clients.

Each client is made once, and every call has a timeout.
"""

from __future__ import annotations

import functools
import json
import os
import time
from dataclasses import fields
from typing import Any

import boto3
from botocore.config import Config

from data_centric.aws.objects import Objects
from data_centric.aws.tasks_table import DynamoTasks
from data_centric.core.intake import Defaults
from data_centric.core.places import Places
from data_centric.core.runs import RunSettings
from data_centric.core.tasks import RunRow
from data_centric.core.workflow import Desk, NoRunError

CONFIG = Config(connect_timeout=3, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 4})
PRESIGNED = Config(signature_version="s3v4", s3={"addressing_style": "virtual"})
HOOKS = Config(read_timeout=180, retries={"mode": "standard", "total_max_attempts": 6})
"""Configuration of the client that invokes Lambda functions. Throttled invocations are retried."""
CONFIGS = {"s3": CONFIG.merge(PRESIGNED), "lambda": CONFIG.merge(HOOKS)}


def setting(name: str) -> str:
    """Return an environment variable. Raises `ValueError` if it is not set."""
    value = os.environ.get(name)
    if not value:
        raise ValueError(f"the environment variable {name} is not set")
    return value


@functools.cache
def client(service: Any) -> Any:  # `Any`, because boto3's type stubs accept only literal service names
    return boto3.client(service, config=CONFIGS.get(service, CONFIG))


def tasks_table() -> DynamoTasks:
    return DynamoTasks(client("dynamodb"), setting("TASKS_TABLE"))


def objects() -> Objects:
    return Objects(client("s3"), Places(setting("BUCKET")))


def defaults() -> Defaults:
    """Return the settings in the variable `LABELING`. Raises `ValueError` for missing or unknown fields."""
    given, known = json.loads(setting("LABELING")), {each.name for each in fields(Defaults)}
    if wrong := sorted(known ^ set(given)):
        raise ValueError(
            f"LABELING must have the fields {', '.join(sorted(known))};"
            f" missing or unknown: {', '.join(wrong)}"
        )
    return Defaults(**given)


@functools.cache
def pseudonym_key() -> bytes:
    """Return the secret key from which the labelers' pseudonyms are computed."""
    return (
        client("secretsmanager")
        .get_secret_value(SecretId=setting("PSEUDONYM_SECRET_ARN"))["SecretString"]
        .encode()
    )


def row_and_desk(run: str) -> tuple[RunRow, Desk]:
    """Return the row of a stored run and a `Desk` for it. Raises `NoRunError` if the run does not exist."""
    table = tasks_table()
    row = table.run(run)
    if row is None:
        raise NoRunError(f"there is no run {run}")
    return row, Desk(table, RunSettings.from_json(row.settings), time.time)
