"""Faults that tests inject into the local cloud. A fault's value is the number of injections that are left.

    cloud.configure(fault_lose_events=3, fault_throttle_training_jobs=5)
    cloud.status()["faults"]     # {"fault_lose_events": {"injected": 2, "left": 1}, ...}

Each injection lowers the value by one. `cloud.configure(faults_injected=None)` sets the counts of injections
to zero.
"""

from __future__ import annotations

import threading
from typing import Any, Protocol

DEFAULTS: dict[str, Any] = {
    "fault_lose_events": 0,  # SageMaker state changes that are not sent to the event bus
    "fault_lose_object_events": 0,  # S3 object events that match a rule and reach no target
    "fault_repeat_stream_batches": 0,  # batches of a DynamoDB stream that are delivered again later
    "fault_delay_stream_batches": 0,  # batches of a DynamoDB stream that are delivered late
    "fault_stream_seconds": 2.0,  # delay in seconds of the batches of the two faults above
    "fault_kill_functions": 0,  # Lambda processes that are killed as they make a call that changes state
    "fault_kill_at_write": 1,  # number of that call in the invocation; the call is not executed
    "fault_kill_function": "",  # kill only functions whose name contains this text
    "fault_throttle_training_jobs": 0,  # CreateTrainingJob calls that are throttled
    "fault_no_capacity": 0,  # training jobs that fail with CapacityError before they start
    "fault_fail_training_jobs": 0,  # training jobs that fail with InternalServerError while they train
    "fault_stop_training_jobs": 0,  # training jobs that are stopped while they train
    "fault_interrupt_training_jobs": 0,  # spot training jobs that are interrupted while they train
    "fault_throttle_endpoints": 0,  # InvokeEndpoint calls that are throttled
    "fault_throttle_request": "",  # throttle only InvokeEndpoint calls whose body contains this text
    "fault_training_after": 1.0,  # seconds of training before a job is failed, stopped or interrupted
}
"""Faults and their defaults. `cloud.configure` sets them like quotas; None restores a default."""
INJECTED = "faults_injected"

_lock = threading.Lock()


class Holder(Protocol):
    settings: dict[str, Any]


def value(of: Holder, name: str) -> Any:
    return of.settings.get(name, DEFAULTS[name])


def take(of: Holder, name: str, at: str = "") -> bool:
    """Return whether to inject this fault now, and if so count it as injected.

    :param at: place of the injection, by which `report` also counts
    """
    with _lock:
        left = value(of, name)
        if left <= 0:
            return False
        of.settings[name] = left - 1
        counts = of.settings.setdefault(INJECTED, {})
        for counted in (name, f"{name} {at}") if at else (name,):
            counts[counted] = counts.get(counted, 0) + 1
        return True


def report(of: Holder) -> dict[str, dict[str, Any]]:
    """Return, for each fault, the number of injections so far, in total and by place, and how many are
    left."""
    counts = of.settings.get(INJECTED, {})

    def places(name: str) -> dict[str, Any]:
        found = {key.partition(" ")[2]: count for key, count in counts.items() if key.startswith(f"{name} ")}
        return {"at": found} if found else {}

    return {
        name: {"injected": counts.get(name, 0), "left": value(of, name)} | places(name)
        for name, default in DEFAULTS.items()
        if default == 0 and isinstance(default, int)
    }
