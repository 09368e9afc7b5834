"""Predictions: their selection for a run, and the model's errors as measured by the labels."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from data_centric.core import predictions
from data_centric.core.manifests import Entry, Label, ManifestError, item_of
from data_centric.core.predictions import Predictions, Selection, Share

CLASSES = ("cat", "dog", "owl")
ATTRIBUTE = "animal-predicted"
NOW = datetime(2026, 11, 30, 4, 0, tzinfo=UTC)


def line(number: int, confidence: Any, choice: int = 1) -> dict[str, Any]:
    metadata = {"class-name": CLASSES[choice], "confidence": confidence}
    return {"source": f"text {number}", ATTRIBUTE: choice, f"{ATTRIBUTE}-metadata": metadata}


def select(lines: Sequence[Any], **asked: Any) -> Selection:
    body = "".join(json.dumps(each) + "\n" for each in lines).encode()
    settings = Predictions(**{"attribute": ATTRIBUTE, "at_most_confidence": 0.7} | asked)
    return predictions.select(body, settings, CLASSES, lambda entry: None)


def sources(found: Selection) -> list[str]:
    return [entry.source for entry in found.entries]


def labels(found: Selection, *choices: int | None) -> dict[str, Label]:
    """Return labels of the selected items in the manifest's order. None means that an item gets no label."""
    return {
        entry.item: Label(choice, CLASSES[choice], 0.9, "animals", NOW)
        for entry, choice in zip(found.entries, choices, strict=True)
        if choice is not None
    }


def test_predictions_of_at_most_the_confidence_are_selected() -> None:
    found = select([line(0, 0.9), line(1, 0.7), line(2, 0), line(3, 0.71), line(4, 1)])
    assert sources(found) == ["text 1", "text 2"]
    assert (found.unsure, found.confident, [*found.sampled]) == (2, 3, [])
    assert found.predicted == {entry.item: 1 for entry in found.entries}


def test_least_confident_are_selected_where_most_items_are_given() -> None:
    found = select([line(0, 0.5), line(1, 0.3), line(2, 0.4)], most_items=2)
    assert sources(found) == ["text 1", "text 2"]
    assert found.unsure == 3


def test_sample_is_of_confident_predictions_and_seeded() -> None:
    # given 10 predictions of low confidence and 200 others
    lines = [line(number, 0.1 if number < 10 else 0.9) for number in range(210)]
    # when a tenth of the others is sampled, also with the lines in another order or with another seed
    found = select(lines, sample_share=0.1)
    again = select(random.Random(1).sample(lines, len(lines)), sample_share=0.1)
    other = select(lines, sample_share=0.1, seed=1)
    # then
    assert (len(found.entries), len(found.sampled)) == (30, 20)
    assert found.sampled.isdisjoint(item_of("source", f"text {n}") for n in range(10))
    assert again.sampled == found.sampled != other.sampled
    # and a larger share selects the same predictions and additional ones
    assert found.sampled < select(lines, sample_share=0.2).sampled


def test_small_sample_has_one_item_if_any() -> None:
    assert len(select([line(0, 0.9), line(1, 0.8)], sample_share=0.001).sampled) == 1
    assert len(select([line(0, 0.1)], sample_share=1).sampled) == 0


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"source": "a"}, f"has no {ATTRIBUTE}"),
        ({"source": "a", ATTRIBUTE: 1}, f"has no {ATTRIBUTE}-metadata"),
        (line(1, 1.1), "confidence must be a number from 0 to 1, got 1.1"),
        (line(1, -0.1), "confidence must be a number from 0 to 1, got -0.1"),
        (line(1, "0.5"), "confidence must be a number from 0 to 1, got '0.5'"),
        (line(1, 0.5) | {ATTRIBUTE: 3}, f"{ATTRIBUTE} must be a whole number from 0 to 2, got 3"),
        (line(1, 0.5) | {ATTRIBUTE: 0}, "class-name must be 'cat', the name of class 0, got 'dog'"),
        (line(0, 0.5), "repeats the source of line 1"),
    ],
)
def test_line_without_valid_prediction_is_named(wrong: dict[str, Any], problem: str) -> None:
    with pytest.raises(ManifestError, match=f"line 2: {problem}"):
        select([line(0, 0.9), wrong])


def test_line_that_labelers_must_not_see_is_named() -> None:
    def check(entry: Entry) -> None:
        raise ValueError("is secret")

    with pytest.raises(ManifestError, match="line 1: is secret"):
        predictions.select(json.dumps(line(0, 0.9)).encode(), Predictions(ATTRIBUTE, 0.7), CLASSES, check)


def test_errors_are_the_labels_that_differ_from_predictions() -> None:
    found = select([line(number, 0.5) for number in range(3)])
    wrong = predictions.errors(found, labels(found, 0, 1, None))
    assert {item: label.choice for item, label in wrong.items()} == {found.entries[0].item: 0}


def test_report_counts_wrong_predictions_of_each_group() -> None:
    # given 4 predictions of low confidence, and 20 others of which 10 are in the sample
    found = select([line(number, 0.1 if number < 4 else 0.9) for number in range(24)], sample_share=0.5)
    # when labels contradict 2 of the 3 predictions of low confidence that are labeled, and 1 of the sample
    told = predictions.report(found, labels(found, 0, 0, 1, None, 2, *[1] * 9))
    # then
    low, sample = told.low_confidence, told.random
    assert (low.predictions, low.selected, low.labeled, low.wrong) == (4, 4, 3, 2)
    assert low.wrong_share == pytest.approx(2 / 3)
    assert (sample.predictions, sample.selected, sample.labeled, sample.wrong) == (20, 10, 10, 1)
    assert told.random_interval == pytest.approx((0.0179, 0.4042), abs=1e-4)
    # and the error rate weights each group by its number of predictions
    assert told.error_rate
    assert told.error_rate.share == pytest.approx((4 * 2 / 3 + 20 * 0.1) / 24)
    assert told.error_rate.low == pytest.approx((4 * 2 / 3 + 20 * 0.0179) / 24, abs=1e-4)
    assert told.error_rate.high == pytest.approx((4 * 2 / 3 + 20 * 0.4042) / 24, abs=1e-4)


def test_error_rate_is_unknown_without_a_fair_sample() -> None:
    lines = [line(0, 0.1), line(1, 0.2), line(2, 0.9)]
    for asked in ({}, {"most_items": 1, "sample_share": 1}):
        found = select(lines, **asked)
        told = predictions.report(found, labels(found, 1, 1))
        assert told.error_rate is None
    found = select(lines, sample_share=1)
    assert predictions.report(found, labels(found, 1, 1, None)).error_rate is None


def test_error_rate_is_exact_where_all_are_labeled() -> None:
    found = select([line(0, 0.1), line(1, 0.2)])
    told = predictions.report(found, labels(found, 1, 0))
    assert (told.error_rate, told.random_interval) == (Share(0.5, 0.5, 0.5), None)


def test_interval_is_wilsons() -> None:
    assert predictions.wilson(9, 10) == pytest.approx((0.5958, 0.9821), abs=1e-4)
    assert predictions.wilson(0, 10) == pytest.approx((0, 0.2775), abs=1e-4)
    assert predictions.wilson(10, 10)[1] == 1
