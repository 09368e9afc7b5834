"""Out-of-fold predictions and their calibration."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from label_quality import model
from label_quality.model import calibrated, calibration_error, out_of_fold


def test_most_examples_of_a_cluster_are_predicted(clusters: tuple[Any, Any]) -> None:
    points, labels = clusters
    found = out_of_fold(points, labels, np.arange(90), 3, 5, 0)
    assert found.sum(1) == pytest.approx(np.ones(90))
    assert (found.argmax(1) == labels).mean() > 0.95


def test_no_example_is_predicted_by_its_own_label(clusters: tuple[Any, Any]) -> None:
    # given an example with a wrong label
    points, labels = clusters
    wrong = labels.copy()
    wrong[0] = 2
    # when each example is predicted by a model that was not trained on it, then the label is right
    assert out_of_fold(points, wrong, np.arange(90), 3, 5, 0)[0].argmax() == labels[0]


def test_no_example_is_predicted_by_a_duplicates_label(clusters: tuple[Any, Any]) -> None:
    # given an example with many copies, all with the same wrong label
    points, labels = clusters
    points = np.concatenate([points, np.repeat(points[:1], 40, 0)])
    wrong = np.concatenate([labels, np.full(40, 2)])
    wrong[0] = 2
    groups = np.concatenate([np.arange(90), np.zeros(40, int)])
    # when all copies are in one fold, then the wrong label does not confirm itself
    assert out_of_fold(points, wrong, groups, 3, 5, 0)[0].argmax() == labels[0]
    # when they are in different folds, then it does
    assert out_of_fold(points, wrong, np.arange(130), 3, 5, 0)[0].argmax() == 2


def test_class_in_one_fold_only_gets_no_probability(clusters: tuple[Any, Any]) -> None:
    points, labels = clusters
    few = labels.copy()
    few[few == 2] = 0
    few[[2, 5]] = 2
    groups = np.arange(90)
    groups[5] = groups[2]
    found = out_of_fold(points, few, groups, 3, 5, 0)
    assert found[[2, 5], 2] == pytest.approx([0, 0])
    assert found.sum(1) == pytest.approx(np.ones(90))


def test_calibration_recovers_temperature_and_random_labels() -> None:
    # given probabilities that are too flat, and a fifth of the labels drawn at random
    generator = np.random.default_rng(0)
    logits = 3 * generator.normal(size=(4000, 4))
    true = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (true.cumsum(1) > generator.random((4000, 1))).argmax(1)
    drawn = generator.random(4000) < 0.2
    labels[drawn] = generator.integers(0, 4, drawn.sum())
    flat = true**0.5 / (true**0.5).sum(1, keepdims=True)
    # when
    found = calibrated(flat, labels)
    # then
    assert found.temperature == pytest.approx(0.5, abs=0.08)
    assert found.uniform == pytest.approx(0.2, abs=0.04)
    assert found.probabilities == pytest.approx(0.8 * true + 0.2 / 4, abs=0.04)
    assert found.error < 0.02 < 0.05 < found.error_before


def test_calibration_error_is_that_of_its_definition() -> None:
    probabilities = np.array([[0.95, 0.05], [0.91, 0.09], [0.35, 0.65], [0.38, 0.62]])
    labels = np.array([0, 1, 1, 0])
    # one bin has a mean confidence of 0.93, the other 0.635; in each, 1 of 2 predictions is right
    assert calibration_error(probabilities, labels) == pytest.approx((0.43 + 0.135) / 2)


def test_components_are_at_most_the_columns() -> None:
    features = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    assert model.embedded(features, 0).shape == (20, 6)
    assert model.embedded(np.repeat(features, 20, 1), 0).shape == (20, 20)
