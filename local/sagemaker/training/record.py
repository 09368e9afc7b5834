"""The record of a training job: instance groups, output location, and changes of its secondary status."""

from __future__ import annotations

import math
import time
from typing import Any

from local.sagemaker import warm_pools
from local.sagemaker.api import Context, invalid
from local.sagemaker.jobs.containers import Group
from local.sagemaker.jobs.kinds import TRAINING
from local.sagemaker.jobs.status import ENDED, change, put
from local.sagemaker.quotas import setting
from local.sagemaker.store import Record

KIND = TRAINING.records


def output_location(job: Record) -> str:
    return f"{job['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{job['TrainingJobName']}/output"


def model_location(job: Record) -> str:
    compressed = job["OutputDataConfig"].get("CompressionType", "GZIP") == "GZIP"
    return f"{output_location(job)}/model{'.tar.gz' if compressed else '/'}"


def groups_of(resources: dict[str, Any]) -> list[Group]:
    if given := resources.get("InstanceGroups"):
        if "InstanceType" in resources or "InstanceCount" in resources:
            raise invalid(
                "ResourceConfig must have either InstanceGroups, or InstanceType and InstanceCount."
            )
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
_GOING_ON = ("Starting", "Downloading", "Training", "Interrupted")


def transition(secondary: str, moment: float) -> dict[str, Any]:
    return {"Status": secondary, "StartTime": moment, "StatusMessage": _MESSAGES[secondary]}


def advance(context: Context, name: str, status: str | None, secondary: str, **members: Any) -> bool:
    """Change the status of a job and publish the event. Return False if the job had already ended.

    :param status: None: the status stays. A job with status Stopping then accepts only the secondary status
        Uploading
    :param members: set on the record, except those that are None
    """

    def edit(record: Record, moment: float) -> bool:
        current = record["TrainingJobStatus"]
        if status is None and current == "Stopping" and secondary in _GOING_ON:
            return False
        transitions = record["SecondaryStatusTransitions"]
        if transitions[-1]["Status"] != secondary:
            transitions[-1]["EndTime"] = moment
            transitions.append(transition(secondary, moment))
        put(record, TRAINING, status or current, moment, members | {"SecondaryStatus": secondary})
        if secondary == "Downloading":
            record.setdefault("TrainingStartTime", moment)
            record["_Since"] = time.monotonic()
        if status in ENDED or secondary == "Interrupted":  # waiting for capacity does not count as training
            clock = time.monotonic()
            spent = max(0.0, clock - record.pop("_Since", clock))
            record["_Spent"] = record.get("_Spent", 0.0) + spent
        if status in ENDED:
            transitions[-1]["EndTime"] = moment
            price = setting(context.platform, "training_spot_price")
            price = price if record["EnableManagedSpotTraining"] else 1
            record["TrainingTimeInSeconds"] = math.ceil(record["_Spent"])
            record["BillableTimeInSeconds"] = math.ceil(record["_Spent"] * price)
            warm_pools.leave(context, KIND, record)
        return True

    return change(context, TRAINING, name, edit)
