"""Step Functions: validation of requests, payload limits, and JSONata in states."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from local.emulator import ministack
from local.emulator.definitions import JSONATA, Diagnostic, diagnose
from local.emulator.reach import Cloud, hook, put, replace, touch
from local.sagemaker.api import NOT_BUILT

LARGEST = 256 * 1024
"""Maximum bytes of UTF-8 of the input or output of a task, state or execution (Step Functions quotas)."""
TERMINAL = ("States.DataLimitExceeded", "States.Runtime")
"""Errors that States.ALL and States.TaskFailed do not match (error handling in the developer guide)."""

_PLAIN = ("Label", "MaxConcurrency", "ToleratedFailurePercentage", "ToleratedFailureCount", "Next", "End")
"""Fields of a distributed Map that do not concern its items."""
_PROCESSORS = ("ItemProcessor", "Iterator")

Response = tuple[int, dict, bytes]


def _refuse(code: str, message: str) -> Response:
    return touch("core.responses.error_response_json", "code", "message", "status")(code, message, 400)


def _found(definition: Any) -> list[Diagnostic]:
    found = diagnose(definition if isinstance(definition, str) else "")
    if not found:
        bad = touch("services.stepfunctions._validate_definition_jsonata", "definition_str")(definition)
        code, _, said = (bad or "").partition(": ")
        message, _, location = said.partition("\n  at ")
        found = [Diagnostic(code, message, location)] if bad else []
    return found


def _problem(definition: Any, role: Any) -> tuple[str, str] | None:
    """Return the error code and message of the first reason to refuse a state machine, or None.

    Arguments that are None are not checked."""
    if definition is not None and (found := _found(definition)):
        said = ", ".join(map(str, found))
        return "InvalidDefinition", f"Invalid State Machine Definition: '{said}'"
    if definition is not None and (where := _result_writer(json.loads(definition))):
        return NOT_BUILT, f"{where}: ResultWriter is not implemented in the local cloud"
    account, region = ministack.here()
    services = ("states.amazonaws.com", f"states.{region}.amazonaws.com")
    if role is not None and not any(ministack.assumable(account, str(role), each) for each in services):
        return "AccessDeniedException", (
            "Neither the global service principal states.amazonaws.com, nor the regional one is authorized "
            "to assume the provided role."
        )
    return None


def _result_writer(flow: Any) -> str | None:
    """Return the name of the first state with a ResultWriter in a state machine or its branches, or None."""
    for name, state in flow["States"].items():
        if "ResultWriter" in state:
            return name
        inside = [*state.get("Branches", []), *(state[key] for key in _PROCESSORS if key in state)]
        if found := next(filter(None, map(_result_writer, inside)), None):
            return found
    return None


@hook
def definitions_are_checked(cloud: Cloud) -> None:
    """MiniStack accepts any text as a definition, with any role, and its ValidateStateMachineDefinition finds
    no errors."""
    answer = touch("core.responses.json_response", "data")
    machines = touch("services.stepfunctions._state_machines")
    stated = touch("services.cloudformation.provisioners._sfn_definition", "props")
    handlers = "services.cloudformation.provisioners._RESOURCE_HANDLERS"
    create_in_stack = touch(handlers)["AWS::StepFunctions::StateMachine"]["create"]

    @replace("services.stepfunctions._create_state_machine", "data")
    def create(original: Callable, data: dict) -> Response:
        problem = _problem(data.get("definition", ""), data.get("roleArn", ""))
        return _refuse(*problem) if problem else original(data)

    @replace("services.stepfunctions._update_state_machine", "data")
    def update(original: Callable, data: dict) -> Response:
        there = data.get("stateMachineArn") in machines
        problem = _problem(data.get("definition"), data.get("roleArn")) if there else None
        return _refuse(*problem) if problem else original(data)

    @replace("services.stepfunctions._validate_state_machine_definition", "data")
    def validate(original: Callable, data: dict) -> Response:
        found = _found(data.get("definition"))
        shown = found[: int(data.get("maxResults") or 100)]
        diagnostics = [
            {"severity": "ERROR", "code": each.code, "message": each.message}
            | ({"location": each.location} if each.location else {})
            for each in shown
        ]
        result = "FAIL" if found else "OK"
        return answer({"result": result, "diagnostics": diagnostics, "truncated": len(found) > len(shown)})

    def created(logical_id: str, properties: dict, stack: str, *rest: Any) -> tuple:
        if problem := _problem(stated(properties), properties.get("RoleArn", "")):
            code, message = problem
            raise ValueError(f"{message} (Service: AWSStepFunctions, Status Code: 400, Error Code: {code})")
        return create_in_stack(logical_id, properties, stack, *rest)

    put(handlers, "AWS::StepFunctions::StateMachine", "create", value=created)


@hook
def executions_start_once(cloud: Cloud) -> None:
    """If StartExecution has the name and input of a running execution, MiniStack refuses it; AWS returns the
    running execution. MiniStack accepts input of any size, and input that is not JSON."""
    answer = touch("core.responses.json_response", "data")
    resolved = touch("services.stepfunctions._resolve_state_machine_arn", "arn")
    machines = touch("services.stepfunctions._state_machines")
    executions = touch("services.stepfunctions._executions")

    def wrong(given: Any) -> Response | None:
        if len(given.encode()) > LARGEST:
            return _refuse(
                "ValidationException",
                "1 validation error detected: Value at 'input' failed to satisfy constraint: Member must "
                f"have length less than or equal to {LARGEST}",
            )
        try:
            json.loads(given)
        except ValueError as error:
            return _refuse("InvalidExecutionInput", f"Invalid State Machine Execution Input: '{error}'")
        return None

    @replace("services.stepfunctions._start_execution", "data")
    def start(original: Callable, data: dict) -> Response:
        given = data.get("input", "{}")
        if refused := wrong(given):
            return refused
        machine = machines.get(resolved(data.get("stateMachineArn", "").partition("#")[0]) or "")
        if machine and data.get("name") and machine["type"] == "STANDARD":
            arn = machine["stateMachineArn"].replace(":stateMachine:", ":execution:") + f":{data['name']}"
            first = executions.get(arn)
            if first and first["status"] == "RUNNING" and first["input"] == given:
                return answer({"executionArn": arn, "startDate": first["startDate"]})
        return original(data)

    @replace("services.stepfunctions._start_sync_execution", "data")
    def start_sync(original: Callable, data: dict) -> Response:
        return wrong(data.get("input", "{}")) or original(data)


@hook
def states_have_a_largest_size(cloud: Cloud) -> None:
    """In MiniStack, states have no payload limit, and States.ALL matches States.DataLimitExceeded."""
    failed = touch("services.stepfunctions._ExecutionError", "error", "cause")

    def measured(value: Any, what: str) -> Any:
        if len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()) > LARGEST:
            raise failed(
                TERMINAL[0],
                f"The state/task '{what}' returned a result with a size exceeding the maximum number of "
                "bytes service limit.",
            )
        return value

    for kind in ("pass", "choice", "wait", "task", "parallel", "map"):
        running = () if kind in ("pass", "choice", "wait") else ("execution",)

        @replace(f"services.stepfunctions._execute_{kind}", "state_def", "raw_input", *running, "ctx")
        def execute(original: Callable, state: dict, *given: Any) -> tuple:
            name = given[-1]["State"]["Name"]  # read before branches overwrite it
            output, after = original(state, *given)
            return measured(output, name), after

    @replace("services.stepfunctions._invoke_resource", "resource", "input_data")
    def invoke(original: Callable, resource: str, arguments: Any) -> Any:
        return measured(original(resource, measured(arguments, resource)), resource)

    @replace(
        "services.stepfunctions._invoke_with_callback", "resource", "input_data", "token", "state_def"
    )  # fmt: skip
    def invoke_with_callback(original: Callable, resource: str, arguments: Any, *rest: Any) -> Any:
        return measured(original(resource, measured(arguments, resource), *rest), resource)

    @replace("services.stepfunctions._error_matches", "error_equals", "error")
    def matches(original: Callable, names: list[str], error: str) -> bool:
        if error == "States.Runtime":
            return False
        return error in names if error in TERMINAL else original(names, error)


@hook
def jsonata_makes_every_output(cloud: Cloud) -> None:
    """MiniStack ignores `Output` in Succeed and in the default branch of Choice, and JSONata in Parallel."""
    language = touch("services.stepfunctions._state_query_language", "state_def", "ctx")
    output_of = touch(
        "services.stepfunctions._apply_jsonata_output", "state_def", "raw_input", "ctx", "result"
    )
    assign = touch("services.stepfunctions._apply_state_assign", "state_def", "raw_input", "ctx", "result")
    arguments_of = touch("services.stepfunctions._apply_jsonata_arguments", "state_def", "raw_input", "ctx")
    failed = touch("services.stepfunctions._ExecutionError", "error", "cause")

    @replace("services.stepfunctions._apply_output_path", "state_def", "data", "ctx")
    def output_path(original: Callable, state: dict, data: Any, ctx: dict | None = None) -> Any:
        if state.get("Type") == "Succeed" and language(state, ctx) == JSONATA:
            return output_of(state, data, ctx, default=data)
        return original(state, data, ctx)

    @replace("services.stepfunctions._run_parallel_branches", "state_def", "raw_input", "execution", "ctx")
    def parallel(original: Callable, state: dict, given: Any, execution: dict, ctx: dict) -> tuple:
        if language(state, ctx) != JSONATA:
            return original(state, given, execution, ctx)
        plain = {key: state[key] for key in ("Branches", "Next", "End") if key in state}
        results, after = original(plain, arguments_of(state, given, ctx), execution, ctx)
        output = output_of(state, given, ctx, result=results, default=results)
        assign(state, given, ctx, result=results)
        return output, after

    @replace("services.stepfunctions._execute_choice", "state_def", "raw_input", "ctx")
    def choice(original: Callable, state: dict, given: Any, ctx: dict | None = None) -> tuple:
        if language(state, ctx) != JSONATA or "Default" not in state or "Output" not in state:
            return original(state, given, ctx)
        try:
            return original({key: state[key] for key in state if key != "Default"}, given, ctx)
        except failed as none_matched:
            if none_matched.error != "States.NoChoiceMatched":
                raise
            output = output_of(state, given, ctx, default=given)
            assign(state, given, ctx)
            return output, state["Default"]


@hook
def jsonata_selects_items(cloud: Cloud) -> None:
    """MiniStack ignores JSONata and `ItemBatcher` of a distributed Map, and lets the states in the Map read
    the variables outside of it."""
    language = touch("services.stepfunctions._state_query_language", "state_def", "ctx")
    filled = touch("services.stepfunctions._apply_jsonata_template", "value", "raw_input", "ctx")
    output_of = touch(
        "services.stepfunctions._apply_jsonata_output", "state_def", "raw_input", "ctx", "result"
    )
    assign = touch("services.stepfunctions._apply_state_assign", "state_def", "raw_input", "ctx", "result")
    read = touch("services.stepfunctions._read_map_items", "reader", "effective", "ctx")

    def items_of(state: dict, given: Any, ctx: dict) -> list[Any]:
        if reader := state.get("ItemReader"):
            arguments = filled(reader.get("Arguments", {}), given, ctx)
            items = read({**reader, "Arguments": arguments}, given, ctx)
        else:
            items = filled(state.get("Items", given), given, ctx)
        if selector := state.get("ItemSelector"):
            places = ({"Map": {"Item": {"Index": i, "Value": item}}} for i, item in enumerate(items))
            items = [filled(selector, given, {**ctx, **place}) for place in places]
        batcher = filled(state.get("ItemBatcher", {}), given, ctx)
        if most := int(batcher.get("MaxItemsPerBatch", 0)):
            more = {"BatchInput": batcher["BatchInput"]} if "BatchInput" in batcher else {}
            items = [{"Items": items[first : first + most], **more} for first in range(0, len(items), most)]
        return items

    @replace(
        "services.stepfunctions._run_distributed_map",
        *("state_def", "raw_input", "effective", "iterator", "execution", "ctx"),
    )
    def run(
        original: Callable, state: dict, given: Any, effective: Any, branch: dict, execution: dict, ctx: dict
    ) -> tuple:
        if language(state, ctx) != JSONATA:
            return original(state, given, effective, branch, execution, ctx)
        plain = {key: filled(state[key], given, ctx) for key in _PLAIN if key in state}
        inside = {**ctx, "variables": {}}
        results, after = original(plain, None, items_of(state, given, ctx), branch, execution, inside)
        output = output_of(state, given, ctx, result=results, default=results)
        assign(state, given, ctx, result=results)
        return output, after


@hook
def jsonata_makes_timeouts(cloud: Cloud) -> None:
    """MiniStack treats JSONata in `TimeoutSeconds` and `HeartbeatSeconds` of a task as a number."""
    language = touch("services.stepfunctions._state_query_language", "state_def", "ctx")
    evaluated = touch(
        "services.stepfunctions._jsonata_state_field", "state_def", "field", "expected", "raw_input", "ctx"
    )

    @replace("services.stepfunctions._execute_task", "state_def", "raw_input", "execution", "ctx")
    def execute(original: Callable, state: dict, given: Any, execution: dict, ctx: dict) -> tuple:
        limits = [name for name in ("TimeoutSeconds", "HeartbeatSeconds") if isinstance(state.get(name), str)]
        if limits and language(state, ctx) == JSONATA:
            state = state | {name: evaluated(state, name, "number", given, ctx) for name in limits}
        return original(state, given, execution, ctx)
