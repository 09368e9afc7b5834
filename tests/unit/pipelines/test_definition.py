"""Definitions of pipelines: valid ones, and the errors of invalid ones."""

from __future__ import annotations

import json
from typing import Any

import pytest

from local.sagemaker import api
from local.sagemaker.api import ApiError
from local.sagemaker.pipelines import definition, step_types
from local.sagemaker.pipelines.definition import Dependency
from tests.support.pipelines import (
    ARN,
    QUEUE,
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


def refused(text: str) -> ApiError:
    with pytest.raises(ApiError) as error:
        definition.parse(text)
    return error.value


def test_definition_is_flattened_with_implied_dependencies() -> None:
    # given steps that refer to each other, some of them inside a condition
    text = defined(
        processing(),
        training(arguments={"HyperParameters": {"rate": metric("best.rate")}}, DependsOn=["Call"]),
        function(ARN, Arguments={"bucket": get("Parameters.Bucket")}),
        condition(
            "Check",
            compare("LessThan", get("Steps.Train.FinalMetricDataList['val:rmse'].Value"), 0.5),
            then=[callback(QUEUE, Arguments={"model": get("Steps.Train.ModelArtifacts.S3ModelArtifacts")})],
            otherwise=[fail(message=join("rmse ", get("Steps.Check.Outcome")))],
        ),
        parameters=[parameter("Bucket")],
    )
    # when
    found = definition.parse(text)
    # then
    assert list(found.steps) == ["Process", "Train", "Call", "Check", "Ask", "Fail"]
    waits = {name: set(step.dependencies) for name, step in found.steps.items()}
    assert waits == {
        "Process": set(),
        "Train": {Dependency("Process"), Dependency("Call")},
        "Call": set(),
        "Check": {Dependency("Train")},
        "Ask": {Dependency("Train")},
        "Fail": {Dependency("Check")},
    }
    branches = {name: step.branch for name, step in found.steps.items() if step.branch}
    assert branches == {"Ask": ("Check", True), "Fail": ("Check", False)}


def test_explicit_trigger_replaces_an_implied_dependency() -> None:
    # given a step that refers to another step, and is triggered by the failure of that step
    text = defined(
        training(),
        function(
            ARN,
            Arguments={"job": get("Steps.Train.TrainingJobName")},
            DependsOn=[{"Step": "Train", "Trigger": "Failed"}],
        ),
    )
    # when, then
    assert definition.parse(text).steps["Call"].dependencies == (Dependency("Train", "Failed"),)


def test_null_members_are_treated_as_absent() -> None:
    text = defined(fail(Description=None), MlflowConfig=None, PipelineExperimentConfig=None)
    assert definition.parse(text).experiment == {}


ROOT = {
    "no JSON": ("{", "Unable to parse pipeline definition. Expecting property name"),
    "an array": ("[]", "Expecting start of Json Object"),
    "no steps": ("{}", "Missing required property 'Steps'"),
    "steps that are no array": ('{"Steps": {}}', "Expecting start of Json Array"),
    "another version": ('{"Version": "2019-01-01", "Steps": []}', "Version must be 2020-12-01"),
    "an unknown member": ('{"Steps": [], "Stages": []}', "unknown property 'Stages'"),
    "metadata of another kind": ('{"Steps": [], "Metadata": 3}', "Expecting start of Json Object"),
}


@pytest.mark.parametrize("what", ROOT)
def test_malformed_document_is_refused(what: str) -> None:
    text, said = ROOT[what]
    error = refused(text)
    assert error.code == "ValidationException"
    assert said in error.message
    assert error.message.startswith("Unable to parse pipeline definition.")


PARAMETERS: dict[str, tuple[list[Any], str]] = {
    "a name with a dot": ([parameter("a.b")], "must match"),
    "one name twice": ([parameter("a"), parameter("a")], "Duplicate parameter name 'a'"),
    "an unknown type": ([parameter("a", "List")], "Type of parameter 'a' must be one of String"),
    "a default of another type": ([parameter("a", "Integer", DefaultValue="3")], "must be of type Integer"),
    "a truth as a number": ([parameter("a", "Integer", DefaultValue=True)], "must be of type Integer"),
    "a fraction as a whole number": (
        [parameter("a", "Integer", DefaultValue=0.5)],
        "must be of type Integer",
    ),
    "choices of numbers": ([parameter("a", "Integer", EnumValues=[1])], "EnumValues of parameter 'a'"),
    "a default that is no choice": (
        [parameter("a", DefaultValue="c", EnumValues=["a", "b"])],
        "DefaultValue of parameter 'a' must be one of a, b",
    ),
    "an unknown member": ([parameter("a", Default=1)], "unknown property 'Default'"),
}


@pytest.mark.parametrize("what", PARAMETERS)
def test_malformed_parameter_is_refused(what: str) -> None:
    parameters, said = PARAMETERS[what]
    assert said in refused(defined(parameters=parameters)).message


POLICY = {"ExceptionType": ["Step.THROTTLING"]}
CACHE = {"Enabled": True}
STEPS: dict[str, tuple[list[Any], str]] = {
    "a step that is no object": ([3], "Unknown step type None"),
    "an unknown type": ([{"Name": "a", "Type": "Coffee"}], "Unknown step type 'Coffee'"),
    "a name with a space": ([fail("a b")], "The name of a step must match"),
    "a long name": ([fail("a" * 65)], "The name of a step must match"),
    "one name twice": ([fail(), fail()], "Duplicate step name 'Fail'"),
    "one name in both branches": (
        [condition(then=[fail()], otherwise=[fail()])],
        "Duplicate step name 'Fail'",
    ),
    "an unknown member": ([fail(Timeout=3)], "unknown property 'Timeout'"),
    "a retry of a Lambda step": ([function(ARN, RetryPolicies=[POLICY])], "unknown property 'RetryPolicies'"),
    "a cached condition": ([condition(CacheConfig=CACHE)], "unknown property 'CacheConfig'"),
    "a Lambda step without function": (
        [{"Name": "a", "Type": "Lambda"}],
        "Missing required property 'FunctionArn'",
    ),
    "a function by its name": ([function("f")], "FunctionArn of step 'Call' must match"),
    "a queue by its ARN": ([callback("arn:aws:sqs:eu-west-1:1:q")], "SqsQueueUrl of step 'Ask' must match"),
    "a nested condition": ([condition(then=[condition("Inner")])], "they cannot be nested"),
    "a dependency on nothing": ([fail(DependsOn=["Train"])], "Unknown step 'Train'"),
    "a dependency on itself": ([training(DependsOn=["Train"])], "form a cycle: Train -> Train"),
    "a cycle": (
        [training("a", DependsOn=["b"]), training("b", DependsOn=["a"])],
        "form a cycle",
    ),
    "a condition that waits for its own branch": (
        [condition("c", compare("Equals", get("Steps.a.TrainingJobName"), "x"), then=[training("a")])],
        "form a cycle",
    ),
    "an unknown trigger": (
        [training("a"), training(DependsOn=[{"Step": "a", "Trigger": "Late"}])],
        "Trigger",
    ),
    "a dependency on a Fail step": ([fail(), training(DependsOn=["Fail"])], "Train can not depends on Fail"),
    "a reference to a Fail step": (
        [fail(), function(ARN, Arguments={"a": get("Steps.Fail.ErrorMessage")})],
        "cannot refer to the Fail step",
    ),
    "a nested input of a Lambda step": ([function(ARN, Arguments={"a": {"b": 1}})], "Expecting a value"),
    "an output type": ([function(ARN, outputs=[("a", "List")])], "OutputType must be one of String"),
    "one output twice": ([function(ARN, outputs=["a", "a"])], "output parameters must be different"),
    "a caching without an age": ([training(CacheConfig=CACHE)], "ExpireAfter of CacheConfig"),
    "a caching by seconds": ([training(CacheConfig=CACHE | {"ExpireAfter": "PT5S"})], "ExpireAfter"),
    "a property file of no output": (
        [processing(PropertyFiles=[{"PropertyFileName": "a", "OutputName": "b", "FilePath": "c"}])],
        "names the output 'b'",
    ),
    "a failure message that is a number": ([fail(message=3)], "ErrorMessage of Fail step"),
}


@pytest.mark.parametrize("what", STEPS)
def test_malformed_step_is_refused(what: str) -> None:
    steps, said = STEPS[what]
    error = refused(defined(*steps))
    assert (error.code, error.status) == ("ValidationException", 400)
    assert said in error.message


ARGUMENTS: dict[str, tuple[Any, str]] = {
    "an unknown member": ({"Colour": "blue"}, "Unknown Argument member 'Colour'"),
    "an unknown inner member": ({"ResourceConfig": {"Size": 1}}, "Unknown Argument member 'Size'"),
    "an array for an object": ({"ResourceConfig": []}, "Expecting start of Json Object"),
    "an object for an array": ({"InputDataConfig": {"ChannelName": "a"}}, "Expecting start of Json Array"),
    "a reference for an array": (
        {"InputDataConfig": get("Parameters.Text")},
        "Expecting start of Json Array",
    ),
    "a reference for an object": (
        {"ResourceConfig": get("Parameters.Text")},
        "Expecting start of Json Object",
    ),
    "a number for a text": ({"RoleArn": 3}, "Cannot assign 3 to argument of type [String]"),
    "a number parameter for a text": (
        {"HyperParameters": {"a": get("Parameters.Count")}},
        "Cannot assign property reference [Parameters.Count] to argument of type [String]",
    ),
    "a text parameter for a number": (
        {"ResourceConfig": {"InstanceCount": get("Parameters.Text")}},
        "Cannot assign property reference [Parameters.Text] to argument of type [Integer]",
    ),
    "a value that is not among those allowed": (
        {"AlgorithmSpecification": {"TrainingInputMode": "Flow"}},
        "Value 'Flow' for 'TrainingInputMode' failed to satisfy enum value set",
    ),
    "an unknown parameter": ({"RoleArn": get("Parameters.Other")}, "Unknown parameter 'Other'"),
    "an unknown variable": ({"RoleArn": get("Execution.User")}, "Unknown execution variable 'User'"),
    "an unknown namespace": ({"RoleArn": get("Pipeline.Name")}, "Invalid reference 'Pipeline.Name'"),
    "a reference without a property": ({"RoleArn": get("Steps.Train")}, "Invalid property reference"),
    "a broken path": ({"RoleArn": get("Steps.Call.A['b")}, "Invalid property reference"),
    "an unknown step": ({"RoleArn": get("Steps.None.A")}, "Unknown step 'None'"),
    "an unknown property": ({"RoleArn": get("Steps.First.Colour")}, "Invalid property reference"),
    "a property that is an object": ({"RoleArn": get("Steps.First.ResourceConfig")}, "have no such value"),
    "an undeclared output": ({"RoleArn": get("Steps.Call.OutputParameters['b']")}, "have no such value"),
    "a property file as a text": (
        {"RoleArn": get("Steps.Process.PropertyFiles.Metrics")},
        "Std:JsonGet only",
    ),
    "an unknown function": ({"RoleArn": {"Std:Split": {}}}, "Unknown function 'Std:Split'"),
    "a join without values": ({"RoleArn": {"Std:Join": {"On": "/"}}}, "Missing required property 'Values'"),
    "a join of an object": ({"RoleArn": join({"a": 1})}, "Expecting a value"),
    "a join on a number": (
        {"RoleArn": {"Std:Join": {"On": 1, "Values": []}}},
        "The member On of Std:Join must be",
    ),
    "a file that the step has not": ({"RoleArn": metric("a", file="Other")}, "has no property file 'Other'"),
    "a file of a step that has none": ({"RoleArn": metric("a", step="First")}, "has no property file"),
    "a JSON path that is none": ({"RoleArn": metric("a[")}, "must be a JsonPath"),
    "a JSON value from nowhere": ({"RoleArn": {"Std:JsonGet": {"Path": "a"}}}, "either a PropertyFile"),
}


@pytest.mark.parametrize("what", ARGUMENTS)
def test_malformed_argument_is_refused(what: str) -> None:
    arguments, said = ARGUMENTS[what]
    steps = (training("First"), processing(), function(ARN, outputs=["a"]), training(arguments=arguments))
    parameters = [parameter("Text"), parameter("Count", "Integer")]
    error = refused(defined(*steps, parameters=parameters))
    assert error.code == "ValidationException"
    assert said in error.message


CONDITIONS: dict[str, tuple[Any, str]] = {
    "an unknown type": ({"Type": "And", "Conditions": []}, "Type of a condition must be one of Equals"),
    "no object": (3, "Type of a condition"),
    "one side only": ({"Type": "Equals", "LeftValue": 1}, "Missing required property 'RightValue'"),
    "the schema's name of a negation": ({"Type": "Not", "Expression": {}}, "unknown property 'Expression'"),
    "a text and a number": (compare("Equals", "1", 1), "cannot compare a value of type String"),
    "an order of truths": (compare("LessThan", True, False), "cannot compare values of type Boolean"),
    "a list of other types": ({"Type": "In", "QueryValue": 1, "Values": ["1"]}, "cannot compare"),
    "a malformed inner one": ({"Type": "Or", "Conditions": [{"Type": "Xor"}]}, "got 'Xor'"),
}


@pytest.mark.parametrize("what", CONDITIONS)
def test_malformed_condition_is_refused(what: str) -> None:
    given, said = CONDITIONS[what]
    assert said in refused(defined(condition("c", given))).message


POLICIES: dict[str, tuple[dict[str, Any], str]] = {
    "a text of types": ({"ExceptionType": "Step.THROTTLING"}, "must be an array"),
    "no type": ({"ExceptionType": []}, "at least one exception type"),
    "an unknown type": ({"ExceptionType": ["Step.SLOW"]}, "must be one of Step.SERVICE_FAULT"),
    "two ends": (POLICY | {"MaxAttempts": 1, "ExpireAfterMin": 1}, "Only one of MaxAttempts"),
    "too many attempts": (
        POLICY | {"MaxAttempts": 21},
        "MaxAttempts of a retry policy must be a number from 0 to 20",
    ),
    "a late end": (POLICY | {"ExpireAfterMin": 14_401}, "from 0 to 14400"),
    "a long interval": (POLICY | {"IntervalSeconds": 43_201}, "from 0 to 43200"),
    "a negative rate": (POLICY | {"BackoffRate": -1}, "BackoffRate of a retry policy"),
    "an unknown member": (POLICY | {"Jitter": 1}, "unknown property 'Jitter'"),
}


@pytest.mark.parametrize("what", POLICIES)
def test_malformed_retry_policy_is_refused(what: str) -> None:
    policy, said = POLICIES[what]
    assert said in refused(defined(training(RetryPolicies=[policy]))).message


def test_retries_of_jobs_are_refused_elsewhere() -> None:
    model = {"Name": "m", "Type": "Model", "Arguments": {}}
    policy = {"ExceptionType": ["SageMaker.CAPACITY_ERROR"]}
    assert (
        "is only for steps that start a job" in refused(defined(model | {"RetryPolicies": [policy]})).message
    )


UNBUILT: dict[str, tuple[str, str]] = {
    "an MLflow configuration": (defined(MlflowConfig={"MlflowResourceArn": "a"}), "MlflowConfig"),
    "a condition of the published schema": (
        defined(condition("c", compare("NotEquals", 1, 2))),
        "a condition of type NotEquals",
    ),
    "a retry of EMR": (
        defined(training(RetryPolicies=[{"ExceptionType": ["Emr.RESOURCE_LIMIT"]}])),
        "the ExceptionType Emr.RESOURCE_LIMIT",
    ),
    "a reference to an item": (
        defined(training(arguments={"RoleArn": get("ForEach.CurrentItem")})),
        "the reference ForEach.CurrentItem",
    ),
    "a path to several values": (
        defined(processing(), condition("c", compare("Equals", metric("a[*].b"), 1))),
        "the JsonPath a[*].b",
    ),
    "a member of a job that is not implemented": (
        defined(training(arguments={"ExperimentConfig": {"TrialComponentDisplayName": "a"}})),
        "a Training step whose arguments have ExperimentConfig",
    ),
}


@pytest.mark.parametrize("what", UNBUILT)
def test_unsupported_member_is_refused_by_name(what: str) -> None:
    text, named = UNBUILT[what]
    error = refused(text)
    assert (error.code, error.status) == ("NotImplementedByLocalCloud", 501)
    assert f"CreatePipeline with {named}" in error.message


@pytest.mark.parametrize("kind", step_types.UNBUILT)
def test_unsupported_step_type_is_refused_by_name(kind: str) -> None:
    error = refused(defined({"Name": "a", "Type": kind, "Arguments": {}}))
    assert (
        error.message
        == f"sagemaker:CreatePipeline with a step of type {kind} is not implemented in the local cloud"
    )


def test_step_type_waits_for_its_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    # given a cloud without transform jobs
    monkeypatch.delitem(api.OPERATIONS, "CreateTransformJob")
    # when, then
    error = refused(defined({"Name": "a", "Type": "Transform", "Arguments": {}}))
    assert (error.code, "step of type Transform" in error.message) == ("NotImplementedByLocalCloud", True)


def test_every_step_type_of_the_service_is_known() -> None:
    # given the step types in the description of an execution
    shape = api.service_model().shape_for("PipelineExecutionStepMetadata")
    # then each type is supported, or refused by name
    built = {each.metadata for each in step_types.TYPES.values()}
    assert built | set(step_types.UNBUILT.values()) == set(shape.members)


@pytest.mark.parametrize("member", ["ModelPackageName", "ClientToken", "CertifyForMarketplace"])
def test_register_step_has_no_members_that_aws_sets(member: str) -> None:
    step = {"Name": "a", "Type": "RegisterModel", "Arguments": {member: "x"}}
    assert f"Unknown Argument member '{member}'" in refused(defined(step)).message


def test_definition_of_every_step_type_is_accepted() -> None:
    # given one step of each type
    request = {"ExecutionRoleArn": get("Parameters.Role"), "PrimaryContainer": {"Image": "i"}}
    steps = [
        training(CacheConfig={"Enabled": True, "ExpireAfter": "P30d"}, RetryPolicies=[POLICY]),
        processing(),
        {"Name": "Transform", "Type": "Transform", "Arguments": {"ModelName": get("Steps.Model.ModelName")}},
        {"Name": "Model", "Type": "Model", "Arguments": request},
        {"Name": "Register", "Type": "RegisterModel", "Arguments": {"ModelPackageGroupName": "g"}},
        function(ARN, outputs=[("n", "Integer")], Arguments={"a": 1, "b": get("Execution.StartDateTime")}),
        callback(QUEUE, Arguments={"nested": {"list": [get("Steps.Call.OutputParameters['n']")]}}),
        condition(then=[fail()], DisplayName="Is it good?", Description="whether"),
    ]
    experiment = {"ExperimentName": get("Execution.PipelineName"), "TrialName": "t"}
    text = defined(*steps, parameters=[parameter("Role")], PipelineExperimentConfig=experiment)
    # when, then
    assert {step.type for step in definition.parse(text).steps.values()} == set(step_types.TYPES)
    assert json.loads(text)["PipelineExperimentConfig"] == definition.parse(text).experiment
