"""Each hook into MiniStack does what it is there for, and says its own name when MiniStack has moved."""

from __future__ import annotations

import io
import itertools
import json
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from local.cloud import LocalCloud
from tests.local.conftest import until
from tooling import envs

ACCOUNT, REGION = "000000000000", "eu-west-1"
ECR = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
PROGRAM = """
import http.server, json, os, pathlib, sys, time
base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
if sys.argv[1] == "train":
    asked = json.loads((base / "input/config/hyperparameters.json").read_text())
    time.sleep(float(asked.get("seconds", "0")))
    if "failure" in asked:
        (base / "output/failure").write_text(asked["failure"])
        sys.exit(1)
    (base / "model/model.txt").write_text("a model")
else:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if os.environ.get("HEALTHY", "yes") == "yes" else 500)
            self.send_header("Content-Length", "0")
            self.end_headers()
        def do_POST(self):
            answer = os.environ.get("ANSWER", "none").encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)
    address = os.environ.get("BIND_HOST", "0.0.0.0"), int(os.environ["SAGEMAKER_BIND_TO_PORT"])
    http.server.ThreadingHTTPServer(address, Handler).serve_forever()
"""
names = (f"hooks-{number}" for number in itertools.count())


# The contract itself ----------------------------------------------------------------------------------

HOOKS = [
    "sagemaker_service",
    "absent_image_is_an_error",
    "functions_act_under_their_role",
    "the_loopback_is_a_secure_transport",
    "a_logs_stream_is_a_resource",
    "executions",
    "execution_metrics",
    "alarms_are_judged_as_aws_does",
    "tasks_call_sagemaker",
    "tasks_act_under_the_machines_role",
    "sagemaker_resource_types",
    "scaling_service",
    "secrets_are_referred_to_by_arn",
    "unfinished_stacks_end",
    "viewers_use_https",
    "distributions_reach_apis",
    "functions_fail_by_their_own_exception",
    "layers_are_unpacked_once",
    "functions_keep_what_their_template_says",
    "failed_events_reach_the_dead_letter_queue_as_they_came",
    "events_are_tried_again",
    "streams_outlive_the_server",
    "streams_are_delivered_as_lambda_does",
    "a_functions_writes_are_numbered",
]
INSTALL = """
import importlib, sys
from local.emulator import hooks
moved = sys.argv[1:]
touched = set()
real = hooks.touch
def touch(name, *parameters):
    touched.add(name)
    if name in moved:
        name += "_that_was_renamed"
    return real(name, *parameters)
hooks.touch = touch
try:
    hooks.install(None)
    for each in sorted(touched):
        print(each)
except hooks.Moved as error:
    print("MOVED", error)
"""


def test_every_hook_finds_its_place_in_the_pinned_ministack(in_the_clouds_environment: Callable) -> None:
    # when all hooks are put in place; then none has moved, and the list above is complete
    assert "MOVED" not in in_the_clouds_environment(INSTALL).stdout
    found = in_the_clouds_environment("from local.emulator import hooks; print(*hooks.HOOKS)").stdout
    assert found.split() == HOOKS


