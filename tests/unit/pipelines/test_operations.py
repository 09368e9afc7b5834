"""The operations of pipelines and executions: stored fields, lists, limits and refusals."""

from __future__ import annotations

import json
from typing import Any

import pytest

from local.sagemaker.api import ApiError
from tests.support.pipeline_world import ACCOUNT, REGION, PipelineWorld
from tests.support.pipelines import ROLE, defined, fail, get, parameter, training
from tests.support.waiting import until

PIPELINE = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:pipeline/p"
EMPTY = defined()
TOKEN = "t" * 32


def refused(world: PipelineWorld, operation: str, **params: Any) -> ApiError:
    with pytest.raises(ApiError) as error:
        world.call(operation, **params)
    return error.value


def test_pipeline_is_described_as_created(world: PipelineWorld) -> None:
    # when
    parallel = {"MaxParallelExecutionSteps": 2}
    arn = world.create(
        EMPTY,
        PipelineDescription="of tests",
        ParallelismConfiguration=parallel,
        Tags=[{"Key": "a", "Value": "b"}],
    )
    # then
    found = world.call("DescribePipeline", PipelineName=arn)
    assert found.pop("CreationTime") <= found.pop("LastModifiedTime")
    assert found == {
        "PipelineArn": PIPELINE,
        "PipelineName": "p",
        "PipelineDisplayName": "p",
        "PipelineDescription": "of tests",
        "PipelineDefinition": EMPTY,
        "PipelineStatus": "Active",
        "RoleArn": ROLE,
        "ParallelismConfiguration": parallel,
        "CreatedBy": {},
        "LastModifiedBy": {},
    }
    assert world.call("ListTags", ResourceArn=arn) == {"Tags": [{"Key": "a", "Value": "b"}]}


def test_update_changes_the_given_fields_only(world: PipelineWorld) -> None:
    world.create(EMPTY, PipelineDescription="before")
    # when
    world.call("UpdatePipeline", PipelineName="p", PipelineDefinition=defined(fail()), RoleArn=f"{ROLE}2")
    # then
    found = world.call("DescribePipeline", PipelineName="p")
    assert (found["PipelineDescription"], found["RoleArn"]) == ("before", f"{ROLE}2")
    assert json.loads(found["PipelineDefinition"])["Steps"] == [fail()]
    # and an update to an invalid definition changes nothing
    assert (
        refused(world, "UpdatePipeline", PipelineName="p", PipelineDefinition="{").code
        == "ValidationException"
    )
    assert world.call("DescribePipeline", PipelineName="p") == found


def test_create_is_done_once_by_its_token(world: PipelineWorld) -> None:
    request = {"PipelineName": "p", "RoleArn": ROLE, "PipelineDefinition": EMPTY}
    for _ in range(2):
        assert world.call("CreatePipeline", **request, ClientRequestToken=TOKEN) == {"PipelineArn": PIPELINE}
    # and the call with another token is refused, because the pipeline's name is taken
    error = refused(world, "CreatePipeline", **request)
    assert (error.code, "already exists" in error.message) == ("ValidationException", True)


@pytest.mark.parametrize(
    ("definition", "said"),
    [
        ({}, "One of PipelineDefinition and PipelineDefinitionS3Location must be given"),
        (
            {
                "PipelineDefinition": EMPTY,
                "PipelineDefinitionS3Location": {"Bucket": "bbb", "ObjectKey": "k"},
            },
            "Only one of",
        ),
        (
            {"PipelineDefinitionS3Location": {"Bucket": "bbb", "ObjectKey": "k"}},
            "s3://bbb/k could not be read",
        ),
        ({"PipelineDefinition": defined(fail(Colour="blue"))}, "unknown property 'Colour'"),
    ],
)
def test_pipeline_without_a_valid_definition_is_refused(
    world: PipelineWorld, definition: dict[str, Any], said: str
) -> None:
    error = refused(world, "CreatePipeline", PipelineName="p", RoleArn=ROLE, **definition)
    assert (error.code, said in error.message) == ("ValidationException", True)


