"""The API operations of executions: start, describe, stop, retry, answer callbacks; recovery and shutdown."""

from __future__ import annotations

import re
import time
from typing import Any

from local.sagemaker import quotas, records
from local.sagemaker.api import ApiError, Context, invalid, now, operation, page
from local.sagemaker.pipelines import definition, state
from local.sagemaker.pipelines.attempts import execution_variables
from local.sagemaker.pipelines.definition import (
    ParameterDefinition,
    PipelineDefinition,
    StepDefinition,
)
from local.sagemaker.pipelines.execution import ExecutionThread, key_of
from local.sagemaker.pipelines.expressions import BOOLEAN, FLOAT, INTEGER, STRING, Evaluator
from local.sagemaker.pipelines.state import ENDED, EXECUTION, PIPELINE, conflict, find, name_of
from local.sagemaker.platform import Platform
from local.sagemaker.quotas import setting
from local.sagemaker.store import Record, Store


def pipeline_arn(context: Context, params: dict[str, Any]) -> str:
    """Return the ARN of the pipeline in `PipelineName`, which is a name or an ARN."""
    return context.arn(PIPELINE, str(params.get("PipelineName", "")).rpartition("/")[2])


def pipeline_of(context: Context, params: dict[str, Any]) -> Record:
    """Return the record of the pipeline in `PipelineName`. Raises ApiError if it does not exist."""
    arn = pipeline_arn(context, params)
    record = context.store.get(PIPELINE, arn.rpartition("/")[2])
    if record is None or params["PipelineName"] not in (record["PipelineName"], arn):
        raise state.missing(f"Pipeline {arn}")
    return record


def of_pipeline(context: Context, arn: str) -> list[Record]:
    return [each for each in context.store.all(EXECUTION) if each["PipelineArn"] == arn]


def created(params: dict[str, Any]) -> dict[str, Any]:
    """Return a List operation's parameters, with time filters renamed for `page`."""
    names = {"CreatedAfter": "CreationTimeAfter", "CreatedBefore": "CreationTimeBefore"}
    return {names.get(name, name): value for name, value in params.items()}


def _arn(context: Context, params: dict[str, Any]) -> str:
    return str(params.get("PipelineExecutionArn", "*"))


# Start


def _typed(name: str, kind: str, text: str) -> Any:
    """Convert the text of a parameter to its type. Raises ApiError if it does not have the type."""
    if kind == INTEGER and re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    if kind == FLOAT and re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text):
        return float(text)
    if kind == BOOLEAN and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if kind == STRING:
        return text
    raise invalid(f"The value of parameter '{name}' must be of type {kind}, got '{text}'.")


def parameter_values(declared: dict[str, ParameterDefinition], given: list[dict[str, str]]) -> dict[str, Any]:
    """Return the value of every parameter. Raises ApiError for an unknown, missing or invalid parameter."""
    values = {name: each.default for name, each in declared.items()}
    names = [each["Name"] for each in given]
    for each in given:
        name = each["Name"]
        if name not in declared:
            raise invalid(f"Unknown pipeline parameter '{name}'.")
        if names.count(name) > 1:
            raise invalid(f"Pipeline parameter '{name}' is given more than once.")
        parameter = declared[name]
        values[name] = _typed(name, parameter.type, each["Value"])
        if parameter.choices and values[name] not in parameter.choices:
            choices = ", ".join(parameter.choices)
            raise invalid(f"The value of parameter '{name}' must be one of {choices}, got '{each['Value']}'.")
    missing = [name for name, value in values.items() if value is None]
    if missing:
        raise invalid(f"Pipeline parameters without a default must be given: {', '.join(missing)}.")
    return values


