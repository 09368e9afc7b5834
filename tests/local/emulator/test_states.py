"""State machines: tasks, roles, ends of executions, and alarms."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from aws_cdk import Aws
from botocore.exceptions import ClientError

from groundplan.states import Branch, Flow
from local.cloud import LocalCloud
from tests.support.deployments import (
    ACCOUNT,
    REGION,
    SYNC,
    Machine,
    assumed,
    job,
    names,
    role,
    task,
    training,
)
from tests.support.waiting import until


def test_task_waits_for_its_training_job(
    aws: Callable, enforced: None, image: str, bucket: str, execution_role: str
) -> None:
    # given enforced IAM and a state machine with the grants that AWS documents
    request = training(image, bucket, execution_role, seconds="0.2")
    machine = Machine(aws, task("sagemaker:createTrainingJob.sync", request), *SYNC)
    # when the state machine runs
    ended = machine.run()
    # then the execution's output is the description of the completed job, with times as AWS gives them
    assert ended["status"] == "SUCCEEDED", ended
    result = json.loads(ended["output"])
    assert result["TrainingJobStatus"] == "Completed"
    assert result["ModelArtifacts"]["S3ModelArtifacts"].endswith("model.tar.gz")
    assert result["ResourceConfig"]["VolumeSizeInGB"] == 1
    assert abs(result["TrainingEndTime"] / 1000 - time.time()) < 3600


def test_failed_job_fails_its_task_with_the_jobs_description(
    aws: Callable, image: str, bucket: str, execution_role: str
) -> None:
    request = training(image, bucket, execution_role, failure="no such table")
    ended = Machine(aws, task("sagemaker:createTrainingJob.sync", request), *SYNC).run()
    assert (ended["status"], ended["error"]) == ("FAILED", "States.TaskFailed")
    assert "no such table" in json.loads(ended["cause"])["FailureReason"]


@pytest.mark.parametrize("missing", ["sagemaker:CreateTrainingJob", "iam:PassRole", "events:*"])
def test_a_task_without_a_grant_is_refused(
    aws: Callable, enforced: None, image: str, bucket: str, execution_role: str, missing: str
) -> None:
    # given all grants except one
    grants = [grant for grant in SYNC if grant[0] != missing]
    request = training(image, bucket, execution_role)
    ended = Machine(aws, task("sagemaker:createTrainingJob.sync", request), *grants).run()
    # then the task fails with the error that AWS gives, and there is no job
    assert (ended["status"], ended["error"]) == ("FAILED", "SageMaker.AmazonSageMakerException")
    assert f"not authorized to perform: {missing.replace('*', 'PutTargets')}" in ended["cause"]
    with pytest.raises(ClientError):
        aws("sagemaker").describe_training_job(TrainingJobName=request["TrainingJobName"])


@pytest.mark.parametrize(
    ("resource", "invalid", "exceeded"),
    [
        ("sagemaker", "SageMaker.AmazonSageMakerException", "SageMaker.ResourceLimitExceededException"),
        ("aws-sdk:sagemaker", "SageMaker.SageMakerException", "SageMaker.ResourceLimitExceededException"),
    ],
)
def test_errors_have_the_sdks_names(
    cloud: LocalCloud,
    aws: Callable,
    image: str,
    bucket: str,
    execution_role: str,
    resource: str,
    invalid: str,
    exceeded: str,
) -> None:
    # an error without a class in the SDK, such as a validation error or throttling, has the name of the SDK's
    # base class
    ended = Machine(aws, task(f"{resource}:createModel", {"ModelName": "not a name!"})).run()
    assert (ended["status"], ended["error"]) == ("FAILED", invalid), ended
    # an error with a class in the SDK has the name of that class
    cloud.configure(training_instances=0)
    try:
        request = training(image, bucket, execution_role)
        ended = Machine(aws, task(f"{resource}:createTrainingJob", request)).run()
    finally:
        cloud.configure(training_instances=None)
    assert (ended["status"], ended["error"]) == ("FAILED", exceeded), ended


def test_sdk_task_calls_sagemaker(aws: Callable) -> None:
    state = task(
        "aws-sdk:sagemaker:listEndpoints", {"MaxResults": 1}, Output="{% $states.result.Endpoints %}"
    )
    ended = Machine(aws, state).run()
    assert ended["status"] == "SUCCEEDED", ended
    assert json.loads(ended["output"]) == []


@pytest.mark.parametrize("end", ["the execution is stopped", "the task's time is over"])
def test_job_is_stopped_when_its_task_ends(
    aws: Callable, image: str, bucket: str, execution_role: str, end: str
) -> None:
    # given a task that waits for a long job
    request = training(image, bucket, execution_role, seconds="100")
    limit = {"TimeoutSeconds": 3} if "time" in end else {}
    machine = Machine(aws, task("sagemaker:createTrainingJob.sync", request, **limit), *SYNC)
    execution = machine.start()
    name = request["TrainingJobName"]

    def running() -> bool:
        listed = aws("sagemaker").list_training_jobs(NameContains=name)["TrainingJobSummaries"]
        return bool(listed)

    until(running, "the job's start")
    if "stopped" in end:
        machine.stop(execution)
    # then the job is stopped, and the status of the execution does not change
    assert job(aws, name)["TrainingJobStatus"] == "Stopped"
    ended = until(lambda: machine.ended(execution), "the execution's end")
    wanted = ("ABORTED", None) if "stopped" in end else ("FAILED", "States.Timeout")
    time.sleep(0.5)
    assert (ended["status"], ended.get("error")) == wanted
    assert machine.described(execution)["status"] == wanted[0]


def test_every_integration_acts_under_the_machines_role(aws: Callable, enforced: None) -> None:
    # given a topic and a table
    topic = aws("sns").create_topic(Name=next(names))["TopicArn"]
    table = next(names)
    aws("dynamodb").create_table(
        TableName=table,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    item = {"TableName": table, "Item": {"id": {"S": "1"}}}
    table_arn = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{table}"
    publish, put = ("sns:Publish", topic), ("dynamodb:PutItem", table_arn)
    message = {"TopicArn": topic, "Message": "m"}
    tasks = [
        (task("sns:publish", message), "SNS.AuthorizationErrorException", publish),
        (task("dynamodb:putItem", item), "DynamoDB.AmazonDynamoDBException", put),
        (task("aws-sdk:dynamodb:putItem", item), "DynamoDb.DynamoDbException", put),
    ]
    for state, error, grant in tasks:
        # then the task is refused without the grant, and succeeds with it
        refused = Machine(aws, state).run()
        assert (refused["status"], refused["error"]) == ("FAILED", error), refused
        assert f"not authorized to perform: {grant[0]}" in refused["cause"]
        done = Machine(aws, state, grant).run()
        assert done["status"] == "SUCCEEDED", done


def test_execution_times_out(aws: Callable) -> None:
    machine = Machine(aws, {"Type": "Wait", "Seconds": 4}, TimeoutSeconds=1)
    ended = machine.run()
    assert (ended["status"], ended["error"]) == ("TIMED_OUT", "States.Timeout")


def test_alarm_on_failed_executions_fires_for_its_state_machine_only(aws: Callable) -> None:
    # given two state machines that fail, and an alarm on one of them that notifies a queue
    failing = {"Type": "Fail", "Error": "Wrong", "Cause": "as it should"}
    watched, other = (Machine(aws, failing, QueryLanguage="JSONata") for _ in range(2))
    topic = aws("sns").create_topic(Name=next(names))["TopicArn"]
    queue = aws("sqs").create_queue(QueueName=next(names))["QueueUrl"]
    queue_arn = aws("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
    aws("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue_arn["Attributes"]["QueueArn"])
    alarm = next(names)
    aws("cloudwatch").put_metric_alarm(
        AlarmName=alarm,
        Namespace="AWS/States",
        MetricName="ExecutionsFailed",
        Dimensions=[{"Name": "StateMachineArn", "Value": watched.arn}],
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        AlarmActions=[topic],
    )

    def state() -> str:
        return aws("cloudwatch").describe_alarms(AlarmNames=[alarm])["MetricAlarms"][0]["StateValue"]

    # when the other state machine fails, then the alarm does not fire; when the alarm's own state machine
    # fails, then the alarm fires
    other.run()
    assert state() != "ALARM"
    watched.run()
    until(lambda: state() == "ALARM", "the change to ALARM")
    told = until(
        lambda: aws("sqs").receive_message(QueueUrl=queue).get("Messages"), "the alarm's notification"
    )
    assert alarm in told[0]["Body"]


# Building blocks of the construct library


class Blocks(Machine):
    """A state machine that is built with `Flow`, from the building blocks of the construct library."""

    def __init__(self, aws: Callable, flow: Flow, *grants: tuple[str, str]) -> None:
        self._states = aws("stepfunctions")
        definition = json.dumps(flow.definition("Begin", seconds=100)).replace(Aws.PARTITION, "aws")
        self.arn = self._states.create_state_machine(
            name=next(names), definition=definition, roleArn=role(aws, "states.amazonaws.com", *grants)
        )["stateMachineArn"]


def test_branches_and_iterations_run_and_pass_on_their_outputs(aws: Callable, enforced: None) -> None:
    # given two parallel branches, followed by a Map state with an iteration for each of two parts
    def branch(name: str, output: str) -> Branch:
        inside = Branch(name)
        inside.call(name, "aws-sdk:sagemaker:listEndpoints", {"MaxResults": 1}, None, output=output)
        return inside

    flow = Flow()
    flow.settle("Begin", {**Flow.UNFAILED, "at": "Begin", "parts": [1, 2]}, "Both")
    both = [branch("Left", "left"), branch("Right", "{% $type($states.result.Endpoints) %}")]
    flow.parallel("Both", both, "Each", assign={"sides": "{% $states.result %}"})
    item = {"part": "{% $states.context.Map.Item.Value %}", "of": "{% $sides[1] %}"}
    part = branch("Part", "{% $states.input.of & $string($states.input.part) %}")
    flow.each(
        "Each",
        "{% $parts %}",
        part,
        "Report",
        at_once=2,
        select=item,
        assign={"found": "{% $states.result %}"},
    )
    flow.report("Report", {"sides": "{% $sides %}", "found": "{% $found %}"})
    # when the state machine runs
    ended = Blocks(aws, flow, ("sagemaker:ListEndpoints", "*")).run()
    # then the outputs of the branches and of the iterations are in order
    assert ended["status"] == "SUCCEEDED", ended
    assert json.loads(ended["output"]) == {"sides": ["left", "array"], "found": ["array1", "array2"]}


def test_each_branch_has_its_history_and_its_own_variables(aws: Callable, enforced: None) -> None:
    # given two branches that assign different values to the variable `mine`, before either branch reads it
    def branch(name: str) -> Branch:
        inside = Branch(name)
        inside.call(name, "aws-sdk:sagemaker:listEndpoints", {}, f"{name} waits", assign={"mine": name})
        inside.pause(f"{name} waits", 1, f"{name} reads")
        inside.call(f"{name} reads", "aws-sdk:sagemaker:listEndpoints", {}, None, output="{% $mine %}")
        return inside

    flow = Flow()
    flow.settle("Begin", {**Flow.UNFAILED, "at": "Begin"}, "Both")
    flow.parallel(
        "Both", [branch("Left"), branch("Right")], "Report", assign={"sides": "{% $states.result %}"}
    )
    flow.report("Report", "{% $sides %}")
    blocks = Blocks(aws, flow, ("sagemaker:ListEndpoints", "*"))
    # when the state machine runs
    ended = blocks.run()
    # then each branch has read its own value
    assert json.loads(ended["output"]) == ["Left", "Right"]
    # and the history has every state of both branches, entered before it is exited, with ids in order
    history = aws("stepfunctions").get_execution_history(executionArn=ended["executionArn"], maxResults=1000)
    assert [event["id"] for event in history["events"]] == [*range(1, len(history["events"]) + 1)]
    seen: dict[str, list[str]] = {}
    for event in history["events"]:
        for kind in ("Entered", "Exited"):
            if details := event.get(f"state{kind}EventDetails"):
                seen.setdefault(details["name"], []).append(event["type"])
    for side in ("Left", "Right"):
        assert seen[side] == seen[f"{side} reads"] == ["TaskStateEntered", "TaskStateExited"]
        assert seen[f"{side} waits"] == ["WaitStateEntered", "WaitStateExited"]


def test_failed_branch_fails_the_machine_with_its_reason(aws: Callable) -> None:
    inside = Branch("Missing")
    inside.call("Missing", "aws-sdk:sagemaker:describeEndpoint", {"EndpointName": "nobody"}, None)
    flow = Flow()
    flow.settle("Begin", {**Flow.UNFAILED, "at": "Begin"}, "Both")
    flow.parallel("Both", [inside], "Report")
    flow.report("Report", {})
    ended = Blocks(aws, flow, ("sagemaker:DescribeEndpoint", "*")).run()
    assert (ended["status"], ended["error"]) == ("FAILED", "BothFailed"), ended
    assert ended["cause"].startswith("Both: SageMaker.SageMakerException")
    assert "nobody" in ended["cause"]


def dataset(aws: Callable, bucket: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Put rows into an object in the bucket; return its key, and the ItemReader that reads the rows."""
    key = f"{next(names)}.jsonl"
    aws("s3").put_object(Bucket=bucket, Key=key, Body="\n".join(map(json.dumps, rows)))
    arguments = {"Bucket": bucket, "Key": "{% $key %}"}
    reader = {"Resource": "arn:aws:states:::s3:getObject", "ReaderConfig": {"InputType": "JSONL"}}
    return {"key": key, "reader": {**reader, "Arguments": arguments}}


