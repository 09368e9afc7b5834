"""Stacks with resources that the local cloud adds to MiniStack, the emulator below it, or changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from local.cloud import LocalCloud
from tests.support.clouds import own_keys
from tests.support.deployments import ACCOUNT, HOSTED, REGION, Stack, asked, assumed, hosting, names


def test_stack_creates_updates_and_deletes_an_endpoint(
    aws: Callable, image: str, execution_role: str
) -> None:
    sagemaker, stack = aws("sagemaker"), Stack(aws)
    # when a stack is created, then its endpoint serves; Ref of its model is the model's ARN, and the model
    # has the stack's tags
    assert stack.create(hosting(image, execution_role, ANSWER="one"), HOSTED) == "CREATE_COMPLETE", (
        stack.reasons
    )
    first = stack.outputs
    assert first["Ref"] == f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:model/{first['Model']}"
    assert first["Model"].startswith(f"{stack.name}-Model-")
    assert asked(aws, first["Endpoint"]) == "one"
    tags = {tag["Key"]: tag["Value"] for tag in sagemaker.list_tags(ResourceArn=first["Ref"])["Tags"]}
    assert (tags["team"], tags["aws:cloudformation:stack-name"]) == ("ours", stack.name)
    # when the model changes, then model and configuration are replaced, the same endpoint serves the new
    # model, and the replaced resources are deleted
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


def test_failed_stack_creation_is_rolled_back(aws: Callable, image: str, execution_role: str) -> None:
    # given a stack whose endpoint configuration names a missing model
    resources = hosting(image, execution_role)
    resources["Config"]["Properties"]["ProductionVariants"][0]["ModelName"] = "nobody"
    stack = Stack(aws)
    # then the stack is rolled back with SageMaker's reason, and the created model is deleted
    assert stack.create(resources) == "ROLLBACK_COMPLETE"
    assert "nobody" in stack.reasons
    assert aws("sagemaker").list_models(NameContains=stack.name)["Models"] == []


def test_describe_stacks_returns_to_the_cdk_after_the_change_ends(cloud: LocalCloud, aws: Callable) -> None:
    # given a stack that waits one second for a signal
    name, formation = next(names), aws("cloudformation")
    wait = {"Handle": {"Ref": "Handle"}, "Timeout": "1"}
    resources = {
        "Handle": {"Type": "AWS::CloudFormation::WaitConditionHandle"},
        "Wait": {"Type": "AWS::CloudFormation::WaitCondition", "Properties": wait},
    }
    formation.create_stack(StackName=name, TemplateBody=json.dumps({"Resources": resources}))
    # when another client calls DescribeStacks, then it gets the current status
    assert formation.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"] == "CREATE_IN_PROGRESS"
    # when the CDK calls DescribeStacks, which it does every five seconds, then it gets the final status
    cdk = boto3.client(
        "cloudformation",
        endpoint_url=cloud.endpoint_url,
        region_name=cloud.region,
        config=Config(user_agent_extra="aws-cdk/2.1148.1"),
        **own_keys(cloud),
    )
    assert cdk.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"] == "ROLLBACK_COMPLETE"


def test_stack_makes_notebooks_and_model_groups(aws: Callable, execution_role: str) -> None:
    group = next(names)

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
                "Properties": {"ModelPackageGroupName": f"{group}-{size}"},
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
    assert first["GroupRef"] == f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:model-package-group/{group}-5"
    # when the stack is updated with a larger notebook disk and another name for the model group
    assert stack.update(resources("echo two", 8), outputs) == "UPDATE_COMPLETE", stack.reasons
    # then the notebook is updated and runs, and the group is replaced
    assert stack.outputs["Notebook"] == first["Notebook"]
    notebook = sagemaker.describe_notebook_instance(NotebookInstanceName=first["Notebook"])
    assert notebook["VolumeSizeInGB"] == 8
    groups = sagemaker.list_model_package_groups(NameContains=group)["ModelPackageGroupSummaryList"]
    assert [each["ModelPackageGroupName"] for each in groups] == [f"{group}-8"]
    stack.delete()
    assert sagemaker.list_notebook_instances(NameContains=stack.name)["NotebookInstances"] == []


def test_secret_is_referred_to_by_its_arn(cloud: LocalCloud, aws: Callable) -> None:
    # given a stack with a secret whose Ref is its ARN, and a role with a grant on this ARN
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
        # then this role can read the secret by its ARN and by its name, and another role cannot read it
        for reference in (arn, name):
            read = aws("secretsmanager", **reader).get_secret_value(SecretId=reference)
            assert read["SecretString"] == "hidden"
            with pytest.raises(ClientError, match="AccessDenied"):
                aws("secretsmanager", **stranger).get_secret_value(SecretId=reference)
    finally:
        cloud.enforce_iam(False)
    # and the stack can update and delete the secret
    assert stack.update(resources("two"), {"Arn": {"Ref": "Secret"}}) == "UPDATE_COMPLETE", stack.reasons
    assert stack.outputs["Arn"] == arn
    assert aws("secretsmanager").describe_secret(SecretId=arn)["Description"] == "two"
    stack.delete()
    with pytest.raises(ClientError):
        aws("secretsmanager").get_secret_value(SecretId=name)


def test_alarm_evaluates_metric_math(aws: Callable) -> None:
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
