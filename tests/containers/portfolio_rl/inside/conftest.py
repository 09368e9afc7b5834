"""The tests in this folder run with the packages of the training image: see `../test_inside.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from portfolio_trader.rules import Rules, parse
from portfolio_trader.variants import CORRECTED, STRICT

COSTS = {"lot": 7, "buy_fee": 0.3, "sell_fee": 0.2, "buy_rate": 0.004, "sell_rate": 0.003}
PROBLEMS: dict[str, Rules] = {
    "corrected": CORRECTED,
    "strict": STRICT,
    "every kind of constraint": parse(
        {
            "cash": 900,
            "largest_order": 3,
            "assets": [{"name": name, **COSTS} for name in "ABC"],
            "constraints": [
                {"kind": "cap", "assets": ["A", "B"], "share": 0.6, "checked": "both"},
                {"kind": "cap", "assets": ["C"], "share": 0.4, "checked": "after"},
                {"kind": "turnover", "share": 0.5},
                {"kind": "cash_floor", "dollars": 100, "checked": "after"},
                {"kind": "cash_floor", "dollars": 5, "checked": "before"},
                {"kind": "no_trade", "assets": ["B"], "sides": ["sell"]},
            ],
        }
    ),
    "one asset": parse({"assets": [{"name": "A", **COSTS}], "largest_order": 9}),
    "limits that single precision rounds": parse(
        {
            "largest_order": 3,
            "assets": [{"name": "A", "buy_rate": 0.001}, {"name": "B", "lot": 3}],
            "constraints": [
                {"kind": "cap", "assets": ["A"], "share": 0.33},
                {"kind": "turnover", "share": 0.2},
                {"kind": "cash_floor", "dollars": 33.3},
            ],
        }
    ),
}


@pytest.fixture(scope="module", params=PROBLEMS)
def rules(request: pytest.FixtureRequest) -> Rules:
    return PROBLEMS[request.param]


def states(rules: Rules, count: int, seed: int = 0) -> tuple[Any, Any, Any]:
    """Return E random accounts with N assets: lots [E, N], cash [E] and prices [E, N]. Some accounts have no
    units, some have no cash."""
    generator = np.random.default_rng(seed)
    assets = len(rules.assets)
    lots = generator.integers(0, 2 + rules.largest_order, (count, assets)).astype(np.int32)
    lots[generator.random((count, assets)) < 0.3] = 0
    cash = generator.gamma(0.7, 1500, count)
    cash[generator.random(count) < 0.1] = 0
    prices = generator.uniform(0.5, 60, (count, assets)).astype(np.float32)
    prices[generator.random((count, assets)) < 0.02] = 0.01  # prices that are below the fee
    return lots, cash, prices
