"""Examinations: a processing job finds probable label errors and consolidates answers with a model.

    Accept -> Start -> Look, with pauses, until the job has ended -> Report

The job's name contains the execution's hash, so that a retry finds the job of the first call. The results are
the input of a review run of the labeling state machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aws_cdk import Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from constructs import Construct

from groundplan import (
    ArtifactBucket,
    ContainerImage,
    Network,
    SageMakerRole,
    acknowledge,
    allow,
    physical_name,
    state_machine,
)
from groundplan.instance_types import has_local_disks
from groundplan.states import UNIQUE, Flow, Rule, not_text, outside, start_job

JOB_SECONDS = 2 * 3600
PAUSE = 10
"""Seconds between two polls of the job's status."""
INPUTS, LABELS = "inputs", "labels"
"""Folders of the bucket: `inputs` for pictures and manifests, `labels` for results."""
FOLDER = "/opt/ml/processing"
RESULTS = {
    "report": "report.json",
    "page": "suspects.html",
    "review_manifest": "review.manifest",
    "kept_manifest": "kept.manifest",
}
"""Result files of the job, by field of the execution's output."""
LABELED = "labels.manifest"
"""File with the consensus labels. Only jobs that get the labelers' answers write it."""


class Examination(Construct):
    """A state machine that examines labels.

    :param image: the image `label_quality`.
    :param bucket: the bucket with pictures under `inputs/`, manifests and answers under `labels/`. Results
        are written to `labels/`.
    :param network: the VPC of the jobs. Default: none.
    :param tags: tags of the jobs. Default: none.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        image: ContainerImage,
        bucket: ArtifactBucket,
        instance_type: str = "ml.m5.xlarge",
        volume_gb: int = 30,
        network: Network | None = None,
        log_retention: logs.RetentionDays = logs.RetentionDays.ONE_MONTH,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(scope, id)
        stack = Stack.of(self)
        self.name = physical_name(self, f"{stack.stack_name}-examine", appended=UNIQUE + 1)
        """Name of the state machine, and prefix of the jobs' names."""
        worker = SageMakerRole(self, "Job", log_group="/aws/sagemaker/ProcessingJobs", network=network)
        for folder in (INPUTS, LABELS):
            bucket.grant_read(worker.role, folder)
        bucket.grant_write(worker.role, LABELS)
        image.repository.grant_pull(worker.role)
        role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("states.amazonaws.com"))
        jobs = stack.format_arn(
            service="sagemaker", resource="processing-job", resource_name=f"{self.name}-*"
        )
        actions = ("CreateProcessingJob", "DescribeProcessingJob", "AddTags")
        own = "Each execution names its job after itself."
        allow(role, *(f"sagemaker:{action}" for action in actions), on=[jobs], because=own)
        worker.grant_pass(role)
        key = bucket.key.key_arn if bucket.key and not has_local_disks(instance_type) else None
        if key:
            # To encrypt a job's volume, SageMaker creates a KMS grant with the role that creates the job
            only_aws = {"Bool": {"kms:GrantIsForAWSResource": "true"}}
            allow(role, "kms:CreateGrant", on=[key], only_if=only_aws)
        acknowledge(
            role,
            {"AwsSolutions-IAM5[Resource::*]": "IAM knows no resource for traces and the delivery of logs."},
        )
        job = {
            "AppSpecification": {"ImageUri": image.image_uri},
            "RoleArn": worker.role.role_arn,
            "ProcessingResources": {
                "ClusterConfig": {
                    "InstanceCount": 1,
                    "InstanceType": instance_type,
                    "VolumeSizeInGB": volume_gb,
                    **({"VolumeKmsKeyId": key} if key else {}),
                }
            },
            "StoppingCondition": {"MaxRuntimeInSeconds": JOB_SECONDS},
            "NetworkConfig": {
                "EnableNetworkIsolation": True,
                **({"VpcConfig": network.vpc_config} if network else {}),
            },
            "Tags": [{"Key": name, "Value": value} for name, value in (tags or {}).items()],
        }
        self.state_machine = state_machine(
            self,
            name=self.name,
            definition=examination(self.name, job, bucket),
            role=role,
            log_retention=log_retention,
            key=bucket.key,
        )
        """The state machine."""


