from __future__ import annotations

import base64
import bz2
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aws_cdk import Aws, Fn, RemovalPolicy, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sagemaker as sagemaker
from aws_cdk import aws_scheduler as scheduler
from constructs import Construct

from groundplan.experiments import allow_experiments
from groundplan.network import Network
from groundplan.permissions import acknowledge, allow
from groundplan.sagemaker_role import SageMakerRole, allow_logs

SCRIPTS = Path(__file__).parent / "scripts"
"""Scripts that run on an instance. `on_start.sh` contains the others in packed form."""
PLATFORM = "notebook-al2023-v1"
"""SageMaker's default platform, and the newest one in CloudFormation's published schema."""
PLATFORM_AHEAD = "notebook-al2023-v2"
"""The newest platform in SageMaker's API (botocore 1.44.5)."""
LONGEST_SCRIPT = 12_288
"""Maximum length of the lifecycle script in bytes: SageMaker's limit is 16,384 characters in Base64."""


@dataclass(frozen=True, kw_only=True)
class AutoStop:
    """When a notebook instance is stopped: every day at a fixed time, and when it has been idle."""

    at: str = "cron(0 20 * * ? *)"
    """Time of the daily stop, even if a kernel is busy, as a cron expression in UTC. Default: 20:00."""
    idle_minutes: int | None = 60
    """Minutes without activity in kernels and terminals after which the instance is stopped. 0 or None: only
    the daily stop. Default: 60."""


class SageMakerNotebook(Construct):
    """A notebook instance for one data scientist: encrypted, without root, stopped when it is idle.

    CloudFormation cannot change the platform in place: it replaces the instance, with its volume and files.
    As the instance has a physical name, CloudFormation refuses the replacement until the old instance is
    deleted.

    :param name: the instance's name, unique in the account and Region.
    :param instance_type: the instance type. Default: ml.t3.medium.
    :param packages: pip requirements of the kernel `groundplan`. Default: none.
    :param platform: operating system and JupyterLab version, such as `notebook-al2023-v2`. Default:
        notebook-al2023-v1.
    :param stop: when the instance is stopped. Default: after 60 idle minutes, and at 20:00 UTC every day.
    :param network: the instance's VPC, which is its only route to the internet. Default: none; the instance
        has direct internet access.
    :param key: encrypts the instance's volume. Default: SageMaker's own key, which costs nothing.
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
        stop: AutoStop | None = None,
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
        """The notebooks' role. Grant it more permissions as needed."""
        allow_logs(self.role, "/aws/sagemaker/NotebookInstances")
        stop = stop or AutoStop()
        if stop.idle_minutes:
            allow(self.role, "sagemaker:StopNotebookInstance", on=[self._arn(name)])
        start = sagemaker.CfnNotebookInstanceLifecycleConfig(
            self,
            "Kernel",
            notebook_instance_lifecycle_config_name=name,
            on_start=[
                sagemaker.CfnNotebookInstanceLifecycleConfig.NotebookInstanceLifecycleHookProperty(
                    content=Fn.base64(_on_start(packages, stop.idle_minutes or 0))
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
        """The notebook instance."""
        self.instance.apply_removal_policy(RemovalPolicy.DESTROY)
        self.instance.node.add_dependency(self.role)
        self._stop(name, stop.at)
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
        """Let the notebooks train and serve with these roles, read the logs of training jobs, and read the
        stack's outputs. Names of jobs, models and endpoints must begin with `prefix` and a hyphen."""
        allow_experiments(self.role, prefix, roles)

    def _arn(self, name: str) -> str:
        return Stack.of(self).format_arn(
            service="sagemaker", resource="notebook-instance", resource_name=name
        )

    def _stop(self, name: str, at: str) -> None:
        role = iam.Role(self, "StopRole", assumed_by=iam.ServicePrincipal("scheduler.amazonaws.com"))
        allow(role, "sagemaker:StopNotebookInstance", on=[self._arn(name)])
        scheduler.CfnSchedule(
            self,
            "Stop",
            description="Stops the notebook instance; one that is stopped already stays so",
            schedule_expression=at,
            flexible_time_window=scheduler.CfnSchedule.FlexibleTimeWindowProperty(mode="OFF"),
            target=scheduler.CfnSchedule.TargetProperty(
                arn=f"arn:{Aws.PARTITION}:scheduler:::aws-sdk:sagemaker:stopNotebookInstance",
                input=Stack.of(self).to_json_string({"NotebookInstanceName": name}),
                role_arn=role.role_arn,
                retry_policy=scheduler.CfnSchedule.RetryPolicyProperty(maximum_retry_attempts=2),
            ),
        )


def _on_start(packages: Sequence[str], idle_minutes: int) -> str:
    """Return the lifecycle script. Raises `ValueError` if it is too long for SageMaker, or for an invalid
    `idle_minutes`."""
    if not isinstance(idle_minutes, int) or idle_minutes < 0:
        raise ValueError(f"idle_minutes must be a whole number from 0, got {idle_minutes!r}")
    files = {
        "packages.txt": "".join(f"{package}\n" for package in packages),
        "idle_stop.py": (SCRIPTS / "idle_stop.py").read_text(),
    }
    # bzip2's output is the same on every machine, unlike zlib's
    packed = base64.b64encode(bz2.compress(json.dumps(files, sort_keys=True).encode())).decode()
    script = (SCRIPTS / "on_start.sh").read_text()
    script = script.replace("{{files}}", packed).replace("{{idle_minutes}}", str(idle_minutes))
    length = len(script.encode())
    if length > LONGEST_SCRIPT:
        raise ValueError(
            f"the start script must have at most {LONGEST_SCRIPT} bytes,"
            f" got {length} with {len(packages)} packages"
        )
    return script
