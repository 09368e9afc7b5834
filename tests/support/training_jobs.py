"""Training jobs whose container runs a script given by the test."""

from __future__ import annotations

import io
import itertools
import json
import tarfile
from collections.abc import Callable
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from local.cloud import LocalCloud
from tests.support.waiting import until

BUCKET = "training-tests"
ROLE = "arn:aws:iam::000000000000:role/training"
IMAGE = "000000000000.dkr.ecr.eu-west-1.amazonaws.com/training-tests:1"
ENDED = ("Completed", "Failed", "Stopped")
DOCKERFILE = """
FROM public.ecr.aws/docker/library/python:3.11-slim
ENV PYTHONUNBUFFERED=1
COPY train.py /opt/program/train.py
ENTRYPOINT ["python", "/opt/program/train.py"]
"""
PROGRAM = """
import json, os, pathlib, signal, socket, sys, time
base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
config = base / "input" / "config"
resources = json.loads((config / "resourceconfig.json").read_text())
host, hosts = resources["current_host"], resources["hosts"]
exec(json.loads((config / "hyperparameters.json").read_text())["script"])
"""
"""A container that runs what its hyperparameter says."""
PACES = {
    "training_checkpoint_interval": 0.2,
    "training_log_interval": 0.1,
    "training_stop_grace": 2.0,
    "create_training_job_burst": 50,
    "create_training_job_per_second": 50.0,
}
names = (f"job-{number}" for number in itertools.count())


def client(cloud: LocalCloud, service: Any, attempts: int = 5) -> Any:
    env = cloud.env()
    return boto3.client(
        service,
        endpoint_url=env["AWS_ENDPOINT_URL"],
        region_name=env["AWS_REGION"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        config=Config(retries={"total_max_attempts": attempts}),
    )


def request(script: str, instances: int = 1, **members: Any) -> dict[str, Any]:
    algorithm = {"TrainingImage": IMAGE, "TrainingInputMode": "File"} | members.pop("algorithm", {})
    return {
        "TrainingJobName": next(names),
        "AlgorithmSpecification": algorithm,
        "RoleArn": ROLE,
        "HyperParameters": {"script": script},
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": instances, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
    } | members


def channel(name: str, uri: str, distribution: str = "FullyReplicated") -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": distribution}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}


def ended(sagemaker: Any, name: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        job = sagemaker.describe_training_job(TrainingJobName=name)
        return job if job["TrainingJobStatus"] in ENDED else None

    return until(look, f"the end of {name}")


def run(sagemaker: Any, script: str, instances: int = 1, **members: Any) -> dict[str, Any]:
    params = request(script, instances, **members)
    sagemaker.create_training_job(**params)
    return ended(sagemaker, params["TrainingJobName"])


def in_training(sagemaker: Any, name: str) -> bool:
    return sagemaker.describe_training_job(TrainingJobName=name)["SecondaryStatus"] == "Training"


def object_text(s3: Any, key: str) -> str | None:
    try:
        return s3.get_object(Bucket=BUCKET, Key=key)["Body"].read().decode()
    except ClientError:
        return None


def listen(cloud: LocalCloud) -> Callable[[], list[dict[str, Any]]]:
    """Subscribe a queue to SageMaker's events; return a function that returns the events so far."""
    sqs, events, name = client(cloud, "sqs"), client(cloud, "events"), next(names)
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    pattern = {"source": ["aws.sagemaker"], "detail-type": ["SageMaker Training Job State Change"]}
    events.put_rule(Name=name, EventPattern=json.dumps(pattern))
    events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": arn}])
    arrived: list[dict[str, Any]] = []

    def receive() -> list[dict[str, Any]]:
        messages = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
        arrived.extend(json.loads(message["Body"]) for message in messages)
        for message in messages:
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return arrived

    return receive


def archive(s3: Any, uri: str) -> dict[str, str]:
    """Return the files of an archive in S3, as text by name."""
    body = s3.get_object(Bucket=BUCKET, Key=uri.removeprefix(f"s3://{BUCKET}/"))["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        return {
            member.name: tar.extractfile(member).read().decode()  # pyright: ignore[reportOptionalMemberAccess]
            for member in tar.getmembers()
        }


def logged(cloud: LocalCloud, name: str) -> dict[str, list[str]]:
    """Return the lines of each log stream of a job, without the local cloud's own notice."""
    logs, group = client(cloud, "logs"), "/aws/sagemaker/TrainingJobs"
    streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/")["logStreams"]
    return {
        stream["logStreamName"]: [
            event["message"]
            for event in logs.get_log_events(
                logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True
            )["events"]
            if not event["message"].startswith("Groundplan: this container is not isolated.")
        ]
        for stream in streams
    }


def spot(**limits: int) -> dict[str, Any]:
    return {
        "EnableManagedSpotTraining": True,
        "StoppingCondition": {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 120} | limits,
    }
