"""Parts of stacks that train a model and serve it if it is better than the one in service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from aws_cdk import CfnOutput, Duration, Stack, Tags
from aws_cdk import aws_ecr_assets as assets

from groundplan import (
    EXECUTION_SUFFIX,
    ArtifactBucket,
    CleanUp,
    Metric,
    ModelRegistry,
    Pager,
    SageMakerDomain,
    SageMakerNotebook,
    SageMakerRole,
    ServerlessEndpoint,
    TrainAndDeploy,
    TrainingJobs,
    log_group,
    physical_name,
)
from settings.models import ModelSettings
from stacks.shared import key_of, network_of, retention

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = "notebook"
"""The second part of the names of a notebook's jobs, models and endpoints, after the endpoint's name and a
hyphen; also the notebook's folder in the bucket."""


@dataclass(frozen=True)
class Experiments:
    """Roles that notebooks pass to SageMaker. Neither may write data that the workflow reads or deploys."""

    training: SageMakerRole
    serving: SageMakerRole


class ModelParts:
    """Bucket, registry, roles, alarms and clean-up, and the workflow that `train_and_deploy` adds."""

    def __init__(
        self,
        stack: Stack,
        settings: ModelSettings,
        *,
        architecture: str,
        env_name: str,
        model: str,
        vpc_id: str = "",
        audited: bool = False,
    ) -> None:
        """:param model: the model, for descriptions, such as "XGBoost trained from Snowflake"
        :param vpc_id: required by `domain`
        :param audited: whether the setting `retain` also retains the endpoint's log"""
        self.stack, self.settings = stack, settings
        self.tags = {"groundplan:architecture": architecture, "groundplan:environment": env_name}
        for name, value in self.tags.items():
            Tags.of(stack).add(name, value)
        self.endpoint_name = physical_name(stack, settings.endpoint_name)
        self.keep_logs = retention(settings.log_retention_days)
        self.network = network_of(stack, settings, vpc_id)
        self.key = key_of(stack, settings, f"models, credentials, messages and volumes of {architecture}")
        self.bucket = ArtifactBucket(stack, "Artifacts", key=self.key, retain=settings.retain)
        self.registry = ModelRegistry(
            stack,
            "Models",
            name=self.endpoint_name,
            description=f"{model}, {env_name}",
            retain=settings.retain,
        )
        self.training_role = SageMakerRole(
            stack, "Training", log_group="/aws/sagemaker/TrainingJobs", network=self.network
        )
        for folder in ("training", "checkpoints", "evaluation"):
            self.bucket.grant_read(self.training_role.role, folder)
            self.bucket.grant_write(self.training_role.role, folder)
        # SageMaker would create this log group without a retention period
        serving_logs = f"/aws/sagemaker/Endpoints/{self.endpoint_name}"
        self.serving_log = log_group(
            stack,
            "ServingLog",
            name=serving_logs,
            retention=self.keep_logs,
            key=self.key,
            retain=audited and settings.retain,
        )
        self.serving_role = SageMakerRole(stack, "Serving", log_group=serving_logs)
        self.bucket.grant_read(self.serving_role.role, "training")

    def train_and_deploy(
        self,
        *,
        image: assets.DockerImageAsset,
        metric: Metric,
        content_types: Sequence[str],
        hyperparameters: Mapping[str, str],
        inputs: Mapping[str, str] | None = None,
        fixed: Mapping[str, str] | None = None,
        logged: Sequence[str] = (),
        channels: Mapping[str, str] | None = None,
        isolated: bool = False,
        serving_image: assets.DockerImageAsset | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> TrainAndDeploy:
        """Add the workflow and its outputs.

        The parameters are passed to `TrainingJobs`, `ServerlessEndpoint` and `TrainAndDeploy`.
        """
        settings = self.settings
        self._images = image, serving_image or image
        self._grant_pull(self.training_role, self.serving_role)
        clean_up = CleanUp(
            self.stack,
            "CleanUp",
            endpoint_name=self.endpoint_name,
            suffixes=(EXECUTION_SUFFIX, f"{NOTEBOOK}-.+"),
            bucket=None if settings.retain else self.bucket,
            registry=None if settings.retain else self.registry,
            log_retention=self.keep_logs,
            key=self.key,
        )
        clean_up.node.add_dependency(self.serving_log)
        workflow = TrainAndDeploy(
            self.stack,
            "Workflow",
            training=TrainingJobs(
                image=image,
                role=self.training_role,
                inputs=inputs or {},
                hyperparameters=hyperparameters,
                fixed=fixed or {},
                logged=logged,
                channels=channels or {},
                isolated=isolated,
                hosts=settings.hosts,
                instance_type=settings.instance_type,
                volume_gb=settings.volume_gb,
                max_runtime=Duration.minutes(settings.max_runtime_minutes),
                network=self.network,
            ),
            endpoint=ServerlessEndpoint(
                name=self.endpoint_name,
                role=self.serving_role,
                content_types=content_types,
                image=serving_image,
                environment=environment or {},
                memory_mb=settings.serverless_memory_mb,
                concurrency=settings.serverless_concurrency,
                deployment=Duration.minutes(settings.deployment_minutes),
            ),
            metric=metric,
            bucket=self.bucket,
            registry=self.registry,
            log_retention=self.keep_logs,
            tags=self.tags,
        )
        # CloudFormation deletes in reverse order: first the workflow, then the endpoints that it created
        workflow.node.add_dependency(clean_up)
        self._outputs(
            StateMachineArn=workflow.state_machine.state_machine_arn,
            EndpointName=self.endpoint_name,
            ModelPackageGroupName=self.registry.name,
            BucketName=self.bucket.bucket.bucket_name,
            ExecutionRoleArn=self.training_role.role.role_arn,
            ServingRoleArn=self.serving_role.role.role_arn,
            ImageUri=image.image_uri,
        )
        return workflow

    def pager(self, workflow: TrainAndDeploy) -> Pager:
        """Add the alarm topic, and the alarms of the workflow and of the endpoint."""
        pager = Pager(self.stack, "Pager", email=self.settings.alarm_email or None, key=self.key)
        pager.page_when(
            "RunFailed",
            workflow.metric_not_succeeded(),
            description=f"{self.stack.stack_name}: an execution that trains and deploys failed or timed out."
            " The model in service stays in service. Read the error and the cause of the execution; when the"
            " cause is removed, start the state machine again.",
        )
        pager.page_when(
            "PredictionFailed",
            workflow.metric_server_errors(),
            description=f"{self.stack.stack_name}: the endpoint answered an invocation with a 5xx status."
            " Read the endpoint's log group. If the model is the cause, deploy the previous version: start"
            ' the state machine with {"version": N}.',
        )
        self._outputs(AlarmTopicArn=pager.topic.topic_arn)
        return pager

    def notebook(self, workflow: TrainAndDeploy) -> SageMakerNotebook:
        """Add a notebook instance with the packages of the project's notebooks."""
        notebook = SageMakerNotebook(
            self.stack,
            "Notebook",
            name=self.endpoint_name,
            instance_type=self.settings.notebook_instance_type,
            packages=_packages(ROOT / "notebooks" / "requirements.txt"),
            network=self.network,
            key=self.key,
        )
        self._allow_notebook(notebook, workflow)
        self._outputs(NotebookInstanceName=self.endpoint_name)
        return notebook

    def domain(self, workflow: TrainAndDeploy) -> SageMakerDomain:
        """Add a SageMaker domain with JupyterLab, an alternative to the notebook instance."""
        assert self.network  # noqa: S101 - the settings refuse a domain without subnets
        domain = SageMakerDomain(
            self.stack,
            "Domain",
            name=self.endpoint_name,
            instance_type=self.settings.notebook_instance_type,
            network=self.network,
            key=self.key,
        )
        self._allow_notebook(domain, workflow)
        self._outputs(DomainName=domain.name)
        return domain

    def _allow_notebook(
        self, notebook: SageMakerNotebook | SageMakerDomain, workflow: TrainAndDeploy
    ) -> None:
        roles = self.experiments
        notebook.allow_experiments(self._experiment, [roles.training, roles.serving])
        self.bucket.grant_read(notebook.role, "training")
        self.bucket.grant_read(notebook.role, NOTEBOOK)
        self.bucket.grant_write(notebook.role, NOTEBOOK)
        workflow.grant_start(notebook.role)
        workflow.grant_invoke_endpoint(notebook.role)
        self._outputs(
            ExperimentRoleArn=roles.training.role.role_arn,
            ExperimentServingRoleArn=roles.serving.role.role_arn,
        )

    @property
    def _experiment(self) -> str:
        """Prefix of the names of all resources that a notebook creates; a hyphen follows."""
        return f"{self.endpoint_name}-{NOTEBOOK}"

    @cached_property
    def experiments(self) -> Experiments:
        """The roles of a notebook's jobs and endpoints. Only stacks with a notebook have them."""
        training = SageMakerRole(
            self.stack, "ExperimentTraining", log_group="/aws/sagemaker/TrainingJobs", network=self.network
        )
        serving = SageMakerRole(
            self.stack, "ExperimentServing", log_group=f"/aws/sagemaker/Endpoints/{self._experiment}-*"
        )
        for role in (training, serving):
            self.bucket.grant_read(role.role, NOTEBOOK)
        self.bucket.grant_write(training.role, NOTEBOOK)
        self._grant_pull(training, serving)
        return Experiments(training, serving)

    def _grant_pull(self, training: SageMakerRole, serving: SageMakerRole) -> None:
        for image, role in zip(self._images, (training, serving), strict=True):
            image.repository.grant_pull(role.role)

    def _outputs(self, **values: str) -> None:
        for name, value in values.items():
            CfnOutput(self.stack, name, value=value)


def _packages(lock: Path) -> list[str]:
    """Return the requirements of a lock file, without its comments."""
    lines = (line.partition("#")[0].strip() for line in lock.read_text().splitlines())
    return [line for line in lines if line]
