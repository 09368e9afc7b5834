"""Labeling jobs: refusals of CreateLabelingJob, files, the template, simulated labelers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.sagemaker import api
from local.sagemaker.api import ApiError, Context
from local.sagemaker.jobs.job import JobError
from local.sagemaker.labeling import functions, manifest, template, validation
from local.sagemaker.labeling.labelers import Crowd
from local.sagemaker.store import Store

REGION, ACCOUNT = "eu-west-1", "000000000000"
OWN = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:workteam/private-crowd"
REQUEST: dict[str, Any] = {
    "LabelingJobName": "job",
    "LabelAttributeName": "animal",
    "InputConfig": {"DataSource": {"S3DataSource": {"ManifestS3Uri": "s3://b/in.manifest"}}},
    "OutputConfig": {"S3OutputPath": "s3://b/out"},
    "LabelCategoryConfigS3Uri": "s3://b/classes.json",
    "RoleArn": f"arn:aws:iam::{ACCOUNT}:role/r",
    "HumanTaskConfig": {
        "WorkteamArn": f"{OWN}/team",
        "UiConfig": {"UiTemplateS3Uri": "s3://b/page.html"},
        "TaskTitle": "t",
        "TaskDescription": "d",
        "NumberOfHumanWorkersPerDataObject": 3,
        "TaskTimeLimitInSeconds": 60,
    },
}


class Cloud:
    """The part of a local cloud that the operations use: its settings."""

    settings: Mapping[str, Any] = {}


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(Cloud(), Store(tmp_path / "records.sqlite").scoped(ACCOUNT, REGION))  # type: ignore[arg-type]


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the request with `value` at the dotted path `path`; the value None leaves the member out."""
    asked = json.loads(json.dumps(REQUEST))
    *parents, last = path.split(".")
    holder = asked
    for each in parents:
        holder = holder.setdefault(each, {})
    holder[last] = value
    return api.without_nulls(asked)


TASK = "HumanTaskConfig"
PUBLIC = f"arn:aws:sagemaker:{REGION}:394669845002:workteam/public-crowd/default"
BUILT_IN = f"arn:aws:lambda:{REGION}:568282634449:function:"
CUSTOM = {"AnnotationConsolidationLambdaArn": f"{BUILT_IN}ACS-ImageMultiClass"}


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("LabelAttributeName", "animal-metadata", "must not end with -metadata, got animal-metadata"),
        ("LabelAttributeName", "animal-ref", "must not end with -ref, got animal-ref"),
        ("LabelAttributeName", "a_b", "must match the pattern"),
        ("LabelCategoryConfigS3Uri", None, "without LabelCategoryConfigS3Uri is not implemented"),
        ("LabelCategoryConfigS3Uri", "https://b/c", "LabelCategoryConfigS3Uri: https://b/c is not an S3"),
        ("OutputConfig.S3OutputPath", "https://b/c", "S3OutputPath: https://b/c is not an S3 address"),
        ("InputConfig.DataSource.S3DataSource", None, "ManifestS3Uri is required"),
        (f"{TASK}.UiConfig.UiTemplateS3Uri", None, "UiTemplateS3Uri is required"),
        (f"{TASK}.NumberOfHumanWorkersPerDataObject", 10, "must be at most 9"),
        (f"{TASK}.NumberOfHumanWorkersPerDataObject", 0, "valid min value: 1"),
        (f"{TASK}.TaskTimeLimitInSeconds", 28_801, "TaskTimeLimitInSeconds must be at most 28800, got 28801"),
        (f"{TASK}.TaskAvailabilityLifetimeInSeconds", 2_592_001, "must be at most 2592000, got 2592001"),
        (f"{TASK}.MaxConcurrentTaskCount", 1_001, "'Maximum number of concurrent labeling tasks' is 1000"),
        (f"{TASK}.WorkteamArn", PUBLIC, "Mechanical Turk closed on 30 September 2026"),
        (f"{TASK}.PublicWorkforceTaskPrice", {"AmountInUsd": {"Cents": 1}}, "Mechanical Turk closed"),
        (
            f"{TASK}.WorkteamArn",
            OWN.replace("private", "vendor") + "/x",
            "a vendor's work team is not implemented",
        ),
        (f"{TASK}.WorkteamArn", f"{OWN}/team".replace(REGION, "us-east-1"), f"must be {OWN}/NAME, got arn"),
        (f"{TASK}.PreHumanTaskLambdaArn", f"{BUILT_IN}PRE-ImageMultiClass", "built-in function PRE-Image"),
        (f"{TASK}.AnnotationConsolidationConfig", CUSTOM, "built-in function ACS-ImageMultiClass is not im"),
        ("InputConfig.DataSource.SnsDataSource.SnsTopicArn", f"arn:aws:sns:{REGION}:{ACCOUNT}:t", "SnsData"),
        (f"{TASK}.UiConfig.HumanTaskUiArn", f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:human-task-ui/x", "UiArn"),
    ],
)
def test_invalid_labeling_job_is_refused(context: Context, path: str, value: Any, sentence: str) -> None:
    with pytest.raises(ApiError) as refused:
        api.call(context, "CreateLabelingJob", changed(path, value))
    assert sentence in refused.value.message
    assert list(context.store.all("labeling-job")) == []


