"""Annotation functions: the default functions, and invalid responses of a user's own functions."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from data_centric.core import hooks, manifests, workflow
from data_centric.core.hooks import HookError
from data_centric.core.places import Places
from data_centric.core.runs import RunSettings
from data_centric.core.tasks import TaskRow
from data_centric.handlers import pre_annotation
from tests.support.data_centric.desks import RUN, World, with_settings

NOW = datetime(2026, 11, 30, 4, 0, tzinfo=UTC)
PLACES = Places("data")
SOURCE = "s3://data/inputs/a.png"
REVIEW = {"given": "dog", "suggested": "cat", "reason": "its neighbours are cats"}


def shown(response: Any, run: RunSettings = RUN, **fields: Any) -> TaskRow | None:
    """Return the task that a pre-annotation function's response describes."""
    (entry,) = manifests.parse(json.dumps({"source-ref": SOURCE} | fields).encode())
    (task,) = workflow.tasks_of(run, [entry], {})
    return hooks.prepared(task, entry, response, run, PLACES)


def test_default_function_shows_the_item_unchanged() -> None:
    (entry,) = manifests.parse(json.dumps({"source-ref": SOURCE, "review": REVIEW}).encode())
    request = hooks.pre_request("arn:job", entry)
    assert request["dataObject"] == {"source-ref": SOURCE, "review": REVIEW}
    response = pre_annotation.handler(request, None)  # type: ignore[arg-type]
    assert response == {
        "taskInput": {"taskObject": SOURCE, "review": REVIEW},
        "isHumanAnnotationRequired": True,
    }
    task = shown(response)
    assert task
    assert (task.source, task.review) == (SOURCE, "")
    task = shown(response, with_settings(kind="review"), review=REVIEW)
    assert task
    assert json.loads(task.review) == REVIEW | {"neighbours": []}


def test_function_may_show_another_picture_or_none() -> None:
    other = "s3://data/inputs/small/a.png"
    task = shown({"taskInput": {"taskObject": other}})
    assert task
    assert task.source == other
    for no in (False, "false"):
        assert shown({"taskInput": {"taskObject": other}, "isHumanAnnotationRequired": no}) is None


@pytest.mark.parametrize(
    ("response", "problem"),
    [
        (None, "the response must have the object taskInput, got None"),
        ({"taskInput": "a"}, "the response must have the object taskInput"),
        ({"taskInput": {}}, "taskInput.taskObject must be a text that is not empty, got None"),
        ({"taskInput": {"taskObject": "s3://other/a.png"}}, "must be in s3://data/inputs/"),
        ({"taskInput": {"taskObject": "s3://data/labels/race/a"}}, "must be in s3://data/inputs/"),
        ({"taskInput": {"taskObject": SOURCE}, "isHumanAnnotationRequired": 3}, "must be true or false"),
        ({"taskInput": {"taskObject": SOURCE, "more": "x" * 100_000}}, "at most 100000 bytes"),
    ],
)
def test_invalid_pre_annotation_names_the_line(response: Any, problem: str) -> None:
    with pytest.raises(HookError, match=f"pre-annotation of line 1: .*{problem}"):
        shown(response)


def consolidated(world: World) -> list[dict[str, Any]]:
    """Return the default function's response to a request in Ground Truth's format, after encoding and
    decoding as JSON."""
    (payload,) = hooks.payloads(world.run, world.tasks)
    request = hooks.post_request("arn:job", world.run, "s3://data/labels/x.json")
    return json.loads(json.dumps(hooks.consolidated(json.loads(json.dumps(request)), payload)))


def labeled() -> World:
    world = World(3)
    for name in ("ann", "bob"):
        while item := world.next(name):
            world.submit(name, item, None if item == world.entries[2].item else 1)
    return world


def test_default_function_consolidates_as_the_estimate_does() -> None:
    world = labeled()
    response = consolidated(world)
    labels = hooks.labels(world.run, world.entries, response, NOW)
    estimate = workflow.estimated(world.run, world.tasks).items
    assert {item: label.choice for item, label in labels.items()} == dict.fromkeys(estimate, 1)
    for item, label in labels.items():
        assert label.confidence == pytest.approx(estimate[item].confidence, abs=1e-4)
        assert (label.class_name, label.job, label.created) == ("dog", "animals", NOW)


def test_answers_of_ground_truths_own_page_are_read() -> None:
    annotation = {"workerId": "private.eu-west-1.1", "annotationData": {"content": ""}}
    payload: list[Any] = [
        {"datasetObjectId": str(number), "dataObject": {"s3Uri": SOURCE}, "annotations": [annotation]}
        for number in range(3)
    ]
    for each, content in zip(
        payload,
        ({"crowd-image-classifier": {"label": "owl"}}, {"label": "cat"}, {"none-of-these": {}}),
        strict=True,
    ):
        data = {"content": json.dumps(content)}
        each["annotations"] = [annotation | {"annotationData": data}]
    request = hooks.post_request("arn:job", RUN, "s3://data/labels/x.json")
    found = hooks.consolidated(request, payload)
    contents = [each["consolidatedAnnotation"]["content"] for each in found]
    assert [content["animal-metadata"]["class-name"] for content in contents] == ["owl", "cat"]
    with pytest.raises(ValueError, match="labelCategories must be a list of classes"):
        hooks.consolidated(request | {"labelCategories": None}, payload)


def test_gold_questions_are_in_every_payload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "AT_ONCE", 2)
    tasks = [TaskRow("r", f"i{n}", "source", "x", 1, None, {"a": 1}) for n in range(5)]
    gold = TaskRow("r", "gold", "source", "x", 1, 2, {"a": 2})
    found = [[each["datasetObjectId"] for each in part] for part in hooks.payloads(RUN, [*tasks, gold])]
    assert found == [["i0", "i1", "gold"], ["i2", "i3", "gold"], ["i4", "gold"]]
    (first, *_) = hooks.payloads(RUN, [*tasks, gold])
    response = hooks.consolidated(hooks.post_request("j", RUN, "s3://x/y"), first)
    assert [each["datasetObjectId"] for each in response] == ["i0", "i1"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda response: None, "the post-annotation response must be a list"),
        (lambda response: [{}], "must have datasetObjectId and consolidatedAnnotation.content"),
        (lambda response: with_content(response, "text"), "content must be a JSON object"),
        (lambda response: with_content(response, {}), "has no animal"),
        (lambda response: with_content(response, {"animal": 9}), "has no animal-metadata"),
        (
            lambda response: with_content(
                response, {"animal": 9, "animal-metadata": {"class-name": "owl", "confidence": 1}}
            ),
            "animal must be a whole number from 0 to 2, got 9",
        ),
        (
            lambda response: with_content(
                response, {"animal": 1, "animal-metadata": {"class-name": "dog", "confidence": 2}}
            ),
            "confidence must be a number from 0 to 1",
        ),
    ],
)
def test_invalid_post_annotation_is_named(change: Any, problem: str) -> None:
    world = labeled()
    with pytest.raises(HookError, match=problem):
        hooks.labels(world.run, world.entries, change(consolidated(world)), NOW)


def with_content(response: list[dict[str, Any]], content: Any) -> list[dict[str, Any]]:
    return [each | {"consolidatedAnnotation": {"content": content}} for each in response]


def test_metadata_of_a_function_cannot_name_labelers() -> None:
    world = labeled()
    response = consolidated(world)
    for each in response:
        each["consolidatedAnnotation"]["content"]["animal-metadata"]["worker"] = "ann"
    labels = hooks.labels(world.run, world.entries, response, NOW)
    assert b"worker" not in manifests.labeled(world.entries, "animal", labels)
