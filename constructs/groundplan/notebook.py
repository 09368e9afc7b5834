from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import ArnFormat, Aws, Fn, RemovalPolicy, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sagemaker as sagemaker
from aws_cdk import aws_scheduler as scheduler
from constructs import Construct

from groundplan.network import Network
from groundplan.permissions import acknowledge, allow
from groundplan.sagemaker_role import SageMakerRole, allow_logs

KERNEL = """#!/bin/bash
# A kernel named "groundplan" with exactly these packages; /home/ec2-user/SageMaker outlives a stop.
# In the background: a lifecycle script has five minutes, pip may take longer. Its log lies beside it.
set -eu
command -v python3.11 || dnf install --quiet --assumeyes python3.11
cat > /home/ec2-user/SageMaker/.groundplan.txt <<'PACKAGES'
{packages}
PACKAGES
sudo -u ec2-user -i nohup bash -eu > /home/ec2-user/SageMaker/.groundplan.log 2>&1 <<'SCRIPT' &
cd /home/ec2-user/SageMaker
test -x .groundplan/bin/python || python3.11 -m venv .groundplan
.groundplan/bin/python -m pip install --quiet --requirement .groundplan.txt ipykernel
.groundplan/bin/python -m ipykernel install --user --name groundplan --display-name groundplan
SCRIPT
"""
PLATFORM = "notebook-al2023-v1"
"""SageMaker's own default, and the newest in CloudFormation's published schema."""
PLATFORM_AHEAD = "notebook-al2023-v2"
"""The newest that SageMaker's API offers (botocore 1.44.5)."""
LONGEST_SCRIPT = 12_288
"""SageMaker takes 16,384 characters in Base64."""


