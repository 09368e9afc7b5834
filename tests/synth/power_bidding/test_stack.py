"""The template of power_bidding: required and forbidden contents."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from groundplan import states
from local.emulator.definitions import diagnose
from stacks.power_bidding.machines import KILLED, TRIES
from tests.synth.conftest import ROOT
from tests.synth.machine import Run, TaskError
from tests.synth.template import Template, allowed, flat, of_type, only
from tooling import envs

VARIANTS = ["dev", "prod", "chosen"]


def machine(template: Template, id: str) -> dict[str, Any]:
    """Return the definition of a state machine, with references as `<Name>`."""
    (found,) = [
        each["Properties"]
        for name, each in of_type(template, "AWS::StepFunctions::StateMachine").items()
        if name.startswith(f"{id}StateMachine")
    ]
    return json.loads(flat(found["DefinitionString"]))


def function_of(arguments: dict[str, Any]) -> str:
    """Return the construct id of the function that a task invokes."""
    return arguments["FunctionName"].removeprefix("<").partition("Function")[0]


def feed(template: Template, index: int) -> dict[str, Any]:
    """Return the branch of a feed as a separate machine, with the variables of the outer machine."""
    branch = machine(template, "Prepare")["States"]["Fetch"]["Branches"][index]
    around = {"hour": "2022-01-31T05:00Z", "pause": 300, "tries": TRIES}
    begin = {"Type": "Pass", "Assign": around, "Next": branch["StartAt"]}
    return {"StartAt": "Around", "States": {"Around": begin, **branch["States"]}}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("id", ["Prepare", "Bid", "Backfill"])
def test_every_machine_is_sound_and_can_be_created(id: str, variant: str, request: pytest.FixtureRequest):
    definition = machine(request.getfixturevalue(variant), id)
    assert states.problems(definition) == []
    assert diagnose(json.dumps(definition).replace("<AWS::Partition>", "aws")) == []


def test_late_feed_is_retried_a_limited_number_of_times(dev: Template):
    late = {"feed": "load", "status": "late", "reason": "not published"}
    done = Run(feed(dev, 1), {}, lambda action, arguments: {"Payload": late})
    assert [arguments["Payload"]["attempt"] for _, arguments in done.calls] == list(range(TRIES))
    assert (done.waited, done.output) == ([300] * (TRIES - 1), late)


def test_feed_that_arrives_after_retries_is_used(dev: Template):
    answers = iter(["late", "late", "ready"])
    done = Run(feed(dev, 2), {}, lambda *_: {"Payload": {"feed": "weather", "status": next(answers)}})
    assert (len(done.calls), done.output["status"]) == (3, "ready")


def test_failed_feed_is_reported_as_missing(dev: Template):
    def call(action: str, arguments: dict[str, Any]) -> Any:
        raise TaskError("FeedMalformedError", "flat series")

    done = Run(feed(dev, 0), {}, call)
    assert done.output == {
        "feed": "market_prices",
        "hour": "2022-01-31T05:00Z",
        "status": "missing",
        "reason": "FeedMalformedError flat series",
    }


def test_feed_that_is_down_is_retried(dev: Template):
    answers = iter([TaskError("FeedDownError", "503"), {"Payload": {"feed": "load", "status": "ready"}}])

    def call(action: str, arguments: dict[str, Any]) -> Any:
        found = next(answers)
        if isinstance(found, TaskError):
            raise found
        return found

    done = Run(feed(dev, 1), {}, call)
    assert (done.waited, done.output["status"]) == ([300], "ready")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"hour": "2022-01-31"}, "hour must be a text"),
        ({"hour": "2022-01-31T05:00Z", "rate": 0}, "rate a number above 0"),
        ({"hour": "2022-01-31T05:00Z", "rate": "fast"}, "rate a number above 0"),
    ],
)
def test_invalid_hour_is_refused(given: dict[str, Any], says: str, dev: Template):
    done = Run(machine(dev, "Prepare"), given, lambda *_: None)
    assert done.error == "AcceptFailed"
    assert says in str(done.cause)
    assert not done.calls


@pytest.mark.parametrize("quiet", [False, True])
def test_event_is_sent_for_an_hour_without_a_dataset(quiet: bool, dev: Template):
    # given
    definition = machine(dev, "Prepare")
    definition["States"]["Fetch"] = {"Type": "Pass", "Assign": {"feeds": []}, "Next": "Consolidate"}

    def call(action: str, arguments: dict[str, Any]) -> Any:
        if action == "lambda:invoke":
            raise TaskError("ValueError", "no such file")
        return {}

    # when
    given = {"hour": "2022-01-31T05:00Z", "rate": 60, "quiet": quiet}
    done = Run(definition, given, call)
    # then
    told = [arguments["Entries"][0]["Detail"] for action, arguments in done.calls if "putEvents" in action]
    event = {"hour": "2022-01-31T05:00Z", "version": 0, "rate": 60, "retrain": False}
    assert told == ([] if quiet else [event])
    assert (done.error, done.cause) == ("ConsolidateFailed", "Consolidate: ValueError no such file")


def retried(state: dict[str, Any], error: str) -> int:
    """Return the maximum number of retries of a state after an error."""
    for rule in state["Retry"]:
        if {error, "States.ALL"} & set(rule["ErrorEquals"]):
            return rule["MaxAttempts"]
    return 0


@pytest.mark.parametrize("error", KILLED)
def test_killed_function_is_retried(error: str, dev: Template):
    prepare, bid = (machine(dev, id)["States"] for id in ("Prepare", "Bid"))
    asset = bid["Bid"]["ItemProcessor"]["States"]
    feed = prepare["Fetch"]["Branches"][0]["States"]["FetchMarketPrices"]
    states = (feed, prepare["Consolidate"], bid["Retrain"], asset["MakeBids"], asset["FallBack"])
    assert [retried(state, error) > 0 for state in states] == [True] * 5
    assert retried(asset["MakeBids"], "ModelAnswerError") == 0


def around_the_map(template: Template) -> dict[str, Any]:
    """Return the definition of the state machine `Bid`, with its Map replaced by a state that outputs the
    variable `retraining`."""
    definition = machine(template, "Bid")
    definition["States"]["Bid"] = {
        "Type": "Pass",
        "Output": {"retraining": "{% $retraining %}"},
        "End": True,
    }
    return definition


@pytest.mark.parametrize(
    ("current", "answer", "told"),
    [
        (True, None, "none"),
        (False, {"status": "Succeeded"}, "Succeeded"),
        (False, TaskError("RetrainingFailed", "step Train failed"), "RetrainingFailed step Train failed"),
        (False, TaskError("States.HeartbeatTimeout"), "States.HeartbeatTimeout "),
        (TaskError("Lambda.Unknown", "no answer"), None, "Lambda.Unknown no answer"),
    ],
)
def test_offers_are_made_when_retraining_fails(current: Any, answer: Any, told: str, dev: Template):
    def call(action: str, arguments: dict[str, Any]) -> Any:
        found = current if function_of(arguments) == "CheckModel" else answer
        if isinstance(found, TaskError):
            raise found
        return {"Payload": {"current": found}} if isinstance(found, bool) else found

    definition = around_the_map(dev)
    definition["States"]["Retrain"]["Arguments"]["Payload"]["token"] = "token"
    done = Run(definition, {"hour": "2022-01-31T05:00Z", "version": 1}, call)
    assert (done.error, done.output) == (None, {"retraining": told})


def test_replay_shortens_every_wait(dev: Template):
    definition = around_the_map(dev)
    definition["States"]["Retrain"]["Arguments"]["Payload"]["token"] = "token"
    for rate, seconds in ((1, 60 * 22), (60, 11), (3600, 1), (2500, 1)):
        given = {"hour": "2022-01-31T05:00Z", "version": 1, "rate": rate, "retrain": True}
        done = Run(definition, given, lambda *_: {"status": "Succeeded"})
        assert done.variables["patience"] == seconds


@pytest.mark.parametrize(("variant", "state"), [("dev", "DISABLED"), ("prod", "ENABLED")])
def test_runs_start_by_the_clock_where_that_is_chosen(
    variant: str, state: str, request: pytest.FixtureRequest
):
    schedule = only(request.getfixturevalue(variant), "AWS::Scheduler::Schedule")["Properties"]
    assert (schedule["State"], schedule["ScheduleExpression"]) == (state, "cron(2 * * * ? *)")
    assert json.loads(schedule["Target"]["Input"]) == {"time": "<aws.scheduler.scheduled-time>"}
    assert schedule["Target"]["DeadLetterConfig"]


def test_pipeline_equals_the_definition_rendered_by_the_sdk(tmp_path):
    python = envs.environment("notebooks")
    done = subprocess.run(
        [str(python), "-c", "from pipelines.power_bidding.render import rendered; print(rendered(), end='')"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == (ROOT / "pipelines/power_bidding/definition.json").read_text()


@pytest.mark.parametrize("variant", VARIANTS)
def test_pipeline_definition_has_no_placeholders(variant: str, request: pytest.FixtureRequest):
    pipeline = only(request.getfixturevalue(variant), "AWS::SageMaker::Pipeline")["Properties"]
    body = flat(pipeline["PipelineDefinition"]["PipelineDefinitionBody"])
    assert "${" not in body
    steps = {step["Name"]: step for step in json.loads(body)["Steps"]}
    assert list(steps) == ["Train", "Evaluate", "Better"]


def test_jobs_join_the_vpc_and_keep_local_disks_to_themselves(chosen: Template, prod: Template):
    def steps(template: Template) -> dict[str, Any]:
        pipeline = only(template, "AWS::SageMaker::Pipeline")["Properties"]
        body = json.loads(flat(pipeline["PipelineDefinition"]["PipelineDefinitionBody"]))
        return {step["Name"]: step["Arguments"] for step in body["Steps"]}

    assert steps(chosen)["Train"]["VpcConfig"]["Subnets"]
    assert steps(chosen)["Evaluate"]["NetworkConfig"]["VpcConfig"]["Subnets"]
    assert "VolumeKmsKeyId" not in steps(chosen)["Train"]["ResourceConfig"]
    assert steps(prod)["Train"]["ResourceConfig"]["VolumeKmsKeyId"].startswith("<Key")


def test_credentials_are_read_by_feeds_and_offers_only(dev: Template):
    readers = {
        name
        for name in of_type(dev, "AWS::Lambda::Function")
        if "secretsmanager:GetSecretValue" in allowed(dev, name.partition("Function")[0])
    }
    assert {name.partition("Function")[0] for name in readers} == {
        *("MarketPrices", "Load", "Weather", "PriceForecast", "MakeBids", "FallBack", "Release"),
    }


def test_tables_can_be_rolled_back_unless_protected(prod: Template, chosen: Template):
    def protected(template: Template) -> set[bool]:
        tables = of_type(template, "AWS::DynamoDB::Table").values()
        return {table["Properties"]["DeletionProtectionEnabled"] for table in tables}

    assert (protected(prod), protected(chosen)) == ({False}, {True})


def test_only_a_retraining_starts_the_pipeline(dev: Template):
    starters = {
        name.partition("Function")[0]
        for name in of_type(dev, "AWS::Lambda::Function")
        if "sagemaker:StartPipelineExecution" in allowed(dev, name.partition("Function")[0])
    }
    assert starters == {"Retrain"}
    assert "sagemaker:DescribePipelineExecution" in allowed(dev, "Sweep")


def test_provisioned_endpoint_may_join_the_vpc_and_use_the_key(prod: Template, chosen: Template):
    # given the stack `prod` with a serverless endpoint, and the stack `chosen` with an instance endpoint, a
    # VPC and a key
    assert "ec2:CreateNetworkInterface" in allowed(chosen, "ServingRole")
    assert flat(allowed(chosen, "DeployRole")["kms:CreateGrant"].pop()).startswith("<Key")
    # then only the roles of the stack with the instance have the additional grants
    assert "ec2:CreateNetworkInterface" not in allowed(prod, "ServingRole")
    assert "kms:CreateGrant" not in allowed(prod, "DeployRole")


def test_only_the_deploying_function_creates_endpoints(dev: Template):
    makers = {
        name.partition("Function")[0]
        for name in of_type(dev, "AWS::Lambda::Function")
        if "sagemaker:CreateEndpoint" in allowed(dev, name.partition("Function")[0])
    }
    assert makers == {"Deploy"}
