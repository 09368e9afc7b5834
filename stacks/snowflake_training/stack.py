"""Train XGBoost straight from Snowflake on several instances, and serve the better model."""

from __future__ import annotations

from pathlib import Path

from aws_cdk import CfnOutput, Duration, Stack, Tags
from aws_cdk import aws_ecr_assets as assets
from aws_cdk import aws_kms as kms
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from groundplan import (
    EXECUTION_SUFFIX,
    ArtifactBucket,
    CleanUp,
    EmptySecret,
    Metric,
    ModelRegistry,
    Network,
    Pager,
    SageMakerNotebook,
    SageMakerRole,
    ServerlessEndpoint,
    TrainAndDeploy,
    TrainingJobs,
    log_group,
    physical_name,
)
from settings.snowflake_training import SnowflakeTraining
from stacks.shared import CONTAINERS, docker_image, key_of, network_of, retention

ROOT = Path(__file__).resolve().parents[2]
NAME = "snowflake_training"
NOTEBOOK = "notebook"
"""Appended to the endpoint's name in the names of what a notebook creates; also its folder in the bucket."""
CONTAINER = CONTAINERS / NAME / "train_and_serve"


class SnowflakeTrainingStack(Stack):
    def __init__(self, scope: Construct, id: str, *, env_name: str, settings: SnowflakeTraining) -> None:
        super().__init__(
            scope,
            id,
            description="Groundplan: XGBoost trained straight from Snowflake, served when it is better",
        )
        tags = {"groundplan:architecture": NAME, "groundplan:environment": env_name}
        for key, value in tags.items():
            Tags.of(self).add(key, value)
        endpoint_name = physical_name(self, settings.endpoint_name)
        keep_logs = retention(settings.log_retention_days)
        network = network_of(self, settings)
        key = key_of(self, settings, "models, credentials, messages and volumes of snowflake_training")

        bucket = ArtifactBucket(self, "Artifacts", key=key, retain=settings.retain)
        registry = ModelRegistry(
            self,
            "Models",
            name=endpoint_name,
            description=f"XGBoost trained from Snowflake, {env_name}",
            retain=settings.retain,
        )
        secret = _secret(self, settings, key)
        image = docker_image(self, "Image", CONTAINER)

        training_role = SageMakerRole(
            self, "Training", log_group="/aws/sagemaker/TrainingJobs", network=network
        )
        secret.grant_read(training_role.role)
        image.repository.grant_pull(training_role.role)
        for folder in ("training", "checkpoints", "evaluation", NOTEBOOK):
            bucket.grant_read(training_role.role, folder)
            bucket.grant_write(training_role.role, folder)

        # SageMaker would make this group itself, to be kept for ever
        serving_logs = f"/aws/sagemaker/Endpoints/{endpoint_name}"
        serving_log = log_group(self, "ServingLog", name=serving_logs, retention=keep_logs, key=key)
        serving_role = SageMakerRole(self, "Serving", log_group=serving_logs)
        image.repository.grant_pull(serving_role.role)
        for folder in ("training", NOTEBOOK):
            bucket.grant_read(serving_role.role, folder)

        clean_up = CleanUp(
            self,
            "CleanUp",
            endpoint_name=endpoint_name,
            suffixes=(EXECUTION_SUFFIX, f"{NOTEBOOK}-.+"),
            bucket=None if settings.retain else bucket,
            registry=None if settings.retain else registry,
            log_retention=keep_logs,
            key=key,
        )
        clean_up.node.add_dependency(serving_log)

        workflow = TrainAndDeploy(
            self,
            "Workflow",
            training=_training(settings, image, training_role, network),
            endpoint=ServerlessEndpoint(
                name=endpoint_name,
                role=serving_role,
                content_types=("text/csv", "application/json"),
                memory_mb=settings.serverless_memory_mb,
                concurrency=settings.serverless_concurrency,
                deployment=Duration.minutes(settings.deployment_minutes),
            ),
            metric=Metric(name="rmse", minimum_improvement=settings.minimum_improvement),
            bucket=bucket,
            registry=registry,
            log_retention=keep_logs,
            tags=tags,
        )
        # Deleted in the other order: first nothing makes endpoints any more, then they are cleaned up
        workflow.node.add_dependency(clean_up)

        pager = Pager(self, "Pager", email=settings.alarm_email or None, key=key)
        pager.page_when(
            "RunFailed",
            workflow.metric_not_succeeded(),
            description=f"{self.stack_name}: training or deployment failed",
        )
        pager.page_when(
            "PredictionFailed",
            workflow.metric_server_errors(),
            description=f"{self.stack_name}: the model in service fails",
        )

        if settings.notebook:
            notebook = _notebook(self, settings, endpoint_name, network, key)
            notebook.allow_experiments(f"{endpoint_name}-{NOTEBOOK}", [training_role, serving_role])
            secret.grant_read(notebook.role)
            bucket.grant_read(notebook.role, "training")
            bucket.grant_read(notebook.role, NOTEBOOK)
            bucket.grant_write(notebook.role, NOTEBOOK)
            workflow.grant_start(notebook.role)
            workflow.grant_invoke_endpoint(notebook.role)
            CfnOutput(self, "NotebookInstanceName", value=endpoint_name)

        for name, value in {
            "StateMachineArn": workflow.state_machine.state_machine_arn,
            "EndpointName": endpoint_name,
            "ModelPackageGroupName": registry.name,
            "SecretArn": secret.secret_arn,
            "BucketName": bucket.bucket.bucket_name,
            "ExecutionRoleArn": training_role.role.role_arn,
            "ServingRoleArn": serving_role.role.role_arn,
            "ImageUri": image.image_uri,
            "AlarmTopicArn": pager.topic.topic_arn,
        }.items():
            CfnOutput(self, name, value=value)


