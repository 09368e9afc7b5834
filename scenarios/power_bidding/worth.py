"""Revenue of the replay, of the day-ahead schedule alone, and of perfect foresight."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import linprog


def measured(results: dict[str, Any], asset: dict[str, Any]) -> dict[str, float]:
    """Return the figures of one asset at the market's own settlement."""
    rows = results["settled"]
    prices = np.array([row["price"] for row in rows])
    real = sum(row["revenue"] for row in rows)
    awards = np.array([row["award"] for row in rows])
    day_ahead = np.array([row["day_ahead_price"] for row in rows])
    return {
        "revenue_real_time": real,
        "revenue_self_schedule": float((awards * day_ahead).sum()),
        "real_time_ratio": real / foresight(prices, asset),
    }


def foresight(prices: np.ndarray, asset: dict[str, Any]) -> float:
    """Return the most that an asset earns in hours of known prices [T], charge carried from 0, in dollars."""
    count = len(prices)
    lower = np.tril(np.ones((count, count)))
    charge = np.concatenate(
        [asset["charge_efficiency"] * lower, -lower / asset["discharge_efficiency"]], axis=1
    )
    power = np.concatenate([np.eye(count), np.eye(count)], axis=1)
    found = linprog(
        np.concatenate([prices, -prices]),
        A_ub=np.concatenate([charge, -charge, power]),
        b_ub=np.concatenate(
            [np.full(count, asset["energy"]), np.zeros(count), np.full(count, asset["power"])]
        ),
        bounds=(0, asset["power"]),
    )
    return float(-found.fun)
