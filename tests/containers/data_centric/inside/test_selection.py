"""Budgets, gradients in closed form, and properties that every strategy has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from subset_training.gradients import Outputs, along, batch_totals, products, total
from subset_training.selection import State, allot, best, parts
from subset_training.strategies.controls import AdaptiveRandom
from subset_training.strategies.names import FEWER_EPOCHS, MAKERS, UNBUDGETED, Choices, plan, strategy

BUDGETED = [name for name in MAKERS if name not in (*UNBUDGETED, FEWER_EPOCHS)]


def gradients(outputs: Outputs) -> torch.Tensor:
    """Return each example's gradient with respect to the last layer's weights and bias, by autograd: [n, C, D
    + 1]."""
    found = []
    for row in range(len(outputs)):
        layer = torch.zeros(outputs.logits.shape[1], outputs.inputs.shape[1], dtype=torch.float64)
        layer.requires_grad_()
        logits = outputs.logits[row] + layer @ torch.cat([outputs.features[row], torch.ones(1)])
        loss = functional.cross_entropy(logits[None], outputs.labels[row][None])
        found.append(torch.autograd.grad(loss, layer)[0])
    return torch.stack(found)


def test_closed_form_gradients_equal_those_of_autograd(make_state: Callable[..., State]) -> None:
    # given
    outputs = make_state().train()
    # when
    expected = gradients(outputs)
    # then
    flat = expected.flatten(1)
    direction = torch.randn(expected.shape[1:], dtype=torch.float64)
    torch.testing.assert_close(total(outputs), expected.sum(0))
    torch.testing.assert_close(along(outputs, direction), flat @ direction.flatten())
    torch.testing.assert_close(products(outputs), flat @ flat.T)
    batches = [torch.tensor([1, 5, 2]), torch.tensor([0, 3])]
    torch.testing.assert_close(
        batch_totals(outputs, batches), torch.stack([flat[batch].sum(0) for batch in batches])
    )


@pytest.mark.parametrize("sizes", [[5, 3, 4], [1, 10, 1], [0, 7, 5], [12], [4, 4, 4]])
def test_shares_of_a_budget_add_up_and_are_proportional(sizes: list[int]) -> None:
    n = sum(sizes)
    for k in range(n + 1):
        shares = allot(torch.tensor(sizes), k)
        assert shares.sum() == k
        assert (shares <= torch.tensor(sizes)).all()
        assert ((shares - torch.tensor(sizes) * k / n).abs() < 1).all()


def test_best_takes_the_highest_scores_of_each_group() -> None:
    scores = torch.tensor([1.0, 3.0, 3.0, 9.0, 2.0, 3.0])
    groups = torch.tensor([0, 0, 0, 1, 1, 0])
    assert best(scores, groups, torch.tensor([2, 1])).tolist() == [1, 2, 3]


def test_parts_of_a_class_are_disjoint_and_complete(make_state: Callable[..., State]) -> None:
    state = make_state(count=100)
    found = parts(state, 100, most=11)
    assert max(len(part) for part, _ in found) <= 11
    assert torch.cat([part for part, _ in found]).sort().values.tolist() == list(range(100))
    assert all(len(state.labels[part].unique()) == 1 for part, _ in found)
    assert sum(quota for _, quota in parts(state, 37, most=11)) == 37


@pytest.mark.parametrize("name", BUDGETED)
def test_strategy_keeps_every_budget(name: str, make_state: Callable[..., State]) -> None:
    state = make_state()
    for k in range(1, 13):
        for epoch in (0, 11):
            chosen = strategy(name, Choices()).select(replace(state, epoch=epoch), k)
            assert len(chosen.indices) == len(chosen.weights) == k
            assert len(set(chosen.indices.tolist())) == k
            assert 0 <= chosen.indices.min() <= chosen.indices.max() < 12
            assert (chosen.weights > 0).all()
            assert chosen.weights.mean() == pytest.approx(1)


@pytest.mark.parametrize("name", BUDGETED)
def test_strategy_keeps_its_budget_when_all_gradients_are_zero(
    name: str, make_state: Callable[..., State]
) -> None:
    # given a model that is certain and correct for all examples
    state = make_state(count=20)
    logits = 1e4 * functional.one_hot(state.labels, 3).double()
    outputs = Outputs(logits, state.train().features, state.labels)
    state = replace(state, train=lambda: outputs, validation=lambda: outputs)
    assert not outputs.errors.any()
    for k in (1, 7, 20):
        # when
        chosen = strategy(name, Choices()).select(state, k)
        # then
        assert len(set(chosen.indices.tolist())) == len(chosen.weights) == k
        assert (chosen.weights > 0).all()


@pytest.mark.parametrize("name", MAKERS)
def test_resumed_strategy_equals_an_uninterrupted_one(name: str, make_state: Callable[..., State]) -> None:
    # given a state that has losses in every epoch
    state = make_state(count=30, losses=torch.arange(30.0))
    whole, first, second = (strategy(name, Choices(interval=3)) for _ in range(3))
    # when one run is stopped after 4 of 9 epochs
    expected = [whole.select(replace(state, epoch=epoch), 7) for epoch in range(9)]
    found = [first.select(replace(state, epoch=epoch), 7) for epoch in range(4)]
    second.load_state_dict(first.state_dict())
    found += [second.select(replace(state, epoch=epoch), 7) for epoch in range(4, 9)]
    # then both runs have selected the same examples
    for ours, theirs in zip(expected, found, strict=True):
        assert torch.equal(ours.indices, theirs.indices)
        assert torch.equal(ours.weights, theirs.weights)


@pytest.mark.parametrize("k", [1, 5, 6, 7, 12])
def test_adaptive_random_uses_all_before_it_repeats(k: int, make_state: Callable[..., State]) -> None:
    # given
    state, random = make_state(), AdaptiveRandom()
    # when 12 epochs make k passes over 12 examples
    chosen = [random.select(replace(state, epoch=epoch), k).indices for epoch in range(12)]
    # then no epoch repeats an example, and each pass has every example once
    assert all(len(set(each.tolist())) == k for each in chosen)
    for used in torch.cat(chosen).split(12):
        assert used.sort().values.tolist() == list(range(12))


def test_adaptive_random_differs_between_seeds_and_epochs(make_state: Callable[..., State]) -> None:
    def drawn(seed: int) -> list[list[int]]:
        state, random = make_state(seed=seed), AdaptiveRandom()
        return [random.select(replace(state, epoch=epoch), 12).indices.tolist() for epoch in range(2)]

    first, again, other = drawn(0), drawn(0), drawn(1)
    assert first == again
    assert first[0] != first[1]
    assert first != other


def test_plan_shortens_epochs_or_subsets() -> None:
    assert plan(FEWER_EPOCHS, 0.3, 40, 1000) == (12, 1000)
    assert plan("glister", 0.3, 40, 1000) == (40, 300)
    assert plan("glister", 0.0001, 40, 1000) == (40, 1)
