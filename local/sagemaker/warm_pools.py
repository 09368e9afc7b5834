"""Warm pools: instances that are kept for a while after a job, for the next job with the same configuration.

The pool is in the record of the job that left it, as `WarmPoolStatus`. Here a pool saves only the
launch delay (the setting `training_launch`): the instances are processes, which are started again for each
job.
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
    """Raise ApiError if a job requests a pool but cannot have one."""
    resources = params["ResourceConfig"]
    if resources.get("KeepAlivePeriodInSeconds"):
        if params.get("EnableManagedSpotTraining"):
            raise invalid("KeepAlivePeriodInSeconds cannot be used with EnableManagedSpotTraining.")
        if resources.get("InstanceGroups"):
            raise invalid("KeepAlivePeriodInSeconds cannot be used with InstanceGroups.")


def current(record: Record) -> Record:
    """Update and return a record with the pool's present status: an expired pool is terminated."""
    pool = record.get("WarmPoolStatus")
    if pool and pool["Status"] == "Available":
        # The time is negative if the machine, and with it the monotonic clock, was restarted. Then the pool
        # has ended
        kept = time.monotonic() - record["_RetainedSince"]
        most = record["ResourceConfig"]["KeepAlivePeriodInSeconds"]
        status = "Available" if 0 <= kept < most else "Terminated"
        pool |= {
            "Status": status,
            "ResourceRetainedBillableTimeInSeconds": int(min(kept, most)) if kept >= 0 else most,
        }
    return record


def waiting(context: Context, kind: str, instance_type: str) -> int:
    """Return the number of instances of this type in available pools."""
    return sum(
        record["ResourceConfig"]["InstanceCount"]
        for record in context.store.all(kind)
        if current(record).get("WarmPoolStatus", {}).get("Status") == "Available"
        and record["ResourceConfig"]["InstanceType"] == instance_type
    )


def fits(context: Context, kind: str, record: Record) -> bool:
    """Return whether an available pool matches this job."""
    return any(_available(record, other) for other in context.store.all(kind))


def _available(record: Record, other: Record) -> bool:
    pool = current(other).get("WarmPoolStatus")
    # SageMaker does not keep spot instances, and does not use pools for spot jobs
    spot = record.get("EnableManagedSpotTraining")
    return bool(pool and pool["Status"] == "Available" and not spot and _is_like(record, other))


def _is_like(record: Record, other: Record) -> bool:
    one, two = record["ResourceConfig"], other["ResourceConfig"]
    return all(one.get(name) == two.get(name) for name in LIKE) and all(
        record.get(name) == other.get(name) for name in ALSO_LIKE
    )


def take(context: Context, kind: str, record: Record) -> bool:
    """Give this job an available pool that matches it. Return False if there is none."""
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
    """Return the members of a new job's record that describe its pool."""
    kept = record["ResourceConfig"].get("KeepAlivePeriodInSeconds")
    return {"WarmPoolStatus": {"Status": "InUse"}} if kept else {}


def leave(context: Context, kind: str, record: Record) -> None:
    """Set the pool's status in the record of a job that ends: available, or terminated."""
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
    """Set the keep-alive period of a job's pool; 0 ends the pool. Raises ApiError if there is no pool."""
    pool = current(record).get("WarmPoolStatus")
    if not pool or pool["Status"] not in ("Available", "InUse"):
        raise invalid("The training job has no warm pool that is available.")
    record["ResourceConfig"]["KeepAlivePeriodInSeconds"] = seconds
    current(record)
