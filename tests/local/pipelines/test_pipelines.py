"""Pipelines on a running cloud: real jobs, functions, queues and events, with their roles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.cloud import LocalCloud
from tests.support.deployments import ACCOUNT, REGION, Machine, Stack, allow_events, assumed, role, task
from tests.support.pipeline_runs import PipelineRuns
from tests.support.pipelines import (
    callback,
    compare,
    condition,
    defined,
    fail,
    function,
    get,
    join,
    parameter,
)
from tests.support.training_jobs import BUCKET, IMAGE
from tests.support.waiting import until

TRAIN = '(base / "model" / "weights").write_text("w"); print("rmse=0.25")'
FOREVER = "time.sleep(600)"
QUICK = "def handler(event, context): return {'n': event['n'] + 1}"
SLOW = "import time\ndef handler(event, context): time.sleep(20)"
RMSE = get("Steps.Train.FinalMetricDataList['rmse'].Value")
ARTIFACT = get("Steps.Train.ModelArtifacts.S3ModelArtifacts")


def listen(runs: PipelineRuns) -> str:
    """Send the events of executions and steps to a new queue; return its URL."""
    url, arn = runs.queue()
    allow_events(runs.aws("sqs"), url)
    kinds = [f"SageMaker Model Building Pipeline Execution {of}Status Change" for of in ("", "Step ")]
    pattern = {"source": ["aws.sagemaker"], "detail-type": kinds}
    name = runs.unique("rule")
    runs.aws("events").put_rule(Name=name, EventPattern=json.dumps(pattern))
    runs.aws("events").put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": arn}])
    return url


def test_model_is_trained_judged_and_registered(running: LocalCloud, runs: PipelineRuns) -> None:
    # given a pipeline that registers a model with a good metric, under a role with exactly the needed grants
    group = runs.unique("group")
    container = {"Image": IMAGE, "ModelDataUrl": ARTIFACT}
    package = {
        "ModelPackageGroupName": group,
        "ModelApprovalStatus": "Approved",
        "InferenceSpecification": {
            "Containers": [container],
            "SupportedContentTypes": ["text/csv"],
            "SupportedResponseMIMETypes": ["text/csv"],
        },
    }
    model = {"ExecutionRoleArn": runs.job_role, "PrimaryContainer": container}
    good = [
        {"Name": "Register", "Type": "RegisterModel", "Arguments": package},
        {"Name": "Create", "Type": "Model", "Arguments": model},
    ]
    text = defined(
        runs.training(TRAIN),
        condition("Good", compare("LessThan", RMSE, get("Parameters.Most")), then=good, otherwise=[fail()]),
        parameters=[parameter("Most", "Float", DefaultValue=0.5)],
    )
    arns = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}"
    acting = runs.pipeline_role(
        ("sagemaker:CreateModelPackageGroup", f"{arns}:model-package-group/{group}"),
        ("sagemaker:CreateModelPackage", f"{arns}:model-package*"),
        ("sagemaker:DescribeModelPackage", f"{arns}:model-package/{group}/*"),
        ("sagemaker:*Model", f"{arns}:model/pipelines-*"),
    )
    heard = listen(runs)
    running.enforce_iam(True)
    # when
    arn = runs.start(text, acting, PipelineExecutionDisplayName="nightly")
    # then
    assert runs.ended(arn) == "Succeeded", runs.steps(arn)
    steps = runs.steps(arn)
    assert list(steps) == ["Train", "Good", "Register", "Create"]
    assert steps["Good"]["Metadata"]["Condition"]["Outcome"] == "True"
    artifact = runs.job(steps["Train"])["ModelArtifacts"]["S3ModelArtifacts"]
    (version,) = runs.sagemaker.list_model_packages(ModelPackageGroupName=group)["ModelPackageSummaryList"]
    assert steps["Register"]["Metadata"]["RegisterModel"]["Arn"] == version["ModelPackageArn"]
    found = runs.sagemaker.describe_model_package(ModelPackageName=version["ModelPackageArn"])
    assert found["InferenceSpecification"]["Containers"][0]["ModelDataUrl"] == artifact
    assert found["MetadataProperties"]["GeneratedBy"] == arn
    name = steps["Create"]["Metadata"]["Model"]["Arn"].rpartition("/")[2]
    assert runs.sagemaker.describe_model(ModelName=name)["PrimaryContainer"]["ModelDataUrl"] == artifact
    # and the queue has an event of every status change
    running.enforce_iam(False)
    events: list[dict[str, Any]] = []

    def all_came() -> bool:
        events.extend(runs.received(heard))
        return len(events) >= 11

    until(all_came, "the arrival of all events")
    assert {tuple(each["resources"]) for each in events} == {(arn.partition("/execution")[0], arn)}
    changes = [
        (each["detail"]["stepName"], each["detail"]["currentStepStatus"])
        for each in events
        if "stepName" in each["detail"]
    ]
    assert sorted(changes) == sorted(
        [(step, status) for step in steps for status in ("Starting", "Succeeded")] + [("Train", "Executing")]
    )


# Roles


def test_pipeline_step_fails_without_the_grant_of_its_role(running: LocalCloud, runs: PipelineRuns) -> None:
    # given three roles: one may not start the job, one may not pass the job's role, one may not invoke the
    # function
    arn = runs.function(QUICK)
    of_jobs = ("sagemaker:*TrainingJob", "*")
    cases = {
        "sagemaker:CreateTrainingJob": (runs.training(TRAIN), ("iam:PassRole", "*")),
        "iam:PassRole": (runs.training(TRAIN), of_jobs),
        "lambda:InvokeFunction": (function(arn, "Train"), of_jobs),
    }
    roles = {action: role(runs.aws, "sagemaker.amazonaws.com", grant) for action, (_, grant) in cases.items()}
    running.enforce_iam(True)
    for action, (step, _) in cases.items():
        # when
        execution = runs.start(defined(step), roles[action])
        # then
        assert runs.ended(execution) == "Failed"
        reason = runs.steps(execution)["Train"]["FailureReason"]
        assert f"is not authorized to perform: {action}" in reason


def test_role_that_does_not_trust_sagemaker_is_not_assumed(running: LocalCloud, runs: PipelineRuns) -> None:
    stranger = role(runs.aws, "lambda.amazonaws.com", ("sagemaker:*", "*"))
    running.enforce_iam(True)
    execution = runs.start(defined(runs.training(TRAIN)), stranger)
    assert runs.ended(execution) == "Failed"
    assert f"Could not assume role {stranger}" in runs.steps(execution)["Train"]["FailureReason"]


def test_caller_without_the_grant_is_refused(running: LocalCloud, runs: PipelineRuns) -> None:
    # given a caller who may create one pipeline and start none, and may pass no role
    pipeline = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:pipeline/allowed"
    acting = runs.aws("sagemaker", **assumed(runs.aws, ("sagemaker:CreatePipeline", pipeline)))
    request = {"RoleArn": runs.pipeline_role(), "PipelineDefinition": defined()}
    running.enforce_iam(True)
    # when, then
    for action, call in {
        "sagemaker:CreatePipeline": lambda: acting.create_pipeline(PipelineName="other", **request),
        "iam:PassRole": lambda: acting.create_pipeline(PipelineName="allowed", **request),
        "sagemaker:StartPipelineExecution": lambda: acting.start_pipeline_execution(PipelineName="allowed"),
    }.items():
        with pytest.raises(ClientError, match=f"is not authorized to perform: {action}"):
            call()


@pytest.mark.parametrize("granted", [True, False])
def test_condition_reads_json_that_the_role_may_read(
    running: LocalCloud, runs: PipelineRuns, granted: bool
) -> None:
    # given a report in S3, a role that may read it, and a role that may not
    runs.aws("s3").put_object(Bucket=BUCKET, Key="reports/1.json", Body=b'{"scores": [{"rmse": 0.25}]}')
    place = join("s3:/", BUCKET, "reports/1.json", on="/")
    rmse = {"Std:JsonGet": {"S3Uri": place, "Path": "scores[0].rmse"}}
    text = defined(condition("Good", compare("LessThan", rmse, 0.3)))
    grants = [("s3:GetObject", f"arn:aws:s3:::{BUCKET}/reports/*")] if granted else []
    acting = runs.pipeline_role(*grants)
    running.enforce_iam(True)
    # when
    execution = runs.start(text, acting)
    # then
    assert runs.ended(execution) == ("Succeeded" if granted else "Failed")
    step = runs.steps(execution)["Good"]
    if granted:
        assert step["Metadata"]["Condition"]["Outcome"] == "True"
    else:
        assert "AccessDenied" in step["FailureReason"]


# Functions and callbacks


def test_function_and_callback_hand_on_their_outputs(running: LocalCloud, runs: PipelineRuns) -> None:
    # given a function that adds one to a number, and a queue that gets the result as a callback message
    arn = runs.function(QUICK)
    url, queue = runs.queue()
    text = defined(
        function(arn, outputs=[("n", "Integer")], Arguments={"n": get("Parameters.N")}),
        callback(url, outputs=["by"], Arguments={"n": get("Steps.Call.OutputParameters['n']")}),
        fail(message=join("by ", get("Steps.Ask.OutputParameters['by']"))),
        parameters=[parameter("N", "Integer", DefaultValue=1)],
    )
    acting = runs.pipeline_role(("lambda:InvokeFunction", arn), ("sqs:SendMessage", queue))
    running.enforce_iam(True)
    # when
    execution = runs.start(text, acting, PipelineParameters=[{"Name": "N", "Value": "4"}])
    (message,) = until(lambda: runs.received(url), "the arrival of the callback message")
    assert (message["arguments"], message["status"]) == ({"n": 5}, "Executing")
    runs.sagemaker.send_pipeline_execution_step_success(
        CallbackToken=message["token"], OutputParameters=[{"Name": "by", "Value": "hand"}]
    )
    # then
    assert runs.ended(execution) == "Failed"
    assert runs.steps(execution)["Fail"]["FailureReason"] == "by hand"


def test_function_that_times_out_fails_its_step(running: LocalCloud, runs: PipelineRuns) -> None:
    running.configure(pipeline_lambda_timeout=0.5)
    execution = runs.start(defined(function(runs.function(SLOW))), runs.pipeline_role())
    assert runs.ended(execution) == "Failed"
    assert "did not end within 0.5 seconds" in runs.steps(execution)["Call"]["FailureReason"]


# Retries, caching and stopping


def test_job_without_capacity_is_retried(running: LocalCloud, runs: PipelineRuns) -> None:
    # given a fault that leaves two jobs without capacity, and a fault that throttles one request
    running.configure(fault_no_capacity=2, fault_throttle_training_jobs=1)
    policy = {"ExceptionType": ["SageMaker.CAPACITY_ERROR", "Step.THROTTLING"], "IntervalSeconds": 0}
    # when
    execution = runs.start(defined(runs.training(TRAIN, RetryPolicies=[policy])), runs.pipeline_role())
    # then
    assert runs.ended(execution) == "Succeeded"
    assert runs.steps(execution)["Train"]["AttemptCount"] == 4
    # and without a retry policy the execution fails
    running.configure(fault_no_capacity=1)
    execution = runs.start(defined(runs.training(TRAIN)), runs.pipeline_role())
    assert runs.ended(execution) == "Failed"
    reason = runs.steps(execution)["Train"]["FailureReason"]
    assert reason.startswith("ClientError: CapacityError")
    assert reason.endswith("for the exception type SAGEMAKER_CAPACITY_ERROR.")
    # and the failed execution succeeds when it is retried
    runs.sagemaker.retry_pipeline_execution(PipelineExecutionArn=execution)
    assert runs.ended(execution) == "Succeeded"


def test_cached_step_keeps_its_job(runs: PipelineRuns) -> None:
    cached: dict[str, Any] = {"CacheConfig": {"Enabled": True, "ExpireAfter": "PT1H"}}
    first = runs.start(defined(runs.training(TRAIN, **cached)), runs.pipeline_role())
    assert runs.ended(first) == "Succeeded"
    # when
    second = runs.again(first.split("/")[1])
    # then
    assert runs.ended(second) == "Succeeded"
    before, now = runs.steps(first)["Train"], runs.steps(second)["Train"]
    assert now["CacheHitResult"]["SourcePipelineExecutionArn"] == first
    assert now["Metadata"] == before["Metadata"]


def test_stop_stops_the_job(runs: PipelineRuns) -> None:
    execution = runs.start(defined(runs.training(FOREVER)), runs.pipeline_role())

    def trains() -> bool:
        step = runs.steps(execution).get("Train", {})
        return step.get("StepStatus") == "Executing" and runs.job(step)["SecondaryStatus"] == "Training"

    until(trains, "the start of training")
    # when
    runs.sagemaker.stop_pipeline_execution(PipelineExecutionArn=execution)
    # then
    assert runs.ended(execution) == "Stopped"
    step = runs.steps(execution)["Train"]
    assert (step["StepStatus"], runs.job(step)["TrainingJobStatus"]) == ("Stopped", "Stopped")


# Other callers


def stack_with(
    runs: PipelineRuns, name: str, definition: dict[str, Any], **properties: Any
) -> dict[str, Any]:
    given = {"PipelineName": name, "RoleArn": runs.job_role, "PipelineDefinition": definition} | properties
    return {"Pipeline": {"Type": "AWS::SageMaker::Pipeline", "Properties": given}}


def test_stack_creates_updates_and_deletes_a_pipeline(runs: PipelineRuns) -> None:
    stack, name = Stack(runs.aws), runs.unique("stack")
    # when a stack has a definition in its template, with parameters and tags
    body = {"PipelineDefinitionBody": defined(fail(message="one"))}
    tags = [{"Key": "of", "Value": "tests"}]
    parallel = {"ParallelismConfiguration": {"MaxParallelExecutionSteps": "3"}}
    resources = stack_with(runs, name, body, Tags=tags, **parallel)
    assert stack.create(resources, {"Ref": {"Ref": "Pipeline"}}) == "CREATE_COMPLETE", stack.reasons
    # then
    assert stack.outputs == {"Ref": name}
    found = runs.sagemaker.describe_pipeline(PipelineName=name)
    assert found["PipelineDefinition"] == body["PipelineDefinitionBody"]
    assert found["ParallelismConfiguration"] == {"MaxParallelExecutionSteps": 3}
    assert tags[0] in runs.sagemaker.list_tags(ResourceArn=found["PipelineArn"])["Tags"]
    # when the stack is updated with a definition in S3, then the pipeline has that definition
    runs.aws("s3").put_object(Bucket=BUCKET, Key="definition.json", Body=defined(fail(message="two")))
    place = {"PipelineDefinitionS3Location": {"Bucket": BUCKET, "Key": "definition.json"}}
    assert stack.update(stack_with(runs, name, place)) == "UPDATE_COMPLETE", stack.reasons
    found = runs.sagemaker.describe_pipeline(PipelineName=name)
    assert found["PipelineDefinition"] == defined(fail(message="two"))
    # when the stack is deleted, then the pipeline is deleted
    stack.delete()
    with pytest.raises(ClientError, match="does not exist"):
        runs.sagemaker.describe_pipeline(PipelineName=name)


@pytest.mark.parametrize(
    ("definition", "said"),
    [
        ({"PipelineDefinitionBody": '{"Stages": []}'}, "unknown property 'Stages'"),
        ({"Body": "{}"}, "unsupported property Body"),
    ],
)
def test_stack_with_a_wrong_pipeline_rolls_back(
    runs: PipelineRuns, definition: dict[str, Any], said: str
) -> None:
    stack, name = Stack(runs.aws), runs.unique("stack")
    assert stack.create(stack_with(runs, name, definition)) == "ROLLBACK_COMPLETE"
    assert said in stack.reasons
    with pytest.raises(ClientError, match="does not exist"):
        runs.sagemaker.describe_pipeline(PipelineName=name)


def test_state_machine_starts_a_pipeline(runs: PipelineRuns) -> None:
    # given a task without the client request token that every SDK adds
    execution = runs.start(defined(), runs.pipeline_role())
    name = execution.split("/")[1]
    start = task("aws-sdk:sagemaker:startPipelineExecution", {"PipelineName": name})
    machine = Machine(runs.aws, start, ("sagemaker:StartPipelineExecution", "*"))
    # when, then
    found = machine.run()
    assert found["status"] == "SUCCEEDED", found
    assert runs.ended(json.loads(found["output"])["PipelineExecutionArn"]) == "Succeeded"


def test_definition_of_the_python_sdk_runs(runs: PipelineRuns) -> None:
    # given the Lambda function and the queue that the definition names
    text = (Path(__file__).parent / "rendered" / "definition.json").read_text()
    judge = "def handler(event, context): return {'rmse': 0.25, 'verdict': 'good', 'seen': event}"
    runs.function(judge, FunctionName="pipelines-rendered")
    url, _ = runs.queue("pipelines-rendered")
    # when
    script = [{"Name": "Script", "Value": TRAIN}]
    execution = runs.start(text, runs.pipeline_role(), PipelineParameters=script)
    (message,) = until(lambda: runs.received(url), "the arrival of the callback message")
    assert message["arguments"]["rmse"] == 0.25
    runs.sagemaker.send_pipeline_execution_step_success(
        CallbackToken=message["token"], OutputParameters=[{"Name": "by", "Value": "hand"}]
    )
    # then
    assert runs.ended(execution) == "Succeeded", runs.steps(execution)
    assert list(runs.steps(execution)) == ["Train", "Judge", "Approve", "Good", "Register"]
    package = runs.steps(execution)["Register"]["Metadata"]["RegisterModel"]["Arn"]
    found = runs.sagemaker.describe_model_package(ModelPackageName=package)
    assert found["CustomerMetadataProperties"] == {"by": "hand"}


# A restart of the server


def test_execution_continues_after_a_server_crash(running: LocalCloud, runs: PipelineRuns) -> None:
    # given a crash of the server during two executions: one with a job, the other with a callback and a
    # job that has a retry policy
    url, _ = runs.queue()
    again = {"ExceptionType": ["SageMaker.JOB_INTERNAL_ERROR"], "IntervalSeconds": 0}
    retried = defined(
        runs.training(FOREVER, RetryPolicies=[again]),
        callback(url),
    )
    lost = runs.start(defined(runs.training(FOREVER)), runs.pipeline_role())
    execution = runs.start(retried, runs.pipeline_role())
    both = {"Train": "Executing", "Ask": "Executing"}
    until(lambda: runs.statuses(execution) == both, "the start of both steps")
    until(lambda: runs.statuses(lost) == {"Train": "Executing"}, "the start of the other job")
    (message,) = until(lambda: runs.received(url), "the arrival of the callback message")
    first = runs.job(runs.steps(execution)["Train"])["TrainingJobName"]
    running.crash()
    # when the server is started again
    running.start()
    running.configure(pipeline_poll=0.05)
    # then the job without a retry policy has failed, and so has its step
    assert runs.ended(lost) == "Failed"
    assert "The local cloud ended" in runs.steps(lost)["Train"]["FailureReason"]
    # and the job with a retry policy is started again, and the callback is still accepted

    def second() -> bool:
        step = runs.steps(execution)["Train"]
        return "TrainingJob" in step.get("Metadata", {}) and runs.job(step)["TrainingJobName"] != first

    until(second, "the start of another job")
    runs.sagemaker.send_pipeline_execution_step_success(CallbackToken=message["token"])
    until(lambda: runs.statuses(execution)["Ask"] == "Succeeded", "the success of the callback step")
    runs.sagemaker.stop_pipeline_execution(PipelineExecutionArn=execution)
    assert runs.ended(execution) == "Stopped"
