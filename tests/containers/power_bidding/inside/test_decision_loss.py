"""The decision loss, which is 0 for a perfect forecast and never below the regret, and its gradient."""

from __future__ import annotations

import numpy as np
import pytest

from power_forecaster.decision_loss import STEEPEST, DecisionLoss, clipped
from power_forecaster.history import Doubles
from power_forecaster.scale import Scale
from power_forecaster.storage import Asset, Scheduler

DAYS = 200
WORN = Asset(
    power=5, energy=18, discharge_efficiency=0.9, retention=0.99, degradation=4, initial=6, final=9, ramp=4
)


def random_prices(seed: int) -> Doubles:
    """Return the prices of DAYS days, with spikes, negative prices, equal prices and a flat day."""
    generator = np.random.default_rng(seed)
    prices = 30 + 15 * np.sin(np.arange(24) / 4) + generator.normal(0, 12, (DAYS, 24))
    prices[generator.integers(DAYS, size=20), generator.integers(24, size=20)] *= 50
    prices[::2] = np.round(prices[::2], -1)
    prices[1] = 30
    return prices


def random_forecasts(scale: Scale, prices: Doubles) -> Doubles:
    """Return scaled forecasts, good and bad ones."""
    generator = np.random.default_rng(9)
    width = generator.choice([0.01, 0.3, 2], (DAYS, 1))
    return scale.scaled(prices) + width * generator.normal(size=(DAYS, 24))


def test_perfect_forecast_has_no_loss_and_no_gradient() -> None:
    prices = random_prices(0)
    scale = Scale.of(prices)
    order = np.random.default_rng(0).permutation(DAYS)
    losses, gradients = DecisionLoss(prices, scale, Asset())(scale.scaled(prices)[order], order)
    assert not losses.any()
    assert not gradients.any()


@pytest.mark.parametrize("asset", [Asset(), WORN], ids=["plain", "worn"])
def test_loss_is_at_least_the_regret(asset: Asset) -> None:
    # given forecasts, and the regret of each: the revenue of the best schedule minus the revenue of the
    # schedule that is made from the forecast
    prices = random_prices(1)
    scale = Scale.of(prices)
    scaled = random_forecasts(scale, prices)
    scheduler = Scheduler(asset, 24)

    def regret(day: int) -> float:
        schedules = [scheduler.solve(each) for each in (prices[day], scale.prices(scaled[day]))]
        best, ours = (each.profit(prices[day], asset) for each in schedules)
        return (best - ours) / (asset.power * max(prices[day].std(), scale.width))

    regrets = np.array([regret(day) for day in range(DAYS)])
    # when the losses are computed
    losses, _ = DecisionLoss(prices, scale, asset)(scaled, np.arange(DAYS))
    # then each loss is at least the regret, which is above 0.01 for many of the forecasts
    assert (regrets > 0.01).mean() > 0.4
    assert (losses >= regrets - 1e-6).all()


@pytest.mark.parametrize("asset", [Asset(), WORN], ids=["plain", "worn"])
def test_gradient_is_that_of_finite_differences(asset: Asset) -> None:
    # given forecasts and a direction for each
    prices = random_prices(2)
    scale = Scale.of(prices)
    scaled, days = random_forecasts(scale, prices), np.arange(DAYS)
    direction = np.random.default_rng(3).normal(size=(DAYS, 24))
    loss = DecisionLoss(prices, scale, asset)
    # when the loss is computed at each forecast, and a small step before and after it in this direction
    step = 1e-5
    before, (here, gradients), after = (loss(scaled + sign * step * direction, days) for sign in (-1, 0, 1))
    ahead, behind = (after[0] - here) / step, (here - before[0]) / step
    # then the gradient agrees with the difference, except where the loss has a kink
    smooth = np.abs(ahead - behind) < 1e-2 * (1 + np.abs(ahead))
    change = (gradients * direction).sum(1)
    assert smooth.mean() > 0.9
    assert change[smooth] == pytest.approx((ahead + behind)[smooth] / 2, rel=1e-2, abs=1e-2)
    assert (np.abs(change) > 0.1).mean() > 0.4


def test_loss_of_a_day_with_spikes_has_the_same_size() -> None:
    # given a day, and a day whose prices and forecasts are a hundred times as large
    generator = np.random.default_rng(4)
    prices = 100 * generator.normal(size=(1, 24))
    scale, forecasts = Scale(0, 20), prices + 50 * generator.normal(size=(1, 24))
    both = np.concatenate([prices, 100 * prices])
    given = scale.scaled(np.concatenate([forecasts, 100 * forecasts]))
    # when the losses of both days are computed, then they are equal
    (usual, spiky), gradients = DecisionLoss(both, scale, Asset())(given, np.arange(2))
    assert spiky == pytest.approx(usual)
    assert np.abs(gradients[1]).max() < 2 * np.abs(gradients[0]).max()


def test_only_gradients_that_are_too_long_are_clipped() -> None:
    given = np.zeros((3, 24))
    given[1, :2] = 3, 4
    given[2, :2] = 300, 400
    found = clipped(given)
    assert (found[:2] == given[:2]).all()
    assert found[2, :2] == pytest.approx(np.array([0.6, 0.8]) * STEEPEST)