def many(data: dict[str, Any], output: str, **options: Any) -> Flow:
    """Return a state machine with a distributed Map over the rows of a dataset."""
    branch = Branch("Row")
    branch.settle("Row", {"row": "{% $states.input %}"}, "Answer", pass_on=True)
    branch.report("Answer", output)
    flow = Flow()
    flow.settle("Begin", {**Flow.UNFAILED, "at": "Begin", "key": data["key"], "factor": 10}, "Many")
    found = {"found": "{% $states.result %}"}
    flow.each_of_many("Many", data["reader"], branch, "Report", at_once=4, assign=found, **options)
    flow.report("Report", "{% $found %}")
    return flow


def test_distributed_map_selects_and_batches_the_rows_of_a_dataset(aws: Callable, bucket: str) -> None:
    data = dataset(aws, bucket, [{"n": number} for number in range(5)])
    # given a Map that computes an input from each row and a variable, and groups rows in batches of two
    select = {"n": "{% $states.context.Map.Item.Value.n * $factor %}"}
    flow = many(data, "{% [$row.Items.n] %}", select=select, batch=2)
    # when the machine runs, then each child execution gets one batch, and the results are in order
    ended = Blocks(aws, flow, ("s3:GetObject", "*"), ("states:StartExecution", "*")).run()
    assert ended["status"] == "SUCCEEDED", ended
    assert json.loads(ended["output"]) == [[0, 10], [20, 30], [40]]


