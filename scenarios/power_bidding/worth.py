"""Revenue of the replay, of the day-ahead schedule alone, and of perfect foresight."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import linprog


def measured(results: dict[str, Any], asset: dict[str, Any]) -> dict[str, float]:
    """Return the metrics of one asset, computed from the market's settlements."""
    rows = results["settled"]
    prices = np.array([row["price"] for row in rows])
    real = sum(row["revenue"] for row in rows)
    return {
        "revenue_real_time": real,
        "revenue_self_schedule": awards_alone(rows, asset),
        "real_time_ratio": real / foresight(prices, asset),
    }


def awards_alone(rows: list[dict[str, Any]], asset: dict[str, Any]) -> float:
    """Return the revenue in dollars of following the day-ahead awards, without real-time offers.

    The battery starts empty and delivers awards as far as its charge allows. Undelivered MWh settle at the
    real-time price.
    """
    charge = dollars = 0.0
    for row in rows:
        award = row["award"]
        if award > 0:
            mw = min(award, charge * asset["discharge_efficiency"])
            charge -= mw / asset["discharge_efficiency"]
        else:
            mw = max(award, -(asset["energy"] - charge) / asset["charge_efficiency"])
            charge -= mw * asset["charge_efficiency"]
        dollars += award * row["day_ahead_price"] + (mw - award) * row["price"]
    return dollars


def foresight(prices: np.ndarray, asset: dict[str, Any]) -> float:
    """Return the maximum revenue in dollars of a battery that starts empty, for known hourly prices, [T]."""
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
