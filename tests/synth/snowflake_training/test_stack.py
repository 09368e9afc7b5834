"""The template of snowflake_training: required and forbidden contents."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from groundplan import states
from groundplan.lambdas.clean_up.handler import leftovers
from local.emulator.definitions import diagnose
from tests.support.workflow import SageMaker
from tests.synth.machine import Run
from tests.synth.template import (
    Template,
    allowed,
    flat,
    listed,
    logs_may_use,
    of_type,
    only,
    retained_types,
    statements,
    wildcards,
)

NAME = "groundplan-dev-snowflake-training"
NAMED = ("TrainingJobName", "ModelName", "EndpointConfigName")
"""Arguments with the name of a created resource."""


def workflow(template: Template) -> dict[str, Any]:
    """Return the state machine's definition, with references as `<Name>`."""
    return json.loads(
        flat(only(template, "AWS::StepFunctions::StateMachine")["Properties"]["DefinitionString"])
    )


def test_workflow_definition_is_valid(dev: Template, prod: Template, vpc: Template):
    for template in (dev, prod, vpc):
        assert diagnose(json.dumps(workflow(template)).replace("<AWS::Partition>", "aws")) == []


# Least privilege


def test_workflow_has_exactly_the_grants_of_its_calls(dev: Template):
    called = {
        "sagemaker:" + verb[0].upper() + verb[1:]
        for state in workflow(dev)["States"].values()
        if state["Type"] == "Task"
        for verb in [state["Resource"].removesuffix(".sync").rpartition(":")[2]]
    }
    synchronous = {
        f"sagemaker:{verb}" for verb in ("DescribeTrainingJob", "StopTrainingJob", "AddTags", "ListTags")
    }
    granted = {action for action in allowed(dev, "Workflow") if action.startswith("sagemaker:")}
    assert granted == called | synchronous
    for action in ("events:PutTargets", "events:PutRule", "events:DescribeRule"):
        (rule,) = allowed(dev, "Workflow")[action]
        assert rule.endswith(":rule/StepFunctionsGetEventsForSageMakerTrainingJobsRule")


def test_secret_is_read_by_roles_that_read_snowflake_only(dev: Template):
    secret = {f"<{name}>" for name in of_type(dev, "AWS::SecretsManager::Secret")}
    readers = {
        name for name, _, s in statements(dev) if "secretsmanager:GetSecretValue" in listed(s["Action"])
    }
    assert {re.sub("RoleDefaultPolicy.*", "", name) for name in readers} == {
        "Training",
        "Notebook",
        "ExperimentTraining",
    }
    for name, _, statement in statements(dev):
        if name in readers and "secretsmanager:GetSecretValue" in listed(statement["Action"]):
            assert set(map(flat, listed(statement["Resource"]))) == secret


def test_training_writes_only_its_own_folders_and_deletes_nothing(dev: Template):
    grants = allowed(dev, "Training")
    assert {resource.rpartition(">/")[2] for resource in grants["s3:PutObject"]} == {
        "training/*",
        "checkpoints/*",
        "evaluation/*",
    }
    experiments = allowed(dev, "ExperimentTraining")["s3:PutObject"]
    assert {resource.rpartition(">/")[2] for resource in experiments} == {"notebook/*"}
    assert not [action for action in grants if "Delete" in action and action.startswith("s3")]


# Secrets


def test_secret_is_created_without_a_value(dev: Template):
    properties = only(dev, "AWS::SecretsManager::Secret")["Properties"]
    assert properties["Name"] == "snowflake_credentials"
    assert not {"SecretString", "GenerateSecretString"} & set(properties)


def test_job_gets_the_secrets_name_only(dev: Template):
    job = workflow(dev)["States"]["Train"]["Arguments"]
    assert "'secret': 'snowflake_credentials'" in job["HyperParameters"]
    assert "Environment" not in job


def test_existing_secret_is_read_and_not_created(vpc: Template):
    assert not of_type(vpc, "AWS::SecretsManager::Secret")
    (resource,) = allowed(vpc, "Training")["secretsmanager:GetSecretValue"]
    assert resource.endswith(":secret:snowflake_credentials-??????")


# Safe by default


def test_notebook_is_without_root_and_stopped_every_evening(dev: Template):
    instance = only(dev, "AWS::SageMaker::NotebookInstance")["Properties"]
    assert instance["RootAccess"] == "Disabled"
    assert instance["InstanceMetadataServiceConfiguration"] == {"MinimumInstanceMetadataServiceVersion": "2"}
    schedule = only(dev, "AWS::Scheduler::Schedule")["Properties"]
    assert schedule["ScheduleExpression"].startswith("cron(")
    assert json.loads(flat(schedule["Target"]["Input"])) == {"NotebookInstanceName": NAME}
    assert allowed(dev, "NotebookStop")["sagemaker:StopNotebookInstance"]


def test_jobs_reach_snowflake_and_encrypt_traffic_between_hosts(dev: Template):
    for state in ("Train", "Evaluate"):
        job = workflow(dev)["States"][state]["Arguments"]
        assert job["EnableNetworkIsolation"] is False
        assert job["EnableInterContainerTrafficEncryption"] is True


