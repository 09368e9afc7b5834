"""Executions of pipelines, with planned outcomes of jobs, functions and queues."""

from __future__ import annotations

import json
import re
import threading
from typing import Any

import pytest

from local.sagemaker.api import ApiError
from local.sagemaker.pipelines import execution
from tests.support.pipeline_world import PipelineWorld, gate
from tests.support.pipelines import (
    ARN,
    IMAGE,
    QUEUE,
    ROLE,
    callback,
    compare,
    condition,
    defined,
    fail,
    function,
    get,
    join,
    metric,
    parameter,
    processing,
    training,
)
from tests.support.waiting import until

INTERNAL = "InternalServerError: We encountered an internal error."
STEP_FAILED = "Step failure: One or multiple steps failed."


def retried(*exceptions: str, **members: Any) -> dict[str, Any]:
    return {"RetryPolicies": [{"ExceptionType": list(exceptions), "IntervalSeconds": 0} | members]}


# The order of steps


def test_step_uses_the_results_of_another(world: PipelineWorld) -> None:
    # given a second job with the name of the first job as a hyperparameter
    first = training("First")
    second = training("Second", arguments={"HyperParameters": {"of": get("Steps.First.TrainingJobName")}})
    # when
    arn, status = world.run(defined(second, first))
    # then
    assert status == "Succeeded"
    one, two = world.asked
    assert two["HyperParameters"] == {"of": one["TrainingJobName"]}
    identifier = arn.rpartition("/")[2]
    assert re.fullmatch(r"[a-z0-9]{12}", identifier)
    assert re.fullmatch(rf"pipelines-{identifier}-First-[A-Za-z0-9]{{10}}", one["TrainingJobName"])
    steps = world.steps(arn)
    assert list(steps) == ["First", "Second"]
    assert steps["First"]["Metadata"]["TrainingJob"]["Arn"].endswith(one["TrainingJobName"])
    assert steps["First"]["AttemptCount"] == 1
    assert steps["First"]["StartTime"] <= steps["First"]["EndTime"] <= steps["Second"]["StartTime"]


@pytest.mark.parametrize(("rmse", "branch"), [(0.25, "Train"), (0.75, "Fail")])
def test_property_file_decides_a_condition(world: PipelineWorld, rmse: float, branch: str) -> None:
    # given a processing job that writes a report, and a training job that gets the report's URI
    world.objects["s3://bucket/report/metrics.json"] = json.dumps({"best": [{"rmse": rmse}]}).encode()
    place = get("Steps.Process.ProcessingOutputConfig.Outputs['report'].S3Output.S3Uri")
    train = training(arguments={"HyperParameters": {"report": place}})
    good = compare("LessThan", metric("best[0].rmse"), 0.5)
    # when
    arn, _ = world.run(defined(processing(), condition("Good", good, then=[train], otherwise=[fail()])))
    # then
    assert list(world.steps(arn)) == ["Process", "Good", branch]
    if branch == "Train":
        assert world.asked[-1]["HyperParameters"] == {"report": "s3://bucket/report"}


def test_property_file_that_is_missing_fails_its_reader(world: PipelineWorld) -> None:
    good = compare("LessThan", metric("rmse"), 0.5)
    arn, status = world.run(defined(processing(), condition("Good", good)))
    reason = world.steps(arn)["Good"]["FailureReason"]
    assert (status, "s3://bucket/report/metrics.json could not be read as JSON" in reason) == ("Failed", True)


def test_transform_job_uses_a_model_of_the_pipeline(world: PipelineWorld) -> None:
    # given a model that is created from the artifact of a training job
    container = {"Image": IMAGE, "ModelDataUrl": get("Steps.Train.ModelArtifacts.S3ModelArtifacts")}
    request = {"ExecutionRoleArn": ROLE, "PrimaryContainer": container}
    model = {"Name": "Model", "Type": "Model", "Arguments": request}
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/in"}}
    transform = {
        "Name": "Transform",
        "Type": "Transform",
        "Arguments": {
            "ModelName": get("Steps.Model.ModelName"),
            "TransformInput": {"DataSource": source},
            "TransformOutput": {"S3OutputPath": "s3://bucket/out"},
            "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
        },
    }
    artifacts = {"ModelArtifacts": {"S3ModelArtifacts": "s3://bucket/model.tar.gz"}}
    world.results["TrainingJob"] = artifacts
    # when
    arn, status = world.run(defined(transform, model, training()))
    # then
    assert status == "Succeeded", world.steps(arn)
    name = world.steps(arn)["Model"]["Metadata"]["Model"]["Arn"].rpartition("/")[2]
    assert name.startswith(f"pipelines-{arn.rpartition('/')[2]}-Model-")
    found = world.call("DescribeModel", ModelName=name)
    assert found["PrimaryContainer"]["ModelDataUrl"] == "s3://bucket/model.tar.gz"
    assert world.asked[-1]["ModelName"] == name


