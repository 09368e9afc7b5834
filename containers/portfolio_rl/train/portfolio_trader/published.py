"""The environment of the AWS sample that this architecture follows. It is used for comparison only.

The sample is src/trading.py of aws-samples/amazon-sagemaker-rl-action-masking. These properties, including
its faults, are kept: purchases are checked with the buying fee but charged the selling fee; legs are executed
in the order of the assets, so a sale of asset 3 does not pay for a purchase of asset 1; purchases are reduced
to the affordable number of lots; a sale is reduced if its fee exceeds the cash before it; with less than a
dollar of cash, assets 2 and 3 may still be bought, because the sample's caps (its constraints C2 and C3)
overwrite its cash floor (C4); the observation does not include the step.

The sample's mask has one row for each asset and does not cover combinations of legs. There are N = 3 assets,
lots of 10 units, and at most 5 lots in a leg.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from .market import Curves

K = 5
BUY_FEE = np.array([0.03, 0.045, 0.035], np.float32)
SELL_FEE = np.array([0.025, 0.035, 0.03], np.float32)


@njit(cache=True, nogil=True, error_model="numpy")
def execute(order, lots, cash, prices):
    """Execute one order in place; return the cash after it."""
    for i in range(3):
        a = order[i]
        if a < 0:
            q = -a
            if 10 * q * SELL_FEE[i] > cash:
                q = int(cash / (10 * SELL_FEE[i]))
            lots[i] -= q
            cash += 10 * q * (prices[i] - SELL_FEE[i])
        elif a > 0:
            q = a
            if 10 * q * (BUY_FEE[i] + prices[i]) > cash:
                q = int(cash / (10 * (BUY_FEE[i] + prices[i])))
            lots[i] += q
            cash -= 10 * q * (prices[i] + SELL_FEE[i])
    return cash


@njit(cache=True, nogil=True)
def purchasable(lots, cash, prices, allowed) -> None:
    """Write into `allowed` [3] which assets may be bought.

    Only the sample's constraint C4 applies to asset 1, only C3 to asset 2, and only C2 to asset 3.
    """
    second, third = 10 * lots[1] * prices[1], 10 * lots[2] * prices[2]
    whole = cash + 10 * lots[0] * prices[0] + second + third
    allowed[0] = cash >= 1
    allowed[1] = not 3 * second > 2 * whole
    allowed[2] = not 3 * third > whole


class Core:
    """E accounts with their observations and masks, in arrays that are updated in place.

    A step is one compiled pass over the accounts, which also computes the next prices.
    """

    def __init__(self, count: int, market: Curves, cash: float):
        self.means, self.deviations = market.means.astype(np.float32), market.deviations.astype(np.float32)
        self.start, self.time = np.float32(cash), 0
        self.lots, self.cash = np.zeros((count, 3), np.int32), np.empty(count, np.float32)
        self.normals = np.empty((count, 3), np.float32)
        self.observations = np.empty((count, 7), np.float32)
        """float32 [E, 7]: units held, cash, prices"""
        self.masks = np.empty((count, 33), np.int8)
        """int8 [E, 33]: for each asset 11 flags, from selling five lots to buying five, 1 if allowed"""

    @property
    def ended(self) -> bool:
        return self.time == len(self.means) - 1

    def reset(self, generator: np.random.Generator) -> None:
        """Start new episodes."""
        self.time = 0
        self.lots[:], self.cash[:] = 0, self.start
        hold = np.full((len(self.lots), 3), K, np.int8)
        self.observations[:] = 0
        self._step(hold, generator)

    def step(self, actions: Any, generator: np.random.Generator) -> None:
        """Execute `actions`, integers [E, 3] from 0 to 10, and draw the next prices."""
        self.time += 1
        self._step(actions, generator)

    def _step(self, actions: Any, generator: np.random.Generator) -> None:
        generator.standard_normal(dtype=np.float32, out=self.normals)
        step(
            actions,
            self.lots,
            self.cash,
            self.observations,
            self.masks,
            self.means[self.time],
            self.deviations,
            self.normals,
        )

    def total(self) -> Any:
        """Return the value of each account in dollars, [E]."""
        seen = self.observations
        return seen[:, 3] + (seen[:, :3] * seen[:, 4:]).sum(1)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
def step(actions, lots, cash, observations, masks, means, deviations, normals) -> None:
    """Execute `actions` on all accounts and draw the next prices, in single precision.

    :param actions: integers [E, 3] from 0 (sell five lots) to 10 (buy five)
    :param lots: int32 [E, 3], updated
    :param cash: float32 [E], updated
    :param observations: float32 [E, 7] of units held, cash, and the prices of the next trade, updated
    :param masks: int8 [E, 33] of the next state, written
    :param means: float32 [3] means of the next prices
    :param normals: float32 [E, 3] standard normal numbers
    """
    for e in range(len(cash)):
        row, mask = observations[e], masks[e]
        money = cash[e]
        for i in range(3):
            a, price = np.int32(actions[e, i]) - np.int32(K), row[4 + i]
            if a < 0:
                q = np.float32(-a)
                if np.float32(10) * q * SELL_FEE[i] > money:
                    q = np.floor(money / (np.float32(10) * SELL_FEE[i]))
                lots[e, i] -= np.int32(q)
                money += np.float32(10) * q * (price - SELL_FEE[i])
            elif a > 0:
                q = np.float32(a)
                if np.float32(10) * q * (BUY_FEE[i] + price) > money:
                    q = np.floor(money / (np.float32(10) * (BUY_FEE[i] + price)))
                lots[e, i] += np.int32(q)
                money -= np.float32(10) * q * (price + SELL_FEE[i])
        cash[e] = row[3] = money
        whole = money
        for i in range(3):
            row[i] = np.float32(10) * np.float32(lots[e, i])
            row[4 + i] = means[i] + deviations[i] * normals[e, i]
            whole += row[i] * row[4 + i]
        buys = (
            money >= np.float32(1),
            not np.float32(3) * row[1] * row[5] > np.float32(2) * whole,
            not np.float32(3) * row[2] * row[6] > whole,
        )
        for i in range(3):
            held, first = lots[e, i], 11 * i
            for k in range(5):
                mask[first + k] = held >= 5 - k
            mask[first + 5] = 1
            for k in range(6, 11):
                mask[first + k] = buys[i]
