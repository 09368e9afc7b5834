"""The local cloud refuses invalid input as AWS does: definitions, roles, sizes, policies, targets."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.cloud import LocalCloud
from tests.support.deployments import ACCOUNT, REGION, Stack, names, policy, role
from tests.support.waiting import until
from tooling import envs

LARGEST = 256 * 1024
END: dict[str, Any] = {"Type": "Pass", "End": True}
LARGE = f"{{% $pad('', {LARGEST}, 'x') %}}"
"""A JSONata expression whose value exceeds the maximum size of a state's output."""


def machine(**states: Any) -> str:
    return json.dumps({"StartAt": next(iter(states)), "States": states})


def jsonata(**states: Any) -> str:
    return json.dumps({"QueryLanguage": "JSONata", "StartAt": next(iter(states)), "States": states})


def refused(code: str, message: str = "") -> Any:
    return pytest.raises(ClientError, match=rf"(?s)\({code}\).*{message}")


@pytest.fixture(scope="module")
def states(aws: Callable) -> Any:
    return aws("stepfunctions")


@pytest.fixture(scope="module")
def trusted(aws: Callable) -> str:
    """A role that Step Functions may assume."""
    return role(aws, "states.amazonaws.com", ("*", "*"))


@pytest.fixture
def made(states: Any, trusted: str) -> Callable[[str], str]:
    """Return a function that creates a state machine and returns its ARN."""

    def make(definition: str, **given: Any) -> str:
        request = {"name": next(names), "definition": definition, "roleArn": trusted} | given
        return states.create_state_machine(**request)["stateMachineArn"]

    return make


@pytest.fixture
def ran(states: Any, made: Callable[[str], str]) -> Callable[..., dict[str, Any]]:
    """Return a function that runs a definition once and returns the description of the ended execution."""

    def run(definition: str, given: str = "{}") -> dict[str, Any]:
        arn = states.start_execution(stateMachineArn=made(definition), input=given)["executionArn"]

        def ended() -> dict[str, Any] | None:
            found = states.describe_execution(executionArn=arn)
            return found if found["status"] != "RUNNING" else None

        return until(ended, "the execution's end")

    return run


# Definitions ------------------------------------------------------------------------------------------

WRONG = {
    "no Next": machine(A={"Type": "Pass", "Next": "B"}),
    "no End": machine(A={"Type": "Pass"}),
    "an unknown Type": machine(A={"Type": "Sleep", "End": True}),
    "no JSON": "StartAt: A",
}


@pytest.mark.parametrize("definition", WRONG.values(), ids=WRONG)
def test_a_wrong_definition_is_refused_by_every_operation(
    states: Any, made: Callable, trusted: str, definition: str
) -> None:
    # given a valid state machine
    arn = made(machine(A=END))
    # then no state machine is created with an invalid definition or updated to it, and the validation has
    # errors only
    with refused("InvalidDefinition", "Invalid State Machine Definition: '"):
        made(definition)
    with refused("InvalidDefinition"):
        states.update_state_machine(stateMachineArn=arn, definition=definition)
    assert json.loads(states.describe_state_machine(stateMachineArn=arn)["definition"])["States"]["A"] == END
    found = states.validate_state_machine_definition(definition=definition)
    assert found["result"] == "FAIL"
    assert {each["severity"] for each in found["diagnostics"]} == {"ERROR"}


def test_definition_is_validated_with_its_jsonata_expressions(states: Any) -> None:
    right, wrong = jsonata(A=END | {"Output": "{% 1 %}"}), jsonata(A=END | {"Output": "{% 1 + %}"})
    assert states.validate_state_machine_definition(definition=right)["result"] == "OK"
    found = states.validate_state_machine_definition(definition=wrong)
    assert [each["code"] for each in found["diagnostics"]] == ["INVALID_JSONATA_EXPRESSION"]


def test_machine_needs_a_role_that_step_functions_may_assume(
    aws: Callable, states: Any, made: Callable
) -> None:
    # given a missing role, and a role that trusts another service
    nobody = f"arn:aws:iam::{ACCOUNT}:role/nobody"
    arn = made(machine(A=END))
    for each in (nobody, role(aws, "lambda.amazonaws.com")):
        # then no state machine can be created with such a role, or updated to use it
        with refused("AccessDeniedException", "states.amazonaws.com"):
            made(machine(A=END), roleArn=each)
        with refused("AccessDeniedException"):
            states.update_state_machine(stateMachineArn=arn, roleArn=each)