def _secret(scope: Construct, settings: SnowflakeTraining, key: kms.IKey | None) -> secretsmanager.ISecret:
    """Return the secret with the Snowflake credentials: an existing one, or a new empty one."""
    if not settings.create_secret:
        return secretsmanager.Secret.from_secret_name_v2(scope, "Credentials", settings.secret_name)
    return EmptySecret(
        scope,
        "Credentials",
        name=settings.secret_name,
        description="Snowflake connection as JSON: account, user, private_key (PEM) or password,"
        " warehouse, database, schema, and optionally role, host, port",
        key=key,
        retain=settings.retain,
    ).secret


def _training(
    settings: SnowflakeTraining,
    image: assets.DockerImageAsset,
    role: SageMakerRole,
    network: Network | None,
) -> TrainingJobs:
    """Return the settings of the workflow's training jobs."""
    return TrainingJobs(
        image=image,
        role=role,
        inputs={"table": settings.table, "target": settings.target},
        hyperparameters=settings.hyperparameters.as_texts(),
        fixed={"secret": settings.secret_name},
        logged=("rows:pulled", "rows:blank"),
        hosts=settings.hosts,
        instance_type=settings.instance_type,
        volume_gb=settings.volume_gb,
        max_runtime=Duration.minutes(settings.max_runtime_minutes),
        network=network,
    )


def _notebook(
    scope: Construct, settings: SnowflakeTraining, name: str, network: Network | None, key: kms.IKey | None
) -> SageMakerNotebook:
    """Create a notebook instance with the packages that the project's notebooks need."""
    return SageMakerNotebook(
        scope,
        "Notebook",
        name=name,
        instance_type=settings.notebook_instance_type,
        packages=_packages(ROOT / "notebooks" / "requirements.txt"),
        network=network,
        key=key,
    )


def _packages(lock: Path) -> list[str]:
    """The requirements of a lock file, without its comments."""
    lines = (line.partition("#")[0].strip() for line in lock.read_text().splitlines())
    return [line for line in lines if line]
