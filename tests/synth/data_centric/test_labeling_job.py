"""`LabelingJob`: its template for labelers, its roles, and its state machine, run state by state."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import App, Stack, Validations
from aws_cdk import aws_kms as kms
from cdk_nag import AwsSolutionsChecks

from groundplan import LabelingTask
from groundplan.labeling_flow import DAY, STOP_SECONDS
from groundplan.labeling_job import classes_of, page_of
from local.sagemaker.api import service_model, validate
from local.sagemaker.labeling import manifest, template
from tests.support.data_centric.labeling_app import TEAM, animals
from tests.synth.conftest import CONTEXT
from tests.synth.machine import Run, TaskError
from tests.synth.template import Template, allowed, flat, only

TASK: dict[str, Any] = {
    "workteam_arn": TEAM.format(region="eu-west-1"),
    "title": 'Is it "a & b"?',
    "classes": ["it's a", 'b "2"'],
    "instructions": "Choose <one>.",
}
GIVEN = {"attribute": "animal", "manifest": "s3://BUCKET/inputs/animals.manifest"}
COUNTS = {"TotalLabeled": 5, "FailedNonRetryableError": 1, "Unlabeled": 2}
OUTPUT = {"OutputDatasetS3Uri": "s3://BUCKET/labels/job/manifests/output/output.manifest"}
TAKEN = TaskError("SageMaker.ResourceInUseException", "Job name must be unique")


def seen(status: str, **more: Any) -> dict[str, Any]:
    return {"LabelingJobStatus": status, "LabelCounters": COUNTS, "LabelingJobOutput": OUTPUT} | more


@pytest.fixture(scope="module")
def assembly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the templates, which the synthesis validates with CloudFormation's schemas and the
    rules of cdk-nag."""
    folder = tmp_path_factory.mktemp("labeling")
    app = App(outdir=str(folder), context=CONTEXT)
    Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    animals(Stack(app, "labeling"), "eu-west-1")
    keyed = Stack(app, "keyed")
    key = kms.Key(keyed, "Key", enable_key_rotation=True)
    animals(keyed, "eu-west-1", key)  # pyright: ignore[reportArgumentType]
    app.synth()
    return folder


@pytest.fixture(scope="module")
def synthesized(assembly: Path) -> Template:
    return json.loads((assembly / "labeling.template.json").read_text())


@pytest.fixture(scope="module")
def definition(synthesized: Template) -> dict[str, Any]:
    text = flat(only(synthesized, "AWS::StepFunctions::StateMachine")["Properties"]["DefinitionString"])
    text = re.sub(r"<Data[A-Za-z0-9]+>", "BUCKET", text)
    return json.loads(re.sub(r"<[A-Za-z0-9.:]+>", "TOKEN", text))


