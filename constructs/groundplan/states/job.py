"""State machines that start one SageMaker job per execution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from groundplan.states.flow import Flow, Rule

UNIQUE = 12
"""Number of characters of an execution's hash in the names of the resources that the execution creates."""
EXECUTION_HASH = (
    "$substring($hash($states.context.Execution.Id & $states.context.Execution.StartTime, 'SHA-256'),"
    f" 0, {UNIQUE})"
)
"""JSONata for a name suffix that is unique per execution, and the same when the execution retries a call."""


def start_job(
    flow: Flow,
    action: str,
    arguments: Mapping[str, Any],
    then: str,
    *,
    name: str,
    refused: Sequence[Rule],
    assign: Mapping[str, Any],
) -> None:
    """Add the states `Accept`, `IsAccepted` and `Start`, which check the input and start a job.

    The variable `$given` is the execution's input. `$job` is the job's name, which `arguments` must contain.
    It consists of `name` and the execution's hash, so that a retry finds the job of the first call.

    :param action: the service integration that starts the job, as for `Flow.call`
    :param refused: rules for invalid inputs, see `not_text` and `outside`
    :param assign: initial variables
    """
    flow.settle(
        "Accept",
        {
            **Flow.UNFAILED,
            "at": "Accept",
            "given": "{% $states.input %}",
            "job": f"{{% '{name}-' & {EXECUTION_HASH} %}}",
            **assign,
        },
        "IsAccepted",
    )
    flow.choose("IsAccepted", *refused, otherwise="Start")
    flow.call("Start", action, arguments, then)
    # this error means that an earlier call of this execution has started the job
    flow.states["Start"]["Catch"].insert(
        0,
        {
            "ErrorEquals": ["SageMaker.ResourceInUseException"],
            "Assign": {"at": "Start"},
            "Output": {},
            "Next": then,
        },
    )


def not_text(field: str) -> Rule:
    """Return the rule that rejects an input whose field is not a string."""
    return _refused(field, f"$not($type($given.{field}) = 'string')", "be a text")


def outside(field: str, folders: Sequence[str], *, optional: bool = False) -> Rule:
    """Return the rule that rejects an input whose field is not an S3 URI in one of these folders.

    The folders' URIs end in a slash. An `optional` field may be missing.
    """
    value = f"$given.{field}"
    inside = " or ".join(f"$substring({value}, 0, $length('{each}')) = '{each}'" for each in folders)
    wrong = f"$not($type({value}) = 'string' ? ({inside}) : false)"
    condition = f"$exists({value}) and {wrong}" if optional else wrong
    return _refused(field, condition, f"be below {' or '.join(folders)}")


def _refused(field: str, condition: str, must: str) -> Rule:
    value = f"$given.{field}"
    got = f"($exists({value}) ? $string({value}) : 'nothing')"
    return Rule(
        when=f"{{% {condition} %}}",
        then="Failed",
        assign={"at": "Accept", "reason": f"{{% '{field} must {must}, got ' & {got} %}}"},
    )
