"""The template of portfolio_rl: required and forbidden contents."""

from __future__ import annotations

import json
from typing import Any

import pytest

from groundplan import states
from local.emulator.definitions import diagnose
from tests.support.workflow import SageMaker
from tests.synth.machine import Run
from tests.synth.template import Template, allowed, flat, of_type, only, retained_types, wildcards

NAME = "groundplan-dev-portfolio-rl"
FIGURES = {"candidate": 5_100.0, "champion": 5_000.0, "validation": 5_100.0}


def workflow(template: Template) -> dict[str, Any]:
    """Return the state machine's definition, with references as `<Name>`."""
    machine = only(template, "AWS::StepFunctions::StateMachine")["Properties"]
    return json.loads(flat(machine["DefinitionString"]))


@pytest.mark.parametrize("variant", ["dev", "prod", "chosen"])
def test_workflow_is_sound_and_can_be_created(variant: str, request: pytest.FixtureRequest):
    definition = workflow(request.getfixturevalue(variant))
    assert states.problems(definition) == []
    assert diagnose(json.dumps(definition).replace("<AWS::Partition>", "aws")) == []


@pytest.mark.parametrize(("candidate", "deployed"), [(5_100.0, True), (4_900.0, False)])
def test_policy_of_the_higher_value_is_deployed(candidate: float, deployed: bool, dev: Template):
    sagemaker = SageMaker("InService")
    sagemaker.figures = FIGURES | {"candidate": candidate}
    done = Run(workflow(dev), {}, sagemaker)
    assert (done.error, done.output["deployed"]) == (None, deployed)


def test_incomparable_policy_is_deployed_only_on_request(dev: Template):
    for given, deployed in (({}, False), ({"deploy_if_incomparable": True}, True)):
        sagemaker = SageMaker("InService")
        sagemaker.figures = FIGURES | {"comparable": 0.0}
        del sagemaker.figures["champion"]
        done = Run(workflow(dev), given, sagemaker)
        reason = (
            "The policy in service was trained under other rules, on other assets or on prices of another"
        )
        reason += " kind"
        assert (done.error, done.output["deployed"]) == (None, deployed)
        assert done.output["reason"] == (None if deployed else reason)


def test_training_has_network_isolation_and_serving_a_separate_image(dev: Template):
    found = workflow(dev)["States"]
    assert found["Train"]["Arguments"]["EnableNetworkIsolation"] is True
    assert "InputDataConfig" not in found["Train"]["Arguments"]
    container = found["Accept"]["Assign"]["container"]
    assert container["Image"] != found["Train"]["Arguments"]["AlgorithmSpecification"]["TrainingImage"]
    assert container["Environment"]["STOP_PARAMETER"].startswith("<StopSwitch")


def test_own_rules_and_prices_are_channels_of_both_jobs(chosen: Template):
    for state in ("Train", "Evaluate"):
        channels = {
            channel["ChannelName"]: channel["DataSource"]["S3DataSource"]["S3Uri"]
            for channel in workflow(chosen)["States"][state]["Arguments"]["InputDataConfig"]
        }
        assert {"rules", "prices"} <= set(channels)
        assert channels["prices"].endswith("/inputs/prices")
    assert any(resource.endswith("/inputs/*") for resource in allowed(chosen, "Training")["s3:GetObject"])


def test_stop_switch_is_read_by_the_endpoint_only(dev: Template):
    ((switch, resource),) = of_type(dev, "AWS::SSM::Parameter").items()
    assert (resource["Properties"]["Type"], resource["Properties"]["Value"]) == ("String", "go")
    (arn,) = allowed(dev, "Serving")["ssm:GetParameter"]
    assert arn.endswith(f":parameter<{switch}>")
    assert not [action for action in allowed(dev, "Training") if action.startswith("ssm")]


def test_refusals_and_unknown_prices_raise_alarms(dev: Template):
    filters = {
        found["Properties"]["MetricTransformations"][0]["MetricName"]: found["Properties"]["FilterPattern"]
        for found in of_type(dev, "AWS::Logs::MetricFilter").values()
    }
    assert filters == {
        f"{NAME}/OrderRefused": "{ $.valid IS FALSE }",
        f"{NAME}/PriceOutside": "{ $.outside IS TRUE }",
    }
    (topic,) = of_type(dev, "AWS::SNS::Topic")
    alarms = [alarm["Properties"] for alarm in of_type(dev, "AWS::CloudWatch::Alarm").values()]
    assert {alarm.get("MetricName") for alarm in alarms} >= set(filters)
    assert all(alarm["AlarmActions"] == [{"Ref": topic}] for alarm in alarms)


@pytest.mark.parametrize(
    ("variant", "schedule"), [("prod", "rate(7 days)"), ("chosen", "cron(0 6 ? * MON *)")]
)
def test_retraining_starts_on_its_schedule(variant: str, schedule: str, request: pytest.FixtureRequest):
    template = request.getfixturevalue(variant)
    (rule,) = [
        rule["Properties"]
        for name, rule in of_type(template, "AWS::Events::Rule").items()
        if name.startswith("Workflow")
    ]
    (machine,) = of_type(template, "AWS::StepFunctions::StateMachine")
    assert rule["ScheduleExpression"] == schedule
    assert (flat(rule["Targets"][0]["Arn"]), rule["Targets"][0]["Input"]) == (f"<{machine}>", "{}")
    assert allowed(template, "WorkflowStateMachineEvents")["states:StartExecution"] == {f"<{machine}>"}


