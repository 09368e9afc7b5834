"""MILO's set functions compared with brute force, its probabilities and its curriculum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from subset_training.selection import State, allot
from subset_training.strategies.milo import Milo, cosines, exploration
from subset_training.strategies.submodular import disparity_min_gains, graph_cut


def similarities(count: int, seed: int) -> Any:
    return (1 + cosines(torch.randn(count, 4, generator=torch.Generator().manual_seed(seed)))) / 2


def cut(similarity: Any, chosen: list[int], redundancy: float) -> float:
    return float(similarity[:, chosen].sum() - redundancy * similarity[np.ix_(chosen, chosen)].sum())


@pytest.mark.parametrize("seed", range(3))
def test_graph_cut_equals_its_naive_greedy_at_every_budget(seed: int) -> None:
    # given samples that have all examples, so that stochastic greedy equals naive greedy
    similarity = similarities(12, seed)
    for k in range(1, 13):
        taken: list[int] = []
        for _ in range(k):
            left = [each for each in range(12) if each not in taken]
            taken.append(max(left, key=lambda each: cut(similarity, [*taken, each], 0.4)))
        found = graph_cut(similarity, k, 0.4, np.random.default_rng(0), 1e-9)
        assert found.tolist() == taken


@pytest.mark.parametrize("seed", range(3))
def test_disparity_gains_equal_those_of_the_definition(seed: int) -> None:
    distance = 1 - similarities(10, seed)

    def disparity(chosen: list[int]) -> float:
        return min((distance[a, b] for a in chosen for b in chosen if a != b), default=0.0)

    taken, expected = [0], {0: 0.0}
    while len(taken) < 10:
        # among examples of equal gain, the one farthest from the examples already taken is expected
        left = [each for each in range(10) if each not in taken]
        example = max(left, key=lambda each: min(distance[each, other] for other in taken))
        assert disparity([*taken, example]) == max(disparity([*taken, each]) for each in left)
        expected[example] = disparity([*taken, example]) - disparity(taken)
        taken.append(example)
    assert disparity_min_gains(distance) == pytest.approx([expected[each] for each in range(10)])


def test_exploration_prefers_dissimilar_examples() -> None:
    # given nine examples in one direction, and one example in another direction
    points = torch.tensor([[1.0, 0.01 * each] for each in range(9)] + [[0.0, 1.0]])
    chances = exploration(cosines(points))
    assert chances.sum() == pytest.approx(1)
    assert (chances > 0).all()
    assert int(chances.argmax()) == 9


def test_milo_begins_with_graph_cut_and_continues_at_random(make_state: Callable[..., State]) -> None:
    # given 12 epochs, of which the first sixth uses easy subsets
    state, milo = make_state(count=60), Milo()
    counts = torch.bincount(state.labels)
    chosen = [milo.select(replace(state, epoch=epoch), 12).indices for epoch in range(12)]
    for indices in chosen:
        assert torch.equal(torch.bincount(state.labels[indices], minlength=3), allot(counts, 12))
    # then the easy subsets are selected by graph cut, and the later subsets vary
    easy, hard = chosen[:2], chosen[2:]
    similarity = (1 + cosines(state.embeddings())) / 2
    worth = [cut(similarity, indices.tolist(), 0.4) for indices in chosen]
    assert min(worth[:2]) > max(worth[2:])
    assert len(torch.cat(hard).unique()) > 1.5 * len(torch.cat(easy).unique())
