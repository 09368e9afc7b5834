"""scikit-learn's digits with wrong labels, simulated labelers, duplicates and outliers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from label_quality.examples import Examples
from label_quality.manifests import Line

_found = load_digits()
IMAGES = np.round(_found.images * (255 / 16)).astype(np.uint8)[..., None]
"""uint8 [1797, 8, 8, 1]"""
TRUTH = _found.target
ATTRIBUTE = "digit"
CLASSES = {number: f"digit {number}" for number in range(10)}
LABELERS, SPAMMERS = 20, 2
LEAST_ACCURATE, MOST_ACCURATE = 0.5, 0.9


def examples(images: Any, labels: Any) -> Examples:
    """Return pictures [n, 8, 8, 1] and labels [n] as examples, in the format of the training image."""
    lines = [_line(number, int(label)) for number, label in enumerate(labels)]
    features = images.reshape(len(images), -1).astype(np.float32) / 255
    return Examples(lines, features, (), images, [image.tobytes() for image in images], ())


def _line(number: int, label: int) -> Line:
    name = CLASSES[label]
    fields = {ATTRIBUTE: label, f"{ATTRIBUTE}-metadata": {"class-name": name}}
    return Line("source-ref", source(number), label, name, fields)


def source(number: int) -> str:
    return f"s3://digits/{number}.png"


def wrong(labels: Any, share: float, seed: int) -> tuple[Any, Any]:
    """Replace a share of the labels by other classes, with equal probabilities.

    Returns the new labels [n], and for each label whether it is wrong, [n] of bool.
    """
    generator = np.random.default_rng(seed)
    chosen = generator.permutation(len(labels))[: round(share * len(labels))]
    found = labels.copy()
    found[chosen] = (found[chosen] + generator.integers(1, len(CLASSES), len(chosen))) % len(CLASSES)
    return found, found != labels


@dataclass(frozen=True)
class Answered:
    answers: Mapping[int, Mapping[str, int]]
    """Class of each answer, by item and then by labeler"""
    accuracy: Mapping[str, float]
    """True accuracies of the labelers, without spammers"""
    spammers: frozenset[str]


def answered(labels: int, seed: int) -> Answered:
    """Return simulated answers to all digits: `labels` answers to each item, from different labelers.

    Of the two spammers, one answers at random and one always gives the same answer. All other labelers have
    accuracies from 50 to 90 %; their wrong answers are uniform over the other classes.
    """
    generator = np.random.default_rng(seed)
    names = [f"labeler-{number:02}" for number in range(LABELERS)]
    accuracies = generator.uniform(LEAST_ACCURATE, MOST_ACCURATE, LABELERS)

    def answer(labeler: int, true: int) -> int:
        if labeler < SPAMMERS:
            return 1 if labeler else int(generator.integers(len(CLASSES)))
        if generator.random() < accuracies[labeler]:
            return true
        return int((true + generator.integers(1, len(CLASSES))) % len(CLASSES))

    answers = {
        item: {
            names[labeler]: answer(labeler, int(true))
            for labeler in generator.choice(LABELERS, labels, replace=False)
        }
        for item, true in enumerate(TRUTH)
    }
    accuracy = dict(zip(names[SPAMMERS:], map(float, accuracies[SPAMMERS:]), strict=True))
    return Answered(answers, accuracy, frozenset(names[:SPAMMERS]))