@operation("StartPipelineExecution", pipeline_arn)
def start_execution(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    if params.get("RoleArn"):
        raise invalid("RoleArn can be given only for pipelines that AWS manages.")
    pipeline = pipeline_of(context, params)
    arn, given = pipeline["PipelineArn"], params.get("PipelineParameters", [])
    same = {name: value for name, value in params.items() if name != "PipelineName"}
    for each in of_pipeline(context, arn):
        if each["_Request"]["ClientRequestToken"] == params["ClientRequestToken"]:
            if each["_Request"] != same:
                raise conflict("The ClientRequestToken belongs to an execution with other parameters.")
            return {"PipelineExecutionArn": each["PipelineExecutionArn"]}
    found = definition.parse(pipeline["PipelineDefinition"])
    values, moment = parameter_values(dict(found.parameters), given), now()
    execution_arn = f"{arn}/execution/{state.new_execution_id()}"
    record: Record = {
        "PipelineArn": arn,
        "PipelineExecutionArn": execution_arn,
        "PipelineExecutionDisplayName": params.get(
            "PipelineExecutionDisplayName", f"execution-{round(moment * 1000)}"
        ),
        "PipelineExecutionStatus": "Executing",
        "CreationTime": moment,
        "LastModifiedTime": moment,
        "CreatedBy": {},
        "LastModifiedBy": {},
        "Steps": {},
        "_Since": moment,
        "_Request": same,
        "_Retries": [],
        "_RoleArn": pipeline["RoleArn"],
        "_Definition": pipeline["PipelineDefinition"],
        "_Parameters": values,
    } | records.summary(pipeline | params, "PipelineExecutionDescription", "ParallelismConfiguration")
    if experiment := _experiment(found, record):
        record["PipelineExperimentConfig"] = experiment
    name = name_of(execution_arn)
    with context.store.store.exclusive():
        _check_running(context)
        context.store.add(EXECUTION, name, record)
        context.store.change(PIPELINE, pipeline["PipelineName"], lambda each: each | {"LastRunTime": moment})
    state.publish(context, record)
    _run(context, name)
    return {"PipelineExecutionArn": execution_arn}


def _experiment(found: PipelineDefinition, record: Record) -> dict[str, str]:
    """Return the names of the experiment and the trial. They are recorded only, not created."""

    def nothing(*asked: str) -> Any:
        raise AssertionError(f"PipelineExperimentConfig must not refer to steps, got {asked}")

    variables = execution_variables(record)
    evaluator = Evaluator(record["_Parameters"], variables, nothing, nothing, nothing)
    return {name: evaluator.value(value).lower() for name, value in found.experiment.items()}


def _check_running(context: Context) -> None:
    most = setting(context.platform, "pipeline_executions")
    used = sum(each["PipelineExecutionStatus"] not in ENDED for each in context.store.all(EXECUTION))
    if used >= most:
        quota = "Maximum number of concurrent pipeline executions allowed per account"
        raise quotas.limit_exceeded(quota, most, used, 1, "Executions")


def _run(context: Context, name: str) -> None:
    ExecutionThread(Context(context.platform, context.store), name).start()


def _wake(context: Context, name: str) -> None:
    """Wake a running execution after its record was changed."""
    with context.store.store.exclusive():
        running = context.store.store.live.get(key_of(context, name))
    if running:
        running.wake()


# Describe and list


@operation("DescribePipelineExecution", _arn)
def describe_execution(context: Context, params: dict[str, Any]) -> Record:
    return find(context, params["PipelineExecutionArn"])


@operation("DescribePipelineDefinitionForExecution", _arn)
def describe_definition(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    record = find(context, params["PipelineExecutionArn"])
    return {"PipelineDefinition": record["_Definition"], "CreationTime": record["CreationTime"]}


@operation("ListPipelineExecutions", pipeline_arn)
def list_executions(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    members = (
        *("PipelineExecutionArn", "PipelineExecutionStatus", "PipelineExecutionDescription"),
        *("PipelineExecutionDisplayName", "CreationTime", "FailureReason"),
    )
    found = [
        records.summary(each, *members)
        for each in of_pipeline(context, pipeline_of(context, params)["PipelineArn"])
    ]
    answer = page(created(params), found, "PipelineExecutionSummaries")
    for each in answer["PipelineExecutionSummaries"]:
        each["StartTime"] = each.pop("CreationTime")
        each["PipelineExecutionFailureReason"] = each.pop("FailureReason", None)
    return answer


@operation("ListPipelineExecutionSteps", _arn)
def list_steps(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    steps = list(find(context, str(params.get("PipelineExecutionArn", "")))["Steps"].values())
    # Sort by the order of the starts, which also orders steps that started at the same clock time
    placed = [step | {"_Place": place} for place, step in enumerate(steps)]
    return page({"SortBy": "_Place"} | params, placed, "PipelineExecutionSteps")


@operation("ListPipelineParametersForExecution", _arn)
def list_parameters(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    given = find(context, params["PipelineExecutionArn"])["_Request"].get("PipelineParameters", [])
    return page(params | {"SortBy": "Name", "SortOrder": "Ascending"}, given, "PipelineParameters")


# Change


@operation("UpdatePipelineExecution", _arn)
def update_execution(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    arn = find(context, params["PipelineExecutionArn"])["PipelineExecutionArn"]
    members = ("PipelineExecutionDescription", "PipelineExecutionDisplayName", "ParallelismConfiguration")
    changes = records.summary(params, *members) | {"LastModifiedTime": now(), "LastModifiedBy": {}}
    context.store.change(EXECUTION, name_of(arn), lambda record: record | changes)
    _wake(context, name_of(arn))
    return {"PipelineExecutionArn": arn}


@operation("StopPipelineExecution", _arn)
def stop_execution(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    record = find(context, params["PipelineExecutionArn"])
    arn = record["PipelineExecutionArn"]
    stopping = state.advance(context, name_of(arn), "Stopping")
    status = find(context, arn)["PipelineExecutionStatus"]
    if not stopping and status != "Stopping":
        raise conflict(f"Pipeline execution {arn} has ended already: it is {status}.")
    _wake(context, name_of(arn))
    return {"PipelineExecutionArn": arn}


@operation("RetryPipelineExecution", _arn)
def retry_execution(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    """Run again the steps that did not succeed, with the same definition and parameters."""
    record = find(context, params["PipelineExecutionArn"])
    arn, token = record["PipelineExecutionArn"], params["ClientRequestToken"]
    if token in record["_Retries"]:  # a repeated request
        return {"PipelineExecutionArn": arn}
    before = record["PipelineExecutionStatus"]
    if before not in ("Failed", "Stopped", "CompletedWithFailures"):
        raise conflict(f"Pipeline execution {arn} is {before}: only a failed or stopped one can be retried.")
    if any(step["_Type"] == "Fail" for step in record["Steps"].values()):
        raise invalid(f"Pipeline execution {arn} ended with a Fail step and cannot be retried.")
    found = definition.parse(record["_Definition"])

    def edit(execution: Record) -> None:
        if execution["PipelineExecutionStatus"] != before:
            raise conflict(f"Pipeline execution {arn} was changed by another request.")
        for step in _to_repeat(found, execution):
            execution["Steps"].pop(step, None)
        execution |= records.summary(params, "ParallelismConfiguration")
        execution |= {"PipelineExecutionStatus": "Executing", "LastModifiedTime": now(), "_Since": now()}
        execution["_Retries"].append(token)
        for member in ("FailureReason", "_TimedOut"):
            execution.pop(member, None)

    with context.store.store.exclusive():
        _check_running(context)
        changed = context.store.change(EXECUTION, name_of(arn), edit)
    state.publish(context, changed or record, before)
    _run(context, name_of(arn))
    return {"PipelineExecutionArn": arn}


def _to_repeat(found: PipelineDefinition, execution: Record) -> set[str]:
    """Return the steps that ran and did not succeed, and the steps that ran and depend on one of these."""
    steps = execution["Steps"]
    repeated = {name for name, step in steps.items() if step["StepStatus"] != "Succeeded"}

    def is_behind(step: StepDefinition) -> bool:
        within = step.branch is not None and step.branch[0] in repeated
        return within or any(each.step in repeated for each in step.dependencies)

    while more := {name for name in set(steps) - repeated if is_behind(found.steps[name])}:
        repeated |= more
    return repeated


# Callbacks


def _awaiting(context: Context, token: str) -> tuple[Record, Record]:
    """Return the execution and the callback step with a token. Raises ApiError if there is none."""
    for execution in context.store.all(EXECUTION):
        for step in execution["Steps"].values():
            if step.get("_Token") == token:
                return execution, step
    raise ApiError("ResourceNotFound", f"No callback step waits for an answer with the token {token}.")


def _token_owner(context: Context, params: dict[str, Any]) -> str:
    """Return the ARN that IAM checks: the callback's execution, or `pipeline/*` for an unknown token."""
    try:
        return _awaiting(context, str(params.get("CallbackToken")))[0]["PipelineExecutionArn"]
    except ApiError:
        return context.arn(PIPELINE, "*")


def _answer(context: Context, params: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    """Store the answer to a callback. A repeated request with the same ClientRequestToken has no effect."""
    execution, step = _awaiting(context, params["CallbackToken"])
    arn, request = execution["PipelineExecutionArn"], params.get("ClientRequestToken")

    def edit(found: Record) -> None:
        given = found.get("_Answer")
        if given is None and found["StepStatus"] not in state.STEP_ENDED:
            found["_Answer"] = answer | {"_Request": request}
        elif request is None or given is None or given["_Request"] != request:
            raise invalid(f"The callback step with the token {params['CallbackToken']} has ended already.")

    state.change_step(context, name_of(arn), step["StepName"], edit)
    _wake(context, name_of(arn))
    return {"PipelineExecutionArn": arn}


@operation("SendPipelineExecutionStepSuccess", _token_owner)
def send_success(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    execution, step = _awaiting(context, params["CallbackToken"])
    declared = definition.parse(execution["_Definition"]).steps[step["StepName"]].outputs
    outputs: dict[str, Any] = {}
    for each in params.get("OutputParameters", []):
        name = each["Name"]
        if name not in declared or name in outputs:
            raise invalid(f"Output parameter '{name}' must be one that the step declares, given once.")
        outputs[name] = _typed(name, declared[name], each["Value"])
    if absent := sorted(set(declared) - set(outputs)):
        raise invalid(f"Output parameters that the step declares are missing: {', '.join(absent)}.")
    return _answer(context, params, {"OutputParameters": outputs})


@operation("SendPipelineExecutionStepFailure", _token_owner)
def send_failure(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    reason = params.get("FailureReason", "The callback step failed.")
    return _answer(context, params, {"FailureReason": reason})


# Recovery and shutdown


def recover(platform: Platform, store: Store) -> None:
    """Resume the executions that ran when the last server ended. Must be called after the jobs' recovery."""
    for account, region in store.scopes():
        context = Context(platform, store.scoped(account, region))
        for record in context.store.all(EXECUTION):
            name = name_of(record["PipelineExecutionArn"])
            if record["PipelineExecutionStatus"] not in ENDED and key_of(context, name) not in store.live:
                _run(context, name)


def shutdown(store: Store, timeout: float = 10.0) -> None:
    """Stop the executions' threads. The next server resumes them. Must be called before the jobs' shutdown.

    :param timeout: seconds to wait for the threads
    """
    with store.exclusive():
        running = [each for each in store.live.values() if isinstance(each, ExecutionThread)]
    for each in running:
        each.abandoned.set()
        each.wake()
    until = time.monotonic() + timeout
    for each in running:
        each.thread.join(max(0.0, until - time.monotonic()))
