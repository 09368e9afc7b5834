"""Step Functions: timeouts, roles, metrics and SageMaker tasks of executions."""

from __future__ import annotations

import contextlib
import contextvars
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from local.emulator import stepfunctions as sfn
from local.emulator.ministack import denial, enforcing, here, role_session
from local.emulator.reach import Cloud, hook, put, replace, touch

_execution: contextvars.ContextVar[dict | None] = contextvars.ContextVar("execution", default=None)
_deadline: contextvars.ContextVar[float] = contextvars.ContextVar("deadline", default=float("inf"))


def _running(execution: dict) -> bool:
    return execution["status"] == "RUNNING"


def _role_of(execution: dict) -> str:
    started = execution["events"][0].get("executionStartedEventDetails", {}) if execution["events"] else {}
    return started.get("roleArn", "")


def _task(cloud: Cloud) -> sfn.Task | None:
    """Return the task of the current execution, or None."""
    execution = _execution.get()
    if execution is None:
        return None
    account, region = here()
    credentials = role_session(account, _role_of(execution), execution["name"])
    deadline = _deadline.get()
    return sfn.Task(
        cloud.context(account, region, credentials["AWS_ACCESS_KEY_ID"]),
        lambda: _running(execution) and time.monotonic() < deadline,
    )


@contextlib.contextmanager
def _task_errors() -> Iterator[None]:
    """Convert a `TaskError` to MiniStack's exception."""
    try:
        yield
    except sfn.TaskError as error:
        raise touch("services.stepfunctions._ExecutionError", "error", "cause")(
            error.error, error.cause
        ) from error


@hook
def executions(cloud: Cloud) -> None:
    """In MiniStack, executions have no role and no timeout, and a task that ends late changes the status of a
    stopped execution."""
    now = touch("core.responses.now_iso")
    add_event = touch("services.stepfunctions._add_event", "execution", "event_type", "details")
    emit = "services.stepfunctions._emit_execution_status_event"

    def time_out(execution: dict) -> None:
        if not _running(execution):
            return
        execution.update(status="TIMED_OUT", stopDate=now(), error="States.Timeout")
        add_event(
            execution, "ExecutionTimedOut", {"executionTimedOutEventDetails": {"error": "States.Timeout"}}
        )
        touch(emit, "execution")(execution)

    @replace("services.stepfunctions._run_execution", "exec_arn")
    def run_execution(original: Callable, exec_arn: str) -> None:
        execution = touch("services.stepfunctions._executions").get(exec_arn)
        machine = touch("services.stepfunctions._state_machines").get(execution["stateMachineArn"]) or {}
        token = _execution.set(execution)
        timer = None
        with contextlib.suppress(ValueError):
            limit = json.loads(machine.get("definition", "{}")).get("TimeoutSeconds")
            if limit:
                context = contextvars.copy_context()
                timer = threading.Timer(float(limit), context.run, [time_out, execution])
                timer.daemon = True
                timer.start()
        try:
            original(exec_arn)
        finally:
            _execution.reset(token)
            if timer:
                timer.cancel()

    @replace("services.stepfunctions._fail_execution", "execution", "error", "cause")
    def fail_execution(original: Callable, execution: dict, error: str, cause: str) -> None:
        # A task that still runs when its execution is stopped fails later. The failure is ignored
        if _running(execution):
            original(execution, error, cause)

    @replace("services.stepfunctions._invoke_resource_with_timeout", "resource", "input_data", "timeout")
    def invoke_with_timeout(original: Callable, resource: str, arguments: Any, timeout: float) -> Any:
        token = _deadline.set(min(_deadline.get(), time.monotonic() + float(timeout)))
        try:
            return original(resource, arguments, timeout)
        finally:
            _deadline.reset(token)


@hook
def callbacks_send_heartbeats(cloud: Cloud) -> None:
    """If a task waits for a callback, MiniStack ignores its `HeartbeatSeconds` and applies only its
    timeout."""
    tokens = touch("services.stepfunctions._task_tokens")

    def watch(token: str, limit: float, ended: threading.Event) -> None:
        last, since = None, time.monotonic()
        while not ended.wait(0.1):
            waiting = tokens.get(token)
            if waiting is None or waiting["event"].is_set():
                continue
            if waiting["heartbeat"] != last:
                last, since = waiting["heartbeat"], time.monotonic()
            elif time.monotonic() - since > limit:
                waiting["error"] = {"Error": "States.HeartbeatTimeout", "Cause": ""}
                waiting["event"].set()

    @replace(
        "services.stepfunctions._invoke_with_callback", "resource", "input_data", "token", "state_def"
    )  # fmt: skip
    def invoke_with_callback(
        original: Callable, resource: str, arguments: Any, token: str, state: dict
    ) -> Any:
        ended = threading.Event()
        if execution := _execution.get():
            sfn.WAITING[token] = execution["stateMachineArn"]
        if limit := state.get("HeartbeatSeconds"):
            context = contextvars.copy_context()
            heartbeat = threading.Thread(target=context.run, args=(watch, token, limit, ended), daemon=True)
            heartbeat.start()
        try:
            return original(resource, arguments, token, state)
        finally:
            ended.set()
            sfn.WAITING.pop(token, None)


