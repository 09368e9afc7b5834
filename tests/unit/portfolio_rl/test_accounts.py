"""The demonstration's check of orders, which finds violations from the rules alone."""

from __future__ import annotations

import pytest

from scenarios.portfolio_rl.accounts import Account, broken, execute, start

RULES = {
    "cash": 1000.0,
    "largest_order": 5,
    "assets": [
        {"name": "A", "lot": 10, "buy_fee": 0.1, "sell_fee": 0.2, "buy_rate": 0.0, "sell_rate": 0.01},
        {"name": "B", "lot": 10, "buy_fee": 0.0, "sell_fee": 0.0, "buy_rate": 0.0, "sell_rate": 0.0},
    ],
    "constraints": [],
}
PRICES = {"A": 10.0, "B": 20.0}


def ruled(*constraints: dict) -> dict:
    return RULES | {"constraints": list(constraints)}


def test_order_changes_units_and_cash_less_fees():
    after = execute(Account({"A": 20, "B": 0}, 100.0), {"A": -10, "B": 10}, PRICES, RULES)
    assert after.units == {"A": 10, "B": 10}
    # 10 units are sold at $10, less fees of $0.2 a unit and 1 %, and 10 units are bought at $20 without fees
    assert after.cash == pytest.approx(100 + 100 - 3 - 200)


@pytest.mark.parametrize("order", [{"A": 0, "B": 0}, {"A": 50, "B": 0}, {"A": 10, "B": 40}])
def test_order_within_the_rules_violates_none(order: dict[str, int]):
    assert broken(start(RULES), order, PRICES, RULES) == []


@pytest.mark.parametrize(
    ("rules", "units", "cash", "order", "says"),
    [
        (RULES, {"A": 10, "B": 0}, 0, {"A": -20, "B": 0}, "sells more of A than is held"),
        (RULES, {"A": 0, "B": 0}, 1000, {"A": 15, "B": 0}, "15 of A must be whole lots, at most 5"),
        (RULES, {"A": 0, "B": 0}, 9000, {"A": 60, "B": 0}, "60 of A must be whole lots, at most 5"),
        (RULES, {"A": 0, "B": 0}, 100, {"A": 10, "B": 0}, "costs $1.00 more than the account's cash"),
        (
            ruled({"kind": "cap", "assets": ["B"], "share": 0.5, "checked": "after"}),
            {"A": 0, "B": 0},
            1000,
            {"A": 0, "B": 30},
            "buys of ['B'] at a share of 0.6000 after the order",
        ),
        (
            ruled({"kind": "cap", "assets": ["B"], "share": 0.5, "checked": "before"}),
            {"A": 0, "B": 30},
            400,
            {"A": 0, "B": 10},
            "buys of ['B'] at a share of 0.6000 before the order",
        ),
        (
            ruled({"kind": "cash_floor", "dollars": 900.0, "checked": "after"}),
            {"A": 0, "B": 0},
            1000,
            {"A": 0, "B": 10},
            "buys with $800.00 after the order",
        ),
        (
            ruled({"kind": "turnover", "share": 0.3}),
            {"A": 20, "B": 0},
            800,
            {"A": -20, "B": 10},
            "trades a share of 0.4000",
        ),
        (
            ruled({"kind": "no_trade", "assets": ["A"], "sides": ["buy"]}),
            {"A": 0, "B": 0},
            1000,
            {"A": 10, "B": 0},
            "buys A",
        ),
    ],
)
def test_violated_rule_is_named(rules: dict, units: dict, cash: float, order: dict, says: str):
    assert broken(Account(units, cash), order, PRICES, rules) == [says]


def test_rule_broken_before_the_order_allows_a_sale():
    rules = ruled({"kind": "cap", "assets": ["B"], "share": 0.1, "checked": "both"})
    assert broken(Account({"A": 0, "B": 30}, 10.0), {"A": 0, "B": -10}, PRICES, rules) == []
