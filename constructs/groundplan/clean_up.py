from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from aws_cdk import CustomResource, Duration, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from constructs import Construct

from groundplan.artifact_bucket import ArtifactBucket
from groundplan.lambdas import function_of
from groundplan.log_group import log_group, log_group_arn
from groundplan.model_registry import ModelRegistry
from groundplan.permissions import allow
from groundplan.workflow import EXECUTION_SUFFIX

JobKind = Literal["HyperParameterTuningJob", "ProcessingJob"]
JOBS: Mapping[JobKind, tuple[str, str]] = {
    "HyperParameterTuningJob": ("hyper-parameter-tuning-job", "TrainingJobs"),
    "ProcessingJob": ("processing-job", "ProcessingJobs"),
}
"""Resource type and log group of the kinds of jobs other than training jobs."""


class CleanUp(Construct):
    """Deletes the SageMaker resources that a workflow created, when the stack is deleted.

    The endpoint, the models and the jobs that `TrainAndDeploy` creates are not CloudFormation resources.
    Without this construct they stay when the stack is deleted, and the endpoint continues to serve. Make the
    workflow depend on this construct, so that the workflow is deleted first and creates nothing more.

    :param endpoint_name: name of the endpoint. The names of its configurations and models, and of training
        jobs and further endpoints, begin with this name and a hyphen.
    :param suffixes: regular expressions for what follows the hyphen in these names. Resources whose names
        match none of them are not deleted. Default: the names that `TrainAndDeploy` creates.
    :param other_jobs: prefixes of the names of tuning jobs (and of the training jobs that they start) and of
        processing jobs, by kind: `{"ProcessingJob": "houses-check"}`. A hyphen and an execution's hash follow
        each prefix. Default: none.
    :param bucket: the bucket to empty. Default: none, no bucket is emptied.
    :param registry: the registry to empty. Default: none, no model packages are deleted.
    :param log_retention: retention of the log of the construct's function. Default: one month.
    :param key: encrypts the log. Default: CloudWatch Logs' own encryption.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        endpoint_name: str,
        suffixes: Sequence[str] = (EXECUTION_SUFFIX,),
        other_jobs: Mapping[JobKind, str] | None = None,
        bucket: ArtifactBucket | None = None,
        registry: ModelRegistry | None = None,
        log_retention: logs.RetentionDays = logs.RetentionDays.ONE_MONTH,
        key: kms.IKey | None = None,
    ) -> None:
        super().__init__(scope, id)
        log = log_group(self, "Log", retention=log_retention, key=key)
        role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        self._allow(role, endpoint_name, bucket, registry)
        for kind, name in (other_jobs or {}).items():
            self._allow_other_jobs(role, kind, name)
        log.grant_write(role)
        timeout = Duration.minutes(15)
        self.function = function_of(
            self,
            "clean_up",
            role=role,
            log=log,
            timeout=timeout,
            description=f"Deletes what the workflow of {endpoint_name} left behind, with its stack",
        )
        """The function that deletes the resources: the handler of the custom resource."""
        resource = CustomResource(
            self,
            "Resource",
            resource_type="Custom::SageMakerCleanUp",
            service_token=self.function.function_arn,
            service_timeout=timeout,
            properties={
                "EndpointName": endpoint_name,
                "Suffixes": list(suffixes),
                **({"OtherJobs": dict(other_jobs)} if other_jobs else {}),
                "BucketName": bucket.bucket.bucket_name if bucket else "",
                "ModelPackageGroupName": registry.name if registry else "",
            },
        )
        for container in (bucket, registry):  # deleted after the clean-up has emptied them
            if container:
                resource.node.add_dependency(container)

    def _allow(
        self, role: iam.Role, name: str, bucket: ArtifactBucket | None, registry: ModelRegistry | None
    ) -> None:
        arn = self._arn
        job_logs = log_group_arn(self, "/aws/sagemaker/TrainingJobs")
        own = "The workflow's executions name what they create after themselves."
        lists = "IAM knows no resource for a list; the handler deletes only what has the workflow's names."
        allow(role, "sagemaker:StopTrainingJob", on=[arn("training-job", f"{name}-*")], because=own)
        allow(
            role,
            "sagemaker:DescribeEndpoint",
            "sagemaker:DeleteEndpoint",
            on=[arn("endpoint", name), arn("endpoint", f"{name}-*")],
            because=own,
        )
        allow(role, "sagemaker:DeleteEndpointConfig", on=[arn("endpoint-config", f"{name}-*")], because=own)
        allow(role, "sagemaker:DeleteModel", on=[arn("model", f"{name}-*")], because=own)
        allow(role, "logs:DescribeLogStreams", on=[job_logs, f"{job_logs}:log-stream:"])
        allow(role, "logs:DeleteLogStream", on=[f"{job_logs}:log-stream:{name}-*"], because=own)
        endpoint_logs = log_group_arn(self, f"/aws/sagemaker/Endpoints/{name}-*")
        allow(role, "logs:DeleteLogGroup", on=[endpoint_logs, f"{endpoint_logs}:*"], because=own)
        allow(
            role,
            "logs:DescribeLogGroups",
            "sagemaker:ListTrainingJobs",
            "sagemaker:ListEndpoints",
            "sagemaker:ListEndpointConfigs",
            "sagemaker:ListModels",
            "sagemaker:ListModelPackages",
            on=["*"],
            because=lists,
        )
        if bucket:
            allow(role, "s3:ListBucket", "s3:ListBucketVersions", on=[bucket.bucket.bucket_arn])
            allow(
                role,
                "s3:DeleteObject",
                "s3:DeleteObjectVersion",
                on=[bucket.bucket.arn_for_objects("*")],
                because="A bucket is deleted whole.",
            )
        if registry:
            allow(
                role,
                "sagemaker:DeleteModelPackage",
                on=[registry.package_arns],
                because="A group of packages is deleted whole.",
            )

    def _allow_other_jobs(self, role: iam.Role, kind: JobKind, name: str) -> None:
        resource, log_name = JOBS[kind]
        jobs, group = self._arn(resource, f"{name}-*"), log_group_arn(self, f"/aws/sagemaker/{log_name}")
        own = "Each execution names its jobs after itself."
        allow(role, f"sagemaker:Stop{kind}", on=[jobs], because=own)
        allow(role, f"sagemaker:List{kind}s", on=["*"], because="IAM knows no resource for a list.")
        allow(role, "logs:DescribeLogStreams", on=[group, f"{group}:log-stream:"])
        allow(role, "logs:DeleteLogStream", on=[f"{group}:log-stream:{name}-*"], because=own)

    def _arn(self, kind: str, resource: str) -> str:
        return Stack.of(self).format_arn(service="sagemaker", resource=kind, resource_name=resource)
