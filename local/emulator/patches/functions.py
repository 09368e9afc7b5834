"""Lambda: roles, layers, errors, concurrency, dead-letter queues and payload limits."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import re
import secrets
import threading
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from local import faults
from local.emulator import batches, concurrency
from local.emulator.ministack import role_session
from local.emulator.reach import Cloud, hook, put, replace, touch
from local.sagemaker.quotas import setting


@hook
def functions_act_under_their_role(cloud: Cloud) -> None:
    """In MiniStack, a function that starts before IAM is enforced keeps root keys. Here it gets keys of its
    role from the start. As on AWS, each process has separate keys."""

    def credentials(original: Callable, config: dict) -> dict[str, str]:
        account = str(config.get("FunctionArn", "")).split(":")[4:5]
        if not config.get("Role") or not account:
            return original(config)
        name = config.get("FunctionName", "function")
        return role_session(account[0], config["Role"], name, secrets.token_hex(8))

    # Two modules import the function separately
    replace("core.lambda_runtime.execution_credentials", "config")(credentials)
    replace("services.lambda_svc.execution_credentials", "config")(credentials)


@hook
def functions_fail_by_their_own_exception(cloud: Cloud) -> None:
    """MiniStack reports the same error type for every failure, so Retry and Catch cannot match an exception
    class or a killed process."""
    last_line = re.compile(r"^(?:[\w.]+\.)?(\w+)(?::|$)")

    @replace("services.lambda_svc._execute_function_warm", "func", "event", "request_id")
    def execute(original: Callable, func: dict, event: Any, request_id: str) -> dict:
        result = original(func, event, request_id)
        body = result.get("body")
        if result.get("error") and isinstance(body, dict) and body.get("errorType") == "Runtime.HandlerError":
            if body.get("errorMessage") == "Worker process died":
                body["errorType"] = "Runtime.ExitError"
                body["errorMessage"] = f"RequestId: {request_id} Error: Runtime exited without a reason"
                return result
            trace = [line for line in result.get("log", "").splitlines() if line.strip()]
            starts = [index for index, line in enumerate(trace) if line.startswith("Traceback (most recent")]
            for line in trace[starts[-1] + 1 :] if starts else []:
                if not line.startswith(" ") and (found := last_line.match(line)):
                    body["errorType"] = found[1]
                    break
        return result


@hook
def layers_are_unpacked_once(cloud: Cloud) -> None:
    """In MiniStack, each process of a function unpacks its layers again, which takes a second of CPU time and
    megabytes on disk."""
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
            # Processes can share the folder: as on AWS, functions do not write to layers
            target.rmdir()
            target.symlink_to(shared, target_is_directory=True)

    shim = SimpleNamespace(**{**vars(archives), "ZipFile": Archive})
    put("core.lambda_runtime.zipfile", value=shim)


@hook
def functions_keep_what_their_template_says(cloud: Cloud) -> None:
    """MiniStack ignores the dead-letter queue and reserved concurrency that a template sets for a
    function."""
    place = "services.cloudformation.provisioners._RESOURCE_HANDLERS"
    handlers = touch(place)["AWS::Lambda::Function"]
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

    def may_reserve(name: str | None, properties: dict) -> None:
        wanted = int(properties.get("ReservedConcurrentExecutions") or 0)
        limit = setting(cloud.platform, "lambda_concurrent_executions")
        named = {each: functions[each] for each in functions.keys()}  # noqa: SIM118 - the account's own
        if message := concurrency.refusal(named, name, wanted, limit):
            raise ValueError(concurrency.in_a_stack(message))

    def created(logical_id: str, properties: dict, stack: str, *rest: Any) -> tuple:
        may_reserve(None, properties)
        made = create(logical_id, properties, stack, *rest)
        settle(made[0], properties)
        return made

    @functools.wraps(update)
    def updated(physical_id: str, old: dict, new: dict, *rest: Any, **more: Any) -> tuple:
        may_reserve(physical_id, new)
        made = update(physical_id, old, new, *rest, **more)
        settle(made[0], new)
        return made

    put(place, "AWS::Lambda::Function", "create", value=created)
    put(place, "AWS::Lambda::Function", "update", value=updated)


@hook
def an_account_keeps_concurrency_unreserved(cloud: Cloud) -> None:
    """MiniStack does not limit reserved concurrency. Its limit of the account's concurrent executions depends
    on the machine's memory."""
    functions = touch("services.lambda_svc._functions")
    error = touch("services.lambda_svc.error_response_json")

    @replace("services.lambda_svc._put_function_concurrency", "func_name", "data")
    def put_concurrency(original: Callable, name: str, data: dict) -> tuple:
        wanted = int(data.get("ReservedConcurrentExecutions") or 0)
        limit = setting(cloud.platform, "lambda_concurrent_executions")
        named = {each: functions[each] for each in functions.keys()}  # noqa: SIM118 - the account's own
        if name in named and (message := concurrency.refusal(named, name, wanted, limit)):
            return error("InvalidParameterValueException", message, 400)
        return original(name, data)

    @replace("services.lambda_svc._get_account_settings")
    def settings(original: Callable) -> tuple:
        status, headers, body = original()
        shown = json.loads(body)
        limit = setting(cloud.platform, "lambda_concurrent_executions")
        reserved = sum(int(functions[each].get("concurrency") or 0) for each in functions.keys())  # noqa: SIM118
        shown["AccountLimit"]["ConcurrentExecutions"] = limit
        shown["AccountLimit"]["UnreservedConcurrentExecutions"] = limit - reserved
        return status, headers, json.dumps(shown).encode()


