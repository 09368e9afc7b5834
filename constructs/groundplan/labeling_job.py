from __future__ import annotations

import html
import json
import string
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aws_cdk import Duration, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_s3_assets as s3_assets
from constructs import Construct

from groundplan.artifact_bucket import ArtifactBucket
from groundplan.labeling_flow import DAY, INPUTS, LABELS, labeling
from groundplan.machine import not_succeeded, state_machine
from groundplan.names import physical_name
from groundplan.permissions import acknowledge, allow
from groundplan.sagemaker_role import SageMakerRole
from groundplan.states import UNIQUE

TEMPLATE = Path(__file__).parent / "templates" / "classify.html"
LONGEST_TITLE = 128
MOST_CLASSES = 10
"""Maximum number of categories of Ground Truth's `crowd-image-classifier`."""


@dataclass(frozen=True, kw_only=True)
class LabelingTask:
    """The labelers' task: work team, instructions, classes and limits.

    Raises `ValueError` for values that Ground Truth refuses.
    """

    workteam_arn: str
    """ARN of a private work team."""
    title: str
    """The question, at most 128 characters."""
    classes: Sequence[str]
    """The answers to choose from, 2 to 10 different texts."""
    instructions: str
    """Instructions for the labelers, as plain text."""
    labels: int = 3
    """Number of labelers who classify each object, 1 to 9. Default: 3."""
    minutes: int = 30
    """Time limit for one answer, 1 to 480 minutes. Default: 30."""
    days: int = 10
    """Days after which a job is stopped, 1 to 30. Default: 10."""

    def __post_init__(self) -> None:
        if "/public-crowd/" in self.workteam_arn:
            raise ValueError(
                "workteam_arn must be the ARN of a private work team, because Amazon Mechanical Turk closed"
                f" on 30 September 2026, got {self.workteam_arn}"
            )
        if not 2 <= len(set(self.classes)) == len(self.classes) <= MOST_CLASSES:
            raise ValueError(
                f"classes must be 2 to {MOST_CLASSES} different texts, got {', '.join(self.classes)}"
            )
        if len(self.title) > LONGEST_TITLE:
            raise ValueError(f"title must have at most {LONGEST_TITLE} characters, got {len(self.title)}")
        for name, value in (("title", self.title), ("instructions", self.instructions)):
            _check_text(name, value)
        for each in self.classes:
            _check_text("classes", each)
        for name, most in (("labels", 9), ("minutes", 480), ("days", 30)):
            value = getattr(self, name)
            if not 1 <= value <= most:
                raise ValueError(f"{name} must be from 1 to {most}, got {value}")


