"""Every place where the local cloud reaches into MiniStack, and nothing else does.

MiniStack is pinned, but what is used here is not its public interface. So every reach goes through
`touch`, which names the function and the parameters it is expected to have, and every change of its
behaviour is one `@hook` with one sentence of why. When an upgrade moves something, `install` raises
`Moved` with the hook's name; `tests/local/test_hooks.py` checks what each hook is there for.
"""

from __future__ import annotations

import contextlib
import contextvars
import copy
import functools
import hashlib
import importlib
import inspect
import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote

from local import faults
from local.emulator import alarms, streams
from local.emulator import cloudformation as cfn
from local.emulator import stepfunctions as sfn
from local.sagemaker import api, scaling
from local.sagemaker.api import ApiError
from local.sagemaker.http import SCALING
from local.sagemaker.quotas import setting


class Moved(Exception):
    """A hook found MiniStack other than it was when the hook was written."""


class Cloud(Protocol):
    """What the hooks ask of the cloud that they are installed for."""

    platform: Any

    def context(self, account: str, region: str, access_key: str | None) -> api.Context: ...
    def sagemaker(self, *request: Any) -> tuple[int, dict[str, str], bytes]: ...
    def changed(self) -> None: ...
    def cut_off(self, stack: dict) -> None: ...


def touch(name: str, *parameters: str) -> Any:
    """MiniStack's `module.attribute`; for a function, one with these leading parameters. Else `Moved`."""
    module_name, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(f"ministack.{module_name}"), attribute)
    except (ImportError, AttributeError) as error:
        raise Moved(f"MiniStack has no {name} any more") from error
    if parameters:
        has = list(inspect.signature(found).parameters)
        if has[: len(parameters)] != list(parameters):
            raise Moved(f"MiniStack's {name} takes ({', '.join(has)}), not ({', '.join(parameters)})")
    return found


def replace(name: str, *parameters: str) -> Callable[[Callable], Callable]:
    """Put a function in the place of MiniStack's `name`; it gets the original as its first argument."""
    original = touch(name, *parameters)
    module_name, _, attribute = name.rpartition(".")

    def put(function: Callable) -> Callable:
        wrapper = functools.wraps(original)(functools.partial(function, original))
        setattr(importlib.import_module(f"ministack.{module_name}"), attribute, wrapper)
        return function

    return put


HOOKS: dict[str, Callable[[Cloud], None]] = {}


def hook(function: Callable[[Cloud], None]) -> Callable[[Cloud], None]:
    HOOKS[function.__name__] = function
    return function


def install(cloud: Cloud) -> None:
    """Put every hook in its place, once a process. Raises `Moved` naming the hook that has none."""
    for name, put in HOOKS.items():
        try:
            put(cloud)
        except Exception as error:
            raise Moved(f"hook {name!r}: {error}") from error


# What the rest of the emulator asks of MiniStack ------------------------------------------------------


def enforcing() -> bool:
    return bool(touch("app.AUTH"))


def enforce(on: bool) -> None:
    """MiniStack reads the flag at every request."""
    touch("app.AUTH")
    importlib.import_module("ministack.app").AUTH = on  # type: ignore[attr-defined]


def scope(account: str, region: str) -> contextlib.AbstractContextManager:
    """Stores are read and written for this account and Region inside."""
    return touch("core.responses.request_scope", "account_id", "region")(account, region)


def here() -> tuple[str, str]:
    """The account and Region of the request that is being answered."""
    return touch("core.responses.get_account_id")(), touch("core.responses.get_region")()


_sessions_lock = threading.Lock()
_sessions: dict[tuple[str, ...], dict[str, str]] = {}


def role_session(account: str, role_arn: str, session: str, process: str = "") -> dict[str, str]:
    """Credentials of a session of a role, the same ones for the same role, session and process.

    Nobody can derive them: a container knows the names of roles that are not its own.
    """
    key = (account, role_arn, session, process)
    with _sessions_lock:
        if key not in _sessions:
            role = role_arn.rpartition("/")[2]
            session = re.sub(r"[^\w+=,.@-]", "-", session)[:64]
            _sessions[key] = {
                "AWS_ACCESS_KEY_ID": "ASIA" + secrets.token_hex(8).upper(),
                "AWS_SECRET_ACCESS_KEY": secrets.token_urlsafe(30),
                "AWS_SESSION_TOKEN": secrets.token_urlsafe(60),
            }
            touch("services.sts.register_session", "access_key", "session")(
                _sessions[key]["AWS_ACCESS_KEY_ID"],
                {
                    "Arn": f"arn:aws:sts::{account}:assumed-role/{role}/{session}",
                    "UserId": f"AROA{hashlib.sha256(role_arn.encode()).hexdigest()[:16].upper()}:{session}",
                    "SecretAccessKey": _sessions[key]["AWS_SECRET_ACCESS_KEY"],
                    "SessionToken": _sessions[key]["AWS_SESSION_TOKEN"],
                },
            )
        return dict(_sessions[key])


def assumable(account: str, role_arn: str, service: str) -> bool:
    """Whether the role exists and its trust policy lets the service principal assume it."""
    role = touch("services.iam._roles").get_scoped(account, None, role_arn.rpartition("/")[2])
    if role is None or role.get("Arn") != role_arn:
        return False
    document = role.get("AssumeRolePolicyDocument") or {}
    document = json.loads(document) if isinstance(document, str) else document
    statements = document.get("Statement", [])
    for statement in statements if isinstance(statements, list) else [statements]:
        principals = (
            (statement.get("Principal") or {}) if isinstance(statement.get("Principal"), dict) else {}
        )
        services = principals.get("Service", [])
        services = [services] if isinstance(services, str) else services
        actions = statement.get("Action", [])
        actions = [actions] if isinstance(actions, str) else actions
        if statement.get("Effect") == "Allow" and service in services and "sts:AssumeRole" in actions:
            return True
    return False


