from __future__ import annotations

from aws_cdk import Aws
from aws_cdk import aws_iam as iam
from constructs import Construct

from groundplan.log_group import log_group_arn
from groundplan.network import Network
from groundplan.permissions import allow


class SageMakerRole(Construct):
    """A role that SageMaker assumes for jobs or an endpoint. Initially it may only write logs and metrics.

    Grant it all further permissions: `secret.grant_read(role.role)`, `bucket.grant_read(...)`.

    :param log_group: name of the log group that SageMaker writes to, such as `/aws/sagemaker/TrainingJobs`. A
        `*` stands for any text.
    :param network: the VPC of the instances. Default: none; the instances reach the internet through
        SageMaker.
    :param role: an existing role that SageMaker may assume. Default: a new one.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        log_group: str,
        network: Network | None = None,
        role: iam.IRole | None = None,
    ) -> None:
        super().__init__(scope, id)
        self.role: iam.IRole = role or iam.Role(  # pyright: ignore[reportAttributeAccessIssue]
            self,
            "Role",
            assumed_by=iam.ServicePrincipal(
                "sagemaker.amazonaws.com", conditions={"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}}
            ),
            description=f"SageMaker, writing to {log_group}",
        )
        """The role, new or existing."""
        allow_logs(self.role, log_group)
        if network:
            _allow_network(self.role)

    def grant_pass(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let `grantee` pass this role to SageMaker, and to no other service."""
        return iam.Grant.add_to_principal(
            grantee=grantee,
            actions=["iam:PassRole"],
            resource_arns=[self.role.role_arn],
            conditions={"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
        )


def allow_logs(role: iam.IRole, log_group: str) -> None:
    """Let `role` write logs to the log group, and metrics to SageMaker's namespaces."""
    arn = log_group_arn(role, log_group)
    allow(
        role,
        "logs:CreateLogGroup",
        "logs:CreateLogStream",
        "logs:DescribeLogStreams",
        "logs:PutLogEvents",
        on=[arn, f"{arn}:*"],
        because="SageMaker names the streams of a log group.",
    )
    allow(
        role,
        "cloudwatch:PutMetricData",
        on=["*"],
        because="IAM knows no resource for these calls: metrics (held to SageMaker's namespaces by a"
        " condition), the sign-in to the image registry and, in a VPC, network interfaces.",
        only_if={"StringLike": {"cloudwatch:namespace": ["/aws/sagemaker/*", "aws/sagemaker/*"]}},
    )


def _allow_network(role: iam.IRole) -> None:
    """Let `role` create the network interfaces of instances in a VPC."""
    allow(
        role,
        "ec2:CreateNetworkInterface",
        "ec2:CreateNetworkInterfacePermission",
        "ec2:DeleteNetworkInterface",
        "ec2:DeleteNetworkInterfacePermission",
        "ec2:DescribeDhcpOptions",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSecurityGroups",
        "ec2:DescribeSubnets",
        "ec2:DescribeVpcs",
        on=["*"],
        because="Network interfaces get their ids when SageMaker makes them.",
    )
