"""A user's price history, and rules for it."""

from __future__ import annotations

import json

import numpy as np


def history(rows: int = 300, seed: int = 0) -> str:
    """Return a CSV file of two random walks."""
    steps = np.random.default_rng(seed).normal(0, 0.02, (rows, 2))
    prices = 40 * np.exp(np.cumsum(steps, axis=0))
    return "date,A,B\n" + "".join(f"{day},{a:.4f},{b:.4f}\n" for day, (a, b) in enumerate(prices))


RULES = json.dumps(
    {
        "assets": [{"name": "A", "lot": 1}, {"name": "B", "lot": 1, "buy_rate": 0.001, "sell_rate": 0.001}],
        "constraints": [{"kind": "cap", "assets": ["B"], "share": 0.5}],
    }
)