@hook
def failed_events_reach_the_dead_letter_queue_as_they_came(cloud: Cloud) -> None:
    """In MiniStack, a dead-letter queue gets an invocation record. On AWS a dead-letter queue gets the event,
    and only a destination gets an invocation record."""
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
def invalid_answers_fail_a_queues_batch(cloud: Cloud) -> None:
    """If a function that reports failed messages returns an invalid response, MiniStack deletes the batch."""
    expected: ContextVar[list[str] | None] = ContextVar("expected", default=None)
    """IDs of the messages in the batch that this thread delivers, if the function reports failed messages."""

    @replace(
        "services.lambda_svc._run_sqs_batch", "esm", "func_rec", "event", "batch", "queue_url", "queue_name"
    )
    def run(original: Callable, mapping: dict, function: dict, event: dict, *rest: Any) -> None:
        messages = [record["messageId"] for record in event["Records"]]
        token = expected.set(messages if batches.reports(mapping) else None)
        try:
            original(mapping, function, event, *rest)
        finally:
            expected.reset(token)

    @replace("services.lambda_svc._execute_function", "func", "event")
    def execute(original: Callable, function: dict, event: Any) -> dict:
        result = original(function, event)
        messages = expected.get()
        if messages is None or result.get("error"):
            return result
        try:
            batches.failed(result.get("body"), messages)
        except batches.InvalidAnswerError as error:
            return result | _failed("InvalidAnswerError", str(error))
        return result


_READS = ("Get", "Describe", "List", "Query", "Scan", "BatchGet", "TransactGet", "Head", "Receive")
_NO_WRITES = ("logs", "monitoring", "xray", "sts", "kms")
_CREDENTIAL = re.compile(rb"Credential=([^/]+)/\d+/[^/]*/([^/]+)/")
_processes: dict[bytes, tuple[Any, Any]] = {}
"""Worker and process of a function by access key. Each process has a separate key."""
most_writes: dict[str, int] = {}
"""Highest number of writes in one invocation so far, by function."""


@hook
def a_functions_writes_are_numbered(cloud: Cloud) -> None:
    """MiniStack does not count the writes of an invocation. Fault injection needs the count, to kill a
    function at its n-th write."""

    @replace("services.lambda_svc.acquire_worker", "func_name", "config", "code_zip")
    def acquire(original: Callable, *given: Any, **more: Any) -> tuple:
        worker, reason = original(*given, **more)
        if worker is not None:
            worker.writes = 0
        return worker, reason


def dies_with(platform: Any, request: dict) -> bool:
    """Return whether an injected fault (`faults.py`) killed the Lambda function that sends this request.

    If it did, the caller of `dies_with` must not execute the request.

    :param request: ASGI scope
    """
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
        return False  # the SageMaker runtime, which only invokes endpoints
    return method in ("PUT", "POST", "DELETE")


def _caller(key: bytes) -> tuple[Any, Any]:
    """Return the worker and the process that own an access key; (None, None) if it belongs to no function."""
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


LARGEST_REQUEST = 6 * 1024 * 1024
LARGEST_ANSWER = LARGEST_REQUEST + 100
LARGEST_EVENT = 1024 * 1024
"""Maximum bytes of a synchronous request, of its response, and of an asynchronous request. In the Lambda
quotas these are 6 MB, 6 MB and 1 MB; the exact numbers are from Lambda's error messages."""
TOO_LARGE = "RequestEntityTooLargeException"


def _size(value: Any) -> int:
    return len(value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode())


def _failed(kind: str, message: str) -> dict[str, Any]:
    return {"body": {"errorType": kind, "errorMessage": message}, "error": True, "log": message}


@hook
def invocations_have_a_largest_size(cloud: Cloud) -> None:
    """MiniStack has no payload limits."""
    handlers = touch("app.SERVICE_HANDLERS")
    handle = handlers["lambda"]
    error = touch("core.responses.error_response_json", "code", "message", "status")

    async def handle_request(method: str, path: str, headers: dict, body: bytes, query: dict) -> tuple:
        if method == "POST" and path.rstrip("/").endswith("/invocations"):
            later = str(headers.get("x-amz-invocation-type", "")).lower() == "event"
            most = LARGEST_EVENT if later else LARGEST_REQUEST
            if len(body) > most:
                said = f"Request must be smaller than {most} bytes for the InvokeFunction operation"
                return error(TOO_LARGE, said, 413)
        return await handle(method, path, headers, body, query)

    put("app.SERVICE_HANDLERS", "lambda", value=handle_request)

    @replace("services.lambda_svc._execute_function_warm", "func", "event", "request_id")
    def execute(original: Callable, function: dict, event: Any, request_id: str) -> dict:
        if _size(event) > LARGEST_REQUEST:  # for events of other services: they do not arrive over HTTP
            return _failed(TOO_LARGE, f"Request must be smaller than {LARGEST_REQUEST} bytes")
        result = original(function, event, request_id)
        if _size(result.get("body")) <= LARGEST_ANSWER:
            return result
        said = f"Response payload size exceeded maximum allowed payload size ({LARGEST_ANSWER} bytes)."
        return _failed("Function.ResponseSizeTooLarge", said)

    @replace("services.lambda_svc.lambda_execute_result_to_api_proxy_response", "exec_result")
    def for_the_api(original: Callable, result: dict) -> tuple:
        response, *rest = original(result)
        body = result.get("body")
        if result.get("error") and isinstance(body, dict) and body.get("errorType") == TOO_LARGE:
            response = {"statusCode": 413, "body": json.dumps({"message": "Request Entity Too Large"})}
        return response, *rest