def test_package_is_registered_once_in_a_new_group(world: PipelineWorld) -> None:
    # given a missing group
    arguments = {"ModelPackageGroupName": "group", "SourceUri": get("Execution.PipelineExecutionArn")}
    text = defined({"Name": "Register", "Type": "RegisterModel", "Arguments": arguments})
    # when the pipeline runs twice
    arns = [world.run(text)[0]]
    arns.append(world.start())
    world.ended(arns[1])
    # then
    found = world.call("ListModelPackages", ModelPackageGroupName="group")["ModelPackageSummaryList"]
    registered = [world.steps(arn)["Register"]["Metadata"]["RegisterModel"]["Arn"] for arn in arns]
    assert [each["ModelPackageArn"] for each in found] == registered
    package = world.call("DescribeModelPackage", ModelPackageName=registered[1])
    assert package["MetadataProperties"] == {"GeneratedBy": arns[1]}


def test_job_name_has_a_custom_prefix(world: PipelineWorld) -> None:
    # given a definition with a job name prefix, and a hyperparameter that refers to the job's name
    arguments = {
        "TrainingJobName": "nightly",
        "HyperParameters": {"me": get("Execution.TrainingJobName")},
    }
    arn, _ = world.run(defined(training(arguments=arguments)))
    (asked,) = world.asked
    name = asked["TrainingJobName"]
    assert re.fullmatch(rf"nightly-{arn.rpartition('/')[2]}-[A-Za-z0-9]{{10}}", name)
    assert asked["HyperParameters"] == {"me": name}


def test_long_step_name_is_cut_in_job_names(world: PipelineWorld) -> None:
    world.run(defined(training("Rossmann-Model-Training")))
    assert "-Rossmann-Model-Train-" in world.asked[0]["TrainingJobName"]


def test_execution_variables_describe_the_execution(world: PipelineWorld) -> None:
    # given a function that gets all execution variables
    names = ("PipelineName", "PipelineArn", "PipelineExecutionId", "PipelineExecutionArn", "StartDateTime")
    heard: dict[str, Any] = {}
    world.functions[ARN] = lambda event: heard.update(event)
    arguments = {name: get(f"Execution.{name}") for name in names}
    # when
    arn, _ = world.run(defined(function(ARN, Arguments=arguments)))
    # then
    pipeline, _, identifier = arn.partition("/execution/")
    assert heard.pop("StartDateTime").endswith("Z")
    assert heard == {
        "PipelineName": "p",
        "PipelineArn": pipeline,
        "PipelineExecutionId": identifier,
        "PipelineExecutionArn": arn,
    }


def test_only_the_branch_of_the_outcome_runs(world: PipelineWorld) -> None:
    # given a condition on a parameter, and a step that depends on the branch that does not run
    text = defined(
        condition("Check", compare("GreaterThan", get("Parameters.N"), 1), then=[training("A")],
                  otherwise=[training("B")]),
        training("Behind", DependsOn=["B"]),
        parameters=[parameter("N", "Integer", DefaultValue=2)],
    )  # fmt: skip
    # when, then
    arn, status = world.run(text)
    assert (status, world.statuses(arn)) == ("Succeeded", {"Check": "Succeeded", "A": "Succeeded"})
    assert world.steps(arn)["Check"]["Metadata"] == {"Condition": {"Outcome": "True"}}
    # and with a value that does not meet the condition, the other branch and the dependent step run
    arn = world.start(PipelineParameters=[{"Name": "N", "Value": "1"}])
    world.ended(arn)
    assert list(world.statuses(arn)) == ["Check", "B", "Behind"]


def test_fail_step_ends_an_execution_with_its_message(world: PipelineWorld) -> None:
    message = join("outcome is", get("Steps.Check.Outcome"), on=" ")
    text = defined(condition("Check", compare("Equals", 1, 2)), fail(message=message))
    # when
    arn, status = world.run(text)
    # then
    step = world.steps(arn)["Fail"]
    assert (status, world.describe(arn)["FailureReason"]) == ("Failed", STEP_FAILED)
    assert step["FailureReason"] == "outcome is false"
    assert step["Metadata"] == {"Fail": {"ErrorMessage": "outcome is false"}}
    # and such an execution cannot be retried
    with pytest.raises(ApiError, match="ended with a Fail step and cannot be retried"):
        world.call("RetryPipelineExecution", PipelineExecutionArn=arn)


