"""The CROWDLAB method: a consensus of the labelers and the model, and the quality of each labeler.

H. W. Goh, U. Tkachenko and J. Mueller: CROWDLAB: Supervised learning to infer consensus labels and quality
scores for data with multiple annotators. 2022. https://arxiv.org/abs/2210.06812
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from cleanlab.multiannotator import get_label_quality_multiannotator

from toolkit.failure import FatalError

CHANCE = 3.0
"""Minimum agreement of a labeler with the model, in standard deviations above chance. A labeler below it is a
likely spammer."""
POWER = 10.0
"""A labeler's verdict is `unknown` if the model's predictions for the labeler's items agree with the model's
probabilities by less than this, in standard deviations above chance."""
NONE = -1
"""Value in a table of answers for an item without an answer."""

Verdict = Literal["reliable", "spammer", "unknown"]


@dataclass(frozen=True)
class Labeler:
    name: str
    answers: int
    quality: float
    """CROWDLAB's estimate of the labeler's accuracy, from 0 to 1"""
    agreement: float
    """Share of the labeler's answers that equal the consensus"""
    above_chance: float
    """Agreement with the out-of-fold predictions, in standard deviations above the mean agreement of the same
    answers in random order"""
    verdict: Verdict


@dataclass(frozen=True)
class Crowd:
    labels: Any
    """[n]: the consensus for items with answers, the given label for items without answers"""
    confidence: Any
    """[n]: CROWDLAB's quality of the consensus, from 0 to 1; NaN for items without answers"""
    majority: Any
    """[n]: majority vote, ties broken by the model; NONE for items without answers"""
    votes: Any
    """[n, K]: number of answers for each of the K classes"""
    labelers: Sequence[Labeler]
    """Lowest quality first"""
    model_weight: float
    """Weight of the model in CROWDLAB's average of the model's prediction and the labelers' answers"""


def consensus(answers: Any, names: Sequence[str], given: Any, probabilities: Any) -> Crowd:
    """Return the consensus of the answers.

    :param answers: [n, M], index of the class that a labeler chose, or NONE
    :param names: names of the M labelers
    :param given: [n], labels that the model was trained on
    :param probabilities: [n, K], the model's out-of-fold class probabilities before calibration. CROWDLAB
        weights the model by its accuracy

    Raises `FatalError` unless at least one item has answers of two labelers.
    """
    classes = probabilities.shape[1]
    some = np.flatnonzero((answers != NONE).any(1))
    if len(names) < 2 or not ((answers != NONE).sum(1) > 1).any():
        raise FatalError(
            f"at least one item must have answers of 2 labelers; of {len(names)} labelers, no two answered"
            " the same item"
        )
    table = np.where(answers[some] == NONE, np.nan, answers[some])
    found = get_label_quality_multiannotator(
        table,
        probabilities[some],
        consensus_method="best_quality",
        return_detailed_quality=False,
        return_weights=True,
        verbose=False,
    )
    labels, confidence = np.array(given), np.full(len(given), np.nan)
    labels[some] = found["label_quality"]["consensus_label"].to_numpy()
    confidence[some] = found["label_quality"]["consensus_quality_score"].to_numpy()
    votes = np.stack([(answers == choice).sum(1) for choice in range(classes)], 1)
    leading = np.where(votes == votes.max(1, keepdims=True), probabilities, -1.0).argmax(1)
    statistics = found["annotator_stats"]
    labelers = [
        Labeler(
            names[int(number)],
            int(statistics.loc[number, "num_examples_labeled"]),
            float(statistics.loc[number, "annotator_quality"]),
            float((answers[own, number] == labels[own]).mean()),
            *_judged(probabilities[own], answers[own, number]),
        )
        for number in statistics.index
        for own in [answers[:, number] != NONE]
    ]
    return Crowd(
        labels,
        confidence,
        np.where(votes.any(1), leading, NONE),
        votes,
        sorted(labelers, key=lambda each: (each.quality, each.name)),
        float(found["model_weight"]),
    )


def _judged(probabilities: Any, choices: Any) -> tuple[float, Verdict]:
    above = above_chance(probabilities, choices)
    if above_chance(probabilities, probabilities.argmax(1)) < POWER:
        return above, "unknown"
    return above, "reliable" if above >= CHANCE else "spammer"


def above_chance(probabilities: Any, choices: Any) -> float:
    """Return the agreement of choices [n] with class probabilities [n, K], in standard deviations above the
    mean agreement of the same choices in random order.

    Mean and variance over all permutations are exact (W. Hoeffding, "A combinatorial central limit theorem",
    1951).
    """
    size, classes = probabilities.shape
    if size < 2:
        return 0.0
    share = np.bincount(choices, minlength=classes) / size
    mean = probabilities.mean(0)
    own = probabilities @ share
    deviations = probabilities - own[:, None] - mean + share @ mean
    variance = float((share * deviations**2).sum()) / (size - 1) * size
    agreed = float(probabilities[np.arange(size), choices].sum())
    return (agreed - size * float(share @ mean)) / math.sqrt(variance) if variance > 1e-9 else 0.0
