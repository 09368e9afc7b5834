"""GLISTER compared with its definition: autograd, and a greedy algorithm that updates the real last layer."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from subset_training.gradients import Outputs
from subset_training.selection import State, allot
from subset_training.strategies.controls import AdaptiveRandom
from subset_training.strategies.glister import Glister, Mixture
from subset_training.strategies.held import Held


def loss_gradient(layer: Tensor, outputs: Outputs, rows: list[int]) -> Tensor:
    """Return the gradient of the summed loss of some rows with respect to a change of the last layer, by
    autograd."""
    change = layer.clone().requires_grad_()
    logits = outputs.logits[rows] + outputs.inputs[rows] @ change.T
    loss = functional.cross_entropy(logits, outputs.labels[rows], reduction="sum")
    return torch.autograd.grad(loss, change)[0]


def greedy_by_definition(state: State, shares: list[list[int]], groups: list[int]) -> list[int]:
    """Select by GLISTER's definition: in each round, take from each group `shares[round][group]` examples,
    those with the highest scores. An example's score is the dot product of its gradient and the gradient that
    the validation loss has after a step of the last layer on the examples of each earlier round."""
    train, validation = state.train(), state.validation()
    start = torch.zeros(3, 5, dtype=torch.float64)
    layer, taken = start.clone(), []
    for share in shares:
        ahead = loss_gradient(layer, validation, list(range(len(validation)))) / len(validation)
        gains = [float((loss_gradient(start, train, [row]) * ahead).sum()) for row in range(len(train))]
        ranked = sorted(set(range(len(train))) - set(taken), key=lambda row: -gains[row])
        picked = [
            row for group, q in enumerate(share) for row in [r for r in ranked if groups[r] == group][:q]
        ]
        layer -= state.rate * loss_gradient(start, train, picked)
        taken += picked
    return taken


@pytest.mark.parametrize("seed", range(3))
def test_glister_selects_as_its_definition_at_every_budget(
    seed: int, make_state: Callable[..., State]
) -> None:
    state = make_state(seed=seed)
    for k in range(1, 13):
        expected = greedy_by_definition(state, [[1]] * k, [0] * 12)
        assert Glister(rounds=0).select(state, k).indices.tolist() == expected


@pytest.mark.parametrize("rounds", [1, 4, 15])
def test_rounds_of_glister_update_the_validation_loss_between_them(
    rounds: int, make_state: Callable[..., State]
) -> None:
    state = make_state()
    for k in range(1, 13):
        ends = [k * number // min(rounds, k) for number in range(min(rounds, k) + 1)]
        shares = [[after - before] for before, after in pairwise(ends)]
        expected = greedy_by_definition(state, shares, [0] * 12)
        assert Glister(rounds).select(state, k).indices.tolist() == expected


def test_rounds_change_the_selection(make_state: Callable[..., State]) -> None:
    # The update of the validation loss matters: without it, all rounds would rank the examples alike.
    found = [
        (set(Glister(1).select(state, 6).indices.tolist()), set(Glister(0).select(state, 6).indices.tolist()))
        for state in (make_state(seed=seed) for seed in range(3))
    ]
    assert any(once != anew for once, anew in found)


def test_balanced_glister_selects_the_best_of_each_class(make_state: Callable[..., State]) -> None:
    state = make_state(count=20)
    groups = state.labels.tolist()
    for k in range(1, 21):
        quotas, rounds = allot(torch.bincount(state.labels), k), min(4, k)
        shares = [(quotas * (n + 1) // rounds - quotas * n // rounds).tolist() for n in range(rounds)]
        found = Glister(4, balanced=True).select(state, k).indices
        assert found.tolist() == greedy_by_definition(state, shares, groups)
        assert torch.equal(torch.bincount(state.labels[found], minlength=3), quotas)


def test_stochastic_greedy_selects_the_best_of_a_sample(make_state: Callable[..., State]) -> None:
    state = make_state(count=40)
    # given a sample that has all examples, then stochastic greedy selects the same examples as greedy
    whole = Glister(0, epsilon=1e-9).select(state, 10).indices
    assert torch.equal(whole, Glister(0).select(state, 10).indices)
    # given the GLISTER paper's sample size n / k * ln(1 / epsilon), here 28 of 40 examples, then the first
    # selected example is among the best 13
    first = int(Glister(0, epsilon=1e-3).select(state, 10).indices[0])
    assert first in Glister(1).select(state, 13).indices
    assert not torch.equal(whole, Glister(0, epsilon=0.3).select(state, 10).indices)


def test_mixture_is_half_random_and_half_from_the_pool(make_state: Callable[..., State]) -> None:
    # given a pool that GLISTER selects for ten epochs, with twice as many examples as an epoch draws from it
    pool = Held(Glister(balanced=True), 10)
    mixture, random = Mixture(pool), AdaptiveRandom()
    drawn = []
    for epoch in range(5):
        state = make_state(count=60, epoch=epoch)
        # when
        indices = mixture.select(state, 12).indices
        # then the first half is what AdaptiveRandom selects, and the second half is from the pool
        assert torch.equal(indices[:6], random.select(state, 6).indices)
        assert pool.kept is not None
        assert len(pool.kept.indices) == 12
        assert torch.isin(indices[6:], pool.kept.indices).all()
        drawn.append(frozenset(indices[6:].tolist()))
    # and the second half is different in every epoch
    assert len(set(drawn)) == 5


def test_mixture_is_random_before_its_first_pool(make_state: Callable[..., State]) -> None:
    # given a strategy that selects its first pool in the third epoch
    mixture, random = Mixture(Held(Glister(balanced=True), 2), begin=2), AdaptiveRandom()
    for epoch in range(3):
        state = make_state(count=60, epoch=epoch)
        # when
        indices = mixture.select(state, 12).indices
        # then
        whole = random.select(state, 12 if epoch < 2 else 6).indices
        assert torch.equal(indices[: len(whole)], whole)
        assert (len(whole) == 12) == (epoch < 2)
