"""Regulation and energy: the optimum equals that of other formulations and another solver, and the battery
can follow calls of all sold capacity."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

from power_forecaster.regulation import (
    Prices,
    RegulatedSchedule,
    Regulation,
    RegulationScheduler,
    regulation_of,
)
from power_forecaster.storage import Asset, OptimizationError, Scheduler
from toolkit.failure import FatalError

BATTERY = Asset(power=8, energy=32, charge_efficiency=0.85)
CLOSE = 1e-6


def random_asset(generator: np.random.Generator) -> Asset:
    energy = generator.uniform(1, 40)
    return Asset(
        power=generator.uniform(1, 10),
        energy=energy,
        charge_efficiency=generator.uniform(0.6, 1),
        discharge_efficiency=generator.uniform(0.6, 1),
        retention=generator.choice([1.0, 0.99]),
        degradation=generator.choice([0.0, 5.0]),
        lowest=generator.choice([0.0, 0.1]) * energy,
        initial=generator.uniform(0.2, 1) * energy,
    )


def random_terms(generator: np.random.Generator) -> Regulation:
    return Regulation(
        called_up=generator.choice([0.0, generator.uniform(0, 0.5)]),
        called_down=generator.choice([0.0, generator.uniform(0, 0.5)]),
        sustained=generator.choice([0.0, 1.0, generator.uniform(0, 1)]),
    )


def random_prices(generator: np.random.Generator, hours: int) -> Prices:
    return Prices(
        generator.normal(30, 40, hours), generator.normal(10, 10, hours), generator.normal(6, 8, hours)
    )


def sums(asset: Asset, hours: int) -> tuple[Any, Any]:
    """Return the share of the energy stored in hour `from` that is left in hour `to`, [to, from], and what is
    left of the initial level in hour `to`, [to]."""
    k = np.arange(hours)
    left = np.where(k[:, None] >= k, asset.retention ** np.maximum(k[:, None] - k, 0), 0.0)
    return left, asset.retention ** (k + 1) * asset.initial


def independent(asset: Asset, terms: Regulation, prices: Prices, final: float) -> float | None:
    """Return the optimum of an equivalent linear program that has no variables for levels and capacities:
    they are sums and differences of other variables."""
    hours = len(prices.energy)
    one, none = np.eye(hours), np.zeros((hours, hours))
    shares = [1 - terms.called_up - terms.called_down, terms.called_up, terms.called_down]
    left, before = sums(asset, hours)

    def states(*blocks: Any) -> Any:
        """Return the coefficients of charge and discharge in each of three states: no call, call up and call
        down."""
        return np.hstack(blocks)

    def output(*signs: float) -> Any:
        return states(*(part for sign in signs for part in (-sign * one, sign * one)))

    def stored(*shares: float) -> Any:
        return states(
            *(
                part
                for share in shares
                for part in (share * asset.charge_efficiency * one, -share / asset.discharge_efficiency * one)
            )
        )

    level = left @ stored(*shares)
    least = np.full(hours, asset.lowest)
    least[-1] = max(asset.lowest, final)
    rows = [
        (level, asset.energy - before),
        (-level, before - least),
        (states(one, one, none, none, none, none), np.full(hours, asset.power)),
        (states(none, none, one, one, none, none), np.full(hours, asset.power)),
        (states(none, none, none, none, one, one), np.full(hours, asset.power)),
        (-output(-1, 1, 0), np.zeros(hours)),
        (-output(1, 0, -1), np.zeros(hours)),
    ]
    if terms.sustained:
        earlier = np.vstack([np.zeros((1, 6 * hours)), asset.retention * level[:-1]])
        kept = asset.retention * np.concatenate([[asset.initial], before[:-1]])
        rest = 1 - terms.sustained
        rows += [
            (-earlier - stored(rest, terms.sustained, 0), kept - asset.lowest),
            (earlier + stored(rest, 0, terms.sustained), asset.energy - kept),
        ]
    gain = prices.energy @ output(*shares)
    gain += prices.up @ output(-1, 1, 0) + prices.down @ output(1, 0, -1)
    wear = [np.full(hours, share * asset.degradation * sold) for share in shares for sold in (0, 1)]
    found = linprog(
        np.concatenate(wear) - gain,
        np.vstack([row for row, _ in rows]),
        np.concatenate([limit for _, limit in rows]),
        bounds=(0, asset.power),
    )
    return -found.fun if found.status == 0 else None


def quest(asset: Asset, terms: Regulation, prices: Prices) -> float | None:
    """Return the optimum of QuEST's formulation: arbitrage, regulation up and regulation down share one power
    limit, and the energy of calls is added."""
    hours = len(prices.energy)
    one = np.eye(hours)
    left, before = sums(asset, hours)
    gained, lost = asset.charge_efficiency * left, left / asset.discharge_efficiency
    level = np.hstack([gained, -lost, -terms.called_up * lost, terms.called_down * gained])
    energy = prices.energy
    gain = np.concatenate(
        [
            -energy,
            energy - asset.degradation,
            prices.up + terms.called_up * (energy - asset.degradation),
            prices.down - terms.called_down * energy,
        ]
    )
    rows = np.vstack([level, -level, np.hstack([one, one, one, one])])
    limits = np.concatenate([asset.energy - before, before - asset.lowest, np.full(hours, asset.power)])
    found = linprog(-gain, rows, limits, bounds=(0, None))
    return -found.fun if found.status == 0 else None


def levels_after_full_calls(
    found: RegulatedSchedule, asset: Asset, share: float, up: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the highest and the lowest level after each hour, if all sold capacity is called for a share of
    the hour.

    Each hour starts from the level that the schedule expects. Alternating between charge and discharge lowers
    the level, because of losses.
    """
    before = asset.retention * np.concatenate([[asset.initial], found.level[:-1]])
    net = found.net + (found.up if up else -found.down)
    idle = (asset.power - np.abs(net)) / 2
    most = np.minimum(-net / asset.discharge_efficiency, -net * asset.charge_efficiency)
    wasted = idle * (1 / asset.discharge_efficiency - asset.charge_efficiency)
    scheduled = asset.charge_efficiency * found.charge - found.discharge / asset.discharge_efficiency
    high = before + share * most + (1 - share) * scheduled
    return high, high - share * wasted


