from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import RemovalPolicy, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from groundplan.experiments import allow_experiments
from groundplan.network import Network
from groundplan.permissions import allow
from groundplan.sagemaker_role import SageMakerRole, allow_logs

SHORTEST_IDLE, LONGEST_IDLE = 60, 525_600
"""SageMaker's limits of the idle timeout in minutes."""


class SageMakerDomain(Construct):
    """A SageMaker domain for one data scientist, with a private JupyterLab that is stopped when it is idle.

    It has no EFS file system, which would remain when the stack is deleted. The files are on the volume of
    the space and are deleted with it. Stop a running JupyterLab before you delete the stack; otherwise the
    deletion fails.

    :param name: name of the domain, the user profile and the space; unique in the account and Region.
    :param network: the VPC for all traffic; `vpc_id` is required. Its private subnets need a route to
        SageMaker's API and runtime, S3, CloudWatch Logs and other services that the notebooks call.
    :param instance_type: instance type of the JupyterLab. Default: ml.t3.medium.
    :param idle_minutes: SageMaker stops the JupyterLab after this time without a busy kernel or an active
        terminal, 60 to 525600. The user may choose a shorter time. Default: 60.
    :param volume_gb: size of the space's volume in GB. Default: 10.
    :param key: encrypts the volume. Default: SageMaker's own key, which costs nothing.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        name: str,
        network: Network,
        instance_type: str = "ml.t3.medium",
        idle_minutes: int = SHORTEST_IDLE,
        volume_gb: int = 10,
        key: kms.IKey | None = None,
    ) -> None:
        super().__init__(scope, id)
        if not network.vpc_id:
            raise ValueError("a SageMaker domain needs the id of its VPC: vpc_id of the network is empty")
        if not SHORTEST_IDLE <= idle_minutes <= LONGEST_IDLE:
            raise ValueError(
                f"idle_minutes must be from {SHORTEST_IDLE} to {LONGEST_IDLE}, got {idle_minutes}"
            )
        self.name = name
        """The name of the domain, its user profile and its space."""
        self.role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("sagemaker.amazonaws.com"),
            description=f"The notebooks of the domain {name}",
        )
        """The role of the notebooks and of Studio. Grant it more permissions as needed."""
        allow_logs(self.role, "/aws/sagemaker/studio")
        self.domain = sagemaker.CfnDomain(
            self,
            "Domain",
            domain_name=name,
            auth_mode="IAM",
            vpc_id=network.vpc_id,
            subnet_ids=[subnet.subnet_id for subnet in network.subnets],
            app_network_access_type="VpcOnly",
            home_efs_file_system_creation="Disabled",
            kms_key_id=key.key_id if key else None,
            default_user_settings=self._user_settings(network, idle_minutes, volume_gb),
        )
        """The domain."""
        self.domain.apply_removal_policy(RemovalPolicy.DESTROY)
        self.profile = sagemaker.CfnUserProfile(
            self, "Profile", domain_id=self.domain.attr_domain_id, user_profile_name=name
        )
        """The data scientist's user profile."""
        self.space = sagemaker.CfnSpace(
            self,
            "Space",
            domain_id=self.domain.attr_domain_id,
            space_name=name,
            ownership_settings=sagemaker.CfnSpace.OwnershipSettingsProperty(owner_user_profile_name=name),
            space_sharing_settings=sagemaker.CfnSpace.SpaceSharingSettingsProperty(sharing_type="Private"),
            space_settings=sagemaker.CfnSpace.SpaceSettingsProperty(
                app_type="JupyterLab",
                remote_access="DISABLED",
                jupyter_lab_app_settings=sagemaker.CfnSpace.SpaceJupyterLabAppSettingsProperty(
                    default_resource_spec=sagemaker.CfnSpace.ResourceSpecProperty(instance_type=instance_type)
                ),
                space_storage_settings=sagemaker.CfnSpace.SpaceStorageSettingsProperty(
                    ebs_storage_settings=sagemaker.CfnSpace.EbsStorageSettingsProperty(
                        ebs_volume_size_in_gb=volume_gb
                    )
                ),
            ),
        )
        """The private space with JupyterLab and its volume."""
        self.space.add_resource_dependency(self.profile)
        self._allow_studio()
        if key:
            _allow_volume(self.role, key)

    def allow_experiments(self, prefix: str, roles: Sequence[SageMakerRole]) -> None:
        """Let the notebooks train and serve with these roles, read the logs of training jobs, and read the
        stack's outputs. Names of jobs, models and endpoints must begin with `prefix` and a hyphen."""
        allow_experiments(self.role, prefix, roles)

    def _user_settings(
        self, network: Network, idle_minutes: int, volume_gb: int
    ) -> sagemaker.CfnDomain.UserSettingsProperty:
        idle = sagemaker.CfnDomain.IdleSettingsProperty(
            lifecycle_management="ENABLED",
            idle_timeout_in_minutes=idle_minutes,
            min_idle_timeout_in_minutes=SHORTEST_IDLE,
            max_idle_timeout_in_minutes=idle_minutes,
        )
        return sagemaker.CfnDomain.UserSettingsProperty(
            execution_role=self.role.role_arn,
            security_groups=[group.security_group_id for group in network.security_groups],
            auto_mount_home_efs="Disabled",
            default_landing_uri="studio::",
            studio_web_portal="ENABLED",
            sharing_settings=sagemaker.CfnDomain.SharingSettingsProperty(notebook_output_option="Disabled"),
            jupyter_lab_app_settings=sagemaker.CfnDomain.JupyterLabAppSettingsProperty(
                app_lifecycle_management=sagemaker.CfnDomain.AppLifecycleManagementProperty(
                    idle_settings=idle
                )
            ),
            space_storage_settings=sagemaker.CfnDomain.DefaultSpaceStorageSettingsProperty(
                default_ebs_storage_settings=sagemaker.CfnDomain.DefaultEbsStorageSettingsProperty(
                    default_ebs_volume_size_in_gb=volume_gb, maximum_ebs_volume_size_in_gb=volume_gb
                )
            ),
        )

    def _allow_studio(self) -> None:
        """Let Studio show the space, and start and stop its JupyterLab, with the notebooks' role.

        For this space only, grants the actions in
        https://docs.aws.amazon.com/sagemaker/latest/dg/studio-updated-jl-admin-guide-permissions.html
        """
        stack, domain = Stack.of(self), self.domain.attr_domain_id

        def arn(kind: str, name: str) -> str:
            return stack.format_arn(service="sagemaker", resource=kind, resource_name=name)

        profile, space = arn("user-profile", f"{domain}/{self.name}"), arn("space", f"{domain}/{self.name}")
        app = arn("app", f"{domain}/{self.name}/JupyterLab/default")
        allow(
            self.role,
            *(f"sagemaker:List{kind}" for kind in ("Domains", "UserProfiles", "Spaces", "Apps")),
            on=["*"],
            because="IAM knows no resource for a list.",
        )
        allow(self.role, "sagemaker:DescribeDomain", on=[arn("domain", domain)])
        allow(self.role, "sagemaker:DescribeUserProfile", "sagemaker:CreatePresignedDomainUrl", on=[profile])
        allow(self.role, "sagemaker:DescribeSpace", "sagemaker:UpdateSpace", on=[space])
        allow(
            self.role,
            *(f"sagemaker:{action}" for action in ("CreateApp", "DescribeApp", "DeleteApp", "AddTags")),
            on=[app],
        )


def _allow_volume(role: iam.Role, key: kms.IKey) -> None:
    """Let `role` attach a volume that is encrypted with `key`. The permissions are from the Amazon EBS User
    Guide, "Requirements for Amazon EBS encryption"."""
    key.grant(role, "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext")
    iam.Grant.add_to_principal(
        grantee=role,
        actions=["kms:CreateGrant"],
        resource_arns=[key.key_arn],
        conditions={"Bool": {"kms:GrantIsForAWSResource": "true"}},
    )
