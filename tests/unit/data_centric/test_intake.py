"""The input of a run: what is refused, by name, and what comes from the stack's settings."""

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
        ({"manifest": ""}, "manifest must be an address, got an empty text"),
        ({"gold_manifest": "a.manifest"}, "gold_manifest must be in"),
        ({"settings": []}, "settings must be a JSON object"),
        ({"settings": {}}, "settings.classes must be a list of texts, got None"),
        ({"settings": {"classes": "cat,dog"}}, "settings.classes must be a list of texts"),
        ({"settings": {"classes": ["a", "b"], "label": 3}}, "settings.label is not known, allowed are"),
        ({"settings": {"classes": ["a", "b"], "labels": 10}}, "labels must be a whole number from 1 to 9"),
        ({"settings": {"classes": ["a", "b"], "labels": "3"}}, "settings: "),
        ({"settings": {"classes": ["a", "b"], "attribute": 3}}, "settings: "),
        ({"settings": {"classes": ["a", "b"], "kind": "x"}}, "settings.kind is not known"),
        ({"kind": "other"}, "kind must be one of label, review, got 'other'"),
        ({"group": 1}, "group must be a text, got 1"),
        ({"estimate_only": "yes"}, "estimate_only must be true or false, got 'yes'"),
        ({"wage": 3}, "wage is not known, allowed are: name, manifest"),
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
        ([*LINES, {}], {}, "manifest: invalid manifest: line 4: must have source-ref or source"),
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


def test_gold_manifest_without_labels_is_refused() -> None:
    with pytest.raises(InputError, match="gold_manifest: invalid manifest: line 1: has no label"):
        read(LINES, [{"source": "x"}])


def test_stored_run_keeps_its_settings_when_defaults_change() -> None:
    stored = read(LINES, settings={"classes": ["cat", "dog"], "labels": 2}).run
    asked = intake.request(GIVEN, PLACES)
    body = "".join(json.dumps(row) + "\n" for row in LINES).encode()
    assert intake.intake(asked, body, None, DEFAULTS, PLACES, stored).run == stored