class SageMaker:
    """A simulated SageMaker. `answers`: the response to the job's creation, then the job's descriptions, of
    which the last is repeated."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def __call__(self, action: str, arguments: dict[str, Any]) -> Any:
        if action.endswith("stopLabelingJob"):
            return {}
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, TaskError):
            raise answer
        return answer


def labeled(definition: dict[str, Any], given: dict[str, Any], *answers: Any) -> Run:
    return Run(definition, given, SageMaker(*answers))


def test_execution_starts_a_valid_labeling_job(definition: dict[str, Any]) -> None:
    run = labeled(definition, GIVEN, {}, seen("Initializing"), seen("InProgress"), seen("Completed"))
    ((_, asked), *_) = run.calls
    role = {"RoleArn": "arn:aws:iam::000000000000:role/job"}
    function = "arn:aws:lambda:eu-west-1:000000000000:function:f"
    task = asked["HumanTaskConfig"] | {
        "PreHumanTaskLambdaArn": function,
        "AnnotationConsolidationConfig": {"AnnotationConsolidationLambdaArn": function},
    }
    shape = service_model().operation_model("CreateLabelingJob").input_shape
    validate(shape, asked | role | {"HumanTaskConfig": task})
    assert re.fullmatch("labeling-animals-[0-9a-f]{12}", asked["LabelingJobName"])
    assert run.output == {
        "job": asked["LabelingJobName"],
        "manifest": OUTPUT["OutputDatasetS3Uri"],
        "labeled": 5,
        "failed": 1,
        "unlabeled": 2,
    }
    assert run.waited == [5, 6]


def test_repeated_start_waits_for_the_job_of_the_first(definition: dict[str, Any]) -> None:
    run = labeled(definition, GIVEN, TAKEN, seen("InProgress"), seen("Completed"))
    assert run.visited.count("Start") == 1
    assert run.output["labeled"] == 5


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"attribute": 3}, "attribute must be a text, got 3$"),
        ({"attribute": None}, "attribute must be a text, got nothing$"),
        (
            {"manifest": "s3://other/inputs/a"},
            "manifest must be below s3://BUCKET/inputs/ or s3://BUCKET/lab",
        ),
        ({"manifest": None}, "manifest must be below .+, got nothing"),
    ],
)
def test_invalid_input_starts_no_job(definition: dict[str, Any], changes: Any, reason: str) -> None:
    given = {key: value for key, value in (GIVEN | changes).items() if value is not None}
    run = labeled(definition, given, {})
    assert (run.error, run.calls) == ("AcceptFailed", [])
    assert run.cause
    assert re.match(reason, run.cause)


def test_failed_job_fails_the_execution_with_its_reason(definition: dict[str, Any]) -> None:
    run = labeled(definition, GIVEN, {}, seen("Failed", FailureReason="ClientError: line 3 must be JSON"))
    assert (run.error, run.cause) == ("LabelFailed", "Label: ClientError: line 3 must be JSON")
    run = labeled(definition, GIVEN, {}, seen("Stopped"))
    assert run.cause == "Label: the job is Stopped: 5 objects are labeled, 2 are not"


def test_job_that_takes_too_long_is_stopped(definition: dict[str, Any]) -> None:
    # given a job that runs until it is stopped
    class Slow(SageMaker):
        def __call__(self, action: str, arguments: dict[str, Any]) -> Any:
            if action.endswith("stopLabelingJob"):
                self.answers = [seen("Stopping"), seen("Stopped")]
            return super().__call__(action, arguments)

    run = Run(definition, GIVEN, Slow({}, seen("InProgress")))
    # then the execution fails after the task's maximum number of days, with fewer polls than the execution
    # history can hold
    assert run.cause == "Label: the job is Stopped after 10 days: 5 objects are labeled, 2 are not"
    assert run.visited.count("Stop") == 1
    assert 10 * DAY <= sum(run.waited) < 10 * DAY + 300
    assert len(run.waited) < 3 * 25_000 / 9 / 10


def test_job_that_does_not_stop_ends_the_execution(definition: dict[str, Any]) -> None:
    run = labeled(definition, GIVEN, {}, seen("InProgress"))
    assert run.error == "LabelFailed"
    assert 10 * DAY + STOP_SECONDS <= sum(run.waited) < definition["TimeoutSeconds"]
    assert run.visited.count("Stop") > 10


def test_roles_have_exactly_the_grants_of_the_job(synthesized: Template) -> None:
    job = {action: sorted(on) for action, on in allowed(synthesized, "AnimalsJob").items()}
    assert all(re.search("/(inputs|labels)/[*]$|cdk-hnb659fds-assets", each) for each in job["s3:GetObject"])
    assert [each.rpartition(">")[2] for each in job["s3:PutObject"]] == ["/labels/*"]
    assert len(job["lambda:InvokeFunction"]) == 2
    assert not any(each.endswith("*") for each in job["lambda:InvokeFunction"])
    machine = allowed(synthesized, "AnimalsRole")
    jobs = {each for action, on in machine.items() if action.startswith("sagemaker:") for each in on}
    assert [each.partition(":labeling-job/")[2] for each in jobs] == ["labeling-animals-*"]


def test_bucket_with_a_key_encrypts_the_output_of_jobs(assembly: Path) -> None:
    made = json.loads((assembly / "keyed.template.json").read_text())
    text = flat(only(made, "AWS::StepFunctions::StateMachine")["Properties"]["DefinitionString"])
    written = json.loads(text)["States"]["Start"]["Arguments"]["OutputConfig"]
    assert re.fullmatch("<Key[A-Z0-9]+.Arn>", written["KmsKeyId"])
    assert {"kms:Decrypt", "kms:GenerateDataKey"} <= set(allowed(made, "AnimalsJob"))


def test_template_and_classes_are_those_of_the_task(assembly: Path) -> None:
    # given
    pages = [path.read_text() for path in assembly.glob("asset.*.html")]
    texts = [path.read_bytes() for path in assembly.glob("asset.*.json")]
    # then the assets contain the labelers' page and its classes
    assert any("Choose the animal that the &lt;picture&gt; shows." in page for page in pages)
    assert ["cat", "dog", "owl"] in [manifest.categories(text) for text in texts]


def test_page_shows_texts_of_the_task_as_they_are() -> None:
    task = LabelingTask(**TASK)
    page = page_of(task)
    assert template.elements(page.encode()) == {
        "crowd-image-classifier": "crowd-image-classifier",
        "crowd-classifier": "crowd-classifier",
    }
    shown = re.findall('categories="(.*?)"', page)
    assert [json.loads(html.unescape(each)) for each in shown] == [TASK["classes"]] * 2
    assert "Choose &lt;one&gt;." in page
    assert "$" not in page
    assert manifest.categories(classes_of(task).encode()) == TASK["classes"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"workteam_arn": "arn:aws:sagemaker:eu-west-1:1:workteam/public-crowd/default"}, "Mechanical Turk"),
        ({"classes": ["a"]}, "classes must be 2 to 10 different texts, got a"),
        ({"classes": ["a", "a"]}, "classes must be 2 to 10 different texts, got a, a"),
        ({"classes": list("abcdefghijk")}, "classes must be 2 to 10 different texts"),
        ({"classes": ["a", "{{ b }}"]}, "classes must be a text that is not empty and has no {{ or {%"),
        ({"title": "x" * 129}, "title must have at most 128 characters, got 129"),
        ({"instructions": " "}, "instructions must be a text that is not empty"),
        ({"labels": 10}, "labels must be from 1 to 9, got 10"),
        ({"minutes": 481}, "minutes must be from 1 to 480, got 481"),
        ({"days": 31}, "days must be from 1 to 30, got 31"),
    ],
)
def test_task_that_ground_truth_refuses_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        LabelingTask(**(TASK | changes))
