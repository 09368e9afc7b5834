"""The deployed workflow under enforced IAM: deployments, refusals, and `cdk destroy`.

The stack is the project's own, except for its container, which only simulates training.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.cloud import LocalCloud
from tests.support.waiting import until
from tooling import envs

STACK = "groundplan-dev-snowflake-training"
APP = shlex.join([str(envs.environment("app")), str(Path(__file__).parent / "workflow" / "app.py")])
CONTEXT = {"snowflake_training.endpoint_name": "workflow", "snowflake_training.secret_name": "workflow"}
"""Names with which this stack does not collide with another deployment of the architecture"""

Outputs = dict[str, str]
Execution = dict[str, Any]


@pytest.fixture(scope="module")
def deployed(cloud: LocalCloud) -> Iterator[Outputs]:
    cloud.configure(create_training_job_burst=100)
    outputs = cloud.deploy(STACK, app=APP, context=CONTEXT)[STACK]
    cloud.enforce_iam(True)
    yield outputs
    cloud.enforce_iam(False)
    cloud.configure(create_training_job_burst=None)


@pytest.fixture(scope="module")
def start(aws: Callable, deployed: Outputs) -> Callable[..., str]:
    """Return a function that starts the workflow and returns the ARN of its execution."""

    def begin(**given: Any) -> str:
        arn = deployed["StateMachineArn"]
        started = aws("stepfunctions").start_execution(stateMachineArn=arn, input=json.dumps(given))
        return started["executionArn"]

    return begin


@pytest.fixture(scope="module")
def end(aws: Callable) -> Callable[[str], Execution]:
    """Return a function that waits for the end of an execution, and returns the execution with its output as
    an object."""

    def wait(execution: str) -> Execution:
        while True:
            found = aws("stepfunctions").describe_execution(executionArn=execution)
            if found["status"] != "RUNNING":
                return found | {"output": json.loads(found.get("output") or "null")}
            time.sleep(0.1)

    return wait


@pytest.fixture(scope="module")
def run(start: Callable[..., str], end: Callable[[str], Execution]) -> Callable[..., Execution]:
    """Return a function that runs the workflow to its end and returns the execution."""
    return lambda **given: end(start(**given))


@pytest.fixture
def ask(aws: Callable, deployed: Outputs) -> Callable[[], str]:
    """Return a function that returns the endpoint's response, which is the error of the deployed model."""

    def invoke() -> str:
        answer = aws("sagemaker-runtime").invoke_endpoint(EndpointName=deployed["EndpointName"], Body=b"1")
        return answer["Body"].read().decode()

    return invoke


def approval(aws: Callable, arn: str) -> str:
    return aws("sagemaker").describe_model_package(ModelPackageName=arn)["ModelApprovalStatus"]


def last_package(aws: Callable, deployed: Outputs) -> dict[str, Any]:
    group = deployed["ModelPackageGroupName"]
    return aws("sagemaker").list_model_packages(ModelPackageGroupName=group)["ModelPackageSummaryList"][0]


# The tests must run in this order: each one depends on the state that the previous one leaves


def test_first_failure_leaves_no_endpoint(run: Callable, aws: Callable, deployed: Outputs) -> None:
    # given no endpoint; when the first model cannot be served
    done = run(hyperparameters={"max_depth": 1})
    # then the execution fails with SageMaker's reason, and no endpoint is left that would cost money and
    # block the next deployment
    assert (done["status"], done["error"]) == ("FAILED", "DeployFailed")
    assert "ping health check" in done["cause"]
    assert last_package(aws, deployed)["ModelApprovalStatus"] == "Rejected"
    with pytest.raises(ClientError, match="Could not find"):
        aws("sagemaker").describe_endpoint(EndpointName=deployed["EndpointName"])


def test_first_model_is_deployed(run: Callable, aws: Callable, ask: Callable) -> None:
    done = run(hyperparameters={"eta": 0.5})
    assert done["status"] == "SUCCEEDED", done
    assert done["output"]["deployed"] is True
    assert done["output"]["validation_rmse"] == 0.5
    assert done["output"]["champion_rmse"] is None
    assert approval(aws, done["output"]["model_package_arn"]) == "Approved"
    assert ask() == "0.5"


