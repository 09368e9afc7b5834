"""The API operations of processing jobs, and their recovery at the start of a server."""

from __future__ import annotations

from typing import Any

from local.sagemaker import records
from local.sagemaker.api import ApiError, Context, now, operation
from local.sagemaker.jobs import operations as jobs
from local.sagemaker.jobs.containers import Group, pull_image
from local.sagemaker.jobs.job import check_quotas
from local.sagemaker.jobs.kinds import PROCESSING
from local.sagemaker.jobs.status import ENDED
from local.sagemaker.platform import Platform
from local.sagemaker.processing.job import ProcessingJob
from local.sagemaker.processing.validation import completed
from local.sagemaker.records import named
from local.sagemaker.store import Record, Store

_job = named(PROCESSING.records, "ProcessingJobName")


@operation("CreateProcessingJob", _job, roles=("RoleArn",))
def create_processing_job(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    name, moment = params["ProcessingJobName"], now()
    record = completed(params) | {
        "ProcessingJobArn": context.arn(PROCESSING.records, name),
        "ProcessingJobStatus": "InProgress",
        "CreationTime": moment,
        "LastModifiedTime": moment,
    }
    image = pull_image(context, PROCESSING, params["AppSpecification"]["ImageUri"], params["RoleArn"])
    cluster = record["ProcessingResources"]["ClusterConfig"]
    groups = [Group("", cluster["InstanceType"], cluster["InstanceCount"])]
    job = ProcessingJob(context, name, image, groups)

    def check() -> None:
        check_quotas(context, PROCESSING, job.instances)

    return jobs.begin(context, job, record, params.get("Tags"), check)


@operation("DescribeProcessingJob", _job)
def describe_processing_job(context: Context, params: dict[str, Any]) -> Record:
    return jobs.find(context, PROCESSING, params)


@operation("ListProcessingJobs")
def list_processing_jobs(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    return jobs.summaries(context, PROCESSING, params)


@operation("StopProcessingJob", _job)
def stop_processing_job(context: Context, params: dict[str, Any]) -> None:
    jobs.stop(context, PROCESSING, params)


@operation("DeleteProcessingJob", _job)
def delete_processing_job(context: Context, params: dict[str, Any]) -> None:
    name = params["ProcessingJobName"]
    with context.store.store.exclusive():
        status = jobs.find(context, PROCESSING, params)["ProcessingJobStatus"]
        if status not in ENDED:
            raise ApiError(
                "ResourceInUse",
                f"The processing job {name} is in status {status}. Only a job in status "
                f"{', '.join(ENDED)} can be deleted.",
            )
        missing = PROCESSING.missing.format(name=name)
        records.remove(context, PROCESSING.records, name, missing)


def recover(platform: Platform, store: Store) -> list[str]:
    """Mark the jobs that ran when the last server ended as failed. Return their ARNs."""
    return jobs.recover(platform, store, PROCESSING)
