"""The state machine of a sweep, run state by state: the outcomes of a job, and the ways in which the sweep
ends."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from data_centric.core.sweep import tuning_config
from local.sagemaker.api import service_model, validate
from stacks.data_centric.sweep import HYPERPARAMETERS, STRATEGIES
from stacks.data_centric.sweep_machine import ATTEMPTS, LONGEST_WAIT, WAITS
from tests.support.data_centric.sweeps import sweep
from tests.synth.machine import Run, TaskError
from tests.synth.template import Template, flat, listed, of_type, statements
from tooling.containers import CONTAINERS

MACHINE = "AWS::StepFunctions::StateMachine"
CELL = {"id": "007", "strategy": "glister", "fraction": 0.1, "hyperparameters": {"strategy": "glister"}}
DONE = {"TrainingJobStatus": "Completed", "SecondaryStatus": "Completed", "BillableTimeInSeconds": 61}
CAPACITY = {
    "TrainingJobStatus": "Failed",
    "FailureReason": "CapacityError: Unable to provision",
    "BillableTimeInSeconds": 7,
}
DONE_SEARCH = {"HyperParameterTuningJobStatus": "Completed"}
BUG = {"TrainingJobStatus": "Failed", "FailureReason": "AlgorithmError: rate exceeded 1, exit code: 1"}
THROTTLED = TaskError("SageMaker.AmazonSageMakerException", "Rate exceeded (Error Code: ThrottlingException)")
QUOTA = TaskError("SageMaker.ResourceLimitExceededException", "The account-level service limit is 2")
TAKEN = TaskError("SageMaker.ResourceInUseException", "Training job names must be unique")
SOURCE = {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/datasets/digits/train/"}
CHANNELS = [{"ChannelName": "train", "DataSource": {"S3DataSource": SOURCE}}]
PLANNED = {"problems": [], "estimate": {"jobs": 1}, "estimate_only": False, "cells": [CELL]}


@pytest.fixture(scope="module")
def definition(dev: Template) -> dict[str, Any]:
    (machine,) = (r["Properties"] for n, r in of_type(dev, MACHINE).items() if n.startswith("Sweep"))
    return json.loads(re.sub(r"<[A-Za-z0-9.:]+>", "TOKEN", flat(machine["DefinitionString"])))


class SageMaker:
    """A simulated SageMaker that answers each call with the next of `answers`, and after the last with a
    completed job."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def __call__(self, action: str, arguments: dict[str, Any]) -> Any:
        answer = self.answers.pop(0) if self.answers else DONE
        if isinstance(answer, TaskError):
            raise answer
        if action.endswith(".sync") and answer["TrainingJobStatus"] == "Failed":
            raise TaskError("States.TaskFailed", json.dumps(answer))
        return answer


def trained(definition: dict[str, Any], *answers: Any) -> Run:
    """Run the branch that trains one cell (a strategy and a fraction), with the variables of the state
    machine."""
    branch = definition["States"]["Train"]["ItemProcessor"]
    around = {"plan": {"labels": "v1", "channels": CHANNELS}, "run": "0123456789ab"}
    start = {"Type": "Pass", "Assign": around, "Next": branch["StartAt"]}
    return Run(
        {"StartAt": "Start", "States": {"Start": start, **branch["States"]}}, CELL, SageMaker(*answers)
    )


def names(run: Run) -> list[str]:
    return [given["TrainingJobName"].rpartition("sweep-")[2] for _, given in run.calls]


def test_job_that_completes_is_an_outcome(definition: dict[str, Any]) -> None:
    run = trained(definition)
    job = run.output.pop("job")
    assert job.endswith("-sweep-0123456789ab-007-1")
    assert run.output == {"cell": "007", "status": "Completed", "reason": "", "billed_seconds": 61}
    ((_, given),) = run.calls
    assert given["TrainingJobName"] == job
    assert given["HyperParameters"] == {"strategy": "glister"}
    assert {"Key": "groundplan:labels", "Value": "v1"} in given["Tags"]


