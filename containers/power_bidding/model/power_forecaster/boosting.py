"""Training of gradient-boosted trees (LightGBM) that forecast the hours of a day one by one."""

from __future__ import annotations

from typing import Any

import lightgbm
import numpy as np

from .history import Doubles

ROUNDS = 300
PARAMETERS: dict[str, Any] = {
    "objective": "l2",
    "learning_rate": 0.03,
    "num_leaves": 31,
    "min_data_in_leaf": 40,
    "lambda_l2": 5.0,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "num_threads": 1,
    "deterministic": True,
    "verbose": -1,
}


def fit(x: Doubles, y: Doubles, seed: int) -> lightgbm.Booster:
    """Fit trees that predict the scaled prices `y` [n, 24] from the features `x` [n, 24, F]."""
    known = np.isfinite(y)
    data = lightgbm.Dataset(x[known], y[known])
    return lightgbm.train(PARAMETERS | {"seed": seed}, data, ROUNDS)
