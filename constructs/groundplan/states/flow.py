"""State machines, built state by state.

A `Flow` is a whole machine, a `Branch` what one of its Map or Parallel states runs. States are added in the
order in which a reader should meet them, each with the name of the one that follows. Values are kept in
variables (`assign`). `output` is for the end of a branch: by default a state passes on nothing.
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
"""How long one API call may take."""
THROTTLES = 8
"""How often an execution may be throttled, with pauses that double from 2 s: about 8 minutes in all."""
MOST_INLINE = 40
"""Iterations of an inline Map state that Step Functions runs at once."""
MOST_DISTRIBUTED = 10_000
"""Executions of a distributed Map state that Step Functions runs at once."""
LONGEST_LABEL = 40
"""Characters of a distributed Map state's label."""

_THROTTLING = "/throttl|rate exceeded|too many requests/i"
_TRANSIENT = (
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.TooManyRequestsException",
)
"""Errors after which the same request may succeed, from the best practices of the Step Functions developer
guide for Lambda."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One way out of a Choice state: the JSONata condition, the next state, the variables to assign."""

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
        """Return what happens when a state fails. `timeout` is the reason of a timeout."""

    def _after(
        self,
        name: str,
        then: str | None,
        assign: Mapping[str, Any] | None,
        output: Any,
        timeout: str = "a task in it ran out of time",
    ) -> State:
        """Return the fields that say what follows a task, Map or Parallel state."""
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

        `action` is the integration, such as `aws-sdk:sagemaker:describeEndpoint`, `lambda:invoke` or
        `sagemaker:createTrainingJob.sync`, which waits for the job's end. `seconds` is its timeout.
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
        """Add a task that waits until somebody calls SendTaskSuccess or SendTaskFailure with its token.

        `arguments` must contain `$states.context.Task.Token`. The task fails after `seconds`, and after
        `heartbeat` seconds without SendTaskHeartbeat; both may be JSONata expressions. Raises `ValueError`
        where the token is not passed on.
        """
        if "$states.context.Task.Token" not in str(arguments):
            raise ValueError(f"{name} passes on no $states.context.Task.Token: nobody could call back")
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
        """Add a Pass state that assigns variables. `pass_on`: its input is the next state's input too."""
        self._add(
            name,
            {"Type": "Pass", "Assign": dict(assign), **({} if pass_on else {"Output": {}}), **_end(then)},
        )

    def choose(
        self, name: str, *rules: Rule, otherwise: str, assign: Mapping[str, Any] | None = None
    ) -> None:
        """Add a Choice state. `otherwise` is where it leads when no rule applies, with `assign` assigned."""
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
        """Add a last state, which succeeds with `output`."""
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
        """Add a state that runs branches at the same time. `$states.result` is the list of their outputs.

        The first branch that fails ends the others.
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

        `at_once` is how many run at the same time, `MOST_INLINE` at most; `select` is an iteration's input,
        with `$states.context.Map.Item.Value` in it, by default the element. `$states.result` is the list of
        the branches' outputs; the first that fails ends the others.
        """
        if not 1 <= at_once <= MOST_INLINE:
            raise ValueError(f"{name}: at_once is from 1 to {MOST_INLINE}, not {at_once}")
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
        """Add a distributed Map state: an execution for each item of a dataset, or for `batch` of them.

        `reader` is the ItemReader, which names the dataset in S3. `results` is the ResultWriter, for results
        that are too large for `$states.result`. A branch gets a batch as `$states.input.Items` and has no
        access to the variables around it: pass them by `select`. More failures than `tolerated_percent` fail
        the state. The rest is as for `each`, with `MOST_DISTRIBUTED` at once.
        """
        if not 1 <= at_once <= MOST_DISTRIBUTED:
            raise ValueError(f"{name}: at_once is from 1 to {MOST_DISTRIBUTED}, not {at_once}")
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
    """What a Map or Parallel state runs. It ends with a state whose `then` is None, or with a report.

    A task's transient errors are retried; any other error fails the branch, and with it the state around it.
    The names of its states and variables must differ from those of the machine around it.
    """

    def __init__(self, start: str) -> None:
        super().__init__()
        self.start = start

    def definition(self, **processor: str) -> dict[str, Any]:
        """Return the branch, with `processor` as its ProcessorConfig."""
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
    """A state machine that succeeds or says why.

    Whatever fails leads to `Caught`: a throttled call goes back to where it was after a pause, everything
    else goes to `undo`, and ends in `Failed` with the reason in one sentence. Step Functions' own `Retry`
    cannot do that: SageMaker's throttling reaches it under the same name as a request that is simply wrong.

    The first state must assign `UNFAILED`. `$at` is then the state that failed and `$reason` why; a Choice
    state that leads to `undo` or `Failed` assigns both.
    """

    UNFAILED: Mapping[str, Any] = {"reason": "", "throttled": False, "throttles": 0}

    def __init__(self, *, undo: str = "Failed") -> None:
        super().__init__()
        self.undo = undo

    def try_to(self, name: str, action: str, arguments: Mapping[str, Any], then: str) -> None:
        """Add a call whose failure changes nothing: the reason that counts is the first one."""
        self.call(name, action, arguments, then)
        self.states[name]["Catch"] = [{"ErrorEquals": ["States.ALL"], "Output": {}, "Next": then}]

    def definition(self, start: str, *, seconds: int) -> dict[str, Any]:
        """Return the state machine, which may run for so many seconds.

        Raises `ValueError` with everything that is not sound.
        """
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
        """Add the states that every failure leads to."""
        caught = [
            name
            for name, state in self.states.items()
            if any(each["Next"] == "Caught" for each in state.get("Catch", []))
        ]
        if caught:
            again = f"{{% $throttled and $throttles < {THROTTLES} %}}"
            more = {"throttles": "{% $throttles + 1 %}"}
            self.choose("Caught", Rule(when=again, then="BackOff", assign=more), otherwise=self.undo)
            # With chance in it: those who were throttled together should not come back together
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
    """Return a JSONata object of plain texts."""
    return "{" + ", ".join(f"'{key}': '{value}'" for key, value in values.items()) + "}"


def _reason(name: str, timeout: str) -> str:
    """Return why a state failed: a job's own FailureReason where there is one, else error and cause."""
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
    """A failed job's reason may say anything; only a refused call can be throttled."""
    return (
        "{% $states.errorOutput.Error != 'States.TaskFailed' and"
        f" $contains($states.errorOutput.Error & ' ' & $states.errorOutput.Cause, {_THROTTLING}) %}}"
    )


def _given(**fields: Mapping[str, Any] | None) -> State:
    return {name: dict(value) for name, value in fields.items() if value}


def _end(then: str | None) -> State:
    return {"Next": then} if then else {"End": True}
