"""The functions of the state machine `Label`: called one after the other, called repeatedly, and failing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from data_centric.aws import environment
from data_centric.core import manifests
from data_centric.handlers import load_run
from data_centric.handlers.consolidate_run import NotClosedError
from tests.support.data_centric.steps import ENVIRONMENT, Steps

LINES: list[dict[str, Any]] = [{"source": f"text {number}", "id": number} for number in range(5)]
RESULTS = ("labeled.manifest", "unlabeled.manifest", "report.json")


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    made = Steps()
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(environment, "tasks_table", lambda: made.table)
    monkeypatch.setattr(environment, "objects", lambda: made)
    monkeypatch.setattr(environment, "client", lambda service: made)
    monkeypatch.setattr(environment.time, "time", lambda: made.time)
    return made


def given(steps: Steps, **more: Any) -> dict[str, Any]:
    manifest = steps.put("inputs/texts.manifest", LINES)
    return {"name": "texts", "manifest": manifest, "settings": {"classes": ["no", "yes"]}, **more}


def completed(steps: Steps) -> dict[str, Any]:
    """Run the steps until the run is closed; return the run's input."""
    asked = given(steps)
    steps.check(asked)
    steps.load(asked)
    steps.label("texts", 1, "ann", "bob")
    assert steps.watch("texts")["closed"]
    return asked


def test_steps_lead_from_a_manifest_to_labels(steps: Steps) -> None:
    asked = given(steps)
    checked = steps.check(asked)
    assert (checked["name"], checked["items"], checked["cost"]["least"]["answers"]) == ("texts", 5, 10)
    assert steps.load(asked) == {"loaded": True, "next": 5, "tasks": 5}
    assert not steps.watch("texts")["closed"]
    steps.label("texts", 1, "ann", "bob")
    watched = steps.watch("texts")
    assert (watched["closed"], watched["complete"]) == (True, True)
    found = steps.consolidate(asked)
    assert (found["items"], found["labeled"], found["unlabeled"], found["complete"]) == (5, 5, 0, True)
    entries = manifests.parse(steps.stored["labels/texts/labeled.manifest"])
    labels = manifests.labels_of(entries, "label", ["no", "yes"])
    assert [label.choice for label in labels.values()] == [1] * 5
    assert [entry.fields["id"] for entry in entries] == list(range(5))
    assert manifests.version(labels) == found["version"]


def test_estimate_writes_nothing(steps: Steps) -> None:
    checked = steps.check(given(steps, estimate_only=True))
    assert (checked["estimate_only"], checked["cost"]["most"]["answers"]) == (True, 10)
    assert steps.table.rows == {}


def test_every_step_may_be_repeated(steps: Steps) -> None:
    asked = given(steps)
    for _ in range(2):
        assert steps.check(asked)["items"] == 5
        assert steps.load(asked)["tasks"] == 5
    steps.label("texts", 1, "ann")
    assert steps.load(asked) == {"loaded": True, "next": 5, "tasks": 5}
    steps.label("texts", 1, "bob")
    assert steps.watch("texts") == steps.watch("texts")
    first = steps.consolidate(asked)
    written = {name: steps.stored[f"labels/texts/{name}"] for name in RESULTS}
    steps.time += 1000
    # all steps run again, as in another execution with the same input
    assert steps.check(asked)["items"] == 5
    assert steps.load(asked)["loaded"]
    assert steps.watch("texts")["closed"]
    assert steps.consolidate(asked) == first
    assert {name: steps.stored[f"labels/texts/{name}"] for name in RESULTS} == written


def test_loading_continues_after_its_time_limit(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_run, "AT_ONCE", 2)
    asked = given(steps)
    steps.check(asked)
    steps.left = [100_000, 80_000]
    part = steps.load(asked)
    assert part == {"loaded": False, "next": 2, "tasks": 2}
    assert [*steps.table.open_runs()] == []
    assert steps.load(asked, part["next"], part["tasks"]) == {"loaded": True, "next": 5, "tasks": 5}
    assert [*steps.table.open_runs()] == ["texts"]


def test_items_that_need_no_labeler_stay_unlabeled(steps: Steps) -> None:
    def pre(request: Mapping[str, Any]) -> Any:
        source = request["dataObject"]["source"]
        return {"taskInput": {"taskObject": source.upper()}, "isHumanAnnotationRequired": source != "text 0"}

    steps.pre = pre
    asked = given(steps)
    steps.check(asked)
    assert steps.load(asked)["tasks"] == 4
    assert {task.source for task in steps.table.tasks("texts")} == {f"TEXT {n}" for n in range(1, 5)}
    steps.label("texts", 0, "ann", "bob")
    assert steps.watch("texts")["complete"]
    found = steps.consolidate(asked)
    assert (found["labeled"], found["unlabeled"], found["complete"]) == (4, 1, True)
    assert json.loads(steps.stored["labels/texts/unlabeled.manifest"])["source"] == "text 0"


def test_annotation_function_that_fails_is_named(steps: Steps) -> None:
    def pre(request: Mapping[str, Any]) -> Any:
        raise ValueError("no such picture")

    steps.pre = pre
    asked = given(steps)
    steps.check(asked)
    assert steps.load(asked) == {"problem": "pre failed: no such picture"}
    assert [*steps.table.open_runs()] == []


def test_manifest_changed_after_the_start_is_refused(steps: Steps) -> None:
    asked = completed(steps)
    steps.put("inputs/texts.manifest", LINES[1:])
    problem = "run texts exists already, with other settings, items or gold questions"
    for step in (steps.check, steps.load, steps.consolidate):
        assert step(asked) == {"problem": problem}


def test_open_run_is_not_consolidated(steps: Steps) -> None:
    asked = given(steps)
    steps.check(asked)
    steps.load(asked)
    with pytest.raises(NotClosedError, match="the run texts must be closed, got open"):
        steps.consolidate(asked)