def test_definition_is_read_from_s3(world: PipelineWorld) -> None:
    world.objects["s3://bucket/definition.json"] = defined(fail()).encode()
    place = {"Bucket": "bucket", "ObjectKey": "definition.json"}
    world.call("CreatePipeline", PipelineName="p", RoleArn=ROLE, PipelineDefinitionS3Location=place)
    assert world.call("DescribePipeline", PipelineName="p")["PipelineDefinition"] == defined(fail())


@pytest.mark.parametrize(
    ("operation", "params"),
    [
        ("DescribePipeline", {"PipelineName": "p"}),
        ("UpdatePipeline", {"PipelineName": "p"}),
        ("DeletePipeline", {"PipelineName": "p"}),
        ("StartPipelineExecution", {"PipelineName": "p"}),
        ("ListPipelineExecutions", {"PipelineName": PIPELINE}),
        ("DescribePipeline", {"PipelineName": PIPELINE.replace(REGION, "us-east-1")}),
        *(
            (operation, {"PipelineExecutionArn": f"{PIPELINE}/execution/abcdefghijkl"})
            for operation in (
                *("DescribePipelineExecution", "DescribePipelineDefinitionForExecution"),
                *("ListPipelineExecutionSteps", "ListPipelineParametersForExecution"),
                *("StopPipelineExecution", "RetryPipelineExecution", "UpdatePipelineExecution"),
            )
        ),
    ],
)
def test_missing_resource_is_not_found(world: PipelineWorld, operation: str, params: dict[str, Any]) -> None:
    error = refused(world, operation, **params)
    assert (error.code, error.message.endswith("does not exist.")) == ("ResourceNotFound", True)


def test_deleted_pipeline_leaves_nothing(world: PipelineWorld) -> None:
    # given a pipeline with tags, an execution that has ended, and an execution that is running
    world.plan = {"Train": ["Completed", "InProgress"]}
    world.create(defined(training()), Tags=[{"Key": "a", "Value": "b"}])
    first = world.start()
    world.ended(first)
    second = world.start()
    error = refused(world, "DeletePipeline", PipelineName="p")
    assert (error.code, "1 executions are running" in error.message) == ("ConflictException", True)
    # when the pipeline is deleted after the second execution has ended
    world.call("StopPipelineExecution", PipelineExecutionArn=second)
    world.ended(second)
    assert world.call("DeletePipeline", PipelineName="p") == {"PipelineArn": PIPELINE}
    # then
    assert refused(world, "DescribePipelineExecution", PipelineExecutionArn=first).code == "ResourceNotFound"
    world.create(EMPTY)
    assert world.call("ListPipelineExecutions", PipelineName="p") == {"PipelineExecutionSummaries": []}
    assert world.call("ListTags", ResourceArn=PIPELINE) == {"Tags": []}


def test_pipelines_are_listed_by_name_and_prefix(world: PipelineWorld) -> None:
    for name in ("nightly-b", "nightly-a", "weekly"):
        world.create(EMPTY, name)
    arn = world.start(name="nightly-a")

    def listed(**params: Any) -> list[str]:
        found = world.call("ListPipelines", **params)["PipelineSummaries"]
        return [each["PipelineName"] for each in found]

    assert listed(PipelineNamePrefix="nightly", SortBy="Name", SortOrder="Ascending") == [
        "nightly-a",
        "nightly-b",
    ]
    assert listed(ManagedBy="AWS") == []
    assert len(listed(ManagedBy="CUSTOMER")) == 3
    assert listed(CreatedBefore=0) == []
    times = {
        each["PipelineName"]: each.get("LastExecutionTime")
        for each in world.call("ListPipelines")["PipelineSummaries"]
    }
    assert times["nightly-a"] == world.describe(arn)["CreationTime"]
    assert times["weekly"] is None


# Start

PARAMETERS = [
    parameter("Text"),
    parameter("Count", "Integer", DefaultValue=3),
    parameter("Share", "Float", DefaultValue=0.5),
    parameter("Sure", "Boolean", DefaultValue=False),
    parameter("Size", EnumValues=["small", "large"], DefaultValue="small"),
]