@pytest.mark.parametrize(
    ("hook", "place"),
    [
        ("sagemaker_service", "core.router.SERVICE_PATTERNS"),
        ("absent_image_is_an_error", "services.ecr._describe_images"),
        ("functions_act_under_their_role", "core.lambda_runtime.execution_credentials"),
        ("the_loopback_is_a_secure_transport", "app.pin_request_origin"),
        ("a_logs_stream_is_a_resource", "core.iam_actions.extract_resource_arn"),
        ("executions", "services.stepfunctions._run_execution"),
        ("execution_metrics", "services.cloudwatch.record_metric"),
        ("alarms_are_judged_as_aws_does", "services.cloudwatch._evaluate_alarm"),
        ("tasks_call_sagemaker", "services.stepfunctions._invoke_aws_sdk_integration"),
        ("tasks_act_under_the_machines_role", "app.call_service_handler_sync"),
        ("sagemaker_resource_types", "services.cloudformation.provisioners._RESOURCE_HANDLERS"),
        ("scaling_service", "services.cloudwatch._metrics"),
        ("secrets_are_referred_to_by_arn", "services.secretsmanager._secrets"),
        ("unfinished_stacks_end", "services.cloudformation.load_persisted_state"),
        ("viewers_use_https", "services.cloudfront._check_viewer_protocol_policy"),
        ("distributions_reach_apis", "services.cloudfront._fetch_from_origin"),
        ("functions_fail_by_their_own_exception", "services.lambda_svc._execute_function_warm"),
        ("layers_are_unpacked_once", "core.lambda_runtime.zipfile"),
        ("functions_keep_what_their_template_says", "services.lambda_svc._functions"),
        (
            "failed_events_reach_the_dead_letter_queue_as_they_came",
            "services.lambda_svc._route_async_failure",
        ),
        ("events_are_tried_again", "services.eventbridge._dispatch_to_lambda"),
        ("streams_outlive_the_server", "services.dynamodb._stream_records"),
        ("streams_are_delivered_as_lambda_does", "services.lambda_svc._poll_dynamodb_streams"),
        ("a_functions_writes_are_numbered", "services.lambda_svc.acquire_worker"),
    ],
)
def test_a_hook_whose_place_moved_is_named(
    hook: str, place: str, in_the_clouds_environment: Callable
) -> None:
    # given a MiniStack in which the hook's place has another name; then starting fails and says which hook
    said = in_the_clouds_environment(INSTALL, place).stdout
    assert said.startswith(f"MOVED hook '{hook}': MiniStack has no {place}"), said


def test_a_hook_whose_function_takes_other_arguments_is_named(in_the_clouds_environment: Callable) -> None:
    # given a MiniStack whose function lost a parameter
    program = "import ministack.services.ecr as ecr\necr._describe_images = lambda request: None\n" + INSTALL
    said = in_the_clouds_environment(program).stdout
    assert "hook 'absent_image_is_an_error'" in said
    assert "takes (request), not (data)" in said


# What the tests below need ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def image(cloud: LocalCloud, aws: Callable, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A container that trains and serves as its settings say, pushed to the cloud's ECR."""
    context = tmp_path_factory.mktemp("image")
    (context / "program.py").write_text(PROGRAM)
    (context / "Dockerfile").write_text(
        "FROM public.ecr.aws/docker/library/python:3.11-slim\nENV PYTHONUNBUFFERED=1\n"
        'COPY program.py /opt/program.py\nENTRYPOINT ["python", "/opt/program.py"]\n'
    )
    aws("ecr").create_repository(repositoryName="hooks")
    docker, address = cloud.env()["CDK_DOCKER"], f"{ECR}/hooks:1"
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(Path.home())} | cloud.env()
    for command in (["build", "--tag", address, str(context)], ["push", address]):
        subprocess.run([docker, *command], check=True, env=environment, cwd=envs.ROOT)
    return address


@pytest.fixture(scope="module", autouse=True)
def unhurried(cloud: LocalCloud) -> Iterator[None]:
    """Quotas and paces that do not slow a test down."""
    cloud.configure(create_training_job_burst=100, training_stop_grace=2.0)
    yield
    cloud.configure(create_training_job_burst=None, training_stop_grace=None)


@pytest.fixture(scope="module")
def bucket(aws: Callable) -> str:
    where = {"LocationConstraint": REGION}
    aws("s3").create_bucket(Bucket="hooks-bucket", CreateBucketConfiguration=where)
    return "hooks-bucket"


def role(aws: Callable, service: str, *grants: tuple[str, str]) -> str:
    """A role that the service may assume and that may do just this: `(action, resource)` pairs."""
    name = next(names)
    trust = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    made = aws("iam").create_role(RoleName=name, AssumeRolePolicyDocument=policy(trust))
    if grants:
        statements = [{"Effect": "Allow", "Action": action, "Resource": on} for action, on in grants]
        aws("iam").put_role_policy(RoleName=name, PolicyName="grants", PolicyDocument=policy(*statements))
    return made["Role"]["Arn"]


def policy(*statements: dict) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


@pytest.fixture(scope="module")
def execution_role(aws: Callable) -> str:
    """What a training job and an endpoint need of the cloud in these tests."""
    return role(
        aws,
        "sagemaker.amazonaws.com",
        ("s3:*", "*"),
        ("logs:*", "*"),
        ("cloudwatch:PutMetricData", "*"),
        ("ecr:*", "*"),
    )