def test_run_that_ended_early_has_partial_results(steps: Steps) -> None:
    asked = given(steps)
    steps.check(asked)
    steps.load(asked)
    steps.label("texts", 1, "ann")
    steps.time += 3600
    assert steps.watch("texts")["closed"]
    found = steps.consolidate(asked)
    assert (found["labeled"], found["complete"]) == (5, False)


PREDICTED: list[dict[str, Any]] = [
    {"source": f"text {n}", "model": 1, "model-metadata": {"class-name": "yes", "confidence": n / 10}}
    for n in range(10)
]
PREDICTIONS = {"attribute": "model", "at_most_confidence": 0.25, "sample_share": 0.3}


def test_wrong_predictions_are_returned_with_their_labels(steps: Steps) -> None:
    # given a run with the predictions of low confidence and a sample of the other predictions
    asked = given(steps, predictions=PREDICTIONS)
    steps.put("inputs/texts.manifest", PREDICTED)
    checked = steps.check(asked)
    assert (checked["items"], checked["cost"]["least"]["answers"]) == (5, 10)
    assert steps.load(asked)["tasks"] == 5
    # then labelers do not see the predictions
    assert all(task.review == "" for task in steps.table.tasks("texts"))
    # when all labels differ from the predictions
    steps.label("texts", 0, "ann", "bob")
    assert steps.watch("texts")["closed"]
    found = steps.consolidate(asked)
    # then all items of the run are in the errors manifest, with the right label next to the prediction
    assert found["errors_manifest"] == "s3://data/labels/texts/errors.manifest"
    errors = manifests.parse(steps.stored["labels/texts/errors.manifest"])
    assert [(entry.fields["model"], entry.fields["label"]) for entry in errors] == [(1, 0)] * 5
    assert {entry.source for entry in errors} > {"text 0", "text 1", "text 2"}
    report = json.loads(steps.stored["labels/texts/report.json"])["predictions"]
    assert report["low_confidence"]["selected"] == report["low_confidence"]["wrong"] == 3
    assert (report["random"]["predictions"], report["random"]["selected"]) == (7, 2)
    assert report["error_rate"]["share"] == 1
    # and the step writes the same manifest when it is repeated
    before = dict(steps.stored)
    assert steps.consolidate(asked) == found
    assert steps.stored == before


def test_errors_manifest_is_empty_where_predictions_are_right(steps: Steps) -> None:
    asked = given(steps, predictions=PREDICTIONS)
    steps.put("inputs/texts.manifest", PREDICTED)
    steps.check(asked)
    steps.load(asked)
    steps.label("texts", 1, "ann", "bob")
    steps.watch("texts")
    steps.consolidate(asked)
    assert steps.stored["labels/texts/errors.manifest"] == b""


def whole(steps: Steps, count: int) -> str:
    """Store a manifest of texts that are all labeled "no"; return the manifest's S3 URI."""
    metadata = {"label-metadata": {"class-name": "no"}}
    return steps.put("labels/all.manifest", [LINES[n] | {"label": 0} | metadata for n in range(count)])


def test_corrected_manifest_has_the_runs_labels(steps: Steps) -> None:
    # given a run with two of the five texts of a manifest
    asked = given(steps, corrects=whole(steps, 5))
    steps.put("inputs/texts.manifest", LINES[1:3])
    steps.check(asked)
    steps.load(asked)
    steps.label("texts", 1, "ann", "bob")
    steps.watch("texts")
    # when
    found = steps.consolidate(asked)
    # then
    assert found["corrected_manifest"] == "s3://data/labels/texts/corrected.manifest"
    before = steps.stored["labels/all.manifest"].splitlines()
    after = steps.stored["labels/texts/corrected.manifest"].splitlines()
    assert [json.loads(line)["label"] for line in after] == [0, 1, 1, 0, 0]
    assert [after[n] for n in (0, 3, 4)] == [before[n] for n in (0, 3, 4)]
    report = json.loads(steps.stored["labels/texts/report.json"])["corrections"]
    assert report == {
        "version": found["corrected_version"],
        "changed": 2,
        "confirmed": 0,
        "unanswered": 0,
    }
    assert found["version"] != found["corrected_version"]


def test_closed_run_corrects_a_manifest_without_new_labels(steps: Steps) -> None:
    asked = completed(steps) | {"corrects": whole(steps, 5)}
    steps.check(asked)
    assert steps.load(asked)["loaded"]
    assert steps.consolidate(asked)["corrected_manifest"]


@pytest.mark.parametrize("estimate_only", [False, True])
def test_item_absent_from_corrected_manifest_is_a_problem(steps: Steps, estimate_only: bool) -> None:
    checked = steps.check(given(steps, corrects=whole(steps, 4), estimate_only=estimate_only))
    problem = "corrects: must have every item of the input's manifest, lacks the items of its lines 5"
    assert (checked, steps.table.rows) == ({"problem": problem}, {})


def test_absent_manifest_to_correct_is_a_problem(steps: Steps) -> None:
    checked = steps.check(given(steps, corrects="s3://data/inputs/none"))
    assert checked == {"problem": "corrects: there is no object s3://data/inputs/none"}


def test_absent_manifest_is_a_problem(steps: Steps) -> None:
    asked = given(steps) | {"manifest": "s3://data/inputs/none"}
    assert steps.check(asked) == {"problem": "manifest: there is no object s3://data/inputs/none"}


def test_settings_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABELING", json.dumps({"labels": 3, "other": 1}))
    with pytest.raises(
        ValueError, match=r"LABELING must have the fields answer_dollars, .*unknown: answer_dollars.*other"
    ):
        environment.defaults()
