"""State machines, built state by state.

A `Flow` is a whole machine; a `Branch` is a branch of a Parallel state, or the iteration of a Map state.
States are added in reading order, each with the name of the next state. Values are stored in variables
(`assign`). A state's output is empty unless `output` is given. The last state of a branch needs `output` to
return a result.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aws_cdk import Aws

from groundplan.states.check import nexts, problems

State = dict[str, Any]

CALL_SECONDS = 60
"""Timeout of an API call in seconds."""
THROTTLES = 8
"""Maximum number of retries of throttled calls in an execution. The pauses before the retries double from 2 s
and add up to about 8 minutes."""
MOST_INLINE = 40
"""Maximum concurrency of an inline Map state in Step Functions."""
MOST_DISTRIBUTED = 10_000
"""Maximum concurrency of a distributed Map state in Step Functions."""
LONGEST_LABEL = 40
"""Maximum number of characters in a distributed Map state's label."""

_THROTTLING = "/throttl|rate exceeded|too many requests/i"
_TRANSIENT = (
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.TooManyRequestsException",
)
"""Transient errors, from the best practices for Lambda in the Step Functions Developer Guide."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule of a Choice state: the JSONata condition, the next state, the variables to assign."""

    when: str
    then: str
    assign: Mapping[str, Any] = field(default_factory=dict)


