"""Helpers of the tests of SageMaker's jobs: clients, roles, callers, events and logs."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from local.cloud import LocalCloud
from tests.support.deployments import allow_events
from tests.support.waiting import until

BUCKET = "training-tests"
ENDED = ("Completed", "Failed", "Stopped")
names = (f"job-{number}" for number in itertools.count())


def push(cloud: LocalCloud, context: Path, image: str) -> None:
    """Build an image from a folder with a Dockerfile, and push the image, with the cloud's `docker`
    command."""
    repository = image.partition("/")[2].partition(":")[0]
    client(cloud, "ecr").create_repository(repositoryName=repository)
    docker, env = cloud.env()["CDK_DOCKER"], os.environ | cloud.env()
    for command in (["build", "--tag", image, "."], ["push", image]):
        subprocess.run([docker, *command], check=True, cwd=context, env=env, capture_output=True)


def client(cloud: LocalCloud, service: Any, attempts: int = 5) -> Any:
    """Return a client of the cloud with the cloud's root access key. Clients are cached."""
    env = cloud.env()
    names = ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    return _client(service, attempts, *(env[name] for name in names))


@functools.cache  # cached, because creating a client takes longer than most calls
def _client(service: Any, attempts: int, address: str, region: str, key: str, secret: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=address,
        region_name=region,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=Config(retries={"total_max_attempts": attempts}),
    )


def ended(sagemaker: Any, name: str, noun: str = "Training") -> dict[str, Any]:
    """Wait until a job has ended; return its description."""
    describe = getattr(sagemaker, f"describe_{noun.lower()}_job")

    def look() -> dict[str, Any] | None:
        job = describe(**{f"{noun}JobName": name})
        return job if job[f"{noun}JobStatus"] in ENDED else None

    return until(look, f"the end of {name}")


@contextlib.contextmanager
def configured(cloud: LocalCloud, paces: Mapping[str, Any], noun: str) -> Iterator[None]:
    """Set `paces`, settings of the cloud, for a test. Afterwards stop the test's jobs, turn IAM off, reset
    the settings, and check that no job left files behind."""
    cloud.configure(**paces)
    yield
    cloud.enforce_iam(False)
    sagemaker, kind = client(cloud, "sagemaker"), noun.lower()
    for name in cloud.status()[f"{kind}_jobs_running"]:
        getattr(sagemaker, f"stop_{kind}_job")(**{f"{noun}JobName": name})
        ended(sagemaker, name, noun)
    cloud.configure(**dict.fromkeys([*cloud.configure(), "faults_injected"]))
    assert list((cloud.home / "instances").glob(f"{kind}/*")) == [], "a job left files behind"


def object_text(s3: Any, key: str, bucket: str = BUCKET) -> str | None:
    try:
        return s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode()
    except ClientError:
        return None


def listen(cloud: LocalCloud, noun: str = "Training") -> Callable[[], list[dict[str, Any]]]:
    """Subscribe a queue to the events of one kind of job; return a function that returns the events
    received so far."""
    sqs, events, name = client(cloud, "sqs"), client(cloud, "events"), next(names)
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = allow_events(sqs, queue)
    pattern = {"source": ["aws.sagemaker"], "detail-type": [f"SageMaker {noun} Job State Change"]}
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


def logged(cloud: LocalCloud, name: str, noun: str = "Training") -> dict[str, list[str]]:
    """Return the lines of each log stream of a job, without the notice that the local cloud adds."""
    logs, group = client(cloud, "logs"), f"/aws/sagemaker/{noun}Jobs"
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


GRANTS = {
    "pull": [
        "ecr:GetAuthorizationToken",
        "ecr:BatchCheckLayerAvailability",
        "ecr:GetDownloadUrlForLayer",
        "ecr:BatchGetImage",
    ],
    "read": ["s3:GetObject", "s3:ListBucket"],
    "write": ["s3:PutObject"],
    "logs": ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents", "cloudwatch:PutMetricData"],
}


def role(cloud: LocalCloud, *without: str) -> str:
    """Create a role for SageMaker with the grants in `GRANTS` except those in `without`; return the role's
    ARN."""
    iam, name = client(cloud, "iam"), next(names)
    trust = {
        "Effect": "Allow",
        "Principal": {"Service": "sagemaker.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    document = {"Version": "2012-10-17", "Statement": [trust]}
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(document))["Role"]["Arn"]
    actions = [action for grant, actions in GRANTS.items() if grant not in without for action in actions]
    policy = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}],
    }
    iam.put_role_policy(RoleName=name, PolicyName="grants", PolicyDocument=json.dumps(policy))
    return arn


def caller(cloud: LocalCloud, *statements: dict[str, Any]) -> Any:
    """Return a SageMaker client of a new user with these policy statements only."""
    iam, name = client(cloud, "iam"), next(names)
    iam.create_user(UserName=name)
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow"} | each for each in statements]}
    iam.put_user_policy(UserName=name, PolicyName="grants", PolicyDocument=json.dumps(document))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return boto3.client(
        "sagemaker",
        endpoint_url=cloud.endpoint_url,
        region_name=cloud.region,
        aws_access_key_id=key["AccessKeyId"],
        aws_secret_access_key=key["SecretAccessKey"],
    )
