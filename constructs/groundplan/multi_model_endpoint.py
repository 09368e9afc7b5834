from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aws_cdk import Duration, Stack
from aws_cdk import aws_applicationautoscaling as autoscaling
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from groundplan.artifact_bucket import ArtifactBucket
from groundplan.image import ContainerImage
from groundplan.instance_types import inference_ami
from groundplan.log_group import log_group
from groundplan.permissions import allow
from groundplan.sagemaker_role import SageMakerRole

VARIANT = "AllTraffic"


@dataclass(frozen=True, kw_only=True)
class Instances:
    """The machines of an endpoint, and when there are more of them."""

    type: str
    min: int = 1
    max: int = 1
    invocations: float = 20
    """Invocations a minute that one instance should get."""
    startup_minutes: int = 15
    """How long a container may take to answer its first ping: it fetches the base first."""
    cuda: str = ""
    """The image's CUDA version, such as `13.0`: GPU hosts get a driver for it. Needed for GPU types only."""


class MultiModelEndpoint(Construct):
    """An endpoint for any number of models, each fetched from one folder when it is asked for.

    SageMaker loads a model on its first invocation and evicts the least used. The number of instances follows
    the invocations, within bounds.

    :param name: the endpoint's name, unique in the account and Region.
    :param image: a container that speaks SageMaker's multi-model protocol.
    :param bucket: where the models are.
    :param folder: the folder in it, such as `adapters`; the only one that the endpoint may read.
    :param instances: the machines. GPU instances want Triton inside the image.
    :param environment: the container's variables. Default: none.
    :param log_retention: how long its log is kept. Default: one month.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        name: str,
        image: ContainerImage,
        bucket: ArtifactBucket,
        folder: str,
        instances: Instances,
        environment: Mapping[str, str] | None = None,
        log_retention: logs.RetentionDays = logs.RetentionDays.ONE_MONTH,
    ) -> None:
        super().__init__(scope, id)
        self.name = name
        """The endpoint's name."""
        self.arn = Stack.of(self).format_arn(service="sagemaker", resource="endpoint", resource_name=name)
        """The endpoint's ARN."""
        # SageMaker would make this group itself, to be kept for ever
        log = log_group(
            self,
            "Log",
            name=f"/aws/sagemaker/Endpoints/{name}",
            retention=log_retention,
            key=bucket.key,
        )
        role = SageMakerRole(self, "Serving", log_group=f"/aws/sagemaker/Endpoints/{name}")
        self.role = role.role
        """The container's role: it pulls the image and reads the folder."""
        image.repository.grant_pull(self.role)
        bucket.grant_read(self.role, folder)
        model = sagemaker.CfnModel(
            self,
            "Model",
            execution_role_arn=self.role.role_arn,
            primary_container=sagemaker.CfnModel.ContainerDefinitionProperty(
                image=image.image_uri,
                mode="MultiModel",
                model_data_url=f"{bucket.url(folder)}/",
                multi_model_config=sagemaker.CfnModel.MultiModelConfigProperty(model_cache_setting="Enabled"),
                environment=dict(environment or {}),
            ),
        )
        # Creating a model asks whether the role may pull the image and read the folder
        model.node.add_dependency(role)
        config = sagemaker.CfnEndpointConfig(
            self,
            "Config",
            production_variants=[
                sagemaker.CfnEndpointConfig.ProductionVariantProperty(
                    variant_name=VARIANT,
                    model_name=model.attr_model_name,
                    instance_type=instances.type,
                    initial_instance_count=instances.min,
                    initial_variant_weight=1,
                    inference_ami_version=inference_ami(instances.type, instances.cuda),
                    container_startup_health_check_timeout_in_seconds=instances.startup_minutes * 60,
                )
            ],
        )
        self.endpoint = sagemaker.CfnEndpoint(
            self,
            "Endpoint",
            endpoint_name=name,
            endpoint_config_name=config.attr_endpoint_config_name,
            deployment_config=_in_batches() if instances.min > 1 else None,
            # As many instances as scaling has made of them, not as many as at first
            retain_all_variant_properties=True,
            exclude_retained_variant_properties=[
                sagemaker.CfnEndpoint.VariantPropertyProperty(variant_property_type="DataCaptureConfig")
            ],
        )
        """The endpoint itself."""
        self.endpoint.node.add_dependency(log)
        target = autoscaling.CfnScalableTarget(
            self,
            "Scaling",
            service_namespace="sagemaker",
            scalable_dimension="sagemaker:variant:DesiredInstanceCount",
            resource_id=f"endpoint/{name}/variant/{VARIANT}",
            min_capacity=instances.min,
            max_capacity=instances.max,
        )
        target.node.add_dependency(self.endpoint)
        policy = autoscaling.CfnScalingPolicy(
            self,
            "ScalingPolicy",
            policy_name=f"{name}-invocations",
            policy_type="TargetTrackingScaling",
            scaling_target_id=target.ref,
            target_tracking_scaling_policy_configuration=autoscaling.CfnScalingPolicy.TargetTrackingScalingPolicyConfigurationProperty(
                target_value=instances.invocations,
                predefined_metric_specification=autoscaling.CfnScalingPolicy.PredefinedMetricSpecificationProperty(
                    predefined_metric_type="SageMakerVariantInvocationsPerInstance"
                ),
                # A GPU takes minutes to come and is paid for meanwhile
                scale_out_cooldown=60,
                scale_in_cooldown=600,
            ),
        )
        policy.node.add_dependency(target)

    def grant_invoke(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let `grantee` ask any model of the endpoint. Which model is whose is the caller's to know."""
        return allow(grantee, "sagemaker:InvokeEndpoint", on=[self.arn])

    def metric(
        self, name: str, *, statistic: str = "Sum", period: Duration | None = None
    ) -> cloudwatch.Metric:
        """One of the endpoint's metrics, such as `Invocations` or `ModelCacheHit`."""
        return cloudwatch.Metric(
            namespace="AWS/SageMaker",
            metric_name=name,
            statistic=statistic,
            period=period or Duration.minutes(5),
            dimensions_map={"EndpointName": self.name, "VariantName": VARIANT},
        )

    def metric_server_errors(self) -> cloudwatch.Metric:
        """Invocations that the container answered with 5xx."""
        return self.metric("Invocation5XXErrors")

    def metric_latency(self) -> cloudwatch.Metric:
        """How long the slowest hundredth of invocations took in the container, in microseconds."""
        return self.metric("ModelLatency", statistic="p99")

    def metric_cache_hits(self) -> cloudwatch.Metric:
        """The share of invocations whose model was there already."""
        return self.metric("ModelCacheHit", statistic="Average")


def _in_batches() -> sagemaker.CfnEndpoint.DeploymentConfigProperty:
    """Replace half of the instances at a time: 1.5 times as many for the while of an update, not twice.

    SageMaker takes batches of 5 % to 50 % of a variant, so it cannot split a single instance.
    """
    half = sagemaker.CfnEndpoint.CapacitySizeProperty(type="CAPACITY_PERCENT", value=50)
    return sagemaker.CfnEndpoint.DeploymentConfigProperty(
        rolling_update_policy=sagemaker.CfnEndpoint.RollingUpdatePolicyProperty(
            maximum_batch_size=half, rollback_maximum_batch_size=half, wait_interval_in_seconds=0
        )
    )
