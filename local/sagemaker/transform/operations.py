"""The API operations of transform jobs, and their recovery at the start of a server."""

from __future__ import annotations

from collections import Counter
from typing import Any

from local.sagemaker.api import Context, now, operation
from local.sagemaker.jobs import operations as jobs
from local.sagemaker.jobs.job import check_quotas
from local.sagemaker.jobs.kinds import TRANSFORM
from local.sagemaker.platform import Platform
from local.sagemaker.records import named
from local.sagemaker.store import Record, Store
from local.sagemaker.transform.job import TransformJob
from local.sagemaker.transform.validation import check, model_of

_job = named(TRANSFORM.records, "TransformJobName")


@operation("CreateTransformJob", _job)
def create_transform_job(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    check(params)
    name = params["TransformJobName"]
    record = {key: value for key, value in params.items() if key != "Tags"} | {
        "TransformInput": {"CompressionType": "None", "SplitType": "None"} | params["TransformInput"],
        "TransformJobArn": context.arn(TRANSFORM.records, name),
        "TransformJobStatus": "InProgress",
        "CreationTime": (moment := now()),
        "LastModifiedTime": moment,
    }
    resources = params["TransformResources"]
    instances = Counter({resources["InstanceType"]: resources["InstanceCount"]})
    job = TransformJob(context, name, model_of(context, params["ModelName"]), instances)

    def quotas() -> None:
        check_quotas(context, TRANSFORM, instances)

    return jobs.begin(context, job, record, params.get("Tags"), quotas)


@operation("DescribeTransformJob", _job)
def describe_transform_job(context: Context, params: dict[str, Any]) -> Record:
    return jobs.find(context, TRANSFORM, params)


@operation("ListTransformJobs")
def list_transform_jobs(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    return jobs.summaries(context, TRANSFORM, params)


@operation("StopTransformJob", _job)
def stop_transform_job(context: Context, params: dict[str, Any]) -> None:
    jobs.stop(context, TRANSFORM, params)


def recover(platform: Platform, store: Store) -> list[str]:
    """Mark the jobs that ran when the last server ended as failed. Return their ARNs."""
    return jobs.recover(platform, store, TRANSFORM)
