"""Curves and the state of charge: clearing, valid curves, and energy that the asset can deliver."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from power_bidding.core import charge, curves
from power_bidding.core.assets import Battery, MarketSettings, Rules
from power_bidding.core.curves import CurveError
from tests.support.power_bidding.desks import BATTERY, RULES

LOSSY = Battery(8.0, 32.0, 0.85, 0.9, 0.999, 1.0, 0.0)
SOURCE = ((0.0, 0.0), (1.65, 80.79), (5.15, 105.34), (8.0, 230.15))
mws = st.floats(-8, 8)
prices = st.floats(-150, 2000)


@st.composite
def drawn(draw: st.DrawFn) -> curves.Curve:
    """Draw a curve of increasing MW and prices, not yet checked."""
    n = draw(st.integers(1, 10))
    mw = sorted(draw(st.lists(mws, min_size=n, max_size=n, unique=True)))
    price = sorted(draw(st.lists(prices, min_size=n, max_size=n, unique=True)))
    return tuple(zip(mw, price, strict=True))


@pytest.mark.parametrize(
    ("price", "mw"), [(-20, 0), (0, 0), (80.78, 0), (80.79, 1.65), (105.34, 5.15), (230.14, 5.15), (999, 8)]
)
def test_cleared_takes_last_segment_at_or_below_price(price: float, mw: float) -> None:
    assert curves.cleared(SOURCE, price) == mw


@given(drawn(), prices)
def test_cleared_follows_the_definition(curve: curves.Curve, price: float) -> None:
    below = [mw for mw, at in curve if at <= price]
    assert curves.cleared(curve, price) == (below[-1] if below else curve[0][0])


@given(drawn(), prices, prices)
def test_cleared_never_falls_when_the_price_rises(curve: curves.Curve, one: float, two: float) -> None:
    low, high = sorted((one, two))
    assert curves.cleared(curve, low) <= curves.cleared(curve, high)


@given(drawn())
def test_checked_curve_never_buys_above_its_selling_prices(curve: curves.Curve) -> None:
    # given a valid curve
    try:
        curves.checked(curve, LOSSY, RULES)
    except CurveError:
        assume(False)
    # then a MWh that is bought at any buying price and sold at any selling price earns a profit after losses
    for bought, buy in curve:
        for sold, sell in curve:
            assert not (bought < 0 < sold) or buy < LOSSY.round_trip * sell


@pytest.mark.parametrize(
    ("curve", "named"),
    [
        ([], "at least one"),
        ([[float(at), float(at)] for at in range(-3, 8)], "from 1 to 10 segments, got 11"),
        ([[0, 1], [0, 2]], "MW must increase"),
        ([[1, 2], [0, 3]], "MW must increase"),
        ([[0, 2], [1, 2]], "price must increase"),
        ([[0, 3], [1, 2]], "price must increase"),
        ([[8.1, 0]], "from -8 to 8, got 8.1"),
        ([[0, -151]], "price must be from -150 to 2000"),
        ([[0, 2000.5]], "price must be from -150 to 2000"),
        ([[0.05, 0]], "at least 0.1"),
        ([[-0.05, 0]], "at least 0.1"),
        ([[math.nan, 0]], "MW must be a finite number"),
        ([[0, math.nan]], "price must be a finite number"),
        ([[math.inf, 0]], "MW must be a finite number"),
        ([[True, 0]], "MW must be a finite number"),
        ([["1", 0]], "MW must be a finite number"),
        ([[None, 0]], "MW must be a finite number"),
        ([[1]], "must be [MW, price]"),
        ("x", "must be a list"),
        ([[-8, 85], [8, 100]], "highest charge price"),
        ([[-8, 84], [-4, 86], [8, 100]], "highest charge price"),
    ],
)
def test_checked_names_the_rule_that_a_curve_breaks(curve: object, named: str) -> None:
    with pytest.raises(CurveError) as raised:
        curves.checked(curves.curve_of(curve), BATTERY, RULES)
    assert named in str(raised.value)


@pytest.mark.parametrize(
    "curve",
    [SOURCE, ((-8.0, -150.0),), ((-8.0, 84.9), (8.0, 100.0)), ((-8.0, -150.0), (-0.1, 0.0), (0.1, 1.0))],
)
def test_checked_accepts_a_valid_curve(curve: curves.Curve) -> None:
    assert curves.checked(curve, BATTERY, RULES) == curve


def test_rounded_curve_is_free_of_the_optimizers_tolerance() -> None:
    curve = curves.rounded(((-8.0000000001, -150.0), (-1e-9, 20.0), (8.0000000001, 50.1234567)))
    assert curve == ((-8.0, -150.0), (0.0, 20.0), (8.0, 50.123457))
    assert curves.checked(curve, BATTERY, RULES) == curve


def test_rules_of_a_market_are_those_of_the_day() -> None:
    old = Rules("2019-01-01", -150, 1000, 0.5, 10)
    new = Rules("2021-03-20", -150, 2000, 0.1, 10)
    market = MarketSettings("America/Los_Angeles", 2, 75, 3, [new, old])
    assert market.rules_of("2021-03-19") == old
    assert market.rules_of("2021-03-20") == new
    with pytest.raises(ValueError, match="rules must begin"):
        market.rules_of("2018-12-31")


@given(st.floats(1, 32), st.lists(st.floats(-20, 20), max_size=60))
def test_charge_never_leaves_its_bounds(level: float, awards: list[float]) -> None:
    for mw in awards:
        level = charge.after(level, mw, BATTERY)
        assert -1e-9 <= level <= BATTERY.energy


@given(st.floats(1, 32), mws)
def test_charge_moves_the_energy_within_its_limits(level: float, mw: float) -> None:
    least, most = charge.limits(level, LOSSY)
    after = charge.after(level, mw, LOSSY)
    kept = LOSSY.retention * level
    bounded = min(max(mw, least), most)
    moved = bounded / 0.9 if bounded > 0 else bounded * 0.85
    assert after == pytest.approx(kept - moved, abs=1e-9)
    assert charge.allows(((mw, 0.0),), level, LOSSY) == (least - 1e-6 <= mw <= most + 1e-6)


def test_charge_is_carried_through_hours_without_a_bid() -> None:
    leaky = Battery(8, 32, 0.85, 1, 0.99, 0, 0)
    level = charge.carried(20, range(3), lambda hour: {0: -2.0, 2: 5.0}.get(hour, 0.0), leaky)
    assert level == pytest.approx(((20 * 0.99 + 1.7) * 0.99) * 0.99 - 5)


@given(st.lists(mws, min_size=1, max_size=25))
def test_possible_agrees_with_a_search_over_initial_charges(schedule: list[float]) -> None:
    # given the result of a search: whether an initial state of charge, in steps of 0.05 MWh, can deliver the
    # schedule
    def delivered(level: float) -> float:
        """Return the minimum distance of the state of charge to its bounds; negative if a bound is
        exceeded."""
        room = math.inf
        for mw in schedule:
            level -= mw if mw > 0 else 0.85 * mw
            room = min(room, level, 32 - level)
        return room

    best = max(delivered(step / 20) for step in range(641))
    # then `possible` agrees, unless the distance to a bound is smaller than a step
    assume(abs(best) > 0.05)
    assert charge.possible(schedule, BATTERY) == (best > 0)
