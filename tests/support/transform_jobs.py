"""Transform jobs that use a small model, for tests in a separate local cloud."""

from __future__ import annotations

import json
from typing import Any

from local.cloud import LocalCloud
from tests.support import jobs
from tests.support.hosting import CONTAINERS, Bench, unique

PACES = {"transform_log_interval": 0.1, "transform_retry": 0.01, "endpoint_stop_grace": 2.0}


class Transforms(Bench):
    """A cloud with a bucket, a role, and a container that answers with a line of JSON about each request."""

    def __init__(self, cloud: LocalCloud):
        self._clients: dict[str, Any] = {}
        super().__init__(cloud, CONTAINERS / "batch")
        self.s3 = self.client("s3")

    def client(self, service: Any, **keys: str) -> Any:
        if keys:
            return super().client(service, **keys)
        if service not in self._clients:  # cached, because creating a client takes longer than most calls
            self._clients[service] = super().client(service)
        return self._clients[service]

    def grants(self, *without: str) -> list[dict[str, Any]]:
        put = {"Effect": "Allow", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{self.bucket}/*"}
        return super().grants(*without) + ([] if "s3:PutObject" in without else [put])

    def input(self, **objects: str | bytes) -> str:
        """Upload objects below a new prefix; return its URI. In a name, `__` stands for a slash and `_` for a
        dot."""
        prefix = unique("input")
        for name, content in objects.items():
            key = f"{prefix}/{name.replace('__', '/').replace('_', '.')}"
            self.put(key, content.encode() if isinstance(content, str) else content)
        return f"s3://{self.bucket}/{prefix}/"

    def request(self, uri: str, **members: Any) -> dict[str, Any]:
        """Return a request for a job that sends each line to the model separately. `input` and `output`
        change members of TransformInput and TransformOutput."""
        name = members.pop("TransformJobName", None) or unique("transform")
        source = {"S3DataType": members.pop("data_type", "S3Prefix"), "S3Uri": uri}
        given = {"DataSource": {"S3DataSource": source}, "SplitType": "Line"} | members.pop("input", {})
        stored = {"S3OutputPath": f"s3://{self.bucket}/{name}", "AssembleWith": "Line"}
        return {
            "TransformJobName": name,
            "ModelName": members.pop("ModelName", None) or self.model(),
            "BatchStrategy": "SingleRecord",
            "TransformInput": given,
            "TransformOutput": stored | members.pop("output", {}),
            "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1}
            | members.pop("resources", {}),
        } | members

    def start(self, uri: str, **members: Any) -> str:
        params = self.request(uri, **members)
        self.sagemaker.create_transform_job(**params)
        return params["TransformJobName"]

    def job(self, name: str) -> dict[str, Any]:
        return self.sagemaker.describe_transform_job(TransformJobName=name)

    def ended(self, name: str) -> dict[str, Any]:
        return jobs.ended(self.sagemaker, name, "Transform")

    def run(self, uri: str, **members: Any) -> dict[str, Any]:
        return self.ended(self.start(uri, **members))

    def outputs(self, job: dict[str, Any]) -> dict[str, bytes]:
        """Return the output objects of a job by the part of their keys after the job's name."""
        prefix = f"{job['TransformJobName']}/"
        found = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix).get("Contents", [])
        return {
            each["Key"].removeprefix(prefix): self.s3.get_object(Bucket=self.bucket, Key=each["Key"])[
                "Body"
            ].read()
            for each in found
        }

    def answers(self, job: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
        """Return the container's responses in each output object, in order."""
        return {name: list(map(json.loads, body.splitlines())) for name, body in self.outputs(job).items()}

    def data_log(self, job: dict[str, Any]) -> list[str]:
        """Return the lines of a job's data log, which the service writes, without times."""
        logs, group, name = self.client("logs"), "/aws/sagemaker/TransformJobs", job["TransformJobName"]
        streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/")["logStreams"]
        return [
            event["message"].partition(":[sagemaker logs]: ")[2]
            for stream in streams
            if stream["logStreamName"].endswith("/data-log")
            for event in logs.get_log_events(
                logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True
            )["events"]
        ]
