"""Orthogonal matching pursuit with non-negative weights, computed from inner products."""

from __future__ import annotations

from typing import Any

import numpy as np

from .submodular import Doubles, Whole

SMALL = 1e-10
"""Relative tolerance for rounding errors."""


def matching_pursuit(
    gram: Doubles, target: Doubles, penalty: float, budget: int, sizes: Whole
) -> tuple[Whole, Doubles]:
    """Approximate a target by a non-negative combination of a few of n vectors.

    Greedily minimises |sum of w_i v_i - t|^2 + penalty * |w|^2. Each step adds the vector with the largest
    inner product with the residual, then refits all weights. The search ends when the total size of the
    chosen vectors reaches the budget, or when no other vector has a positive inner product with the residual.
    Vectors with weight 0 are dropped from the result.

    :param gram: [n, n] inner products of the vectors
    :param target: [n] inner products of the vectors with the target
    :param sizes: [n] size of each vector, counted towards the budget
    :return: indices of the vectors in the order of selection, and their weights
    """
    taken: list[int] = []
    weights = np.empty(0)
    free = np.ones(len(gram), bool)
    while free.any() and sizes[taken].sum() < budget:
        residual = np.where(free, target - gram[:, taken] @ weights, -np.inf)
        vector = int(residual.argmax())
        if residual[vector] <= SMALL * max(np.abs(target).max(), 1e-300):
            break
        taken.append(vector)
        free[vector] = False
        matrix = gram[np.ix_(taken, taken)] + penalty * np.eye(len(taken))
        weights = nonnegative(matrix, target[taken], np.append(weights, 0.0))
    return np.array(taken, np.int64)[weights > 0], weights[weights > 0]


def nonnegative(matrix: Doubles, right: Doubles, start: Doubles) -> Doubles:
    """Return w >= 0 that minimises w' A w - 2 b' w, by the active-set method.

    Lawson and Hanson, "Solving Least Squares Problems", 1974, chapter 23, but from `start` instead of 0.

    :param matrix: A, [n, n] positive definite
    :param right: b, [n]
    :param start: [n] at least 0
    """
    weights, positive = start.copy(), start > 0
    tolerance = SMALL * max(float(np.abs(right).max()), 1e-300)
    for _ in range(10 * len(right) + 10):
        gradient = np.where(positive, -np.inf, right - matrix @ weights)
        enters = int(gradient.argmax())
        if gradient[enters] > tolerance:
            positive[enters] = True
        elif _settled(matrix, right, weights, positive, tolerance):
            break
        while True:
            found = np.zeros_like(weights)
            found[positive] = np.linalg.solve(matrix[np.ix_(positive, positive)], right[positive])
            below = positive & (found <= 0)
            if not below.any():
                break
            step = (weights[below] / (weights[below] - found[below])).min()
            weights += step * (found - weights)
            positive &= weights > SMALL * max(float(weights.max()), 1e-300)
            weights[~positive] = 0
        weights = found
    return weights


def _settled(matrix: Doubles, right: Doubles, weights: Doubles, positive: Any, tolerance: float) -> bool:
    """Return whether the positive weights satisfy their normal equations."""
    return bool((np.abs(right - matrix @ weights)[positive] <= tolerance).all())
