"""CRAIG: the medoids of the gradients of each class."""

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

    In each class, facility location over the distances between last-layer gradients; an example's weight is
    the size of its cluster, so that the weighted gradients stand for those of all.

    :param epsilon: above 0, stochastic greedy instead of lazy greedy
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
    """Return the greatest distance between two gradients less the distance of each pair, [n, n]."""
    inner = products(outputs).cpu().numpy()
    squares = inner.diagonal()
    distance = np.sqrt(np.maximum(squares[:, None] + squares - 2 * inner, 0))
    np.fill_diagonal(distance, 0)
    return distance.max() - distance
