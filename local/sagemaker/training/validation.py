"""Validation of CreateTrainingJob: values, features that the local cloud does not have, quotas."""

from __future__ import annotations

from collections import Counter
from typing import Any

from local.sagemaker import artifacts, instance_types, metrics, warm_pools
from local.sagemaker.api import NOT_BUILT, ApiError, Context, invalid
from local.sagemaker.jobs.containers import Group, by_type
from local.sagemaker.jobs.job import check_size, check_usage, running
from local.sagemaker.jobs.kinds import TRAINING
from local.sagemaker.records import refuse_unbuilt
from local.sagemaker.store import Record
from local.sagemaker.training.record import KIND, groups_of

DEFAULT_MAX_RUNTIME = 86_400  # seconds, the service's default


def check(params: dict[str, Any]) -> None:
    """Raise ApiError for values that botocore's service model allows, but AWS or the local cloud refuses."""
    unbuilt = ("DebugRuleConfigurations", "ProfilerRuleConfigurations", "ServerlessJobConfig")
    refuse_unbuilt("CreateTrainingJob", params, *unbuilt, "ModelPackageConfig", "MlflowConfig")
    algorithm = params.get("AlgorithmSpecification")
    if not algorithm or not params.get("ResourceConfig"):
        raise invalid("AlgorithmSpecification and ResourceConfig are required.")
    refuse_unbuilt("CreateTrainingJob", algorithm, "AlgorithmName")
    if not algorithm.get("TrainingImage"):
        raise invalid("AlgorithmSpecification needs a TrainingImage.")
    try:
        metrics.check(algorithm.get("MetricDefinitions", []))
        artifacts.split(params["OutputDataConfig"]["S3OutputPath"])
        if checkpoints := params.get("CheckpointConfig"):
            artifacts.split(checkpoints["S3Uri"])
            if not checkpoints.get("LocalPath", "/opt/ml/checkpoints").startswith("/opt/ml/"):
                raise ValueError("CheckpointConfig.LocalPath must be below /opt/ml in the local cloud")
    except ValueError as error:
        raise invalid(str(error)) from None
    limits = params.get("StoppingCondition", {})
    if params.get("EnableManagedSpotTraining"):
        if limits.get("MaxWaitTimeInSeconds", 0) < limits.get("MaxRuntimeInSeconds", DEFAULT_MAX_RUNTIME):
            raise invalid("MaxWaitTimeInSeconds must be present and not less than MaxRuntimeInSeconds.")
    elif "MaxWaitTimeInSeconds" in limits:
        raise invalid("MaxWaitTimeInSeconds is only for jobs with EnableManagedSpotTraining.")
    groups = groups_of(params["ResourceConfig"])
    for group in groups:
        key = params["ResourceConfig"].get("VolumeKmsKeyId")
        instance_types.check_volume_key(group.instance_type, key)
    warm_pools.check(params)
    names = [channel["ChannelName"] for channel in params.get("InputDataConfig", [])]
    if len(set(names)) < len(names):
        raise invalid(f"Channel names must be unique: {', '.join(names)}")
    for channel in params.get("InputDataConfig", []):
        _check_channel(channel, algorithm["TrainingInputMode"], {group.name for group in groups})


def _check_channel(channel: dict[str, Any], job_mode: str, groups: set[str]) -> None:
    name, source = channel["ChannelName"], channel["DataSource"]
    refuse_unbuilt("CreateTrainingJob", source, *(kind for kind in source if kind != "S3DataSource"))
    data = source.get("S3DataSource")
    if not data:
        raise invalid(f"Channel {name} needs an S3DataSource.")
    if channel.get("InputMode", job_mode) == "Pipe":
        raise _unbuilt_value(f"channel {name} in Pipe mode")
    if data["S3DataType"] not in ("S3Prefix", "ManifestFile"):
        raise _unbuilt_value(f"S3DataType {data['S3DataType']} (channel {name})")
    if channel.get("CompressionType", "None") != "None":
        raise invalid(f"Channel {name}: CompressionType is used only in Pipe input mode.")
    if channel.get("RecordWrapperType", "None") != "None":
        raise invalid(f"Channel {name}: RecordWrapperType is used only in Pipe input mode.")
    if "ShuffleConfig" in channel:
        raise _unbuilt_value(f"ShuffleConfig (channel {name})")
    if unknown := set(data.get("InstanceGroupNames", [])) - groups:
        raise invalid(f"Channel {name} names instance groups that do not exist: {', '.join(sorted(unknown))}")
    try:
        artifacts.split(data["S3Uri"])
    except ValueError as error:
        raise invalid(f"Channel {name}: {error}") from None


def _unbuilt_value(what: str) -> ApiError:
    return ApiError(
        NOT_BUILT,
        f"sagemaker:CreateTrainingJob with {what} is not implemented in the local cloud",
        501,
    )


def check_quotas(context: Context, groups: list[Group], record: Record) -> None:
    """Raise ApiError if the job exceeds a quota. Spot and on-demand instances have separate quotas."""
    asked = by_type(groups)
    check_size(context, TRAINING, asked)
    spot = record["EnableManagedSpotTraining"]
    if not spot and warm_pools.fits(context, KIND, record):
        return  # the instances of its warm pool are already counted
    same = [job.instances for job in running(context, TRAINING) if job.spot == spot]
    used: Counter[str] = sum(same, Counter())
    if spot:
        check_usage(context, "training_spot_instances", "spot training job usage", asked, used)
    else:
        for kind in asked:
            used[kind] += warm_pools.waiting(context, KIND, kind)
        check_usage(context, "training_instances", "training job usage", asked, used)