class SageMakerNotebook(Construct):
    """A notebook instance for one data scientist: encrypted, without root, stopped every evening.

    CloudFormation cannot change the platform in place: it replaces the instance, and with it the volume and
    its files. As the instance has a name of its own, it refuses even that until the old one is deleted.

    :param name: the instance's name, unique in the account and Region.
    :param instance_type: its size. Default: ml.t3.medium.
    :param packages: what pip installs into the kernel `groundplan`, one requirement each. Default: none.
    :param platform: its operating system and JupyterLab, such as `notebook-al2023-v2`. Default:
        notebook-al2023-v1.
    :param stop_at: when it is stopped, as a cron expression in UTC. Default: 20:00 every day.
    :param network: the VPC it joins, without a way to the internet but the VPC's. Default: none.
    :param key: encrypts its volume. Default: SageMaker's own key, which costs nothing.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        name: str,
        instance_type: str = "ml.t3.medium",
        packages: Sequence[str] = (),
        platform: str = PLATFORM,
        stop_at: str = "cron(0 20 * * ? *)",
        network: Network | None = None,
        key: kms.IKey | None = None,
    ) -> None:
        super().__init__(scope, id)
        self.role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("sagemaker.amazonaws.com"),
            description=f"The notebook instance {name}",
        )
        """What its notebooks may do; grant them more."""
        allow_logs(self.role, "/aws/sagemaker/NotebookInstances")
        script = KERNEL.format(packages="\n".join(packages))
        if len(script) > LONGEST_SCRIPT:
            raise ValueError(
                f"the packages make a script of {len(script)} characters, {LONGEST_SCRIPT} are allowed"
            )
        start = sagemaker.CfnNotebookInstanceLifecycleConfig(
            self,
            "Kernel",
            notebook_instance_lifecycle_config_name=name,
            on_start=[
                sagemaker.CfnNotebookInstanceLifecycleConfig.NotebookInstanceLifecycleHookProperty(
                    content=Fn.base64(script)
                )
            ],
        )
        self.instance = sagemaker.CfnNotebookInstance(
            self,
            "Instance",
            notebook_instance_name=name,
            instance_type=instance_type,
            role_arn=self.role.role_arn,
            lifecycle_config_name=start.attr_notebook_instance_lifecycle_config_name,
            platform_identifier=platform,
            instance_metadata_service_configuration=sagemaker.CfnNotebookInstance.InstanceMetadataServiceConfigurationProperty(
                minimum_instance_metadata_service_version="2"
            ),
            root_access="Disabled",
            direct_internet_access="Disabled" if network else "Enabled",
            subnet_id=network.subnets[0].subnet_id if network else None,
            security_group_ids=[group.security_group_id for group in network.security_groups]
            if network
            else None,
            kms_key_id=key.key_id if key else None,
            volume_size_in_gb=10,
        )
        """The instance itself."""
        self.instance.apply_removal_policy(RemovalPolicy.DESTROY)
        self.instance.node.add_dependency(self.role)
        self._stop(stop_at)
        if not network:
            acknowledge(
                self.instance,
                {
                    "AwsSolutions-SM1": "Without a VPC of its own it is isolated in SageMaker's.",
                    "AwsSolutions-SM3": "Without a VPC, data and PyPI are reached over the internet;"
                    " nothing can reach the instance from there.",
                },
            )
        if platform == PLATFORM_AHEAD:
            acknowledge(
                self.instance,
                {
                    "CloudFormation-Validate::F3031": "SageMaker's API offers this platform; the schema of"
                    " CloudFormation's that the CDK has does not list it yet."
                },
            )
        if not key:
            acknowledge(
                self.instance, {"AwsSolutions-SM2": "SageMaker encrypts the volume with its own key."}
            )

    def allow_experiments(self, prefix: str, roles: Sequence[SageMakerRole]) -> None:
        """Let its notebooks train and serve with these roles, under names that begin with `prefix` and a
        hyphen, read the logs of what they train, and read the outputs of their stack."""
        stack = Stack.of(self)

        def arns(*kinds: str) -> list[str]:
            return [
                stack.format_arn(service="sagemaker", resource=kind, resource_name=f"{prefix}-*")
                for kind in kinds
            ]

        job_logs = stack.format_arn(
            service="logs",
            resource="log-group",
            resource_name="/aws/sagemaker/TrainingJobs:*",
            arn_format=ArnFormat.COLON_RESOURCE_NAME,
        )
        own = "The SDK names what a notebook makes."
        for noun, actions, resources in (
            ("TrainingJob", ["Create", "Describe", "Stop"], arns("training-job")),
            ("Model", ["Create", "Describe", "Delete"], arns("model")),
            ("EndpointConfig", ["Create", "Describe", "Delete"], arns("endpoint-config")),
            ("Endpoint", ["Create", "Describe", "Delete", "Invoke"], arns("endpoint", "endpoint-config")),
            ("Tags", ["Add", "List"], arns("training-job", "model", "endpoint-config", "endpoint")),
        ):
            allow(self.role, *(f"sagemaker:{action}{noun}" for action in actions), on=resources, because=own)
        allow(self.role, "logs:DescribeLogStreams", "logs:GetLogEvents", on=[job_logs], because=own)
        again = "A stack has a new last part in its ARN each time it is created."
        this_stack = stack.format_arn(
            service="cloudformation", resource="stack", resource_name=f"{stack.stack_name}/*"
        )
        allow(self.role, "cloudformation:DescribeStacks", on=[this_stack], because=again)
        for role in roles:
            role.grant_pass(self.role)

    def _stop(self, at: str) -> None:
        arn = Stack.of(self).format_arn(
            service="sagemaker",
            resource="notebook-instance",
            resource_name=str(self.instance.notebook_instance_name),
        )
        role = iam.Role(self, "StopRole", assumed_by=iam.ServicePrincipal("scheduler.amazonaws.com"))
        allow(role, "sagemaker:StopNotebookInstance", on=[arn])
        scheduler.CfnSchedule(
            self,
            "Stop",
            description="Stops the notebook instance; one that is stopped already stays so",
            schedule_expression=at,
            flexible_time_window=scheduler.CfnSchedule.FlexibleTimeWindowProperty(mode="OFF"),
            target=scheduler.CfnSchedule.TargetProperty(
                arn=f"arn:{Aws.PARTITION}:scheduler:::aws-sdk:sagemaker:stopNotebookInstance",
                input=Stack.of(self).to_json_string(
                    {"NotebookInstanceName": self.instance.notebook_instance_name}
                ),
                role_arn=role.role_arn,
                retry_policy=scheduler.CfnSchedule.RetryPolicyProperty(maximum_retry_attempts=2),
            ),
        )