def test_parallel_steps_keep_to_their_maximum(world: PipelineWorld) -> None:
    # given four jobs that run until the test ends them, and a maximum of two parallel steps
    world.plan = {name: ["InProgress"] for name in "ABCD"}
    world.create(defined(*map(training, "ABCD")), ParallelismConfiguration={"MaxParallelExecutionSteps": 2})
    arn = world.start()
    # when, then
    running = {"A": "Executing", "B": "Executing"}
    until(lambda: world.statuses(arn) == running, "two jobs", 20)
    world.end_job(world.asked[0]["TrainingJobName"], "Completed")
    running |= {"A": "Succeeded", "C": "Executing"}
    until(lambda: world.statuses(arn) == running, "a third job", 20)
    # and a new maximum applies at once
    parallel = {"MaxParallelExecutionSteps": 3}
    world.call("UpdatePipelineExecution", PipelineExecutionArn=arn, ParallelismConfiguration=parallel)
    until(lambda: world.statuses(arn) == running | {"D": "Executing"}, "the fourth job", 20)
    for asked in world.asked[1:]:
        world.end_job(asked["TrainingJobName"], "Completed")
    assert world.ended(arn)["PipelineExecutionStatus"] == "Succeeded"


# Failures


def test_no_step_starts_after_a_failure(world: PipelineWorld) -> None:
    # given a job that fails while another job runs, and a third job that depends on the running job
    world.plan = {"Bad": ["AlgorithmError: no data, exit code: 1"], "Other": ["InProgress"]}
    text = defined(training("Bad"), training("Other"), training("Next", DependsOn=["Other"]))
    arn = world.start(text)
    until(lambda: world.statuses(arn).get("Bad") == "Failed", "the failure", 20)
    # when the running job ends
    world.end_job(world.asked[1]["TrainingJobName"], "Completed")
    # then
    assert world.ended(arn)["FailureReason"] == STEP_FAILED
    assert world.statuses(arn) == {"Bad": "Failed", "Other": "Succeeded"}
    assert world.steps(arn)["Bad"]["FailureReason"] == "ClientError: AlgorithmError: no data, exit code: 1"


def test_failure_with_a_dependent_step_does_not_fail_the_execution(world: PipelineWorld) -> None:
    # given a function that gets the failure of a job, and a step that needs the job's success
    world.plan = {"Train": ["AlgorithmError: , exit code: 1"]}
    heard: list[Any] = []
    world.functions[ARN] = heard.append
    text = defined(
        training(),
        training("After", DependsOn=["Train"]),
        function(ARN, "Tell", Arguments={"why": get("Steps.Train.FailureReason")},
                 DependsOn=[{"Step": "Train", "Trigger": "Failed"}]),
        training("Independent", DependsOn=["Tell"]),
    )  # fmt: skip
    # when
    arn, status = world.run(text)
    # then
    assert status == "CompletedWithFailures"
    assert world.statuses(arn) == {"Train": "Failed", "Tell": "Succeeded", "Independent": "Succeeded"}
    assert heard == [{"why": "AlgorithmError: , exit code: 1"}]


@pytest.mark.parametrize(
    ("trigger", "job", "ran", "status"),
    [
        ("Any", "Completed", True, "Succeeded"),
        ("Any", "AlgorithmError: a", True, "CompletedWithFailures"),
        ("Failed", "Completed", False, "Succeeded"),
        ("Stopped", "AlgorithmError: a", False, "Failed"),
        ("Stopped", "Stopped", True, "CompletedWithFailures"),
        ("Completed", "Stopped", False, "Stopped"),
    ],
)
def test_step_runs_by_its_trigger(
    world: PipelineWorld, trigger: str, job: str, ran: bool, status: str
) -> None:
    world.plan = {"Train": [job]}
    after = training("After", DependsOn=[{"Step": "Train", "Trigger": trigger}])
    arn, found = world.run(defined(training(), after))
    assert (("After" in world.statuses(arn)), found) == (ran, status)


def test_value_that_is_missing_fails_its_step(world: PipelineWorld) -> None:
    arguments = {"HyperParameters": {"rmse": join(get("Steps.First.FinalMetricDataList['rmse'].Value"))}}
    arn, status = world.run(defined(training("First"), training(arguments=arguments)))
    reason = world.steps(arn)["Train"]["FailureReason"]
    assert status == "Failed"
    assert "The reference Steps.First.FinalMetricDataList['rmse'].Value has no value" in reason