def test_worse_model_is_registered_and_not_deployed(run: Callable, aws: Callable, ask: Callable) -> None:
    done = run(hyperparameters={"eta": 0.6})
    assert done["status"] == "SUCCEEDED", done
    assert done["output"]["deployed"] is False
    assert (done["output"]["candidate_rmse"], done["output"]["champion_rmse"]) == (0.6, 0.5)
    assert approval(aws, done["output"]["model_package_arn"]) == "Rejected"
    assert ask() == "0.5"


def test_better_model_is_deployed(run: Callable, aws: Callable, ask: Callable) -> None:
    done = run(hyperparameters={"eta": 0.4}, hosts=1)
    assert done["status"] == "SUCCEEDED", done
    assert done["output"]["deployed"] is True
    assert done["output"]["hosts"] == 1
    assert approval(aws, done["output"]["model_package_arn"]) == "Approved"
    assert ask() == "0.4"


def test_execution_fails_with_the_tables_name_when_it_is_missing(run: Callable, ask: Callable) -> None:
    done = run(table="MISSING")
    assert (done["status"], done["error"]) == ("FAILED", "TrainFailed")
    assert "table MISSING does not exist" in done["cause"]
    assert ask() == "0.4"


def test_a_wrong_input_is_refused_before_anything_starts(run: Callable, aws: Callable) -> None:
    before = len(aws("sagemaker").list_training_jobs()["TrainingJobSummaries"])
    done = run(host=2)
    assert done["cause"].startswith("Accept: unknown field host, must be one of table, target, hosts")
    assert len(aws("sagemaker").list_training_jobs()["TrainingJobSummaries"]) == before


def test_model_that_cannot_be_served_leaves_the_old_one(
    run: Callable, aws: Callable, ask: Callable, deployed: Outputs
) -> None:
    done = run(hyperparameters={"eta": 0.3, "max_depth": 1})
    assert (done["status"], done["error"]) == ("FAILED", "DeployFailed")
    assert "ping health check" in done["cause"]
    assert last_package(aws, deployed)["ModelApprovalStatus"] == "Rejected"
    assert ask() == "0.4"


def test_throttled_calls_are_retried(
    start: Callable, end: Callable, aws: Callable, cloud: LocalCloud
) -> None:
    # given a SageMaker that throttles every request for a job
    cloud.configure(create_training_job_burst=0)
    states = aws("stepfunctions")

    def entered() -> list[str]:
        events = states.get_execution_history(executionArn=execution, maxResults=1000)["events"]
        return [e["stateEnteredEventDetails"]["name"] for e in events if "stateEnteredEventDetails" in e]

    try:
        # when the workflow starts a job
        execution = start(hyperparameters={"eta": 0.9})
        until(lambda: "BackOff" in entered(), "throttling of the job")
    finally:
        cloud.configure(create_training_job_burst=100, create_training_job_per_second=100.0)
    # then the call is retried later, and succeeds
    assert end(execution)["status"] == "SUCCEEDED"
    cloud.configure(create_training_job_per_second=None)


def test_failed_run_raises_the_alarm(aws: Callable) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        alarms = aws("cloudwatch").describe_alarms(AlarmNamePrefix=STACK)["MetricAlarms"]
        if "ALARM" in [alarm["StateValue"] for alarm in alarms if "RunFailed" in alarm["AlarmName"]]:
            return
        time.sleep(0.5)
    pytest.fail("the alarm for failed executions must fire within 120 seconds")


def test_workflow_fails_where_a_grant_is_missing(run: Callable, aws: Callable, deployed: Outputs) -> None:
    # given a workflow whose role may no longer register a model
    states, iam = aws("stepfunctions"), aws("iam")
    described = states.describe_state_machine(stateMachineArn=deployed["StateMachineArn"])
    role = described["roleArn"].rpartition("/")[2]
    (policy,) = iam.list_role_policies(RoleName=role)["PolicyNames"]
    document = iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
    poorer = json.loads(
        json.dumps(document).replace('"sagemaker:CreateModelPackage"', '"sagemaker:ListTags"')
    )
    assert poorer != document
    iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(poorer))
    try:
        done = run()
    finally:
        iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(document))
    # then the execution fails when it registers the model
    assert done["error"] == "RegisterFailed"
    assert "not authorized to perform: sagemaker:CreateModelPackage" in done["cause"]