class _States(ABC):
    """States by name. `then` is the name of the next state, None at the end of a branch."""

    def __init__(self) -> None:
        self.states: dict[str, State] = {}

    def _add(self, name: str, state: State) -> None:
        if name in self.states:
            raise ValueError(f"there are two states with the name {name}")
        self.states[name] = state

    @abstractmethod
    def _handlers(self, name: str, timeout: str) -> State:
        """Return the retriers and catchers of a state. `timeout` is the failure reason after a timeout."""

    def _after(
        self,
        name: str,
        then: str | None,
        assign: Mapping[str, Any] | None,
        output: Any,
        timeout: str = "a task in it ran out of time",
    ) -> State:
        """Return variables, output, error handlers and next state of a Task, Map or Parallel state."""
        return {
            **_given(Assign=assign),
            "Output": {} if output is None else output,
            **self._handlers(name, timeout),
            **_end(then),
        }

    def call(
        self,
        name: str,
        action: str,
        arguments: Mapping[str, Any],
        then: str | None,
        *,
        assign: Mapping[str, Any] | None = None,
        output: Any = None,
        seconds: int = CALL_SECONDS,
    ) -> None:
        """Add a task that calls a service.

        `action` is the service integration, such as `aws-sdk:sagemaker:describeEndpoint`, `lambda:invoke` or
        `sagemaker:createTrainingJob.sync`, which waits for the job's end. `seconds` is the timeout.
        """
        self._add(name, self._task(name, action, arguments, then, assign, output, seconds))

    def wait_for_callback(
        self,
        name: str,
        action: str,
        arguments: Mapping[str, Any],
        then: str | None,
        *,
        seconds: int | str,
        heartbeat: int | str,
        assign: Mapping[str, Any] | None = None,
        output: Any = None,
    ) -> None:
        """Add a task that waits until a caller sends SendTaskSuccess or SendTaskFailure with its token.

        The task fails after `seconds`, or after `heartbeat` seconds without SendTaskHeartbeat. Both may be
        JSONata expressions. Raises `ValueError` if `arguments` do not contain `$states.context.Task.Token`.
        """
        if "$states.context.Task.Token" not in str(arguments):
            raise ValueError(
                f"the arguments of {name} must contain $states.context.Task.Token, which a callback needs"
            )
        state = self._task(name, f"{action}.waitForTaskToken", arguments, then, assign, output, seconds)
        self._add(name, {**state, "HeartbeatSeconds": heartbeat})

    def _task(
        self,
        name: str,
        action: str,
        arguments: Mapping[str, Any],
        then: str | None,
        assign: Mapping[str, Any] | None,
        output: Any,
        seconds: int | str,
    ) -> State:
        late = f"no end after {seconds} seconds" if isinstance(seconds, int) else "no end in time"
        return {
            "Type": "Task",
            "Resource": f"arn:{Aws.PARTITION}:states:::{action}",
            "Arguments": dict(arguments),
            "TimeoutSeconds": seconds,
            **self._after(name, then, assign, output, late),
        }

    def settle(
        self, name: str, assign: Mapping[str, Any], then: str | None, *, pass_on: bool = False
    ) -> None:
        """Add a Pass state that assigns variables. With `pass_on`, the state's output is its input; otherwise
        it is empty."""
        self._add(
            name,
            {"Type": "Pass", "Assign": dict(assign), **({} if pass_on else {"Output": {}}), **_end(then)},
        )

    def choose(
        self, name: str, *rules: Rule, otherwise: str, assign: Mapping[str, Any] | None = None
    ) -> None:
        """Add a Choice state. If no rule applies, it assigns `assign` and continues with `otherwise`."""
        self._add(
            name,
            {
                "Type": "Choice",
                "Choices": [
                    {"Condition": rule.when, **_given(Assign=rule.assign), "Next": rule.then}
                    for rule in rules
                ],
                "Default": otherwise,
                **_given(Assign=assign),
            },
        )

    def pause(self, name: str, seconds: int | str, then: str) -> None:
        """Add a Wait state of `seconds`, which may be a JSONata expression."""
        self._add(name, {"Type": "Wait", "Seconds": seconds, "Next": then})

    def report(self, name: str, output: Any) -> None:
        """Add a final state, which succeeds with `output`."""
        self._add(name, {"Type": "Pass", "Output": output, "End": True})

    def parallel(
        self,
        name: str,
        branches: Sequence[Branch],
        then: str | None,
        *,
        assign: Mapping[str, Any] | None = None,
        output: Any = None,
    ) -> None:
        """Add a state that runs branches in parallel. `$states.result` is the list of their outputs.

        The first branch that fails stops the others.
        """
        inside = [branch.definition() for branch in branches]
        after = self._after(name, then, assign, output)
        self._add(name, {"Type": "Parallel", "Branches": inside, **after})

    def each(
        self,
        name: str,
        items: str,
        branch: Branch,
        then: str | None,
        *,
        at_once: int,
        select: Mapping[str, Any] | None = None,
        assign: Mapping[str, Any] | None = None,
        output: Any = None,
    ) -> None:
        """Add a Map state that runs a branch for each element of `items`, the JSONata of an array.

        `at_once` is the maximum concurrency, at most `MOST_INLINE`. `select` is an iteration's input and may
        contain `$states.context.Map.Item.Value`; by default it is the element. `$states.result` is the list
        of the iterations' outputs. The first iteration that fails stops the others.
        """
        if not 1 <= at_once <= MOST_INLINE:
            raise ValueError(f"{name}: at_once must be from 1 to {MOST_INLINE}, got {at_once}")
        state = {
            "Type": "Map",
            "Items": items,
            "ItemProcessor": branch.definition(Mode="INLINE"),
            "MaxConcurrency": at_once,
            **_given(ItemSelector=select),
        }
        self._add(name, {**state, **self._after(name, then, assign, output)})

    def each_of_many(
        self,
        name: str,
        reader: Mapping[str, Any],
        branch: Branch,
        then: str | None,
        *,
        at_once: int,
        results: Mapping[str, Any] | None = None,
        select: Mapping[str, Any] | None = None,
        batch: int = 1,
        tolerated_percent: int = 0,
        express: bool = False,
        assign: Mapping[str, Any] | None = None,
        output: Any = None,
    ) -> None:
        """Add a distributed Map state: one child execution for every `batch` items of a dataset.

        `reader` is the ItemReader with the dataset in S3. `results` is the ResultWriter, for results that
        are too large for `$states.result`. If `batch` is more than 1, the branch gets its items as
        `$states.input.Items`. A branch has no access to the variables of the machine: pass them in `select`.
        The state fails if more than `tolerated_percent` percent of the items fail. The other arguments are
        those of `each`, with at most `MOST_DISTRIBUTED` executions at once.
        """
        if not 1 <= at_once <= MOST_DISTRIBUTED:
            raise ValueError(f"{name}: at_once must be from 1 to {MOST_DISTRIBUTED}, got {at_once}")
        kind = "EXPRESS" if express else "STANDARD"
        state = {
            "Type": "Map",
            "ItemReader": dict(reader),
            "ItemProcessor": branch.definition(Mode="DISTRIBUTED", ExecutionType=kind),
            "Label": name[:LONGEST_LABEL],
            **_given(ResultWriter=results),
            **({"ItemBatcher": {"MaxItemsPerBatch": batch}} if batch > 1 else {}),
            **({"ToleratedFailurePercentage": tolerated_percent} if tolerated_percent else {}),
            "MaxConcurrency": at_once,
            **_given(ItemSelector=select),
        }
        self._add(name, {**state, **self._after(name, then, assign, output)})


class Branch(_States):
    """The states that a Map or Parallel state runs. The last one has no `then`, or is a `report`.

    Transient errors of a task are retried. Any other error fails the branch, and so the enclosing state.
    Names of states and variables must differ from those of the enclosing machine.
    """

    def __init__(self, start: str) -> None:
        super().__init__()
        self.start = start

    def definition(self, **processor: str) -> dict[str, Any]:
        """Return the branch's definition, with `processor` as its ProcessorConfig."""
        config = {"ProcessorConfig": processor} if processor else {}
        return {**config, "StartAt": self.start, "States": self.states}

    def _handlers(self, name: str, timeout: str) -> State:
        return {
            "Retry": [
                {
                    "ErrorEquals": list(_TRANSIENT),
                    "IntervalSeconds": 2,
                    "MaxAttempts": 6,
                    "BackoffRate": 2,
                    "JitterStrategy": "FULL",
                }
            ]
        }