def test_no_training_starts_by_itself_unless_chosen(dev: Template):
    assert [name[:11] for name in of_type(dev, "AWS::Events::Rule")] == ["LeftRunning"]


def test_function_may_list_running_resources_and_notify_the_pager(dev: Template):
    (topic,) = of_type(dev, "AWS::SNS::Topic")
    grants = allowed(dev, "LeftRunning")
    assert grants["sns:Publish"] == {f"<{topic}>"}
    assert {action for action in grants if action.startswith("sagemaker:")} == {
        "sagemaker:ListNotebookInstances",
        "sagemaker:ListTrainingJobs",
        "sagemaker:ListEndpoints",
    }


def test_prod_retains_policies_audit_log_and_key_without_a_notebook(prod: Template):
    retained = {
        resource["Properties"].get("LogGroupName")
        for resource in of_type(prod, "AWS::Logs::LogGroup").values()
        if resource["DeletionPolicy"] != "Delete"
    }
    assert retained == {"/aws/sagemaker/Endpoints/groundplan-prod-portfolio-rl"}
    assert retained_types(prod) == {
        "AWS::Logs::LogGroup",
        "AWS::S3::Bucket",
        "AWS::SageMaker::ModelPackageGroup",
        "AWS::KMS::Key",
    }
    assert not of_type(prod, "AWS::SageMaker::NotebookInstance")


def test_domain_replaces_the_notebook_instance(chosen: Template, dev: Template):
    domain = only(chosen, "AWS::SageMaker::Domain")["Properties"]
    assert domain["VpcId"] == "vpc-0123abcd"
    assert not of_type(chosen, "AWS::SageMaker::NotebookInstance")
    # the domain's role has the grants of a notebook instance's role
    experiments = {"sagemaker:CreateTrainingJob", "sagemaker:CreateEndpoint", "states:StartExecution"}
    assert experiments <= set(allowed(chosen, "Domain"))
    assert experiments <= set(allowed(dev, "Notebook"))


EXPERIMENTS = ("ExperimentTraining", "ExperimentServing")


@pytest.mark.parametrize(("variant", "notebook"), [("dev", "Notebook"), ("chosen", "Domain")])
def test_notebook_passes_the_roles_of_experiments_only(
    variant: str, notebook: str, request: pytest.FixtureRequest
):
    template: Template = request.getfixturevalue(variant)
    roles = {name for name in of_type(template, "AWS::IAM::Role") if name.startswith(EXPERIMENTS)}
    assert len(roles) == 2
    assert allowed(template, notebook)["iam:PassRole"] == {f"<{role}.Arn>" for role in roles}
    outputs = {name: flat(template["Outputs"][name]["Value"]) for name in template["Outputs"]}
    assert {outputs["ExperimentRoleArn"], outputs["ExperimentServingRoleArn"]} == {
        f"<{role}.Arn>" for role in roles
    }


def test_experiments_cannot_write_deployed_models_or_the_audit_log(dev: Template, chosen: Template):
    for template in (dev, chosen):
        for role in EXPERIMENTS:
            grants = allowed(template, role)
            written = {arn.rpartition(">")[2] for arn in grants.get("s3:PutObject", set())}
            assert written == ({"/notebook/*"} if role == "ExperimentTraining" else set())
            read = {arn.rpartition(">")[2] for arn in grants["s3:GetObject"]}
            assert read <= {"/notebook/*", "/inputs/*"}
            groups = {arn.partition(":log-group:")[2] for arn in grants["logs:PutLogEvents"]}
            own = f"/aws/sagemaker/Endpoints/{NAME}-notebook-*"
            logs = "/aws/sagemaker/TrainingJobs" if role == "ExperimentTraining" else own
            assert groups == {logs, f"{logs}:*"}
    assert (
        allowed(dev, "ExperimentServing")["ssm:GetParameter"] == allowed(dev, "Serving")["ssm:GetParameter"]
    )
    # and the workflow's roles have no access to the notebook's folder
    for role in ("Training", "Serving"):
        assert not [arn for arns in allowed(dev, role).values() for arn in arns if "/notebook/" in arn]


def test_stacks_without_a_notebook_have_no_roles_for_experiments(prod: Template):
    assert not [name for name in of_type(prod, "AWS::IAM::Role") if name.startswith("Experiment")]


def test_notebook_may_ask_for_list_prices(chosen: Template, dev: Template):
    for template, role in ((dev, "Notebook"), (chosen, "Domain")):
        assert allowed(template, role)["pricing:GetProducts"] == {"*"}


def test_outputs_are_those_of_scenario_and_notebooks(dev: Template):
    assert set(dev["Outputs"]) == {
        "StateMachineArn",
        "EndpointName",
        "ModelPackageGroupName",
        "BucketName",
        "ExecutionRoleArn",
        "ServingRoleArn",
        "ImageUri",
        "ServingImageUri",
        "StopParameterName",
        "NotebookInstanceName",
        "ExperimentRoleArn",
        "ExperimentServingRoleArn",
        "AlarmTopicArn",
    }


def test_rule_that_retrains_can_be_found_and_disabled(prod: Template):
    (rule,) = [name for name in of_type(prod, "AWS::Events::Rule") if name.startswith("Workflow")]
    assert prod["Outputs"]["RetrainRuleName"]["Value"] == {"Ref": rule}


def test_every_log_has_a_group_and_wildcards_are_reviewed(dev: Template, prod: Template):
    for template in (dev, prod):
        assert len(of_type(template, "AWS::Logs::LogGroup")) == 4
        assert wildcards(template) > 5
