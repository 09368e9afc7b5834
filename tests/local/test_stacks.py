"""Refusals of CloudFormation as on AWS: existing names, and deletion of protected resources."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.waiting import until

Template = dict[str, dict[str, Any]]

ASSUME = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": ["lambda.amazonaws.com", "states.amazonaws.com"]},
            "Action": "sts:AssumeRole",
        }
    ],
}
PASS = {"StartAt": "Pass", "States": {"Pass": {"Type": "Pass", "End": True}}}


class Stacks:
    def __init__(self, client: Any):
        self.client = client

    def create(self, resources: Template, name: str = "") -> tuple[str, str]:
        """Create a stack; return its name and final status."""
        name = name or f"stack-{uuid.uuid4().hex[:8]}"
        self.client.create_stack(
            StackName=name,
            TemplateBody=json.dumps({"Resources": resources}),
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        return name, self.settled(name)

    def delete(self, name: str) -> str:
        (stack,) = self.client.describe_stacks(StackName=name)["Stacks"]
        self.client.delete_stack(StackName=name)
        return self.settled(stack["StackId"])

    def settled(self, name: str) -> str:
        def status() -> str | None:
            (stack,) = self.client.describe_stacks(StackName=name)["Stacks"]
            return None if stack["StackStatus"].endswith("_IN_PROGRESS") else stack["StackStatus"]

        return until(status, f"{name}'s end")

    def reasons(self, name: str) -> str:
        events = self.client.describe_stack_events(StackName=name)["StackEvents"]
        return " ".join(event.get("ResourceStatusReason", "") for event in events)


@pytest.fixture(scope="module")
def stacks(aws: Callable[..., Any]) -> Stacks:
    return Stacks(aws("cloudformation"))


@pytest.fixture
def broken(aws: Callable[..., Any]) -> dict[str, Any]:
    """A resource that is created after `Kept` and fails, because its name is taken."""
    name = f"taken-{uuid.uuid4().hex[:8]}"
    aws("secretsmanager").create_secret(Name=name, SecretString="a person's")
    return {"Type": "AWS::SecretsManager::Secret", "Properties": {"Name": name}, "DependsOn": "Kept"}


def table(name: str, **properties: Any) -> dict[str, Any]:
    return {
        "Type": "AWS::DynamoDB::Table",
        "Properties": {
            "TableName": name,
            "BillingMode": "PAY_PER_REQUEST",
            "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
            "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
            **properties,
        },
    }


def role(name: str) -> dict[str, Any]:
    return {"Type": "AWS::IAM::Role", "Properties": {"RoleName": name, "AssumeRolePolicyDocument": ASSUME}}


def named(kind: str, name: str) -> Template:
    """Return the resources of a template: a resource of the type `kind` with this name, and with generated
    names the resources that it needs."""
    helper = {"Helper": {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": ASSUME}}}
    arn = {"Fn::GetAtt": ["Helper", "Arn"]}
    key = {
        "Key": {
            "Type": "AWS::KMS::Key",
            "Properties": {"KeyPolicy": {"Version": "2012-10-17", "Statement": []}},
        }
    }
    code = {"ZipFile": "def handler(event, context):\n    return event\n"}
    of: dict[str, tuple[dict[str, Any], Template]] = {
        "AWS::SecretsManager::Secret": ({"Name": name}, {}),
        "AWS::IAM::Role": (role(name)["Properties"], {}),
        "AWS::DynamoDB::Table": (table(name)["Properties"], {}),
        "AWS::SQS::Queue": ({"QueueName": name}, {}),
        "AWS::SNS::Topic": ({"TopicName": name}, {}),
        "AWS::Lambda::Function": (
            {
                "FunctionName": name,
                "Runtime": "python3.11",
                "Handler": "index.handler",
                "Role": arn,
                "Code": code,
            },
            helper,
        ),
        "AWS::StepFunctions::StateMachine": (
            {"StateMachineName": name, "RoleArn": arn, "DefinitionString": json.dumps(PASS)},
            helper,
        ),
        "AWS::Events::Rule": ({"Name": name, "ScheduleExpression": "rate(1 day)"}, {}),
        "AWS::CloudWatch::Alarm": (
            {
                "AlarmName": name,
                "Namespace": "N",
                "MetricName": "M",
                "Statistic": "Sum",
                "Period": 60,
                "EvaluationPeriods": 1,
                "Threshold": 1,
                "ComparisonOperator": "GreaterThanThreshold",
            },
            {},
        ),
        "AWS::KMS::Alias": ({"AliasName": f"alias/{name}", "TargetKeyId": {"Ref": "Key"}}, key),
        "AWS::ECR::Repository": ({"RepositoryName": name}, {}),
        "AWS::Logs::LogGroup": ({"LogGroupName": f"/{name}"}, {}),
        "AWS::SSM::Parameter": ({"Name": f"/{name}", "Type": "String", "Value": "1"}, {}),
        "AWS::IAM::ManagedPolicy": (
            {
                "ManagedPolicyName": name,
                "PolicyDocument": {
                    "Version": "2012-10-17",
                    "Statement": [{"Effect": "Allow", "Action": "s3:ListAllMyBuckets", "Resource": "*"}],
                },
            },
            {},
        ),
    }
    properties, others = of[kind]
    return {"Named": {"Type": kind, "Properties": properties}, **others}


KINDS = (
    "AWS::SecretsManager::Secret",
    "AWS::IAM::Role",
    "AWS::DynamoDB::Table",
    "AWS::SQS::Queue",
    "AWS::SNS::Topic",
    "AWS::Lambda::Function",
    "AWS::StepFunctions::StateMachine",
    "AWS::Events::Rule",
    "AWS::CloudWatch::Alarm",
    "AWS::KMS::Alias",
    "AWS::ECR::Repository",
    "AWS::Logs::LogGroup",
    "AWS::SSM::Parameter",
    "AWS::IAM::ManagedPolicy",
)


@pytest.mark.parametrize("kind", KINDS)
def test_second_stack_cannot_use_an_existing_name(stacks: Stacks, kind: str) -> None:
    # given a stack with a named resource
    name = f"taken-{uuid.uuid4().hex[:8]}"
    first, status = stacks.create(named(kind, name))
    assert status == "CREATE_COMPLETE", stacks.reasons(first)

    # when another stack creates a resource of the same name, then that stack is rolled back with the reason
    second, status = stacks.create(named(kind, name))
    assert status == "ROLLBACK_COMPLETE"
    assert "already exists" in stacks.reasons(second)

    # and deleting the second stack keeps the resource of the first stack: the name is free only after the
    # first stack is deleted
    assert stacks.delete(second) == "DELETE_COMPLETE"
    assert stacks.create(named(kind, name))[1] == "ROLLBACK_COMPLETE"
    assert stacks.delete(first) == "DELETE_COMPLETE"
    third, status = stacks.create(named(kind, name))
    assert status == "CREATE_COMPLETE", stacks.reasons(third)
    stacks.delete(third)


def test_stack_fails_when_a_resource_of_the_name_exists(stacks: Stacks, aws: Callable[..., Any]) -> None:
    name = f"taken-{uuid.uuid4().hex[:8]}"
    aws("secretsmanager").create_secret(Name=name, SecretString="a person's")

    stack, status = stacks.create(named("AWS::SecretsManager::Secret", name))

    assert status == "ROLLBACK_COMPLETE"
    assert f"'{name}' already exists" in stacks.reasons(stack)
    assert aws("secretsmanager").get_secret_value(SecretId=name)["SecretString"] == "a person's"


@pytest.mark.parametrize(("policy", "left"), [("RetainExceptOnCreate", False), ("Retain", True)])
def test_only_policy_retain_keeps_a_resource_after_failed_creation(
    stacks: Stacks, aws: Callable[..., Any], broken: dict[str, Any], policy: str, left: bool
) -> None:
    name = f"kept-{uuid.uuid4().hex[:8]}"
    kept = table(name) | {"DeletionPolicy": policy, "UpdateReplacePolicy": "Retain"}

    _, status = stacks.create({"Kept": kept, "Broken": broken})

    assert status == "ROLLBACK_COMPLETE"
    assert (name in aws("dynamodb").list_tables()["TableNames"]) == left


def test_retained_resource_outlives_its_stack(stacks: Stacks, aws: Callable[..., Any]) -> None:
    name = f"kept-{uuid.uuid4().hex[:8]}"
    kept = table(name) | {"DeletionPolicy": "RetainExceptOnCreate", "UpdateReplacePolicy": "Retain"}
    stack, _ = stacks.create({"Kept": kept})

    assert stacks.delete(stack) == "DELETE_COMPLETE"

    assert name in aws("dynamodb").list_tables()["TableNames"]
    # and a new stack with this resource fails, because the table already exists
    assert stacks.create({"Kept": kept})[1] == "ROLLBACK_COMPLETE"


def test_protected_table_blocks_the_rollback_of_its_creation(stacks: Stacks, broken: dict[str, Any]) -> None:
    name = f"kept-{uuid.uuid4().hex[:8]}"
    protected = table(name, DeletionProtectionEnabled=True)

    stack, status = stacks.create({"Kept": protected, "Broken": broken})

    assert status == "ROLLBACK_FAILED"
    assert "protected against deletion" in stacks.reasons(stack)


def test_protected_pool_is_not_deleted(stacks: Stacks, aws: Callable[..., Any]) -> None:
    # given a stack with a protected user pool
    pool = {"Type": "AWS::Cognito::UserPool", "Properties": {"DeletionProtection": "ACTIVE"}}
    stack, status = stacks.create({"Users": pool})
    assert status == "CREATE_COMPLETE"
    (resource,) = stacks.client.describe_stack_resources(StackName=stack)["StackResources"]

    # then neither a stack deletion nor an API call can delete the pool before the protection is off
    cognito, pool_id = aws("cognito-idp"), resource["PhysicalResourceId"]
    assert stacks.delete(stack) == "DELETE_FAILED"
    with pytest.raises(ClientError, match="deletion protection is activated"):
        cognito.delete_user_pool(UserPoolId=pool_id)
    cognito.update_user_pool(UserPoolId=pool_id, DeletionProtection="INACTIVE")
    assert stacks.delete(stack) == "DELETE_COMPLETE"
