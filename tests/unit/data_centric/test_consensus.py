"""Consolidation: majority and Dawid-Skene, ties, unsure answers, and the gain of Dawid-Skene over the
majority."""

from __future__ import annotations

import math
import random

import pytest

from data_centric.core.answers import Answer
from data_centric.core.consensus import Consensus, Estimate, dawid_skene, majority
from tests.support.data_centric.crowd import crowd


def answers(**items: str) -> list[Answer]:
    """`a="012-"` means that the labelers of item a answered 0, 1, 2 and unsure."""
    return [
        Answer(item, f"labeler-{number}", None if each == "-" else int(each))
        for item, given in items.items()
        for number, each in enumerate(given)
    ]


def choices(items: dict[str, Consensus]) -> dict[str, int]:
    return {item: each.choice for item, each in items.items()}


def test_majority_is_the_class_with_most_votes() -> None:
    found = majority(answers(a="011", b="22"), 3)
    assert choices(found) == {"a": 1, "b": 2}
    assert (found["a"].confidence, found["b"].confidence) == (pytest.approx(2 / 3), 1.0)
    assert (found["a"].probabilities, found["a"].answers) == (pytest.approx((1 / 3, 2 / 3, 0)), 3)


def test_tie_is_resolved_to_the_most_frequent_class_and_marked() -> None:
    found = majority(answers(a="01", b="11", c="02"), 3)
    assert {item: (each.choice, each.tied) for item, each in found.items()} == {
        "a": (1, True),
        "b": (1, False),
        "c": (0, True),
    }


def test_unsure_answers_do_not_count() -> None:
    given = answers(a="--1", b="--", c="00")
    assert choices(majority(given, 2)) == {"a": 1, "c": 0}
    estimate = dawid_skene(given, 2)
    assert choices({**estimate.items}) == {"a": 1, "c": 0}
    assert set(estimate.matrices) == {"labeler-0", "labeler-1", "labeler-2"}


def test_order_of_the_answers_does_not_matter() -> None:
    given = crowd(3, items=60, classes=3, size=5).answers(3)
    assert dawid_skene(given[::-1], 3) == dawid_skene(given, 3)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ([Answer("a", "x", 2)], "item a: a choice must be from 0 to 1, got 2"),
        ([Answer("a", "x", 1), Answer("a", "x", None)], "item a has two answers of labeler x"),
    ],
)
def test_invalid_answers_are_refused(given: list[Answer], problem: str) -> None:
    for consolidate in (majority, dawid_skene):
        with pytest.raises(ValueError, match=problem):
            consolidate(given, 2)


def test_no_answers_give_no_labels() -> None:
    assert majority([], 2) == {}
    assert dawid_skene(answers(a="-"), 2) == Estimate({}, {}, (0.5, 0.5), 0, False)


def test_probabilities_follow_bayes_rule() -> None:
    # given an estimate of the Dawid-Skene model
    given = crowd(1, items=200, classes=3, size=6).answers(4)
    estimate = dawid_skene(given, 3)
    assert estimate.converged
    # then the probabilities of each item equal those computed from class shares and confusion matrices
    for item, consensus in estimate.items.items():
        weights = [
            estimate.shares[true]
            * math.prod(
                estimate.matrices[each.labeler][true][each.choice]
                for each in given
                if each.item == item and each.choice is not None
            )
            for true in range(3)
        ]
        found = [weight / sum(weights) for weight in weights]
        assert consensus.probabilities == pytest.approx(found, abs=2e-3)


def test_estimate_finds_confusion_matrices_and_class_shares() -> None:
    # given many answers of labelers whose accuracy is known
    given = crowd(2, items=900, classes=3, size=6, spammers=1)
    estimate = dawid_skene(given.answers(6), 3)
    # then every row of a confusion matrix is a probability distribution, and the mean of the diagonal is the
    # labeler's accuracy
    assert all(sum(row) == pytest.approx(1) for matrix in estimate.matrices.values() for row in matrix)
    for name, accuracy in given.accuracy.items():
        found = sum(estimate.matrices[name][each][each] for each in range(3)) / 3
        assert found == pytest.approx(accuracy, abs=0.05)
    assert estimate.matrices[given.spammers[0]][0][0] == pytest.approx(1 / 3, abs=0.07)
    assert estimate.shares == pytest.approx((1 / 3, 1 / 3, 1 / 3), abs=0.04)


def test_good_labeler_outweighs_two_bad_ones() -> None:
    # given a labeler who is always right, four who guess, and an item on which two of the four contradict the
    # first labeler
    draw = random.Random(5)
    given = [
        Answer(f"item-{number}", name, number % 2 if name == "good" else draw.randrange(2))
        for number in range(120)
        for name in ("good", "b", "c", "d", "e")
    ]
    known = {f"item-{number}": number % 2 for number in range(60)}
    given += [Answer("last", "good", 0), Answer("last", "b", 1), Answer("last", "c", 1)]
    assert majority(given, 2)["last"].choice == 1
    assert dawid_skene(given, 2, known).items["last"].choice == 0


def test_gold_questions_keep_their_class() -> None:
    given = answers(a="000", b="111", c="01")
    found = dawid_skene(given, 2, {"a": 1, "not answered": 0})
    assert (found.items["a"].choice, found.items["a"].confidence) == (1, 1.0)
    assert "not answered" not in found.items
    with pytest.raises(ValueError, match="the known class of an item must be from 0 to 1, got 2"):
        dawid_skene(given, 2, {"a": 2})


def test_many_answers_do_not_underflow() -> None:
    given = [Answer("a", f"labeler-{number}", number % 3 == 0) for number in range(3000)]
    assert dawid_skene(given, 2).items["a"].probabilities == pytest.approx((1, 0))


def test_model_gains_four_points_with_spammers() -> None:
    # given 20 labelers, of whom 2 are spammers, and 3 labels of each item
    gains = []
    for seed in range(5):
        simulated = crowd(seed)
        given = simulated.answers(3)
        voted = simulated.right(choices(majority(given, 10)))
        gains.append(simulated.right(choices({**dawid_skene(given, 10).items})) - voted)
    assert min(gains) > 0
    assert sum(gains) / len(gains) >= 4