@hook
def execution_metrics(cloud: Cloud) -> None:
    """MiniStack does not publish the metrics of AWS/States, which alarms on failed executions need."""
    record = touch(
        "services.cloudwatch.record_metric", "namespace", "metric_name", "value", "unit", "dimensions"
    )
    names = {
        "RUNNING": "ExecutionsStarted",
        "SUCCEEDED": "ExecutionsSucceeded",
        "FAILED": "ExecutionsFailed",
        "TIMED_OUT": "ExecutionsTimedOut",
        "ABORTED": "ExecutionsAborted",
    }

    @replace("services.stepfunctions._emit_execution_status_event", "execution")
    def emit(original: Callable, execution: dict) -> None:
        original(execution)
        machine = {"StateMachineArn": execution["stateMachineArn"]}
        record("AWS/States", names[execution["status"]], 1, "Count", machine)
        if not _running(execution) and execution.get("stopDate"):
            begin, end = (
                datetime.fromisoformat(execution[key].replace("Z", "+00:00")).astimezone(UTC)
                for key in ("startDate", "stopDate")
            )
            taken = (end - begin).total_seconds() * 1000
            record("AWS/States", "ExecutionTime", taken, "Milliseconds", machine)
        touch("services.cloudwatch._evaluate_all_alarms")()
        cloud.changed()


@hook
def tasks_call_sagemaker(cloud: Cloud) -> None:
    """MiniStack has no `sagemaker:` and `aws-sdk:sagemaker:` integrations."""

    def sagemaker(resource: str, arguments: dict) -> Any:
        task = _task(cloud)
        if task is None:
            task = sfn.Task(cloud.context(*here(), None), lambda: True)
        with _task_errors():
            return task.sagemaker(resource, arguments)

    put("services.stepfunctions._SERVICE_DISPATCH", "arn:aws:states:::sagemaker:", value=sagemaker)

    @replace("services.stepfunctions._invoke_aws_sdk_integration", "resource", "input_data")
    def invoke(original: Callable, resource: str, arguments: dict) -> Any:
        if ":aws-sdk:sagemaker:" in resource:
            return sagemaker(resource, arguments)
        return original(resource, arguments)


@hook
def tasks_act_under_the_machines_role(cloud: Cloud) -> None:
    """MiniStack's integrations call services as root. This hook first checks the state machine's role."""

    def authorize(resource: str, arguments: Any) -> None:
        task = _task(cloud)
        if task is not None and enforcing():
            with _task_errors():
                task.authorize(resource, arguments)

    dispatch = "services.stepfunctions._SERVICE_DISPATCH"

    def guarded(resource: str, call: Callable) -> Callable:
        def invoke(task_resource: str, arguments: Any) -> Any:
            authorize(resource, arguments)
            return call(task_resource, arguments)

        return invoke

    for resource, call in list(touch(dispatch).items()):
        if not resource.startswith("arn:aws:states:::sagemaker:"):
            put(dispatch, resource, value=guarded(resource, call))

    @replace("services.stepfunctions._call_lambda", "func_ref", "event")
    def call_lambda(original: Callable, function: Any, event: Any) -> Any:
        name = function if isinstance(function, str) else getattr(function, "arn", str(function))
        authorize("arn:aws:states:::lambda:invoke", {"FunctionName": name})
        return original(function, event)

    for name in ("_invoke_nested_start_execution", "_invoke_nested_start_execution_sync"):

        @replace(f"services.stepfunctions.{name}", "resource", "input_data")
        def start(original: Callable, resource: str, arguments: Any) -> Any:
            authorize("arn:aws:states:::states:startExecution", arguments)
            return original(resource, arguments)

    action_of = touch(
        "core.iam_actions.extract_iam_action",
        "service", "method", "path", "headers", "body", "query_params",
    )  # fmt: skip
    resource_of = touch(
        "core.iam_actions.extract_resource_arn",
        "service", "method", "path", "headers", "body", "query_params", "region", "account_id",
    )  # fmt: skip
    refuse = touch(
        "core.iam_actions.access_denied_response", "service", "action", "principal_arn", "request_id"
    )

    @replace(
        "app.call_service_handler_sync",
        "handler", "method", "path", "headers", "body", "query_params",
    )  # fmt: skip
    def call_service(
        original: Callable, handler: Callable, method: str, path: str, headers: dict, body: Any, query: dict,
        timeout: float | None = None,
    ) -> tuple:  # fmt: skip
        task = _task(cloud)
        if task is not None and enforcing():
            account, region = here()
            service = headers["host"].partition(".")[0]
            sent = body.encode() if isinstance(body, str) else body
            params = touch("app._routing_params", "method", "path", "headers", "body", "query_params")(
                method, path, headers, sent, query
            )
            action = action_of(service, method, path, headers, sent, params)
            if action is not None:
                resource = resource_of(service, method, path, headers, sent, params, region, account)
                key = task.context.access_key or ""
                if denial(account, region, key, action, resource):
                    session = role_session_arn(account, _role_of(_execution.get() or {}), key)
                    return refuse(service, action, session, secrets.token_hex(16), headers=headers,
                                  resource_arn=resource)  # fmt: skip
        return original(handler, method, path, headers, body, query, timeout)

    @replace("services.stepfunctions._prefix_sdk_error", "service_name", "error_code")
    def error_name(original: Callable, service: str, code: str) -> str:
        # SDKs have no class for denied access, so the error has the name of the service's base class
        if code in ("AccessDenied", "AccessDeniedException"):
            prefix = original(service, "").rstrip(".")
            return f"{prefix}.{prefix}Exception"
        return original(service, code)


def role_session_arn(account: str, role_arn: str, access_key: str) -> str:
    session = touch("services.sts._sessions").get(access_key) or {}
    return session.get("Arn", f"arn:aws:sts::{account}:assumed-role/{role_arn.rpartition('/')[2]}")