def test_request_that_is_refused_is_the_failure_reason(world: PipelineWorld) -> None:
    world.plan = {"Train": [ApiError("AccessDeniedException", "User: a is not authorized")]}
    arn, _ = world.run(defined(training()))
    step = world.steps(arn)["Train"]
    expected = (
        "ClientError: Failed to invoke sagemaker:CreateTrainingJob. Error Details: User: a is not authorized"
    )
    assert (step["FailureReason"], step["Metadata"]) == (expected, {})


# Retries


def test_failed_job_is_retried_by_its_policy(world: PipelineWorld) -> None:
    world.plan = {"Train": [INTERNAL, "CapacityError: none", "Completed"]}
    exceptions = ("SageMaker.JOB_INTERNAL_ERROR", "SageMaker.CAPACITY_ERROR")
    arn, status = world.run(defined(training(**retried(*exceptions))))
    step = world.steps(arn)["Train"]
    assert (status, step["AttemptCount"], step.get("FailureReason")) == ("Succeeded", 3, None)
    names = [asked["TrainingJobName"] for asked in world.asked]
    assert len(set(names)) == 3
    assert step["Metadata"]["TrainingJob"]["Arn"].endswith(names[-1])


def test_retries_end_with_the_policys_attempts(world: PipelineWorld) -> None:
    world.plan = {"Train": [INTERNAL] * 3}
    policy = retried("SageMaker.JOB_INTERNAL_ERROR", MaxAttempts=2)
    arn, status = world.run(defined(training(**policy)))
    assert (status, len(world.asked), world.steps(arn)["Train"]["AttemptCount"]) == ("Failed", 3, 3)


@pytest.mark.parametrize(
    ("failure", "exception"),
    [
        (INTERNAL, "SAGEMAKER_JOB_INTERNAL_ERROR"),
        (ApiError("ResourceLimitExceeded", "The limit is 0"), "SAGEMAKER_RESOURCE_LIMIT"),
    ],
)
def test_failure_without_a_retry_policy_is_reported(
    world: PipelineWorld, failure: Any, exception: str
) -> None:
    world.plan = {"Train": [failure]}
    arn, _ = world.run(defined(training(**retried("SageMaker.CAPACITY_ERROR"))))
    assert world.steps(arn)["Train"]["FailureReason"].endswith(
        f"Retry not appropriate on execution of step with PipelineExecutionArn {arn} and StepId Train. "
        f"No retry policy configured for the exception type {exception}."
    )


