"""Forecasts: they use no data from after the deadline, find a pattern, and combine all model families."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from power_forecaster import backtest, day_ahead
from power_forecaster.ensemble import weights
from power_forecaster.history import EXTERNAL, REAL_TIME, History
from power_forecaster.panel import Panel
from power_forecaster.storage import Asset

DAYS, LAST = 100, 70
"""Number of days in the history, and number of the first day that is forecast."""


def history(seed: int = 0) -> History:
    """Prices that depend on the load of two days before, with noise and spikes."""
    generator = np.random.default_rng(seed)
    hours = 24 * DAYS
    load = 1000 + 200 * np.sin(2 * np.pi * np.arange(hours) / 24) + generator.normal(0, 80, hours)
    prices = 30 + 0.05 * (np.roll(load, 48) - 1000) + generator.normal(0, 2, hours)
    prices[generator.integers(hours, size=20)] *= 8
    feeds = {
        "load": load,
        REAL_TIME: prices + generator.normal(0, 5, hours),
        EXTERNAL: prices + generator.normal(0, 5, hours),
    }
    return History(455_832, prices, feeds, "UTC")


def forecasts(found: History) -> dict[str, np.ndarray]:
    return backtest.forecasts(Panel.of(found), LAST, LAST + 1, 0, Asset())


@cache
def true_forecasts() -> dict[str, np.ndarray]:
    """Return the forecasts of `history()` from day LAST on."""
    return backtest.forecasts(Panel.of(history()), LAST, DAYS, 0, Asset())


def test_forecast_does_not_change_with_the_future() -> None:
    # given two histories that are equal in the data known when bids for day LAST are due: prices before this
    # day, feeds before the previous day, and an external forecast up to the end of this day
    other = history()
    noise = np.random.default_rng(1)
    other.prices[24 * LAST :] = noise.normal(500, 100, 24 * (DAYS - LAST))
    for name in ("load", REAL_TIME):
        other.feeds[name][24 * (LAST - 1) :] = noise.normal(5000, 100, 24 * (DAYS - LAST + 1))
    other.feeds[EXTERNAL][24 * (LAST + 1) :] = noise.normal(500, 100, 24 * (DAYS - LAST - 1))
    # when the same day is forecast from both histories
    ours, theirs = true_forecasts(), forecasts(other)
    # then the forecasts are identical, and none is missing
    assert len(ours) == 13
    for name, found in ours.items():
        assert np.isfinite(found[LAST]).all(), name
        assert (found[LAST] == theirs[name][LAST]).all(), name


def test_forecast_changes_with_the_last_price_that_is_known() -> None:
    other = history()
    other.prices[24 * LAST - 1] += 500
    ours, theirs = true_forecasts(), forecasts(other)
    named = ("linear, 364 days", "boosted trees", "recurrent network", "persistence", backtest.COMBINED)
    decided = [name + backtest.DECIDED for name in ("recurrent network", backtest.COMBINED)]
    for name in (*named, *decided):
        assert (ours[name][LAST] != theirs[name][LAST]).any(), name


def test_decision_loss_changes_the_network_and_the_combination() -> None:
    found = true_forecasts()
    for name in ("recurrent network", backtest.COMBINED):
        assert (found[name + backtest.DECIDED][LAST] != found[name][LAST]).any(), name


def test_models_use_the_signal_of_a_feed() -> None:
    panel = Panel.of(history())
    found = true_forecasts()
    later = slice(LAST, DAYS)
    error = {name: np.median(np.abs(each[later] - panel.prices[later])) for name, each in found.items()}
    for name in ("linear, 364 days", "boosted trees", backtest.COMBINED):
        assert error[name] < 0.9 * error["persistence"], name


def test_external_forecast_is_used_when_available() -> None:
    # given an external forecast that is exact, except that it is missing on the last day
    true = history()
    true.feeds[EXTERNAL][:] = true.prices
    true.feeds[EXTERNAL][-24:] = np.nan
    panel = Panel.of(true)
    found = {family.name: day_ahead.walk(panel, family, 60, DAYS).forecasts for family in quick(panel)}
    # when the forecasts are combined
    combined = day_ahead.combined(panel, found, DAYS - 2, DAYS)
    # then the external forecast has most of the weight, and other forecasts are used where it is missing
    shares = day_ahead.shares(panel, found, DAYS - 2, prior=0)
    assert shares[day_ahead.EXTERNAL] == pytest.approx(1, abs=1e-6)
    assert day_ahead.EXTERNAL not in day_ahead.shares(panel, found, DAYS - 1)
    assert np.isfinite(combined[DAYS - 1]).all()


def quick(panel: Panel) -> list[day_ahead.Family]:
    """Return the model families that need no training."""
    slow = (day_ahead.BOOSTED, day_ahead.RECURRENT)
    return [family for family in day_ahead.families(0, panel) if family.name not in slow]


def test_feed_that_is_missing_is_no_feature() -> None:
    # given a feed without any value, and a feed that ends before the forecast day
    true = history()
    true.feeds["temperature"] = np.full_like(true.prices, np.nan)
    true.feeds["load"][24 * 60 :] = np.nan
    found = forecasts(true)
    for name, each in found.items():
        assert np.isfinite(each[LAST]).all(), name


def test_weights_go_to_the_better_forecast() -> None:
    # given three forecasts: an exact forecast, the exact forecast plus 5, and noise
    generator = np.random.default_rng(0)
    actual = generator.normal(size=(100, 24))
    every = np.stack([actual, actual + 5, generator.normal(size=(100, 24))])
    # when weights are learnt, then the noise gets no weight
    found = weights(every, actual, prior=0)
    assert found.sum() == pytest.approx(1)
    assert found[2] == pytest.approx(0, abs=1e-6)
    # and with a strong prior all weights are equal
    assert weights(every, actual, prior=1e9) == pytest.approx(np.full(3, 1 / 3), abs=1e-3)
