"""Deletes what a training workflow created in SageMaker when CloudFormation deletes its stack.

A custom resource: Create and Update do nothing. Delete stops the workflow's jobs and deletes their log
streams. It deletes the resources with the endpoint's name, or with a name that consists of it, a hyphen and
one of the suffixes; all model packages of the group; and all objects of the bucket. Every step is idempotent,
so that a deletion that failed can be started again.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import boto3
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import ClientError

from groundplan.lambdas.custom_resource import Request, respond

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectIdentifierTypeDef
    from mypy_boto3_sagemaker import SageMakerClient

log = logging.getLogger()

JOB_LOGS = {
    "HyperParameterTuningJob": "/aws/sagemaker/TrainingJobs",
    "TrainingJob": "/aws/sagemaker/TrainingJobs",
    "ProcessingJob": "/aws/sagemaker/ProcessingJobs",
}
"""Log group by kind of job, in the order in which jobs are stopped: tuning jobs first, as they start training
jobs."""
EXECUTION = r"[0-9a-f]{12}(-.+)?"
"""Names of other jobs after the prefix and a hyphen: an execution's hash, and optionally a suffix."""
ENDPOINT_LOGS = "/aws/sagemaker/Endpoints/"
_config = Config(retries={"mode": "adaptive", "max_attempts": 10})
_clients: dict[str, Any] = {}


def client(service: Any) -> Any:  # `Any`, because boto3's type stubs accept only literal service names
    """Return the client of a service: one for each Lambda execution environment."""
    if service not in _clients:
        _clients[service] = boto3.client(service, config=_config)
    return _clients[service]


class OutOfTimeError(Exception):
    """The time ended before everything was deleted."""


@dataclass(frozen=True)
class Leftovers:
    """Resources to delete. `bucket` and `group` are names, or "" if the resource is retained.

    `suffixes` are regular expressions for names after the endpoint's name and a hyphen. `other_jobs` are
    prefixes of job names by kind; a hyphen and an execution's hash follow. Names of a tuning job's training
    jobs begin with the tuning job's name.
    """

    endpoint: str
    bucket: str
    group: str
    suffixes: tuple[str, ...]
    other_jobs: Mapping[str, str] = field(default_factory=dict[str, str])

    def owns(self, name: str) -> bool:
        """Return whether a resource with this name is to be deleted.

        Names in another stack may begin with the same prefix, so the prefix is not sufficient.
        """
        if any(re.fullmatch(f"{re.escape(other)}-{EXECUTION}", name) for other in self.other_jobs.values()):
            return True
        beginning = f"{self.endpoint}-"
        return name == self.endpoint or (
            name.startswith(beginning)
            and any(re.fullmatch(each, name.removeprefix(beginning)) for each in self.suffixes)
        )

    def beginning(self, kind: str) -> str:
        """Return the prefix of the names of jobs of a kind; empty if there are none."""
        return self.endpoint if kind == "TrainingJob" else self.other_jobs.get(kind, "")


def handler(event: dict[str, Any], context: Any) -> None:
    """Answer CloudFormation's request."""
    respond(event, context, identify=_identify, work=_work)


def _identify(properties: Mapping[str, Any]) -> str:
    found = leftovers(properties)
    return "|".join((found.endpoint, found.bucket, found.group))


def _work(request: Request) -> None:
    if request.deletes:
        delete(leftovers(request.properties), time_left=lambda: request.deadline - time.monotonic())


def leftovers(properties: Mapping[str, Any]) -> Leftovers:
    """Return the resources to delete from the custom resource's properties."""
    return Leftovers(
        properties["EndpointName"],
        properties["BucketName"],
        properties["ModelPackageGroupName"],
        tuple(properties["Suffixes"]),
        properties.get("OtherJobs", {}),
    )


def delete(found: Leftovers, time_left: Callable[[], float]) -> None:
    """Delete the resources, jobs and endpoints first, as these cost money.

    Raises `OutOfTimeError` when `time_left()`, in seconds, is used up, and `ClientError` if AWS refuses a
    call.
    """
    sagemaker: SageMakerClient = client("sagemaker")
    for kind in JOB_LOGS:
        stop = getattr(sagemaker, f"stop_{xform_name(kind)}")
        for job in _jobs(found, kind, "InProgress"):
            _stop(stop, **{f"{kind}Name": job})
    endpoints = [item["EndpointName"] for item in _listed("list_endpoints", "Endpoints", found)]
    for name in endpoints:
        _gone(sagemaker.delete_endpoint, EndpointName=name)
    for name in endpoints:  # an endpoint uses its configuration and log group until it is deleted
        while not _gone(sagemaker.describe_endpoint, EndpointName=name):
            _pause(time_left, f"endpoint {name} is still being deleted")
    for config in _listed("list_endpoint_configs", "EndpointConfigs", found):
        _gone(sagemaker.delete_endpoint_config, EndpointConfigName=config["EndpointConfigName"])
    for model in _listed("list_models", "Models", found):
        _gone(sagemaker.delete_model, ModelName=model["ModelName"])
    if found.group:
        for package in _pages(
            "list_model_packages", "ModelPackageSummaryList", ModelPackageGroupName=found.group
        ):
            _gone(sagemaker.delete_model_package, ModelPackageName=package["ModelPackageArn"])
    for kind in JOB_LOGS:  # stopping jobs write logs and results until they have ended
        while stopping := _jobs(found, kind, "Stopping"):
            _pause(time_left, f"{kind} {stopping[0]} is still stopping")
    _delete_job_logs(found)
    _delete_endpoint_logs(found)
    if found.bucket:
        _empty(found.bucket, time_left)