def denial(
    account: str,
    region: str,
    access_key: str,
    action: str,
    resource: str,
    about: Mapping[str, str] = MappingProxyType({}),
) -> str | None:
    """IAM's sentence why the caller may not do this; None when it may, or when IAM is not enforced. `about`
    are values of the service's own condition keys."""
    if not enforcing():
        return None
    ask = touch(
        "core.iam_evaluator.enforce",
        "access_key_id", "iam_action", "service", "region", "resource_arn", "service_context",
    )  # fmt: skip
    # Only SageMaker asks here, and policies that let a role be passed say to whom.
    passed = {"iam:PassedToService": "sagemaker.amazonaws.com"} if action == "iam:PassRole" else {}
    explain = touch(
        "core.iam_actions.identity_denial_message", "action", "principal_arn", "resource", "explicit_deny"
    )

    def evaluate() -> str | None:
        touch("core.iam_evaluator.pin_request_origin", "source_ip", "secure_transport")("127.0.0.1", True)
        with scope(account, region):
            denied = ask(
                access_key,
                action,
                action.partition(":")[0],
                region,
                resource_arn=resource,
                service_context=passed | dict(about),
            )
        if denied is None:
            return None
        if hasattr(denied, "message"):
            return denied.message
        return explain(action, denied.principal_arn, resource, denied.decision == "Deny")

    # In a context of its own: what the thread inherited describes another request's signature.
    return contextvars.Context().run(evaluate)


def put_event(account: str, region: str, source: str, detail_type: str, detail: dict, resource: str) -> None:
    entry = {
        "Source": source,
        "DetailType": detail_type,
        "Detail": json.dumps(detail),
        "Resources": [resource],
    }
    with scope(account, region):
        touch("services.eventbridge._put_events", "data", "allow_aws_source")(
            {"Entries": [entry]}, allow_aws_source=True
        )


def image_manifest(account: str, region: str, repository: str, reference: str) -> str | None:
    """The manifest pushed to ECR under a tag or a digest; None when there is none."""
    image = {"imageDigest": reference} if reference.startswith("sha256:") else {"imageTag": reference}
    with scope(account, region):
        found = touch("services.ecr._find_image", "repo_name", "image_id")(repository, image)
    return found["imageManifest"] if found else None


def states() -> dict[str, Any]:
    """A copy of every service's state, by file name.

    It is made while requests and executions go on, so that it may have to be made again; a service that
    changes all the time is left out, and its turn comes later.
    """
    state: dict[str, Any] = {}
    for name, get_state in touch("app._build_persistence_save_dict")().items():
        found = _copied(get_state)
        if found is not None:
            state[name] = found
    return state


def _copied(copy: Callable[[], Any], attempts: int = 5) -> Any:
    for _ in range(attempts):
        with contextlib.suppress(RuntimeError):  # a dictionary changed its size meanwhile
            return copy()
    return None


def encode_state(name: str, state: Any) -> bytes:
    """A service's state as MiniStack reads it at its start."""
    version = touch("core.persistence._state_format_version", "service")(name)
    document = {"__ministack_format__": version, "payload": state}
    return json.dumps(document, default=touch("core.persistence._json_default", "obj")).encode()


def application() -> Callable:
    return touch("app.app", "scope", "receive", "send")


def end_functions() -> None:
    """End the processes of Lambda functions."""
    touch("core.lambda_runtime.reset")()


def functions_running() -> int:
    return len(touch("core.lambda_runtime._workers"))


def executions_running() -> int:
    executions = touch("services.stepfunctions._executions")
    return sum(1 for execution in executions.all_values() if execution.get("status") == "RUNNING")


def stacks() -> list[dict[str, str]]:
    """Name and status of every stack that is there, in every account and Region."""
    found = touch("services.cloudformation._stacks").all_values()
    there = [stack for stack in found if stack["StackStatus"] != "DELETE_COMPLETE"]
    return [{"name": stack["StackName"], "status": stack["StackStatus"]} for stack in there]


# SageMaker itself ------------------------------------------------------------------------------------


@hook
def sagemaker_service(cloud: Cloud) -> None:
    """MiniStack has no SageMaker: requests signed for it, or targeted at it, go to ours."""
    run = touch("core.concurrency.run_reentrant", "fn")
    access_key_of = touch("core.router.extract_access_key_id", "headers", "query_params")

    async def handle(method: str, path: str, headers: dict, body: bytes, query: dict) -> tuple:
        account, region = here()
        caller = access_key_of(headers, query) or ""
        # On a thread of its own: it may wait for a container, which in turn calls this server.
        answer = await run(cloud.sagemaker, method, path, headers, body, query, account, region, caller)
        if path.startswith("/endpoints/"):
            # What a container says of its answer's type is no envelope's, which MiniStack would make it.
            status, given, content = answer
            return status, {name.lower(): value for name, value in given.items()}, content
        return answer

    touch("app.SERVICE_HANDLERS")["sagemaker"] = handle
    touch("core.router.SERVICE_PATTERNS")["sagemaker"] = {"target_prefixes": ["SageMaker."]}


@hook
def absent_image_is_an_error(cloud: Cloud) -> None:
    """DescribeImages answers an absent tag with an empty list; AWS raises, and the CDK then builds."""

    @replace("services.ecr._describe_images", "data")
    def describe_images(original: Callable, data: dict) -> tuple:
        status, headers, body = original(data)
        if status == 200 and data.get("imageIds") and not json.loads(body)["imageDetails"]:
            wanted = data["imageIds"][0]
            shown = ", ".join(f"{key}:'{value}'" for key, value in sorted(wanted.items()))
            return touch("core.responses.error_response_json", "code", "message", "status")(
                "ImageNotFoundException",
                f"The image with imageId {{{shown}}} does not exist within the repository with name "
                f"'{data.get('repositoryName')}' in the registry with id '{here()[0]}'",
                400,
            )
        return status, headers, body


