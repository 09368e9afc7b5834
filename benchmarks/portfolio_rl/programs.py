"""Policies that solve a program at every decision: perfect foresight, lookahead, and a convex optimizer.

They apply the rules of `portfolio_trader.rules`, which are written here as linear constraints. HiGHS solves
the programs: mixed-integer programs through SciPy, convex programs through CVXPY.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cvxpy
import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from portfolio_trader.baselines import reduce
from portfolio_trader.market import Episodes
from portfolio_trader.published import BUY_FEE, SELL_FEE
from portfolio_trader.rules import Compiled

LARGE = 20_000.0
"""More dollars than any holding can exceed its cap by. If nothing is bought, a cap is raised by this amount,
so that it has no effect."""


@contextmanager
def silent() -> Iterator[None]:
    """Suppress the output that HiGHS prints despite its options."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


@dataclass(frozen=True)
class Plan:
    """The orders of H decisions."""

    orders: np.ndarray[Any, np.dtype[np.float64]]
    """[H, N] lots"""
    value: float
    """Dollars at the end of the horizon"""
    bound: float
    """Upper bound of the value of all plans, in dollars"""


class Program:
    """The mixed-integer program of one account over a horizon of known prices."""

    def __init__(self, rules: Compiled, whole_steps: int | None = None, nodes: int = 1000, gap: float = 1e-4):
        """
        :param whole_steps: number of first decisions in whole lots, None: all. Later decisions may be in
            fractions
        :param nodes: maximum nodes of the search, which then returns the best plan so far
        :param gap: maximum relative difference of the plan's value from the optimum
        """
        if rules.turnover < np.inf or not (rules.buy_allowed.all() and rules.sell_allowed.all()):
            raise ValueError("the program supports no other constraints than caps and cash floors")
        self.rules, self.whole_steps = rules, whole_steps
        self.options = {"node_limit": nodes, "mip_rel_gap": gap}

    def plan(self, lots: Any, cash: float, prices: Any) -> Plan:
        """Return the plan with the highest value at the last prices. `prices`: [H + 1, N] dollars."""
        rules, n, horizon = self.rules, len(self.rules.lot), len(prices) - 1
        # columns of a decision, per asset: lots sold, lots bought, whether bought, lots held afterwards; then
        # the cash
        width = 4 * n + 1
        sell, buy, bought, held = (slice(k * n, (k + 1) * n) for k in range(4))
        rows: list[dict[int, float]] = []
        low: list[float] = []
        high: list[float] = []

        def add(row: dict[int, float], least: float, most: float) -> None:
            rows.append(row)
            low.append(least)
            high.append(most)

        for t in range(horizon):
            at, before = t * width, (t - 1) * width
            s, b, z, h = (range(at + part.start, at + part.stop) for part in (sell, buy, bought, held))
            c = at + 4 * n
            price = prices[t].astype(np.float64)
            value = rules.lot * price
            gain = rules.lot * (price - rules.sell_fee - rules.sell_rate * price)
            cost = rules.lot * (price + rules.buy_fee + rules.buy_rate * price)
            if rules.faithful:
                gain, cost = rules.lot * (price - SELL_FEE), rules.lot * (price + SELL_FEE)
            old = [] if t == 0 else list(range(before + held.start, before + held.stop))
            old_cash = before + 4 * n
            # before the first decision, lots and cash are constants
            start, money = (lots, cash) if t == 0 else (np.zeros(n), 0.0)

            def earlier(
                row: dict[int, float], i: int, weight: float, old: list[int] = old
            ) -> dict[int, float]:
                return row | {old[i]: weight} if old else row

            for i in range(n):
                add(earlier({h[i]: 1, s[i]: 1, b[i]: -1}, i, -1), start[i], start[i])
                add(earlier({s[i]: 1}, i, -1), -np.inf, start[i])
                add({b[i]: 1, z[i]: -rules.largest}, -np.inf, 0)
            balance = {c: 1.0} | {s[i]: -gain[i] for i in range(n)} | {b[i]: cost[i] for i in range(n)}
            add(balance | ({old_cash: -1.0} if old else {}), money, money)
            # the cash after the earlier legs must pay for each leg
            for i in range(n) if rules.faithful else ():
                row = {old_cash: 1.0} if old else {}
                for j in range(i):
                    row |= {s[j]: gain[j], b[j]: -cost[j]}
                add(row | {b[i]: -rules.lot[i] * (price[i] + BUY_FEE[i])}, -money, np.inf)
                add(row | {s[i]: -rules.lot[i] * SELL_FEE[i]}, -money, np.inf)
            floor = 1.0 if rules.faithful else rules.cash_before
            for i in range(1 if rules.faithful else n):
                if floor > -np.inf:
                    add(({old_cash: 1.0} if old else {}) | {z[i]: -floor}, -money, np.inf)
            for members, share in zip(rules.before, rules.before_share, strict=True):
                weight = value * (members - share)
                known = float(weight @ start) - share * money
                row = {old[i]: weight[i] for i in range(n)} | {old_cash: -share} if old else {}
                for i in np.flatnonzero(members):
                    add(row | {z[i]: LARGE}, -np.inf, LARGE - known)
            for members, share in zip(rules.after, rules.after_share, strict=True):
                weight = value * (members - share)
                row = {h[i]: weight[i] for i in range(n)} | {c: -share}
                for i in np.flatnonzero(members):
                    add(row | {z[i]: LARGE}, -np.inf, LARGE)
        size = horizon * width
        upper = np.full((horizon, width), np.inf)
        upper[:, sell] = upper[:, buy] = rules.largest
        upper[:, bought] = 1
        whole = np.zeros((horizon, width))
        whole[: self.whole_steps, : 3 * n] = 1
        objective = np.zeros(size)
        objective[size - width + 3 * n : size - 1] = -rules.lot * prices[-1]
        objective[-1] = -1
        with silent():
            found = milp(
                objective,
                constraints=LinearConstraint(_matrix(rows, size), low, high),  # pyright: ignore[reportArgumentType] - scipy's types allow single numbers only
                integrality=whole.ravel(),
                bounds=Bounds(np.zeros(size), upper.ravel()),  # pyright: ignore[reportArgumentType]
                options=self.options,
            )
        if found.x is None:
            raise RuntimeError(f"HiGHS found no plan: {found.message}")
        steps = found.x.reshape(horizon, width)
        bound = found.mip_dual_bound if found.mip_dual_bound is not None else found.fun
        return Plan(steps[:, buy] - steps[:, sell], -float(found.fun), -float(bound))


