"""Faults of the retraining pipeline: a failed execution, a stopped execution, or an end that is not
reported."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from benchmarks.power_bidding.faults.outcomes import Hour
from benchmarks.power_bidding.faults.plan import TrialFault
from local.cloud import LocalCloud
from scenarios import ScenarioError, aws
from scenarios.power_bidding.desk import wait_until

LOOK_SECONDS = 0.4
"""Polling interval in seconds. Polling loads the machine under test."""
LAUNCH_SECONDS = 4.0
"""Seconds for which a training job waits for its instance. Its input can be removed during this time."""
NEVER_SECONDS = 36_000.0
EVERY_EVENT = 100_000
PATIENCE_SECONDS = 120
"""Maximum seconds from an hour's dataset to the start of the pipeline, and from its start to its end."""
SWEEP_SECONDS = 5
"""Seconds between runs of the sweeper in these trials; its schedule is every 5 minutes."""
UNREADABLE = b"hour_utc,price\n"
MISSING_INPUT, EMPTY_INPUT = FAILING = ("the input is missing", "the input is empty")
"""Causes of failed trainings, used in turn."""
SWEPT, UNHEARD, NO_INSTANCE = (
    "the end event is lost, the sweeper detects the end",
    "the end event is lost, nothing detects the end",
    "the training never gets an instance",
)
SILENT = (SWEPT, SWEPT, UNHEARD, SWEPT, NO_INSTANCE)
"""Causes of missing callbacks, used in turn. The last two delay the offer for the run's full waiting time."""


class PipelineFaults:
    """Pipeline faults of a deployed stack. The next trial may begin when `at_work` has called `release`."""

    def __init__(self, cloud: LocalCloud, outputs: dict[str, str], chance: random.Random) -> None:
        self._cloud, self._outputs, self._chance = cloud, outputs, chance
        self._sagemaker, self._s3 = aws.client("sagemaker"), aws.client("s3")
        self._functions = aws.client("lambda")
        self._known: set[str] = set()
        self._lost = 0
        cloud.configure(training_launch=LAUNCH_SECONDS)

    def begin(self, fault: TrialFault) -> None:
        """Prepare a trial, before its run starts."""
        self._known, self._lost = set(self._executions()), self._lost_events()
        if fault.kind == "silent":
            why = _why(fault)
            if why == NO_INSTANCE:
                self._cloud.configure(training_launch=NEVER_SECONDS)
            else:
                self._cloud.configure(fault_lose_events=EVERY_EVENT)

    def at_work(
        self, hour: Hour, fault: TrialFault, release: Callable[[], None], settled: Callable[[], bool]
    ) -> None:
        """Inject the fault into the run's pipeline. Return when the pipeline has ended and offers are final.

        Records a fault that had no effect.
        """
        execution, struck = "", False
        try:
            try:
                execution = self._started()
                struck = self._trouble(fault, execution)
            finally:
                self._cloud.configure(training_launch=LAUNCH_SECONDS, fault_lose_events=0)
                release()
            while not settled():
                time.sleep(SWEEP_SECONDS if _why(fault) == SWEPT else LOOK_SECONDS)
                if _why(fault) == SWEPT:
                    self._functions.invoke(FunctionName=self._outputs["SweepFunctionName"])
            if _why(fault) == NO_INSTANCE:
                struck = struck and self._status(execution) == "Executing"
                self._stop(execution)
        except ScenarioError as error:
            hour.notes.append(str(error))
        hour.notes.append(
            f"{_why(fault) or fault.kind}: {self._status(execution) if execution else 'no pipeline'}"
        )
        if not struck:
            hour.missed.append(fault)

    def _trouble(self, fault: TrialFault, execution: str) -> bool:
        """Inject the fault into an execution. Return whether it had an effect."""
        why = _why(fault)
        if why == NO_INSTANCE:
            wait_until(
                lambda: self._trains(execution),
                PATIENCE_SECONDS,
                f"{execution} started no training job",
                LOOK_SECONDS,
            )
            time.sleep(1)  # the job reads `training_launch` at its start, and the caller resets it afterwards
            return True
        if fault.kind == "failing":
            self._spoil(execution, why)
        else:
            time.sleep(self._chance.uniform(0, 1.5 * LAUNCH_SECONDS) if fault.kind == "stopped" else 0)
            self._stop(execution)
        wait_until(
            lambda: self._status(execution) not in ("Executing", "Stopping"),
            PATIENCE_SECONDS,
            f"{execution} did not end",
            LOOK_SECONDS,
        )
        if fault.kind == "silent":
            return self._lost_events() > self._lost
        return self._status(execution) == {"failing": "Failed", "stopped": "Stopped"}[fault.kind]

    def _lost_events(self) -> int:
        return self._cloud.status()["faults"]["fault_lose_events"]["injected"]

    def _started(self) -> str:
        """Wait for the run's pipeline execution and return its ARN. Raises `ScenarioError` on timeout."""
        found: list[str] = []

        def there() -> bool:
            found.extend(each for each in self._executions() if each not in self._known)
            return bool(found)

        wait_until(there, PATIENCE_SECONDS, "no pipeline was started", LOOK_SECONDS)
        return found[0]

    def _executions(self) -> list[str]:
        """Return the newest pipeline executions."""
        found = self._sagemaker.list_pipeline_executions(
            PipelineName=self._outputs["PipelineName"],
            SortBy="CreationTime",
            SortOrder="Descending",
            MaxResults=20,
        )
        return [each["PipelineExecutionArn"] for each in found["PipelineExecutionSummaries"]]

    def _status(self, execution: str) -> str:
        found = self._sagemaker.describe_pipeline_execution(PipelineExecutionArn=execution)
        return found["PipelineExecutionStatus"]

    def _trains(self, execution: str) -> bool:
        steps = self._sagemaker.list_pipeline_execution_steps(PipelineExecutionArn=execution)
        return any("TrainingJob" in step.get("Metadata", {}) for step in steps["PipelineExecutionSteps"])

    def _stop(self, execution: str) -> None:
        self._sagemaker.stop_pipeline_execution(PipelineExecutionArn=execution)

    def _spoil(self, execution: str, why: str) -> None:
        """Delete or empty the training input of an execution."""
        given: list[dict[str, Any]] = self._sagemaker.list_pipeline_parameters_for_execution(
            PipelineExecutionArn=execution
        )["PipelineParameters"]
        folder = urlsplit(next(each["Value"] for each in given if each["Name"] == "Training"))
        prefix = f"{folder.path.strip('/')}/history/"
        for each in self._s3.list_objects_v2(Bucket=folder.netloc, Prefix=prefix).get("Contents", []):
            if why == MISSING_INPUT:
                self._s3.delete_object(Bucket=folder.netloc, Key=each["Key"])
            else:
                self._s3.put_object(Bucket=folder.netloc, Key=each["Key"], Body=UNREADABLE)


def _why(fault: TrialFault) -> str:
    """Return the variant of a fault, or "" if its kind has no variants."""
    several = {"failing": FAILING, "silent": SILENT}.get(fault.kind)
    return several[fault.variant % len(several)] if several else ""
