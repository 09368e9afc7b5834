"""Step Functions: history and context of the branches of Parallel and Map states."""

from __future__ import annotations

import contextvars
import json
import threading
from collections.abc import Callable
from typing import Any

from local.emulator.reach import Cloud, hook, replace, touch

_branch: contextvars.ContextVar[tuple[dict, dict] | None] = contextvars.ContextVar("branch", default=None)
"""States of the branch that the current thread runs, and the execution's record."""


@hook
def branches_have_a_history(cloud: Cloud) -> None:
    """MiniStack's history has no events of the states in a branch. Parallel branches share one context, so
    that they overwrite each other's state name, task token and variables."""
    lock = threading.Lock()

    @replace("services.stepfunctions._add_event", "execution", "event_type", "details")
    def add_event(original: Callable, execution: dict, kind: str, details: dict | None = None) -> dict:
        with lock:  # an event's ID is the number of earlier events
            return original(execution, kind, details)

    add = touch("services.stepfunctions._add_event")

    @replace(
        "services.stepfunctions._run_sub_machine", "states", "start_at", "input_data", "execution", "ctx"
    )
    def run(original: Callable, states: dict, start: str, given: Any, execution: dict, ctx: dict) -> Any:
        token = _branch.set((states, execution))
        try:
            own = {**ctx, "variables": {**ctx["variables"]}}
            return original(states, start, given, execution, own)
        finally:
            _branch.reset(token)

    for kind in ("Pass", "Choice", "Wait", "Task", "Parallel", "Map"):
        running = () if kind in ("Pass", "Choice", "Wait") else ("execution",)

        @replace(f"services.stepfunctions._execute_{kind.lower()}", "state_def", "raw_input", *running, "ctx")
        def execute(original: Callable, state: dict, given: Any, *rest: Any, kind: str = kind) -> tuple:
            inside, name = _branch.get(), rest[-1]["State"]["Name"]
            if inside is None or inside[0].get(name) is not state:
                return original(state, given, *rest)
            execution = inside[1]
            entered = {"name": name, "input": json.dumps(given)}
            add(execution, f"{kind}StateEntered", {"stateEnteredEventDetails": entered})
            output, after = original(state, given, *rest)
            exited = {"name": name, "output": json.dumps(output)}
            add(execution, f"{kind}StateExited", {"stateExitedEventDetails": exited})
            return output, after
