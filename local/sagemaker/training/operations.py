"""The API operations of training jobs, and recovery at the start and end of a server."""

from __future__ import annotations

import time
from typing import Any

from local import faults
from local.sagemaker import quotas, tags, warm_pools
from local.sagemaker.api import ApiError, Context, invalid, now, operation, page
from local.sagemaker.instances import clean
from local.sagemaker.platform import Platform
from local.sagemaker.quotas import setting
from local.sagemaker.records import named, refuse_unbuilt
from local.sagemaker.store import Record, Store
from local.sagemaker.training.job import ABANDONED, Job
from local.sagemaker.training.record import (
    ENDED,
    KIND,
    advance,
    groups_of,
    key_of,
    model_location,
    publish,
    transition,
)
from local.sagemaker.training.validation import DEFAULT_MAX_RUNTIME, check, check_quotas, pull_image


@operation("CreateTrainingJob", named(KIND, "TrainingJobName"), roles=("RoleArn",))
def create_training_job(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    rate = setting(context.platform, "create_training_job_per_second")
    quotas.throttle(
        context, "CreateTrainingJob", rate, setting(context.platform, "create_training_job_burst")
    )
    if faults.take(context.platform, "fault_throttle_training_jobs"):
        raise ApiError("ThrottlingException", "Rate exceeded", 400)
    check(params)
    name, arn = params["TrainingJobName"], context.arn(KIND, params["TrainingJobName"])
    image = pull_image(context, params["AlgorithmSpecification"]["TrainingImage"], params["RoleArn"])
    groups, moment = groups_of(params["ResourceConfig"]), now()
    record = {key: value for key, value in params.items() if key != "Tags"} | {
        "TrainingJobArn": arn,
        "TrainingJobStatus": "InProgress",
        "SecondaryStatus": "Starting",
        "SecondaryStatusTransitions": [transition("Starting", moment)],
        "StoppingCondition": {"MaxRuntimeInSeconds": DEFAULT_MAX_RUNTIME}
        | params.get("StoppingCondition", {}),
        "CreationTime": moment,
        "LastModifiedTime": moment,
    }
    for flag in ("NetworkIsolation", "InterContainerTrafficEncryption", "ManagedSpotTraining"):
        record.setdefault(f"Enable{flag}", False)
    record |= warm_pools.begin(record)
    job = Job(context, name, image, groups, spot=record["EnableManagedSpotTraining"])
    with context.store.store.exclusive():
        check_quotas(context, groups, record)
        if not context.store.add(KIND, name, record):
            raise ApiError(
                "ResourceInUse",
                "Training job names must be unique within an AWS account and region, and a training job with "
                f"this name already exists ({arn})",
            )
        try:
            tags.attach(context, arn, params.get("Tags"))
        except ApiError:
            context.store.remove(KIND, name)
            raise
        context.store.store.live[job.key] = job
        job.warm = warm_pools.take(context, KIND, record)
    publish(context, record)
    job.start()
    return {"TrainingJobArn": arn}


@operation("DescribeTrainingJob", named(KIND, "TrainingJobName"))
def describe_training_job(context: Context, params: dict[str, Any]) -> Record:
    return _described(warm_pools.current(_find(context, params)))


def _described(job: Record) -> Record:
    """Return the description of a job, with the members that AWS always includes.

    `ModelArtifacts` is the configured location, even before there is a model.
    """
    shown = {"ModelArtifacts": {"S3ModelArtifacts": model_location(job)}} | job
    shown["OutputDataConfig"] = {"KmsKeyId": "", "CompressionType": "GZIP"} | job["OutputDataConfig"]
    metrics_off = {"EnableSageMakerMetricsTimeSeries": False}
    shown["AlgorithmSpecification"] = metrics_off | job["AlgorithmSpecification"]
    if channels := job.get("InputDataConfig"):
        plain = {"CompressionType": "None", "RecordWrapperType": "None"}
        shown["InputDataConfig"] = [plain | channel for channel in channels]
    return shown


@operation("UpdateTrainingJob", named(KIND, "TrainingJobName"))
def update_training_job(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    unbuilt = ("ProfilerConfig", "ProfilerRuleConfigurations", "RemoteDebugConfig")
    refuse_unbuilt("UpdateTrainingJob", params, *unbuilt)
    record = _find(context, params)
    if "ResourceConfig" in params:
        seconds = params["ResourceConfig"]["KeepAlivePeriodInSeconds"]
        context.store.change(KIND, params["TrainingJobName"], lambda found: warm_pools.keep(found, seconds))
    return {"TrainingJobArn": record["TrainingJobArn"]}


@operation("ListTrainingJobs")
def list_training_jobs(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    refuse_unbuilt("ListTrainingJobs", params, "TrainingPlanArnEquals")
    jobs, wanted = [warm_pools.current(job) for job in context.store.all(KIND)], "WarmPoolStatusEquals"
    if wanted in params:
        jobs = [job for job in jobs if job.get("WarmPoolStatus", {}).get("Status") == params[wanted]]
    return page(params, jobs, "TrainingJobSummaries")


@operation("StopTrainingJob", named(KIND, "TrainingJobName"))
def stop_training_job(context: Context, params: dict[str, Any]) -> None:
    record = _find(context, params)
    if record["TrainingJobStatus"] == "Stopping":
        return
    name = params["TrainingJobName"]
    if not advance(context, name, "Stopping", "Stopping"):
        status = _find(context, params)["TrainingJobStatus"]
        raise invalid(f"The request was rejected because the training job is in status {status}.")
    job = context.store.store.live.get(key_of(context, name))
    if job:
        job.stopping.set()


def _find(context: Context, params: dict[str, Any]) -> Record:
    record = context.store.get(KIND, params["TrainingJobName"])
    if record is None:
        raise invalid("Requested resource not found.")
    return record


def recover(platform: Platform, store: Store) -> list[str]:
    """Mark the jobs that ran when the last server ended as failed; return their ARNs.

    Their containers are gone. Callers start new jobs, which resume from checkpoints if there are any.
    """
    clean(platform, "training")
    lost = []
    for account, region in store.scopes():
        context = Context(platform, store.scoped(account, region))
        for record in context.store.all(KIND):
            name = record["TrainingJobName"]
            if key_of(context, name) in store.live or record["TrainingJobStatus"] in ENDED:
                continue
            if advance(context, name, "Failed", "Failed", FailureReason=ABANDONED):
                lost.append(record["TrainingJobArn"])
    return lost


def shutdown(store: Store, timeout: float = 10.0) -> None:
    """Stop all jobs when the server ends: update their records and remove their files."""
    with store.exclusive():
        jobs = [job for job in store.live.values() if isinstance(job, Job)]
    for job in jobs:
        job.abandoned.set()
    until = time.monotonic() + timeout
    for job in jobs:
        job.thread.join(max(0.0, until - time.monotonic()))
