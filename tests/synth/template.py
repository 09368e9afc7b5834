"""What tests ask of a template."""

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
"""The property with the physical name, by type."""


def of_type(template: Template, kind: str) -> dict[str, dict[str, Any]]:
    return {name: r for name, r in template["Resources"].items() if r["Type"] == kind}


def only(template: Template, kind: str) -> dict[str, Any]:
    (found,) = of_type(template, kind).values()
    return found


def flat(value: Any) -> str:
    """A text with joins carried out and references as `<Name>`."""
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
    """(policy's name, policy, statement) for all that a role is allowed."""
    for name, policy in of_type(template, "AWS::IAM::Policy").items():
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
            yield name, policy, statement


def allowed(template: Template, role: str) -> dict[str, set[str]]:
    """Resources by action, for the role whose logical id begins with `role`."""
    found: dict[str, set[str]] = {}
    for name, _, statement in statements(template):
        if name.startswith(role):
            for action in listed(statement["Action"]):
                found.setdefault(action, set()).update(map(flat, listed(statement["Resource"])))
    return found


def wildcards(template: Template) -> int:
    """How many resources with a `*` the policies name."""
    return sum(
        "*" in flat(each) for _, _, found in statements(template) for each in listed(found["Resource"])
    )


def retained_types(template: Template) -> set[str]:
    """The types that outlive their stack. What a failed first deployment made goes with it all the same."""
    retained = {
        resource["Type"]: (resource["DeletionPolicy"], resource["UpdateReplacePolicy"])
        for resource in template["Resources"].values()
        if resource.get("DeletionPolicy", "Delete") != "Delete"
    }
    assert set(retained.values()) <= {("RetainExceptOnCreate", "Retain")}
    return set(retained)


def logs_may_use(template: Template) -> bool:
    """Whether CloudWatch Logs may encrypt with the stack's key, for the log groups of this account alone."""
    policy = only(template, "AWS::KMS::Key")["Properties"]["KeyPolicy"]["Statement"]
    granted = [s for s in policy if flat(s["Principal"].get("Service", "")).startswith("logs.")]
    actions = {action for statement in granted for action in statement["Action"]}
    groups = {flat(s["Condition"]["ArnLike"]["kms:EncryptionContext:aws:logs:arn"]) for s in granted}
    return {"kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey*"} <= actions and groups == {
        "arn:<AWS::Partition>:logs:<AWS::Region>:<AWS::AccountId>:log-group:*"
    }
