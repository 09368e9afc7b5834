"""The state machine of an examination, run state by state."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from groundplan.lambdas.clean_up.handler import leftovers
from local.sagemaker.api import service_model, validate
from tests.synth.machine import Run, TaskError
from tests.synth.template import Template, allowed, flat, listed, of_type, only, statements

GIVEN = {
    "attribute": "animal",
    "manifest": "s3://BUCKET/labels/animals/labeled.manifest",
    "pictures": "s3://BUCKET/inputs/animals/",
}
DONE = {"ProcessingJobStatus": "Completed"}
RUNNING = {"ProcessingJobStatus": "InProgress"}
TAKEN = TaskError("SageMaker.ResourceInUseException", "Processing job names must be unique")


@pytest.fixture(scope="module")
def definition(dev: Template) -> dict[str, Any]:
    machines = of_type(dev, "AWS::StepFunctions::StateMachine")
    (found,) = (r["Properties"] for name, r in machines.items() if name.startswith("Examine"))
    text = re.sub(r"<Data[A-Za-z0-9]+>", "BUCKET", flat(found["DefinitionString"]))
    return json.loads(re.sub(r"<[A-Za-z0-9.:]+>", "TOKEN", text))


def examined(definition: dict[str, Any], given: dict[str, Any], *answers: Any) -> Run:
    """Run the machine. `answers`: the response to the job's creation, then the job's descriptions."""
    left = iter(answers)

    def service(action: str, arguments: dict[str, Any]) -> Any:
        answer = next(left)
        if isinstance(answer, TaskError):
            raise answer
        return answer

    return Run(definition, given, service)


def test_examination_waits_for_its_job_and_names_the_results(definition: dict[str, Any]) -> None:
    run = examined(definition, {**GIVEN, "arguments": {"side": 8}}, {}, RUNNING, DONE)
    ((_, asked), *_) = run.calls
    job = asked["ProcessingJobName"]
    assert re.fullmatch("groundplan-dev-data-centric-examine-[0-9a-f]{12}", job)
    # then the request is valid in SageMaker's service model
    validate(
        service_model().operation_model("CreateProcessingJob").input_shape,
        asked | {"RoleArn": "arn:aws:iam::000000000000:role/job"},
    )
    assert asked["AppSpecification"]["ContainerArguments"] == ["--attribute", "animal", "--side", "8"]
    inputs = {each["InputName"]: each["S3Input"]["S3Uri"] for each in asked["ProcessingInputs"]}
    assert inputs == {"manifest": GIVEN["manifest"], "pictures": GIVEN["pictures"]}
    # and the execution's output names the manifest for a labeling run that reviews the probable label errors
    assert run.output["review_manifest"] == f"s3://BUCKET/labels/{job}/review.manifest"
    assert "manifest" not in run.output
    assert run.waited


def test_answers_are_consolidated_when_they_are_given(definition: dict[str, Any]) -> None:
    answers = "s3://BUCKET/labels/animals/answers/"
    run = examined(definition, {**GIVEN, "answers": answers}, {}, DONE)
    assert run.calls[0][1]["ProcessingInputs"][2]["S3Input"]["S3Uri"] == answers
    assert run.output["manifest"] == f"{run.output['folder']}/labels.manifest"


def test_job_of_an_earlier_call_is_waited_for(definition: dict[str, Any]) -> None:
    run = examined(definition, GIVEN, TAKEN, RUNNING, DONE)
    assert run.visited.count("Start") == 1
    assert run.output["report"].endswith("/report.json")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"attribute": 3}, "attribute must be a text, got 3"),
        (
            {"manifest": "s3://other/inputs/a"},
            "manifest must be below s3://BUCKET/inputs/ or s3://BUCKET/lab",
        ),
        ({"manifest": None}, "manifest must be below .+, got "),
        (
            {"pictures": "s3://BUCKET/training/"},
            "pictures must be below s3://BUCKET/inputs/, got s3://BUCKET/t",
        ),
        (
            {"answers": "s3://BUCKET/inputs/"},
            "answers must be below s3://BUCKET/labels/, got s3://BUCKET/inp",
        ),
    ],
)
def test_invalid_input_starts_no_job(
    definition: dict[str, Any], changes: dict[str, Any], reason: str
) -> None:
    given = {key: value for key, value in (GIVEN | changes).items() if value is not None}
    run = examined(definition, given)
    assert (run.error, run.calls) == ("AcceptFailed", [])
    assert re.match(reason, run.cause or "")


def test_failed_job_fails_the_examination_with_its_reason(definition: dict[str, Any]) -> None:
    seen = {"ProcessingJobStatus": "Failed", "ExitMessage": "line 3: is not JSON", "FailureReason": "exit 1"}
    run = examined(definition, GIVEN, {}, seen)
    assert (run.error, run.cause) == ("ExamineFailed", "Examine: line 3: is not JSON")
    run = examined(definition, GIVEN, {}, {"ProcessingJobStatus": "Stopped"})
    assert run.cause == "Examine: the job is Stopped"


def test_job_reads_and_writes_its_folders_only(dev: Template) -> None:
    may: dict[str, set[str]] = {"s3:GetObject": set(), "s3:PutObject": set()}
    for name, _, each in statements(dev):
        if name.startswith("ExamineJob"):
            for action in may.keys() & set(listed(each["Action"])):
                may[action] |= set(re.findall(r"/(\w+)/\*", json.dumps(each["Resource"])))
    assert may == {"s3:GetObject": {"inputs", "labels"}, "s3:PutObject": {"labels"}}


def test_deleted_stack_stops_its_jobs_only(dev: Template, definition: dict[str, Any]) -> None:
    # given a job of an execution
    ((_, asked), *_) = examined(definition, GIVEN, {}, DONE).calls
    job = asked["ProcessingJobName"]
    prefix = job[:-12]
    # then the clean-up function accepts the job's name, and no names of jobs of another stack or of a user
    found = leftovers(only(dev, "Custom::SageMakerCleanUp")["Properties"])
    assert found.beginning("ProcessingJob") == prefix.removesuffix("-")
    assert found.owns(job)
    assert not any(found.owns(f"{prefix}{other}") for other in ("0", "again", f"two-{job[-12:]}"))
    # and the function may stop such jobs and delete their logs, and has no other permissions on processing
    # jobs
    may = allowed(dev, "CleanUp")
    assert may["sagemaker:ListProcessingJobs"] == {"*"}
    own = {
        action: {each.rpartition("<AWS::AccountId>:")[2] for each in on if "processing" in each.lower()}
        for action, on in may.items()
    }
    group = "log-group:/aws/sagemaker/ProcessingJobs"
    assert {action: on for action, on in own.items() if on} == {
        "sagemaker:StopProcessingJob": {f"processing-job/{prefix}*"},
        "logs:DescribeLogStreams": {group, f"{group}:log-stream:"},
        "logs:DeleteLogStream": {f"{group}:log-stream:{prefix}*"},
    }