def given(**values: str) -> list[dict[str, str]]:
    return [{"Name": name, "Value": value} for name, value in values.items()]


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        (given(), "Pipeline parameters without a default must be given: Text"),
        (given(Text="a", Colour="blue"), "Unknown pipeline parameter 'Colour'"),
        (given(Text="a", Count="many"), "The value of parameter 'Count' must be of type Integer, got 'many'"),
        (given(Text="a", Count="1_000"), "must be of type Integer"),
        (given(Text="a", Count="1.0"), "must be of type Integer"),
        (given(Text="a", Share="half"), "must be of type Float"),
        (given(Text="a", Share="nan"), "must be of type Float"),
        (given(Text="a", Sure="yes"), "must be of type Boolean"),
        (
            given(Text="a", Size="huge"),
            "The value of parameter 'Size' must be one of small, large, got 'huge'",
        ),
        (given(Text="a") * 2, "Pipeline parameter 'Text' is given more than once"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(
    world: PipelineWorld, parameters: list[dict[str, str]], said: str
) -> None:
    world.create(defined(parameters=PARAMETERS))
    error = refused(world, "StartPipelineExecution", PipelineName="p", PipelineParameters=parameters)
    assert (error.code, said in error.message) == ("ValidationException", True)
    assert world.call("ListPipelineExecutions", PipelineName="p") == {"PipelineExecutionSummaries": []}


def test_parameters_have_the_types_of_their_definition(world: PipelineWorld) -> None:
    # given a job that gets all parameters
    arguments = {
        "HyperParameters": {
            name: {"Std:Join": {"On": "", "Values": [get(f"Parameters.{name}")]}}
            for name in ("Text", "Count", "Share", "Sure", "Size")
        }
    }
    world.create(defined(training(arguments=arguments), parameters=PARAMETERS))
    parameters = given(Text="a", Count="-7", Share="2.5e-1", Sure="TRUE", Size="large")
    # when
    arn = world.start(PipelineParameters=parameters)
    world.ended(arn)
    # then
    expected = {"Text": "a", "Count": "-7", "Share": "0.25", "Sure": "true", "Size": "large"}
    assert world.asked[0]["HyperParameters"] == expected
    listed = world.call("ListPipelineParametersForExecution", PipelineExecutionArn=arn, MaxResults=100)
    assert listed["PipelineParameters"] == sorted(parameters, key=lambda each: each["Name"])


def test_start_is_done_once_by_its_token(world: PipelineWorld) -> None:
    world.create(defined(parameters=[parameter("Text", DefaultValue="a")]))
    request = {"PipelineName": "p", "ClientRequestToken": TOKEN}
    # when
    arns = {world.call("StartPipelineExecution", **request)["PipelineExecutionArn"] for _ in range(3)}
    # then
    assert len(arns) == 1
    error = refused(world, "StartPipelineExecution", **request, PipelineParameters=given(Text="b"))
    assert error.code == "ConflictException"


def test_execution_is_described_and_listed(world: PipelineWorld) -> None:
    experiment = {
        "ExperimentName": get("Execution.PipelineName"),
        "TrialName": get("Execution.PipelineExecutionId"),
    }
    world.create(defined(PipelineExperimentConfig=experiment), "Nightly")
    arn = world.start(name="Nightly", PipelineExecutionDescription="of today")
    found = world.ended(arn)
    # then
    moment = found.pop("CreationTime")
    assert found.pop("LastModifiedTime") >= moment
    assert found == {
        "PipelineArn": arn.partition("/execution")[0],
        "PipelineExecutionArn": arn,
        "PipelineExecutionDisplayName": f"execution-{round(moment * 1000)}",
        "PipelineExecutionDescription": "of today",
        "PipelineExecutionStatus": "Succeeded",
        "PipelineExperimentConfig": {"ExperimentName": "nightly", "TrialName": arn.rpartition("/")[2]},
        "CreatedBy": {},
        "LastModifiedBy": {},
    }
    (summary,) = world.call("ListPipelineExecutions", PipelineName="Nightly")["PipelineExecutionSummaries"]
    assert summary == {
        "PipelineExecutionArn": arn,
        "StartTime": moment,
        "PipelineExecutionStatus": "Succeeded",
        "PipelineExecutionDescription": "of today",
        "PipelineExecutionDisplayName": f"execution-{round(moment * 1000)}",
    }
    assert world.call("DescribePipeline", PipelineName="Nightly")["LastRunTime"] == moment


def test_execution_is_renamed(world: PipelineWorld) -> None:
    arn = world.start(EMPTY)
    world.call("UpdatePipelineExecution", PipelineExecutionArn=arn, PipelineExecutionDisplayName="other")
    assert world.describe(arn)["PipelineExecutionDisplayName"] == "other"


def test_failed_executions_are_listed_with_their_reason(world: PipelineWorld) -> None:
    world.run(defined(fail()))
    (summary,) = world.call("ListPipelineExecutions", PipelineName="p")["PipelineExecutionSummaries"]
    assert summary["PipelineExecutionFailureReason"] == "Step failure: One or multiple steps failed."


def test_steps_are_listed_last_first_in_pages(world: PipelineWorld) -> None:
    arn, _ = world.run(defined(*(training(name, DependsOn=[before] if before else [])
                                 for name, before in (("A", ""), ("B", "A"), ("C", "B")))))  # fmt: skip
    seen: list[str] = []
    token: dict[str, str] = {}
    while True:
        page = world.call("ListPipelineExecutionSteps", PipelineExecutionArn=arn, MaxResults=2, **token)
        seen += [step["StepName"] for step in page["PipelineExecutionSteps"]]
        if "NextToken" not in page:
            break
        token = {"NextToken": page["NextToken"]}
    assert seen == ["C", "B", "A"]


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("SelectiveExecutionConfig", {"SelectedSteps": [{"StepName": "a"}]}),
        ("PipelineVersionId", 1),
        ("PipelineVersionAlias", "live"),
        ("MlflowExperimentName", "e"),
    ],
)
def test_start_with_an_unsupported_parameter_is_refused(
    world: PipelineWorld, member: str, value: Any
) -> None:
    world.create(EMPTY)
    error = refused(world, "StartPipelineExecution", PipelineName="p", **{member: value})
    assert error.code == "NotImplementedByLocalCloud"
    assert f"StartPipelineExecution with {member} is not implemented" in error.message


