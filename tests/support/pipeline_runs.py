"""Pipelines of a running local cloud: their roles, functions, queues and executions."""

from __future__ import annotations

import functools
import io
import itertools
import json
import zipfile
from typing import Any

from local.cloud import LocalCloud
from tests.support import clouds
from tests.support.deployments import ACCOUNT, REGION, role
from tests.support.training_jobs import BUCKET, IMAGE
from tests.support.waiting import until

ENDED = ("Succeeded", "Failed", "Stopped", "CompletedWithFailures")
METRIC = {"Name": "rmse", "Regex": "rmse=([0-9.]+)"}
JOBS = (
    *(("s3:*", f"arn:aws:s3:::{BUCKET}{end}") for end in ("", "/*")),
    *(("logs:*", "*"), ("ecr:*", "*"), ("cloudwatch:PutMetricData", "*")),
)
"""Grants of a training job's role."""
_numbers = itertools.count()


class PipelineRuns:
    """Clients of a cloud, and the roles of its pipelines' jobs."""

    def __init__(self, cloud: LocalCloud):
        self.cloud = cloud
        self.aws = functools.cache(functools.partial(clouds.client, cloud))
        self.sagemaker = self.aws("sagemaker")
        self.job_role = role(self.aws, "sagemaker.amazonaws.com", *JOBS)

    @staticmethod
    def unique(name: str) -> str:
        return f"{name}-{next(_numbers)}"

    def training(self, script: str, name: str = "Train", **members: Any) -> dict[str, Any]:
        """Return a training step whose container runs a script. The metric `rmse` is read from the
        container's output."""
        arguments = {
            "AlgorithmSpecification": {
                "TrainingImage": IMAGE,
                "TrainingInputMode": "File",
                "MetricDefinitions": [METRIC],
            },
            "RoleArn": self.job_role,
            "HyperParameters": {"script": script},
            "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/out"},
            "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
            "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        }
        return {"Name": name, "Type": "Training", "Arguments": arguments} | members

    def pipeline_role(self, *grants: tuple[str, str]) -> str:
        """Create a role that may start training jobs with the jobs' role, plus `grants`; return its ARN."""
        of_jobs = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/pipelines-*"
        return role(
            self.aws,
            "sagemaker.amazonaws.com",
            *((f"sagemaker:{verb}TrainingJob", of_jobs) for verb in ("Create", "Describe", "Stop")),
            ("iam:PassRole", self.job_role),
            *grants,
        )

    def function(self, code: str, **members: Any) -> str:
        """Create a Lambda function whose `handler` is in `code`; return the function's ARN."""
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("index.py", code)
        request = {
            "FunctionName": self.unique("pipelines"),
            "Runtime": "python3.11",
            "Handler": "index.handler",
            "Role": role(self.aws, "lambda.amazonaws.com"),
            "Code": {"ZipFile": archive.getvalue()},
            "Timeout": 30,
        }
        return self.aws("lambda").create_function(**request | members)["FunctionArn"]

    def queue(self, name: str | None = None) -> tuple[str, str]:
        """Create a queue; return its URL and ARN."""
        sqs = self.aws("sqs")
        url = sqs.create_queue(QueueName=name or self.unique("pipelines"))["QueueUrl"]
        found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        return url, found["Attributes"]["QueueArn"]

    def received(self, url: str) -> list[dict[str, Any]]:
        """Receive and delete the messages in a queue; return them."""
        sqs = self.aws("sqs")
        messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        for message in messages:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return [json.loads(message["Body"]) for message in messages]

    def start(self, text: str, role_arn: str, **members: Any) -> str:
        """Create a pipeline and start an execution; return the execution's ARN."""
        name = self.unique("pipeline")
        self.sagemaker.create_pipeline(PipelineName=name, RoleArn=role_arn, PipelineDefinition=text)
        return self.again(name, **members)

    def again(self, name: str, **members: Any) -> str:
        return self.sagemaker.start_pipeline_execution(PipelineName=name, **members)["PipelineExecutionArn"]

    def status(self, arn: str) -> str:
        found = self.sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)
        return found["PipelineExecutionStatus"]

    def ended(self, arn: str) -> str:
        """Wait until an execution has ended; return its status."""
        until(lambda: self.status(arn) in ENDED, f"the end of {arn}")
        return self.status(arn)

    def steps(self, arn: str) -> dict[str, dict[str, Any]]:
        found = self.sagemaker.list_pipeline_execution_steps(
            PipelineExecutionArn=arn, SortOrder="Ascending", MaxResults=100
        )
        return {step["StepName"]: step for step in found["PipelineExecutionSteps"]}

    def statuses(self, arn: str) -> dict[str, str]:
        return {name: step["StepStatus"] for name, step in self.steps(arn).items()}

    def job(self, step: dict[str, Any]) -> dict[str, Any]:
        """Return the description of a step's training job."""
        name = step["Metadata"]["TrainingJob"]["Arn"].rpartition("/")[2]
        return self.sagemaker.describe_training_job(TrainingJobName=name)
