"""State machines that wait for processing and transform jobs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.deployments import ACCOUNT, REGION, Machine, names, task
from tests.support.waiting import until

RULE = f"arn:aws:events:{REGION}:{ACCOUNT}:rule/StepFunctionsGetEventsForSageMaker{{}}JobsRule"
CLUSTER = {"InstanceType": "ml.m5.large", "InstanceCount": 1}


def grants(noun: str) -> list[tuple[str, str]]:
    """Return the grants that a state machine needs, according to AWS's documentation, to run a job of the
    kind `noun`: `Processing` or `Transform`."""
    operations = [f"sagemaker:{verb}{noun}Job" for verb in ("Create", "Describe", "Stop")]
    passing = [("iam:PassRole", "*")] if noun == "Processing" else []
    return [(each, "*") for each in (*operations, "sagemaker:ListTags")] + [
        ("events:*", RULE.format(noun)),
        *passing,
    ]


@pytest.fixture
def request_of(aws: Callable, image: str, bucket: str, execution_role: str) -> Callable[..., dict[str, Any]]:
    """`request_of(noun, end)` returns a request for a processing or transform job that completes, fails, or
    does not end."""

    def processing(end: str) -> dict[str, Any]:
        program = {"complete": "pass", "fail": "raise SystemExit(3)", "go on": "import time; time.sleep(300)"}
        return {
            "ProcessingJobName": next(names),
            "AppSpecification": {"ImageUri": image, "ContainerEntrypoint": ["python", "-c", program[end]]},
            "RoleArn": execution_role,
            "ProcessingResources": {"ClusterConfig": CLUSTER | {"VolumeSizeInGB": 1}},
        }

    def transform(end: str) -> dict[str, Any]:
        model, prefix = next(names), next(names)
        # A container that is never healthy keeps its job in progress.
        environment = {"ANSWER": "2"} | ({"HEALTHY": "no"} if end == "go on" else {})
        container = {"Image": image, "Environment": environment}
        aws("sagemaker").create_model(
            ModelName=model, PrimaryContainer=container, ExecutionRoleArn=execution_role
        )
        if end != "fail":
            aws("s3").put_object(Bucket=bucket, Key=f"{prefix}/rows.csv", Body=b"1")
        source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}/{prefix}/"}
        return {
            "TransformJobName": next(names),
            "ModelName": model,
            "TransformInput": {"DataSource": {"S3DataSource": source}},
            "TransformOutput": {"S3OutputPath": f"s3://{bucket}/out/{prefix}"},
            "TransformResources": CLUSTER,
        }

    makers = {"Processing": processing, "Transform": transform}
    return lambda noun, end="complete": makers[noun](end)


def sync(noun: str) -> str:
    return f"sagemaker:create{noun}Job.sync"


@pytest.mark.parametrize("noun", ["Processing", "Transform"])
def test_task_waits_for_its_job_with_the_documented_grants(
    aws: Callable, enforced: None, request_of: Callable, noun: str
) -> None:
    ended = Machine(aws, task(sync(noun), request_of(noun)), *grants(noun)).run()
    assert ended["status"] == "SUCCEEDED", ended
    # then the execution's output is the description of the completed job, with times in milliseconds as on
    # AWS
    result = json.loads(ended["output"])
    assert result[f"{noun}JobStatus"] == "Completed"
    assert abs(result[f"{noun}EndTime"] / 1000 - time.time()) < 3600


@pytest.mark.parametrize("noun", ["Processing", "Transform"])
def test_failed_job_fails_its_task_with_its_description(
    aws: Callable, request_of: Callable, noun: str
) -> None:
    ended = Machine(aws, task(sync(noun), request_of(noun, "fail")), *grants(noun)).run()
    assert (ended["status"], ended["error"]) == ("FAILED", "States.TaskFailed")
    reason = {"Processing": "AlgorithmError: , exit code: 3", "Transform": "ClientError: No S3 objects found"}
    assert json.loads(ended["cause"])["FailureReason"].startswith(reason[noun])


@pytest.mark.parametrize(
    ("noun", "missing", "action"),
    [
        ("Processing", "events:*", "events:PutTargets"),
        ("Processing", "sagemaker:ListTags", "sagemaker:ListTags"),
        ("Processing", "iam:PassRole", "iam:PassRole"),
        ("Transform", "events:*", "events:PutTargets"),
        ("Transform", "sagemaker:CreateTransformJob", "sagemaker:CreateTransformJob"),
    ],
)
def test_task_without_a_grant_is_refused(
    aws: Callable, enforced: None, request_of: Callable, noun: str, missing: str, action: str
) -> None:
    # given all grants except one, and a grant on the managed rule for training jobs, which is not the rule
    # for this kind of job
    request = request_of(noun)
    allowed = [grant for grant in grants(noun) if grant[0] != missing]
    machine = Machine(aws, task(sync(noun), request), *allowed, ("events:*", RULE.format("Training")))
    ended = machine.run()
    # then the task fails with the error that AWS gives, and there is no job
    assert (ended["status"], ended["error"]) == ("FAILED", "SageMaker.AmazonSageMakerException")
    assert f"not authorized to perform: {action}" in ended["cause"]
    describe = getattr(aws("sagemaker"), f"describe_{noun.lower()}_job")
    with pytest.raises(ClientError):
        describe(**{f"{noun}JobName": request[f"{noun}JobName"]})


@pytest.mark.parametrize("noun", ["Processing", "Transform"])
def test_job_is_stopped_with_its_execution(aws: Callable, request_of: Callable, noun: str) -> None:
    # given a task that waits for a job that does not end
    request = request_of(noun, "go on")
    machine = Machine(aws, task(sync(noun), request), *grants(noun))
    execution = machine.start()
    name, sagemaker = {f"{noun}JobName": request[f"{noun}JobName"]}, aws("sagemaker")

    def status() -> str:
        try:
            return getattr(sagemaker, f"describe_{noun.lower()}_job")(**name)[f"{noun}JobStatus"]
        except ClientError:
            return ""

    until(lambda: status() == "InProgress", "the job's start")
    # when the execution is stopped, then the job is too
    machine.stop(execution)
    until(lambda: status() == "Stopped", "the job's end")


def test_task_without_sync_only_starts_the_job(aws: Callable, enforced: None, request_of: Callable) -> None:
    # given a role that may only create a job
    request = request_of("Transform")
    state = task("sagemaker:createTransformJob", request)
    ended = Machine(aws, state, ("sagemaker:CreateTransformJob", "*")).run()
    # then the result is the new job's ARN
    assert ended["status"] == "SUCCEEDED", ended
    arn = json.loads(ended["output"])["TransformJobArn"]
    assert arn.endswith(f"transform-job/{request['TransformJobName']}")


def test_task_that_is_no_job_cannot_be_waited_for(aws: Callable) -> None:
    ended = Machine(aws, task("sagemaker:createModel.sync", {})).run()
    assert (ended["status"], ended["error"]) == ("FAILED", "States.Runtime")
    assert "Step Functions has no integration" in ended["cause"]