def test_request_gets_the_defaults_of_a_private_team(context: Context) -> None:
    task = validation.completed(context, REQUEST)[TASK]
    assert (task["MaxConcurrentTaskCount"], task["TaskAvailabilityLifetimeInSeconds"]) == (1000, 2_592_000)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{", "line 2 must be JSON, got '{'"),
        (b"[1]", "line 2 must be a JSON object"),
        (b"\xff", "line 2 must be UTF-8"),
        (b'{"text": "x"}', "line 2 must have either source-ref or source, got neither"),
        (b'{"source": 3}', "line 2 must have a text in source, got 3"),
        (b'{"source-ref": "http://x"}', "line 2 must have s3://BUCKET/KEY in source-ref, got http://x"),
        (b'{"source": "x", "$a": 1}', r"line 2 must have no field that begins with \$, got \$a"),
        (b'{"source": "%s"}' % (b"x" * 20_001), "line 2 must have at most 20000 characters in a field"),
        (b'{"source": "%s"}' % (b"x" * 100_000), "line 2 must have at most 100000 characters, got"),
    ],
)
def test_invalid_manifest_line_is_named(line: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        manifest.parse(b'{"source": "a"}\n' + line + b"\n")


def test_empty_manifest_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one line"):
        manifest.parse(b"\n")


def test_objects_are_numbered_without_blank_lines() -> None:
    found = manifest.parse(b'{"source": "a"}\r\n\n{"source-ref": "s3://b/k", "n": 1}\n')
    assert [(each.id, each.line, each.shown) for each in found] == [
        ("0", 1, {"content": "a"}),
        ("1", 3, {"s3Uri": "s3://b/k"}),
    ]


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ("{", "it must be JSON such as"),
        ({"labels": "ab"}, "it must be JSON such as"),
        ({"labels": [{"label": "a"}]}, "at least 2 labels, got 1"),
        ({"labels": [{"label": "a"}, {"label": "a"}]}, "labels must differ from each other, got a several"),
        ({"labels": [{"label": "a"}, {"label": ""}]}, "each label must be a text that is not empty"),
    ],
)
def test_invalid_label_categories_are_refused(document: Any, problem: str) -> None:
    body = document if isinstance(document, str) else json.dumps(document)
    with pytest.raises(ValueError, match=problem):
        manifest.categories(body.encode())


@pytest.mark.parametrize(
    ("page", "field", "name"),
    [
        ('<crowd-classifier name="a">', "source", "a"),
        ('<crowd-classifier name="a">', "source-ref", "a"),
        ('<crowd-classifier name="a"><crowd-image-classifier name="b">', "source-ref", "b"),
        ("<crowd-image-classifier categories=\"{{ x | to_json }}\" name='b'>", "source", "b"),
    ],
)
def test_answers_have_the_name_of_the_templates_element(page: str, field: str, name: str) -> None:
    assert template.answered(template.elements(page.encode()), field) == name


