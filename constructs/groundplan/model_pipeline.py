from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aws_cdk import Aws, Duration, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from groundplan.image import ContainerImage
from groundplan.model_registry import ModelRegistry
from groundplan.network import Network
from groundplan.permissions import allow
from groundplan.python_function import PythonFunction
from groundplan.sagemaker_role import SageMakerRole

JOBS = "pipelines-*"
"""Pattern of the names of pipeline jobs, which SageMaker chooses."""


@dataclass(frozen=True, kw_only=True)
class PipelineJobs:
    """Roles, images, network and volume key of a pipeline's jobs."""

    roles: Sequence[SageMakerRole]
    """Roles that the definition names, for jobs and models. The pipeline may pass them to SageMaker."""
    images: Sequence[ContainerImage]
    """Images of the jobs and of the registered models. The pipeline may read their repositories."""
    network: Network | None = None
    """VPC of the training and processing jobs. Default: none."""
    volume_key: kms.IKey | None = None
    """Encrypts the volumes of the jobs' instances. SageMaker rejects it for instances with local disks.
    Default: SageMaker's own key."""


class ModelPipeline(Construct):
    """A SageMaker pipeline of training, processing, registration and Lambda steps, with its role.

    :param name: the pipeline's name, unique in the account and Region.
    :param definition: JSON file that the SageMaker Python SDK rendered, with placeholders `${NAME}`.
    :param values: values of the placeholders by NAME. `AWS::Partition`, `AWS::AccountId` and `AWS::Region`
        need no value.
    :param jobs: roles, images, network and volume key of the pipeline's jobs.
    :param registry: the registry in which the pipeline registers models.
    :param functions: the functions that the pipeline's Lambda steps invoke; may be empty.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        name: str,
        definition: Path,
        values: Mapping[str, str],
        jobs: PipelineJobs,
        registry: ModelRegistry,
        functions: Sequence[PythonFunction],
    ) -> None:
        super().__init__(scope, id)
        self.name = name
        """The pipeline's name."""
        self.arn = Stack.of(self).format_arn(service="sagemaker", resource="pipeline", resource_name=name)
        """The pipeline's ARN."""
        self.role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal(
                "sagemaker.amazonaws.com", conditions={"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}}
            ),
            description=f"Runs the pipeline {name}",
        )
        """The pipeline's role. If a condition reads an evaluation, grant it the file's folder."""
        self._allow(registry, jobs.images, functions)
        for role in jobs.roles:
            role.grant_pass(self.role)
        described = _placed(json.loads(definition.read_text()), jobs)
        if jobs.volume_key:
            # To encrypt a job's volume, SageMaker creates a KMS grant with the role that creates the job
            allow(
                self.role,
                "kms:CreateGrant",
                on=[jobs.volume_key.key_arn],
                only_if={"Bool": {"kms:GrantIsForAWSResource": "true"}},
            )
        self.pipeline = sagemaker.CfnPipeline(
            self,
            "Pipeline",
            pipeline_name=name,
            role_arn=self.role.role_arn,
            pipeline_definition={"PipelineDefinitionBody": _filled(json.dumps(described), values)},
        )
        """The pipeline."""
        self.pipeline.node.add_dependency(self.role)

    def grant_read(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let `grantee` list and read executions of the pipeline."""
        allow(
            grantee,
            "sagemaker:DescribePipelineExecution",
            "sagemaker:ListPipelineParametersForExecution",
            on=[f"{self.arn}/execution/*"],
            because="SageMaker names the executions.",
        )
        return allow(grantee, "sagemaker:ListPipelineExecutions", on=[self.arn])

    def grant_start(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let `grantee` start and read executions."""
        self.grant_read(grantee)
        return allow(grantee, "sagemaker:StartPipelineExecution", on=[self.arn])

    def metric_failed(self, period: Duration | None = None) -> cloudwatch.Metric:
        """Return the number of executions that failed in `period`, five minutes by default."""
        return cloudwatch.Metric(
            namespace="AWS/Sagemaker/ModelBuildingPipeline",
            metric_name="ExecutionFailed",
            dimensions_map={"PipelineName": self.name},
            statistic="Sum",
            period=period or Duration.minutes(5),
        )

    def _allow(
        self,
        registry: ModelRegistry,
        images: Sequence[ContainerImage],
        functions: Sequence[PythonFunction],
    ) -> None:
        stack = Stack.of(self)
        training, processing = (
            stack.format_arn(service="sagemaker", resource=kind, resource_name=JOBS)
            for kind in ("training-job", "processing-job")
        )
        because = "SageMaker names the jobs of a pipeline after its executions."
        for job, kind in ((training, "TrainingJob"), (processing, "ProcessingJob")):
            actions = (f"sagemaker:{verb}{kind}" for verb in ("Create", "Describe", "Stop"))
            allow(self.role, *actions, on=[job], because=because)
        allow(
            self.role,
            "sagemaker:AddTags",
            on=[training, processing, registry.package_arns],
            because=because,
        )
        allow(
            self.role,
            "sagemaker:CreateModelPackage",
            "sagemaker:DescribeModelPackage",
            on=[registry.group_arn, registry.package_arns],
            because="SageMaker numbers the packages of a group.",
        )
        repositories = sorted({image.repository.repository_arn for image in images})
        allow(self.role, "ecr:BatchGetImage", "ecr:DescribeImages", on=repositories)
        for function in functions:
            allow(self.role, "lambda:InvokeFunction", on=[function.function.function_arn])


def _placed(definition: dict[str, Any], jobs: PipelineJobs) -> dict[str, Any]:
    """Return the definition with the VPC and the volume key of `jobs` in the steps that start jobs."""
    for step in definition["Steps"]:
        arguments = step.get("Arguments", {})
        if step["Type"] == "Training":
            cluster = arguments["ResourceConfig"]
            if jobs.network:
                arguments["VpcConfig"] = jobs.network.vpc_config
        elif step["Type"] == "Processing":
            cluster = arguments["ProcessingResources"]["ClusterConfig"]
            if jobs.network:
                arguments.setdefault("NetworkConfig", {})["VpcConfig"] = jobs.network.vpc_config
        else:
            continue
        if jobs.volume_key:
            cluster["VolumeKmsKeyId"] = jobs.volume_key.key_arn
    return definition


def _filled(text: str, values: Mapping[str, str]) -> str:
    """Return the text with its `${NAME}` replaced by values. Raises `ValueError` if a name has no value."""
    own = {"AWS::Partition": Aws.PARTITION, "AWS::AccountId": Aws.ACCOUNT_ID, "AWS::Region": Aws.REGION}
    named = set(re.findall(r"\$\{([\w:]+)\}", text))
    if unknown := sorted(named - own.keys() - values.keys()):
        raise ValueError(f"the definition has placeholders without values: {', '.join(unknown)}")
    for name in sorted(named):
        value = json.dumps((own | dict(values))[name])  # escaped, as the definition is JSON
        text = text.replace(f"${{{name}}}", value[1:-1])
    return text