def test_schedule_is_optimal_on_four_hundred_random_programs() -> None:
    generator = np.random.default_rng(0)
    infeasible = sold = 0
    for _ in range(200):
        # given an asset, terms and prices
        asset, terms = random_asset(generator), random_terms(generator)
        hours = int(generator.integers(1, 13))
        program = RegulationScheduler(asset, terms, hours)
        for final in (0.0, generator.uniform(0, asset.energy)):
            prices = random_prices(generator, hours)
            # when the scheduler and the equivalent linear program are solved
            expected = independent(asset, terms, prices, final)
            try:
                found = program.solve(prices, final=final)
            except OptimizationError:
                assert expected is None
                infeasible += 1
                continue
            # then both optima are the same
            assert found.profit(prices, asset) == pytest.approx(expected, rel=CLOSE, abs=CLOSE)
            sold += (found.up.max() > CLOSE) + (found.down.max() > CLOSE)
    assert 0 < infeasible < 200 < sold


def test_without_capacity_prices_the_optimum_is_that_of_energy() -> None:
    generator = np.random.default_rng(1)
    for _ in range(100):
        asset, terms = random_asset(generator), random_terms(generator)
        energy = generator.normal(0, 40, 12)
        free = Prices(energy, np.zeros(12), np.zeros(12))
        found = RegulationScheduler(asset, terms, 12).solve(free).profit(free, asset)
        expected = Scheduler(asset, 12).solve(energy).profit(energy, asset)
        assert found == pytest.approx(expected, rel=CLOSE, abs=CLOSE)


def test_shared_power_has_the_optimum_of_quests_formulation() -> None:
    generator = np.random.default_rng(2)
    for _ in range(200):
        asset, prices = random_asset(generator), random_prices(generator, 12)
        terms = replace(random_terms(generator), sustained=0.0, shared_power=True)
        found = RegulationScheduler(asset, terms, 12).solve(prices)
        together = found.charge + found.discharge + found.up + found.down
        assert together.max() <= asset.power + CLOSE
        assert found.profit(prices, asset) == pytest.approx(quest(asset, terms, prices), rel=CLOSE, abs=CLOSE)


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_full_calls_are_followed_within_power_and_store(share: float) -> None:
    generator = np.random.default_rng(3)
    tight = 0
    for _ in range(100):
        # given a schedule that sells capacity
        asset, prices = random_asset(generator), random_prices(generator, 12)
        terms = replace(random_terms(generator), sustained=share)
        found = RegulationScheduler(asset, terms, 12).solve(prices)
        # when all capacity of one direction is called for the given share of an hour, then the power limit is
        # kept
        assert (found.net + found.up).max() <= asset.power + CLOSE
        assert (found.net - found.down).min() >= -asset.power - CLOSE
        # and the battery's level stays within its bounds
        high, _ = levels_after_full_calls(found, asset, share, up=True)
        _, low = levels_after_full_calls(found, asset, share, up=False)
        assert high.min() >= asset.lowest - CLOSE
        assert low.max() <= asset.energy + CLOSE
        tight += high.min() < asset.lowest + CLOSE or low.max() > asset.energy - CLOSE
    assert tight > 50


