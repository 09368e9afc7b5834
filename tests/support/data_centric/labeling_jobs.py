"""A deployed `LabelingJob`, and labeling jobs with its functions and role."""

from __future__ import annotations

import io
import json
import shlex
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from local.cloud import LocalCloud
from tests.support.data_centric.labeling_app import TEAM
from tests.support.deployments import role
from tests.support.jobs import ENDED, client, names
from tests.support.waiting import until
from tooling import envs

CLASSES = ["cat", "dog", "owl"]
TEMPLATE = '<crowd-form><crowd-classifier name="animal" categories="{{ x }}"></crowd-classifier></crowd-form>'
GROUP = "/aws/sagemaker/LabelingJobs"


@dataclass
class Labeling:
    cloud: LocalCloud
    out: Mapping[str, str]

    def client(self, service: str) -> Any:
        return client(self.cloud, service)

    @property
    def bucket(self) -> str:
        return self.out["Bucket"]

    def put(self, key: str, body: bytes) -> str:
        self.client("s3").put_object(Bucket=self.bucket, Key=key, Body=body)
        return f"s3://{self.bucket}/{key}"

    def get(self, address: str) -> bytes:
        bucket, _, key = address.removeprefix("s3://").partition("/")
        return self.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()

    def keys(self, prefix: str) -> list[str]:
        found = self.client("s3").list_objects_v2(Bucket=self.bucket, Prefix=prefix)
        return [each["Key"] for each in found.get("Contents", [])]

    def manifest(self, lines: Sequence[dict[str, Any] | str]) -> str:
        text = "".join(f"{each if isinstance(each, str) else json.dumps(each)}\n" for each in lines)
        return self.put(f"inputs/{next(names)}.manifest", text.encode())

    def pictures(self, count: int) -> list[dict[str, Any]]:
        """Return the manifest lines of `count` pictures, each with its true class."""
        return [
            {
                "source-ref": self.put(f"inputs/{number}.png", f"picture {number}".encode()),
                "true-class": CLASSES[number % len(CLASSES)],
            }
            for number in range(count)
        ]

    def function(self, code: str) -> str:
        """Create a Lambda function from this Python code, which defines `handler`; return its ARN."""
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("code_of.py", code)
        made = self.client("lambda").create_function(
            FunctionName=next(names),
            Runtime="python3.14",
            Role=role(self.client, "lambda.amazonaws.com"),
            Handler="code_of.handler",
            Code={"ZipFile": packed.getvalue()},
        )
        return made["FunctionArn"]

    def request(self, manifest: str, **task: Any) -> dict[str, Any]:
        """Return a request. `task` changes its HumanTaskConfig; None leaves a member out."""
        config = {
            "WorkteamArn": TEAM.format(region=self.cloud.region),
            "UiConfig": {"UiTemplateS3Uri": self.put("inputs/template.html", TEMPLATE.encode())},
            "PreHumanTaskLambdaArn": self.out["Pre"],
            "AnnotationConsolidationConfig": {"AnnotationConsolidationLambdaArn": self.out["Post"]},
            "TaskTitle": "Animals",
            "TaskDescription": "Which animal?",
            "NumberOfHumanWorkersPerDataObject": 3,
            "TaskTimeLimitInSeconds": 60,
        } | task
        labels = json.dumps({"labels": [{"label": each} for each in CLASSES]})
        return {
            "LabelingJobName": next(names),
            "LabelAttributeName": "animal",
            "InputConfig": {"DataSource": {"S3DataSource": {"ManifestS3Uri": manifest}}},
            "OutputConfig": {"S3OutputPath": f"s3://{self.bucket}/labels/"},
            "LabelCategoryConfigS3Uri": self.put("inputs/classes.json", labels.encode()),
            "RoleArn": self.out["Role"],
            "HumanTaskConfig": {key: value for key, value in config.items() if value is not None},
        }

    def described(self, name: str) -> dict[str, Any]:
        return self.client("sagemaker").describe_labeling_job(LabelingJobName=name)

    def ended(self, name: str) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            found = self.described(name)
            return found if found["LabelingJobStatus"] in ENDED else None

        return until(look, f"the end of {name}")

    def labeled(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Create a job and wait for its end; return its description."""
        self.client("sagemaker").create_labeling_job(**asked)
        return self.ended(asked["LabelingJobName"])

    def output(self, job: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the lines of a job's output manifest."""
        body = self.get(job["LabelingJobOutput"]["OutputDatasetS3Uri"])
        return [json.loads(line) for line in body.splitlines()]

    def logged(self, name: str) -> list[str]:
        found = self.client("logs").get_log_events(logGroupName=GROUP, logStreamName=name, startFromHead=True)
        return [event["message"] for event in found["events"]]

    def executed(self, given: dict[str, Any]) -> dict[str, Any]:
        """Start an execution of the state machine and wait for its end; return its description."""
        states = self.client("stepfunctions")
        arn = states.start_execution(stateMachineArn=self.out["Machine"], input=json.dumps(given))[
            "executionArn"
        ]

        def look() -> dict[str, Any] | None:
            found = states.describe_execution(executionArn=arn)
            return found if found["status"] != "RUNNING" else None

        return until(look, "the end of the execution")


def deploy(cloud: LocalCloud) -> Labeling:
    """Deploy the app, and enforce IAM from then on."""
    path = f"PYTHONPATH={envs.ROOT / 'constructs'}:{envs.ROOT}"
    command = ["env", path, sys.executable, str(envs.ROOT / "tests/support/data_centric/labeling_app.py")]
    out = cloud.deploy("labeling", app=shlex.join(command))["labeling"]
    cloud.enforce_iam(True)
    return Labeling(cloud, out)
