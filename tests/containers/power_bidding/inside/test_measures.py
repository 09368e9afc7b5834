"""Confidence intervals by resampling blocks of days."""

from __future__ import annotations

import numpy as np

from power_forecaster import measures


def test_capture_is_a_ratio_of_sums() -> None:
    found = measures.capture(np.array([1.0, 3, 2, 4] * 10), np.array([2.0, 4, 2, 4] * 10))
    assert found.value == 100 / 120
    assert found.low < found.value < found.high


def test_difference_of_equal_series_is_zero() -> None:
    days = np.random.default_rng(0).uniform(1, 2, 100)
    assert measures.difference(days, days, days) == measures.Interval(0, 0, 0)


def test_interval_covers_the_truth_where_days_depend_on_each_other() -> None:
    # given many series of daily differences with mean 0, in which each day depends on the previous one
    generator = np.random.default_rng(0)
    missed = 0
    for _ in range(200):
        noise = generator.normal(size=365)
        for day in range(1, 365):
            noise[day] += 0.5 * noise[day - 1]
        found = measures.difference(noise, np.zeros(365), np.full(365, 10.0))
        missed += not found.low < 0 < found.high
    # then fewer than 30 of the 200 intervals exclude 0
    assert missed < 30
