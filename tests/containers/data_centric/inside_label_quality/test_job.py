"""The whole analysis of labels, from examples to results, in the test's process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from label_quality.job import analyzed, report
from label_quality.manifests import Manifest
from label_quality.settings import Settings

CLASSES = {0: "cat", 1: "dog", 2: "owl", 5: "emu"}
SETTINGS = Settings.read({"attribute": "animal", "seed": "3"})


@pytest.fixture
def columns() -> Any:
    """Pictures [60, 8, 8] of a bright column in noise; the column's position is the picture's number modulo
    3."""
    pixels = np.random.default_rng(0).integers(0, 90, (60, 8, 8))
    for number, each in enumerate(pixels):
        each[:, 1 + 2 * (number % 3)] += 150
    return pixels


def test_repeated_analysis_has_the_same_results(columns: Any, make_examples: Callable[..., Any]) -> None:
    labels = np.arange(60) % 3
    labels[7] = 2
    examples = make_examples(columns, labels)
    first, second = (analyzed(examples, CLASSES, {}, SETTINGS) for _ in range(2))
    manifest = Manifest(examples.lines, 0, CLASSES)
    assert report(first, manifest, SETTINGS) == report(second, manifest, SETTINGS)
    assert [each.index for each in first.suspects if "label" in each.kinds] == [7]


def test_answers_that_cannot_be_used_are_counted(columns: Any, make_examples: Callable[..., Any]) -> None:
    # given an answer with a class that no item has, and an answer to an unknown item
    labels = np.arange(60) % 3
    examples = make_examples(columns, labels)
    names = ["cat", "dog", "owl"]
    answers = {
        line.source: dict.fromkeys("ab", names[label])
        for line, label in zip(examples.lines, labels, strict=True)
    }
    answers[examples.lines[0].source]["c"] = "emu"
    answers["s3://zoo/unknown.png"] = {"a": "cat"}
    # when
    found = analyzed(examples, CLASSES, answers, SETTINGS)
    # then
    assert found.ignored == 2
    assert found.crowd is not None
    assert {each.name for each in found.crowd.labelers} == {"a", "b"}
    assert (found.labels == labels).all()


def test_label_without_a_labelers_vote_is_not_human_annotated(
    columns: Any, make_examples: Callable[..., Any]
) -> None:
    # given an owl that the manifest and both of its labelers label as a dog, and that the model recognizes as
    # an owl
    labels = np.arange(60) % 3
    labels[2] = 1
    examples = make_examples(columns, labels)
    names = ["cat", "dog", "owl"]
    answers = {
        line.source: {f"{who}{number % 5}": names[label] for who in "ab"}
        for number, (line, label) in enumerate(zip(examples.lines, labels, strict=True))
    }
    # when
    found = analyzed(examples, CLASSES, answers, SETTINGS)
    # then the metadata of each label says whether one of the picture's labelers chose it
    for number, line in enumerate(found.lines):
        human = names[found.labels[number]] in answers[line.source].values()
        assert line.fields["animal-metadata"]["human-annotated"] == ("yes" if human else "no")
        assert line.class_name == names[found.labels[number]]