def test_throttled_request_is_retried_without_a_policy(
    world: PipelineWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given the automatic retry policy, with a delay of 0 s
    automatic = execution.policy_for("Step.THROTTLING", ())
    assert automatic is not None
    monkeypatch.setattr(type(automatic[1]), "delay", lambda policy, retries, elapsed: 0.0)
    world.plan = {"Train": [ApiError("ThrottlingException", "Rate exceeded"), "Completed"]}
    # when, then
    assert world.run(defined(training()))[1] == "Succeeded"


def test_unsupported_request_of_a_step_is_not_retried(world: PipelineWorld) -> None:
    world.plan = {"Train": [ApiError("NotImplementedByLocalCloud", "not built", 501), "Completed"]}
    assert world.run(defined(training()))[1] == "Failed"


def test_retried_execution_repeats_unsuccessful_steps(world: PipelineWorld) -> None:
    # given an execution that failed in its second step
    world.plan = {"B": ["AlgorithmError: a", "Completed"]}
    text = defined(training("A"), training("B", DependsOn=["A"]), training("C", DependsOn=["B"]))
    arn, status = world.run(text)
    assert (status, world.statuses(arn)) == ("Failed", {"A": "Succeeded", "B": "Failed"})
    # when the execution is retried, twice with the same token
    token = "t" * 32
    for _ in range(2):
        world.call("RetryPipelineExecution", PipelineExecutionArn=arn, ClientRequestToken=token)
    # then
    found = world.ended(arn)
    assert (found["PipelineExecutionStatus"], found.get("FailureReason")) == ("Succeeded", None)
    steps = [asked["TrainingJobName"].split("-")[2] for asked in world.asked]
    assert steps == ["A", "B", "B", "C"]
    # and an execution that succeeded is not retried
    with pytest.raises(ApiError, match="is Succeeded: only a failed or stopped one") as error:
        world.call("RetryPipelineExecution", PipelineExecutionArn=arn)
    assert error.value.code == "ConflictException"


def test_retried_execution_removes_steps_triggered_by_the_failure(world: PipelineWorld) -> None:
    # given steps that run after a failure: a triggered step, its successor, a triggered condition, and a step
    # in its branch
    world.plan = {"Train": ["AlgorithmError: a", "Completed"]}
    failed: dict[str, Any] = {"DependsOn": [{"Step": "Train", "Trigger": "Failed"}]}
    behind = training("Behind", DependsOn=["Tell"])
    text = defined(
        training(), training("Tell", **failed), behind, condition(then=[training("Within")], **failed)
    )
    arn, status = world.run(text)
    assert (status, len(world.statuses(arn))) == ("CompletedWithFailures", 5)
    # when a retry of the failed step succeeds
    world.call("RetryPipelineExecution", PipelineExecutionArn=arn)
    # then
    assert world.ended(arn)["PipelineExecutionStatus"] == "Succeeded"
    assert world.statuses(arn) == {"Train": "Succeeded"}


# Lambda and callback steps


def test_lambda_outputs_are_properties_of_the_step(world: PipelineWorld) -> None:
    world.functions[ARN] = lambda event: {"text": {"nested": event["n"]}, "n": event["n"], "more": "x"}
    call = function(ARN, outputs=["text", ("n", "Integer")], Arguments={"n": get("Parameters.N")})
    size = {"ResourceConfig": {"InstanceType": "ml.m5.large", "VolumeSizeInGB": 1,
                               "InstanceCount": get("Steps.Call.OutputParameters['n']")}}  # fmt: skip
    text = defined(call, training(arguments=size), parameters=[parameter("N", "Integer", DefaultValue=2)])
    # when
    arn, _ = world.run(text)
    # then
    assert world.asked[0]["ResourceConfig"]["InstanceCount"] == 2
    outputs = [{"Name": "text", "Value": '{"nested": 2}'}, {"Name": "n", "Value": "2"}]
    metadata = {"Lambda": {"Arn": ARN, "OutputParameters": outputs}}
    assert world.steps(arn)["Call"]["Metadata"] == metadata


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({}, "has no output parameter 'n'"),
        ("text", "has no output parameter 'n'"),
        ({"n": "3"}, "has the output parameter 'n' with '3', which is not of type Integer"),
    ],
)
def test_lambda_answer_without_its_outputs_fails(world: PipelineWorld, answer: Any, reason: str) -> None:
    world.functions[ARN] = lambda event: answer
    arn, status = world.run(defined(function(ARN, outputs=[("n", "Integer")])))
    assert (status, reason in world.steps(arn)["Call"]["FailureReason"]) == ("Failed", True)


def test_lambda_error_fails_its_step(world: PipelineWorld) -> None:
    def raises(event: Any) -> None:
        raise RuntimeError("no rows")

    world.functions[ARN] = raises
    arn, _ = world.run(defined(function(ARN)))
    reason = world.steps(arn)["Call"]["FailureReason"]
    assert reason == f"ClientError: Lambda function {ARN} failed. Error Details: RuntimeError: no rows"


def test_callback_waits_for_its_answer(world: PipelineWorld) -> None:
    # given a callback step, and a condition on its output
    ask = callback(QUEUE, outputs=[("n", "Integer")], Arguments={"a": [get("Execution.PipelineName")]})
    check = condition("Check", compare("Equals", get("Steps.Ask.OutputParameters['n']"), 5))
    arn = world.start(defined(ask, check))
    until(lambda: world.messages, "the message", 20)
    (message,) = world.messages
    token = message.pop("token")
    assert message == {"pipelineExecutionArn": arn, "arguments": {"a": ["p"]}, "status": "Executing"}
    assert re.fullmatch(r"[A-Za-z0-9]{10}", token)
    # when the answer lacks the output, or has an output of another type or name, then the answer is refused
    for outputs in ([], [{"Name": "n", "Value": "five"}], [{"Name": "m", "Value": "5"}]):
        with pytest.raises(ApiError) as error:
            world.call("SendPipelineExecutionStepSuccess", CallbackToken=token, OutputParameters=outputs)
        assert error.value.code == "ValidationException"
    # and when the callback is answered correctly, twice with the same token
    answer = {"CallbackToken": token, "OutputParameters": [{"Name": "n", "Value": "5"}]}
    for _ in range(2):
        world.call("SendPipelineExecutionStepSuccess", **answer, ClientRequestToken="r" * 32)
    # then
    assert world.ended(arn)["PipelineExecutionStatus"] == "Succeeded"
    steps = world.steps(arn)
    assert steps["Check"]["Metadata"] == {"Condition": {"Outcome": "True"}}
    outputs = [{"Name": "n", "Value": "5"}]
    metadata = {"CallbackToken": token, "SqsQueueUrl": QUEUE, "OutputParameters": outputs}
    assert steps["Ask"]["Metadata"] == {"Callback": metadata}
    # and a further answer is refused
    with pytest.raises(ApiError, match="has ended already"):
        world.call("SendPipelineExecutionStepSuccess", **answer)
    with pytest.raises(ApiError, match="No callback step waits") as error:
        world.call("SendPipelineExecutionStepFailure", CallbackToken="0123456789")
    assert error.value.code == "ResourceNotFound"