def _matrix(rows: list[dict[int, float]], size: int) -> Any:
    ends = np.cumsum([0, *map(len, rows)])
    columns = [column for row in rows for column in row]
    weights = [float(weight) for row in rows for weight in row.values()]
    return csr_array((weights, columns, ends), shape=(len(rows), size))


class Lookahead:
    """Model-predictive control: plan to the end with the mean prices as forecast, and execute the first
    order."""

    def __init__(self, means: Any, rules: Compiled):
        self.means, self.rules, self.program = means, rules, Program(rules, whole_steps=1)

    def __call__(self, step: int, lots: Any, cash: Any, prices: Any, signals: Any) -> Any:
        wanted = np.empty(lots.shape, np.int8)
        for e in range(len(lots)):
            ahead = np.concatenate([prices[e : e + 1], self.means[step + 1 :]])
            wanted[e] = np.rint(self.program.plan(lots[e], float(cash[e]), ahead).orders[0])
        return reduced(wanted, lots, cash, prices, self.rules)


def reduced(wanted: Any, lots: Any, cash: Any, prices: Any, rules: Compiled) -> Any:
    """Return the orders `wanted` [E, N], reduced to admissible ones."""
    actions = np.empty(lots.shape, np.int8)
    reduce(wanted, lots, cash, prices, rules, actions)
    return actions


class Convex:
    """A convex optimizer of one period: the highest mean value after the next step, net of fees.

    It chooses an order in fractions of lots within the limits of orders, cash and caps. The order is rounded
    to whole lots and reduced to an admissible order. One problem contains all accounts.
    """

    def __init__(self, means: Any, rules: Compiled):
        self.means, self.rules = means, rules

    def __call__(self, step: int, lots: Any, cash: Any, prices: Any, signals: Any) -> Any:
        rules, value = self.rules, self.rules.lot * prices.astype(np.float64)
        sold = rules.lot * (prices - rules.sell_fee - rules.sell_rate * prices)
        cost = rules.lot * (prices + rules.buy_fee + rules.buy_rate * prices)
        whole = cash + (lots * value).sum(1)
        allowed = np.repeat((cash >= rules.cash_before)[:, None], lots.shape[1], axis=1)
        for members, share in zip(rules.before, rules.before_share, strict=True):
            full = (lots * value)[:, members].sum(1) > share * whole
            allowed &= ~(full[:, None] & members)
        sell, buy = cvxpy.Variable(lots.shape, nonneg=True), cvxpy.Variable(lots.shape, nonneg=True)
        after = cash + cvxpy.sum(cvxpy.multiply(sold, sell) - cvxpy.multiply(cost, buy), axis=1)
        held = lots - sell + buy
        limits = [sell <= np.minimum(lots, rules.largest), buy <= rules.largest * allowed]
        limits.append(after >= max(rules.cash_after, 0.0))
        for members, share in zip(rules.after, rules.after_share, strict=True):
            group = cvxpy.sum(cvxpy.multiply(value * members, held), axis=1)
            left = after + cvxpy.sum(cvxpy.multiply(value, held), axis=1)
            # if price changes have raised a group above its cap, it need not fall, but its excess must not
            # grow
            above = np.maximum((lots * value)[:, members].sum(1) - share * whole, 0)
            limits.append(group - share * left <= above + 1e-6 * whole)
        worth = cvxpy.sum(cvxpy.multiply(np.broadcast_to(rules.lot * self.means[step + 1], lots.shape), held))
        problem = cvxpy.Problem(cvxpy.Maximize(worth + cvxpy.sum(after)), limits)
        with silent():
            problem.solve(solver=cvxpy.HIGHS)
        if sell.value is None or buy.value is None:
            raise RuntimeError(f"CVXPY found no order: {problem.status}")
        wanted = np.rint(buy.value - sell.value).astype(np.int8)
        return reduced(wanted, lots, cash, prices, rules)


def foresight(episodes: Episodes, rules: Compiled, cash: float, nodes: int, gap: float) -> tuple[Any, Any]:
    """Return the value if all prices are known in advance, and its upper bound, [E] dollars each."""
    program = Program(rules, nodes=nodes, gap=gap)
    plans = [program.plan(np.zeros(len(rules.lot)), cash, prices) for prices in episodes.prices]
    return np.array([plan.value for plan in plans]), np.array([plan.bound for plan in plans])
