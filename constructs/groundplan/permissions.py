"""Permissions and accepted cdk-nag findings, with reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aws_cdk import Acknowledgment, Stack, Validations
from aws_cdk import aws_iam as iam
from constructs import IConstruct


def allow(
    grantee: iam.IGrantable,
    *actions: str,
    on: Sequence[str],
    because: str | None = None,
    only_if: Mapping[str, Mapping[str, Any]] | None = None,
) -> iam.Grant:
    """Let `grantee` perform `actions` on the resources with the ARNs `on`.

    If an ARN contains `*`, `because` must give a reason, which is written to the template. Raises
    `ValueError` if the reason is missing.
    """
    principal = grantee.grant_principal
    if hasattr(principal, "node"):  # a role, a user or a group, including imported ones
        wide = [arn for arn in (_shown(Stack.of(principal).resolve(arn)) for arn in on) if "*" in arn]
        if wide and not because:
            raise ValueError(f"the permission {', '.join(actions)} on {', '.join(wide)} must have a reason")
        acknowledge(principal, {f"AwsSolutions-IAM5[Resource::{arn}]": str(because) for arn in wide})
    return iam.Grant.add_to_principal(
        grantee=grantee, actions=list(actions), resource_arns=list(on), conditions=only_if
    )


def acknowledge(construct: IConstruct, findings: Mapping[str, str]) -> None:
    """Accept cdk-nag findings at and below `construct`.

    :param findings: reasons by the id of the finding, such as `AwsSolutions-S1`.
    """
    Validations.of(construct).acknowledge(
        *(Acknowledgment(id=finding, reason=reason) for finding, reason in findings.items())
    )


def _shown(value: Any) -> str:
    """Return an ARN in cdk-nag's format: `<LogicalId.Attribute>` for values known only at deployment."""
    match value:
        case {"Ref": name}:
            return f"<{name}>"
        case {"Fn::GetAtt": [name, attribute]}:
            return f"<{name}.{attribute}>"
        case {"Fn::Join": [between, parts]}:
            return between.join(_shown(part) for part in parts)
        case _:
            return str(value)
