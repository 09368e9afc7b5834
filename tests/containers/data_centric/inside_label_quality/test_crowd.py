"""The consensus of labelers and a model, and the detection of spammers."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from label_quality.crowd import NONE, above_chance, consensus
from toolkit.failure import FatalError

NAMES = ["weak", "fair", "good", "better", "random", "constant"]


def crowd(size: int = 300) -> tuple[Any, Any, Any]:
    """Return the answers of six labelers [n, 6], of whom three answer each item, the true classes [n] and a
    model's probabilities [n, 3]."""
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 3, size)
    answers = np.full((size, 6), NONE)
    for labeler, accuracy in enumerate((0.6, 0.7, 0.8, 0.9)):
        wrong = (truth + generator.integers(1, 3, size)) % 3
        answers[:, labeler] = np.where(generator.random(size) < accuracy, truth, wrong)
    answers[:, 4], answers[:, 5] = generator.integers(0, 3, size), 1
    silent = generator.random((size, 6)).argsort(1)[:, :3]
    np.put_along_axis(answers, silent, NONE, 1)
    seen = np.where(generator.random(size) < 0.8, truth, generator.integers(0, 3, size))
    return answers, truth, 0.1 + 0.7 * np.eye(3)[seen]


def test_consensus_is_better_than_majority() -> None:
    answers, truth, probabilities = crowd()
    found = consensus(answers, NAMES, truth, probabilities)
    right = found.labels == truth
    assert right.mean() > (found.majority == truth).mean() + 0.03
    # and the confidence is higher for right labels
    assert ((found.confidence > 0) & (found.confidence <= 1)).all()
    assert found.confidence[right].mean() > found.confidence[~right].mean() + 0.02


def test_spammers_are_distinguished_from_weak_labelers() -> None:
    answers, truth, probabilities = crowd()
    found = {each.name: each for each in consensus(answers, NAMES, truth, probabilities).labelers}
    assert {name: each.verdict for name, each in found.items()} == {
        "weak": "reliable",
        "fair": "reliable",
        "good": "reliable",
        "better": "reliable",
        "random": "spammer",
        "constant": "spammer",
    }
    assert found["better"].quality > found["weak"].quality > found["random"].quality
    assert found["weak"].answers == (answers[:, 0] != NONE).sum()


def test_labeler_of_few_answers_is_not_judged() -> None:
    answers, truth, probabilities = crowd()
    answers[20:, 4] = NONE
    found = {each.name: each for each in consensus(answers, NAMES, truth, probabilities).labelers}
    assert found["random"].verdict == "unknown"


def test_item_without_answers_keeps_its_label() -> None:
    answers, truth, probabilities = crowd()
    answers[0] = NONE
    given = truth.copy()
    given[0] = (truth[0] + 1) % 3
    found = consensus(answers, NAMES, given, probabilities)
    assert (found.labels[0], found.majority[0]) == (given[0], NONE)
    assert np.isnan(found.confidence[0])
    assert not found.votes[0].any()


def test_model_breaks_ties_of_the_majority() -> None:
    answers = np.array([[0, 1], [2, 2], [1, NONE]])
    probabilities = np.array([[0.1, 0.3, 0.6], [0.8, 0.1, 0.1], [0.5, 0.4, 0.1]])
    found = consensus(answers, ["a", "b"], np.array([0, 2, 1]), probabilities)
    assert found.majority.tolist() == [1, 2, 1]
    assert found.votes.tolist() == [[1, 1, 0], [0, 0, 2], [0, 1, 0]]


@pytest.mark.parametrize("answers", [[[0], [1]], [[0, NONE], [NONE, 1]]])
def test_answers_without_two_to_an_item_are_refused(answers: Any) -> None:
    with pytest.raises(FatalError, match=r"answers of 2 labelers; of \d labelers, no two answered"):
        consensus(np.array(answers), ["a", "b"][: len(answers[0])], np.array([0, 1]), np.full((2, 2), 0.5))


def test_above_chance_equals_the_z_score_over_all_permutations() -> None:
    # given
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet([1, 1, 1], 6)
    choices = np.array([0, 2, 1, 1, 0, 2])
    # when the probabilities are summed for every permutation of the choices
    agreed = [
        sum(probabilities[row, choice] for row, choice in enumerate(order))
        for order in itertools.permutations(choices)
    ]
    # then
    own = sum(probabilities[row, choice] for row, choice in enumerate(choices))
    assert above_chance(probabilities, choices) == pytest.approx((own - np.mean(agreed)) / np.std(agreed))
    assert above_chance(probabilities, np.ones(6, int)) == 0
