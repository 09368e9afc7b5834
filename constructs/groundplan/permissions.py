"""Permissions and accepted findings, each with its reason beside it."""

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
    """Let `grantee` do `actions` on the resources whose ARNs are `on`.

    A `*` in an ARN needs a reason, which goes into the template with it. Raises `ValueError` without one.
    """
    principal = grantee.grant_principal
    if hasattr(principal, "node"):  # a role, a user or a group, also an imported one
        wide = [arn for arn in (_shown(Stack.of(principal).resolve(arn)) for arn in on) if "*" in arn]
        if wide and not because:
            raise ValueError(f"{', '.join(actions)} on {', '.join(wide)} needs a reason")
        acknowledge(principal, {f"AwsSolutions-IAM5[Resource::{arn}]": str(because) for arn in wide})
    return iam.Grant.add_to_principal(
        grantee=grantee, actions=list(actions), resource_arns=list(on), conditions=only_if
    )


def acknowledge(construct: IConstruct, findings: Mapping[str, str]) -> None:
    """Accept cdk-nag findings, such as `AwsSolutions-S1`, at and below `construct`: reason by finding."""
    Validations.of(construct).acknowledge(
        *(Acknowledgment(id=finding, reason=reason) for finding, reason in findings.items())
    )


def _shown(value: Any) -> str:
    """An ARN as cdk-nag writes it: `<LogicalId.Attribute>` for what is known only at deployment."""
    match value:
        case {"Ref": name}:
            return f"<{name}>"
        case {"Fn::GetAtt": [name, attribute]}:
            return f"<{name}.{attribute}>"
        case {"Fn::Join": [between, parts]}:
            return between.join(_shown(part) for part in parts)
        case _:
            return str(value)
