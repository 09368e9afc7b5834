"""Warm pools: instances that stay for a while after a job, for the next one that is like it.

The pool is in the record of the job that left it, as `WarmPoolStatus`. What it saves here is the time that
`training_launch` says; the instances themselves are processes, made anew for each job.
"""

from __future__ import annotations

import time
from typing import Any

from local.sagemaker.api import Context, invalid
from local.sagemaker.quotas import setting
from local.sagemaker.store import Record

LIKE = ("InstanceType", "InstanceCount", "VolumeSizeInGB", "VolumeKmsKeyId")
ALSO_LIKE = ("RoleArn", "VpcConfig", "EnableNetworkIsolation", "EnableInterContainerTrafficEncryption")


def check(params: dict[str, Any]) -> None:
    """Raises ApiError for a job that cannot have a pool."""
    resources = params["ResourceConfig"]
    if resources.get("KeepAlivePeriodInSeconds"):
        if params.get("EnableManagedSpotTraining"):
            raise invalid("KeepAlivePeriodInSeconds cannot be used with EnableManagedSpotTraining.")
        if resources.get("InstanceGroups"):
            raise invalid("KeepAlivePeriodInSeconds cannot be used with InstanceGroups.")


def current(record: Record) -> Record:
    """The record with its pool as it is by now: one whose time is over is terminated."""
    pool = record.get("WarmPoolStatus")
    if pool and pool["Status"] == "Available":
        # A pool of before the machine's last start is over: that clock began anew
        kept = time.monotonic() - record["_RetainedSince"]
        most = record["ResourceConfig"]["KeepAlivePeriodInSeconds"]
        status = "Available" if 0 <= kept < most else "Terminated"
        pool |= {
            "Status": status,
            "ResourceRetainedBillableTimeInSeconds": int(min(kept, most)) if kept >= 0 else most,
        }
    return record


def waiting(context: Context, kind: str, instance_type: str) -> int:
    """Instances of this type that wait in pools."""
    return sum(
        record["ResourceConfig"]["InstanceCount"]
        for record in context.store.all(kind)
        if current(record).get("WarmPoolStatus", {}).get("Status") == "Available"
        and record["ResourceConfig"]["InstanceType"] == instance_type
    )


def fits(context: Context, kind: str, record: Record) -> bool:
    """Whether a pool waits that this job would take over."""
    return any(_available(record, other) for other in context.store.all(kind))


def _available(record: Record, other: Record) -> bool:
    pool = current(other).get("WarmPoolStatus")
    # SageMaker keeps no spot instances, and gives a spot job none of those that it keeps
    spot = record.get("EnableManagedSpotTraining")
    return bool(pool and pool["Status"] == "Available" and not spot and _is_like(record, other))


def _is_like(record: Record, other: Record) -> bool:
    one, two = record["ResourceConfig"], other["ResourceConfig"]
    return all(one.get(name) == two.get(name) for name in LIKE) and all(
        record.get(name) == other.get(name) for name in ALSO_LIKE
    )


def take(context: Context, kind: str, record: Record) -> bool:
    """Move a pool that fits to this job; False where there is none."""
    with context.store.store.exclusive():
        for other in context.store.all(kind):
            if _available(record, other):
                pool = current(other)["WarmPoolStatus"]
                pool |= {"Status": "Reused", "ReusedByJob": record["TrainingJobName"]}

                def edit(stored: Record, pool: Record = pool) -> None:
                    stored["WarmPoolStatus"] = pool

                context.store.change(kind, other["TrainingJobName"], edit)
                return True
    return False


def begin(record: Record) -> Record:
    """What the record of a new job says of its pool."""
    kept = record["ResourceConfig"].get("KeepAlivePeriodInSeconds")
    return {"WarmPoolStatus": {"Status": "InUse"}} if kept else {}


def leave(context: Context, kind: str, record: Record) -> None:
    """At a job's end, in its record: its instances stay, or they go."""
    if "WarmPoolStatus" not in record:
        return
    resources = record["ResourceConfig"]
    taken = waiting(context, kind, resources["InstanceType"])
    room = taken + resources["InstanceCount"] <= setting(context.platform, "warm_pool_instances")
    if record["TrainingJobStatus"] in ("Completed", "Stopped") and room:
        record["_RetainedSince"] = time.monotonic()
        record["WarmPoolStatus"] = {"Status": "Available", "ResourceRetainedBillableTimeInSeconds": 0}
    else:
        record["WarmPoolStatus"] = {"Status": "Terminated", "ResourceRetainedBillableTimeInSeconds": 0}


def keep(record: Record, seconds: int) -> None:
    """UpdateTrainingJob: another length, 0 to end the pool."""
    pool = current(record).get("WarmPoolStatus")
    if not pool or pool["Status"] not in ("Available", "InUse"):
        raise invalid("The training job has no warm pool that is available.")
    record["ResourceConfig"]["KeepAlivePeriodInSeconds"] = seconds
    current(record)
