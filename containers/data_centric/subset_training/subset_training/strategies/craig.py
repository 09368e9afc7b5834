"""CRAIG: medoids of each class's gradients."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..gradients import Outputs, products
from ..selection import Selection, State, Stateless, parts, weighted
from .submodular import Doubles, cluster_sizes, facility_location


class Craig(Stateless):
    """CRAIG: Mirzasoleiman, Bilmes and Leskovec, "Coresets for Data-efficient Training of Machine Learning
    Models", ICML 2020.

    Maximises facility location over distances between last-layer gradients, in each class. An example's
    weight is the size of its cluster, so the weighted subset approximates the full gradient. In the authors'
    experiments with networks, the gradients are with respect to the logits only; in this class, with respect
    to the last layer's weights.

    :param epsilon: 0: lazy greedy; above 0: stochastic greedy
    """

    def __init__(self, epsilon: float = 0.0):
        self.epsilon = epsilon

    def select(self, state: State, k: int) -> Selection:
        outputs = state.train()
        generator = np.random.default_rng(state.generator("craig").initial_seed())
        indices: list[Tensor] = []
        weights: list[Tensor] = []
        for part, quota in parts(state, k):
            similarity = nearness(outputs.part(part))
            taken = facility_location(similarity, quota, generator, self.epsilon)
            indices.append(part[torch.from_numpy(taken)])
            weights.append(torch.from_numpy(cluster_sizes(similarity, taken)))
        return weighted(torch.cat(indices), torch.cat(weights))


def nearness(outputs: Outputs) -> Doubles:
    """Return similarities [n, n]: the largest distance between two gradients, minus the pair's distance."""
    inner = products(outputs).cpu().numpy()
    squares = inner.diagonal()
    distance = np.sqrt(np.maximum(squares[:, None] + squares - 2 * inner, 0))
    np.fill_diagonal(distance, 0)
    return distance.max() - distance
