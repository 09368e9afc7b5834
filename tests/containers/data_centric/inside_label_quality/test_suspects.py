"""Which examples are suspected, and the reasons given."""

from __future__ import annotations

from typing import Any

import numpy as np

from label_quality import suspects
from label_quality.similar import Similar, compare
from label_quality.suspects import Given, Suspect

NAMES = ("cat", "dog", "owl")


def given(labels: Any, points: Any, digests: Any = None, **changed: Any) -> Given:
    """Return a model's predictions, with high probabilities of the points' clusters, without answers."""
    size = len(labels)
    similar = compare(points, range(size) if digests is None else digests, 0.3)
    probabilities = 0.02 + 0.94 * np.eye(3)[points[:, :3].argmax(1)]
    values = {"votes": np.zeros((size, 3), int), "confidence": np.full(size, np.nan)} | changed
    return Given(labels, values.pop("probabilities", probabilities), similar, NAMES, **values)


def find(known: Given, outlier_distance: float = 100) -> dict[int, Suspect]:
    return {each.index: each for each in suspects.find(known, 0.4, outlier_distance)}


def test_wrong_label_is_suspected_with_its_reason(clusters: tuple[Any, Any]) -> None:
    # given a cat that is labeled owl
    points, labels = clusters
    wrong = labels.copy()
    wrong[0] = 2
    # when
    found = find(given(wrong, points))
    # then
    assert list(found) == [0]
    suspect = found[0]
    assert (suspect.kinds, suspect.given, suspect.suggested) == (("label",), 2, 0)
    assert suspect.reason == (
        "The model gives cat a probability of 0.96 and owl 0.02."
        " Labels of the 10 most similar examples: 10 cat, 0 owl."
    )
    assert {labels[each] for each in suspect.neighbours} == {0}


def test_least_probable_labels_come_first(clusters: tuple[Any, Any]) -> None:
    points, labels = clusters
    wrong = labels.copy()
    wrong[[0, 3, 6]] = 2
    probabilities = 0.02 + 0.94 * np.eye(3)[labels]
    probabilities[[0, 3, 6]] = [[0.965, 0.023, 0.012], [0.99, 0.005, 0.005], [0.98, 0.012, 0.008]]
    assert list(find(given(wrong, points, probabilities=probabilities))) == [3, 6, 0]


def test_copy_with_another_label_is_suspected(clusters: tuple[Any, Any]) -> None:
    # given three equal examples, of which one has another label, and a model that is unsure about them
    points, labels = clusters
    points = np.concatenate([points, points[[0, 0]]])
    changed = np.append(labels, [0, 1])
    probabilities = 0.02 + 0.94 * np.eye(3)[changed]
    # when
    found = find(given(changed, points, [*range(90), 0, 0], probabilities=probabilities))
    # then only that example is suspected, and the label of the other two is suggested
    assert {index: each.suggested for index, each in found.items()} == {91: 0}
    assert found[91].kinds == ("duplicate",)
    assert "It is equal to an example with another label." in found[91].reason


def test_two_copies_with_different_labels_are_both_suspected(clusters: tuple[Any, Any]) -> None:
    points, labels = clusters
    points = np.concatenate([points, points[:1] + 1e-3])
    changed = np.append(labels, 1)
    found = find(given(changed, points, probabilities=0.02 + 0.94 * np.eye(3)[changed]))
    assert {index: each.suggested for index, each in found.items()} == {0: 1, 90: 0}
    assert "It is nearly equal to an example with another label." in found[0].reason


def test_uncertain_consensus_is_suspected_with_its_votes(clusters: tuple[Any, Any]) -> None:
    # given items whose consensus agrees with the model, one of them with an uncertain consensus
    points, labels = clusters
    votes, confidence = 3 * np.eye(3, dtype=int)[labels], np.full(90, 0.9)
    votes[3], confidence[3] = [1, 0, 2], 0.25
    # when
    found = find(given(labels, points, votes=votes, confidence=confidence))
    # then the suggested class is the one with the most votes among all classes except the label
    assert {index: (each.kinds, each.suggested) for index, each in found.items()} == {3: (("consensus",), 2)}
    assert found[3].reason.endswith("Labelers: 2 owl, 1 cat. The confidence of the consensus is 0.25.")


def test_mere_outlier_comes_last_with_its_own_label(clusters: tuple[Any, Any]) -> None:
    # given an outlier whose label agrees with the model, and an example with a wrong label
    points, labels = clusters
    points = np.concatenate([points, [[40.0, 0, 0, 40]]])
    wrong = np.append(labels, 0)
    wrong[0] = 2
    # when
    found = find(given(wrong, points), 10)
    # then
    assert list(found) == [0, 90]
    assert (found[90].kinds, found[90].suggested) == (("outlier",), 0)
    assert "times the median." in found[90].reason


def test_no_example_is_suspected_of_clean_labels(clusters: tuple[Any, Any]) -> None:
    points, labels = clusters
    assert isinstance(given(labels, points).similar, Similar)
    assert find(given(labels, points)) == {}
