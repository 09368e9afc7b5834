"""The independent check of orders finds each violation, and reports none for allowed orders."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.portfolio_rl import audit

PRICES = (40.0, 35.0, 50.0)


def broken(lots, cash, order, after_too=False, prices=PRICES, allowed=None) -> list[str]:
    """Return the rules that one order breaks."""
    mask = np.ones((1, 3, 11), bool)
    if allowed is not None:
        mask[:] = False
        mask[0, range(3), [choice + audit.LARGEST for choice in allowed]] = True
    held, money, paid, given = (np.array([each]) for each in (lots, cash, prices, order))
    found = audit.violations(held, money, paid, given, mask, after_too)
    return [rule for rule, wrong in found.items() if wrong[0]]


@pytest.mark.parametrize(
    ("lots", "cash", "order", "rule"),
    [
        ((9, 0, 0), 1000, (-6, 0, 0), "more than five lots"),
        ((1, 0, 0), 1000, (-2, 0, 0), "sells more than is held (C1)"),
        ((0, 0, 0), 400.2, (1, 0, 0), "buys more than cash pays for"),
        ((0, 0, 3), 2000, (0, 0, 1), "buys asset 3 above a third (C2)"),
        ((0, 5, 0), 800, (0, 1, 0), "buys asset 2 above two thirds (C3)"),
        ((9, 0, 0), 0.5, (-2, 1, 0), "buys with less than a dollar (C4)"),
    ],
)
def test_each_rule_is_found_broken(lots, cash, order, rule):
    assert broken(lots, cash, order) == [rule]


def test_sale_at_a_price_below_its_fee_is_found():
    assert broken((1, 0, 0), 9, (-1, 0, 0), prices=(0.02, 35, 50)) == ["sells for less than the fee"]


def test_order_outside_the_callers_mask_is_found():
    assert broken((0, 0, 0), 1000, (1, 0, 0), allowed=(0, 0, 0)) == ["is not in the caller's mask"]
    assert broken((0, 0, 0), 1000, (1, 0, 0), allowed=(1, 0, 0)) == []


@pytest.mark.parametrize(("order", "asset"), [((0, 0, 1), 3), ((0, 2, 0), 2)])
def test_share_after_the_order_counts_in_strict_only(order, asset):
    lots, cash = ((0, 0, 1), 1200.0) if asset == 3 else ((0, 0, 0), 1000.0)
    assert broken(lots, cash, order) == []
    words = "a third" if asset == 3 else "two thirds"
    expected = [f"ends with asset {asset} above {words}"]
    assert broken(lots, cash, order, after_too=True) == expected


def test_purchase_that_a_sale_pays_for_is_allowed():
    assert broken((5, 0, 0), 5, (-2, 2, 0), after_too=True) == []
    assert broken((0, 0, 0), 400.3, (1, 0, 0), after_too=True) == []


def test_order_without_a_trade_breaks_nothing():
    assert broken((0, 0, 9), 0.0, (0, 0, 0), after_too=True) == []
