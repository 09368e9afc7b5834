"""GradMatch: a weighted subset whose gradient sum matches that of the full training set."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..gradients import batch_totals, products
from ..selection import Selection, State, Stateless, others, parts, permuted, weighted
from .pursuit import matching_pursuit

PENALTY = 0.5
"""Default penalty, relative to the mean squared gradient. In the authors' configurations, the absolute
penalty (lambda) is 0.5 for examples and 0 for batches."""
MOST_MATCHED = 1000
"""Maximum number of examples matched together: time grows with the fourth power of the number selected."""


class GradMatch(Stateless):
    """GRAD-MATCH: Killamsetty et al., "GRAD-MATCH: Gradient Matching based Data Subset Selection for
    Efficient Deep Model Training", ICML 2021.

    Matches the sum of last-layer gradients of each class by orthogonal matching pursuit with non-negative
    weights and an L2 penalty. If fewer examples than the budget are selected, random examples with weight 1
    fill the rest, as in the authors' code. Then all weights are scaled to average 1.

    :param penalty: L2 penalty on the weights, relative to the mean squared gradient
    """

    def __init__(self, penalty: float = PENALTY):
        self.penalty = penalty

    def select(self, state: State, k: int) -> Selection:
        outputs = state.train()
        indices: list[Tensor] = []
        weights: list[Tensor] = []
        for part, quota in parts(state, k, MOST_MATCHED):
            gram = products(outputs.part(part)).cpu().numpy()
            penalty = self.penalty * gram.diagonal().mean()
            taken, found = matching_pursuit(gram, gram.sum(1), penalty, quota, np.ones(len(part), np.int64))
            indices.append(part[torch.from_numpy(taken)])
            weights.append(torch.from_numpy(found))
        return filled(state, torch.cat(indices), torch.cat(weights), k)


class GradMatchBatches(Stateless):
    """GRAD-MATCH-PB, from the paper of `GradMatch`: matches batches instead of examples.

    The training set is split into random batches. All examples of a batch get its weight. The last
    selected batch is truncated to the budget.

    :param size: batch size
    """

    def __init__(self, size: int, penalty: float = PENALTY):
        self.size, self.penalty = size, penalty

    def select(self, state: State, k: int) -> Selection:
        outputs = state.train()
        order = permuted(torch.arange(len(state)), state.generator("batches"))
        batches = list(order.split(min(self.size, math.ceil(k / 2))))
        totals = batch_totals(outputs, batches)
        gram = (totals @ totals.T).cpu().numpy()
        sizes = np.array([len(batch) for batch in batches])
        penalty = self.penalty * gram.diagonal().mean()
        taken, found = matching_pursuit(gram, gram.sum(1), penalty, k, sizes)
        indices = torch.cat([order[:0], *(batches[number] for number in taken)])
        weights = torch.from_numpy(found).repeat_interleave(torch.from_numpy(sizes[taken]))
        return filled(state, indices[:k], weights[:k], k)


def filled(state: State, indices: Tensor, weights: Tensor, k: int) -> Selection:
    """Return the selection, filled up to the budget with random examples of weight 1.

    :param weights: weights with which the gradients of the examples `indices` add up to about the sum of all
        gradients in the training set
    """
    more = permuted(others(len(state), indices), state.generator("filled"))[: k - len(indices)]
    weights = torch.cat([weights, torch.ones(len(more), dtype=weights.dtype)])
    return weighted(torch.cat([indices, more]), weights)
