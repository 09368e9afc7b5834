"""EventBridge and Scheduler: retries and dead-letter queues; unsupported targets are refused."""

from __future__ import annotations

import contextvars
import json
import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from local import faults
from local.emulator import ministack
from local.emulator.reach import Cloud, hook, put, replace, touch
from local.sagemaker.api import NOT_BUILT

log = logging.getLogger(__name__)


@hook
def events_are_tried_again(cloud: Cloud) -> None:
    """In MiniStack, a rule invokes a function without retries, and undeliverable events do not reach the
    rule's dead-letter queue."""
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


SERVED = {
    "lambda": "function:",
    "sqs": "",
    "sns": "",
    "states": "stateMachine:",
    "events": ("event-bus/", "api-destination/"),
}
"""Prefixes of the resource in the ARN of a supported target, by the service in the ARN."""
SDK_CALL = "arn:aws:scheduler:::aws-sdk:"
"""ARN prefix of the universal targets of EventBridge Scheduler. An architecture deploys one, so the local
cloud accepts them, but it does not call them."""


def unserved(targets: Iterable[Any], operation: str) -> str | None:
    """Return the error for the first target of an unsupported kind, or None."""
    for target in targets:
        arn = str(target.get("Arn", "")) if isinstance(target, dict) else ""
        parts = arn.split(":", 5)
        if arn.startswith(SDK_CALL):
            continue
        if len(parts) == 6 and not parts[5].startswith(SERVED.get(parts[2], ("\0",))):
            kind, served = f"{parts[2]} ({arn})", ", ".join(SERVED)
            return (
                f"{operation} with a target of {kind} is not implemented in the local cloud;"
                f" supported are {served}"
            )
    return None


@hook
def targets_are_served(cloud: Cloud) -> None:
    """MiniStack accepts targets of unsupported services, and drops their events silently."""
    error = touch("core.responses.error_response_json", "code", "message", "status")
    schedule_error = touch("services.scheduler._error", "status", "code", "message")
    handlers = "services.cloudformation.provisioners._RESOURCE_HANDLERS"

    @replace("services.eventbridge._put_targets", "data")
    def put_targets(original: Callable, data: dict) -> Any:
        said = unserved(data.get("Targets") or (), "events:PutTargets")
        return error(NOT_BUILT, said, 501) if said else original(data)

    for operation in ("create", "update"):

        @replace(f"services.scheduler._{operation}_schedule", "name", "body")
        def schedule(original: Callable, name: str, body: dict, operation: str = operation) -> Any:
            said = unserved([body.get("Target")], f"scheduler:{operation.title()}Schedule")
            return schedule_error(501, NOT_BUILT, said) if said else original(name, body)

    def checked(function: Callable, kind: str, at: int) -> Callable:
        def provision(*given: Any, **more: Any) -> Any:
            properties = given[at]
            targets = properties.get("Targets") or [properties.get("Target")]
            if said := unserved(targets, kind):
                raise ValueError(said)
            return function(*given, **more)

        return provision

    for kind in ("AWS::Events::Rule", "AWS::Scheduler::Schedule"):
        handler = dict(touch(handlers)[kind])
        # arguments: create(logical ID, properties, …), update(physical ID, old properties, new properties, …)
        put(handlers, kind, "create", value=checked(handler["create"], kind, 1))
        put(handlers, kind, "update", value=checked(handler["update"], kind, 2))


NEEDED = {
    "lambda": "lambda:InvokeFunction",
    "sqs": "sqs:SendMessage",
    "sns": "sns:Publish",
    "states": "states:StartExecution",
    "events": "events:PutEvents",
}
"""Action that must be allowed for a delivery, by the service in the target's ARN."""
SCHEDULER = "scheduler.amazonaws.com"
UNASSUMABLE = "The execution role you provide must allow AWS EventBridge Scheduler to assume the role."


@hook
def schedules_act_under_their_role(cloud: Cloud) -> None:
    """MiniStack does not check a schedule's role, nor replace `<aws.scheduler.…>` in the target's input."""
    error = touch("services.scheduler._error", "status", "code", "message")
    to_sqs = touch("services.eventbridge._dispatch_to_sqs", "spec", "payload")
    parsed = touch("core.arn.parse_arn", "value")

    for operation in ("create", "update"):

        @replace(f"services.scheduler._{operation}_schedule", "name", "body")
        def schedule(original: Callable, name: str, body: dict) -> Any:
            role = (body.get("Target") or {}).get("RoleArn", "")
            if ministack.enforcing() and not ministack.assumable(ministack.here()[0], role, SCHEDULER):
                return error(400, "ValidationException", UNASSUMABLE)
            return original(name, body)

    @replace("services.eventbridge._invoke_target", "target", "event", "rule")
    def invoke(original: Callable, target: dict, event: dict, *rest: Any, **more: Any) -> None:
        if event.get("Source") != "aws.scheduler":
            return original(target, event, *rest, **more)
        moment = datetime.fromtimestamp(event["Time"], UTC).replace(second=0, microsecond=0)
        attributes = {
            "schedule-arn": (event.get("Resources") or [""])[0],
            "scheduled-time": moment.isoformat().replace("+00:00", "Z"),
            "execution-id": event["EventId"],
            "attempt-number": "1",
        }
        text = target.get("Input") or ""
        for name, value in attributes.items():
            text = text.replace(f"<aws.scheduler.{name}>", value)
        target = target | ({"Input": text} if text else {})
        if said := role_denied(target, SCHEDULER):
            log.warning("The schedule %s could not start its target: %s", attributes["schedule-arn"], said)
            if letters := (target.get("DeadLetterConfig") or {}).get("Arn"):
                to_sqs(parsed(letters), text)
            return None
        return original(target, event, *rest, **more)


def role_denied(target: dict, service: str) -> str | None:
    """Return why the role of a rule's or schedule's target may not deliver to the target; None if it may.

    :param service: service principal that assumes the role
    """
    account, region = ministack.here()
    role, arn = target.get("RoleArn", ""), str(target.get("Arn", ""))
    action = NEEDED.get(arn.split(":")[2] if arn.count(":") > 2 else "")
    if not action or not ministack.enforcing():
        return None
    if not ministack.assumable(account, role, service):
        return f"its role ({role or 'none'}) must exist and let {service} assume it"
    key = ministack.role_session(account, role, service)["AWS_ACCESS_KEY_ID"]
    return ministack.denial(account, region, key, action, arn)
