"""Publishes a list of a stack's running notebook instances, training jobs and endpoints, which cost money."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient
    from mypy_boto3_sns import SNSClient

log = logging.getLogger()
log.setLevel(logging.INFO)

_config = Config(retries={"mode": "standard", "max_attempts": 5}, connect_timeout=5, read_timeout=20)


def handler(event: dict[str, Any], context: Any) -> list[str]:
    """Return one line for each running resource, and publish the lines if there are any."""
    name, topic = os.environ["NAME"], os.environ["TOPIC_ARN"]
    sagemaker: SageMakerClient = boto3.client("sagemaker", config=_config)
    lines = list(running(sagemaker, name))
    log.info("%d left running under %s", len(lines), name)
    if lines:
        sns: SNSClient = boto3.client("sns", config=_config)
        sns.publish(TopicArn=topic, Subject=f"Left running: {name}"[:100], Message="\n".join(lines)[:200_000])
    return lines


def running(sagemaker: SageMakerClient, name: str) -> Iterator[str]:
    """Yield a line for each running notebook instance, training job, and endpoint of an experiment."""
    for notebook in _pages(
        sagemaker, "list_notebook_instances", "NotebookInstances", name, StatusEquals="InService"
    ):
        if _owned(notebook["NotebookInstanceName"], name, or_equal=True):
            since = notebook["LastModifiedTime"]
            yield f"notebook instance {notebook['NotebookInstanceName']}, since {since:%Y-%m-%d %H:%M} UTC"
    for job in _pages(
        sagemaker, "list_training_jobs", "TrainingJobSummaries", name, StatusEquals="InProgress"
    ):
        if _owned(job["TrainingJobName"], name):
            yield f"training job {job['TrainingJobName']}, since {job['CreationTime']:%Y-%m-%d %H:%M} UTC"
    for endpoint in _pages(sagemaker, "list_endpoints", "Endpoints", name, StatusEquals="InService"):
        if _owned(endpoint["EndpointName"], name):  # not the stack's endpoint, whose name is `name`
            since = endpoint["CreationTime"]
            yield f"endpoint {endpoint['EndpointName']}, since {since:%Y-%m-%d %H:%M} UTC"


def _owned(found: str, name: str, or_equal: bool = False) -> bool:
    return found.startswith(f"{name}-") or (or_equal and found == name)


def _pages(sagemaker: SageMakerClient, operation: Any, key: str, name: str, **given: Any) -> Iterator[Any]:
    for page in sagemaker.get_paginator(operation).paginate(NameContains=name, **given):
        yield from page[key]