@pytest.mark.parametrize(
    ("page", "problem"),
    [("<crowd-bounding-box name='a'>", "must have one of the"), ("<crowd-classifier>", "must have a name")],
)
def test_template_without_a_usable_element_is_refused(page: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        template.elements(page.encode())


def crowd(**given: Any) -> Crowd:
    settings = {"count": 10, "accuracy": 0.8, "truth_field": "truth"} | given
    return Crowd(job="j", region=REGION, classes=["a", "b", "c"], **settings)


def labels(found: Crowd, count: int = 400, **fields: Any) -> list[str]:
    line = json.dumps({"source": "x", **fields}).encode() + b"\n"
    objects = manifest.parse(line * count)
    return [
        json.loads(answer["annotationData"]["content"])["e"]["label"]
        for each in objects
        for answer in found.annotations(each, 3, "e")
    ]


def test_labelers_have_the_configured_accuracy() -> None:
    right = [label == "b" for label in labels(crowd(), truth="b")]
    assert len(right) == 1200
    assert sum(right) / len(right) == pytest.approx(0.8, abs=0.04)
    assert set(labels(crowd(accuracy=1), truth="b")) == {"b"}
    assert set(labels(crowd(accuracy=0), truth="b")) == {"a", "c"}


def test_labelers_without_the_true_class_choose_at_random() -> None:
    found = labels(crowd())
    assert {name: found.count(name) / len(found) for name in "abc"} == pytest.approx(
        dict.fromkeys("abc", 1 / 3), abs=0.05
    )


def test_object_gets_answers_of_different_labelers() -> None:
    (found,) = manifest.parse(b'{"source": "x"}')
    for count, answers in ((10, 3), (2, 2)):
        workers = [each["workerId"] for each in crowd(count=count).annotations(found, 3, "e")]
        assert len(workers) == len(set(workers)) == answers


def test_same_job_draws_the_same_answers() -> None:
    assert labels(crowd(), truth="b") == labels(crowd(), truth="b")


@pytest.mark.parametrize(
    ("given", "problem"),
    [({"count": 0}, "labeling_labelers must be at least 1"), ({"accuracy": 1.1}, "must be from 0 to 1")],
)
def test_settings_of_labelers_are_checked(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        crowd(**given)


class Lambda:
    """A client of Lambda that raises or returns the next of its answers."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    def invoke(self, FunctionName: str, Payload: bytes) -> dict[str, Any]:
        self.asked.append(json.loads(Payload))
        answer = self.answers.pop(0)
        if isinstance(answer, str):
            raise ClientError({"Error": {"Code": answer, "Message": "no"}}, "Invoke")
        return {"Payload": _Body(json.dumps(answer).encode())}


class _Body:
    def __init__(self, body: bytes) -> None:
        self._body = body

    def read(self) -> bytes:
        return self._body


def test_throttled_function_is_called_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "AGAIN_SECONDS", 0)
    client = Lambda("TooManyRequestsException", "TooManyRequestsException", {"taskInput": {}})
    function = functions.AnnotationFunction("pre-annotation", "arn", client)
    assert function.call({"dataObject": {}}, "line 1") == {"taskInput": {}}
    assert client.asked == [{"version": "2018-10-16", "dataObject": {}}] * 3


def test_function_that_stays_throttled_fails_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "AGAIN_SECONDS", 0)
    client = Lambda(*["TooManyRequestsException"] * 9)
    with pytest.raises(JobError, match=r"function arn cannot be invoked for line 1: .*TooMany"):
        functions.AnnotationFunction("pre-annotation", "arn", client).call({}, "line 1")
    assert len(client.asked) == functions.ATTEMPTS


PRE = functions.AnnotationFunction("pre-annotation", "arn", None)


@pytest.mark.parametrize(
    ("response", "needed"),
    [
        ({"taskInput": {}}, True),
        ({"taskInput": {}, "isHumanAnnotationRequired": True}, True),
        ({"taskInput": {}, "isHumanAnnotationRequired": False}, False),
        ({"taskInput": {}, "isHumanAnnotationRequired": "false"}, False),
    ],
)
def test_pre_annotation_decides_whether_labels_are_needed(response: Any, needed: bool) -> None:
    assert functions.needs_labelers(PRE, response, "line 1") is needed


@pytest.mark.parametrize(
    "response", [None, {}, {"taskInput": "x"}, {"taskInput": {}, "isHumanAnnotationRequired": "no"}]
)
def test_invalid_pre_annotation_response_names_the_function(response: Any) -> None:
    with pytest.raises(JobError, match=r"The pre-annotation function arn must return .* for line 1, got"):
        functions.needs_labelers(PRE, response, "line 1")


@pytest.mark.parametrize(
    "response", [None, {}, [{}], [{"datasetObjectId": "0", "consolidatedAnnotation": {"content": 1}}]]
)
def test_invalid_post_annotation_response_names_the_function(response: Any) -> None:
    post = functions.AnnotationFunction("post-annotation", "arn", None)
    with pytest.raises(JobError, match=r"The post-annotation function arn must return a list .*, got"):
        functions.contents(post, response, "s3://b/k")
