from __future__ import annotations

from aws_cdk import ArnFormat, Aws, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from constructs import Construct, IConstruct

from groundplan.removal import removal


def log_group_arn(scope: IConstruct, name: str) -> str:
    """Return the ARN pattern for IAM of log groups with this name in the stack's account and Region."""
    return Stack.of(scope).format_arn(
        service="logs",
        resource="log-group",
        resource_name=name,
        arn_format=ArnFormat.COLON_RESOURCE_NAME,
    )


def log_group(
    scope: Construct,
    id: str,
    *,
    retention: logs.RetentionDays,
    key: kms.IKey | None = None,
    name: str | None = None,
    retain: bool = False,
) -> logs.LogGroup:
    """Create a log group.

    :param retention: retention of log events.
    :param key: encrypts the group. The key's policy then allows CloudWatch Logs to use it, for log groups of
        this account and Region only. Default: CloudWatch Logs' own encryption, which costs nothing.
    :param name: the group's name if a service prescribes it. Default: a name by CloudFormation.
    :param retain: whether the group remains when the stack is deleted. Default: False.
    """
    if key:
        groups = log_group_arn(scope, "*")
        key.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal(f"logs.{Aws.REGION}.{Aws.URL_SUFFIX}")],
                actions=[
                    "kms:Decrypt",
                    "kms:DescribeKey",
                    "kms:Encrypt",
                    "kms:GenerateDataKey*",
                    "kms:ReEncrypt*",
                ],
                resources=["*"],
                conditions={"ArnLike": {"kms:EncryptionContext:aws:logs:arn": groups}},
            )
        )
    return logs.LogGroup(
        scope,
        id,
        log_group_name=name,
        retention=retention,
        encryption_key=key,
        removal_policy=removal(retain),
    )
