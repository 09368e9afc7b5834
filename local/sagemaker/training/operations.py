"""The API operations of training jobs, and their recovery at the start of a server."""

from __future__ import annotations

from typing import Any

from local import faults
from local.sagemaker import quotas, warm_pools
from local.sagemaker.api import ApiError, Context, now, operation
from local.sagemaker.jobs import operations as jobs
from local.sagemaker.jobs.containers import pull_image
from local.sagemaker.jobs.kinds import TRAINING
from local.sagemaker.jobs.operations import begin, find, stop, summaries
from local.sagemaker.platform import Platform
from local.sagemaker.quotas import setting
from local.sagemaker.records import named, refuse_unbuilt
from local.sagemaker.store import Record, Store
from local.sagemaker.training.job import TrainingJob
from local.sagemaker.training.record import KIND, advance, groups_of, model_location, transition
from local.sagemaker.training.validation import DEFAULT_MAX_RUNTIME, check, check_quotas


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
    image = pull_image(
        context, TRAINING, params["AlgorithmSpecification"]["TrainingImage"], params["RoleArn"]
    )
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
    job = TrainingJob(context, name, image, groups, spot=record["EnableManagedSpotTraining"])
    return begin(context, job, record, params.get("Tags"), lambda: check_quotas(context, groups, record))


@operation("DescribeTrainingJob", named(KIND, "TrainingJobName"))
def describe_training_job(context: Context, params: dict[str, Any]) -> Record:
    return _described(warm_pools.current(find(context, TRAINING, params)))


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
    record = find(context, TRAINING, params)
    if "ResourceConfig" in params:
        seconds = params["ResourceConfig"]["KeepAlivePeriodInSeconds"]
        context.store.change(KIND, params["TrainingJobName"], lambda found: warm_pools.keep(found, seconds))
    return {"TrainingJobArn": record["TrainingJobArn"]}


@operation("ListTrainingJobs")
def list_training_jobs(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    refuse_unbuilt("ListTrainingJobs", params, "TrainingPlanArnEquals")
    found, wanted = [warm_pools.current(job) for job in context.store.all(KIND)], "WarmPoolStatusEquals"
    if wanted in params:
        found = [job for job in found if job.get("WarmPoolStatus", {}).get("Status") == params[wanted]]
    return summaries(context, TRAINING, params, found)


@operation("StopTrainingJob", named(KIND, "TrainingJobName"))
def stop_training_job(context: Context, params: dict[str, Any]) -> None:
    stop(context, TRAINING, params, lambda where, name: advance(where, name, "Stopping", "Stopping"))


def recover(platform: Platform, store: Store) -> list[str]:
    """Mark the jobs that ran when the last server ended as failed. Return their ARNs.

    Their containers have ended. The work continues only in a new job, which can start from the checkpoints.
    """

    def fail(context: Context, name: str, reason: str) -> bool:
        return advance(context, name, "Failed", "Failed", FailureReason=reason)

    return jobs.recover(platform, store, TRAINING, fail)
