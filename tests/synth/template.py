"""Helpers to read a template."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

Template = dict[str, Any]

NAMED = {
    "AWS::SageMaker::Endpoint": "EndpointName",
    "AWS::SageMaker::ModelPackageGroup": "ModelPackageGroupName",
    "AWS::SageMaker::NotebookInstance": "NotebookInstanceName",
    "AWS::SageMaker::NotebookInstanceLifecycleConfig": "NotebookInstanceLifecycleConfigName",
    "AWS::StepFunctions::StateMachine": "StateMachineName",
    "AWS::Logs::LogGroup": "LogGroupName",
    "AWS::SSM::Parameter": "Name",
    "AWS::SecretsManager::Secret": "Name",
    "AWS::ApiGatewayV2::Api": "Name",
}
"""Property with the physical name, by resource type."""


def of_type(template: Template, kind: str) -> dict[str, dict[str, Any]]:
    return {name: r for name, r in template["Resources"].items() if r["Type"] == kind}


def only(template: Template, kind: str) -> dict[str, Any]:
    (found,) = of_type(template, kind).values()
    return found


def flat(value: Any) -> str:
    """Return a text with joins evaluated and references as `<Name>`."""
    match value:
        case {"Ref": name}:
            return f"<{name}>"
        case {"Fn::GetAtt": [name, attribute]}:
            return f"<{name}.{attribute}>"
        case {"Fn::Join": [between, parts]}:
            return between.join(map(flat, parts))
        case {"Fn::Sub": text}:
            return re.sub(r"\$\{(.*?)\}", r"<\1>", text)
        case _:
            return str(value)


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements(template: Template) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Return (name of the policy, policy, statement) for every statement of the roles' policies."""
    for name, policy in of_type(template, "AWS::IAM::Policy").items():
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
            yield name, policy, statement


def allowed(template: Template, role: str) -> dict[str, set[str]]:
    """Return, by action, the resources that a role allows. The logical ids of the role's policies begin with
    `role`."""
    found: dict[str, set[str]] = {}
    for name, _, statement in statements(template):
        if name.startswith(role):
            for action in listed(statement["Action"]):
                found.setdefault(action, set()).update(map(flat, listed(statement["Resource"])))
    return found


def wildcards(template: Template) -> int:
    """Return the number of resources with a `*` in the policies."""
    return sum(
        "*" in flat(each) for _, _, found in statements(template) for each in listed(found["Resource"])
    )


def retained_types(template: Template) -> set[str]:
    """Return the types of retained resources. Check that a failed first deployment still deletes them."""
    retained = {
        resource["Type"]: (resource["DeletionPolicy"], resource["UpdateReplacePolicy"])
        for resource in template["Resources"].values()
        if resource.get("DeletionPolicy", "Delete") != "Delete"
    }
    assert set(retained.values()) <= {("RetainExceptOnCreate", "Retain")}
    return set(retained)


def logs_may_use(template: Template) -> bool:
    """Return whether CloudWatch Logs may use the stack's key for the log groups of this account only."""
    policy = only(template, "AWS::KMS::Key")["Properties"]["KeyPolicy"]["Statement"]
    granted = [s for s in policy if flat(s["Principal"].get("Service", "")).startswith("logs.")]
    actions = {action for statement in granted for action in statement["Action"]}
    groups = {flat(s["Condition"]["ArnLike"]["kms:EncryptionContext:aws:logs:arn"]) for s in granted}
    return {"kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey*"} <= actions and groups == {
        "arn:<AWS::Partition>:logs:<AWS::Region>:<AWS::AccountId>:log-group:*"
    }