def leftovers(aws: Callable, names: str) -> dict[str, list[str]]:
    """Return, by kind, the names of resources that contain the stack's name or `names`. Ended jobs are left
    out, because SageMaker keeps them."""
    sagemaker = aws("sagemaker")
    found = {
        "endpoints": [e["EndpointName"] for e in sagemaker.list_endpoints()["Endpoints"]],
        "configs": [e["EndpointConfigName"] for e in sagemaker.list_endpoint_configs()["EndpointConfigs"]],
        "models": [e["ModelName"] for e in sagemaker.list_models()["Models"]],
        "groups": [
            e["ModelPackageGroupName"]
            for e in sagemaker.list_model_package_groups()["ModelPackageGroupSummaryList"]
        ],
        "notebooks": [
            e["NotebookInstanceName"] for e in sagemaker.list_notebook_instances()["NotebookInstances"]
        ],
        "jobs": [
            e["TrainingJobName"]
            for status in ("InProgress", "Stopping")
            for e in sagemaker.list_training_jobs(StatusEquals=status)["TrainingJobSummaries"]
        ],
        "buckets": [e["Name"] for e in aws("s3").list_buckets()["Buckets"]],
        "secrets": [e["Name"] for e in aws("secretsmanager").list_secrets()["SecretList"]],
        "roles": [e["RoleName"] for e in aws("iam").list_roles()["Roles"]],
        "functions": [e["FunctionName"] for e in aws("lambda").list_functions()["Functions"]],
        "machines": [e["name"] for e in aws("stepfunctions").list_state_machines()["stateMachines"]],
        "topics": [e["TopicArn"].rpartition(":")[2] for e in aws("sns").list_topics()["Topics"]],
        "alarms": [e["AlarmName"] for e in aws("cloudwatch").describe_alarms()["MetricAlarms"]],
        "schedules": [e["Name"] for e in aws("scheduler").list_schedules()["Schedules"]],
        "logs": [e["logGroupName"] for e in aws("logs").describe_log_groups()["logGroups"]],
        "streams": [
            e["logStreamName"]
            for e in aws("logs").describe_log_streams(logGroupName="/aws/sagemaker/TrainingJobs")[
                "logStreams"
            ]
        ],
    }
    mine = {kind: [n for n in each if STACK in n or names in n] for kind, each in found.items()}
    return {kind: each for kind, each in mine.items() if each}


def test_destroy_deletes_the_stacks_resources_only_while_a_job_runs(
    cloud: LocalCloud, aws: Callable, deployed: Outputs
) -> None:
    # given a running job, a model that a notebook created, and a model of another stack, whose name begins
    # with this stack's name
    name, sagemaker = deployed["EndpointName"], aws("sagemaker")
    container = sagemaker.describe_model(ModelName=sagemaker.list_models()["Models"][0]["ModelName"])
    primary = {key: container["PrimaryContainer"][key] for key in ("Image", "ModelDataUrl")}
    for model in (f"{name}-notebook-1", f"{name}-2-0123456789ab"):
        sagemaker.create_model(
            ModelName=model, ExecutionRoleArn=container["ExecutionRoleArn"], PrimaryContainer=primary
        )
    slow = json.dumps({"hyperparameters": {"gamma": 600}})
    aws("stepfunctions").start_execution(stateMachineArn=deployed["StateMachineArn"], input=slow)
    deadline = time.monotonic() + 60
    while not sagemaker.list_training_jobs(StatusEquals="InProgress")["TrainingJobSummaries"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    # when the stack is destroyed with IAM enforced
    cloud.destroy(STACK, app=APP, context=CONTEXT)
    # then only the model of the other stack is left
    try:
        assert leftovers(aws, name) == {"models": [f"{name}-2-0123456789ab"]}
    finally:
        sagemaker.delete_model(ModelName=f"{name}-2-0123456789ab")
