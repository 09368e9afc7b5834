"""Real-time curves: their form, the delivery of awards, settlement, and independence of later prices."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from power_forecaster import curves, real_time, replay, settlement, water_value
from power_forecaster.curves import Curve, Terms
from power_forecaster.replay import Market
from power_forecaster.storage import Asset, OptimizationError, Scheduler
from power_forecaster.water_value import Errors, Limits

BATTERY = Asset()
TERMS = Terms(floor=-150, cap=2000)
HOURS = real_time.HORIZON
LIMITS: dict[str, Any] = {"floor": -150, "cap": 2000, "most_segments": 10, "least_mw": 0.1}


def random_asset(generator: np.random.Generator) -> Asset:
    energy = generator.uniform(2, 40)
    return Asset(
        power=generator.uniform(1, 10),
        energy=energy,
        charge_efficiency=generator.uniform(0.6, 1),
        discharge_efficiency=generator.uniform(0.6, 1),
        retention=generator.choice([1.0, 0.99]),
        lowest=generator.choice([0.0, energy / 10]),
        degradation=generator.choice([0.0, 5.0]),
    )


def random_prices(generator: np.random.Generator, hours: int) -> Any:
    """Return random prices with some negative hours and some spikes."""
    prices = generator.normal(25, 30, hours)
    return np.where(generator.random(hours) < 0.05, generator.uniform(200, 3000, hours), prices)


def random_errors(generator: np.random.Generator) -> Errors:
    return Errors.seen(generator.standard_t(2, 500) * 20)


def random_market(seed: int, days: int = 4, intervals: int = 12) -> Market:
    generator = np.random.default_rng(seed)
    day_ahead = random_prices(generator, 24 * days)
    errors = generator.standard_t(2, (24 * days, intervals)) * 10
    return Market(day_ahead[:, None] + errors, day_ahead, published=11)


# --- the curve ---


def test_curve_has_the_form_that_markets_accept() -> None:
    generator = np.random.default_rng(0)
    for _ in range(100):
        # given
        asset, prices = random_asset(generator), random_prices(generator, int(generator.integers(1, HOURS)))
        level = generator.uniform(asset.lowest, asset.energy)
        most = int(generator.integers(1, 11))
        limits: dict[str, Any] = {"floor": -20, "cap": 500, "most_segments": most, "least_mw": 0.1}
        # when
        curve = real_time.curve(asset, prices, level, errors=random_errors(generator), **limits)
        # then
        assert 1 <= len(curve) <= most
        mw, at = zip(*curve, strict=True)
        assert at[0] == -20
        assert at[-1] <= 500
        assert (np.diff(mw) >= 0.1 - 1e-9).all()
        assert (np.diff(at) >= 0.01 - 1e-9).all()
        assert -asset.power <= mw[0] <= mw[-1] <= asset.power
        np.testing.assert_allclose(np.array(mw) / 0.1, np.round(np.array(mw) / 0.1), atol=1e-6)


def test_energy_is_sold_above_its_cost_after_losses() -> None:
    generator = np.random.default_rng(1)
    both = 0
    for _ in range(100):
        # given
        asset, prices = random_asset(generator), random_prices(generator, HOURS)
        level = generator.uniform(asset.lowest, asset.energy)
        # when
        curve = real_time.curve(asset, prices, level, errors=random_errors(generator), **LIMITS)
        # then charged energy costs less per MWh than sold energy earns
        ends_of_charging = [at for (mw, _), (_, at) in pairwise(curve) if mw < 0]
        sales = [at for mw, at in curve if mw > 0]
        if ends_of_charging and sales and sales[0] > TERMS.floor:
            both += 1
            losses = asset.charge_efficiency * asset.discharge_efficiency
            assert max(ends_of_charging) < min(sales) * losses or max(ends_of_charging) < min(sales) <= 0
    assert both > 60


def test_water_value_without_errors_is_the_dual() -> None:
    # given prices that are never negative
    generator = np.random.default_rng(2)
    asset = Asset(power=8, energy=32, charge_efficiency=0.8)
    program = Scheduler(asset, 11)
    close = 0
    for _ in range(50):
        prices = generator.uniform(5, 60, 12)
        # when
        values = water_value.water_values(asset, prices[None], Errors.none())[0]
        # then the water value at a level is the additional profit of one more MWh in the battery at the start
        # of the second hour
        level = float(generator.uniform(3, 29))
        earned = [program.solve(prices[1:], level + d).profit(prices[1:], asset) for d in (-2, 2)]
        found = np.interp([level - 1, level, level + 1], water_value.levels(asset), values).mean()
        close += abs(found - (earned[1] - earned[0]) / 4) < 2.5
    assert close >= 47


def test_errors_keep_mean_and_spikes() -> None:
    # given differences of real-time from expected prices: 0 except for one spike in a hundred, and a missing
    # value
    seen = np.zeros(1001)
    seen[:10], seen[1000] = 900.0, np.nan
    # when
    found = Errors.seen(seen)
    # then
    assert found.shares.sum() == pytest.approx(1)
    assert found.dollars @ found.shares == pytest.approx(water_value.ERROR_SHARE * 9)
    assert found.dollars.max() == pytest.approx(water_value.ERROR_SHARE * 900)


@pytest.mark.parametrize(
    ("prices", "awards", "message"),
    [
        ([1.0, float("nan")], None, "prices must be finite"),
        ([], None, "prices must be finite"),
        ([1.0, 2.0], [0.0], "awards must be 2 numbers, got 1"),
    ],
)
def test_input_that_cannot_be_bid_is_refused(prices: Any, awards: Any, message: str) -> None:
    with pytest.raises(OptimizationError, match=message):
        real_time.curve(BATTERY, prices, 0.0, awards=awards, **LIMITS)


# --- awards ---


def test_curve_delivers_sold_energy_and_takes_bought_energy() -> None:
    generator = np.random.default_rng(3)
    for sign in (1, -1):
        for _ in range(30):
            # given an award that the battery can deliver, and random prices
            awards = np.zeros(HOURS)
            awards[0] = sign * round(generator.uniform(0.5, 6), 1)
            prices = random_prices(generator, HOURS)
            # when
            curve = real_time.curve(
                BATTERY, prices, 16.0, awards=awards, errors=random_errors(generator), **LIMITS
            )
            # then the award is delivered at any price
            assert all(sign * mw >= abs(awards[0]) - 1e-9 for mw, _ in curve)


def test_energy_of_later_awards_is_kept_at_any_price() -> None:
    # given awards to sell 8 MW in each of two later hours, and 20 MWh in the battery
    awards = np.zeros(HOURS)
    awards[5:7] = 8
    prices = np.full(HOURS, 30.0)
    # when
    curve = real_time.curve(BATTERY, prices, 20.0, awards=awards, **LIMITS)
    # then, even at a price spike, only the energy that the awards do not need is sold
    assert curves.mw_at(curve, 1900) == 4
    # and without awards the asset sells at full power
    assert curves.mw_at(real_time.curve(BATTERY, prices, 20.0, **LIMITS), 1900) == 8


def test_room_for_later_purchases_is_kept_at_any_price() -> None:
    # given awards to buy, which need 13.6 MWh of free capacity, and 16 MWh in the battery
    awards = np.zeros(HOURS)
    awards[3:5] = -8
    # when
    curve = real_time.curve(BATTERY, np.full(HOURS, 30.0), 16.0, awards=awards, **LIMITS)
    # then the battery stores at most the 32 - 13.6 - 16 MWh that are left
    assert curves.mw_at(curve, -100) * -0.85 <= 32 - 13.6 - 16 + 1e-9
    assert curves.mw_at(curve, -100) < 0


def test_store_short_of_its_awards_buys_at_any_price() -> None:
    awards = np.zeros(HOURS)
    awards[1:4] = 8
    curve = real_time.curve(BATTERY, np.full(HOURS, 30.0), 20.0, awards=awards, **LIMITS)
    # then, even at a high price, the battery buys the 4 MWh that the awards lack, rounded up to a power step
    assert -4 / 0.85 - 0.4 <= curves.mw_at(curve, 1900) <= -4 / 0.85


def test_limits_are_those_of_delivering_the_awards_only() -> None:
    generator = np.random.default_rng(4)
    for _ in range(50):
        # given awards that can be delivered when the battery starts with 10 MWh
        awards = Scheduler(BATTERY, 12).solve(random_prices(generator, 12), 10.0).net
        limits = Limits.of(BATTERY, awards)
        # when the awards after the first hour are delivered, starting from the minimum level that they need
        level = float(limits.need[0])
        levels = [level := curves.level_after(BATTERY, level, mw) for mw in awards[1:]]
        # then the lowest level that the battery reaches is 0, unless the awards need no energy
        assert min(levels) == pytest.approx(0, abs=1e-6) or limits.need[0] == 0
        assert min(levels) >= -1e-6


# --- settlement ---


def test_store_never_leaves_its_bounds_in_settlement() -> None:
    generator = np.random.default_rng(5)
    for _ in range(200):
        # given
        asset = random_asset(generator)
        level = generator.uniform(asset.lowest, asset.energy)
        mw = np.sort(generator.uniform(-asset.power, asset.power, 4))
        curve: Curve = list(zip(mw.tolist(), [-150.0, 10.0, 20.0, 30.0], strict=True))
        for price in generator.uniform(-200, 100, 24):
            # when
            before = level
            dollars, level = settlement.settled(curve, [price], level, asset, 12)
            # then
            lowest = min(asset.lowest, before * asset.retention ** (1 / 12))
            assert lowest - 1e-9 <= level <= asset.energy + 1e-9
            # and the revenue is that of the delivered energy, less the degradation cost
            moved = before * asset.retention ** (1 / 12) - level
            sold = moved * asset.discharge_efficiency if moved > 0 else moved / asset.charge_efficiency
            cost = asset.degradation * max(sold, 0)
            assert dollars == pytest.approx(price * sold - cost, abs=1e-6)
            assert abs(sold) <= abs(curves.mw_at(curve, price)) / 12 + 1e-9


def test_foresight_earns_at_least_as_much_as_any_policy() -> None:
    market = random_market(6)
    best = settlement.foresight(BATTERY, market.real_time, [slice(0, 96)]).sum()
    for policy in policies(market).values():
        assert 0 < replay.replay(market, BATTERY, policy, 0, 96).dollars.sum() <= best


def test_foresight_of_one_interval_an_hour_is_the_schedule() -> None:
    prices = random_prices(np.random.default_rng(7), 48)
    found = settlement.foresight(BATTERY, prices[:, None], [slice(0, 48)])
    assert found.sum() == pytest.approx(Scheduler(BATTERY, 48).solve(prices).profit(prices, BATTERY))


# --- replay ---


def policies(market: Market) -> dict[str, replay.Policy]:
    return {
        "curve": replay.by_water_value(market, BATTERY, TERMS),
        "rolling": replay.rolling(BATTERY, TERMS),
        "self-schedule": replay.self_schedule(market, BATTERY, TERMS),
    }


def selector(market: Market, hours: int) -> replay.Policy:
    alone = {
        name: replay.replay(market, BATTERY, policy, 0, hours).daily
        for name, policy in policies(market).items()
    }
    return replay.selected(policies(market), alone, 0)


@pytest.mark.parametrize(
    ("name", "hour"),
    [
        *((name, hour) for name in ("curve", "rolling", "self-schedule") for hour in (47, 60, 72)),
        ("selector", 60),
    ],
)
def test_curves_do_not_depend_on_later_prices(name: str, hour: int) -> None:
    # given two histories that differ only in data that is unknown 75 minutes before the hour
    market, hours = random_market(8, days=5), 120
    real_time_prices, day_ahead = market.real_time.copy(), market.day_ahead.copy()
    generator = np.random.default_rng(9)
    real_time_prices[hour - 2, 9:] = generator.normal(50, 300, 3)
    real_time_prices[hour - 1 :] = generator.normal(50, 300, (hours - hour + 1, 12))
    day, now = divmod(hour - 2, 24)
    unknown = 24 * (day + (2 if now >= 11 else 1))
    day_ahead[unknown:] = generator.normal(50, 300, hours - unknown)
    other = Market(real_time_prices, day_ahead, market.published)
    # when both histories are replayed
    made: list[list[Curve]] = []
    for each in (market, other):
        policy = selector(each, hours) if name == "selector" else policies(each)[name]
        made.append(replay.replay(each, BATTERY, policy, 0, hours).curves)
    # then the curves up to the hour are identical, and later curves differ
    assert made[0][: hour + 1] == made[1][: hour + 1]
    assert made[0][hour + 1 :] != made[1][hour + 1 :]


def test_replay_carries_the_store_from_hour_to_hour() -> None:
    # given a policy that charges in the first four hours and sells in the last two
    market = random_market(10, days=1)
    mw = [8.0 if hour >= 22 else -8.0 if hour < 4 else 0.0 for hour in range(24)]
    # when
    found = replay.replay(market, BATTERY, lambda hour, *_: [(mw[hour], -150.0)], 0, 24)
    # then
    assert found.levels[3] == pytest.approx(4 * 8 * 0.85)
    assert found.levels[21] == pytest.approx(4 * 8 * 0.85)
    assert found.levels[23] == pytest.approx(4 * 8 * 0.85 - 16)
    assert found.dollars.sum() == pytest.approx(float(np.array(mw) @ market.real_time.mean(1)))


def test_level_is_projected_to_the_start_of_the_offered_hour() -> None:
    # given a battery that charges in every hour, and prices that are as forecast
    market = Market(np.full((24, 12), 20.0), np.full(24, 20.0), 11)
    seen: list[float] = []

    def policy(hour: int, expected: Any, level: float) -> Curve:
        seen.append(level)
        return [(-4.0, -150.0)]

    # when
    found = replay.replay(market, BATTERY, policy, 0, 24)
    # then each curve is made for the expected level at the start of its hour
    assert seen[1:] == pytest.approx(found.levels[:-1].tolist())


def test_selector_follows_the_policy_that_earned_most() -> None:
    # given policy b, which earns more than policy a on the first two days and less afterwards
    daily = {"a": np.array([0.0, 0, 9, 9, 9]), "b": np.array([1.0, 1, 0, 0, 0])}
    asked: list[str] = []

    def named(name: str) -> replay.Policy:
        def policy(hour: int, expected: Any, level: float) -> Curve:
            asked.append(name)
            return [(0.0, -150.0)]

        return policy

    # when
    policy = replay.selected({name: named(name) for name in daily}, daily, 0)
    for day in range(5):
        policy(24 * day, np.zeros(HOURS), 0.0)
    # then the previous day does not count yet, because it has not ended when the curve is due
    assert asked == ["a", "a", "b", "b", "a"]


def test_selector_ignores_days_before_the_trailing_window() -> None:
    dollars = np.zeros(real_time.TRAILING_DAYS + 1)
    old = dollars.copy()
    old[0] = 1000
    assert real_time.chosen({"old": old, "new": dollars + 1}) == "new"
    assert real_time.chosen({"old": old[:-1], "new": dollars[:-1] + 1}) == "old"


def test_spread_is_expected_to_fade() -> None:
    found = real_time.expected_prices(np.full(5, 30.0), 10.0) - 30
    assert found[0] == pytest.approx(10 * real_time.SPREAD_SHARE * real_time.SPREAD_KEPT)
    assert found[1:] / found[:-1] == pytest.approx(real_time.SPREAD_KEPT)
