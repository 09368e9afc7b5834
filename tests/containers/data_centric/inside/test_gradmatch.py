"""Orthogonal matching pursuit compared with least squares, and GradMatch compared with the full gradient."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, combinations, pairwise
from typing import Any

import numpy as np
import pytest
import torch

from subset_training.selection import State
from subset_training.strategies.gradmatch import GradMatch, GradMatchBatches, filled
from subset_training.strategies.pursuit import matching_pursuit, nonnegative


def objective(vectors: Any, target: Any, weights: Any, penalty: float) -> float:
    return float(((weights @ vectors - target) ** 2).sum() + penalty * (weights**2).sum())


def best_nonnegative(vectors: Any, target: Any, penalty: float) -> float:
    """Return the minimum of `objective` over all subsets of the vectors, with nonnegative weights."""
    count, least = len(vectors), float((target**2).sum())
    for chosen in chain.from_iterable(combinations(range(count), size) for size in range(1, count + 1)):
        part = vectors[list(chosen)]
        weights = np.linalg.solve(part @ part.T + penalty * np.eye(len(part)), part @ target)
        if (weights >= 0).all():
            least = min(least, objective(part, target, weights, penalty))
    return least


@pytest.mark.parametrize("seed", range(20))
def test_nonnegative_least_squares_equals_exhaustive_search(seed: int) -> None:
    generator = np.random.default_rng(seed)
    vectors, target = generator.normal(size=(7, 5)), generator.normal(size=5)
    start = np.where(generator.random(7) < 0.5, generator.random(7), 0)
    weights = nonnegative(vectors @ vectors.T + 0.1 * np.eye(7), vectors @ target, start)
    assert (weights >= 0).all()
    assert objective(vectors, target, weights, 0.1) == pytest.approx(best_nonnegative(vectors, target, 0.1))


@pytest.mark.parametrize("seed", range(5))
def test_pursuit_follows_its_definition_step_by_step(seed: int) -> None:
    # given vectors with a common direction, so that many of them reduce the residual
    generator = np.random.default_rng(seed)
    vectors = generator.normal(size=(8, 20)) + 1
    target, penalty = vectors.sum(0), 0.5
    # when each step takes the vector with the greatest product with the residual, and then fits the weights
    # of all vectors taken so far
    taken: list[int] = []
    for k in range(1, 9):
        part = vectors[taken]
        fitted = np.linalg.solve(part @ part.T + penalty * np.eye(len(taken)), part @ target)
        left = [each for each in range(8) if each not in taken]
        taken.append(max(left, key=lambda each: vectors[each] @ (target - fitted @ part)))
        part = vectors[taken]
        expected = np.linalg.solve(part @ part.T + penalty * np.eye(k), part @ target)
        assert (expected > 0).all()
        # then `matching_pursuit` takes the same k vectors, with the same weights
        found, weights = matching_pursuit(vectors @ vectors.T, vectors @ target, penalty, k, np.ones(8, int))
        assert found.tolist() == taken
        assert weights == pytest.approx(expected)


def test_residual_of_a_pursuit_falls_to_that_of_least_squares() -> None:
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(10, 6))
    target = generator.random(10) @ vectors
    gram, aims = vectors @ vectors.T, vectors @ target
    found = [matching_pursuit(gram, aims, 1e-9, k, np.ones(10, int)) for k in range(1, 11)]
    residuals = [np.linalg.norm(weights @ vectors[taken] - target) for taken, weights in found]
    assert all(later <= earlier + 1e-9 for earlier, later in pairwise(residuals))
    assert residuals[-1] == pytest.approx(0, abs=1e-5)


def gradient_sums(state: State, indices: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    part = state.train().part(indices)
    return (part.errors * weights.double()[:, None]).T @ part.inputs


@pytest.mark.parametrize("made", [GradMatch(1e-6), GradMatchBatches(4, 1e-6)])
def test_gradmatch_is_nearer_to_the_full_gradient_than_random(
    made: Any, make_state: Callable[..., State]
) -> None:
    ours, theirs = [], []
    for seed in range(5):
        # given
        state = make_state(count=80, seed=seed)
        every = gradient_sums(state, torch.arange(80), torch.ones(80))
        chosen, random = made.select(state, 24), torch.randperm(80)[:24]

        # when the gradient sums of GradMatch and of a random subset are each scaled to come closest to the
        # full gradient
        def distance(indices: torch.Tensor, weights: torch.Tensor, every=every, state=state) -> float:
            found = gradient_sums(state, indices, weights)
            return float(
                (found * (found * every).sum() / (found * found).sum() - every).norm() / every.norm()
            )

        ours.append(distance(*chosen))
        theirs.append(distance(random, torch.ones(24)))
    # then
    assert np.mean(ours) < 0.6 * np.mean(theirs)


def test_all_examples_of_a_batch_have_its_weight(make_state: Callable[..., State]) -> None:
    state = make_state(count=60)
    chosen = GradMatchBatches(6, 0.5).select(state, 24)
    assert all(len(set(batch.tolist())) == 1 for batch in chosen.weights.split(6))
    assert len(set(chosen.weights.tolist())) > 1


def test_random_examples_fill_the_budget_with_weight_one(make_state: Callable[..., State]) -> None:
    # given two selected examples with the weights 5 and 4, and a budget of five of twelve examples
    chosen = filled(make_state(), torch.tensor([7, 2]), torch.tensor([5.0, 4.0]), 5)
    # then
    assert chosen.indices[:2].tolist() == [7, 2]
    assert len(set(chosen.indices.tolist())) == 5
    assert torch.allclose(chosen.weights, torch.tensor([5.0, 4.0, 1, 1, 1]) * 5 / 12)
