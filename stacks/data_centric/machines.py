"""The state machine `Label`: a run from its manifest to consolidated labels.

    Accept -> Check (input, cost) -> Load, repeated until all tasks exist
           -> Watch <-> Pause, until the run closes -> Settle -> Consolidate -> Report

With `estimate_only` in the input, the execution ends after Check.

Invalid input and errors of an annotation function lead to `Failed` with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from groundplan.states import Flow, Rule
from settings.data_centric import DataCentric

INVOKE = "lambda:invoke"
API_SECONDS = 29
"""Timeout of the API's function in seconds. Requests in flight when a run closes end within this time."""
CHECK_SECONDS = 120
LOAD_SECONDS = 300
WATCH_SECONDS = 600
CONSOLIDATE_SECONDS = 900
"""Timeouts of the other functions in seconds."""
MOST_LOADS = 100
"""Number of Load steps for which the execution's timeout suffices."""
STEPS = ("Check", "Load", "Watch", "Consolidate")
"""Construct ids of the functions that `Label` invokes."""


def label(settings: DataCentric, functions: Mapping[str, str]) -> dict[str, Any]:
    """Return the definition of `Label`. `functions` has the functions' ARNs by construct id."""
    flow = Flow()
    # the function Check checks the rest of the input, and names the invalid field
    flow.settle(
        "Accept",
        {
            **Flow.UNFAILED,
            "at": "Accept",
            "input": "{% $states.input %}",
            "execution": "{% $states.context.Execution.Id %}",
        },
        "Check",
    )

    def step(id: str, payload: Mapping[str, str], assign: str, then: str, seconds: int) -> None:
        flow.call(
            id,
            INVOKE,
            {"FunctionName": functions[id], "Payload": dict(payload)},
            then,
            assign={assign: "{% $states.result.Payload %}"},
            seconds=seconds,
        )
        # any call may be repeated, because all functions are idempotent
        flow.states[id]["Retry"] = [
            {
                "ErrorEquals": ["States.ALL"],
                "IntervalSeconds": 2,
                "MaxAttempts": 4,
                "BackoffRate": 3,
                "JitterStrategy": "FULL",
            }
        ]

    def refused(id: str, variable: str) -> Rule:
        """Return the rule that leads to `Failed` if a function returned a problem."""
        return Rule(
            when=f"{{% $exists(${variable}.problem) %}}",
            then="Failed",
            assign={"at": id, "reason": f"{{% '{id}: ' & ${variable}.problem %}}"},
        )

    whole = {"input": "{% $input %}", "execution": "{% $execution %}"}
    step("Check", {"input": "{% $input %}"}, "checked", "IsChecked", CHECK_SECONDS + 10)
    flow.choose(
        "IsChecked",
        refused("Check", "checked"),
        Rule(when="{% $checked.estimate_only %}", then="Estimate"),
        otherwise="Load",
        assign={"loading": {"next": 0, "tasks": 0}},
    )
    step(
        "Load",
        {**whole, "next": "{% $loading.next %}", "tasks": "{% $loading.tasks %}"},
        "loading",
        "IsLoaded",
        LOAD_SECONDS + 10,
    )
    flow.choose(
        "IsLoaded",
        refused("Load", "loading"),
        Rule(when="{% $loading.loaded %}", then="Watch"),
        otherwise="Load",
    )
    step("Watch", {"name": "{% $checked.name %}"}, "watched", "IsClosed", WATCH_SECONDS + 10)
    flow.choose("IsClosed", Rule(when="{% $watched.closed %}", then="Settle"), otherwise="Pause")
    flow.pause("Pause", "{% $watched.pause %}", "Watch")
    # a complete run accepts no more answers; an incomplete one may still have requests in flight
    flow.pause("Settle", f"{{% $watched.complete ? 1 : {API_SECONDS + 1} %}}", "Consolidate")
    step("Consolidate", whole, "results", "IsConsolidated", CONSOLIDATE_SECONDS + 10)
    flow.choose("IsConsolidated", refused("Consolidate", "results"), otherwise="Report")
    flow.report("Estimate", "{% {'name': $checked.name, 'items': $checked.items, 'cost': $checked.cost} %}")
    flow.report("Report", "{% $merge([{'name': $checked.name, 'cost': $checked.cost}, $results]) %}")
    seconds = 3600 * settings.labeling.most_hours + MOST_LOADS * LOAD_SECONDS + 4 * CONSOLIDATE_SECONDS
    return flow.definition("Accept", seconds=seconds)
