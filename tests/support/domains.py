"""A stack with one SageMaker domain."""

from __future__ import annotations

from typing import Any

from aws_cdk import App, CfnOutput, DefaultStackSynthesizer, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_kms as kms
from aws_cdk.assertions import Template

from groundplan import Network, SageMakerDomain, SageMakerRole


def network(scope: Stack, vpc_id: str = "vpc-0123abcd") -> Network:
    return Network(
        subnets=[ec2.Subnet.from_subnet_id(scope, "Subnet", "subnet-0123abcd")],  # pyright: ignore[reportArgumentType]
        security_groups=[ec2.SecurityGroup.from_security_group_id(scope, "Group", "sg-0123abcd")],  # pyright: ignore[reportArgumentType]
        vpc_id=vpc_id,
    )


def domain_template(app: App, *, own_key: bool = False, **props: Any) -> dict[str, Any]:
    """Return the template of a domain whose notebooks may start experiments."""
    synthesizer = DefaultStackSynthesizer(generate_bootstrap_version_rule=False)
    stack = Stack(app, "Trial", synthesizer=synthesizer)
    if own_key:
        props["key"] = kms.Key(stack, "Key", enable_key_rotation=True)
    domain = SageMakerDomain(stack, "Domain", **({"name": "trial", "network": network(stack)} | props))
    training = SageMakerRole(stack, "Training", log_group="/aws/sagemaker/TrainingJobs")
    domain.allow_experiments("trial-notebook", [training])
    CfnOutput(stack, "DomainId", value=domain.domain.attr_domain_id)
    CfnOutput(stack, "Url", value=domain.domain.attr_url)
    return dict(Template.from_stack(stack).to_json())