def training(image: str, bucket: str, execution_role: str, **asked: str) -> dict[str, Any]:
    return {
        "TrainingJobName": next(names),
        "AlgorithmSpecification": {"TrainingImage": image, "TrainingInputMode": "File"},
        "RoleArn": execution_role,
        "HyperParameters": asked,
        "OutputDataConfig": {"S3OutputPath": f"s3://{bucket}/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 120},
    }


class Machine:
    """A state machine of one task, under a role that may do what is granted."""

    def __init__(self, aws: Callable, state: dict[str, Any], *grants: tuple[str, str], **definition: Any):
        self._states = aws("stepfunctions")
        document = {"StartAt": "Only", "States": {"Only": {"End": True} | state}, "QueryLanguage": "JSONata"}
        self.arn = self._states.create_state_machine(
            name=next(names),
            definition=json.dumps(document | definition),
            roleArn=role(aws, "states.amazonaws.com", *grants),
        )["stateMachineArn"]

    def start(self) -> str:
        return self._states.start_execution(stateMachineArn=self.arn)["executionArn"]

    def stop(self, execution: str) -> None:
        self._states.stop_execution(executionArn=execution)

    def described(self, execution: str) -> dict[str, Any]:
        return self._states.describe_execution(executionArn=execution)

    def run(self) -> dict[str, Any]:
        """Start an execution; returns its description when it has ended."""
        execution = self.start()
        return until(lambda: self.ended(execution), "the execution's end")

    def ended(self, execution: str) -> dict[str, Any] | None:
        described = self.described(execution)
        return described if described["status"] != "RUNNING" else None


def task(resource: str, arguments: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"Type": "Task", "Resource": f"arn:aws:states:::{resource}", "Arguments": arguments} | fields


RULE = f"arn:aws:events:{REGION}:{ACCOUNT}:rule/StepFunctionsGetEventsForSageMakerTrainingJobsRule"
SYNC = (
    ("sagemaker:CreateTrainingJob", "*"),
    ("sagemaker:DescribeTrainingJob", "*"),
    ("sagemaker:StopTrainingJob", "*"),
    ("iam:PassRole", "*"),
    ("events:*", RULE),
)
"""What AWS documents that a state machine needs for `createTrainingJob.sync`."""


# SageMaker over HTTP ----------------------------------------------------------------------------------


def test_sagemaker_answers_at_the_clouds_address(aws: Callable) -> None:
    assert aws("sagemaker").list_training_jobs()["TrainingJobSummaries"] is not None
    with pytest.raises(ClientError, match="not found"):
        aws("sagemaker-runtime").invoke_endpoint(EndpointName="nobody", Body=b"")


def test_a_role_may_do_in_sagemaker_what_its_policy_grants(
    cloud: LocalCloud, aws: Callable, enforced: None
) -> None:
    # given a role that may list models, and nothing else
    acting = aws("sagemaker", **assumed(aws, ("sagemaker:ListModels", "*")))
    # then it lists them, and is refused anything else by AWS's own sentence
    assert acting.list_models(NameContains="nobody")["Models"] == []
    with pytest.raises(ClientError, match="not authorized to perform: sagemaker:DeleteModel on resource: "
                       f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:model/mine") as refused:  # fmt: skip
        acting.delete_model(ModelName="mine")
    assert refused.value.response["Error"]["Code"] == "AccessDeniedException"


def test_who_does_not_sign_is_refused(cloud: LocalCloud, aws: Callable, enforced: None) -> None:
    unsigned = {"config": Config(signature_version=UNSIGNED)}
    sagemaker = boto3.client("sagemaker", endpoint_url=cloud.endpoint_url, region_name=REGION, **unsigned)
    with pytest.raises(ClientError) as refused:
        sagemaker.list_models()
    assert refused.value.response["Error"]["Code"] == "MissingAuthenticationTokenException"


def test_only_a_role_that_trusts_sagemaker_is_assumed(
    aws: Callable, enforced: None, image: str, bucket: str
) -> None:
    # given a role that trusts another service
    stranger = role(aws, "lambda.amazonaws.com", ("s3:*", "*"))
    request = training(image, bucket, stranger)
    try:
        aws("sagemaker").create_training_job(**request)
    except ClientError as error:
        reason = str(error)
    else:
        reason = job(aws, request["TrainingJobName"])["FailureReason"]
    # then the job does not run, and the reason says why
    assert "Could not assume role" in reason


def job(aws: Callable, name: str) -> dict[str, Any]:
    """A training job when it has ended."""

    def ended() -> dict[str, Any] | None:
        found = aws("sagemaker").describe_training_job(TrainingJobName=name)
        return found if found["TrainingJobStatus"] in ("Completed", "Failed", "Stopped") else None

    return until(ended, "the job's end")


def test_an_absent_image_is_an_error(aws: Callable, image: str) -> None:
    with pytest.raises(ClientError) as refused:
        aws("ecr").describe_images(repositoryName="hooks", imageIds=[{"imageTag": "absent"}])
    assert refused.value.response["Error"]["Code"] == "ImageNotFoundException"
    assert aws("ecr").describe_images(repositoryName="hooks", imageIds=[{"imageTag": "1"}])["imageDetails"]


def test_a_bucket_that_wants_encrypted_requests_is_reached(cloud: LocalCloud, aws: Callable) -> None:
    # given a bucket as the house makes it, and a role that may read it
    name = next(names)
    aws("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    aws("s3").put_object(Bucket=name, Key="key", Body=b"content")
    arn = f"arn:aws:s3:::{name}"
    deny = {"Effect": "Deny", "Principal": {"AWS": "*"}, "Action": "s3:*", "Resource": [arn, f"{arn}/*"]}
    insecure = {"Condition": {"Bool": {"aws:SecureTransport": "false"}}}
    aws("s3").put_bucket_policy(Bucket=name, Policy=policy(deny | insecure))
    reader = assumed(aws, ("s3:GetObject", f"{arn}/*"))
    cloud.enforce_iam(True)
    try:
        # then it reads, and may do no more
        assert aws("s3", **reader).get_object(Bucket=name, Key="key")["Body"].read() == b"content"
        with pytest.raises(ClientError, match="AccessDenied"):
            aws("s3", **reader).put_object(Bucket=name, Key="key", Body=b"other")
    finally:
        cloud.enforce_iam(False)


def test_a_grant_may_name_the_streams_of_a_log(cloud: LocalCloud, aws: Callable) -> None:
    # given a log with two streams, and a role that may delete those whose names begin with "mine"
    group = next(names)
    aws("logs").create_log_group(logGroupName=group)
    for stream in ("mine-1", "other-1"):
        aws("logs").create_log_stream(logGroupName=group, logStreamName=stream)
    streams = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}:log-stream:mine-*"
    acting = aws("logs", **assumed(aws, ("logs:DeleteLogStream", streams)))
    cloud.enforce_iam(True)
    try:
        # then it deletes that one, and is refused the other
        acting.delete_log_stream(logGroupName=group, logStreamName="mine-1")
        with pytest.raises(ClientError, match="log-stream:other-1"):
            acting.delete_log_stream(logGroupName=group, logStreamName="other-1")
    finally:
        cloud.enforce_iam(False)


def assumed(aws: Callable, *grants: tuple[str, str]) -> dict[str, str]:
    """The keys of a role that may do just this."""
    arn = role(aws, "lambda.amazonaws.com", *grants)
    trust = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    aws("iam").update_assume_role_policy(RoleName=arn.rpartition("/")[2], PolicyDocument=policy(trust))
    session = aws("sts").assume_role(RoleArn=arn, RoleSessionName="someone")["Credentials"]
    return {
        "aws_access_key_id": session["AccessKeyId"],
        "aws_secret_access_key": session["SecretAccessKey"],
        "aws_session_token": session["SessionToken"],
    }


# Step Functions ---------------------------------------------------------------------------------------


def test_a_task_waits_for_its_training_job(
    aws: Callable, enforced: None, image: str, bucket: str, execution_role: str
) -> None:
    # given IAM enforced and a state machine with the grants that AWS documents
    request = training(image, bucket, execution_role, seconds="0.2")
    machine = Machine(aws, task("sagemaker:createTrainingJob.sync", request), *SYNC)
    # when it runs
    ended = machine.run()
    # then its result is the description of the completed job, with times as AWS gives them
    assert ended["status"] == "SUCCEEDED", ended
    result = json.loads(ended["output"])
    assert result["TrainingJobStatus"] == "Completed"
    assert result["ModelArtifacts"]["S3ModelArtifacts"].endswith("model.tar.gz")
    assert result["ResourceConfig"]["VolumeSizeInGB"] == 1
    assert abs(result["TrainingEndTime"] / 1000 - time.time()) < 3600


def test_a_failed_job_fails_its_task_with_the_jobs_description(
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
    # given all grants but one
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
    # an error that the SDK has no class for, as validation's and throttling's, is its base class
    ended = Machine(aws, task(f"{resource}:createModel", {"ModelName": "not a name!"})).run()
    assert (ended["status"], ended["error"]) == ("FAILED", invalid), ended
    # one that it has a class for is that class
    cloud.configure(training_instances=0)
    try:
        request = training(image, bucket, execution_role)
        ended = Machine(aws, task(f"{resource}:createTrainingJob", request)).run()
    finally:
        cloud.configure(training_instances=None)
    assert (ended["status"], ended["error"]) == ("FAILED", exceeded), ended


def test_an_sdk_task_calls_sagemaker(aws: Callable) -> None:
    state = task(
        "aws-sdk:sagemaker:listEndpoints", {"MaxResults": 1}, Output="{% $states.result.Endpoints %}"
    )
    ended = Machine(aws, state).run()
    assert ended["status"] == "SUCCEEDED", ended
    assert json.loads(ended["output"]) == []


@pytest.mark.parametrize("end", ["the execution is stopped", "the task's time is over"])
def test_a_job_ends_with_its_task(
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
    # then the job is stopped, and the execution keeps the end that it came to
    assert job(aws, name)["TrainingJobStatus"] == "Stopped"
    ended = until(lambda: machine.ended(execution), "the execution's end")
    wanted = ("ABORTED", None) if "stopped" in end else ("FAILED", "States.Timeout")
    time.sleep(0.5)
    assert (ended["status"], ended.get("error")) == wanted
    assert machine.described(execution)["status"] == wanted[0]


def test_every_integration_acts_under_the_machines_role(aws: Callable, enforced: None) -> None:
    # given a topic and a table, and machines that may use neither
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
        # then without the grant the task is refused, and with it the task is done
        refused = Machine(aws, state).run()
        assert (refused["status"], refused["error"]) == ("FAILED", error), refused
        assert f"not authorized to perform: {grant[0]}" in refused["cause"]
        done = Machine(aws, state, grant).run()
        assert done["status"] == "SUCCEEDED", done


def test_an_execution_ends_when_its_time_is_over(aws: Callable) -> None:
    machine = Machine(aws, {"Type": "Wait", "Seconds": 4}, TimeoutSeconds=1)
    ended = machine.run()
    assert (ended["status"], ended["error"]) == ("TIMED_OUT", "States.Timeout")


def test_an_alarm_on_failed_executions_goes_off_for_its_own_machine(aws: Callable) -> None:
    # given two machines that fail, and an alarm on one of them that tells a queue
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

    # when the other one fails, then nothing; when its own does, then it goes off
    other.run()
    assert state() != "ALARM"
    watched.run()
    until(lambda: state() == "ALARM", "the alarm")
    told = until(lambda: aws("sqs").receive_message(QueueUrl=queue).get("Messages"), "the message")
    assert alarm in told[0]["Body"]


# CloudFormation ---------------------------------------------------------------------------------------


class Stack:
    def __init__(self, aws: Callable):
        self._formation, self.name = aws("cloudformation"), next(names)

    def create(self, resources: dict[str, Any], outputs: dict[str, Any] | None = None) -> str:
        self._formation.create_stack(StackName=self.name, TemplateBody=self._template(resources, outputs),
                                     Tags=[{"Key": "team", "Value": "ours"}])  # fmt: skip
        return self.settled()

    def update(self, resources: dict[str, Any], outputs: dict[str, Any] | None = None) -> str:
        self._formation.update_stack(StackName=self.name, TemplateBody=self._template(resources, outputs),
                                     Tags=[{"Key": "team", "Value": "ours"}])  # fmt: skip
        return self.settled()

    def delete(self) -> None:
        self._formation.delete_stack(StackName=self.name)
        until(
            lambda: not self._described() or self._described()["StackStatus"] == "DELETE_COMPLETE", "the end"
        )

    def settled(self) -> str:
        def status() -> str | None:
            found = self._described()["StackStatus"]
            return None if found.endswith("_IN_PROGRESS") else found

        return until(status, "the stack's end")

    @property
    def outputs(self) -> dict[str, str]:
        return {one["OutputKey"]: one["OutputValue"] for one in self._described().get("Outputs", [])}

    @property
    def reasons(self) -> str:
        events = self._formation.describe_stack_events(StackName=self.name)["StackEvents"]
        return "\n".join(event.get("ResourceStatusReason", "") for event in events)

    def _described(self) -> dict[str, Any]:
        try:
            return self._formation.describe_stacks(StackName=self.name)["Stacks"][0]
        except ClientError:
            return {}

    def _template(self, resources: dict[str, Any], outputs: dict[str, Any] | None) -> str:
        shown = {key: {"Value": value} for key, value in (outputs or {}).items()}
        return json.dumps({"Resources": resources, "Outputs": shown})


def hosting(image: str, execution_role: str, **environment: str) -> dict[str, Any]:
    """A model, a configuration and an endpoint, named by CloudFormation."""
    container = {"Image": image, "Environment": environment}
    variant = {
        "VariantName": "all",
        "ModelName": {"Fn::GetAtt": ["Model", "ModelName"]},
        "InitialVariantWeight": 1,
        "ServerlessConfig": {"MaxConcurrency": "2", "MemorySizeInMB": 2048},
    }
    return {
        "Model": {
            "Type": "AWS::SageMaker::Model",
            "Properties": {"PrimaryContainer": container, "ExecutionRoleArn": execution_role},
        },
        "Config": {"Type": "AWS::SageMaker::EndpointConfig", "Properties": {"ProductionVariants": [variant]}},
        "Endpoint": {
            "Type": "AWS::SageMaker::Endpoint",
            "Properties": {"EndpointConfigName": {"Fn::GetAtt": ["Config", "EndpointConfigName"]}},
        },
    }


HOSTED = {
    "Ref": {"Ref": "Model"},
    "Model": {"Fn::GetAtt": ["Model", "ModelName"]},
    "Config": {"Fn::GetAtt": ["Config", "EndpointConfigName"]},
    "Endpoint": {"Fn::GetAtt": ["Endpoint", "EndpointName"]},
}


def asked(aws: Callable, endpoint: str) -> str:
    return aws("sagemaker-runtime").invoke_endpoint(EndpointName=endpoint, Body=b"?")["Body"].read().decode()


def test_a_stack_makes_changes_replaces_and_deletes_what_serves(
    aws: Callable, image: str, execution_role: str
) -> None:
    sagemaker, stack = aws("sagemaker"), Stack(aws)
    # when a stack with an endpoint is made, then it serves, Ref is the ARN, and the stack's tags are on it
    assert stack.create(hosting(image, execution_role, ANSWER="one"), HOSTED) == "CREATE_COMPLETE", (
        stack.reasons
    )
    first = stack.outputs
    assert first["Ref"] == f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:model/{first['Model']}"
    assert first["Model"].startswith(f"{stack.name}-Model-")
    assert asked(aws, first["Endpoint"]) == "one"
    tags = {tag["Key"]: tag["Value"] for tag in sagemaker.list_tags(ResourceArn=first["Ref"])["Tags"]}
    assert (tags["team"], tags["aws:cloudformation:stack-name"]) == ("ours", stack.name)
    # when the model changes, then model and configuration are others, the endpoint is the same one and
    # serves the new model, and the old ones are gone
    assert stack.update(hosting(image, execution_role, ANSWER="two"), HOSTED) == "UPDATE_COMPLETE", (
        stack.reasons
    )
    second = stack.outputs
    assert second["Endpoint"] == first["Endpoint"]
    assert second["Model"] != first["Model"]
    assert second["Config"] != first["Config"]
    assert asked(aws, second["Endpoint"]) == "two"
    kept = [one["ModelName"] for one in sagemaker.list_models(NameContains=stack.name)["Models"]]
    assert kept == [second["Model"]]
    # when the stack is deleted, then nothing is left
    stack.delete()
    assert sagemaker.list_models(NameContains=stack.name)["Models"] == []
    assert sagemaker.list_endpoint_configs(NameContains=stack.name)["EndpointConfigs"] == []
    assert sagemaker.list_endpoints(NameContains=stack.name)["Endpoints"] == []


def test_a_stack_takes_back_what_failed(aws: Callable, image: str, execution_role: str) -> None:
    # given a stack whose endpoint's configuration names a model that is not there
    resources = hosting(image, execution_role)
    resources["Config"]["Properties"]["ProductionVariants"][0]["ModelName"] = "nobody"
    stack = Stack(aws)
    # then it is rolled back with SageMaker's own reason, and the model that came up is gone
    assert stack.create(resources) == "ROLLBACK_COMPLETE"
    assert "nobody" in stack.reasons
    assert aws("sagemaker").list_models(NameContains=stack.name)["Models"] == []


def test_a_stack_makes_notebooks_and_model_groups(aws: Callable, execution_role: str) -> None:
    def resources(script: str, size: int) -> dict[str, Any]:
        return {
            "Scripts": {
                "Type": "AWS::SageMaker::NotebookInstanceLifecycleConfig",
                "Properties": {"OnStart": [{"Content": {"Fn::Base64": script}}]},
            },
            "Notebook": {
                "Type": "AWS::SageMaker::NotebookInstance",
                "Properties": {
                    "InstanceType": "ml.t3.medium",
                    "RoleArn": execution_role,
                    "VolumeSizeInGB": size,
                    "LifecycleConfigName": {"Fn::GetAtt": ["Scripts", "NotebookInstanceLifecycleConfigName"]},
                },
            },
            "Group": {
                "Type": "AWS::SageMaker::ModelPackageGroup",
                "Properties": {"ModelPackageGroupName": f"group-{size}"},
            },
        }

    outputs = {
        "Notebook": {"Fn::GetAtt": ["Notebook", "NotebookInstanceName"]},
        "NotebookRef": {"Ref": "Notebook"},
        "GroupRef": {"Ref": "Group"},
    }
    sagemaker, stack = aws("sagemaker"), Stack(aws)
    assert stack.create(resources("echo one", 5), outputs) == "CREATE_COMPLETE", stack.reasons
    first = stack.outputs
    assert first["NotebookRef"].endswith(f":notebook-instance/{first['Notebook']}")
    assert first["GroupRef"] == f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:model-package-group/group-5"
    # when the notebook's disk grows and the group has another name
    assert stack.update(resources("echo two", 8), outputs) == "UPDATE_COMPLETE", stack.reasons
    # then the notebook is the same one, changed, and runs; the group is another one
    assert stack.outputs["Notebook"] == first["Notebook"]
    notebook = sagemaker.describe_notebook_instance(NotebookInstanceName=first["Notebook"])
    assert notebook["VolumeSizeInGB"] == 8
    groups = sagemaker.list_model_package_groups(NameContains="group-")["ModelPackageGroupSummaryList"]
    assert [group["ModelPackageGroupName"] for group in groups] == ["group-8"]
    stack.delete()
    assert sagemaker.list_notebook_instances(NameContains=stack.name)["NotebookInstances"] == []


def test_a_secret_is_referred_to_by_its_arn(cloud: LocalCloud, aws: Callable) -> None:
    # given a stack with a secret, and a role that may read what the secret's Ref names
    stack, name = Stack(aws), next(names)

    def resources(description: str) -> dict[str, Any]:
        properties = {"Name": name, "SecretString": "hidden", "Description": description}
        return {"Secret": {"Type": "AWS::SecretsManager::Secret", "Properties": properties}}

    assert stack.create(resources("one"), {"Arn": {"Ref": "Secret"}}) == "CREATE_COMPLETE", stack.reasons
    arn = stack.outputs["Arn"]
    assert arn == aws("secretsmanager").describe_secret(SecretId=name)["ARN"]
    reader, stranger = assumed(aws, ("secretsmanager:GetSecretValue", arn)), assumed(aws)
    cloud.enforce_iam(True)
    try:
        # then it may, by the secret's ARN and by its name, and another may not
        for reference in (arn, name):
            read = aws("secretsmanager", **reader).get_secret_value(SecretId=reference)
            assert read["SecretString"] == "hidden"
            with pytest.raises(ClientError, match="AccessDenied"):
                aws("secretsmanager", **stranger).get_secret_value(SecretId=reference)
    finally:
        cloud.enforce_iam(False)
    # and the stack changes it and deletes it
    assert stack.update(resources("two"), {"Arn": {"Ref": "Secret"}}) == "UPDATE_COMPLETE", stack.reasons
    assert stack.outputs["Arn"] == arn
    assert aws("secretsmanager").describe_secret(SecretId=arn)["Description"] == "two"
    stack.delete()
    with pytest.raises(ClientError):
        aws("secretsmanager").get_secret_value(SecretId=name)


def test_an_alarm_calculates_with_metrics(aws: Callable) -> None:
    # given an alarm on the sum of two metrics
    metrics: list[dict[str, Any]] = [{"Id": "sum", "Expression": "FILL(a, 0) + FILL(b, 0)"}]
    for each in ("a", "b"):
        stat = {"Metric": {"Namespace": "Hooks", "MetricName": each}, "Period": "60", "Stat": "Sum"}
        metrics.append({"Id": each, "MetricStat": stat, "ReturnData": False})
    name = next(names)
    rule = {"ComparisonOperator": "GreaterThanThreshold", "Threshold": "2", "EvaluationPeriods": 1}
    properties = {"AlarmName": name, "Metrics": metrics, "TreatMissingData": "notBreaching"} | rule
    stack = Stack(aws)
    made = stack.create({"Alarm": {"Type": "AWS::CloudWatch::Alarm", "Properties": properties}})
    assert made == "CREATE_COMPLETE", stack.reasons

    def state() -> str:
        return aws("cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"][0]["StateValue"]

    assert state() == "OK"
    for metric, value, wanted in (("a", 2, "OK"), ("b", 1, "ALARM")):
        data = [{"MetricName": metric, "Value": value}]
        aws("cloudwatch").put_metric_data(Namespace="Hooks", MetricData=data)
        assert state() == wanted


# Lambda -----------------------------------------------------------------------------------------------

HANDLER = """
import boto3

class TableIsLocked(Exception):
    pass

def handler(event, context):
    if event.get("fail"):
        raise TableIsLocked("come back later")
    return boto3.client("sts").get_caller_identity()["Arn"]
"""


@pytest.fixture(scope="module")
def function(aws: Callable) -> str:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("index.py", HANDLER)
    name = next(names)
    aws("lambda").create_function(
        FunctionName=name,
        Runtime="python3.11",
        Handler="index.handler",
        Role=role(aws, "lambda.amazonaws.com"),
        Code={"ZipFile": archive.getvalue()},
        Timeout=30,
    )
    return name


def test_a_function_has_its_roles_session_even_before_iam_is_enforced(aws: Callable, function: str) -> None:
    answer = json.load(aws("lambda").invoke(FunctionName=function, Payload=b"{}")["Payload"])
    assert ":assumed-role/hooks-" in answer


def test_processes_of_a_function_share_one_unpacked_layer(aws: Callable) -> None:
    # given a function with a layer, of which two run at once
    def archive(name: str, text: str) -> bytes:
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as file:
            file.writestr(name, text)
        return content.getvalue()

    layer = aws("lambda").publish_layer_version(
        LayerName=next(names), Content={"ZipFile": archive("python/shared.py", "")}
    )
    code = "import os, shared, time\ndef handler(event, context):\n    time.sleep(1)\n"
    code += "    return [os.getpid(), os.path.realpath(shared.__file__)]\n"
    name = next(names)
    aws("lambda").create_function(
        FunctionName=name,
        Runtime="python3.11",
        Handler="index.handler",
        Role=role(aws, "lambda.amazonaws.com"),
        Code={"ZipFile": archive("index.py", code)},
        Layers=[layer["LayerVersionArn"]],
        Timeout=30,
    )

    def call(_: int) -> list:
        return json.load(aws("lambda").invoke(FunctionName=name, Payload=b"{}")["Payload"])

    # then both find the same files
    with ThreadPoolExecutor(2) as calls:
        (one, first), (other, second) = calls.map(call, range(2))
    assert one != other
    assert first == second


def test_a_function_fails_by_its_own_exception(aws: Callable, function: str) -> None:
    # given a machine that catches the function's own exception
    arguments = {"FunctionName": function, "Payload": {"fail": True}}
    catch = [{"ErrorEquals": ["TableIsLocked"], "Next": "Caught"}]
    state = task("lambda:invoke", arguments, Catch=catch)
    caught = {"Type": "Pass", "Output": "caught", "End": True}
    machine = Machine(aws, state, States={"Only": {"End": True} | state, "Caught": caught})
    # then it is caught
    ended = machine.run()
    assert (ended["status"], ended["output"]) == ("SUCCEEDED", '"caught"'), ended