def test_failed_runs_and_endpoint_errors_raise_alarms(dev: Template, vpc: Template):
    topic = only(dev, "AWS::SNS::Topic")
    (name,) = of_type(dev, "AWS::SNS::Topic")
    assert topic
    alarms = of_type(dev, "AWS::CloudWatch::Alarm").values()
    watched = set()
    for alarm in alarms:
        properties = alarm["Properties"]
        assert properties["AlarmActions"] == [{"Ref": name}]
        assert properties["TreatMissingData"] == "notBreaching"
        for metric in properties.get("Metrics", []):
            watched.add(metric.get("MetricStat", {}).get("Metric", {}).get("MetricName"))
        watched.add(properties.get("MetricName"))
    assert watched >= {"ExecutionsFailed", "ExecutionsTimedOut", "Invocation5XXErrors"}
    policy = only(dev, "AWS::SNS::TopicPolicy")["Properties"]["PolicyDocument"]["Statement"]
    assert {"Service": "cloudwatch.amazonaws.com"} in [
        s["Principal"] for s in policy if s["Effect"] == "Allow"
    ]
    assert not of_type(dev, "AWS::SNS::Subscription")
    assert only(vpc, "AWS::SNS::Subscription")["Properties"]["Endpoint"] == "someone@example.com"


def test_every_taggable_resource_is_tagged(dev: Template):
    tagged = [r for r in dev["Resources"].values() if "Tags" in r["Properties"]]
    assert len(tagged) > 12
    for resource in tagged:
        tags = {tag["Key"]: tag["Value"] for tag in resource["Properties"]["Tags"]}
        assert tags["groundplan:architecture"] == "snowflake_training"
        assert tags["groundplan:environment"] == "dev"
    for state in ("Train", "Evaluate", "CreateModel", "CreateEndpointConfig", "CreateEndpoint"):
        keys = {tag["Key"] for tag in workflow(dev)["States"][state]["Arguments"]["Tags"]}
        assert keys == {"groundplan:architecture", "groundplan:environment", "groundplan:execution"}


# The workflow


@pytest.mark.parametrize("variant", ["dev", "prod", "vpc"])
def test_deployed_workflow_is_sound(variant: str, request: pytest.FixtureRequest):
    definition = workflow(request.getfixturevalue(variant))
    assert states.problems(definition) == []
    for name, state in definition["States"].items():
        if state["Type"] == "Task":
            assert state["TimeoutSeconds"] > 0, name
            assert state["Catch"], name
            assert "Retry" not in state, f"{name} must have no Retry, which cannot distinguish throttling"


@pytest.mark.parametrize("serving", [None, "InService", "Failed"])
def test_deployed_workflow_trains_and_deploys(serving: str | None, dev: Template):
    """Check the definition in the template, not the Python objects from which it was made."""
    sagemaker = SageMaker(serving)
    done = Run(workflow(dev), {}, sagemaker)
    assert (done.error, done.cause) == (None, None)
    assert done.output["deployed"] is True
    assert sagemaker.packages == {"arn:package/1": "Approved"}


def test_workflow_leaves_a_log_and_a_trace(dev: Template):
    machine = only(dev, "AWS::StepFunctions::StateMachine")["Properties"]
    assert machine["LoggingConfiguration"]["Level"] == "ALL"
    assert machine["TracingConfiguration"] == {"Enabled": True}


def test_serverless_endpoint_with_the_settings_size(dev: Template):
    variant = workflow(dev)["States"]["CreateEndpointConfig"]["Arguments"]["ProductionVariants"][0]
    assert variant["ServerlessConfig"] == {"MemorySizeInMB": 2048, "MaxConcurrency": 2}


# In a VPC


def test_jobs_and_notebook_join_the_vpc_when_given(dev: Template, vpc: Template):
    expected = {"Subnets": ["subnet-0123abcd", "subnet-0123abce"], "SecurityGroupIds": ["sg-0123abcd"]}
    assert workflow(vpc)["States"]["Train"]["Arguments"]["VpcConfig"] == expected
    assert workflow(vpc)["States"]["Evaluate"]["Arguments"]["VpcConfig"] == expected
    instance = only(vpc, "AWS::SageMaker::NotebookInstance")["Properties"]
    assert instance["SubnetId"] == "subnet-0123abcd"
    assert instance["DirectInternetAccess"] == "Disabled"
    assert "ec2:CreateNetworkInterface" in allowed(vpc, "Training")
    assert not [action for action in allowed(vpc, "Serving") if action.startswith("ec2:")]
    assert "VpcConfig" not in workflow(dev)["States"]["Train"]["Arguments"]
    assert not [action for action in allowed(dev, "Training") if action.startswith("ec2:")]


# Retained resources


def test_dev_retains_no_resources(dev: Template):
    for name, resource in dev["Resources"].items():
        assert resource.get("DeletionPolicy", "Delete") == "Delete", name
        assert resource.get("UpdateReplacePolicy", "Delete") == "Delete", name
    properties = only(dev, "Custom::SageMakerCleanUp")["Properties"]
    assert flat(properties["BucketName"]) in {f"<{name}>" for name in of_type(dev, "AWS::S3::Bucket")}
    assert properties["ModelPackageGroupName"] == NAME
    assert properties["EndpointName"] == NAME


