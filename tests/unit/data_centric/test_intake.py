"""The input of a run: invalid fields, and defaults from the stack's settings."""

from __future__ import annotations

import json
from typing import Any

import pytest

from data_centric.core import intake
from data_centric.core.intake import Defaults, InputError, Intake
from data_centric.core.places import Places

PLACES = Places("data")
DEFAULTS = Defaults(
    attribute="label",
    labels=3,
    most_labels=5,
    extra_share=0.25,
    least_confidence=0.8,
    lease_seconds=600,
    gold_every=10,
    gold_least=5,
    gold_share=0.6,
    most_items=4,
    most_hours=1,
    answer_seconds=6,
    hourly_wage=20,
    answer_dollars=0.00003,
)
GIVEN: dict[str, Any] = {
    "name": "animals",
    "manifest": "s3://data/inputs/a.manifest",
    "settings": {"classes": ["cat", "dog"]},
}
LINES = [{"source-ref": f"s3://data/inputs/{number}.png"} for number in range(3)]
PREDICTIONS: dict[str, Any] = {"attribute": "predicted", "at_most_confidence": 0.7}
GOLD = {
    "source-ref": "s3://data/inputs/gold.png",
    "label": 1,
    "label-metadata": {
        "class-name": "dog",
        "confidence": 1,
        "human-annotated": "yes",
        "creation-date": "2026-11-30T00:00:00",
        "type": "groundtruth/image-classification",
        "job-name": "known",
    },
}


def read(lines: list[dict[str, Any]], gold: list[dict[str, Any]] | None = None, **given: Any) -> Intake:
    def body(rows: list[dict[str, Any]]) -> bytes:
        return "".join(json.dumps(row) + "\n" for row in rows).encode()

    asked = intake.request(GIVEN | given, PLACES)
    return intake.intake(asked, body(lines), None if gold is None else body(gold), DEFAULTS, PLACES)


def test_run_has_the_stacks_settings_unless_given() -> None:
    run = read(LINES).run
    assert (run.attribute, run.labels, run.most_labels, run.extra_labels) == ("label", 3, 5, 3)
    assert (run.gold_every, run.kind, run.instructions, run.group) == (0, "label", "", "")
    own = {"classes": ["cat", "dog"], "labels": 7, "extra_labels": 1, "attribute": "animal"}
    run = read(LINES, settings=own, instructions="Look.", group="experts").run
    assert (run.attribute, run.labels, run.most_labels, run.extra_labels) == ("animal", 7, 7, 1)
    assert (run.instructions, run.group) == ("Look.", "experts")


