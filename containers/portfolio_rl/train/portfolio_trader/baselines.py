"""Policies without learning, for comparison. They return admissible orders only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from .orders import cost, proceeds, purchasable, purchase_mask, sale_mask, total
from .rules import Compiled
from .values import random_orders


@njit(cache=True, nogil=True)
def reduce(wanted, lots, cash, prices, rules: Compiled, actions) -> None:
    """Reduce the orders `wanted`, [E, N], to admissible ones, which are written to `actions`, [E, N].

    There is an order for each of E accounts, with a leg for each of N assets. Legs are filled in order, sales
    first, each with as many of its lots as the earlier legs allow.
    """
    assets, options = lots.shape[1], rules.largest + 1
    allowed, held, mask = np.empty(assets, np.bool_), np.empty(assets, np.int32), np.empty(options, np.bool_)
    for e in range(len(lots)):
        whole = total(lots[e], cash[e], prices[e], rules)
        purchasable(lots[e], cash[e], prices[e], whole, rules, allowed)
        money, fees, traded = cash[e], 0.0, 0.0
        for i in range(assets):
            actions[e, i], held[i] = 0, lots[e, i]
        for leg in range(2 * assets):
            i, sells = leg % assets, leg < assets
            price = float(prices[e, i])
            if sells:
                sale_mask(i, lots[e], prices[e], whole, traded, rules, mask)
            else:
                purchase_mask(
                    i, actions[e], held, money, fees, traded, prices[e], whole, allowed, rules, mask
                )
            k = min(max(-wanted[e, i] if sells else wanted[e, i], 0), rules.largest)
            while not mask[k]:
                k -= 1
            if k == 0:
                continue
            value = rules.lot[i] * price
            one = proceeds(i, price, rules) if sells else cost(i, price, rules)
            traded += k * value
            actions[e, i] = -k if sells else k
            held[i] += actions[e, i]
            money += k * one if sells else -k * one
            fees += k * (value - one) if sells else k * (one - value)


class Hold:
    """Never trade."""

    def __call__(self, step: int, lots: Any, cash: Any, prices: Any, signals: Any) -> Any:
        return np.zeros(lots.shape, np.int8)


class Random:
    """Any admissible order, all with equal probability."""

    def __init__(self, rules: Compiled, size: int, seed: int):
        self.rules, self.size, self.generator = rules, size, np.random.default_rng(seed)

    def __call__(self, step: int, lots: Any, cash: Any, prices: Any, signals: Any) -> Any:
        return random_orders(lots, cash, prices, self.rules, self.size, self.generator)


class Rebalance:
    """Trade towards equal shares of all assets at every step, or only before step `until` (buy and hold)."""

    def __init__(self, rules: Compiled, until: int | None = None):
        self.rules, self.until = rules, until

    def __call__(self, step: int, lots: Any, cash: Any, prices: Any, signals: Any) -> Any:
        actions = np.zeros(lots.shape, np.int8)
        if self.until is not None and step >= self.until:
            return actions
        values = self.rules.lot * prices
        whole = cash + (lots * values).sum(1)
        wanted = np.floor(whole[:, None] / lots.shape[1] / values) - lots
        k = self.rules.largest
        reduce(wanted.clip(-k, k).astype(np.int8), lots, cash, prices, self.rules, actions)
        return actions