def test_callback_failure_fails_its_step(world: PipelineWorld) -> None:
    arn = world.start(defined(callback(QUEUE)))
    until(lambda: world.messages, "the message", 20)
    token = world.messages[0]["token"]
    world.call("SendPipelineExecutionStepFailure", CallbackToken=token, FailureReason="refused by hand")
    assert world.ended(arn)["PipelineExecutionStatus"] == "Failed"
    assert world.steps(arn)["Ask"]["FailureReason"] == "ClientError: refused by hand"


# Stop


def test_stop_ends_jobs_and_starts_no_more(world: PipelineWorld) -> None:
    # given a running job, a job that waits for its next attempt, and a job that depends on the running job
    world.plan = {"A": ["InProgress"], "B": [INTERNAL]}
    later = retried("SageMaker.JOB_INTERNAL_ERROR", IntervalSeconds=1_000)
    arn = world.start(defined(training("A"), training("B", **later), training("C", DependsOn=["A"])))
    until(lambda: world.waits_for_retry(arn, "B"), "the failure", 20)
    # when
    for _ in range(2):
        world.call("StopPipelineExecution", PipelineExecutionArn=arn)
    # then
    assert world.ended(arn)["PipelineExecutionStatus"] == "Stopped"
    assert world.statuses(arn) == {"A": "Stopped", "B": "Stopped"}
    assert world.changes("A") == ["Starting", "Executing", "Stopping", "Stopped"]
    with pytest.raises(ApiError, match="has ended already: it is Stopped"):
        world.call("StopPipelineExecution", PipelineExecutionArn=arn)


def test_stop_waits_for_a_callbacks_answer(world: PipelineWorld) -> None:
    arn = world.start(defined(callback(QUEUE), training("Next", DependsOn=["Ask"])))
    until(lambda: world.messages, "the message", 20)
    # when the execution is stopped, then the receiver of the callback is notified
    world.call("StopPipelineExecution", PipelineExecutionArn=arn)
    until(lambda: len(world.messages) == 2, "the second message", 20)
    assert world.messages[1] == world.messages[0] | {"status": "Stopping"}
    assert world.describe(arn)["PipelineExecutionStatus"] == "Stopping"
    # and the execution ends when the receiver answers
    world.call("SendPipelineExecutionStepSuccess", CallbackToken=world.messages[0]["token"])
    assert world.ended(arn)["PipelineExecutionStatus"] == "Stopped"
    assert world.statuses(arn) == {"Ask": "Stopped"}


def test_stop_waits_for_a_function(world: PipelineWorld) -> None:
    # given a running Lambda step and a running training job
    opened, world.functions[ARN] = gate()
    world.plan = {"Train": ["InProgress"]}
    arn = world.start(defined(function(ARN), training(), training("Next", DependsOn=["Call"])))
    both = {"Call": "Executing", "Train": "Executing"}
    until(lambda: world.statuses(arn) == both, "both steps", 20)
    # when the execution is stopped, then the job is stopped, and the function continues
    world.call("StopPipelineExecution", PipelineExecutionArn=arn)
    stopped = {"Call": "Executing", "Train": "Stopped"}
    until(lambda: world.statuses(arn) == stopped, "the end of the job", 20)
    assert world.describe(arn)["PipelineExecutionStatus"] == "Stopping"
    opened.set()
    assert world.ended(arn)["PipelineExecutionStatus"] == "Stopped"
    assert world.statuses(arn) == {"Call": "Succeeded", "Train": "Stopped"}


def test_stop_fails_when_a_function_times_out(world: PipelineWorld) -> None:
    opened = threading.Event()

    def too_long(event: Any) -> Any:
        assert opened.wait(20)
        raise TimeoutError

    world.functions[ARN] = too_long
    arn = world.start(defined(function(ARN)))
    until(lambda: world.statuses(arn) == {"Call": "Executing"}, "the function", 20)
    world.call("StopPipelineExecution", PipelineExecutionArn=arn)
    opened.set()
    assert world.ended(arn)["PipelineExecutionStatus"] == "Failed"
    assert "did not end within 600 seconds" in world.steps(arn)["Call"]["FailureReason"]