def test_store_is_emptied_where_calls_need_not_be_sustained() -> None:
    asset = replace(BATTERY, initial=2)
    prices = Prices(np.array([30.0]), np.array([50.0]), np.zeros(1))
    # given 2 MWh in the battery; when calls need not be sustained, then 16 MW of capacity up are sold,
    # although a call for the whole hour would need 8 MWh
    free = RegulationScheduler(asset, Regulation(sustained=0), 1).solve(prices)
    high, _ = levels_after_full_calls(free, asset, 1.0, up=True)
    assert (free.net[0], free.up[0]) == (pytest.approx(-8), pytest.approx(16))
    assert high[0] == pytest.approx(2 - 8)
    # and when calls must be sustained, then only 10 MW are sold, for which the 2 MWh suffice
    assert RegulationScheduler(asset, Regulation(), 1).solve(prices).up[0] == pytest.approx(8 + 2)


def test_call_up_while_charging_only_lessens_the_charge() -> None:
    # given an empty battery that must have 3.4 MWh after an hour, and a high price for capacity up
    prices = Prices(np.array([20.0]), np.array([100.0]), np.zeros(1))
    terms = Regulation(called_up=0.5, called_down=0)
    # when the hour is scheduled, then the battery charges at 8 MW, and at 0 MW in the half hour in which
    # capacity up is called
    found = RegulationScheduler(BATTERY, terms, 1).solve(prices, final=3.4)
    assert (found.net[0], found.up[0]) == (pytest.approx(-8), pytest.approx(8))
    assert found.level[0] == pytest.approx(0.5 * 8 * 0.85)
    assert found.profit(prices, BATTERY) == pytest.approx(-4 * 20 + 8 * 100)


def test_solve_starts_at_the_level_of_the_caller() -> None:
    prices = random_prices(np.random.default_rng(4), 24)
    program = RegulationScheduler(BATTERY, Regulation(), 24)
    for level in (0.0, 20.0, 7.0):
        expected = independent(replace(BATTERY, initial=level), Regulation(), prices, 0.0)
        assert program.solve(prices, level).profit(prices, BATTERY) == pytest.approx(expected)


def test_scheduled_output_keeps_the_ramp_limit() -> None:
    prices = random_prices(np.random.default_rng(5), 24)
    found = RegulationScheduler(replace(BATTERY, ramp=3, initial=10), Regulation(), 24).solve(prices)
    assert np.abs(np.diff(found.net)).max() == pytest.approx(3)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("energy", "prices must be 2 finite numbers"),
        ("up", "prices of regulation up must be 2 finite numbers"),
        ("down", "prices of regulation down must be 2 finite numbers"),
    ],
)
def test_prices_that_are_no_numbers_are_refused(field: str, message: str) -> None:
    prices = replace(Prices(np.ones(2), np.ones(2), np.ones(2)), **{field: np.array([1.0, np.nan])})
    with pytest.raises(OptimizationError, match=message):
        RegulationScheduler(BATTERY, Regulation(), 2).solve(prices)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (True, r"a.toml: regulation must be a table such as \[regulation\], got True"),
        (
            {"calls": 1},
            r"a.toml: regulation\.calls is unknown, must be one of called_up, called_down, ",
        ),
        ({"called_up": "1"}, "a.toml: regulation.called_up must be a number, got '1'"),
        ({"shared_power": 1}, "a.toml: regulation.shared_power must be true or false, got 1"),
        ({"sustained": 1.5}, "regulation: sustained must be a number from 0 to 1, got 1.5"),
        ({"called_up": float("nan")}, "regulation: called_up must be a number from 0 to 1, got nan"),
        (
            {"called_up": 0.8},
            "regulation: the sum of called_up and called_down must be at most 1, got 0.8 and",
        ),
    ],
)
def test_invalid_terms_are_refused(given: Any, message: str) -> None:
    with pytest.raises(FatalError, match=message):
        regulation_of(given, "a.toml")
