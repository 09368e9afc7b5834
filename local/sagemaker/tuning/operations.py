"""The API operations of tuning jobs, and their recovery at the start of a server."""

from __future__ import annotations

import random
from typing import Any

from local.sagemaker.api import ApiError, Context, now, operation, page
from local.sagemaker.jobs import operations as jobs
from local.sagemaker.jobs.kinds import TRAINING, TUNING
from local.sagemaker.platform import Platform
from local.sagemaker.records import named, summary
from local.sagemaker.store import Record, Store
from local.sagemaker.tuning.job import TuningJob, objective_of
from local.sagemaker.tuning.job import summary as training_summary
from local.sagemaker.tuning.validation import check

_job = named(TUNING.records, TUNING.name)
_NONE = dict.fromkeys(("Completed", "InProgress", "RetryableError", "NonRetryableError", "Stopped"), 0)


@operation("CreateHyperParameterTuningJob", _job, roles=("TrainingJobDefinition.RoleArn",))
def create_tuning_job(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    check(context, params)
    name, moment = params[TUNING.name], now()
    config = params["HyperParameterTuningJobConfig"]
    given = {"Strategy": config["Strategy"], "TrainingJobEarlyStoppingType": "Off"} | config
    record = {key: value for key, value in params.items() if key != "Tags"} | {
        "HyperParameterTuningJobConfig": given,
        TUNING.arn: context.arn(TUNING.records, name),
        TUNING.status: "InProgress",
        "CreationTime": moment,
        "LastModifiedTime": moment,
        "TrainingJobStatusCounters": _NONE,
        "ObjectiveStatusCounters": dict.fromkeys(("Succeeded", "Pending", "Failed"), 0),
        "_Seed": config.get("RandomSeed", random.getrandbits(31)),
        "_Tags": params.get("Tags", []),
    }
    job = TuningJob(context, name)
    return jobs.begin(context, job, record, params.get("Tags"), lambda: None)


@operation("DescribeHyperParameterTuningJob", _job)
def describe_tuning_job(context: Context, params: dict[str, Any]) -> Record:
    return _found(context, params)


@operation("ListHyperParameterTuningJobs")
def list_tuning_jobs(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    def shown(job: Record) -> Record:
        config = job["HyperParameterTuningJobConfig"]
        members = (TUNING.name, TUNING.arn, TUNING.status, TUNING.ended, "CreationTime", "LastModifiedTime")
        counters = ("TrainingJobStatusCounters", "ObjectiveStatusCounters")
        return summary(job, *members, *counters) | {
            "Strategy": config["Strategy"],
            "ResourceLimits": config["ResourceLimits"],
        }

    found = [shown(job) for job in context.store.all(TUNING.records)]
    return page({"SortBy": "Name"} | params, found, "HyperParameterTuningJobSummaries")


@operation("ListTrainingJobsForHyperParameterTuningJob", _job)
def list_training_jobs_of(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    job = _found(context, params)
    objective = job["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]
    shown = [
        training_summary(each, objective)
        | {"FinalObjectiveMetricValue": objective_of(each, objective["MetricName"])}
        for each in context.store.all(TRAINING.records)
        if each.get("TuningJobArn") == job[TUNING.arn]
    ]
    if params.get("SortBy") == "FinalObjectiveMetricValue":
        shown = [each for each in shown if each["FinalObjectiveMetricValue"] is not None]
    return page({"SortBy": "Name", "SortOrder": "Ascending"} | params, shown, "TrainingJobSummaries")


@operation("StopHyperParameterTuningJob", _job)
def stop_tuning_job(context: Context, params: dict[str, Any]) -> None:
    _found(context, params)
    jobs.stop(context, TUNING, params)


def recover(platform: Platform, store: Store) -> list[str]:
    """Mark the jobs that ran when the last server ended as failed. Return their ARNs."""
    return jobs.recover(platform, store, TUNING)


def _found(context: Context, params: dict[str, Any]) -> Record:
    record = context.store.get(TUNING.records, params[TUNING.name])
    if record is None:
        raise ApiError("ResourceNotFound", TUNING.missing.format(name=params[TUNING.name]))
    return record
