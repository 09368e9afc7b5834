"""An execution of a pipeline: one thread that starts steps, polls them and determines the final status.

All state of an execution is in its record. So the next server can resume it: it polls the jobs and callbacks
that were running.

If a step has failed or stopped, and no other step waits for that outcome with a `Trigger`, no further step
starts. Running steps continue to their end.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import Any

from local.sagemaker.api import Context, now
from local.sagemaker.pipelines import caching, definition, state, step_types
from local.sagemaker.pipelines.attempts import Ended, StepAttempt, StepError, StepRun
from local.sagemaker.pipelines.definition import ANY, COMPLETED, StepDefinition
from local.sagemaker.pipelines.retries import policy_for
from local.sagemaker.pipelines.state import LONGEST_STEP_REASON, STEP_ENDED
from local.sagemaker.pipelines.steps import ATTEMPTS
from local.sagemaker.quotas import setting
from local.sagemaker.store import Record

logger = logging.getLogger(__name__)

TIMED_OUT = "The pipeline execution timed out."
_OF_ONE_ATTEMPT = ("_Name", "_Token", "_Sent", "_Answer", "_Waiting", "Metadata", "FailureReason")
"""Members of a step's record that are removed before the next attempt."""


class _Fate(Enum):
    """Decision about a step that has not started."""

    READY = "its dependencies are met"
    WAITING = "a dependency has not ended"
    NEVER = "it cannot run in this execution"


def key_of(context: Context, name: str) -> tuple[str, ...]:
    return state.EXECUTION, context.account, context.region, name


