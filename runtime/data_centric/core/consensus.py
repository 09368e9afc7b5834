"""Consolidation of the answers to each item: majority vote, and the model of Dawid and Skene.

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
"""Weight of the prior of each row of a labeler's matrix, as a number of answers. The prior: the labeler is
right as often as in all classes together, and each error is as likely as any other. It is also the weight of
all labelers' accuracy in the labeler's own."""
PRIOR_ITEMS = 1.0
"""Weight of the prior of each class, as a number of items."""
TOLERANCE = 1e-3
"""Largest change of a probability in the last round."""
MOST_ROUNDS = 100
TIED = 1e-9
"""Probabilities that differ by less are a tie."""

Matrix = tuple[tuple[float, ...], ...]
"""Of each true class (row), the probability of each answer (column)."""
Given = dict[str, list[list[str]]]
"""Of each labeler, the items that got each answer."""


@dataclass(frozen=True)
class Consensus:
    """What the answers say of an item."""

    probabilities: tuple[float, ...]
    """Of each class"""
    choice: int
    """The most probable class; of tied ones, the most frequent in all items, then the first"""
    tied: bool
    answers: int
    """Number that count: unsure ones do not"""

    @property
    def confidence(self) -> float:
        return self.probabilities[self.choice]


@dataclass(frozen=True)
class Estimate:
    """The model of Dawid and Skene of some answers."""

    items: Mapping[str, Consensus]
    """Items with unsure answers only are not in it"""
    matrices: Mapping[str, Matrix]
    """Of each labeler with an answer that counts"""
    shares: tuple[float, ...]
    """Of each class in all items"""
    rounds: int
    converged: bool


def majority(answers: Iterable[Answer], classes: int) -> dict[str, Consensus]:
    """Return the majority of each item; its probabilities are the shares of the votes.

    Items with unsure answers only are left out. Raises `ValueError` as `by_item`.
    """
    votes = {item: _votes(sure, classes) for item, sure in by_item(answers, classes).items() if sure}
    totals = [sum(each[choice] for each in votes.values()) for choice in range(classes)]
    return {
        item: _consensus([each / sum(counts) for each in counts], totals, int(sum(counts)))
        for item, counts in votes.items()
    }


def dawid_skene(answers: Iterable[Answer], classes: int, known: Mapping[str, int] | None = None) -> Estimate:
    """Return the class of each item, and how each labeler answers to each true class.

    :param known: the true classes of gold questions, by item
    Raises `ValueError` as `by_item`.
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
        raise ValueError(f"a known class must be from 0 to {classes - 1}, got {choice}")
    return [float(each == choice) for each in range(classes)]


def _estimated(
    given: Given, beliefs: Mapping[str, Sequence[float]], classes: int
) -> tuple[tuple[float, ...], dict[str, Matrix]]:
    """The M step: the classes' shares and the labelers' matrices that the beliefs make most probable."""
    nothing = [0.0] * classes

    def summed(items: Iterable[str]) -> list[float]:
        return [sum(column) for column in zip(nothing, *(beliefs[item] for item in items), strict=True)]

    # By labeler, of each answer (row) the sum of the beliefs in each class (column)
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
    """The matrix of a labeler, whose accuracy is that in all classes together."""
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
    """The E step: the probability of each class of each item, given the answers."""
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
