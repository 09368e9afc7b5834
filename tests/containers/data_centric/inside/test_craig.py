"""Facility location, compared with exhaustive search and with the naive greedy algorithm. The weights of the
strategy CRAIG."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch

from subset_training.gradients import products
from subset_training.selection import State, allot
from subset_training.strategies.craig import Craig, nearness
from subset_training.strategies.submodular import cluster_sizes, facility_location


def similarities(count: int, seed: int) -> Any:
    points = np.random.default_rng(seed).normal(size=(count, 3))
    distance = np.linalg.norm(points[:, None] - points, axis=2)
    return distance.max() - distance


def value(similarity: Any, chosen: Any) -> float:
    return float(similarity[list(chosen)].max(0).sum())


def naive(similarity: Any, k: int) -> list[int]:
    taken: list[int] = []
    for _ in range(k):
        left = [each for each in range(len(similarity)) if each not in taken]
        taken.append(max(left, key=lambda each: value(similarity, [*taken, each])))
    return taken


@pytest.mark.parametrize("seed", range(3))
def test_lazy_greedy_equals_naive_greedy_at_every_budget(seed: int) -> None:
    similarity = similarities(15, seed)
    for k in range(1, 16):
        assert facility_location(similarity, k).tolist() == naive(similarity, k)


@pytest.mark.parametrize("seed", range(3))
def test_greedy_is_within_its_bound_of_the_best_subset(seed: int) -> None:
    similarity = similarities(9, seed)
    for k in range(1, 10):
        found = value(similarity, facility_location(similarity, k))
        most = max(value(similarity, chosen) for chosen in combinations(range(9), k))
        assert (1 - 1 / math.e) * most <= found <= most + 1e-9


def test_stochastic_greedy_is_nearly_as_good_as_greedy() -> None:
    similarity = similarities(60, 0)
    chosen = facility_location(similarity, 12, np.random.default_rng(0), 0.1)
    assert len(set(chosen.tolist())) == 12
    assert value(similarity, chosen) >= 0.95 * value(similarity, facility_location(similarity, 12))


def test_cluster_sizes_count_the_nearest() -> None:
    similarity = similarities(20, 1)
    taken = facility_location(similarity, 4)
    nearest = [max(taken.tolist(), key=lambda each: similarity[each, row]) for row in range(20)]
    assert cluster_sizes(similarity, taken).tolist() == [nearest.count(each) for each in taken.tolist()]


def test_nearness_is_by_distance_of_gradients(make_state: Callable[..., State]) -> None:
    outputs = make_state().train()
    gradients = torch.einsum("nc,nd->ncd", outputs.errors, outputs.inputs).flatten(1)
    distance = torch.cdist(gradients, gradients).numpy()
    assert nearness(outputs) == pytest.approx(distance.max() - distance, abs=1e-6)
    assert products(outputs).numpy() == pytest.approx((gradients @ gradients.T).numpy())


def test_craig_weights_stand_for_all_examples_of_each_class(make_state: Callable[..., State]) -> None:
    state = make_state(count=40)
    counts = torch.bincount(state.labels)
    for k in (3, 11, 40):
        chosen = Craig().select(state, k)
        labels = state.labels[chosen.indices]
        assert torch.equal(torch.bincount(labels, minlength=3), allot(counts, k))
        for label in range(3):  # the weights of all k selected examples add up to k, not to n
            assert chosen.weights[labels == label].sum() * 40 / k == pytest.approx(float(counts[label]))
