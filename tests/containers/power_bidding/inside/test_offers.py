"""Offers: curves of a price taker, the limits of the battery, and curves that are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from power_forecaster.bidding import level_after, reach
from power_forecaster.curves import Terms
from power_forecaster.offers import OfferError, checked, limited, price_taker, self_scheduled
from power_forecaster.storage import Asset, Scheduler

MARKET = Terms(floor=-150, cap=2000, least_mw=0.1, most_segments=10)
BATTERY = Asset()


def managed(asset: Asset, prices: np.ndarray, buys: float, sells: float) -> float:
    """Return the asset's earnings in a market that schedules the asset by the offered prices `buys` and
    `sells`."""
    # The objective of this market is (price - sells) * discharge + (buys - price) * charge. The same schedule
    # is optimal at prices lowered by `buys`, with a degradation cost of `sells - buys`.
    shifted = replace(asset, charge_efficiency=asset.charge_efficiency, degradation=sells - buys)
    found = Scheduler(shifted, len(prices)).solve(prices - buys)
    return found.profit(prices, asset)


def test_price_taker_earns_the_optimum_of_a_managed_market() -> None:
    prices = np.random.default_rng(0).normal(30, 20, 24)
    (_, _), (_, buys), (_, sells) = price_taker(BATTERY, 0.0, MARKET)
    best = Scheduler(BATTERY, 24).solve(prices).profit(prices, BATTERY)
    assert managed(BATTERY, prices, buys, sells) == pytest.approx(best, rel=1e-3)
    # offers whose two prices differ by 20 more earn at least 5% less
    assert managed(BATTERY, prices, buys, sells + 20) < 0.95 * best


def test_price_taker_buys_and_sells_around_the_water_value() -> None:
    asset = replace(BATTERY, discharge_efficiency=0.9, degradation=3)
    assert price_taker(asset, 45, MARKET) == [(-8, -150), (0, 38.25), (8, 53)]


@pytest.mark.parametrize("value", [-1e6, -150, 0, 2000, 1e6])
def test_price_taker_stays_within_floor_and_cap(value: float) -> None:
    for asset in (BATTERY, replace(BATTERY, charge_efficiency=1)):
        checked(price_taker(asset, value, MARKET), asset, MARKET)


def test_quantities_are_rounded_towards_zero() -> None:
    assert [self_scheduled(mw, MARKET)[0][0] for mw in (7.99, -7.99, 0.09, 0.3, 8)] == [7.9, -7.9, 0, 0.3, 8]


@pytest.mark.parametrize(
    ("least", "most", "expected"),
    [
        (-8, 8, [(-8, -150), (0, 20), (8, 40)]),
        (-2, 3, [(-2, -150), (0, 20), (3, 40)]),
        (0, 8, [(0, -150), (8, 40)]),
        (-8, 0, [(-8, -150), (0, 20)]),
        (0, 0, [(0, -150)]),
    ],
)
def test_curve_is_limited_to_the_capability_of_the_store(least: float, most: float, expected: list) -> None:
    assert limited([(-8, -150), (0, 20), (8, 40)], least, most) == expected


def test_reach_keeps_the_store_within_its_bounds() -> None:
    asset = replace(BATTERY, lowest=2, discharge_efficiency=0.9)
    generator = np.random.default_rng(0)
    for level in generator.uniform(2, 32, 50):
        least, most = reach(asset, level)
        for mw in (least, most):
            assert 2 - 1e-9 <= level_after(asset, level, np.array([mw])) <= 32 + 1e-9
    assert reach(asset, 32)[0] == 0
    assert reach(asset, 2)[1] == 0
    assert level_after(asset, 32, np.array([-8.0, -8.0])) == 32


@pytest.mark.parametrize(
    ("segments", "reason"),
    [
        ([], "a curve must have 1 to 10 segments, got 0"),
        ([(k / 10, float(k)) for k in range(11)], "a curve must have 1 to 10 segments, got 11"),
        ([(float("nan"), 10.0)], "a curve must have finite numbers"),
        ([(9.0, 10.0)], "MW must be from -8 to 8, got 9"),
        ([(1.0, -151.0)], "a price must be from -150 to 2000, got -151"),
        ([(0.05, 10.0)], "MW must be 0 or at least 0.1, got 0.05"),
        ([(1.0, 10.0), (1.0, 20.0)], "segments must increase in MW and in price"),
        ([(1.0, 20.0), (2.0, 10.0)], "segments must increase in MW and in price"),
    ],
)
def test_curve_that_breaks_a_rule_is_refused(segments: list, reason: str) -> None:
    with pytest.raises(OfferError) as error:
        checked(segments, BATTERY, MARKET)
    assert str(error.value).startswith(reason)