def test_clean_up_runs_after_the_workflow_and_before_its_resources(dev: Template):
    ((clean_up, resource),) = of_type(dev, "Custom::SageMakerCleanUp").items()
    assert clean_up in only(dev, "AWS::StepFunctions::StateMachine")["DependsOn"]
    for kind in ("AWS::S3::Bucket", "AWS::SageMaker::ModelPackageGroup"):
        assert set(of_type(dev, kind)) <= set(resource["DependsOn"])


def test_clean_up_matches_names_of_executions_and_notebooks_only(dev: Template):
    found = leftovers(only(dev, "Custom::SageMakerCleanUp")["Properties"])
    sagemaker = SageMaker(serving="InService")
    done = Run(workflow(dev), {}, sagemaker)
    calls = [given for action, given in done.calls if ":create" in action]
    made = [value for given in calls for key, value in given.items() if key in NAMED]
    assert len(set(made)) == 3, made
    assert all(map(found.owns, [*made, f"{NAME}-notebook-2026-11-29-07-00-00-123"]))
    # the name of another stack can begin with the name of this stack
    execution = made[0].removeprefix(NAME)
    assert not any(map(found.owns, (f"{NAME}-two", f"{NAME}-two{execution}", f"{NAME}notebook-1")))


def test_prod_retains_data_models_key_and_secret_but_no_endpoint(prod: Template):
    retained = retained_types(prod)
    assert retained == {
        "AWS::S3::Bucket",
        "AWS::SageMaker::ModelPackageGroup",
        "AWS::SecretsManager::Secret",
        "AWS::KMS::Key",
    }
    properties = only(prod, "Custom::SageMakerCleanUp")["Properties"]
    assert (properties["BucketName"], properties["ModelPackageGroupName"]) == ("", "")
    assert properties["EndpointName"] == "groundplan-prod-snowflake-training"
    assert not {"s3:DeleteObject", "sagemaker:DeleteModelPackage"} & set(allowed(prod, "CleanUp"))


def test_prod_encrypts_with_its_own_key(prod: Template):
    ((key, resource),) = of_type(prod, "AWS::KMS::Key").items()
    assert resource["Properties"]["EnableKeyRotation"] is True
    arn = f"<{key}.Arn>"
    bucket = only(prod, "AWS::S3::Bucket")["Properties"]["BucketEncryption"][
        "ServerSideEncryptionConfiguration"
    ]
    assert flat(bucket[0]["ServerSideEncryptionByDefault"]["KMSMasterKeyID"]) == arn
    assert flat(only(prod, "AWS::SecretsManager::Secret")["Properties"]["KmsKeyId"]) == arn
    assert flat(only(prod, "AWS::SNS::Topic")["Properties"]["KmsMasterKeyId"]) == arn
    for group in of_type(prod, "AWS::Logs::LogGroup").values():
        assert flat(group["Properties"]["KmsKeyId"]) == arn
    assert logs_may_use(prod)
    job = workflow(prod)["States"]["Train"]["Arguments"]
    assert job["ResourceConfig"]["VolumeKmsKeyId"] == job["OutputDataConfig"]["KmsKeyId"] == arn
    assert allowed(prod, "Workflow")["kms:CreateGrant"] == {arn}
    assert arn in allowed(prod, "Serving")["kms:Decrypt"]


def test_create_grant_on_the_key_is_limited_to_aws_resources(prod: Template):
    lent = [statement for _, _, statement in statements(prod) if statement["Action"] == "kms:CreateGrant"]
    assert [s["Condition"] for s in lent] == [{"Bool": {"kms:GrantIsForAWSResource": "true"}}]


def test_workflow_on_local_disks_lends_no_key(vpc: Template):
    """Local disks are always encrypted; SageMaker rejects a VolumeKmsKeyId for them."""
    text = json.dumps(vpc)
    assert "ml.r5d.xlarge" in text
    assert "VolumeKmsKeyId" not in text
    assert "kms:CreateGrant" not in text
    assert "KmsKeyId" in text


def test_prod_has_no_notebook(prod: Template):
    assert not of_type(prod, "AWS::SageMaker::NotebookInstance")
    assert "NotebookInstanceName" not in prod["Outputs"]


def test_outputs_are_those_of_scenario_and_notebooks(dev: Template):
    assert set(dev["Outputs"]) == {
        "StateMachineArn",
        "EndpointName",
        "ModelPackageGroupName",
        "SecretArn",
        "BucketName",
        "ExecutionRoleArn",
        "ServingRoleArn",
        "ExperimentRoleArn",
        "ExperimentServingRoleArn",
        "ImageUri",
        "NotebookInstanceName",
        "AlarmTopicArn",
    }


def test_every_log_has_a_group_and_wildcards_are_reviewed(dev: Template, prod: Template):
    for template in (dev, prod):
        assert len(of_type(template, "AWS::Logs::LogGroup")) == 3
        assert wildcards(template) > 5
