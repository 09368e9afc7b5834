"""Which examples are redundant."""

from __future__ import annotations

import numpy as np

from label_quality import redundant

LABELS = np.array([0] * 6 + [1] * 4)
OWN = np.array([0.9, 0.5, 0.8, 0.95, 0.6, 0.7, 0.99, 0.4, 0.3, 0.2])
PROBABILITIES = np.where(np.arange(2) == LABELS[:, None], OWN[:, None], 1 - OWN[:, None])
APART = np.arange(10)
NONE = np.zeros(10, bool)


def find(share: float, groups: np.ndarray = APART, suspected: np.ndarray = NONE) -> list[int]:
    return np.flatnonzero(redundant.find(LABELS, PROBABILITIES, groups, suspected, share)).tolist()


def test_most_probable_labels_of_each_class_are_redundant() -> None:
    assert find(0.5) == [0, 2, 3, 6, 7]
    assert find(0.0) == []


def test_suspected_examples_are_never_redundant() -> None:
    assert find(0.5, suspected=np.isin(APART, [3, 6])) == [0, 2, 5, 7, 8]


def test_copies_are_redundant_before_other_examples() -> None:
    # given two groups of copies, one of which has two different labels
    groups = np.array([0, 1, 1, 3, 4, 4, 6, 7, 8, 4])
    assert find(0.0, groups) == [2, 5]
    assert find(0.5, groups) == [2, 3, 5, 6, 7]


def test_one_example_of_each_class_is_kept() -> None:
    found = redundant.find(LABELS, PROBABILITIES, APART, NONE, 0.9)
    assert {*LABELS[~found].tolist()} == {0, 1}
    assert find(0.9, suspected=NONE) == [0, 2, 3, 4, 5, 6, 7, 8]
