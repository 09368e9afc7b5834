"""Access to the state and functions of MiniStack, the AWS emulator in this server. `patches/` changes its
behaviour."""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
import importlib
import json
import re
import secrets
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from local import record
from local.emulator.reach import touch


def enforcing() -> bool:
    return bool(touch("app.AUTH"))


def enforce(on: bool) -> None:
    """Turn IAM enforcement on or off. MiniStack reads the flag at every request."""
    touch("app.AUTH")
    importlib.import_module("ministack.app").AUTH = on  # type: ignore[attr-defined]


def scope(account: str, region: str) -> contextlib.AbstractContextManager:
    """Return a context manager, within which MiniStack uses the data of this account and Region."""
    return touch("core.responses.request_scope", "account_id", "region")(account, region)


def here() -> tuple[str, str]:
    """Return the account and Region of the current request."""
    return touch("core.responses.get_account_id")(), touch("core.responses.get_region")()


_sessions_lock = threading.Lock()
_sessions: dict[tuple[str, ...], dict[str, str]] = {}


def role_session(account: str, role_arn: str, session: str, process: str = "") -> dict[str, str]:
    """Return credentials of a role session. They are the same for the same role, session name and process.

    The keys are random: a container may know the names of other roles, and must not be able to derive their
    keys.
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
    """Return whether the role exists and its trust policy allows the service principal to assume it."""
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
    """Return IAM's error message if the caller may not perform the action; else, or if IAM is off, None.

    :param about: values of service-specific condition keys
    """
    if not enforcing():
        record.answered(action)
        return None
    ask = touch(
        "core.iam_evaluator.enforce",
        "access_key_id", "iam_action", "service", "region", "resource_arn", "service_context",
    )  # fmt: skip
    # Only SageMaker calls this, and policies for iam:PassRole name the service
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
            record.answered(action)
            return None
        if hasattr(denied, "message"):
            return denied.message
        return explain(action, denied.principal_arn, resource, denied.decision == "Deny")

    # With new context variables: the inherited ones have the signature of another request
    return contextvars.Context().run(evaluate)


def put_event(
    account: str, region: str, source: str, detail_type: str, detail: dict, *resources: str
) -> None:
    entry = {
        "Source": source,
        "DetailType": detail_type,
        "Detail": json.dumps(detail),
        "Resources": list(resources),
    }
    with scope(account, region):
        touch("services.eventbridge._put_events", "data", "allow_aws_source")(
            {"Entries": [entry]}, allow_aws_source=True
        )


def image_manifest(account: str, region: str, repository: str, reference: str) -> str | None:
    """Return the manifest of an image in ECR by tag or digest, or None."""
    image = {"imageDigest": reference} if reference.startswith("sha256:") else {"imageTag": reference}
    with scope(account, region):
        found = touch("services.ecr._find_image", "repo_name", "image_id")(repository, image)
    return found["imageManifest"] if found else None


def states() -> dict[str, Any]:
    """Return a copy of the state of each service, by file name.

    Requests are processed meanwhile, so copying may fail; then it is retried. A service that changes too fast
    is left out until the next call.
    """
    state: dict[str, Any] = {}
    for name, get_state in touch("app._build_persistence_save_dict")().items():
        found = _copied(get_state)
        if found is not None:
            state[name] = found
    return state


def _copied(copy: Callable[[], Any], attempts: int = 20) -> Any:
    for _ in range(attempts):
        with contextlib.suppress(RuntimeError):  # a dictionary changed its size during iteration
            return copy()
    return None


def encode_state(name: str, state: Any) -> bytes:
    """Encode the state of a service in the format that MiniStack reads at its start."""
    version = touch("core.persistence._state_format_version", "service")(name)
    document = {"__ministack_format__": version, "payload": state}
    return json.dumps(document, default=touch("core.persistence._json_default", "obj")).encode()


def application() -> Callable:
    return touch("app.app", "scope", "receive", "send")


def end_functions() -> None:
    """Kill the processes of Lambda functions."""
    touch("core.lambda_runtime.reset")()


def functions_running() -> int:
    return len(touch("core.lambda_runtime._workers"))


def executions_running() -> int:
    executions = touch("services.stepfunctions._executions")
    return sum(1 for execution in executions.all_values() if execution.get("status") == "RUNNING")


def changing(stack: str) -> bool:
    """Return whether a stack with this name or ID is being created, updated or deleted."""
    found = touch("services.cloudformation._stacks").all_values()
    statuses = [each["StackStatus"] for each in found if stack in (each["StackName"], each["StackId"])]
    return any(status.endswith("_IN_PROGRESS") for status in statuses if status != "REVIEW_IN_PROGRESS")


def stacks() -> list[dict[str, str]]:
    """Return name and status of all stacks, in all accounts and Regions."""
    found = touch("services.cloudformation._stacks").all_values()
    there = [stack for stack in found if stack["StackStatus"] != "DELETE_COMPLETE"]
    return [{"name": stack["StackName"], "status": stack["StackStatus"]} for stack in there]
