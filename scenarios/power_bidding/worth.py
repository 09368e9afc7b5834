"""What offers were worth, beside the day-ahead schedule alone and perfect foresight."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import linprog

CHARGE_EFFICIENCY, POWER, ENERGY = 0.85, 8.0, 32.0


def measured(results: dict[str, Any]) -> dict[str, float]:
    """Return the figures of one asset at the market's own settlement."""
    rows = results["settled"]
    prices = np.array([row["price"] for row in rows])
    real = sum(row["revenue"] for row in rows)
    awards = np.array([row["award"] for row in rows])
    day_ahead = np.array([row["day_ahead_price"] for row in rows])
    return {
        "revenue_real_time": real,
        "revenue_self_schedule": float((awards * day_ahead).sum()),
        "real_time_ratio": real / foresight(prices),
    }


def foresight(prices: np.ndarray) -> float:
    """Return the most that an asset earns in hours of known prices [T], charge carried from 0, in dollars."""
    count = len(prices)
    lower = np.tril(np.ones((count, count)))
    charge = np.concatenate([CHARGE_EFFICIENCY * lower, -lower], axis=1)
    power = np.concatenate([np.eye(count), np.eye(count)], axis=1)
    found = linprog(
        np.concatenate([prices, -prices]),
        A_ub=np.concatenate([charge, -charge, power]),
        b_ub=np.concatenate([np.full(count, ENERGY), np.zeros(count), np.full(count, POWER)]),
        bounds=(0, POWER),
    )
    return float(-found.fun)