class ExecutionThread:
    """A running execution, in a separate thread."""

    def __init__(self, context: Context, name: str):
        """
        :param context: context of the cloud itself
        :param name: key of the execution's record in the store
        """
        self._context, self._name = context, name
        self.key = key_of(context, name)
        self._attempts: dict[str, StepAttempt] = {}
        self._retry_at: dict[str, float] = {}  # on the monotonic clock
        self._wake = threading.Event()
        self.abandoned = threading.Event()
        """Set when the local cloud shuts down. The next server resumes the execution."""
        self.thread = threading.Thread(target=self._run, name=f"pipeline execution {name}", daemon=True)

    def start(self) -> None:
        """Register the thread in `Store.live` and start it."""
        with self._context.store.store.exclusive():
            self._context.store.store.live[self.key] = self
        self.thread.start()

    def wake(self) -> None:
        """Wake the thread, so that it polls immediately."""
        self._wake.set()

    def _run(self) -> None:
        try:
            self._definition = definition.parse(self._record()["_Definition"])
            while not self.abandoned.is_set() and not self._tick():
                self._wake.wait(setting(self._context.platform, "pipeline_poll"))
                self._wake.clear()
        except Exception as error:
            logger.exception("Could not run the pipeline execution %s", self._name)
            reason = f"InternalServerError: the local cloud failed: {error!r}"
            state.advance(self._context, self._name, "Failed", reason)
        finally:
            live = self._context.store.store.live
            with self._context.store.store.exclusive():
                if live.get(self.key) is self:  # a retry may have replaced it already
                    del live[self.key]

    def _record(self) -> Record:
        record = self._context.store.get(state.EXECUTION, self._name)
        if record is None:
            raise state.missing(f"Pipeline execution {self._name}")
        return record

    def _stopping(self) -> bool:
        return self._record()["PipelineExecutionStatus"] == "Stopping"

    def _in_flight(self, record: Record) -> list[str]:
        return [name for name, step in record["Steps"].items() if step["StepStatus"] not in STEP_ENDED]

    def _tick(self) -> bool:
        """Poll every running step and start steps that are ready. Return whether the execution has ended."""
        record = self._record()
        for step in self._in_flight(record):
            self._look(step)
        limit = setting(self._context.platform, "pipeline_execution_timeout")
        if now() - record["_Since"] > limit and not self._stopping():
            self._context.store.change(
                state.EXECUTION, self._name, lambda found: found.update(_TimedOut=True)
            )
            state.advance(self._context, self._name, "Stopping")
        if self._stopping():
            self._stop_steps()
        else:
            self._start_ready()
        return self._conclude()

    # Running steps

    def _attempt(self, step: str) -> StepAttempt:
        """Return the current attempt of a step. Create it if this server does not have it yet."""
        if step not in self._attempts:
            found = self._definition.steps[step]
            run = StepRun(self._context, self._name, self._record(), self._definition, found, self.wake)
            self._attempts[step] = ATTEMPTS[found.type](run)
        return self._attempts[step]

    def _look(self, step: str) -> None:
        if self._record()["Steps"][step].get("_Waiting"):
            if time.monotonic() >= self._retry_at.get(step, 0):
                self._begin_attempt(step)
        elif step in self._attempts:
            self._proceed(step, self._attempts[step].poll)
        else:
            self._proceed(step, self._attempt(step).resume)
            self._executing(step)

    def _proceed(self, step: str, act: Callable[[], Ended | None]) -> None:
        try:
            ended = act()
        except StepError as error:
            self._failed(step, error)
        else:
            if ended:
                self._ended(step, ended)

    def _change(self, step: str, edit: Callable[[Record], Any]) -> Record:
        return state.change_step(self._context, self._name, step, edit)

    def _executing(self, step: str) -> None:
        def edit(found: Record) -> None:
            if found["StepStatus"] == "Starting" and not found.get("_Waiting"):
                found["StepStatus"] = "Executing"

        self._change(step, edit)

    def _ended(self, step: str, ended: Ended) -> None:
        status = ended.status
        if self._stopping() and self._definition.steps[step].type == "Callback":
            status = "Stopped"

        def edit(found: Record) -> None:
            found |= {"StepStatus": status, "EndTime": now(), "_Properties": ended.properties}
            found["Metadata"] = found.get("Metadata", {}) | ended.metadata

        self._change(step, edit)
        self._attempts.pop(step, None)

    def _failed(self, step: str, error: StepError) -> None:
        found = self._definition.steps[step]
        reason, stopping = error.reason, self._stopping()
        if not stopping:
            if self._retry_later(found, error):
                return
            if error.exception and not policy_for(error.exception, found.policies):
                exception = error.exception.replace(".", "_").upper()
                reason += (
                    " Retry not appropriate on execution of step with PipelineExecutionArn "
                    f"{self._record()['PipelineExecutionArn']} and StepId {step}. No retry policy configured "
                    f"for the exception type {exception}."
                )

        def edit(record: Record) -> None:
            status = "Stopped" if stopping and found.type == "Callback" else "Failed"
            record |= {"StepStatus": status, "EndTime": now(), "_Properties": error.properties}
            if reason:
                record["FailureReason"] = reason[:LONGEST_STEP_REASON]
            if error.timed_out:
                record["_TimedOut"] = True

        self._change(step, edit)
        self._attempts.pop(step, None)

    def _retry_later(self, step: StepDefinition, error: StepError) -> bool:
        """Schedule the next attempt of a step. Return False if no retry is allowed."""
        policy = policy_for(error.exception, step.policies)
        if policy is None:
            return False
        record = self._record()["Steps"][step.name]
        position, retries = str(policy[0]), record.get("_Retries", {})
        made = retries.get(position, 0)
        delay = policy[1].delay(made, max(0.0, now() - record["_Began"]))
        if delay is None:
            return False
        # Stored first, so that after a restart the server retries and does not poll the failed attempt again
        self._change(
            step.name, lambda found: found.update(_Retries=retries | {position: made + 1}, _Waiting=True)
        )
        self._retry_at[step.name] = time.monotonic() + delay
        self._attempts.pop(step.name, None)
        return True

    # Starting steps

    def _start_ready(self) -> None:
        """Start all steps that are ready. A condition step ends at once, which can make more steps ready."""
        while True:
            record = self._record()
            most = record.get("ParallelismConfiguration", {}).get("MaxParallelExecutionSteps")
            if most and len(self._in_flight(record)) >= most:
                return
            ready = self._ready(record)
            if not ready:
                return
            self._begin_step(self._definition.steps[ready[0]])

    def _ready(self, record: Record) -> list[str]:
        fates: dict[str, _Fate] = {}
        return [
            name
            for name in self._definition.steps
            if name not in record["Steps"] and self._fate(name, record, fates) is _Fate.READY
        ]

    def _halted(self, record: Record) -> bool:
        """Return whether a step failed or stopped, and no step depends on that outcome."""
        return any(
            step["StepStatus"] in ("Failed", "Stopped")
            and not self._definition.handlers(name, step["StepStatus"])
            for name, step in record["Steps"].items()
        )

    def _fate(self, name: str, record: Record, known: dict[str, _Fate]) -> _Fate:
        """Decide about a step that has not started.

        :param known: decisions so far, to which this one is added
        """
        if name not in known:
            step = self._definition.steps[name]
            verdicts = [self._met(each.step, each.trigger, record, known) for each in step.dependencies]
            if step.branch:
                verdicts.append(self._branch_taken(*step.branch, record, known))
            if _Fate.NEVER in verdicts:
                fate = _Fate.NEVER
            elif _Fate.WAITING in verdicts:
                fate = _Fate.WAITING
            else:
                handles = any(each.trigger != COMPLETED for each in step.dependencies)
                fate = _Fate.NEVER if self._halted(record) and not handles else _Fate.READY
            known[name] = fate
        return known[name]

    def _met(self, step: str, trigger: str, record: Record, known: dict[str, _Fate]) -> _Fate:
        status = record["Steps"].get(step, {}).get("StepStatus")
        if status is None:
            never = self._fate(step, record, known) is _Fate.NEVER
            return _Fate.NEVER if never else _Fate.WAITING
        if status not in STEP_ENDED:
            return _Fate.WAITING
        outcome = COMPLETED if status == "Succeeded" else status
        return _Fate.READY if trigger in (outcome, ANY) else _Fate.NEVER

    def _branch_taken(self, step: str, outcome: bool, record: Record, known: dict[str, _Fate]) -> _Fate:
        met = self._met(step, COMPLETED, record, known)
        if met is _Fate.READY and record["Steps"][step]["_Properties"]["Outcome"] is not outcome:
            return _Fate.NEVER
        return met

    def _begin_step(self, step: StepDefinition) -> None:
        moment = now()

        def edit(found: Record) -> None:
            found |= {"StepStatus": "Starting", "StartTime": moment, "AttemptCount": 0}
            found |= {"_Type": step.type, "_Began": moment, "Metadata": {}}
            for member, shown in (("DisplayName", "StepDisplayName"), ("Description", "StepDescription")):
                if member in step.body:
                    found[shown] = step.body[member]

        self._change(step.name, edit)
        self._proceed(step.name, lambda: self._cached(step))
        if self._record()["Steps"][step.name]["StepStatus"] not in STEP_ENDED:
            self._begin_attempt(step.name)

    def _begin_attempt(self, step: str) -> None:
        def edit(found: Record) -> None:
            for member in _OF_ONE_ATTEMPT:
                found.pop(member, None)
            found |= {"StepStatus": "Starting", "AttemptCount": found["AttemptCount"] + 1, "Metadata": {}}

        self._change(step, edit)
        self._attempts.pop(step, None)
        self._proceed(step, self._attempt(step).begin)
        self._executing(step)

    def _cached(self, step: StepDefinition) -> Ended | None:
        """Return the cached result of an earlier run of the step with the same arguments, or None."""
        if step.cached_for is None:
            return None
        run = StepRun(self._context, self._name, self._record(), self._definition, step)
        given = step.arguments
        if cache_key := step_types.TYPES[step.type].cache_key:
            given = {name: given[name] for name in cache_key if name in given}
        else:
            given = {name: step.body.get(name) for name in ("FunctionArn", "SqsQueueUrl", "Arguments")}
        # Without the generated names of jobs, which differ between runs
        key = caching.key_of(run.values(given, TrainingJobName="", ProcessingJobName=""))
        run.save(_CacheKey=key)
        earlier = self._earlier(step, key, now() - step.cached_for)
        if earlier is None:
            return None
        execution, found = earlier
        run.save(CacheHitResult={"SourcePipelineExecutionArn": execution})
        return Ended(found["_Properties"], found["Metadata"])

    def _earlier(self, step: StepDefinition, key: str, oldest: float) -> tuple[str, Record] | None:
        """Return the execution's ARN and the record of the step's last successful run with this key, or None.

        :param oldest: earliest end of the run, in epoch seconds
        """
        mine = self._record()["PipelineArn"]
        found = [
            (execution["PipelineExecutionArn"], ran)
            for execution in self._context.store.all(state.EXECUTION)
            if execution["PipelineArn"] == mine
            and (ran := execution["Steps"].get(step.name))
            and (ran["_Type"], ran["StepStatus"], ran.get("_CacheKey")) == (step.type, "Succeeded", key)
            and "CacheHitResult" not in ran
            and ran["EndTime"] >= oldest
        ]
        return max(found, key=lambda each: each[1]["EndTime"], default=None)

    # End

    def _stop_steps(self) -> None:
        """Request every running step to stop, once. A step that waits for its next attempt stops at once."""
        for name in self._in_flight(self._record()):
            found = self._record()["Steps"][name]
            if found.get("_Waiting"):
                self._change(name, lambda step: step.update(StepStatus="Stopped", EndTime=now()))
            elif found["StepStatus"] != "Stopping" and self._attempt(name).stoppable:
                self._change(name, lambda step: step.update(StepStatus="Stopping"))
                try:
                    self._attempt(name).stop()
                except StepError as error:  # it has ended, or continues to its end
                    logger.warning("Could not stop step %s of %s: %s", name, self._name, error)

    def _conclude(self) -> bool:
        """Set the execution's final status if no step is left. Return whether it has ended."""
        record = self._record()
        if self._in_flight(record):
            return False
        steps, reason = record["Steps"], None
        if record["PipelineExecutionStatus"] == "Stopping":
            late = [name for name, step in steps.items() if step.get("_TimedOut")]
            status = "Failed" if late or record.get("_TimedOut") else "Stopped"
            if status == "Failed":
                reason = TIMED_OUT if record.get("_TimedOut") else state.STEPS_FAILED
        elif self._ready(record):
            return False
        else:
            status = self._outcome(steps)
            reason = state.STEPS_FAILED if status == "Failed" else None
        state.advance(self._context, self._name, status, reason)
        return True

    def _outcome(self, steps: dict[str, Record]) -> str:
        """Return the final status of an execution with no step left to run."""
        bad = {name: step["StepStatus"] for name, step in steps.items() if step["StepStatus"] != "Succeeded"}
        handled = {
            name: any(each in steps for each in self._definition.handlers(name, status))
            for name, status in bad.items()
        }
        left = {bad[name] for name, done in handled.items() if not done}
        if left:
            return "Failed" if "Failed" in left else "Stopped"
        return "CompletedWithFailures" if bad else "Succeeded"
