"""The scenario's computations on labels, and the answers of its simulated labelers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from scenarios.data_centric import pictures, steps
from scenarios.data_centric.labelers import Labeler


def test_tied_majority_is_right_by_its_share() -> None:
    votes = {1: [4, 4, 5], 2: [1, 2, 3], 3: [7, 7, 0], 4: []}
    truth = {1: 4, 2: 3, 3: 0, 4: 9}
    assert steps.majority(votes, truth) == pytest.approx([1, 1 / 3, 0, 1 / 10])


def test_planted_labels_are_wrong_and_as_many_as_asked() -> None:
    truth = np.arange(1000) % 10
    labels, wrong = pictures.planted(truth, 0.05, 3)
    assert wrong.sum() == 50
    assert (labels[wrong] != truth[wrong]).all()
    assert (labels[~wrong] == truth[~wrong]).all()
    assert set(labels) <= set(range(10))


def test_manifest_of_digits_reads_back() -> None:
    body = pictures.labeled("bucket", [3, 11], np.arange(20) % 10)
    assert pictures.labels_in(body) == {3: 3, 11: 1}


def annotated(item: str, number: int, **answers: int | None) -> dict[str, Any]:
    return {
        "datasetObjectId": item,
        "dataObject": {"s3Uri": pictures.source("bucket", number)},
        "annotations": [
            {
                "workerId": name,
                "annotationData": {
                    "content": json.dumps(
                        {"crowd-image-classifier": {"label": None if choice is None else str(choice)}}
                    )
                },
            }
            for name, choice in answers.items()
        ],
    }


def test_labelers_are_known_by_their_items() -> None:
    found = [annotated("a", 1, x=4, y=5), annotated("b", 2, y=None, z=7)]
    ann, bob, eve = (
        Labeler(name, "", "", "", kept=kept)
        for name, kept in (("ann", ["a"]), ("bob", ["a", "b"]), ("eve", ["c"]))
    )
    assert steps.by_pseudonym([ann, bob, eve], found) == {"x": ann, "y": bob}
    assert steps.votes_of(found) == {1: [4, 5], 2: [7]}


def test_labelers_have_their_configured_accuracy() -> None:
    labeler = Labeler("ann", "", "", "", accuracy=0.7, draw=np.random.default_rng(1))
    chosen = np.array([labeler.choose(3) for _ in range(4000)])
    assert abs((chosen == 3).mean() - 0.7) < 0.03
    assert set(chosen) == set(range(10))
    spammer = Labeler("eve", "", "", "", accuracy=0.9, spammer=True, draw=np.random.default_rng(1))
    assert abs(np.mean([spammer.choose(3) == 3 for _ in range(4000)]) - 0.1) < 0.03


def test_share_has_its_interval() -> None:
    found = steps.share("recall", np.array([True] * 9 + [False]))
    # https://en.wikipedia.org/wiki/Binomial_proportion_confidence_interval#Wilson_score_interval
    assert found["recall"] == 0.9
    assert found["recall_low"] == pytest.approx(0.5958, abs=1e-3)
    assert found["recall_high"] == pytest.approx(0.9821, abs=1e-3)