def test_role_of_a_start_is_for_pipelines_of_aws(world: PipelineWorld) -> None:
    world.create(EMPTY)
    error = refused(world, "StartPipelineExecution", PipelineName="p", RoleArn=ROLE)
    assert (error.code, "RoleArn" in error.message) == ("ValidationException", True)


# Quotas


def test_pipelines_of_an_account_are_limited(world: PipelineWorld) -> None:
    world.settings["pipelines"] = 1
    world.create(EMPTY)
    error = refused(world, "CreatePipeline", PipelineName="q", RoleArn=ROLE, PipelineDefinition=EMPTY)
    assert error.code == "ResourceLimitExceeded"
    assert "'Maximum number of pipelines allowed per account' is 1 Pipelines" in error.message


def test_executions_at_once_are_limited(world: PipelineWorld) -> None:
    # given a running execution
    world.settings["pipeline_executions"] = 1
    world.plan = {"Train": ["InProgress"]}
    arn = world.start(defined(training()))
    error = refused(world, "StartPipelineExecution", PipelineName="p")
    assert error.code == "ResourceLimitExceeded"
    # when the execution has ended, then another execution can start
    until(lambda: world.asked, "the job", 20)
    world.end_job(world.asked[0]["TrainingJobName"], "Completed")
    world.ended(arn)
    world.ended(world.start())


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("pipeline_steps", defined(fail("A"), fail("B"))),
        ("pipeline_parameters", defined(parameters=[parameter("A"), parameter("B")])),
    ],
)
def test_size_of_a_definition_is_limited(world: PipelineWorld, setting: str, text: str) -> None:
    world.settings[setting] = 1
    error = refused(world, "CreatePipeline", PipelineName="p", RoleArn=ROLE, PipelineDefinition=text)
    assert error.code == "ValidationException"
    assert "A pipeline definition can have at most 1" in error.message