def test_execution_that_lasts_too_long_fails(world: PipelineWorld) -> None:
    world.plan = {"Train": ["InProgress"]}
    arn = world.start(defined(training()))
    until(lambda: world.asked, "the job", 20)
    world.settings["pipeline_execution_timeout"] = -1
    found = world.ended(arn)
    assert (found["PipelineExecutionStatus"], found["FailureReason"]) == ("Failed", execution.TIMED_OUT)
    assert world.statuses(arn) == {"Train": "Stopped"}


# Caching


def cached(name: str = "Train", after: str = "P1D", **arguments: Any) -> dict[str, Any]:
    return training(name, CacheConfig={"Enabled": True, "ExpireAfter": after}, arguments=arguments)


def test_equal_step_is_not_run_again(world: PipelineWorld) -> None:
    # given the result of an earlier execution
    use = training("Use", arguments={"HyperParameters": {"of": get("Steps.Train.TrainingJobName")}})
    first, _ = world.run(defined(cached(), use))
    # when the pipeline runs twice more, with another output path, which is not part of the cache key
    output: dict[str, Any] = {"OutputDataConfig": {"S3OutputPath": "s3://bucket/other"}}
    world.call("UpdatePipeline", PipelineName="p", PipelineDefinition=defined(cached(**output), use))
    for _ in range(2):
        arn = world.start()
        assert world.ended(arn)["PipelineExecutionStatus"] == "Succeeded"
        # then both executions reuse that result
        step = world.steps(arn)["Train"]
        assert step["CacheHitResult"] == {"SourcePipelineExecutionArn": first}
        assert step["Metadata"] == world.steps(first)["Train"]["Metadata"]
        assert world.asked[-1]["HyperParameters"] == world.asked[1]["HyperParameters"]
    assert [asked["TrainingJobName"].split("-")[2] for asked in world.asked] == ["Train", "Use", "Use", "Use"]


@pytest.mark.parametrize(
    "changed",
    [cached(HyperParameters={"rate": "2"}), cached("Other"), training(), cached(after="T0m")],
    ids=["another argument", "another step", "no caching", "too old"],
)
def test_changed_step_is_not_taken_from_the_cache(world: PipelineWorld, changed: dict[str, Any]) -> None:
    world.run(defined(cached()))
    world.call("UpdatePipeline", PipelineName="p", PipelineDefinition=defined(changed))
    arn = world.start()
    world.ended(arn)
    (step,) = world.steps(arn).values()
    assert ("CacheHitResult" in step, len(world.asked)) == (False, 2)


def test_failed_run_is_not_reused(world: PipelineWorld) -> None:
    world.plan = {"Train": ["AlgorithmError: a"]}
    world.run(defined(cached()))
    arn = world.start()
    assert (world.ended(arn)["PipelineExecutionStatus"], len(world.asked)) == ("Succeeded", 2)


def test_result_of_another_pipeline_is_not_reused(world: PipelineWorld) -> None:
    world.run(defined(cached()))
    world.run(defined(cached()), name="q")
    assert len(world.asked) == 2


# Another server


def test_restarted_server_continues_with_a_callback(world: PipelineWorld) -> None:
    # given an execution that waits for a callback when the server ends
    arn = world.start(defined(callback(QUEUE), training("Next", DependsOn=["Ask"])))
    until(lambda: world.statuses(arn) == {"Ask": "Executing"}, "the callback", 20)
    token = world.messages[0]["token"]
    other = world.restart()
    # when the next server continues the execution, and the callback is answered
    other.recover()
    other.call("SendPipelineExecutionStepSuccess", CallbackToken=token)
    # then
    assert other.ended(arn)["PipelineExecutionStatus"] == "Succeeded"
    assert other.statuses(arn) == {"Ask": "Succeeded", "Next": "Succeeded"}
    assert other.messages == []


@pytest.mark.parametrize(("policy", "status"), [(True, "Succeeded"), (False, "Failed")])
def test_another_server_retries_lost_jobs_by_policy(world: PipelineWorld, policy: bool, status: str) -> None:
    # given a job that failed because the server ended
    world.plan = {"Train": ["InProgress", "Completed"]}
    members = retried("SageMaker.JOB_INTERNAL_ERROR") if policy else {}
    arn = world.start(defined(training(**members)))
    until(lambda: world.statuses(arn) == {"Train": "Executing"}, "the job", 20)
    other = world.restart()
    other.end_job(world.asked[0]["TrainingJobName"], "InternalServerError: The local cloud ended")
    # when, then
    other.recover()
    assert other.ended(arn)["PipelineExecutionStatus"] == status
    assert len(other.asked) == int(policy)


