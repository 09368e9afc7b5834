"""Greedy maximisation of set functions over pairwise similarities."""

from __future__ import annotations

import heapq
import math
from typing import Any

import numpy as np

Doubles = np.ndarray[Any, np.dtype[np.float64]]
Whole = np.ndarray[Any, np.dtype[np.int64]]


def facility_location(
    similarity: Doubles, k: int, generator: np.random.Generator | None = None, epsilon: float = 0.0
) -> Whole:
    """Return k examples, in order of selection, by greedy maximisation of facility location.

    Facility location is the sum, over all examples, of the similarity to the nearest selected example. Lazy
    greedy: gains only decrease, so a gain that is still the highest after recomputation is the maximum
    (Minoux, "Accelerated Greedy Algorithms for Maximizing Submodular Set Functions", 1978). Of examples with
    equal gains, the first is selected.

    :param similarity: [n, n] at least 0
    :param epsilon: above 0: stochastic greedy, each step samples n / k * ln(1 / epsilon) random examples
    """
    if epsilon and generator is not None:
        return _stochastic_facility_location(similarity, k, generator, epsilon)
    nearest = np.zeros(len(similarity))
    heap = [(-gain, example) for example, gain in enumerate(similarity.sum(0).tolist())]
    heapq.heapify(heap)
    taken: list[int] = []
    while len(taken) < k:
        _, example = heapq.heappop(heap)
        gain = float(np.maximum(similarity[example] - nearest, 0).sum())
        if heap and (-gain, example) > heap[0]:
            heapq.heappush(heap, (-gain, example))
            continue
        taken.append(example)
        nearest = np.maximum(nearest, similarity[example])
    return np.array(taken, np.int64)


def _stochastic_facility_location(
    similarity: Doubles, k: int, generator: np.random.Generator, epsilon: float
) -> Whole:
    nearest, free = np.zeros(len(similarity)), np.ones(len(similarity), bool)
    taken: list[int] = []
    for _ in range(k):
        sample = sampled(free, k, generator, epsilon)
        gains = np.maximum(similarity[sample] - nearest, 0).sum(1)
        example = int(sample[gains.argmax()])
        taken.append(example)
        free[example] = False
        nearest = np.maximum(nearest, similarity[example])
    return np.array(taken, np.int64)


def sampled(free: Any, k: int, generator: np.random.Generator, epsilon: float) -> Whole:
    """Return the random sample of one step of stochastic greedy.

    Mirzasoleiman et al., "Lazier Than Lazy Greedy", AAAI 2015.
    """
    left = np.flatnonzero(free)
    size = math.ceil(len(free) / k * math.log(1 / epsilon))
    return np.sort(generator.permutation(left)[:size])


def cluster_sizes(similarity: Doubles, taken: Whole) -> Doubles:
    """Return each selected example's cluster size, float64: the number of examples nearest to it.

    A selected example always belongs to its own cluster, even if other selected examples are identical to it.
    """
    nearest = similarity[taken].argmax(0)
    nearest[taken] = np.arange(len(taken))
    return np.bincount(nearest, minlength=len(taken)).astype(np.float64)


def graph_cut(
    similarity: Doubles, k: int, redundancy: float, generator: np.random.Generator, epsilon: float
) -> Whole:
    """Return k examples by stochastic greedy maximisation of graph cut.

    Graph cut is the sum of similarities between all examples and the selected examples, minus `redundancy`
    times the sum of similarities among the selected examples.

    :param similarity: [n, n] symmetric
    """
    gains = similarity.sum(0) - redundancy * similarity.diagonal()
    free = np.ones(len(similarity), bool)
    taken: list[int] = []
    for _ in range(k):
        sample = sampled(free, k, generator, epsilon)
        example = int(sample[gains[sample].argmax()])
        taken.append(example)
        free[example] = False
        gains = gains - 2 * redundancy * similarity[example]
    return np.array(taken, np.int64)


def disparity_min_gains(distance: Doubles) -> Doubles:
    """Return each example's gain in disparity-min, [n], when all examples are added greedily to a set.

    Disparity-min is the minimum distance within the set. The example with index 0 is added first, with
    gain 0. Then the example that is farthest from the set is added, until all are in it.

    :param distance: [n, n] symmetric
    """
    count = len(distance)
    gains, least = np.zeros(count), 0.0
    nearest = distance[0].copy()
    nearest[0] = -np.inf
    for number in range(1, count):
        example = int(nearest.argmax())
        value = float(nearest[example]) if number == 1 else min(least, float(nearest[example]))
        gains[example], least = value - least, value
        nearest = np.minimum(nearest, distance[example])
        nearest[example] = -np.inf
    return gains