def examination(name: str, job: dict[str, Any], bucket: ArtifactBucket) -> dict[str, Any]:
    """Return the definition of the state machine.

    :param name: prefix of the jobs' names
    :param job: arguments of CreateProcessingJob that are the same for all jobs
    """
    results = f"'{bucket.url(LABELS)}/' & $job"
    flow = Flow()
    entries = [
        _input("manifest", "$given.manifest"),
        _input("pictures", "$given.pictures"),
        f"$exists($given.answers) ? {_input('answers', '$given.answers')}",
    ]
    settings = (
        "$reduce($each($exists($given.arguments) ? $given.arguments : {},"
        " function($value, $key) {['--' & $key, $string($value)]}), $append, [])"
    )
    output = {
        "OutputName": "output",
        "S3Output": {
            "S3Uri": f"{{% {results} %}}",
            "LocalPath": f"{FOLDER}/output",
            "S3UploadMode": "EndOfJob",
        },
    }
    inputs, labels = (f"{bucket.url(folder)}/" for folder in (INPUTS, LABELS))
    start_job(
        flow,
        "aws-sdk:sagemaker:createProcessingJob",
        {
            **job,
            "AppSpecification": {
                **job["AppSpecification"],
                "ContainerArguments": f"{{% $append(['--attribute', $given.attribute], {settings}) %}}",
            },
            "ProcessingJobName": "{% $job %}",
            "ProcessingInputs": f"{{% [{', '.join(entries)}] %}}",
            "ProcessingOutputConfig": {
                "Outputs": [output],
                **({"KmsKeyId": bucket.key.key_arn} if bucket.key else {}),
            },
        },
        "Look",
        name=name,
        refused=[
            not_text("attribute"),
            outside("manifest", [inputs, labels]),
            outside("pictures", [inputs]),
            outside("answers", [labels], optional=True),
        ],
        assign={"looks": 0},
    )
    flow.call(
        "Look",
        "aws-sdk:sagemaker:describeProcessingJob",
        {"ProcessingJobName": "{% $job %}"},
        "IsOver",
        assign={"looks": "{% $looks + 1 %}", "seen": "{% $states.result %}"},
    )
    why = (
        "$exists($seen.ExitMessage) ? $seen.ExitMessage : $exists($seen.FailureReason) ? $seen.FailureReason"
    )
    most = 2 * JOB_SECONDS // PAUSE
    flow.choose(
        "IsOver",
        Rule(
            when=f"{{% $seen.ProcessingJobStatus in ['InProgress', 'Stopping'] and $looks < {most} %}}",
            then="Pause",
        ),
        Rule(when="{% $seen.ProcessingJobStatus = 'Completed' %}", then="Report"),
        otherwise="Failed",
        assign={
            "at": "Examine",
            "reason": f"{{% 'Examine: ' & ({why} : 'the job is ' & $seen.ProcessingJobStatus) %}}",
        },
    )
    flow.pause("Pause", PAUSE, "Look")
    named = ", ".join(f"'{field}': $folder & '/{file}'" for field, file in RESULTS.items())
    flow.report(
        "Report",
        f"{{% ($folder := {results}; $merge([{{'job': $job, 'folder': $folder, {named}}},"
        f" $exists($given.answers) ? {{'manifest': $folder & '/{LABELED}'}} : {{}}])) %}}",
    )
    return flow.definition("Accept", seconds=3 * JOB_SECONDS)


def _input(name: str, address: str) -> str:
    """Return the JSONata expression of a job's input."""
    return (
        f"{{'InputName': '{name}', 'S3Input': {{'S3Uri': {address}, 'LocalPath': '{FOLDER}/{name}',"
        " 'S3DataType': 'S3Prefix', 'S3InputMode': 'File', 'S3DataDistributionType': 'FullyReplicated',"
        " 'S3CompressionType': 'None'}}"
    )
