from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aws_cdk import Aws, Duration, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from groundplan.artifact_bucket import ArtifactBucket
from groundplan.image import ContainerImage
from groundplan.model_registry import ModelRegistry
from groundplan.network import Network
from groundplan.permissions import allow
from groundplan.python_function import PythonFunction
from groundplan.sagemaker_role import SageMakerRole

JOBS = "pipelines-*"
"""What the names of a pipeline's jobs begin with; SageMaker makes them."""


class ModelPipeline(Construct):
    """A SageMaker pipeline of training, processing, registration and functions, with a role of its own.

    :param name: the pipeline's name.
    :param definition: the file that the SageMaker Python SDK rendered, with `${NAME}` for what is filled in.
    :param values: by NAME, besides `AWS::Partition`, `AWS::AccountId` and `AWS::Region`.
    :param roles: those of its jobs.
    :param images: those of its jobs and of the models that it registers.
    :param bucket: has the folders that it reads for itself: models, and evaluations that conditions look at.
    :param folders: these folders.
    :param registry: takes its models.
    :param functions: those that it invokes.
    :param network: the VPC that its jobs join. Default: none.
    :param volume_key: encrypts the volumes of its jobs. Default: SageMaker's own key.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        name: str,
        definition: Path,
        values: Mapping[str, str],
        roles: Sequence[SageMakerRole],
        images: Sequence[ContainerImage],
        bucket: ArtifactBucket,
        folders: Sequence[str],
        registry: ModelRegistry,
        functions: Sequence[PythonFunction],
        network: Network | None = None,
        volume_key: kms.IKey | None = None,
    ) -> None:
        super().__init__(scope, id)
        self.name = name
        """The pipeline's name."""
        self.arn = Stack.of(self).format_arn(service="sagemaker", resource="pipeline", resource_name=name)
        """The pipeline's ARN."""
        self._role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal(
                "sagemaker.amazonaws.com", conditions={"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}}
            ),
            description=f"Runs the pipeline {name}",
        )
        self._allow(registry, images, functions)
        for role in roles:
            role.grant_pass(self._role)
        for folder in folders:
            bucket.grant_read(self._role, folder)
        described = _placed(json.loads(definition.read_text()), network, volume_key)
        if volume_key:
            # A job's volume is encrypted by a grant on the key, given by who starts the job
            allow(
                self._role,
                "kms:CreateGrant",
                on=[volume_key.key_arn],
                only_if={"Bool": {"kms:GrantIsForAWSResource": "true"}},
            )
        self.pipeline = sagemaker.CfnPipeline(
            self,
            "Pipeline",
            pipeline_name=name,
            role_arn=self._role.role_arn,
            pipeline_definition={"PipelineDefinitionBody": _filled(json.dumps(described), values)},
        )
        """The pipeline itself."""
        self.pipeline.node.add_dependency(self._role)

    def grant_start(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let `grantee` start executions, and look at them."""
        allow(
            grantee,
            "sagemaker:DescribePipelineExecution",
            "sagemaker:ListPipelineParametersForExecution",
            on=[f"{self.arn}/execution/*"],
            because="SageMaker names the executions.",
        )
        return allow(
            grantee, "sagemaker:StartPipelineExecution", "sagemaker:ListPipelineExecutions", on=[self.arn]
        )

    def metric_failed(self, period: Duration | None = None) -> cloudwatch.Metric:
        """Executions that failed."""
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
            allow(self._role, *actions, on=[job], because=because)
        allow(
            self._role,
            "sagemaker:AddTags",
            on=[training, processing, registry.package_arns],
            because=because,
        )
        allow(
            self._role,
            "sagemaker:CreateModelPackage",
            "sagemaker:DescribeModelPackage",
            on=[registry.group_arn, registry.package_arns],
            because="SageMaker numbers the packages of a group.",
        )
        repositories = sorted({image.repository.repository_arn for image in images})
        allow(self._role, "ecr:BatchGetImage", "ecr:DescribeImages", on=repositories)
        for function in functions:
            allow(self._role, "lambda:InvokeFunction", on=[function.function.function_arn])


def _placed(
    definition: dict[str, Any], network: Network | None, volume_key: kms.IKey | None
) -> dict[str, Any]:
    """Return a definition whose jobs join a VPC and encrypt their volumes."""
    for step in definition["Steps"]:
        arguments = step.get("Arguments", {})
        if step["Type"] == "Training":
            cluster = arguments["ResourceConfig"]
            if network:
                arguments["VpcConfig"] = network.vpc_config
        elif step["Type"] == "Processing":
            cluster = arguments["ProcessingResources"]["ClusterConfig"]
            if network:
                arguments.setdefault("NetworkConfig", {})["VpcConfig"] = network.vpc_config
        else:
            continue
        if volume_key:
            cluster["VolumeKmsKeyId"] = volume_key.key_arn
    return definition


def _filled(text: str, values: Mapping[str, str]) -> str:
    """Return a text with `${NAME}` replaced. Raises `ValueError` where a name has no value."""
    own = {"AWS::Partition": Aws.PARTITION, "AWS::AccountId": Aws.ACCOUNT_ID, "AWS::Region": Aws.REGION}
    named = set(re.findall(r"\$\{([\w:]+)\}", text))
    if unknown := sorted(named - own.keys() - values.keys()):
        raise ValueError(f"the definition has {', '.join(unknown)}, for which there are no values")
    for name in sorted(named):
        value = json.dumps((own | dict(values))[name])  # the definition is JSON: a value may have quotes
        text = text.replace(f"${{{name}}}", value[1:-1])
    return text