# Roles ------------------------------------------------------------------------------------------------


@hook
def functions_act_under_their_role(cloud: Cloud) -> None:
    """A function started before IAM is enforced would keep root's keys: it gets its role's from the first.
    As on AWS, each of its processes has its own."""

    def credentials(original: Callable, config: dict) -> dict[str, str]:
        account = str(config.get("FunctionArn", "")).split(":")[4:5]
        if not config.get("Role") or not account:
            return original(config)
        name = config.get("FunctionName", "function")
        return role_session(account[0], config["Role"], name, secrets.token_hex(8))

    # Two modules have the function under a name of their own.
    replace("core.lambda_runtime.execution_credentials", "config")(credentials)
    replace("services.lambda_svc.execution_credentials", "config")(credentials)


@hook
def the_loopback_is_a_secure_transport(cloud: Cloud) -> None:
    """A bucket that denies unencrypted requests, as each should, denies all of them: there is no TLS here,
    and nothing leaves the machine."""

    @replace("app.pin_request_origin", "source_ip", "secure_transport")
    def pin(original: Callable, source_ip: str, secure_transport: bool) -> None:
        original(source_ip, True)

    # Where IAM is not enforced nothing is remembered of a request, and bucket policies hold all the same
    evaluator = importlib.import_module("ministack.core.iam_evaluator")
    address, _ = touch("core.iam_evaluator._request_origin").get()
    origin = contextvars.ContextVar("origin", default=(address, True))
    setattr(evaluator, "_request_origin", origin)  # noqa: B010 - the type checker knows no module's own names


STREAM_VERBS = ("DeleteLogStream", "DescribeLogStreams", "GetLogEvents", "PutLogEvents")


@hook
def a_logs_stream_is_a_resource(cloud: Cloud) -> None:
    """What is done to one stream is checked on the stream, not on its group: a grant may name streams.
    Listing them is checked on a stream without a name."""

    @replace(
        "core.iam_actions.extract_resource_arn",
        "service", "method", "path", "headers", "body", "query_params", "region", "account_id",
    )  # fmt: skip
    def resource(original: Callable, service: str, *request: Any) -> str:
        arn = original(service, *request)
        headers, body = request[2:4]
        verb = headers.get("x-amz-target", "").rpartition(".")[2]
        if service == "logs" and verb in STREAM_VERBS:
            stream = json.loads(body or b"{}").get("logStreamName", "")
            return f"{arn}:log-stream:{stream}"
        return arn


# Step Functions ---------------------------------------------------------------------------------------

_execution: contextvars.ContextVar[dict | None] = contextvars.ContextVar("execution", default=None)
_deadline: contextvars.ContextVar[float] = contextvars.ContextVar("deadline", default=float("inf"))


def _running(execution: dict) -> bool:
    return execution["status"] == "RUNNING"


def _role_of(execution: dict) -> str:
    started = execution["events"][0].get("executionStartedEventDetails", {}) if execution["events"] else {}
    return started.get("roleArn", "")


def _task(cloud: Cloud) -> sfn.Task | None:
    """The running execution's task, or None outside of one."""
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
    """A `TaskError` as MiniStack raises its own."""
    try:
        yield
    except sfn.TaskError as error:
        raise touch("services.stepfunctions._ExecutionError", "error", "cause")(
            error.error, error.cause
        ) from error


@hook
def executions(cloud: Cloud) -> None:
    """An execution has a role, an end when its time is over, and keeps the end that it came to."""
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
        # A task that is still at work when its execution is stopped fails later: nobody listens then.
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
def execution_metrics(cloud: Cloud) -> None:
    """AWS/States is not published: alarms on failed or timed-out executions would never go off."""
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


def metrics(account: str, region: str) -> scaling.Lookup:
    """What was recorded of a place's metrics."""

    def lookup(metric: dict, statistic: str, period: float, periods: int) -> alarms.Series:
        with scope(account, region):
            return recorded(metric, statistic, period, periods)

    return lookup