def test_stack_with_a_wrong_definition_or_role_rolls_back(aws: Callable, trusted: str) -> None:
    def resources(definition: str, role_arn: str) -> dict[str, Any]:
        properties = {"DefinitionString": definition, "RoleArn": role_arn, "StateMachineName": next(names)}
        return {"Machine": {"Type": "AWS::StepFunctions::StateMachine", "Properties": properties}}

    for definition, role_arn, said in (
        (WRONG["no End"], trusted, "InvalidDefinition"),
        (machine(A=END), f"{trusted}-other", "AccessDeniedException"),
    ):
        stack = Stack(aws)
        assert stack.create(resources(definition, role_arn)) == "ROLLBACK_COMPLETE"
        assert said in stack.reasons
    # and a stack update with an invalid definition changes nothing
    stack = Stack(aws)
    right = resources(machine(A=END), trusted)
    assert stack.create(right) == "CREATE_COMPLETE", stack.reasons
    right["Machine"]["Properties"]["DefinitionString"] = WRONG["no End"]
    assert stack.update(right) == "UPDATE_ROLLBACK_COMPLETE"
    assert "InvalidDefinition" in stack.reasons
    stack.delete()


# Executions -------------------------------------------------------------------------------------------


def test_starting_a_running_execution_again_answers_the_first(states: Any, made: Callable) -> None:
    # given a running execution
    arn = made(machine(A={"Type": "Wait", "Seconds": 600, "End": True}))
    request = {"stateMachineArn": arn, "name": next(names), "input": '{"a": 1}'}
    first = states.start_execution(**request)
    # then the same request returns the running execution, and a request with another input is refused
    again = states.start_execution(**request)
    assert (again["executionArn"], again["startDate"]) == (first["executionArn"], first["startDate"])
    with refused("ExecutionAlreadyExists"):
        states.start_execution(**request | {"input": "{}"})
    assert len(states.list_executions(stateMachineArn=arn)["executions"]) == 1
    # and after the execution's end, the same request is refused too
    states.stop_execution(executionArn=first["executionArn"])
    with refused("ExecutionAlreadyExists"):
        states.start_execution(**request)