def _listed(operation: str, key: str, found: Leftovers) -> Iterator[dict[str, Any]]:
    """Yield the workflow's items of a SageMaker list operation."""
    for item in _pages(operation, key, NameContains=found.endpoint):
        name = next(value for field, value in item.items() if field.endswith("Name"))
        if found.owns(name):
            yield item


def _jobs(found: Leftovers, kind: str, status: str) -> list[str]:
    """Return the names of the workflow's jobs of a kind that have this status."""
    beginning = found.beginning(kind)
    if not beginning:
        return []
    jobs = _pages(
        f"list_{xform_name(kind)}s", f"{kind}Summaries", NameContains=beginning, StatusEquals=status
    )
    return [job[f"{kind}Name"] for job in jobs if found.owns(job[f"{kind}Name"])]


def _pages(operation: str, key: str, **arguments: Any) -> list[dict[str, Any]]:
    """Return the items of all pages, before any is deleted: page tokens may depend on the items."""
    pages: Iterable[dict[str, Any]] = client("sagemaker").get_paginator(operation).paginate(**arguments)
    try:
        return [item for page in pages for item in page[key]]
    except ClientError as error:
        if _missing(error):
            return []
        raise


def _gone(call: Callable[..., Any], **arguments: Any) -> bool:
    """Make a call. Return True if AWS responds that the resource does not exist."""
    try:
        call(**arguments)
    except ClientError as error:
        if not _missing(error):
            raise
        return True
    log.info("%s %s", call.__name__, " ".join(map(str, arguments.values())))
    return False


def _stop(call: Callable[..., Any], **arguments: Any) -> None:
    """Stop a job. It is no error if the job has ended since it was listed."""
    try:
        _gone(call, **arguments)
    except ClientError as error:
        if "is in status" not in error.response["Error"].get("Message", ""):
            raise


def _missing(error: ClientError) -> bool:
    """Return whether the resource of a call does not exist. SageMaker states this in the message only."""
    code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
    return code in ("ResourceNotFound", "ResourceNotFoundException", "NoSuchBucket") or (
        code == "ValidationException"
        and bool(re.search(r"could not find|does not exist|not found|cannot find", message, re.IGNORECASE))
    )


def _pause(time_left: Callable[[], float], waiting_for: str) -> None:
    if time_left() <= 0:
        raise OutOfTimeError(f"{waiting_for}; delete the stack again to go on")
    time.sleep(2)


def _delete_job_logs(found: Leftovers) -> None:
    """Delete the log streams of the workflow's jobs. The account's other jobs use the same log groups."""
    for kind, group in JOB_LOGS.items():
        if beginning := found.beginning(kind):
            for name in _streams(group, f"{beginning}-"):
                if found.owns(name.partition("/")[0]):
                    _gone(client("logs").delete_log_stream, logGroupName=group, logStreamName=name)


def _streams(group: str, prefix: str) -> list[str]:
    """Return the names of a group's log streams that begin with `prefix`; none if there is no such group."""
    logs: CloudWatchLogsClient = client("logs")
    pages = logs.get_paginator("describe_log_streams").paginate(
        logGroupName=group, logStreamNamePrefix=prefix
    )
    try:
        return [stream["logStreamName"] for page in pages for stream in page["logStreams"]]
    except ClientError as error:
        if _missing(error):
            return []
        raise


def _delete_endpoint_logs(found: Leftovers) -> None:
    """Delete the log groups of endpoints whose names have a suffix. The log group of the endpoint without a
    suffix is a resource of the stack."""
    pages = client("logs").get_paginator("describe_log_groups")
    prefix = f"{ENDPOINT_LOGS}{found.endpoint}-"
    groups = [each for page in pages.paginate(logGroupNamePrefix=prefix) for each in page["logGroups"]]
    for name in (each["logGroupName"] for each in groups):
        if found.owns(name.removeprefix(ENDPOINT_LOGS)):
            _gone(client("logs").delete_log_group, logGroupName=name)


def _empty(bucket: str, time_left: Callable[[], float]) -> None:
    """Delete all versions of all objects, a thousand at a time."""
    s3: S3Client = client("s3")
    try:
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
            objects: list[ObjectIdentifierTypeDef] = [
                {"Key": item["Key"], "VersionId": item["VersionId"]}
                for item in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            ]
            if objects:
                answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
                for failure in answer.get("Errors", [])[:1]:
                    raise OSError(f"s3://{bucket}/{failure['Key']} cannot be deleted: {failure['Message']}")
                log.info("deleted %d objects of %s", len(objects), bucket)
            if time_left() <= 0:
                raise OutOfTimeError(f"bucket {bucket} is not empty yet; delete the stack again to go on")
    except ClientError as error:
        if not _missing(error):
            raise
