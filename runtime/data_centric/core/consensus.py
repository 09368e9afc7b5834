"""Label consolidation: majority vote, and the Dawid-Skene model.

A. P. Dawid and A. M. Skene: Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm.
Journal of the Royal Statistical Society C 28 (1979) 20-28.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from data_centric.core.answers import Answer, Sure, by_item

PRIOR_ANSWERS = 20.0
"""Weight, in answers, of the prior on each row of a labeler's confusion matrix. The prior assumes the
labeler's overall accuracy in every class, and equally likely errors. The same weight pulls a labeler's
overall accuracy towards the mean accuracy of all labelers."""
PRIOR_ITEMS = 1.0
"""Weight, in items, of the prior on each class's share."""
TOLERANCE = 1e-3
"""EM stops when no probability changes by more than this."""
MOST_ROUNDS = 100
TIED = 1e-9
"""Probabilities that differ by less count as a tie."""

Matrix = tuple[tuple[float, ...], ...]
"""Confusion matrix: for each true class (row), the probability of each answer (column)."""
Given = dict[str, list[list[str]]]
"""For each labeler and each class, the items that got this class from the labeler."""


@dataclass(frozen=True)
class Consensus:
    """The consolidated label of an item."""

    probabilities: tuple[float, ...]
    """Probability of each class"""
    choice: int
    """The most probable class. Ties go to the class that is most frequent over all items, then the first"""
    tied: bool
    answers: int
    """Number of answers, without unsure ones"""

    @property
    def confidence(self) -> float:
        return self.probabilities[self.choice]


@dataclass(frozen=True)
class Estimate:
    """The Dawid-Skene model fitted to a set of answers."""

    items: Mapping[str, Consensus]
    """Consolidated labels by item. Items that have only unsure answers are missing"""
    matrices: Mapping[str, Matrix]
    """Confusion matrix of each labeler who gave an answer other than unsure"""
    shares: tuple[float, ...]
    """Share of each class over all items"""
    rounds: int
    converged: bool


def majority(answers: Iterable[Answer], classes: int) -> dict[str, Consensus]:
    """Return the majority vote of each item. The probabilities are the vote shares.

    Items that have only unsure answers are omitted. Raises `ValueError` like `by_item`.
    """
    votes = {item: _votes(sure, classes) for item, sure in by_item(answers, classes).items() if sure}
    totals = [sum(each[choice] for each in votes.values()) for choice in range(classes)]
    return {
        item: _consensus([each / sum(counts) for each in counts], totals, int(sum(counts)))
        for item, counts in votes.items()
    }


def dawid_skene(answers: Iterable[Answer], classes: int, known: Mapping[str, int] | None = None) -> Estimate:
    """Fit the Dawid-Skene model: a label for each item and a confusion matrix for each labeler.

    :param known: the true classes of gold questions, by item
    Raises `ValueError` as `by_item` does, and for a known class that does not exist.
    """
    seen = {item: sure for item, sure in by_item(answers, classes).items() if sure}
    given: Given = {}
    for item, sure in seen.items():
        for labeler, choice in sure:
            given.setdefault(labeler, [[] for _ in range(classes)])[choice].append(item)
    fixed = {item: _certain(choice, classes) for item, choice in (known or {}).items() if item in seen}
    beliefs = {item: _shares_of(_votes(sure, classes)) for item, sure in seen.items()} | fixed
    shares, matrices = _estimated(given, beliefs, classes)
    rounds, change = 0, math.inf
    while seen and change > TOLERANCE and rounds < MOST_ROUNDS:
        now = _believed(seen, shares, matrices) | fixed
        change = max(max(map(abs, map(operator.sub, now[item], beliefs[item]))) for item in seen)
        beliefs, rounds = now, rounds + 1
        shares, matrices = _estimated(given, beliefs, classes)
    items = {item: _consensus(beliefs[item], shares, len(sure)) for item, sure in seen.items()}
    return Estimate(items, matrices, shares, rounds, change <= TOLERANCE)


def _votes(sure: Sure, classes: int) -> list[float]:
    counts = [0.0] * classes
    for _, choice in sure:
        counts[choice] += 1
    return counts


def _shares_of(weights: Sequence[float]) -> list[float]:
    total = sum(weights)
    return [each / total for each in weights]


def _certain(choice: int, classes: int) -> list[float]:
    if not 0 <= choice < classes:
        raise ValueError(f"the known class of an item must be from 0 to {classes - 1}, got {choice}")
    return [float(each == choice) for each in range(classes)]


def _estimated(
    given: Given, beliefs: Mapping[str, Sequence[float]], classes: int
) -> tuple[tuple[float, ...], dict[str, Matrix]]:
    """M step: estimate class shares and confusion matrices from the class probabilities of the items."""
    nothing = [0.0] * classes

    def summed(items: Iterable[str]) -> list[float]:
        return [sum(column) for column in zip(nothing, *(beliefs[item] for item in items), strict=True)]

    # By labeler: for each answer (row), the summed probabilities of each class (column)
    counts = {labeler: [summed(items) for items in by_choice] for labeler, by_choice in given.items()}
    right = {labeler: sum(rows[each][each] for each in range(classes)) for labeler, rows in counts.items()}
    answers = {labeler: sum(map(len, by_choice)) for labeler, by_choice in given.items()}
    common = (sum(right.values()) + 1) / (sum(answers.values()) + 2)
    return tuple(_shares_of([PRIOR_ITEMS + each for each in summed(beliefs)])), {
        labeler: _matrix(
            rows, (right[labeler] + PRIOR_ANSWERS * common) / (answers[labeler] + PRIOR_ANSWERS), classes
        )
        for labeler, rows in counts.items()
    }


def _matrix(counts: Sequence[Sequence[float]], accuracy: float, classes: int) -> Matrix:
    """Return a labeler's confusion matrix, smoothed by the labeler's overall accuracy."""
    right, wrong = PRIOR_ANSWERS * accuracy, PRIOR_ANSWERS * (1 - accuracy) / max(classes - 1, 1)
    return tuple(
        tuple(
            _shares_of(
                [counts[answer][true] + (right if answer == true else wrong) for answer in range(classes)]
            )
        )
        for true in range(classes)
    )


def _believed(
    seen: Mapping[str, Sure], shares: Sequence[float], matrices: Mapping[str, Matrix]
) -> dict[str, list[float]]:
    """E step: compute each item's class probabilities from the answers."""
    logs = {
        labeler: [[math.log(row[answer]) for row in matrix] for answer in range(len(shares))]
        for labeler, matrix in matrices.items()
    }
    prior = [math.log(share) for share in shares]
    beliefs: dict[str, list[float]] = {}
    for item, sure in seen.items():
        columns = (logs[labeler][choice] for labeler, choice in sure)
        scores = [sum(column) for column in zip(prior, *columns, strict=True)]
        top = max(scores)
        beliefs[item] = _shares_of([math.exp(score - top) for score in scores])
    return beliefs


def _consensus(probabilities: Sequence[float], frequency: Sequence[float], answers: int) -> Consensus:
    top = max(probabilities)
    best = [choice for choice, each in enumerate(probabilities) if top - each < TIED]
    choice = max(best, key=lambda each: (frequency[each], -each))
    return Consensus(tuple(probabilities), choice, len(best) > 1, answers)