class Flow(_States):
    """A state machine that succeeds, or fails with the reason in one sentence.

    Every error leads to the state `Caught`. A throttled call is repeated after a pause; any other error leads
    to the state that `undo` names, and then to `Failed`. Step Functions' `Retry` is not sufficient:
    throttling by SageMaker has the same error name as an invalid request.

    The first state must assign `UNFAILED`. After an error, `$at` is the state that failed, and `$reason` the
    reason. A Choice state that leads to `undo` or `Failed` must assign both.
    """

    UNFAILED: Mapping[str, Any] = {"reason": "", "throttled": False, "throttles": 0}

    def __init__(self, *, undo: str = "Failed") -> None:
        super().__init__()
        self.undo = undo

    def try_to(self, name: str, action: str, arguments: Mapping[str, Any], then: str) -> None:
        """Add a call whose errors are ignored, so that `$reason` keeps the reason of an earlier error."""
        self.call(name, action, arguments, then)
        self.states[name]["Catch"] = [{"ErrorEquals": ["States.ALL"], "Output": {}, "Next": then}]

    def definition(self, start: str, *, seconds: int) -> dict[str, Any]:
        """Return the state machine with a timeout of `seconds`. Raises `ValueError` that lists all errors."""
        self._add_failures()
        machine = {
            "QueryLanguage": "JSONata",
            "StartAt": start,
            "TimeoutSeconds": seconds,
            "States": self.states,
        }
        found = problems(machine)
        missing = self.UNFAILED.keys() - self.states[start].get("Assign", {}).keys()
        if "Caught" in self.states and missing:
            found.append(f"{start} does not assign {', '.join(sorted(missing))}: see Flow.UNFAILED")
        if found:
            raise ValueError("the state machine is not sound: " + "; ".join(found))
        return machine

    def _add_failures(self) -> None:
        """Add the states that handle errors."""
        caught = [
            name
            for name, state in self.states.items()
            if any(each["Next"] == "Caught" for each in state.get("Catch", []))
        ]
        if caught:
            again = f"{{% $throttled and $throttles < {THROTTLES} %}}"
            more = {"throttles": "{% $throttles + 1 %}"}
            self.choose("Caught", Rule(when=again, then="BackOff", assign=more), otherwise=self.undo)
            # with jitter, so that executions that were throttled together do not retry together
            self.pause("BackOff", "{% $ceil($power(2, $throttles) * (0.5 + $random())) %}", "Again")
            back = (Rule(when=f"{{% $at = '{name}' %}}", then=name) for name in caught)
            self.choose("Again", *back, otherwise=self.undo)
        if any("Failed" in nexts(state) for state in self.states.values()):
            self._add("Failed", {"Type": "Fail", "Error": "{% $at & 'Failed' %}", "Cause": "{% $reason %}"})

    def _handlers(self, name: str, timeout: str) -> State:
        return {
            "Catch": [
                {
                    "ErrorEquals": ["States.ALL"],
                    "Assign": {"at": name, "reason": _reason(name, timeout), "throttled": _throttled()},
                    "Output": {},
                    "Next": "Caught",
                }
            ]
        }


def jsonata_object(values: Mapping[str, str]) -> str:
    """Return a JSONata object literal with string values."""
    return "{" + ", ".join(f"'{key}': '{value}'" for key, value in values.items()) + "}"


def _reason(name: str, timeout: str) -> str:
    """Return the JSONata for the reason of a failure: a job's FailureReason or status, `timeout`, or the
    error's name and cause."""
    return (
        "{% ($caught := $states.errorOutput; $cause := $string($caught.Cause);"
        " $job := $substring($cause, 0, 1) = '{' ? $parse($cause) : {};"
        f" '{name}: ' & ($exists($job.FailureReason) ? $job.FailureReason"
        " : $exists($job.TrainingJobStatus) ? 'training job ' & $job.TrainingJobName & ' ended as '"
        " & $job.TrainingJobStatus & ' (' & $job.SecondaryStatus & ')'"
        f" : $caught.Error = 'States.Timeout' ? '{timeout}'"
        " : $caught.Error & ' ' & $cause)) %}"
    )


def _throttled() -> str:
    """Return the JSONata condition that a call was throttled.

    `States.TaskFailed` never counts as throttling: it is the error of a failed job, whose reason may contain
    any text.
    """
    return (
        "{% $states.errorOutput.Error != 'States.TaskFailed' and"
        f" $contains($states.errorOutput.Error & ' ' & $states.errorOutput.Cause, {_THROTTLING}) %}}"
    )


def _given(**fields: Mapping[str, Any] | None) -> State:
    return {name: dict(value) for name, value in fields.items() if value}


def _end(then: str | None) -> State:
    return {"Next": then} if then else {"End": True}
