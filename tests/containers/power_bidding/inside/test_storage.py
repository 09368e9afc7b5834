"""The linear program of the battery: its optimum equals that of another formulation and another solver. Also
input that is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

from power_forecaster.storage import Asset, OptimizationError, Scheduler

BATTERY = Asset(power=8, energy=32, charge_efficiency=0.85)


def random_asset(generator: np.random.Generator) -> Asset:
    return Asset(
        power=generator.uniform(1, 10),
        energy=generator.uniform(1, 40),
        charge_efficiency=generator.uniform(0.6, 1),
        discharge_efficiency=generator.uniform(0.6, 1),
        retention=generator.choice([1.0, 0.99]),
        degradation=generator.choice([0.0, 5.0]),
    )


def independent(asset: Asset, prices: Any, level: float, final: float) -> float | None:
    """Return the optimum of an equivalent linear program without variables for levels, which are sums over
    all earlier hours."""
    hours = len(prices)
    k = np.arange(hours)
    left = np.where(k[:, None] >= k, asset.retention ** np.maximum(k[:, None] - k, 0), 0.0)
    change = np.hstack([left * asset.charge_efficiency, -left / asset.discharge_efficiency])
    start = asset.retention ** (k + 1) * level
    least = np.full(hours, asset.lowest)
    least[-1] = max(least[-1], final)
    both = np.hstack([np.eye(hours), np.eye(hours)])
    cost = np.concatenate([prices, asset.degradation - prices])
    limits = np.concatenate([asset.energy - start, start - least, np.full(hours, asset.power)])
    found = linprog(cost, np.vstack([change, -change, both]), limits, bounds=(0, asset.power))
    return -found.fun if found.status == 0 else None


def test_schedule_is_optimal_on_a_thousand_random_programs() -> None:
    generator = np.random.default_rng(0)
    infeasible = 0
    for _ in range(500):
        # given an asset, prices, an initial level and a required final level
        asset, hours = random_asset(generator), int(generator.integers(1, 30))
        prices = generator.normal(30, 40, hours)
        level = generator.uniform(0, asset.energy)
        program = Scheduler(asset, hours)
        for final in (0.0, generator.uniform(0, asset.energy)):
            # when the scheduler and the equivalent linear program are solved
            expected = independent(asset, prices, level, final)
            try:
                found = program.solve(prices, level, final)
            except OptimizationError:
                assert expected is None
                infeasible += 1
                continue
            # then both optima are the same, and the schedule is feasible
            assert found.profit(prices, asset) == pytest.approx(expected, rel=1e-6, abs=1e-6)
            check(found, asset, level, final)
    assert 0 < infeasible < 500


def check(found: Any, asset: Asset, level: float, final: float) -> None:
    for hour in range(len(found.level)):
        level = (
            asset.retention * level
            + asset.charge_efficiency * found.charge[hour]
            - found.discharge[hour] / asset.discharge_efficiency
        )
        assert level == pytest.approx(found.level[hour], abs=1e-6)
        assert -1e-6 <= level <= asset.energy + 1e-6
        assert found.charge[hour] + found.discharge[hour] <= asset.power + 1e-6
    assert level >= final - 1e-6


def test_negative_price_does_not_charge_and_discharge_beyond_the_power() -> None:
    found = Scheduler(BATTERY, 3).solve([-50, -60, -40])
    assert (found.charge + found.discharge <= 8 + 1e-9).all()
    assert found.profit(np.array([-50.0, -60, -40]), BATTERY) == pytest.approx(8 * 150)


def test_output_changes_by_the_ramp_limit_at_most() -> None:
    prices = np.random.default_rng(2).normal(30, 20, 24)
    net = Scheduler(replace(BATTERY, ramp=3), 24).solve(prices, 10, before=5.0).net
    assert np.abs(np.diff(net, prepend=5.0)).max() == pytest.approx(3)
    free = Scheduler(BATTERY, 24).solve(prices, 10).net
    assert np.abs(np.diff(free)).max() > 3


def test_schedule_keeps_the_assets_initial_and_final_charge() -> None:
    asset = replace(BATTERY, initial=6, final=4)
    found = Scheduler(asset, 4).solve([10, 20, 30, 40])
    check(found, asset, 6, 4)
    assert found.level[-1] == pytest.approx(4)
    assert Scheduler(asset, 4).solve([10, 20, 30, 40], level=4).level[0] <= 4 + 8 * 0.85


def test_water_value_is_the_profit_of_one_more_unit() -> None:
    prices = np.random.default_rng(1).normal(30, 20, 24)
    program = Scheduler(BATTERY, 24)
    before, after = (program.solve(prices, level).profit(prices, BATTERY) for level in (10, 10.001))
    assert program.solve(prices, 10).water_value[0] == pytest.approx((after - before) / 0.001, abs=1e-3)


@pytest.mark.parametrize("prices", [[1.0, float("nan"), 2.0], [1.0, float("inf"), 2.0], [1.0, 2.0]])
def test_prices_that_are_no_numbers_are_refused(prices: Any) -> None:
    with pytest.raises(OptimizationError, match="prices must be 3 finite numbers"):
        Scheduler(BATTERY, 3).solve(prices)


def test_unreachable_final_charge_is_refused_and_the_next_program_solved() -> None:
    program = Scheduler(replace(BATTERY, power=1), 2)
    with pytest.raises(OptimizationError, match="no optimum"):
        program.solve([10, 20], final=30)
    assert program.solve([10, 20]).profit(np.array([10.0, 20]), BATTERY) == pytest.approx(20 * 0.85 - 10)
