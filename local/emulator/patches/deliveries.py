"""Deliveries of AWS services: the policy of the target, or the role of a rule's target, must allow them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

from local.emulator import ministack
from local.emulator.patches.eventbridge import NEEDED, role_denied
from local.emulator.reach import Cloud, hook, replace, touch

log = logging.getLogger(__name__)

WITH_POLICY = ("lambda", "sqs", "sns")
"""Services whose resources have a policy that allows deliveries. Other targets need a role."""
EVENTS = "events.amazonaws.com"
ALARM_ACTIONS = ("AlarmActions", "InsufficientDataActions", "OKActions")


def denied(service: str, source: str, target: str) -> bool:
    """Return whether a service may not deliver to a target, and log a denied delivery.

    Nothing is denied while IAM is off, or if the target is not a function, queue or topic.

    :param service: name before `.amazonaws.com` of the service that delivers
    :param source: ARN of the rule, alarm, API or bucket that the delivery is for
    :param target: ARN of the function, queue or topic
    """
    kind = _service(target)
    if kind not in WITH_POLICY or not ministack.enforcing():
        return False
    account, region = ministack.here()
    about = {"aws:sourcearn": source, "aws:sourceaccount": account}
    if service == "cloudwatch":
        about["aws:sourceowner"] = account  # the default policy of a topic has this condition
    asked = touch("core.iam_evaluator.EvalContext")(
        principal_arn="*",
        principal_type="Service",
        principal_account="",
        action=NEEDED[kind],
        resource_arn=target,
        region=region,
        service_context=about,
    )
    evaluate = touch("core.iam_evaluator.evaluate_resource_policy", "doc", "ctx", "service")
    if evaluate(_policy(kind, target), asked, service=f"{service}.amazonaws.com").decision == "Allow":
        return False
    log.warning("%s may not deliver to %s: its policy must allow %s", source, target, NEEDED[kind])
    return True


def _service(arn: str) -> str:
    return arn.split(":")[2] if arn.count(":") > 4 else ""


def _policy(kind: str, target: str) -> Any:
    """Return the policy of a function, queue or topic; None if it has none or does not exist."""
    if kind == "lambda":
        found = touch("services.lambda_svc.function_policy_for_arn", "resource_arn")(target)
        return found and found[0]
    find = {"sqs": "services.sqs._queue_by_arn", "sns": "services.sns._topic_by_arn_any_scope"}[kind]
    return ((touch(find)(target) or {}).get("attributes") or {}).get("Policy")


@hook
def targets_allow_deliveries(cloud: Cloud) -> None:
    """MiniStack checks a target's policy only for deliveries of S3 and SNS to queues and topics. Rules and
    alarms reach all targets, also state machines without a role, and all services reach functions without an
    `AWS::Lambda::Permission`."""
    to_sqs = touch("services.eventbridge._dispatch_to_sqs", "spec", "payload")
    parsed = touch("core.arn.parse_arn", "value")
    view = touch("services.eventbridge._pattern_event_view", "event")
    extracted = touch("services.apigateway._extract_lambda_ref_from_integration_uri")

    @replace("services.eventbridge._invoke_target", "target", "event", "rule")
    def invoke(original: Callable, target: dict, event: dict, rule: dict, *rest: Any, **more: Any) -> None:
        if event.get("Source") == "aws.scheduler":  # checked by `schedules_act_under_their_role`
            return original(target, event, rule, *rest, **more)
        arn = target.get("Arn", "")
        letters = (target.get("DeadLetterConfig") or {}).get("Arn")
        if letters and denied("events", rule["Arn"], letters):
            letters = None
            target = {key: value for key, value in target.items() if key != "DeadLetterConfig"}
        if target.get("RoleArn") or _service(arn) == "states":
            said = role_denied(target, EVENTS)
            if said:
                log.warning("%s may not deliver to %s: %s", rule["Arn"], arn, said)
        else:
            said = denied("events", rule["Arn"], arn)
        if not said:
            return original(target, event, rule, *rest, **more)
        if letters:
            to_sqs(parsed(letters), json.dumps(view(event).event_with_detail()))
        return None

    @replace("services.cloudwatch._dispatch_alarm_actions", "alarm", "old_state", "new_state", "reason")
    def act(original: Callable, alarm: dict, *change: str) -> None:
        allowed = {
            field: [arn for arn in alarm.get(field) or [] if not denied("cloudwatch", alarm["AlarmArn"], arn)]
            for field in ALARM_ACTIONS
        }
        original(alarm | allowed, *change)

    @replace("services.s3._deliver_event_to_lambda", "arn", "event_payload", "bucket_region")
    def notify(original: Callable, arn: str, payload: dict, region: str) -> None:
        if not denied("s3", payload["Records"][0]["s3"]["bucket"]["arn"], arn):
            original(arn, payload, region)

    @replace("services.sns._deliver_to_lambda", "endpoint", "envelope", "topic_arn")
    def publish(original: Callable, function: str, envelope: str, topic: str, *rest: Any) -> None:
        if not denied("sns", topic, function):
            original(function, envelope, topic, *rest)

    @replace("services.apigateway._invoke_lambda_proxy", "integration", "api_id", "stage", "path", "method")
    async def proxy(
        original: Callable, integration: dict, api: str, stage: str, path: str, method: str,
        headers: dict, body: bytes, query: dict, route: str = "$default", *rest: Any, **more: Any,
    ) -> Any:  # fmt: skip
        account, region = ministack.here()
        way = method + route.partition(" ")[2] if " " in route else route
        source = f"arn:aws:execute-api:{region}:{account}:{api}/{stage}/{way}"
        function = extracted(integration.get("integrationUri", ""))
        if not integration.get("credentialsArn") and denied("apigateway", source, function):
            return 500, {"Content-Type": "application/json"}, b'{"message":"Internal Server Error"}'
        return await original(
            integration, api, stage, path, method, headers, body, query, route, *rest, **more
        )
