"""Step Functions executions that survive a restart of the server."""

from __future__ import annotations

import contextvars
import copy
import functools
import json
import threading
from collections.abc import Callable
from typing import Any

from local.emulator import ministack
from local.emulator.reach import Cloud, hook, replace, touch

POSITION = "position"
"""Key in an execution's record. The value has the current state, that state's input, and the variables."""

_resumed: contextvars.ContextVar[dict[str, Any] | None] = contextvars.ContextVar("resumed", default=None)
_running: list[tuple[str, str, str]] = []
"""(account, Region, ARN) of each execution that was running when the server stopped."""


@functools.lru_cache(maxsize=64)
def _states(definition: str) -> dict[str, Any]:
    """Return the top-level states of a definition."""
    return json.loads(definition)["States"]


def _goes_on(execution: dict) -> bool:
    """Return whether an execution can resume. It cannot if a caller or a Map state waits for its result."""
    return not execution.get("sync") and not execution.get("mapRunArn")


@hook
def executions_go_on_after_a_restart(cloud: Cloud) -> None:
    """MiniStack fails executions that were running when the server stopped; AWS does not. With this hook,
    such an execution is restarted at its current state, with a new task token if that state waits for a
    callback."""
    executions = touch("services.stepfunctions._executions")
    machines = touch("services.stepfunctions._state_machines")

    for kind in ("pass", "choice", "wait", "task", "parallel", "map"):
        running = () if kind in ("pass", "choice", "wait") else ("execution",)

        @replace(f"services.stepfunctions._execute_{kind}", "state_def", "raw_input", *running, "ctx")
        def execute(original: Callable, state: dict, given: Any, *rest: Any) -> tuple:
            ctx = rest[-1]
            execution = executions.get(ctx.get("Execution", {}).get("Id"))
            if execution is None or not _goes_on(execution):
                return original(state, given, *rest)
            if at := _resumed.get():  # jump from the first state to the one that was interrupted
                _resumed.set(None)
                ctx["variables"].update(copy.deepcopy(at["variables"]))
                return at["input"], at["state"]
            name = ctx["State"]["Name"]
            machine = machines.get(execution["stateMachineArn"]) or {"definition": '{"States": {}}'}
            if _states(machine["definition"]).get(name) == state:
                variables = copy.deepcopy(ctx["variables"])
                execution[POSITION] = {"state": name, "input": given, "variables": variables}
            return original(state, given, *rest)

    @replace("services.stepfunctions.load_persisted_state", "data")
    def load(original: Callable, data: dict) -> None:
        found = (data or {}).get("executions")
        known = found.all_items() if found else ()
        ran = [place for place, each in known if each["status"] == "RUNNING" and _goes_on(each)]
        original(data)
        for place in ran:
            execution = executions.get_scoped(*place)
            execution.update(status="RUNNING", stopDate=None)
            for ended in ("error", "cause"):
                execution.pop(ended, None)
        _running.extend(ran)


def resume() -> None:
    """Resume the executions that were running when the server stopped."""
    run = touch("services.stepfunctions._run_execution", "exec_arn")
    executions = touch("services.stepfunctions._executions")

    def go_on(account: str, region: str, arn: str) -> None:
        with ministack.scope(account, region):
            at = executions[arn].get(POSITION)
            definition = touch("services.stepfunctions._state_machines")[executions[arn]["stateMachineArn"]]
            if at and at["state"] != json.loads(definition["definition"])["StartAt"]:
                _resumed.set(at)
            run(arn)

    while _running:
        place = _running.pop()
        threading.Thread(target=contextvars.Context().run, args=(go_on, *place), daemon=True).start()