def recorded(metric: dict, statistic: str, period: float, periods: int) -> alarms.Series:
    """A metric's last periods, the latest first; None where there is nothing."""
    named = touch("services.cloudwatch._dims_from_list", "dimensions")
    dimensions = touch("services.cloudwatch._dims_key", "dims")(named(metric.get("Dimensions") or []))
    summed = touch("services.cloudwatch._calc_stats", "points")
    statistic_of = touch("services.cloudwatch._stat_value", "stats", "stat_name", "points")
    key = (metric["Namespace"], metric["MetricName"], dimensions)
    points, now = list(touch("services.cloudwatch._metrics").get(key) or []), time.time()
    ages: list[list] = [[] for _ in range(periods)]
    for point in points:
        age = int((now - point["Timestamp"]) // period)
        if 0 <= age < periods:
            ages[age].append(point)
    return [statistic_of(summed(some), statistic, some) if some else None for some in ages]


@hook
def alarms_are_judged_as_aws_does(cloud: Cloud) -> None:
    """An alarm looks at its metric's points of every dimension, knows neither missing data nor metric
    math, and never goes back to OK by itself."""

    @replace("services.cloudwatch._evaluate_alarm", "alarm")
    def evaluate(original: Callable, alarm: dict) -> None:
        judged = alarms.judge(alarm, recorded)
        if judged is None or judged[0] == alarm["StateValue"]:
            return
        old, (new, reason) = alarm["StateValue"], judged
        alarm.update(StateValue=new, StateReason=reason, StateUpdatedTimestamp=int(time.time()))
        touch("services.cloudwatch._record_history", "alarm_name", "old_state", "new_state", "reason")(
            alarm["AlarmName"], old, new, reason
        )
        touch("services.cloudwatch._dispatch_alarm_actions", "alarm", "old_state", "new_state", "reason")(
            alarm, old, new, reason
        )
        touch("services.cloudwatch._evaluate_parent_alarms", "child")(alarm)

    @replace("services.cloudformation.provisioners._cw_metric_alarm_record", "name", "props")
    def record(original: Callable, name: str, props: dict) -> dict:
        if not props.get("Metrics"):
            return original(name, props)
        plain = {"MetricName": "-", "Namespace": "-", **props}
        alarm = original(name, {key: value for key, value in plain.items() if key != "Metrics"})
        alarm |= dict.fromkeys(("MetricName", "Namespace", "Statistic", "Period", "Dimensions"))
        alarm["Metrics"] = [
            cfn.coerced_like("cloudwatch", "MetricDataQuery", one) for one in props["Metrics"]
        ]
        alarms.datapoints(alarm, recorded)  # what is not built is said while it is deployed
        return alarm


def evaluate_alarms() -> None:
    """Judge every alarm there is, in each account and Region."""
    places = {key[:2] for key in list(touch("services.cloudwatch._alarms")._data)}
    for account, region in places:
        with scope(account, region):
            touch("services.cloudwatch._evaluate_all_alarms")()


@hook
def tasks_call_sagemaker(cloud: Cloud) -> None:
    """Neither `sagemaker:` nor `aws-sdk:sagemaker:` tasks exist."""

    def sagemaker(resource: str, arguments: dict) -> Any:
        task = _task(cloud)
        if task is None:
            task = sfn.Task(cloud.context(*here(), None), lambda: True)
        with _task_errors():
            return task.sagemaker(resource, arguments)

    touch("services.stepfunctions._SERVICE_DISPATCH")["arn:aws:states:::sagemaker:"] = sagemaker

    @replace("services.stepfunctions._invoke_aws_sdk_integration", "resource", "input_data")
    def invoke(original: Callable, resource: str, arguments: dict) -> Any:
        if ":aws-sdk:sagemaker:" in resource:
            return sagemaker(resource, arguments)
        return original(resource, arguments)


@hook
def tasks_act_under_the_machines_role(cloud: Cloud) -> None:
    """Every other call of a state machine is made as root: IAM is asked for its role first."""

    def authorize(resource: str, arguments: Any) -> None:
        task = _task(cloud)
        if task is not None and enforcing():
            with _task_errors():
                task.authorize(resource, arguments)

    dispatch = touch("services.stepfunctions._SERVICE_DISPATCH")

    def guarded(resource: str, call: Callable) -> Callable:
        def invoke(task_resource: str, arguments: Any) -> Any:
            authorize(resource, arguments)
            return call(task_resource, arguments)

        return invoke

    for resource, call in list(dispatch.items()):
        if not resource.startswith("arn:aws:states:::sagemaker:"):
            dispatch[resource] = guarded(resource, call)

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
        # No SDK has a class for a refusal: it comes out as the service's base class.
        if code in ("AccessDenied", "AccessDeniedException"):
            prefix = original(service, "").rstrip(".")
            return f"{prefix}.{prefix}Exception"
        return original(service, code)


def role_session_arn(account: str, role_arn: str, access_key: str) -> str:
    session = touch("services.sts._sessions").get(access_key) or {}
    return session.get("Arn", f"arn:aws:sts::{account}:assumed-role/{role_arn.rpartition('/')[2]}")


# CloudFormation ---------------------------------------------------------------------------------------


@hook
def sagemaker_resource_types(cloud: Cloud) -> None:
    """Unknown types are refused: SageMaker's are made, changed, replaced and deleted through its API."""
    handlers = touch("services.cloudformation.provisioners._RESOURCE_HANDLERS")
    replacing = touch("services.cloudformation.provisioners._REPLACING_PROPERTIES")
    named = touch("services.cloudformation.provisioners._CUSTOM_NAME_REPLACEMENT")
    tagged = touch("services.cloudformation.provisioners._STACK_TAG_PROPERTY")
    generated = touch("services.cloudformation.provisioners._physical_name", "stack_name", "logical_id")

    def call(operation: str, params: dict) -> dict:
        return api.call(cloud.context(*here(), None), operation, params)

    def errors_said(function: Callable) -> Callable:
        @functools.wraps(function)
        def said(*args: Any) -> Any:
            try:
                return function(*args)
            except ApiError as error:
                raise ValueError(
                    f"{error.message} (Service: SageMaker, Status Code: {error.status}, "
                    f"Error Code: {error.code})"
                ) from error

        return said

    for type_name, kind in cfn.TYPES.items():

        def create(logical_id: str, props: dict, stack: str, kind: cfn.Type = kind) -> tuple:
            name = props.get(kind.named_by) or generated(stack, logical_id, max_len=kind.name_length)
            return kind.create(call, name, props)

        def update(ref: str, old: dict, new: dict, stack: str, kind: cfn.Type = kind) -> tuple:
            return kind.update(call, ref.rpartition("/")[2], old, new)

        def delete(ref: str, props: dict, kind: cfn.Type = kind) -> None:
            kind.delete(call, ref.rpartition("/")[2])

        handlers[type_name] = {
            "create": errors_said(create),
            "update": errors_said(update),
            "delete": errors_said(delete),
        }
        replacing[type_name] = kind.replacing
        named[type_name] = {"name": kind.named_by}
        tagged[type_name] = ("Tags", "list")

    @replace("services.cloudformation.stacks._runs_on_worker_thread", "resource_type")
    def on_worker_thread(original: Callable, resource_type: str) -> bool:
        # An endpoint comes up while requests of its container are answered.
        return resource_type in cfn.TYPES or original(resource_type)


@hook
def scaling_service(cloud: Cloud) -> None:
    """MiniStack has no Application Auto Scaling, neither its API nor its CloudFormation types."""
    touch("services.cloudwatch._metrics")  # what policies look at
    handlers = touch("app.SERVICE_HANDLERS")
    handlers[scaling.SERVICE] = handlers["sagemaker"]
    touch("core.router.SERVICE_PATTERNS")[scaling.SERVICE] = {"target_prefixes": [f"{SCALING}."]}
    types = touch("services.cloudformation.provisioners._RESOURCE_HANDLERS")
    replacing = touch("services.cloudformation.provisioners._REPLACING_PROPERTIES")
    place = ("ResourceId", "ScalableDimension", "ServiceNamespace")

    def kind(name: str, shape: str, create: Callable, delete: Callable, *replaced: str) -> None:
        def put(properties: dict) -> tuple:
            given = dict(properties)
            reference = given.pop("ScalingTargetId", None)
            if "Tags" in given:  # a list in templates, a map in the API
                given["Tags"] = {tag["Key"]: tag["Value"] for tag in given["Tags"]}
            given = cfn.coerced_like(scaling.SERVICE, shape, given)
            given |= {"ScalingTargetId": reference} if reference else {}
            try:
                return create(cloud.context(*here(), None), given)
            except ApiError as error:
                raise ValueError(f"{error.message} (Error Code: {error.code})") from error

        types[name] = {
            "create": lambda logical_id, properties, stack: put(properties),
            "update": lambda ref, old, new, stack: put(new),
            "delete": lambda ref, properties: delete(cloud.context(*here(), None), ref),
        }
        replacing[name] = (*place, *replaced)

    family = "AWS::ApplicationAutoScaling::"
    target = (scaling.create_target, scaling.delete_target)
    policy = (scaling.create_policy, scaling.delete_policy)
    kind(f"{family}ScalableTarget", "RegisterScalableTargetRequest", *target)
    kind(f"{family}ScalingPolicy", "PutScalingPolicyRequest", *policy, "PolicyName", "ScalingTargetId")


@hook
def secrets_are_referred_to_by_arn(cloud: Cloud) -> None:
    """`Ref` of a secret is its name: a policy for it grants nothing, where on AWS it names the ARN."""
    handlers = touch("services.cloudformation.provisioners._RESOURCE_HANDLERS")["AWS::SecretsManager::Secret"]
    secrets_of = touch("services.secretsmanager._secrets")
    create, update, delete = (handlers[key] for key in ("create", "update", "delete"))

    def arn(made: tuple[str, dict]) -> tuple[str, dict]:
        name, attributes = made
        return secrets_of[name]["ARN"], attributes

    def name(reference: str) -> str:
        return next((each for each, secret in secrets_of.items() if secret["ARN"] == reference), reference)

    handlers["create"] = lambda *given: arn(create(*given))
    handlers["update"] = lambda reference, *given: arn(update(name(reference), *given))
    handlers["delete"] = lambda reference, *given: delete(name(reference), *given)


UNFINISHED = {
    "CREATE": "ROLLBACK_FAILED",
    "ROLLBACK": "ROLLBACK_FAILED",
    "UPDATE": "UPDATE_ROLLBACK_COMPLETE",
    "UPDATE_ROLLBACK": "UPDATE_ROLLBACK_COMPLETE",
    "DELETE": "DELETE_FAILED",
    "IMPORT": "IMPORT_ROLLBACK_COMPLETE",
    "IMPORT_ROLLBACK": "IMPORT_ROLLBACK_COMPLETE",
}
"""What becomes of a stack that was being changed: a state from which the next `cdk deploy` goes on by
itself. In CREATE_FAILED and UPDATE_FAILED, which are for --no-rollback, the CDK asks a person first."""


@hook
def unfinished_stacks_end(cloud: Cloud) -> None:
    """A stack that was being changed when the server died stays IN_PROGRESS for ever."""

    @replace("services.cloudformation.load_persisted_state", "data")
    def load(original: Callable, data: dict) -> None:
        original(data)
        for stack in touch("services.cloudformation._stacks").all_values():
            begun, in_progress, _ = stack.get("StackStatus", "").partition("_IN_PROGRESS")
            if in_progress and begun != "REVIEW":
                # Only old resources were left to clear away after COMPLETE.
                done = begun.removesuffix("_CLEANUP") if begun.endswith("_COMPLETE_CLEANUP") else None
                stack["StackStatus"] = done or UNFINISHED[begun]
                stack["StackStatusReason"] = "The local cloud ended while the stack was being changed"
                cloud.cut_off(stack)


# CloudFront -------------------------------------------------------------------------------------------


@hook
def viewers_use_https(cloud: Cloud) -> None:
    """A distribution that redirects to HTTPS, as each should, has nowhere to redirect to: there is no TLS
    here, and nothing leaves the machine."""

    @replace("services.cloudfront._check_viewer_protocol_policy", "behavior", "method", "viewer_is_https")
    def check(original: Callable, behavior: dict, method: str, viewer_is_https: bool, *rest: Any) -> Any:
        return original(behavior, method, True, *rest)


API_ORIGIN = re.compile(r"([a-z0-9]+)\.execute-api\.[a-z0-9-]+\.amazonaws\.com", re.IGNORECASE)


@hook
def distributions_reach_apis(cloud: Cloud) -> None:
    """An origin at AWS is not dialed, and an API of this cloud's has its address there."""
    execute = touch(
        "app._handle_execute_api_request", "host", "path", "method", "headers", "body", "query_params"
    )
    to_send = touch(
        "services.cloudfront._origin_request_headers",
        "origin", "headers", "client_ip", "viewer_x_forwarded_for",
    )  # fmt: skip
    joined = touch("services.cloudfront._multidict_from_pairs", "pairs")

    @replace(
        "services.cloudfront._fetch_from_origin",
        "origin", "method", "uri", "query_string", "headers", "body",
        "viewer_is_https", "client_ip", "viewer_xff", "dist_arn",
    )  # fmt: skip
    async def fetch(
        original: Callable, origin: dict, method: str, uri: str, query: str, headers: dict, body: bytes,
        https: bool, client: str, forwarded_for: str, distribution: str,
    ) -> tuple:  # fmt: skip
        api = API_ORIGIN.fullmatch(origin["domain_name"])
        if api is None:
            return await original(
                origin, method, uri, query, headers, body, https, client, forwarded_for, distribution
            )
        if "host" in headers:  # API Gateway knows its APIs by this header: a viewer's means nothing to it
            return 403, "Forbidden", {"content-type": "application/json"}, b'{"message":"Forbidden"}'
        host = f"{api[1]}.execute-api.localhost"
        sent = to_send(origin | {"domain_name": host}, headers, client, forwarded_for)
        raw = origin["origin_path"] + uri
        status, answered, content = await execute(
            host,
            unquote(raw),
            method,
            {name.lower(): value for name, value in sent.items()},
            body,
            parse_qs(query, keep_blank_values=True),
            raw_path=raw,
            raw_query_string=query,
        )
        return status, "", joined(answered.items()), content


# Lambda -----------------------------------------------------------------------------------------------


@hook
def functions_fail_by_their_own_exception(cloud: Cloud) -> None:
    """A function's error type is always the same: no Retry or Catch on an exception class would match."""
    last_line = re.compile(r"^(?:[\w.]+\.)?(\w+)(?::|$)")

    @replace("services.lambda_svc._execute_function_warm", "func", "event", "request_id")
    def execute(original: Callable, func: dict, event: Any, request_id: str) -> dict:
        result = original(func, event, request_id)
        body = result.get("body")
        if result.get("error") and isinstance(body, dict) and body.get("errorType") == "Runtime.HandlerError":
            trace = [line for line in result.get("log", "").splitlines() if line.strip()]
            starts = [index for index, line in enumerate(trace) if line.startswith("Traceback (most recent")]
            for line in trace[starts[-1] + 1 :] if starts else []:
                if not line.startswith(" ") and (found := last_line.match(line)):
                    body["errorType"] = found[1]
                    break
        return result


@hook
def layers_are_unpacked_once(cloud: Cloud) -> None:
    """Each process of a function unpacks its layers anew: a second of work and a folder of its own, of
    megabytes, which a start of the cloud then has to remove."""
    archives, lock = touch("core.lambda_runtime.zipfile"), threading.Lock()

    class Archive(archives.ZipFile):
        def extractall(self, path: Any = None, *rest: Any, **more: Any) -> None:
            target = Path(str(path))
            if not re.fullmatch(r"layer_\d+", target.name):
                return super().extractall(path, *rest, **more)
            digest = hashlib.sha256(Path(str(self.filename)).read_bytes()).hexdigest()
            shared = target.parents[1] / f"layer-{digest}"
            with lock:
                if not shared.exists():
                    draft = shared.with_suffix(".draft")
                    super().extractall(draft, *rest, **more)
                    draft.rename(shared)
            # As on AWS, nobody writes there.
            target.rmdir()
            target.symlink_to(shared, target_is_directory=True)

    shim = SimpleNamespace(**{**vars(archives), "ZipFile": Archive})
    importlib.import_module("ministack.core.lambda_runtime").zipfile = shim  # type: ignore[attr-defined]


@hook
def functions_keep_what_their_template_says(cloud: Cloud) -> None:
    """A template's dead-letter queue and reserved concurrency of a function are dropped."""
    handlers = touch("services.cloudformation.provisioners._RESOURCE_HANDLERS")["AWS::Lambda::Function"]
    functions = touch("services.lambda_svc._functions")
    create, update = handlers["create"], handlers["update"]

    def settle(name: str, properties: dict) -> None:
        function = functions[name]
        if target := (properties.get("DeadLetterConfig") or {}).get("TargetArn"):
            function["config"]["DeadLetterConfig"] = {"TargetArn": target}
        else:
            function["config"].pop("DeadLetterConfig", None)
        reserved = properties.get("ReservedConcurrentExecutions")
        function["concurrency"] = None if reserved is None else int(reserved)

    def created(logical_id: str, properties: dict, stack: str, *rest: Any) -> tuple:
        made = create(logical_id, properties, stack, *rest)
        settle(made[0], properties)
        return made

    @functools.wraps(update)
    def updated(physical_id: str, old: dict, new: dict, *rest: Any, **more: Any) -> tuple:
        made = update(physical_id, old, new, *rest, **more)
        settle(made[0], new)
        return made

    handlers |= {"create": created, "update": updated}


@hook
def failed_events_reach_the_dead_letter_queue_as_they_came(cloud: Cloud) -> None:
    """A function's dead-letter queue gets the event itself; only a destination gets what led to it."""
    functions = touch("services.lambda_svc._functions")

    @replace("services.lambda_svc._route_async_failure", "target_arn", "func_name", "event", "result")
    def route(original: Callable, target: str, name: str, event: Any, result: dict) -> None:
        config = (functions.get(name) or {}).get("config") or {}
        if (config.get("DeadLetterConfig") or {}).get("TargetArn") != target:
            return original(target, name, event, result)
        said = result.get("body") if isinstance(result.get("body"), dict) else {}
        about = {
            "RequestID": ("String", str(result.get("request_id") or secrets.token_hex(16))),
            "ErrorCode": ("Number", "200"),
            "ErrorMessage": ("String", str((said or {}).get("errorMessage") or "Unhandled")[:1024]),
        }
        attributes = {key: {"DataType": kind, "StringValue": text} for key, (kind, text) in about.items()}
        _, _, _, region, account, resource = target.split(":", 5)
        text = json.dumps(event)
        if target.split(":")[2] == "sns":
            sns = cloud.platform.client("sns", account, region, "", "lambda")
            sns.publish(TopicArn=target, Message=text, MessageAttributes=attributes)
        else:
            sqs = cloud.platform.client("sqs", account, region, "", "lambda")
            queue = sqs.get_queue_url(QueueName=resource)["QueueUrl"]
            sqs.send_message(QueueUrl=queue, MessageBody=text, MessageAttributes=attributes)


@hook
def events_are_tried_again(cloud: Cloud) -> None:
    """A rule's function gets an event once, whatever becomes of it; and what cannot be delivered at all does
    not reach the rule's dead-letter queue."""
    again = touch("services.lambda_svc.invoke_async_with_retry", "func", "event")
    found = touch("services.lambda_svc._get_func_record_for_ref")
    record = touch("services.lambda_svc._execution_record_for_config", "func", "config")
    queue: contextvars.ContextVar[str | None] = contextvars.ContextVar("queue", default=None)
    to_sqs = touch("services.eventbridge._dispatch_to_sqs", "spec", "payload")
    parsed = touch("core.arn.parse_arn", "value")

    @replace("services.eventbridge._invoke_target", "target", "event", "rule")
    def invoke(original: Callable, target: dict, event: dict, *rest: Any, **more: Any) -> None:
        if event.get("Source") == "aws.s3" and faults.take(cloud.platform, "fault_lose_object_events"):
            return
        token = queue.set((target.get("DeadLetterConfig") or {}).get("Arn"))
        try:
            original(target, event, *rest, **more)
        finally:
            queue.reset(token)

    @replace("services.eventbridge._dispatch_to_lambda", "arn", "payload")
    def dispatch(original: Callable, arn: str, payload: str) -> None:
        function, config, _ = found(arn)
        if function and config:
            again(record(function, config), json.loads(payload))
        elif letters := queue.get():
            to_sqs(parsed(letters), payload)


# DynamoDB streams -------------------------------------------------------------------------------------


@hook
def streams_outlive_the_server(cloud: Cloud) -> None:
    """How far each stream was read is kept, its records are not: after a restart the first new ones, as many
    as there had been, would be taken for read."""
    records = touch("services.dynamodb._stream_records")
    trimmed = touch("services.dynamodb._stream_trimmed")
    positions = touch("services.lambda_svc._dynamodb_stream_positions")
    mappings = touch("services.lambda_svc._iter_all_esms")
    kept = {"stream_records": records, "stream_trimmed": trimmed}

    def read(place: tuple[str, str, str]) -> int | None:
        """Up to where every mapping has read a table's stream; None where nobody reads it."""
        account, region, table = place
        of = f"arn:aws:dynamodb:{region}:{account}:table/{table}/stream/"
        ours = [each for *_, each in mappings() if each.get("EventSourceArn", "").startswith(of)]
        return min((positions.get_scoped(account, region, one["UUID"], 0) for one in ours), default=None)

    @replace("services.dynamodb.get_state")
    def get_state(original: Callable) -> dict:
        state = original() | {name: type(value)() for name, value in kept.items()}
        for place, stream in records.all_items():
            begins = trimmed.get_scoped(*place, 0)
            done = max(0, (read(place) or begins) - begins)  # what all have read would only make this larger
            state["stream_records"].set_scoped(*place, copy.deepcopy(stream[done:]))
            state["stream_trimmed"].set_scoped(*place, begins + min(done, len(stream)))
        return state

    @replace("services.dynamodb.load_persisted_state", "data")
    def load(original: Callable, data: dict) -> None:
        original(data)
        for name, value in kept.items():
            value.update((data or {}).get(name, {}))


@hook
def streams_are_delivered_as_lambda_does(cloud: Cloud) -> None:
    """One failing function holds up all streams for ever: no retry limit, no bisection, no partial answer, no
    batching window. Each mapping gets a thread of its own here while it has something to deliver."""
    svc = {
        name: touch(f"services.lambda_svc.{name}", *parameters)
        for name, parameters in {
            "_iter_all_esms": (),
            "_apply_filter_criteria": ("records", "esm"),
            "_execute_function": ("func", "event"),
            "_get_func_record_for_qualifier": ("name", "qualifier"),
            "_dynamodb_stream_table_from_arn_spec": ("spec",),
            "_send_ddb_stream_failure_record": (
                "esm", "func_rec", "batch", "stream_arn", "result", "condition",
            ),
            "_esms": (),
        }.items()
    }  # fmt: skip
    positions = touch("services.lambda_svc._dynamodb_stream_positions")
    wake = touch("core.concurrency.esm_wake")
    tables = touch("services.dynamodb._tables")
    begin = touch("services.dynamodb.stream_start_position", "table_name")
    end = touch("services.dynamodb.stream_end_position", "table_name")
    since = touch("services.dynamodb.stream_records_since", "table_name", "position", "limit")
    parsed = touch("core.arn.parse_arn", "value")
    busy: set[str] = set()
    waiting: dict[str, float] = {}

    def enabled(mapping: dict) -> bool:
        return str(mapping.get("Enabled", True)).lower() == "true" and mapping["UUID"] in svc["_esms"]

    def next_batch(mapping: dict) -> tuple[str, int, list] | None:
        """Table, position and records of what a mapping reads next, once it is time to."""
        arn = mapping.get("EventSourceArn", "")
        if not arn.startswith("arn:") or ":dynamodb:" not in arn or not enabled(mapping):
            return None
        place = svc["_dynamodb_stream_table_from_arn_spec"](parsed(arn))
        table = tables.get(place[0]) if place else None
        if not place or not table or table.get("LatestStreamArn") != arn:
            return None
        name, first, last, key = place[0], begin(place[0]), end(place[0]), mapping["UUID"]
        if key not in positions:
            positions[key] = first if mapping.get("StartingPosition") == "TRIM_HORIZON" else last
        at = positions[key] = min(max(positions[key], first), last)
        size = int(mapping.get("BatchSize") or 100)
        records = list(since(name, at, size))
        if not records:
            waiting.pop(key, None)
            return None
        window = float(mapping.get("MaximumBatchingWindowInSeconds") or 0)
        waited = time.monotonic() - waiting.setdefault(key, time.monotonic())
        if len(records) < size and waited < window:
            return None
        waiting.pop(key, None)
        return name, at, records

    def work(account: str, region: str, mapping: dict, at: int, records: list) -> None:
        key = mapping["UUID"]
        with scope(account, region):
            try:
                batch = svc["_apply_filter_criteria"](records, mapping)
                if not batch or serve(mapping, batch):
                    if key in positions:
                        positions[key] = at + len(records)
                    cloud.changed()
            finally:
                busy.discard(key)
                wake.set()

    def serve(mapping: dict, batch: list) -> bool:
        function, _ = svc["_get_func_record_for_qualifier"](mapping["FunctionName"], mapping.get("Qualifier"))
        if function is None:
            return False
        rules, platform = streams.Rules.of(mapping), cloud.platform

        def pause(attempt: int) -> bool:
            # Together with what it doubles to this stays below a minute, as a person waits here.
            time.sleep(setting(platform, "stream_retry") * min(2 ** (attempt - 1), 20))
            return enabled(mapping)

        def invoke(records: list) -> dict:
            result = svc["_execute_function"](function, {"Records": records})
            failed = result.get("error")
            mapping["LastProcessingResult"] = "PROBLEM: Function call failed" if failed else "OK"
            return result

        def give_up(records: list, result: dict, condition: str) -> None:
            svc["_send_ddb_stream_failure_record"](
                mapping, function, records, mapping["EventSourceArn"], result, condition
            )

        def age(record: dict) -> float:
            return time.time() - float(record["dynamodb"]["ApproximateCreationDateTime"])

        late = faults.value(platform, "fault_stream_seconds")
        if faults.take(platform, "fault_delay_stream_batches"):
            time.sleep(late)
        done = streams.deliver(batch, rules, invoke, give_up, age, pause)
        if done and faults.take(platform, "fault_repeat_stream_batches"):
            threading.Thread(
                target=contextvars.copy_context().run,
                args=(lambda: (time.sleep(late), invoke(batch)),),
                daemon=True,
            ).start()
        return done

    @replace("services.lambda_svc._poll_dynamodb_streams")
    def poll(original: Callable) -> bool:
        for account, region, mapping in svc["_iter_all_esms"]():
            key = mapping.get("UUID", "")
            if key in busy:
                continue
            with scope(account, region):
                found = next_batch(mapping)
                if found is None:
                    continue
                busy.add(key)
                _, at, records = found
                threading.Thread(
                    target=work, args=(account, region, mapping, at, records), daemon=True
                ).start()
        return False  # whoever is done wakes the poller


# Faults -----------------------------------------------------------------------------------------------

_READS = ("Get", "Describe", "List", "Query", "Scan", "BatchGet", "TransactGet", "Head", "Receive")
_NO_WRITES = ("logs", "monitoring", "xray", "sts", "kms")
_CREDENTIAL = re.compile(rb"Credential=([^/]+)/\d+/[^/]*/([^/]+)/")
_processes: dict[bytes, tuple[Any, Any]] = {}
"""A function's worker and its process, by the access key that only this process has."""
most_writes: dict[str, int] = {}
"""By function, the most writes that one invocation has begun."""


@hook
def a_functions_writes_are_numbered(cloud: Cloud) -> None:
    """A fault names a write by its number in its invocation, and a worker does not tell where one begins."""

    @replace("services.lambda_svc.acquire_worker", "func_name", "config", "code_zip")
    def acquire(original: Callable, *given: Any, **more: Any) -> tuple:
        worker, reason = original(*given, **more)
        if worker is not None:
            worker.writes = 0
        return worker, reason


def dies_with(platform: Any, request: dict) -> bool:
    """Whether the function that makes this request dies with it, as `faults.py` says. `request` is the
    connection's scope; what it asks for must then not be done."""
    headers = dict(request["headers"])
    credential = _CREDENTIAL.search(headers.get(b"authorization", b""))
    if credential is None or not _changes(request["method"], headers, credential[2].decode()):
        return False
    worker, process = _caller(credential[1])
    if process is None:
        return False
    name, number = worker.func_name, getattr(worker, "writes", 0) + 1
    worker.writes, most_writes[name] = number, max(number, most_writes.get(name, 0))
    if (
        faults.value(platform, "fault_kill_function") not in name
        or number != faults.value(platform, "fault_kill_at_write")
        or not faults.take(platform, "fault_kill_functions", f"{name} {number}")
    ):
        return False
    process.kill()
    return True


def _changes(method: str, headers: dict[bytes, bytes], service: str) -> bool:
    if service in _NO_WRITES:
        return False
    if target := headers.get(b"x-amz-target"):
        return not target.decode("latin-1").rpartition(".")[2].startswith(_READS)
    if service == "sagemaker":
        return False  # the runtime's
    return method in ("PUT", "POST", "DELETE")


def _caller(key: bytes) -> tuple[Any, Any]:
    """The worker, and its process, that has this access key; (None, None) where that is no function."""
    if key not in _processes and key.startswith(b"ASIA"):
        for several in list(touch("core.lambda_runtime._workers").values()):
            for worker in list(several):
                process = worker._proc
                with contextlib.suppress(OSError, AttributeError):
                    for entry in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0"):
                        if entry.startswith(b"AWS_ACCESS_KEY_ID="):
                            _processes[entry.partition(b"=")[2]] = worker, process
        _processes.setdefault(key, (None, None))
    return _processes.get(key, (None, None))