@pytest.mark.parametrize(
    ("given", "code"),
    [(json.dumps("ä" * (LARGEST // 2)), "ValidationException"), ("{", "InvalidExecutionInput")],
)
def test_execution_input_that_is_too_large_or_invalid_is_refused(
    states: Any, made: Callable, given: str, code: str
) -> None:
    arn = made(machine(A=END))
    with refused(code):
        states.start_execution(stateMachineArn=arn, input=given)


@pytest.mark.parametrize("within", ["a state", "a branch", "a task"])
def test_a_result_over_256_kib_ends_the_execution(aws: Callable, ran: Callable, within: str) -> None:
    # given a state whose output is too large; a Task or Parallel state also has a Catch for States.ALL
    catch = {"Catch": [{"ErrorEquals": ["States.ALL"], "Next": "Caught"}]}
    large: dict[str, Any] = {"Type": "Pass", "Output": LARGE}
    if within == "a branch":
        branch = {
            "StartAt": "B",
            "States": {"B": large | {"Next": "C"}, "C": {"Type": "Succeed", "Output": 1}},
        }
        large = {"Type": "Parallel", "Branches": [branch]} | catch
    elif within == "a task":
        arguments = {"Name": next(names), "Description": LARGE}
        large = {"Type": "Task", "Resource": "arn:aws:states:::aws-sdk:secretsmanager:createSecret",
                 "Arguments": arguments} | catch  # fmt: skip
    more = {"Caught": {"Type": "Succeed"}} if "Catch" in large else {}
    # when the state machine runs, then the execution fails, because States.ALL does not catch this error
    ended = ran(jsonata(A=large | {"End": True}, **more))
    assert (ended["status"], ended["error"]) == ("FAILED", "States.DataLimitExceeded")


def test_result_of_256_kib_passes(ran: Callable) -> None:
    half = {"Type": "Pass", "Output": f"{{% $pad('', {LARGEST - 2}, 'x') %}}", "End": True}
    assert ran(jsonata(A=half))["status"] == "SUCCEEDED"
    task = {"Type": "Task", "Resource": "arn:aws:states:::aws-sdk:secretsmanager:createSecret",
            "Arguments": {"Name": "n", "Description": LARGE}, "End": True,
            "Catch": [{"ErrorEquals": ["States.DataLimitExceeded"], "Next": "Caught"}]}  # fmt: skip
    ended = ran(jsonata(A=task, Caught={"Type": "Succeed", "Output": "caught"}))
    assert (ended["status"], ended["output"]) == ("SUCCEEDED", '"caught"')


def test_jsonata_makes_the_output_of_every_type_of_state(ran: Callable) -> None:
    # given a state machine with an Output in a Succeed state, in a Parallel state and in the default of a
    # Choice state
    branch = {"StartAt": "B", "States": {"B": {"Type": "Pass", "End": True}}}
    definition = jsonata(
        A={
            "Type": "Parallel",
            "Branches": [branch, {"StartAt": "C", "States": {"C": {"Type": "Succeed", "Output": 2}}}],
            "Arguments": "{% $states.input.one %}",
            "Assign": {"kept": "{% $states.result %}"},
            "Output": {"parallel": "{% $states.result %}"},
            "Next": "D",
        },
        D={
            "Type": "Choice",
            "Choices": [{"Condition": "{% false %}", "Next": "E"}],
            "Output": {"choice": "{% $states.input.parallel %}"},
            "Default": "E",
        },
        E={"Type": "Succeed", "Output": {"succeed": "{% $states.input.choice %}", "kept": "{% $kept %}"}},
    )
    # then each Output is evaluated
    ended = ran(definition, '{"one": 1}')
    assert json.loads(ended["output"]) == {"succeed": [1, 2], "kept": [1, 2]}, ended


def test_sdk_tasks_answer_with_numbers_and_booleans(aws: Callable, ran: Callable, trusted: str) -> None:
    # given S3, IAM and CloudWatch, which respond with XML
    bucket = next(names)
    aws("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    aws("s3").put_object(Bucket=bucket, Key="k", Body=b"12345")

    def task(action: str, **arguments: Any) -> dict[str, Any]:
        resource = f"arn:aws:states:::aws-sdk:{action}"
        ended = ran(jsonata(A={"Type": "Task", "Resource": resource, "Arguments": arguments, "End": True}))
        assert ended["status"] == "SUCCEEDED", ended
        return json.loads(ended["output"])

    # then numbers, booleans and lists of one item keep their types
    listed = task("s3:listObjectsV2", Bucket=bucket)
    assert (listed["KeyCount"], listed["IsTruncated"]) == (1, False)
    assert [each["Size"] for each in listed["Contents"]] == [5]
    assert task("iam:getRole", RoleName=trusted.rpartition("/")[2])["Role"]["MaxSessionDuration"] == 3600
    alarms = task("cloudwatch:describeAlarms", AlarmNames=["nobody"])
    assert alarms["MetricAlarms"] == []


def test_operations_with_a_host_prefix_work_with_printed_variables(
    cloud: LocalCloud, made: Callable, trusted: str
) -> None:
    # given a program with only the environment variables that `local env` prints
    definition = jsonata(A={"Type": "Pass", "Output": 1, "End": True})
    arn = made(definition, type="EXPRESS")
    program = f"""
import boto3, json
states = boto3.client("stepfunctions")
print(states.start_sync_execution(stateMachineArn={arn!r})["output"])
state = json.dumps({{"Type": "Pass", "Result": 2, "End": True}})
print(states.test_state(definition=state, roleArn={trusted!r})["output"])
"""
    said = subprocess.run(
        [sys.executable, "-c", program], env={"PATH": os.environ["PATH"]} | cloud.env(),
        cwd=envs.ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    # then both calls work
    assert said.stdout.split() == ["1", "2"], said.stderr


# Lambda -----------------------------------------------------------------------------------------------

HANDLER = """
def handler(event, context):
    return "x" * event.get("size", 0)
"""


@pytest.fixture(scope="module")
def function(aws: Callable) -> str:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("index.py", HANDLER)
    name = next(names)
    aws("lambda").create_function(
        FunctionName=name, Runtime="python3.11", Handler="index.handler", Timeout=30,
        Role=role(aws, "lambda.amazonaws.com"), Code={"ZipFile": archive.getvalue()},
    )  # fmt: skip
    return name


def test_an_answer_over_6_mb_fails_the_function(aws: Callable, function: str) -> None:
    limit = 6 * 1024 * 1024 + 100

    def ask(size: int) -> dict[str, Any]:
        return aws("lambda").invoke(FunctionName=function, Payload=json.dumps({"size": size}))

    assert "FunctionError" not in ask(limit - 2)  # the response also has the two quotes of a JSON string
    answer = ask(limit - 1)
    assert answer["FunctionError"] == "Unhandled"
    assert json.load(answer["Payload"])["errorType"] == "Function.ResponseSizeTooLarge"


@pytest.mark.parametrize(("kind", "limit"), [("RequestResponse", 6 * 1024 * 1024), ("Event", 1024 * 1024)])
def test_request_over_the_limit_is_refused(aws: Callable, function: str, kind: str, limit: int) -> None:
    def ask(size: int) -> Any:
        filler = json.dumps({"a": ""})
        payload = json.dumps({"a": "x" * (size - len(filler))})
        return aws("lambda").invoke(FunctionName=function, InvocationType=kind, Payload=payload)

    assert ask(limit)["StatusCode"] in (200, 202)
    with refused("RequestEntityTooLargeException") as error:
        ask(limit + 1)
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413


# IAM --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arn", ["arn:aws:iam::aws:policy/NoSuchPolicy", f"arn:aws:iam::{ACCOUNT}:policy/none"]
)
def test_a_policy_that_does_not_exist_is_not_attached(aws: Callable, arn: str) -> None:
    iam, name = aws("iam"), next(names)
    trust = policy(
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    )
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)
    iam.create_user(UserName=name)
    iam.create_group(GroupName=name)
    # then the policy, which does not exist, cannot be attached to a user, a group or a role
    for entity in ("Role", "User", "Group"):
        with refused("NoSuchEntity", "does not exist or is not attachable"):
            getattr(iam, f"attach_{entity.lower()}_policy")(**{f"{entity}Name": name, "PolicyArn": arn})
    # and a stack cannot attach the policy either
    trusts = {"AssumeRolePolicyDocument": json.loads(trust)}
    for kind, properties in (("Role", trusts), ("User", {})):
        stack = Stack(aws)
        resource = {"Type": f"AWS::IAM::{kind}", "Properties": properties | {"ManagedPolicyArns": [arn]}}
        assert stack.create({kind: resource}) == "ROLLBACK_COMPLETE"
        assert "does not exist or is not attachable" in stack.reasons


def assumable(aws: Callable) -> tuple[str, dict[str, str]]:
    """Create a role without grants; return its name and the credentials of a session with this role."""
    arn = role(aws, "lambda.amazonaws.com")
    name = arn.rpartition("/")[2]
    trust = policy({"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"})
    aws("iam").update_assume_role_policy(RoleName=name, PolicyDocument=trust)
    session = aws("sts").assume_role(RoleArn=arn, RoleSessionName="session")["Credentials"]
    return name, {
        "aws_access_key_id": session["AccessKeyId"],
        "aws_secret_access_key": session["SecretAccessKey"],
        "aws_session_token": session["SessionToken"],
    }


@pytest.mark.parametrize("values", [1, 500], ids=["plain", "compressed"])
def test_a_grant_for_a_namespace_allows_its_metrics_alone(
    cloud: LocalCloud, aws: Callable, values: int
) -> None:
    # given a role that may put metrics into SageMaker's namespaces
    name, keys = assumable(aws)
    grant = {
        "Effect": "Allow",
        "Action": "cloudwatch:PutMetricData",
        "Resource": "*",
        "Condition": {"StringLike": {"cloudwatch:namespace": "/aws/sagemaker/*"}},
    }
    aws("iam").put_role_policy(RoleName=name, PolicyName="metrics", PolicyDocument=policy(grant))
    data = [{"MetricName": "loss", "Value": float(value)} for value in range(values)]
    cloud.enforce_iam(True)
    try:
        # then it can put metrics into these namespaces only
        aws("cloudwatch", **keys).put_metric_data(Namespace="/aws/sagemaker/TrainingJobs", MetricData=data)
        with pytest.raises(ClientError, match="AccessDenied"):
            aws("cloudwatch", **keys).put_metric_data(Namespace="elsewhere", MetricData=data)
    finally:
        cloud.enforce_iam(False)


def test_aws_managed_policy_grants_its_actions_only(cloud: LocalCloud, aws: Callable) -> None:
    # given a role with only one of AWS's managed policies
    name, keys = assumable(aws)
    aws("iam").attach_role_policy(RoleName=name, PolicyArn="arn:aws:iam::aws:policy/AmazonSageMakerReadOnly")
    cloud.enforce_iam(True)
    try:
        # then the role can read, and cannot delete
        assert "Models" in aws("sagemaker", **keys).list_models()
        with pytest.raises(ClientError, match="AccessDenied"):
            aws("sagemaker", **keys).delete_model(ModelName="m")
    finally:
        cloud.enforce_iam(False)


@pytest.mark.parametrize(("given", "expected"), [("", "default"), ("a,b", "a+b")])
def test_a_condition_compares_a_joined_list(aws: Callable, given: str, expected: str) -> None:
    # given a template whose condition compares a joined list, as in the CDK's bootstrap template
    joined = {"Fn::Join": ["+", {"Ref": "List"}]}
    template = {
        "Parameters": {"List": {"Type": "CommaDelimitedList", "Default": ""}},
        "Conditions": {"Given": {"Fn::Not": [{"Fn::Equals": ["", joined]}]}},
        "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}},
        "Outputs": {"Shown": {"Value": {"Fn::If": ["Given", joined, "default"]}}},
    }
    formation, name = aws("cloudformation"), next(names)
    parameters = [{"ParameterKey": "List", "ParameterValue": given}]
    formation.create_stack(StackName=name, TemplateBody=json.dumps(template), Parameters=parameters)

    def outputs() -> Any:
        return formation.describe_stacks(StackName=name)["Stacks"][0].get("Outputs")

    (shown,) = until(outputs, "the stack's outputs")
    assert shown["OutputValue"] == expected


# EventBridge ------------------------------------------------------------------------------------------

KINESIS = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/s"


def test_a_target_that_nothing_serves_is_refused_by_name(aws: Callable) -> None:
    events, rule = aws("events"), next(names)
    events.put_rule(Name=rule, ScheduleExpression="rate(1 day)")
    served = f"arn:aws:sqs:{REGION}:{ACCOUNT}:q"
    events.put_targets(Rule=rule, Targets=[{"Id": "1", "Arn": served}])
    with refused("NotImplementedByLocalCloud", "kinesis"):
        events.put_targets(Rule=rule, Targets=[{"Id": "1", "Arn": served}, {"Id": "2", "Arn": KINESIS}])
    assert [each["Id"] for each in events.list_targets_by_rule(Rule=rule)["Targets"]] == ["1"]
    # and a schedule with an unsupported target is refused too
    with refused("NotImplementedByLocalCloud"):
        aws("scheduler").create_schedule(
            Name=next(names), ScheduleExpression="rate(1 day)", FlexibleTimeWindow={"Mode": "OFF"},
            Target={"Arn": KINESIS, "RoleArn": f"arn:aws:iam::{ACCOUNT}:role/r"},
        )  # fmt: skip


def test_stack_whose_rule_has_an_unserved_target_rolls_back(aws: Callable) -> None:
    target = {"Id": "1", "Arn": KINESIS}
    stack = Stack(aws)
    properties = {"ScheduleExpression": "rate(1 day)", "Targets": [target]}
    assert (
        stack.create({"Rule": {"Type": "AWS::Events::Rule", "Properties": properties}}) == "ROLLBACK_COMPLETE"
    )
    assert "kinesis" in stack.reasons