@pytest.mark.parametrize("refusal", [THROTTLED, QUOTA])
def test_refused_call_is_repeated_under_the_same_name(definition: dict[str, Any], refusal: TaskError) -> None:
    run = trained(definition, refusal, refusal)
    assert names(run) == ["0123456789ab-007-1"] * 3
    assert run.output["status"] == "Completed"
    assert 2 <= run.waited[0] <= 3 < run.waited[1] <= 9


def test_job_without_capacity_is_started_under_another_name(definition: dict[str, Any]) -> None:
    run = trained(definition, CAPACITY, THROTTLED)
    assert names(run) == ["0123456789ab-007-1", "0123456789ab-007-2", "0123456789ab-007-2"]
    assert run.output["billed_seconds"] == 7 + 61
    # and the second job has the checkpoints of the first job
    assert len({given["CheckpointConfig"]["S3Uri"] for _, given in run.calls}) == 1
    assert run.output["job"].endswith("-2")


def test_failed_job_ends_with_its_reason(definition: dict[str, Any]) -> None:
    run = trained(definition, BUG)
    assert len(run.calls) == 1
    assert (run.output["status"], run.output["reason"]) == ("Failed", BUG["FailureReason"])


@pytest.mark.parametrize(
    ("answer", "calls", "status"), [(CAPACITY, ATTEMPTS, "Failed"), (THROTTLED, WAITS + 1, "Refused")]
)
def test_retries_end(definition: dict[str, Any], answer: Any, calls: int, status: str) -> None:
    run = trained(definition, *[answer] * 100)
    assert (len(run.calls), run.output["status"]) == (calls, status)
    assert max(run.waited) <= LONGEST_WAIT


@pytest.mark.parametrize(
    ("looks", "status", "visits"),
    [
        ([{"TrainingJobStatus": "InProgress", "SecondaryStatus": "Training"}, DONE], "Completed", 2),
        ([THROTTLED, DONE], "Completed", 2),
        ([BUG], "Failed", 1),
        ([{"TrainingJobStatus": "Stopped", "SecondaryStatus": "Stopped"}], "Stopped", 1),
    ],
)
def test_job_of_an_earlier_call_is_waited_for(
    definition: dict[str, Any], looks: list[Any], status: str, visits: int
) -> None:
    run = trained(definition, TAKEN, *looks)
    assert run.output["status"] == status
    assert run.visited.count("LookAtJob") == visits
    assert run.visited.count("TrainCell") == 1


def test_job_of_an_earlier_call_without_capacity_gets_another(definition: dict[str, Any]) -> None:
    run = trained(definition, TAKEN, CAPACITY)
    assert names(run) == ["0123456789ab-007-1"] * 2 + ["0123456789ab-007-2"]
    assert run.output["status"] == "Completed"


def test_invalid_job_is_refused_and_not_repeated(definition: dict[str, Any]) -> None:
    run = trained(definition, TaskError("SageMaker.AmazonSageMakerException", "Invalid regex"))
    assert (len(run.calls), run.output["status"]) == (1, "Refused")
    assert "Invalid regex" in run.output["reason"]


def swept(definition: dict[str, Any], plan: Any, report: Any = None, **searched: str) -> Run:
    """Run the machine with these responses of its functions and of a search. The Map state is skipped."""
    states = definition["States"] | {
        "Train": {"Type": "Pass", "Assign": {"outcomes": []}, "Output": {}, "Next": "IsSearch"}
    }
    answers = iter([{"Payload": plan}, *([searched] if searched else []), {"Payload": report}])
    return Run(definition | {"States": states}, {"dataset": "digits"}, lambda *_: next(answers))


def test_problems_end_the_sweep_before_a_job(definition: dict[str, Any]) -> None:
    run = swept(definition, {"problems": ["fractions must be above 0", "seeds must be whole"]})
    assert (run.error, run.cause) == ("PlanFailed", "Plan: fractions must be above 0; seeds must be whole")
    assert "Train" not in run.visited


