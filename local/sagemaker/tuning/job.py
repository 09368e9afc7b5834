"""A running tuning job: it proposes hyperparameters, starts training jobs and reads their objective."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from local.sagemaker.api import ApiError, Context
from local.sagemaker.jobs.job import TICK, Job, JobError, Outcome
from local.sagemaker.jobs.kinds import TRAINING, TUNING
from local.sagemaker.jobs.status import ENDED, key_of
from local.sagemaker.store import Record
from local.sagemaker.training.job import TrainingJob
from local.sagemaker.training.operations import create_training_job, stop_training_job
from local.sagemaker.tuning.early_stopping import is_worse
from local.sagemaker.tuning.ranges import Range, ranges_of
from local.sagemaker.tuning.strategies import Tried, most, proposed
from local.sagemaker.tuning.validation import NAME, training_job

AGAIN_SECONDS = 1.0
"""Delay in seconds before a training job is requested again, after throttling or an exceeded quota."""
MOST_FAILURES = 5
"""Number of failed training jobs at which the tuning job fails, if no training job has succeeded."""


@dataclass
class Trial:
    """A training job of the tuning job."""

    name: str
    tried: Tried
    record: Record = field(default_factory=dict)
    judged: int = 0
    """Epochs that early stopping has checked"""
    stopping: bool = False

    @property
    def ended(self) -> bool:
        return self.record.get("TrainingJobStatus") in ENDED


class TuningJob(Job):
    """A running tuning job.

    Its training jobs are started with `CreateTrainingJob` and count towards the same quotas. As on AWS, the
    service starts them: the caller needs no permission for that, only the permission to pass the jobs' role.
    """

    kind = TUNING

    def __init__(self, context: Context, name: str):
        super().__init__(Context(context.platform, context.store), name, Counter())
        self.trials: list[Trial] = []
        self._again = 0.0

    def work(self) -> Outcome:
        try:
            return self._tune()
        except JobError:
            self._stop_all()
            raise

    def _tune(self) -> Outcome:
        config = self.record["HyperParameterTuningJobConfig"]
        limits = config["ResourceLimits"]
        ranges = ranges_of(config["ParameterRanges"])
        count = most(config["Strategy"], ranges) or limits["MaxNumberOfTrainingJobs"]
        until = time.monotonic() + limits.get("MaxRuntimeInSeconds", float("inf"))
        while not self.abandoned.is_set():
            self._look()
            late = time.monotonic() > until
            if self.stopping.is_set() or late:
                self._stop_all()
                if not self._active():
                    return Outcome("Stopped", self._counters())
            elif (failed := self._failed()) and not self._active():
                return Outcome("Failed", self._counters() | {"FailureReason": failed})
            elif len(self.trials) == count or failed or self._complete():
                if self._complete():
                    self._stop_all()
                if not self._active():
                    return self._outcome()
            elif len(self._active()) < limits["MaxParallelTrainingJobs"] and time.monotonic() >= self._again:
                self._start(ranges)
            self._stop_early()
            self.stopping.wait(TICK)
            if self.stopping.is_set():
                time.sleep(TICK)
        return Outcome("Failed", self._counters())

    # Training jobs

    def _active(self) -> list[Trial]:
        return [trial for trial in self.trials if not trial.ended]

    def _start(self, ranges: list[Range]) -> None:
        """Start the next training job, or try again later. Raises JobError."""
        config = self.record["HyperParameterTuningJobConfig"]
        tried = [trial.tried for trial in self.trials]
        point = proposed(config["Strategy"], ranges, tried, self.record["_Seed"], self._maximize)
        tuned = {each.name: each.text(unit) for each, unit in zip(ranges, point, strict=True)}
        number, unique = len(self.trials) + 1, uuid.uuid4().hex[:8]
        name = NAME.format(name=self.name, number=number, unique=unique)
        request = training_job(self.record, name, tuned) | {
            "Tags": self.record["_Tags"],
            "TuningJobArn": self.record["HyperParameterTuningJobArn"],
            "_Tuned": tuned,
        }
        try:
            create_training_job(self.context, request)
        except ApiError as error:
            waiting = error.code == "ThrottlingException" or (
                error.code == "ResourceLimitExceeded" and self._others_run()
            )
            if not waiting:
                raise JobError(f"ClientError: {error.message}") from None
            self._again = time.monotonic() + AGAIN_SECONDS
            return
        self.trials.append(Trial(name, Tried(point)))

    def _others_run(self) -> bool:
        """Return whether any training job runs. The end of one would free instances."""
        place = (TRAINING.records, self.context.account, self.context.region)
        return any(key[:3] == place for key in list(self.context.store.store.live))

    def _stop(self, trial: Trial) -> None:
        if not trial.stopping:
            trial.stopping = True
            try:
                stop_training_job(self.context, {"TrainingJobName": trial.name})
            except ApiError:
                return  # the job has ended meanwhile

    def _stop_all(self) -> None:
        for trial in self._active():
            self._stop(trial)

    def _stop_early(self) -> None:
        config = self.record["HyperParameterTuningJobConfig"]
        if config.get("TrainingJobEarlyStoppingType", "Off") != "Auto":
            return
        earlier = [trial.record.get("_Objective", []) for trial in self.trials if trial.ended]
        for trial in self._active():
            current = self._values(trial)
            # Check each epoch separately: several may have passed since the last check
            for epoch in range(trial.judged + 1, len(current) + 1):
                if is_worse(current[:epoch], earlier, self._maximize):
                    self._stop(trial)
            trial.judged = len(current)

    def _values(self, trial: Trial) -> list[float]:
        """Return a running job's values of the objective so far."""
        job = self.context.store.store.live.get(key_of(self.context, TRAINING, trial.name))
        return job.objective() if isinstance(job, TrainingJob) else []

    # State

    @property
    def _maximize(self) -> bool:
        return self._objective["Type"] == "Maximize"

    @property
    def _objective(self) -> dict[str, Any]:
        return self.record["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]

    def _look(self) -> None:
        """Read the records of the training jobs that had not ended, and store changed counters."""
        changed = False
        for trial in self._active():
            found = self.context.store.get(TRAINING.records, trial.name) or {}
            changed |= found.get("TrainingJobStatus") != trial.record.get("TrainingJobStatus")
            trial.record = found
            if trial.ended:
                trial.tried.value = objective_of(found, self._objective["MetricName"])
                trial.tried.failed = trial.tried.value is None
        if changed:
            self.context.store.change(self.kind.records, self.name, lambda record: record | self._counters())

    def _counters(self) -> dict[str, Any]:
        statuses = Counter(trial.record.get("TrainingJobStatus", "InProgress") for trial in self.trials)
        states = Counter(
            objective_status(trial.record, self._objective["MetricName"]) for trial in self.trials
        )
        best = self._best()
        return {
            "TrainingJobStatusCounters": {
                "Completed": statuses["Completed"],
                "InProgress": statuses["InProgress"] + statuses["Stopping"],
                "RetryableError": 0,
                "NonRetryableError": statuses["Failed"],
                "Stopped": statuses["Stopped"],
            },
            "ObjectiveStatusCounters": {name: states[name] for name in ("Succeeded", "Pending", "Failed")},
            **({"BestTrainingJob": summary(best.record, self._objective)} if best else {}),
        }

    def _best(self) -> Trial | None:
        known = [trial for trial in self.trials if trial.tried.value is not None]
        sign = 1 if self._maximize else -1
        return max(known, key=lambda trial: sign * (trial.tried.value or 0.0), default=None)

    def _complete(self) -> bool:
        """Return whether a completion criterion is met."""
        criteria = self.record["HyperParameterTuningJobConfig"].get("TuningJobCompletionCriteria", {})
        best = self._best()
        if best is None or best.tried.value is None:
            return False
        target = criteria.get("TargetObjectiveMetricValue")
        if target is not None and (
            best.tried.value >= target if self._maximize else best.tried.value <= target
        ):
            return True
        patience = criteria.get("BestObjectiveNotImproving", {}).get("MaxNumberOfTrainingJobsNotImproving")
        since = sum(trial.ended for trial in self.trials[self.trials.index(best) + 1 :])
        return patience is not None and since >= patience

    def _failed(self) -> str:
        """Return why the tuning job fails, with SageMaker's message; empty if it does not."""
        failures = sum(trial.tried.failed for trial in self.trials)
        if failures < MOST_FAILURES or self._best():
            return ""
        return (
            f"No training job succeeded after {MOST_FAILURES} attempts. Please take a look at the training"
            " job failures to get more details."
        )

    def _outcome(self) -> Outcome:
        if self._best():
            return Outcome("Completed", self._counters())
        reason = (
            "All training jobs failed. Please take a look at the training job failures to get more details."
        )
        return Outcome("Failed", self._counters() | {"FailureReason": reason})


def objective_of(job: Record, metric: str) -> float | None:
    """Return the final objective of a training job; None if it failed or has none."""
    if job.get("TrainingJobStatus") not in ("Completed", "Stopped"):
        return None
    found = job.get("FinalMetricDataList") or []
    return next((each["Value"] for each in found if each["MetricName"] == metric), None)


def objective_status(job: Record, metric: str) -> str:
    if job.get("TrainingJobStatus") not in ENDED:
        return "Pending"
    return "Failed" if objective_of(job, metric) is None else "Succeeded"


def summary(job: Record, objective: dict[str, Any]) -> dict[str, Any]:
    """Return a `HyperParameterTrainingJobSummary`."""
    metric = objective["MetricName"]
    value = objective_of(job, metric)
    members = ("CreationTime", "TrainingStartTime", "TrainingEndTime", "FailureReason")
    found = {
        "TrainingJobName": job["TrainingJobName"],
        "TrainingJobArn": job["TrainingJobArn"],
        "TrainingJobStatus": job["TrainingJobStatus"],
        "TunedHyperParameters": job["_Tuned"],
        "ObjectiveStatus": objective_status(job, metric),
        **{name: job[name] for name in members if job.get(name) is not None},
    }
    if value is not None:
        found["FinalHyperParameterTuningJobObjectiveMetric"] = {"MetricName": metric, "Value": value}
    return found
