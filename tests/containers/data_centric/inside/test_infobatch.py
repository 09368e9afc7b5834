"""InfoBatch leaves out examples without biasing the gradient."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from subset_training.selection import State
from subset_training.strategies.infobatch import InfoBatch

LOSSES = torch.tensor([0.1, 0.2, 0.3, 0.1, 0.2, 5.0, 4.0, 6.0, torch.nan, 0.2, 0.3, 0.1])
MEAN = LOSSES.nanmean()
BELOW = LOSSES < MEAN


def test_infobatch_keeps_half_of_those_below_the_mean(make_state: Callable[..., State]) -> None:
    chosen = InfoBatch().select(make_state(losses=LOSSES, epoch=1), 1)
    kept = torch.zeros(12, dtype=torch.bool)
    kept[chosen.indices] = True
    assert kept[~BELOW].all()
    assert kept[BELOW].sum() == BELOW.sum() // 2
    assert torch.equal(chosen.weights, torch.where(BELOW, 2.0, 1.0)[chosen.indices])
    assert chosen.weights.sum() == 12


@pytest.mark.parametrize("pruned", [0.3, 0.5, 0.9])
def test_expected_gradient_of_infobatch_is_the_full_one(
    pruned: float, make_state: Callable[..., State]
) -> None:
    # given
    draws, strategy = 1000, InfoBatch(pruned)
    weights = torch.zeros(12)
    # when
    for epoch in range(draws):
        chosen = strategy.select(make_state(losses=LOSSES, epoch=epoch, epochs=10 * draws), 1)
        weights[chosen.indices] += chosen.weights / draws
        assert chosen.weights.sum() == pytest.approx(12)
    # then every example's mean weight is 1, within five standard errors
    count = max(1, round((1 - pruned) * 8))
    error = ((8 / count - 1) / draws) ** 0.5
    assert BELOW.sum() == 8
    assert (weights - 1).abs().max() < 5 * error
    assert torch.equal(weights[~BELOW].round(decimals=3), torch.ones(4))


@pytest.mark.parametrize(("epoch", "count"), [(10, 8), (11, 12)])
def test_last_epochs_of_infobatch_use_all(epoch: int, count: int, make_state: Callable[..., State]) -> None:
    # of 12 epochs, those from 0.875 * 12 = 10.5 on use all examples
    assert len(InfoBatch().select(make_state(losses=LOSSES, epoch=epoch), 1).indices) == count


def test_first_epoch_of_infobatch_uses_all(make_state: Callable[..., State]) -> None:
    assert len(InfoBatch().select(make_state(), 1).indices) == 12