def test_estimate_starts_no_job(definition: dict[str, Any]) -> None:
    run = swept(definition, PLANNED | {"estimate_only": True})
    assert run.output == {"estimate": {"jobs": 1}}
    assert "Train" not in run.visited


def test_search_follows_the_controls_and_is_compared(definition: dict[str, Any]) -> None:
    # given a sweep with a search for the best fraction of the training data for one strategy
    config = tuning_config(sweep(strategies=["glister"], fractions=[0.1, 0.5], search={"jobs": 2}))
    plan = PLANNED | {"folder": "sweeps/x/1", "labels": "v1", "channels": CHANNELS}
    plan["search"] = {"config": config, "hyperparameters": {"strategy": "glister", "seeds": "0,1"}}
    # when
    run = swept(definition, plan, {"completed": 1, "failed": []}, HyperParameterTuningJobName="sweep-1")
    # then the request for the tuning job is valid in SageMaker's service model
    (asked,) = [given for action, given in run.calls if "HyperParameterTuningJob" in action]
    asked["TrainingJobDefinition"]["RoleArn"] = "arn:aws:iam::000000000000:role/training"
    validate(service_model().operation_model("CreateHyperParameterTuningJob").input_shape, asked)
    assert asked["TrainingJobDefinition"]["StaticHyperParameters"] == {
        "strategy": "glister",
        "seeds": "0,1",
    }
    # and the comparison gets the name of the tuning job
    assert run.calls[-1][1]["Payload"]["search"] == "sweep-1"


REPORT = {"Payload": {"completed": 1, "failed": []}}
SEARCHED = {"HyperParameterTuningJobName": "sweep-1"}


@pytest.mark.parametrize(
    ("answers", "told", "compared", "waits"),
    [
        ([THROTTLED, QUOTA, SEARCHED], None, "sweep-1", 2),
        ([TaskError("States.TaskFailed", "no trial completed")], "no trial completed", "sweep-", 0),
        ([TaskError("SageMaker.AmazonSageMakerException", "Invalid range")], "Invalid range", "", 0),
        ([TAKEN, {"HyperParameterTuningJobStatus": "InProgress"}, DONE_SEARCH], None, "sweep-", 1),
        ([TAKEN, {"HyperParameterTuningJobStatus": "Stopped"}], "the tuning job is Stopped", "sweep-", 0),
    ],
)
def test_search_that_fails_loses_no_finished_job(
    definition: dict[str, Any], answers: list[Any], told: str | None, compared: str, waits: int
) -> None:
    # given a sweep whose jobs have completed, except for those of the search
    states = definition["States"] | {
        "Train": {"Type": "Pass", "Assign": {"outcomes": []}, "Output": {}, "Next": "IsSearch"}
    }
    searched = {"config": {}, "hyperparameters": {"strategy": "glister"}}
    plan = PLANNED | {"folder": "sweeps/x/1", "labels": "v1", "channels": CHANNELS, "search": searched}
    left = iter([{"Payload": plan}, *answers, REPORT])

    def service(action: str, arguments: dict[str, Any]) -> Any:
        answer = next(left)
        if isinstance(answer, TaskError):
            raise answer
        return answer

    # when the start of the search is retried, the search fails, or an earlier call has already started the
    # search
    run = Run(definition | {"States": states}, {"dataset": "digits"}, service)
    # then the comparison still gets the completed jobs, and a failure of the search is reported
    assert run.calls[-1][1]["Payload"]["search"].startswith(compared)
    assert (compared == "") == (run.calls[-1][1]["Payload"]["search"] == "")
    assert run.output["completed"] == 1
    assert (told or "") in run.output.get("search_failed", "")
    assert ("search_failed" in run.output) == (told is not None)
    assert len(run.waited) == waits


