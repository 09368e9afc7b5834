"""Permissions of a data scientist's notebooks, on a notebook instance or in a domain."""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import Stack
from aws_cdk import aws_iam as iam

from groundplan.log_group import log_group_arn
from groundplan.permissions import allow
from groundplan.sagemaker_role import SageMakerRole


def allow_experiments(grantee: iam.IRole, prefix: str, roles: Sequence[SageMakerRole]) -> None:
    """Let `grantee` train and serve with these roles, read the logs of training jobs, and read the outputs of
    its stack. Names of jobs, models and endpoints must begin with `prefix` and a hyphen."""
    stack = Stack.of(grantee)

    def arns(*kinds: str) -> list[str]:
        return [
            stack.format_arn(service="sagemaker", resource=kind, resource_name=f"{prefix}-*")
            for kind in kinds
        ]

    job_logs = log_group_arn(stack, "/aws/sagemaker/TrainingJobs:*")
    own = "The SDK names what a notebook makes."
    for noun, actions, resources in (
        ("TrainingJob", ["Create", "Describe", "Stop"], arns("training-job")),
        ("Model", ["Create", "Describe", "Delete"], arns("model")),
        ("EndpointConfig", ["Create", "Describe", "Delete"], arns("endpoint-config")),
        ("Endpoint", ["Create", "Describe", "Delete", "Invoke"], arns("endpoint", "endpoint-config")),
        ("Tags", ["Add", "List"], arns("training-job", "model", "endpoint-config", "endpoint")),
    ):
        allow(grantee, *(f"sagemaker:{action}{noun}" for action in actions), on=resources, because=own)
    allow(grantee, "logs:DescribeLogStreams", "logs:GetLogEvents", on=[job_logs], because=own)
    again = "A stack has a new last part in its ARN each time it is created."
    this_stack = stack.format_arn(
        service="cloudformation", resource="stack", resource_name=f"{stack.stack_name}/*"
    )
    allow(grantee, "cloudformation:DescribeStacks", on=[this_stack], because=again)
    for role in roles:
        role.grant_pass(grantee)
