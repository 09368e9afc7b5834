"""The API operations of labeling jobs, and their recovery at the start of a server."""

from __future__ import annotations

import uuid
from typing import Any

from local.sagemaker import tags
from local.sagemaker.api import ApiError, Context, now, operation, page
from local.sagemaker.jobs import operations as jobs
from local.sagemaker.jobs.kinds import LABELING
from local.sagemaker.labeling.job import LabelingJob, counters
from local.sagemaker.labeling.validation import completed, functions
from local.sagemaker.platform import Platform
from local.sagemaker.records import named, summary
from local.sagemaker.store import Record, Store

_job = named(LABELING.records, "LabelingJobName")


@operation("CreateLabelingJob", _job, roles=("RoleArn",))
def create_labeling_job(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    name, moment = params[LABELING.name], now()
    record = completed(context, params) | {
        LABELING.arn: context.arn(LABELING.records, name),
        LABELING.status: "Initializing",
        "CreationTime": moment,
        "LastModifiedTime": moment,
        "JobReferenceCode": uuid.uuid4().hex,
        "LabelCounters": counters(0),
    }

    def check() -> None:
        # Names in Ground Truth are case-insensitive
        for other in context.store.all(LABELING.records):
            if other[LABELING.name].lower() == name.lower():
                raise ApiError("ResourceInUse", LABELING.taken.format(arn=other[LABELING.arn]))

    return jobs.begin(context, LabelingJob(context, name), record, params.get("Tags"), check)


@operation("DescribeLabelingJob", _job)
def describe_labeling_job(context: Context, params: dict[str, Any]) -> Record:
    record = _found(context, params)
    return record | {"Tags": tags.attached(context.store, record[LABELING.arn])}


@operation("ListLabelingJobs")
def list_labeling_jobs(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    def shown(job: Record) -> Record:
        members = (LABELING.name, LABELING.arn, LABELING.status, "CreationTime", "LastModifiedTime")
        more = ("LabelCounters", "FailureReason", "LabelingJobOutput", "InputConfig")
        task = job["HumanTaskConfig"]
        return summary(job, *members, *more) | {"WorkteamArn": task["WorkteamArn"]} | functions(task)

    found = [shown(job) for job in context.store.all(LABELING.records)]
    return page({"SortOrder": "Ascending"} | params, found, "LabelingJobSummaryList")


@operation("StopLabelingJob", _job)
def stop_labeling_job(context: Context, params: dict[str, Any]) -> None:
    _found(context, params)
    jobs.stop(context, LABELING, params)


def recover(platform: Platform, store: Store) -> list[str]:
    """Mark the jobs that ran when the last server ended as failed. Return their ARNs."""
    return jobs.recover(platform, store, LABELING)


def _found(context: Context, params: dict[str, Any]) -> Record:
    record = context.store.get(LABELING.records, params[LABELING.name])
    if record is None:
        raise ApiError("ResourceNotFound", LABELING.missing.format(name=params[LABELING.name]))
    return record
