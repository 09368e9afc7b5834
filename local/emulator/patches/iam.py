"""IAM: managed policies, and condition keys that MiniStack does not set."""

from __future__ import annotations

import contextlib
import contextvars
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

from local.emulator.reach import Cloud, hook, put, record, replace, touch
from local.emulator.stepfunctions import WAITING


@hook
def the_loopback_is_a_secure_transport(cloud: Cloud) -> None:
    """Buckets that deny unencrypted requests would deny all requests, because the local cloud has no TLS."""

    @replace("app.pin_request_origin", "source_ip", "secure_transport")
    def pin(original: Callable, source_ip: str, secure_transport: bool) -> None:
        original(source_ip, True)

    # If IAM is not enforced, MiniStack does not record a request's origin, but bucket policies still apply
    address, _ = touch("core.iam_evaluator._request_origin").get()
    origin = contextvars.ContextVar("origin", default=(address, True))
    put("core.iam_evaluator._request_origin", value=origin)


TASK_VERBS = ("SendTaskFailure", "SendTaskHeartbeat", "SendTaskSuccess")
STREAM_VERBS = ("DeleteLogStream", "DescribeLogStreams", "GetLogEvents", "PutLogEvents")


@hook
def resources_of_some_actions(cloud: Cloud) -> None:
    """For some actions, MiniStack checks permissions on the wrong resource: for actions on a log stream on
    its log group; for actions with a task token and for `ecr:DescribeRepositories` on `*`. Policies that
    allow the action on a stream, a state machine or a repository would never match."""

    @replace(
        "core.iam_actions.extract_resource_arn",
        "service", "method", "path", "headers", "body", "query_params", "region", "account_id",
    )  # fmt: skip
    def resource(original: Callable, service: str, *request: Any) -> str:
        arn = original(service, *request)
        headers, body = request[2:4]
        region, account = request[-2:]
        verb = headers.get("x-amz-target", "").rpartition(".")[2]
        if service == "logs" and verb in STREAM_VERBS:
            stream = json.loads(body or b"{}").get("logStreamName", "")
            return f"{arn}:log-stream:{stream}"
        if service == "states" and verb in TASK_VERBS:
            token = str(json.loads(body or b"{}").get("taskToken"))
            return WAITING.get(token) or arn
        if service == "ecr" and verb == "DescribeRepositories":
            for name in json.loads(body or b"{}").get("repositoryNames", [])[:1]:
                return f"arn:aws:ecr:{region}:{account}:repository/{name}"
        return arn


POLICIES = Path(__file__).with_name("aws_managed_policies.json.xz")
"""File with AWS's managed policies by path and name. `tooling/managed_policies.py` creates the file and names
the source."""
PREFIX = "arn:aws:iam::aws:policy/"


@hook
def attached_policies_exist(cloud: Cloud) -> None:
    """MiniStack has only 29 of AWS's 1,500 managed policies. It accepts the ARN of any other policy, even of
    one that does not exist, and the attached policy then allows nothing."""
    known = touch("services.iam._aws_managed_policies")
    made = touch("services.iam._make_aws_managed_record", "name", "document", "description")
    found = touch("services.iam._lookup_policy", "arn")
    parameter = touch("services.iam._p", "params", "key")
    error = touch("services.iam._error", "status", "code", "message", "ns")
    with lzma.open(POLICIES) as file:
        policies = {
            PREFIX + name: made(name, json.dumps(document)) for name, document in json.load(file).items()
        }
    added = policies.keys() - known.keys()
    known.update({arn: policies[arn] for arn in policies if arn in added})
    record("services.iam._aws_managed_policies", lambda: [known.pop(arn) for arn in added])

    def missing(arn: str) -> str:
        return f"Policy {arn} does not exist or is not attachable."

    def checked(attach: Callable) -> Callable:
        def attached(params: dict) -> Any:
            arn = parameter(params, "PolicyArn")
            return attach(params) if found(arn) else error(404, "NoSuchEntity", missing(arn), ns="iam")

        return attached

    handlers = touch("services.iam._IAM_HANDLERS")
    for entity in ("Role", "User", "Group"):
        operation = f"Attach{entity}Policy"
        put("services.iam._IAM_HANDLERS", operation, value=checked(handlers[operation]))

    @replace("services.iam._attach_user_policy", "p")
    def attach_to_user_in_stack(original: Callable, params: dict) -> Any:
        return checked(original)(params)

    @replace("services.iam.attach_managed_policy", "entity", "policy_arn")
    def attach_in_stack(original: Callable, entity: dict, arn: str) -> None:
        if not found(arn):
            raise ValueError(f"{missing(arn)} (Service: Iam, Status Code: 404, Error Code: NoSuchEntity)")
        original(entity, arn)


@hook
def metrics_are_held_to_a_namespace(cloud: Cloud) -> None:
    """MiniStack does not set the condition key `cloudwatch:namespace`, so policy statements with that key
    never match."""

    @replace("core.iam_actions.request_tag_context", "service", "iam_action", "body", "params")
    def context(original: Callable, service: str, action: str, body: bytes, params: dict) -> dict[str, Any]:
        found = original(service, action, body, params)
        if action == "cloudwatch:PutMetricData" and (namespace := _namespace(body, params)):
            found["cloudwatch:namespace"] = namespace
        return found


def _namespace(body: bytes, params: dict[str, Any]) -> str | None:
    """Return the namespace of a PutMetricData request, whose body is a form or JSON. CBOR is not decoded: the
    emulator's environment has no CBOR package."""
    if "Namespace" in params:
        return str(touch("services.cloudwatch._p", "params", "key")(params, "Namespace"))
    with contextlib.suppress(ValueError):
        return json.loads(body).get("Namespace")
    return None
