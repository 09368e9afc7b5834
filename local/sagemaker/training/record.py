"""The record of a training job: instance groups, status transitions and state-change events."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from local.sagemaker import tags, warm_pools
from local.sagemaker.api import Context, invalid, now
from local.sagemaker.quotas import setting
from local.sagemaker.store import Record

logger = logging.getLogger(__name__)

KIND = "training-job"


def output_location(job: Record) -> str:
    return f"{job['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{job['TrainingJobName']}/output"


def model_location(job: Record) -> str:
    compressed = job["OutputDataConfig"].get("CompressionType", "GZIP") == "GZIP"
    return f"{output_location(job)}/model{'.tar.gz' if compressed else '/'}"


@dataclass(frozen=True)
class Group:
    """Instances of one type. A job without instance groups has a single group."""

    name: str
    instance_type: str
    count: int


def groups_of(resources: dict[str, Any]) -> list[Group]:
    if given := resources.get("InstanceGroups"):
        if "InstanceType" in resources or "InstanceCount" in resources:
            raise invalid("ResourceConfig has either InstanceGroups, or InstanceType and InstanceCount.")
        groups = [Group(g["InstanceGroupName"], g["InstanceType"], g["InstanceCount"]) for g in given]
    else:
        if "InstanceType" not in resources or "InstanceCount" not in resources:
            raise invalid("ResourceConfig needs InstanceType and InstanceCount.")
        groups = [Group("homogeneousCluster", resources["InstanceType"], resources["InstanceCount"])]
    if len({group.name for group in groups}) < len(groups):
        raise invalid("The names of the instance groups must differ from each other.")
    if sum(group.count for group in groups) < 1:
        raise invalid("ResourceConfig needs at least one instance.")
    return groups


def by_type(groups: list[Group]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for group in groups:
        counts[group.instance_type] += group.count
    return counts


_MESSAGES = {
    "Starting": "Launching requested ML instances",
    "Downloading": "Downloading input data",
    "Training": "Training image download completed. Training in progress.",
    "Uploading": "Uploading generated training model",
    "Stopping": "Stopping the training job",
    "Stopped": "Training job stopped",
    "MaxRuntimeExceeded": "Training job stopped because it exceeded MaxRuntimeInSeconds",
    "MaxWaitTimeExceeded": "Training job stopped because it exceeded MaxWaitTimeInSeconds",
    "Interrupted": "The training job was interrupted: its spot capacity was taken back",
    "Completed": "Training job completed",
    "Failed": "Training job failed",
}
ENDED = ("Completed", "Failed", "Stopped")


def transition(secondary: str, moment: float) -> dict[str, Any]:
    return {"Status": secondary, "StartTime": moment, "StatusMessage": _MESSAGES[secondary]}


def advance(context: Context, name: str, status: str | None, secondary: str, **members: Any) -> bool:
    """Change the status of a job and publish the event; return False if the job had already ended.

    With `status` None, the status stays: a stopping job goes on to Uploading only. `members` are set on the
    record, except those that are None.
    """
    changed = False

    def edit(record: Record) -> None:
        nonlocal changed
        going_on = ("Starting", "Downloading", "Training", "Interrupted")
        stopping = record["TrainingJobStatus"] == "Stopping" and secondary in going_on
        if record["TrainingJobStatus"] in ENDED or (status is None and stopping):
            return
        changed, moment, transitions = True, now(), record["SecondaryStatusTransitions"]
        if transitions[-1]["Status"] != secondary:
            transitions[-1]["EndTime"] = moment
            transitions.append(transition(secondary, moment))
        record["TrainingJobStatus"] = status or record["TrainingJobStatus"]
        record["SecondaryStatus"], record["LastModifiedTime"] = secondary, moment
        record.update({key: value for key, value in members.items() if value is not None})
        if secondary == "Downloading":
            record.setdefault("TrainingStartTime", moment)
            record["_Since"] = time.monotonic()
        if status in ENDED or secondary == "Interrupted":  # waiting for capacity is no training
            clock = time.monotonic()
            spent = max(0.0, clock - record.pop("_Since", clock))
            record["_Spent"] = record.get("_Spent", 0.0) + spent
        if status in ENDED:
            transitions[-1]["EndTime"] = record["TrainingEndTime"] = moment
            price = setting(context.platform, "training_spot_price")
            price = price if record["EnableManagedSpotTraining"] else 1
            record["TrainingTimeInSeconds"] = math.ceil(record["_Spent"])
            record["BillableTimeInSeconds"] = math.ceil(record["_Spent"] * price)
            warm_pools.leave(context, KIND, record)

    record = context.store.change(KIND, name, edit)
    if changed and record is not None:
        publish(context, record)
    return changed


_EVENT_MEMBERS = (
    "TrainingJobName", "TrainingJobArn", "TrainingJobStatus", "SecondaryStatus", "FailureReason",
    "HyperParameters", "AlgorithmSpecification", "RoleArn", "InputDataConfig", "OutputDataConfig",
    "ResourceConfig", "VpcConfig", "StoppingCondition", "ModelArtifacts", "FinalMetricDataList",
)  # fmt: skip
_EVENT_TIMES = ("CreationTime", "TrainingStartTime", "TrainingEndTime", "LastModifiedTime")


def publish(context: Context, record: Record) -> None:
    detail = {name: record[name] for name in _EVENT_MEMBERS if name in record}
    detail |= {name: round(record[name] * 1000) for name in _EVENT_TIMES if name in record}
    detail["SecondaryStatusTransitions"] = [
        {key: round(value * 1000) if key.endswith("Time") else value for key, value in transition.items()}
        for transition in record["SecondaryStatusTransitions"]
    ]
    arn = record["TrainingJobArn"]
    detail["Tags"] = {tag["Key"]: tag["Value"] for tag in tags.attached(context.store, arn)}
    try:
        context.platform.publish(
            context.account, context.region, "SageMaker Training Job State Change", detail, arn
        )
    except Exception:  # a bus that is down does not end a job
        logger.exception("The state change of %s was not published", arn)


def key_of(context: Context, name: str) -> tuple[str, ...]:
    return KIND, context.account, context.region, name