class LabelingJob(Construct):
    """A state machine that labels pictures or texts with Ground Truth, in accounts that already use it.

    Ground Truth has accepted no new customers since 31 July 2026.

    :param name: the state machine's name, and prefix of the jobs' names.
    :param task: the labelers' task.
    :param bucket: the bucket with pictures and manifests under `inputs/`. Results are written to `labels/`. A
        bucket with pictures needs the CORS rule of `LabelingJob.cors()`.
    :param pre_annotation: pre-annotation Lambda function of Ground Truth, which is invoked for each object
        before it is shown. It returns the object as `taskObject` in its `taskInput`.
    :param post_annotation: post-annotation Lambda function of Ground Truth, which consolidates the answers.
        Its role needs read access to `labels/`.
    :param log_retention: retention of the state machine's log. Default: one month.
    :param tags: tags of the jobs. Default: none.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        name: str,
        task: LabelingTask,
        bucket: ArtifactBucket,
        pre_annotation: lambda_.IFunction,
        post_annotation: lambda_.IFunction,
        log_retention: logs.RetentionDays = logs.RetentionDays.ONE_MONTH,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(scope, id)
        stack = Stack.of(self)
        self.name = physical_name(self, name, appended=UNIQUE + 1)
        """Name of the state machine, and prefix of the jobs' names."""
        worker = SageMakerRole(self, "Job", log_group="/aws/sagemaker/LabelingJobs")
        self.role = worker.role
        """The jobs' role. For pictures in another bucket, grant it read access to that bucket."""
        for folder in (INPUTS, LABELS):
            bucket.grant_read(self.role, folder)
        bucket.grant_write(self.role, LABELS)
        functions = [function.function_arn for function in (pre_annotation, post_annotation)]
        allow(self.role, "lambda:InvokeFunction", on=functions)
        page, classes = self._file("Template", page_of(task)), self._file("Classes", classes_of(task))
        role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("states.amazonaws.com"))
        jobs = stack.format_arn(service="sagemaker", resource="labeling-job", resource_name=f"{self.name}-*")
        actions = ("CreateLabelingJob", "DescribeLabelingJob", "StopLabelingJob", "AddTags")
        own = "Each execution names its job after itself."
        allow(role, *(f"sagemaker:{action}" for action in actions), on=[jobs], because=own)
        worker.grant_pass(role)
        acknowledge(
            role,
            {"AwsSolutions-IAM5[Resource::*]": "IAM knows no resource for traces and the delivery of logs."},
        )
        job = {
            "LabelCategoryConfigS3Uri": classes.s3_object_url,
            "OutputConfig": {
                "S3OutputPath": bucket.url(LABELS),
                **({"KmsKeyId": bucket.key.key_arn} if bucket.key else {}),
            },
            "RoleArn": self.role.role_arn,
            "HumanTaskConfig": {
                "WorkteamArn": task.workteam_arn,
                "UiConfig": {"UiTemplateS3Uri": page.s3_object_url},
                "PreHumanTaskLambdaArn": functions[0],
                "AnnotationConsolidationConfig": {"AnnotationConsolidationLambdaArn": functions[1]},
                "TaskTitle": task.title,
                "TaskDescription": task.title,
                "NumberOfHumanWorkersPerDataObject": task.labels,
                "TaskTimeLimitInSeconds": task.minutes * 60,
                "TaskAvailabilityLifetimeInSeconds": task.days * DAY,
            },
            "Tags": [{"Key": key, "Value": value} for key, value in (tags or {}).items()],
        }
        self.state_machine = state_machine(
            self,
            name=self.name,
            definition=labeling(self.name, job, bucket, task.days * DAY),
            role=role,
            log_retention=log_retention,
            key=bucket.key,
        )
        """The state machine."""

    def grant_start(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let `grantee` start labeling jobs."""
        return self.state_machine.grant_start_execution(grantee)

    def metric_not_succeeded(self, period: Duration | None = None) -> cloudwatch.IMetric:
        """Return the number of executions that failed or timed out in `period`, five minutes by default."""
        return not_succeeded(self.state_machine, period)

    @staticmethod
    def cors() -> s3.CorsRule:
        """Return the CORS rule that Ground Truth needs to show the pictures of a bucket.

        https://docs.aws.amazon.com/sagemaker/latest/dg/sms-cors-update.html
        """
        return s3.CorsRule(
            allowed_methods=[s3.HttpMethods.GET],
            allowed_origins=["*"],
            exposed_headers=["Access-Control-Allow-Origin"],
        )

    def _file(self, id: str, text: str) -> s3_assets.Asset:
        """Return an asset with this text, which the jobs may read. The CDK copies the file immediately."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"{id.lower()}{'.json' if text.startswith('{') else '.html'}"
            file.write_text(text)
            asset = s3_assets.Asset(self, id, path=str(file))
        allow(self.role, "s3:GetObject", on=[asset.bucket.arn_for_objects(asset.s3_object_key)])
        return asset


def page_of(task: LabelingTask) -> str:
    """Return the worker task template, for pictures and for texts."""
    return string.Template(TEMPLATE.read_text()).substitute(
        title=html.escape(task.title),
        instructions=html.escape(task.instructions),
        classes=html.escape(json.dumps(list(task.classes))),
    )


def classes_of(task: LabelingTask) -> str:
    """Return the label category configuration."""
    labels = [{"label": each} for each in task.classes]
    return json.dumps({"document-version": "2018-11-28", "labels": labels})


def _check_text(name: str, value: str) -> None:
    """Raise `ValueError` for an empty text, or one with Liquid markup, which the template would evaluate."""
    if not value.strip() or "{{" in value or "{%" in value:
        raise ValueError(f"{name} must be a text that is not empty and has no {{{{ or {{%, got {value!r}")