def test_distributed_map_fails_above_its_tolerance(aws: Callable, bucket: str) -> None:
    data = dataset(aws, bucket, [{"n": number} for number in range(4)])
    # given a Map whose processing fails for one of four rows
    output = "{% $row.n = 2 ? $error('bad row') : $row.n %}"
    for percent, status in ((25, "SUCCEEDED"), (24, "FAILED")):
        ended = Blocks(aws, many(data, output, tolerated_percent=percent), ("s3:GetObject", "*")).run()
        assert ended["status"] == status, ended
    assert ended["cause"].startswith("Many: States.ExceedToleratedFailureThreshold")


def test_result_writer_is_refused_by_name(aws: Callable, bucket: str) -> None:
    writer = {"Resource": "arn:aws:states:::s3:putObject", "Arguments": {"Bucket": bucket, "Prefix": "out"}}
    with pytest.raises(ClientError, match="Many: ResultWriter is not implemented in the local cloud"):
        Blocks(aws, many(dataset(aws, bucket, []), "{% $row.n %}", results=writer))


@pytest.fixture
def callback(aws: Callable) -> tuple[Blocks, Callable[[], str]]:
    """A state machine that sends a message and waits for its callback, and a function that returns the task
    token in the next message."""
    sqs = aws("sqs")
    queue = sqs.create_queue(QueueName=next(names))["QueueUrl"]
    flow = Flow()
    flow.settle("Begin", {**Flow.UNFAILED, "at": "Begin"}, "Ask")
    question = {"QueueUrl": queue, "MessageBody": {"token": "{% $states.context.Task.Token %}"}}
    answer = {"answer": "{% $states.result %}"}
    flow.wait_for_callback(
        "Ask", "sqs:sendMessage", question, "Report", seconds=60, heartbeat=2, assign=answer
    )
    flow.report("Report", "{% $answer %}")

    def token() -> str:
        asked = until(
            lambda: sqs.receive_message(QueueUrl=queue).get("Messages"), "the message with the task token"
        )
        return json.loads(asked[0]["Body"])["token"]

    return Blocks(aws, flow, ("sqs:SendMessage", "*")), token


