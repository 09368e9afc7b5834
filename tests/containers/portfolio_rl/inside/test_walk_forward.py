"""Walk-forward evaluation: a policy trades only at prices that are later than those it was fitted to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from portfolio_trader import measures
from portfolio_trader.market import LOOK_BACK, History
from portfolio_trader.rules import parse
from portfolio_trader.values import Fitting, Maximiser, Run, fitted, run
from portfolio_trader.walk_forward import walk_forward

RULES = parse({"cash": 5000, "assets": [{"name": "A"}, {"name": "B"}], "largest_order": 2})
QUICK = Fitting(degree=2, states=300, draws=1, passes=1)
ROWS, PAST = 400, 300


def prices(seed: int = 0) -> Any:
    steps = np.random.default_rng(seed).normal(0, 0.03, (ROWS, 2))
    return 50 * np.exp(np.cumsum(steps, axis=0))


def parts(history: Any) -> tuple[History, History]:
    past = History(history[:PAST], History.scales_of(history[:PAST]))
    return past, History(history[PAST - LOOK_BACK :], past.scales)


def walk(history: Any, folds: int) -> Run:
    return walk_forward(*parts(history), RULES, 0, QUICK, folds)


def test_one_part_is_the_policy_that_was_fitted_once() -> None:
    past, later = parts(prices())
    rules = RULES.compiled()
    policy = Maximiser(fitted(past.every(), rules, RULES.cash, 0, QUICK), rules)
    once = run(policy, later.every(), rules, RULES.cash)
    assert np.array_equal(walk(prices(), 1).values, once.values)


def test_orders_do_not_depend_on_later_prices_in_any_window() -> None:
    # given two histories that are equal up to a row in the third of four parts
    windows = ROWS - PAST - 20 + 1
    changed = prices()
    row = PAST + windows // 2 + 5
    changed[row:] *= 1.5

    # when both histories are evaluated walk-forward
    ours, theirs = walk(prices(), 4), walk(changed, 4)

    # then all windows have results, and all orders before the first changed row are equal
    assert np.array_equal(ours.values.shape, (windows, 20))
    rows = PAST + np.arange(windows)[:, None] + np.arange(19)
    same = np.all(ours.actions == theirs.actions, axis=2)
    assert same[rows < row].all()
    assert not same[rows >= row].all()


def test_number_of_parts_is_limited_to_the_windows() -> None:
    history = prices()[: PAST + 23]
    assert len(walk(history, 100).final) == 4


@pytest.mark.parametrize("overlap", [1, 20])
def test_interval_of_gains_without_a_mean_excludes_zero_rarely(overlap: int) -> None:
    # given gains with a mean of 0, each of which is the sum of `overlap` steps
    generator = np.random.default_rng(0)
    outside = 0
    for _ in range(2000):
        steps = np.concatenate([[0.0], np.cumsum(generator.standard_normal(400 + overlap))])
        found = measures.gain(steps[overlap:] - steps[:-overlap], np.zeros(401), overlap)
        outside += not found.low < 0 < found.high

    # then about one in twenty intervals excludes zero
    assert 0.03 < outside / 2000 < 0.06
