"""AWS calls of all scenarios: read a stack's outputs, and run a state machine with progress messages."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from scenarios import Progress, ScenarioError, archives

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_sagemaker import SageMakerClient
    from mypy_boto3_sagemaker.type_defs import DescribeTrainingJobResponseTypeDef
    from mypy_boto3_stepfunctions import SFNClient

PATIENT = Config(retries={"mode": "standard", "max_attempts": 8}, read_timeout=120)
"""Retries throttled requests, and allows for cold starts."""


def client(service: Any) -> Any:  # `Any`, because boto3's type stubs accept only literal service names
    return boto3.client(service, config=PATIENT)


def outputs(stack: str) -> dict[str, str]:
    """Return a stack's outputs by name. Raises `ScenarioError` if the stack is not deployed."""
    cloudformation: CloudFormationClient = client("cloudformation")
    try:
        (found,) = cloudformation.describe_stacks(StackName=stack)["Stacks"]
    except ClientError as error:
        raise ScenarioError(
            f"the stack {stack} is not deployed: {error.response['Error']['Message']}"
        ) from None
    return {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}


def address(url: str) -> str:
    """Return the address at which a URL in a stack's outputs is reached.

    This is the URL itself, or an address from the template in `GROUNDPLAN_ADDRESS`, in which {label} and
    {service} are the first two labels of the URL's host name.
    """
    template = os.environ.get("GROUNDPLAN_ADDRESS")
    if not template:
        return url.rstrip("/")
    label, service, *_ = (urlsplit(url).hostname or "").split(".")
    return template.format(label=label, service=service) + urlsplit(url).path.rstrip("/")


@dataclass(frozen=True)
class Execution:
    """An execution that has ended, with `output` if it succeeded, or `error` and `cause` if it failed."""

    arn: str
    status: str
    started: float
    seconds: float
    output: dict[str, Any]
    error: str
    cause: str
    path: list[str]

    def succeeded(self) -> dict[str, Any]:
        """Return the output. Raises `ScenarioError` with the cause if the execution failed."""
        if self.status != "SUCCEEDED":
            raise ScenarioError(f"the state machine's execution is {self.status}: {self.cause or self.error}")
        return self.output


def execute(
    state_machine: str, payload: dict[str, Any], progress: Progress, jobs: str, limit: float = 3600
) -> Execution:
    """Start the state machine and wait for its end, with progress messages.

    `jobs` is a part of the names of the training jobs that the execution starts. After `limit` seconds, stops
    the execution and raises `ScenarioError`.
    """
    machine: SFNClient = client("stepfunctions")
    sagemaker: SageMakerClient = client("sagemaker")
    started, begun = time.time(), time.monotonic()
    arn = machine.start_execution(stateMachineArn=state_machine, input=json.dumps(payload))["executionArn"]
    told = ""
    while True:
        found = machine.describe_execution(executionArn=arn)
        line = _doing(machine, sagemaker, arn, jobs, started)
        if line and line != told:
            progress(line)
            told = line
        if found["status"] != "RUNNING":
            break
        if time.monotonic() - begun > limit:
            machine.stop_execution(executionArn=arn, cause=f"the scenario's time limit of {limit:.0f} s")
            raise ScenarioError(
                f"the state machine's execution did not end within {limit:.0f} s; its last progress: {told}"
            )
        time.sleep(1)
    return Execution(
        arn=arn,
        status=found["status"],
        started=started,
        seconds=time.monotonic() - begun,
        output=json.loads(found.get("output") or "{}"),
        error=found.get("error", ""),
        cause=found.get("cause", ""),
        path=_states(machine, arn),
    )


def _states(machine: SFNClient, arn: str) -> list[str]:
    """Return the Task states that an execution entered, in order, without repetitions."""
    pages = machine.get_paginator("get_execution_history").paginate(executionArn=arn)
    entered = [
        event["stateEnteredEventDetails"]["name"]
        for page in pages
        for event in page["events"]
        if event["type"] == "TaskStateEntered"
    ]
    return list(dict.fromkeys(entered))


def _doing(machine: SFNClient, sagemaker: SageMakerClient, arn: str, jobs: str, started: float) -> str:
    """Return an execution's current state, or the latest status of a training job that it runs."""
    running = sagemaker.list_training_jobs(
        NameContains=jobs,
        CreationTimeAfter=datetime.fromtimestamp(started - 1, UTC),
        StatusEquals="InProgress",
        SortBy="CreationTime",
        SortOrder="Descending",
        MaxResults=1,
    )["TrainingJobSummaries"]
    if running:
        job = sagemaker.describe_training_job(TrainingJobName=running[0]["TrainingJobName"])
        return _training(job, job["TrainingJobName"].rpartition(jobs)[2].strip("-"))
    events = machine.get_execution_history(executionArn=arn, reverseOrder=True, maxResults=20)["events"]
    entered = (event["stateEnteredEventDetails"] for event in events if "stateEnteredEventDetails" in event)
    return next(entered, {"name": ""})["name"]


def _training(job: DescribeTrainingJobResponseTypeDef, name: str) -> str:
    hosts = job["ResourceConfig"]["InstanceCount"]
    told = [name, f"{hosts} host{'s' * (hosts > 1)}", job.get("SecondaryStatus", "")]
    return " · ".join(filter(None, [*told, _last_line(job["TrainingJobName"])]))


def _last_line(job: str) -> str:
    """Return the last log line of the job's first host; empty if there is none yet."""
    logs: CloudWatchLogsClient = client("logs")
    group = "/aws/sagemaker/TrainingJobs"
    try:
        streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{job}/", limit=1)
        (stream,) = streams["logStreams"]
        (event,) = logs.get_log_events(
            logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=False, limit=1
        )["events"]
    except (ValueError, ClientError):  # no stream, an empty one, or no group in a new account
        return ""
    return event["message"].strip()


def job_archives(name: str) -> tuple[float, dict[str, bytes], dict[str, bytes]]:
    """Return the seconds of training of a completed job, and the files of its model and output by name."""
    sagemaker: SageMakerClient = client("sagemaker")
    job = sagemaker.describe_training_job(TrainingJobName=name)
    output = f"{job['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{name}/output/output.tar.gz"
    model = job["ModelArtifacts"]["S3ModelArtifacts"]
    return float(job["TrainingTimeInSeconds"]), archive(model), archive(output)


def archive(uri: str) -> dict[str, bytes]:
    """Return the files of a tar archive in S3 by name."""
    place = urlsplit(uri)
    body = client("s3").get_object(Bucket=place.netloc, Key=place.path.lstrip("/"))["Body"].read()
    return archives.files(body)