def test_restarted_server_requests_a_job_that_was_not_created(world: PipelineWorld) -> None:
    # given a server that ended after it stored the job's name, and before it requested the job
    world.plan = {"Train": ["InProgress"]}
    arn = world.start(defined(training()))
    until(lambda: world.statuses(arn) == {"Train": "Executing"}, "the job", 20)
    name = world.asked[0]["TrainingJobName"]
    other = world.restart()
    other.scope.remove("fake-job", name)

    def unasked(record: dict[str, Any]) -> None:
        record["Steps"]["Train"] |= {"StepStatus": "Starting", "Metadata": {}}

    other.scope.change("pipeline-execution", arn.partition("pipeline/")[2], unasked)
    # when
    other.recover()
    # then the job has the name that was stored
    assert other.ended(arn)["PipelineExecutionStatus"] == "Succeeded"
    assert [asked["TrainingJobName"] for asked in other.asked] == [name]


def test_step_of_a_running_function_fails_after_a_restart(world: PipelineWorld) -> None:
    opened, world.functions[ARN] = gate()
    arn = world.start(defined(function(ARN)))
    until(lambda: world.statuses(arn) == {"Call": "Executing"}, "the function", 20)
    other = world.restart()
    opened.set()
    other.recover()
    assert other.ended(arn)["PipelineExecutionStatus"] == "Failed"
    assert other.steps(arn)["Call"]["FailureReason"].startswith("InternalServerError: The local cloud ended")


# Events


def test_every_status_change_is_an_event(world: PipelineWorld) -> None:
    # given an execution with a description
    world.create(defined(training(DisplayName="the job")))
    arn = world.start(PipelineExecutionDisplayName="nightly", PipelineExecutionDescription="of today")
    world.ended(arn)
    of_steps = [detail for kind, detail in world.events if kind.endswith("Step Status Change")]
    of_all = [detail for kind, detail in world.events if kind.endswith("Pipeline Execution Status Change")]
    # then the events of its step have its statuses in order
    pairs = [(detail.get("previousStepStatus"), detail["currentStepStatus"]) for detail in of_steps]
    assert pairs == [(None, "Starting"), ("Starting", "Executing"), ("Executing", "Succeeded")]
    last = of_steps[-1]
    moment = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
    assert re.fullmatch(moment, last.pop("stepStartTime"))
    assert re.fullmatch(moment, last.pop("stepEndTime"))
    assert last == {
        "metadata": {"trainingJob": {"arn": world.steps(arn)["Train"]["Metadata"]["TrainingJob"]["Arn"]}},
        "stepName": "Train",
        "stepType": "Training",
        "currentStepStatus": "Succeeded",
        "previousStepStatus": "Executing",
        "pipelineArn": arn.partition("/execution")[0],
        "pipelineExecutionArn": arn,
    }
    # and the execution's events have its start and end
    first, final = of_all
    assert first["currentPipelineExecutionStatus"] == "Executing"
    assert "previousPipelineExecutionStatus" not in first
    assert re.fullmatch(moment, final.pop("executionStartTime"))
    assert re.fullmatch(moment, final.pop("executionEndTime"))
    assert final == {
        "pipelineExecutionDisplayName": "nightly",
        "pipelineExecutionDescription": "of today",
        "currentPipelineExecutionStatus": "Succeeded",
        "previousPipelineExecutionStatus": "Executing",
        "pipelineArn": arn.partition("/execution")[0],
        "pipelineExecutionArn": arn,
    }


def test_role_of_the_pipeline_makes_the_calls(world: PipelineWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a cloud that records the role of each call
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(
        world, "authorize", lambda account, region, key, action, *rest: asked.append((key, action))
    )
    # when
    world.run(defined(training()))
    # then
    key = f"key of {ROLE}"
    assert (key, "sagemaker:CreateTrainingJob") in asked
    assert (key, "sagemaker:DescribeTrainingJob") in asked
    assert {each for each, _ in asked} == {key}


def test_definition_of_an_execution_outlives_an_update(world: PipelineWorld) -> None:
    text = defined(training())
    arn, _ = world.run(text)
    world.call("UpdatePipeline", PipelineName="p", PipelineDefinition=defined(fail()))
    found = world.call("DescribePipelineDefinitionForExecution", PipelineExecutionArn=arn)
    assert json.loads(found["PipelineDefinition"]) == json.loads(text)
