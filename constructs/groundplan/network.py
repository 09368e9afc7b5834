"""Network of SageMaker instances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aws_cdk import aws_ec2 as ec2


@dataclass(frozen=True, kw_only=True)
class Network:
    """Subnets and security groups of an existing VPC.

    The subnets need a route to S3, CloudWatch Logs and other services that the instances call: a NAT gateway
    or VPC endpoints. The security groups must allow traffic between the hosts of a training job.
    """

    subnets: Sequence[ec2.ISubnet]
    """The subnets. A notebook instance is in the first one."""
    security_groups: Sequence[ec2.ISecurityGroup]
    """The security groups of the instances."""
    vpc_id: str = ""
    """Id of the VPC. Required by a SageMaker domain only. Default: empty."""

    @classmethod
    def of(cls, vpc: ec2.IVpc, security_groups: Sequence[ec2.ISecurityGroup]) -> Network:
        """Return the network of a VPC's private subnets, which have a route to the internet."""
        return cls(subnets=vpc.private_subnets, security_groups=security_groups, vpc_id=vpc.vpc_id)

    @property
    def vpc_config(self) -> dict[str, list[str]]:
        """`VpcConfig` of the SageMaker API."""
        return {
            "Subnets": [subnet.subnet_id for subnet in self.subnets],
            "SecurityGroupIds": [group.security_group_id for group in self.security_groups],
        }