def test_sweep_fails_only_if_no_job_completes(definition: dict[str, Any]) -> None:
    plan, failed = PLANNED | {"folder": "sweeps/x/1"}, [{"cell": "007", "reason": "no memory"}]
    run = swept(definition, plan, {"completed": 0, "failed": failed})
    assert (run.error, run.cause) == ("TrainFailed", "Train: no job completed, the first one: no memory")
    run = swept(definition, plan, {"completed": 1, "failed": failed})
    assert run.output == {"completed": 1, "failed": failed, "estimate": {"jobs": 1}}


def test_name_of_a_run_is_the_executions_own(definition: dict[str, Any]) -> None:
    first, again = (swept(definition, {"problems": ["x"]}).calls[0][1]["Payload"]["run"] for _ in range(2))
    assert first == again
    assert re.fullmatch("[0-9a-f]{12}", first)


def test_strategies_are_those_of_the_image() -> None:
    folder = CONTAINERS / "data_centric" / "subset_training" / "subset_training" / "strategies"
    source = (folder / "names.py").read_text()
    names = source.partition("MAKERS: dict")[2].partition("\n}")[0]
    found = set(re.findall(r'^    "(\w+)":', names, re.MULTILINE)) | {"fewer_epochs"}
    unbudgeted = re.search(r'^UNBUDGETED = \("(\w+)", "(\w+)"\)', source, re.MULTILINE)
    assert found == set(STRATEGIES)
    assert unbudgeted
    assert set(unbudgeted.groups()) == {name for name, budgeted in STRATEGIES.items() if not budgeted}


def test_hyperparameters_are_those_of_the_image() -> None:
    source = (CONTAINERS / "data_centric" / "subset_training" / "subset_training" / "settings.py").read_text()
    found = set(re.findall(r"^    (\w+): .+ = \w+\(", source, re.MULTILINE))
    assert found == {*HYPERPARAMETERS, "strategy", "fraction", "seeds"}


@pytest.mark.parametrize(("name", "hosts"), [("dev", 1), ("chosen", 2)])
def test_jobs_and_searches_have_the_hosts_that_are_chosen(
    name: str, hosts: int, request: pytest.FixtureRequest
) -> None:
    machines = of_type(request.getfixturevalue(name), MACHINE)
    (machine,) = (r["Properties"] for n, r in machines.items() if n.startswith("Sweep"))
    counts = re.findall(r'"InstanceCount": (\d+)', flat(machine["DefinitionString"]))
    assert counts == [str(hosts)] * 2


def test_roles_of_a_sweep_have_no_wide_grants(dev: Template) -> None:
    own = [(name, each) for name, _, each in statements(dev) if name.startswith("Sweep")]
    wide = {action for _, each in own if each["Resource"] == "*" for action in listed(each["Action"])}
    # AWS has no resource-level permissions for prices, metrics, registry sign-in, traces and log delivery.
    assert {action.partition(":")[0] for action in wide} <= {"pricing", "cloudwatch", "ecr", "xray", "logs"}
    text = json.dumps([each for name, each in own if name.startswith("SweepRole")])
    assert "training-job/groundplan-dev-data-centric-sweep-*" in text
    assert "iam:PassedToService" in text


def test_deleted_stack_deletes_resources_of_sweeps(dev: Template) -> None:
    (resource,) = of_type(dev, "Custom::SageMakerCleanUp").values()
    given = resource["Properties"]
    (suffix,) = given["Suffixes"]
    assert re.fullmatch(suffix, "sweep-0123456789ab-007-1")
    assert not re.fullmatch(suffix, "sweep-of-another-stack")
    search = given["OtherJobs"]["HyperParameterTuningJob"]
    assert re.fullmatch("sweep-[0-9a-f]{8}", search)
    text = json.dumps([each for name, _, each in statements(dev) if name.startswith("CleanUp")])
    assert f"hyper-parameter-tuning-job/{search}-*" in text
    assert f"log-stream:{search}-*" in text
