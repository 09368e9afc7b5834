"""An independent check of orders: the rules of the AWS sample, implemented again in plain NumPy.

It shares no code with `portfolio_trader`. There are three assets, with lots of 10 units and at most 5 lots in
a leg. Sales can pay for purchases. Several orders (E) are checked together, in double precision.
"""

from __future__ import annotations

from typing import Any

import numpy as np

UNITS = 10
LARGEST = 5
BUY_FEE = np.array([0.03, 0.045, 0.035])
SELL_FEE = np.array([0.025, 0.035, 0.03])


def violations(lots: Any, cash: Any, prices: Any, orders: Any, mask: Any, after_too: bool) -> dict[str, Any]:
    """Return which orders break each rule, bool [E].

    :param lots: integers [E, 3] before the order
    :param cash: [E] dollars before the order
    :param prices: [E, 3] dollars for a unit
    :param orders: integers [E, 3] in lots, sales below zero
    :param mask: bool [E, 3, 11] choices that the caller allows
    :param after_too: whether C2 and C3 (see the result) are also required after the order, as in `strict`
    """
    cash, prices = np.asarray(cash, np.float64), np.asarray(prices, np.float64)
    orders = np.asarray(orders, np.int64)
    sold, bought = np.maximum(-orders, 0), np.maximum(orders, 0)
    paid = (UNITS * bought * (prices + BUY_FEE)).sum(1)
    received = (UNITS * sold * (prices - SELL_FEE)).sum(1)
    left = cash + received - paid
    second, third, whole = _shares(lots, cash, prices)
    inside = np.clip(orders, -LARGEST, LARGEST) + LARGEST
    allowed = np.take_along_axis(mask, inside[:, :, None], axis=2)[:, :, 0]
    found = {
        "more than five lots": (np.abs(orders) > LARGEST).any(1),
        "sells more than is held (C1)": (sold > lots).any(1),
        "sells for less than the fee": ((sold > 0) & (prices <= SELL_FEE)).any(1),
        "buys more than cash pays for": (paid > 0) & (left < 0),
        "buys asset 3 above a third (C2)": (bought[:, 2] > 0) & (3 * third > whole),
        "buys asset 2 above two thirds (C3)": (bought[:, 1] > 0) & (3 * second > 2 * whole),
        "buys with less than a dollar (C4)": (paid > 0) & (cash < 1),
        "is not in the caller's mask": ~allowed.all(1),
    }
    if after_too:
        second, third, whole = _shares(lots + orders, left, prices)
        found["ends with asset 3 above a third"] = (bought[:, 2] > 0) & (3 * third > whole)
        found["ends with asset 2 above two thirds"] = (bought[:, 1] > 0) & (3 * second > 2 * whole)
    return found


def _shares(lots: Any, cash: Any, prices: Any) -> tuple[Any, Any, Any]:
    """Return the value of asset 2, of asset 3, and of the whole account, [E] dollars each."""
    held = UNITS * lots * prices
    return held[:, 1], held[:, 2], cash + held.sum(1)