def test_task_waits_for_a_callback_that_sends_heartbeats(aws: Callable, callback: tuple) -> None:
    machine, token = callback
    states, execution = aws("stepfunctions"), machine.start()
    asked = token()
    # when the worker takes longer than the heartbeat timeout, and sends heartbeats
    for _ in range(6):
        states.send_task_heartbeat(taskToken=asked)
        time.sleep(0.5)
    states.send_task_success(taskToken=asked, output=json.dumps({"bids": 24}))
    # then the worker's answer is the result of the task
    ended = until(lambda: machine.ended(execution), "the execution's end")
    assert ended["status"] == "SUCCEEDED", ended
    assert json.loads(ended["output"]) == {"bids": 24}


def test_callback_needs_a_grant_for_its_state_machine(aws: Callable, callback: tuple, enforced: None) -> None:
    # given a role that may send task results for this state machine, and a role that may send them for
    # another state machine
    machine, token = callback
    execution = machine.start()
    answer = {"taskToken": token(), "output": "1"}
    allowed = assumed(aws, ("states:SendTaskSuccess", machine.arn))
    other = assumed(aws, ("states:SendTaskSuccess", f"{machine.arn}-2"))
    # then only the first role can end the task
    with pytest.raises(ClientError, match="AccessDenied"):
        aws("stepfunctions", **other).send_task_success(**answer)
    aws("stepfunctions", **allowed).send_task_success(**answer)
    ended = until(lambda: machine.ended(execution), "the execution's end")
    assert ended["status"] == "SUCCEEDED", ended


def test_task_fails_with_the_error_of_its_callback(aws: Callable, callback: tuple) -> None:
    machine, token = callback
    execution = machine.start()
    aws("stepfunctions").send_task_failure(taskToken=token(), error="NoBids", cause="no prices")
    ended = until(lambda: machine.ended(execution), "the execution's end")
    assert (ended["status"], ended["cause"]) == ("FAILED", "Ask: NoBids no prices")


def test_callback_without_heartbeats_fails_long_before_its_timeout(callback: tuple) -> None:
    machine, token = callback
    execution = machine.start()
    token()
    ended = until(lambda: machine.ended(execution), "the execution's end")
    assert (ended["status"], ended["error"]) == ("FAILED", "AskFailed")
    assert ended["cause"].startswith("Ask: States.HeartbeatTimeout")
    assert (ended["stopDate"] - ended["startDate"]).total_seconds() < 40
