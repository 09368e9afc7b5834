"""Faults that a test injects into the local cloud, by name: off until a number says how many come next.

    cloud.configure(fault_lose_events=3, fault_throttle_training_jobs=5)
    cloud.status()["faults"]     # {"fault_lose_events": {"injected": 2, "left": 1}, ...}

Each counts down as it strikes. What has struck is counted until `cloud.configure(faults_injected=None)`.
"""

from __future__ import annotations

import threading
from typing import Any, Protocol

DEFAULTS: dict[str, Any] = {
    "fault_lose_events": 0,  # of the next SageMaker state changes: never reach the event bus
    "fault_lose_object_events": 0,  # of the next events of S3's objects that a rule matches: reach no target
    "fault_repeat_stream_batches": 0,  # of the next batches of a DynamoDB stream: delivered, and again later
    "fault_delay_stream_batches": 0,  # of the next batches of a DynamoDB stream: held back
    "fault_stream_seconds": 2.0,  # how much later those two come
    "fault_kill_functions": 0,  # functions whose process dies as it makes a call that changes something
    "fault_kill_at_write": 1,  # which such call of an invocation it is; it is not done
    "fault_kill_function": "",  # only functions whose name contains this
    "fault_throttle_training_jobs": 0,  # of the next CreateTrainingJob calls
    "fault_no_capacity": 0,  # of the next training jobs: CapacityError before it starts
    "fault_fail_training_jobs": 0,  # of the next training jobs: InternalServerError while it trains
    "fault_stop_training_jobs": 0,  # of the next training jobs: stopped while it trains
    "fault_interrupt_training_jobs": 0,  # of the next on spot capacity: taken away while it trains
    "fault_throttle_endpoints": 0,  # number of the next InvokeEndpoint calls to throttle
    "fault_throttle_request": "",  # restricts it to calls whose body contains this text
    "fault_training_after": 1.0,  # seconds of training until those three strike
}
"""Set like the quotas and paces, through `cloud.configure`; null puts one back."""
INJECTED = "faults_injected"

_lock = threading.Lock()


class Holder(Protocol):
    settings: dict[str, Any]


def value(of: Holder, name: str) -> Any:
    return of.settings.get(name, DEFAULTS[name])


def take(of: Holder, name: str, at: str = "") -> bool:
    """Whether this fault strikes now; then there is one less to come. `at`: where it would."""
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
    """How many of each have struck, where, and how many are still to come."""
    counts = of.settings.get(INJECTED, {})

    def places(name: str) -> dict[str, Any]:
        found = {key.partition(" ")[2]: count for key, count in counts.items() if key.startswith(f"{name} ")}
        return {"at": found} if found else {}

    return {
        name: {"injected": counts.get(name, 0), "left": value(of, name)} | places(name)
        for name, default in DEFAULTS.items()
        if default == 0 and isinstance(default, int)
    }
