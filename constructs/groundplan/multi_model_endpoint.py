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
    """Instances of an endpoint, and their auto scaling."""

    type: str
    """Instance type, such as `ml.g5.xlarge`."""
    min: int = 1
    """Minimum number of instances, at least 1. Default: 1."""
    max: int = 1
    """Maximum number of instances. Default: 1."""
    invocations: float = 20
    """Target of auto scaling: invocations per minute and instance. Default: 20."""
    startup_minutes: int = 15
    """Maximum time until a container answers its first `/ping`, including downloads. Default: 15 minutes."""
    cuda: str = ""
    """CUDA version of the image, such as `13.0`, which selects the GPU driver of the instances. Required for
    instance types with GPUs. Default: empty."""


class MultiModelEndpoint(Construct):
    """An endpoint for any number of models in one folder of a bucket.

    SageMaker loads a model on its first invocation and evicts the least recently used models. The number
    of instances is scaled with the number of invocations.

    :param name: the endpoint's name, unique in the account and Region.
    :param image: image of a container that implements SageMaker's multi-model contract; on GPU instances, it
        must contain Triton.
    :param bucket: the bucket with the models' archives.
    :param folder: folder of the archives, such as `adapters`; `TargetModel` of an invocation is a key below
        it. The endpoint may read no other folder.
    :param instances: instances and auto scaling.
    :param environment: the container's environment variables. Default: none.
    :param log_retention: retention of the log. Default: one month.
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
        # SageMaker would create this log group without a retention period
        log = log_group(
            self,
            "Log",
            name=f"/aws/sagemaker/Endpoints/{name}",
            retention=log_retention,
            key=bucket.key,
        )
        role = SageMakerRole(self, "Serving", log_group=f"/aws/sagemaker/Endpoints/{name}")
        self.role = role.role
        """The container's role, which may pull the image and read the folder. Grant it access to other
        objects that the container loads, such as a base model."""
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
        # CreateModel checks that the role may pull the image and read the folder
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
            # an update keeps the number of instances set by auto scaling
            retain_all_variant_properties=True,
            exclude_retained_variant_properties=[
                sagemaker.CfnEndpoint.VariantPropertyProperty(variant_property_type="DataCaptureConfig")
            ],
        )
        """The endpoint."""
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
                # Remove instances slowly: a GPU instance takes minutes to start, which are charged
                scale_out_cooldown=60,
                scale_in_cooldown=600,
            ),
        )
        policy.node.add_dependency(target)

    def grant_invoke(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let `grantee` invoke every model of the endpoint. The caller must check which user owns a model."""
        return allow(grantee, "sagemaker:InvokeEndpoint", on=[self.arn])

    def metric(
        self, name: str, *, statistic: str = "Sum", period: Duration | None = None
    ) -> cloudwatch.Metric:
        """Return one of the endpoint's CloudWatch metrics, such as `Invocations` or `ModelCacheHit`, over
        `period`, five minutes by default."""
        return cloudwatch.Metric(
            namespace="AWS/SageMaker",
            metric_name=name,
            statistic=statistic,
            period=period or Duration.minutes(5),
            dimensions_map={"EndpointName": self.name, "VariantName": VARIANT},
        )

    def metric_server_errors(self) -> cloudwatch.Metric:
        """Return the number of invocations that the container answered with 5xx."""
        return self.metric("Invocation5XXErrors")

    def metric_latency(self) -> cloudwatch.Metric:
        """Return the 99th percentile of the container's latency, in microseconds."""
        return self.metric("ModelLatency", statistic="p99")

    def metric_cache_hits(self) -> cloudwatch.Metric:
        """Return the share of invocations whose model was already loaded."""
        return self.metric("ModelCacheHit", statistic="Average")


def _in_batches() -> sagemaker.CfnEndpoint.DeploymentConfigProperty:
    """Return a rolling update that replaces half of the instances at a time.

    During an update there are 1.5 times as many instances, instead of twice as many. SageMaker accepts
    batches of 5 % to 50 % of a variant, so a single instance cannot be updated this way.
    """
    half = sagemaker.CfnEndpoint.CapacitySizeProperty(type="CAPACITY_PERCENT", value=50)
    return sagemaker.CfnEndpoint.DeploymentConfigProperty(
        rolling_update_policy=sagemaker.CfnEndpoint.RollingUpdatePolicyProperty(
            maximum_batch_size=half, rollback_maximum_batch_size=half, wait_interval_in_seconds=0
        )
    )