def test_gold_questions_have_their_class() -> None:
    found = read(LINES, [GOLD])
    assert list(found.truths.values()) == [1]
    assert [entry.item for entry in found.gold_entries] == list(found.truths)
    assert found.run.gold_every == 10


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"name": None}, "name must be a text, got None"),
        ({"manifest": "s3://other/a"}, "manifest must be in s3://data/inputs/ or s3://data/labels/, got"),
        ({"manifest": "s3://data/secret/a"}, "manifest must be in"),
        ({"manifest": "s3://data/inputs/../secret"}, "manifest must be in"),
        ({"manifest": ""}, "manifest must be an S3 address, got an empty text"),
        ({"gold_manifest": "a.manifest"}, "gold_manifest must be in"),
        ({"settings": []}, "settings must be a JSON object"),
        ({"settings": {}}, "settings.classes must be a list of texts, got None"),
        ({"settings": {"classes": "cat,dog"}}, "settings.classes must be a list of texts"),
        (
            {"settings": {"classes": ["a", "b"], "label": 3}},
            "settings.label is an unknown field",
        ),
        ({"settings": {"classes": ["a", "b"], "labels": 10}}, "labels must be a whole number from 1 to 9"),
        ({"settings": {"classes": ["a", "b"], "labels": "3"}}, "settings: "),
        ({"settings": {"classes": ["a", "b"], "attribute": 3}}, "settings: "),
        ({"settings": {"classes": ["a", "b"], "kind": "x"}}, "settings.kind is an unknown field"),
        ({"kind": "other"}, "kind must be one of label, review, got 'other'"),
        ({"group": 1}, "group must be a text, got 1"),
        ({"corrects": "s3://data/secret/a"}, "corrects must be in s3://data/inputs/ or s3://data/labels/"),
        (
            {"corrects": "s3://data/labels/animals/corrected.manifest"},
            "corrects must not be a result of the run itself, got 's3://data/labels/animals/",
        ),
        ({"predictions": 0.7}, "predictions must be a JSON object, got 0.7"),
        (
            {"predictions": PREDICTIONS | {"share": 1}},
            "predictions.share is an unknown field, must be one of",
        ),
        ({"predictions": {"attribute": "p"}}, "predictions must have the field at_most_confidence"),
        ({"predictions": {"at_most_confidence": 1}}, "predictions must have the field attribute"),
        ({"predictions": PREDICTIONS | {"attribute": 3}}, "predictions.attribute must be a text, got 3"),
        ({"predictions": PREDICTIONS | {"attribute": "a_b"}}, "predictions.attribute must have 1 to 127"),
        (
            {"predictions": PREDICTIONS | {"attribute": "label"}},
            "predictions.attribute must differ from the label's attribute, got 'label'",
        ),
        (
            {"predictions": PREDICTIONS | {"at_most_confidence": 70}},
            "predictions.at_most_confidence must be a number from 0 to 1, got 70",
        ),
        (
            {"predictions": PREDICTIONS | {"sample_share": -1}},
            "predictions.sample_share must be a number from 0 to 1, got -1",
        ),
        (
            {"predictions": PREDICTIONS | {"most_items": 0}},
            "predictions.most_items must be a whole number from 1, got 0",
        ),
        ({"predictions": PREDICTIONS | {"seed": 0.5}}, "predictions.seed must be a whole number from 0"),
        (
            {"predictions": PREDICTIONS, "kind": "review"},
            "kind must be label if the input has predictions, got 'review'",
        ),
        ({"estimate_only": "yes"}, "estimate_only must be true or false, got 'yes'"),
        ({"wage": 3}, "wage is an unknown field, must be one of: name, manifest"),
    ],
)
def test_invalid_input_is_named(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        read(LINES, **given)


def test_input_that_is_no_object_is_refused() -> None:
    with pytest.raises(InputError, match=r"the input must be a JSON object, got \[\]"):
        intake.request([], PLACES)


@pytest.mark.parametrize(
    ("lines", "given", "problem"),
    [
        ([], {}, "manifest must have 1 to 4 items, got 0"),
        ([*LINES, *({"source": str(n)} for n in range(2))], {}, "manifest must have 1 to 4 items, got 5"),
        ([*LINES, {}], {}, "manifest: invalid manifest: line 4: must have either source-ref or source"),
        ([{"source-ref": "s3://other/a.png"}], {}, "line 1: source-ref must be in s3://data/inputs/"),
        (LINES, {"kind": "review"}, "line 1: review must be a JSON object with given, suggested and reason"),
        (
            [
                {
                    "source": "text",
                    "review": {
                        "given": "a",
                        "suggested": "b",
                        "reason": "c",
                        "neighbours": [{"source-ref": "s3://other/a.png", "label": "a"}],
                    },
                }
            ],
            {"kind": "review"},
            "line 1: a neighbour must be in s3://data/inputs/",
        ),
    ],
)
def test_invalid_manifest_names_its_lines(lines: list[Any], given: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        read(lines, **given)


def predicted(*confidences: float) -> list[dict[str, Any]]:
    """Return the lines of a manifest with predictions."""
    return [
        {
            "source-ref": f"s3://data/inputs/{number}.png",
            "predicted": 1,
            "predicted-metadata": {"class-name": "dog", "confidence": confidence},
        }
        for number, confidence in enumerate(confidences)
    ]


def test_run_is_of_the_selected_predictions_only() -> None:
    # given a manifest with more predictions than a run may have items
    found = read(predicted(0.9, 0.2, 0.8, 0.7, 0.95, 0.99), predictions=PREDICTIONS)
    # then
    assert [entry.line for entry in found.entries] == [2, 4]
    assert found.selection
    assert (found.selection.unsure, found.selection.confident) == (2, 4)
    assert found.run.extra_labels == 2


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (predicted(0.8, 0.9), "predictions must select 1 to 4 items, got 0"),
        (predicted(0.1, 0.2, 0.3, 0.4, 0.5), "predictions must select 1 to 4 items, got 5"),
        ([*predicted(0.1), LINES[1]], "manifest: invalid manifest: line 2: has no predicted"),
        (predicted(0.9, 1.5), "manifest: invalid manifest: line 2: confidence must be a number from 0 to 1"),
        (
            [predicted(0.9)[0] | {"source-ref": "s3://other/a.png"}],
            "line 1: source-ref must be in s3://data/inputs/",
        ),
    ],
)
def test_invalid_predictions_are_named(lines: list[Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        read(lines, predictions=PREDICTIONS)


def test_gold_manifest_without_labels_is_refused() -> None:
    with pytest.raises(InputError, match="gold_manifest: invalid manifest: line 1: has no label"):
        read(LINES, [{"source": "x"}])


def test_stored_run_keeps_its_settings_when_defaults_change() -> None:
    stored = read(LINES, settings={"classes": ["cat", "dog"], "labels": 2}).run
    asked = intake.request(GIVEN, PLACES)
    body = "".join(json.dumps(row) + "\n" for row in LINES).encode()
    assert intake.intake(asked, body, None, DEFAULTS, PLACES, stored).run == stored
