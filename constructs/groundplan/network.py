"""Where SageMaker puts an instance's network interface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aws_cdk import aws_ec2 as ec2


@dataclass(frozen=True, kw_only=True)
class Network:
    """Subnets and security groups of a VPC that is there already.

    The subnets need a way to S3, CloudWatch Logs and whatever else the instances call (a NAT gateway or
    endpoints); the security groups must let the hosts of one training job reach each other.
    """

    subnets: Sequence[ec2.ISubnet]
    security_groups: Sequence[ec2.ISecurityGroup]
    vpc_id: str = ""
    """The VPC they are in; a SageMaker domain needs it, and nothing else does."""

    @classmethod
    def of(cls, vpc: ec2.IVpc, security_groups: Sequence[ec2.ISecurityGroup]) -> Network:
        """Return the network of a VPC's private subnets with a way out."""
        return cls(subnets=vpc.private_subnets, security_groups=security_groups, vpc_id=vpc.vpc_id)

    @property
    def vpc_config(self) -> dict[str, list[str]]:
        """As SageMaker's API takes it."""
        return {
            "Subnets": [subnet.subnet_id for subnet in self.subnets],
            "SecurityGroupIds": [group.security_group_id for group in self.security_groups],
        }
