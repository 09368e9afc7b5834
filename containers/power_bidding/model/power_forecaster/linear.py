"""Ridge regression of a day's 24 prices."""

from __future__ import annotations

import numpy as np

from .history import Doubles

PENALTIES = (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)


def ridge(x: Doubles, y: Doubles, asked: Doubles) -> Doubles:
    """Fit `y` [n, 24] to the features `x` [n, F], return forecasts [m, 24] for the features `asked` [m, F].

    One penalty is chosen for all hours, by generalized cross-validation (Golub, Heath and Wahba, 1979).
    """
    mean, deviation = x.mean(0), x.std(0) + 1e-9
    centre = y.mean(0)
    u, s, vt = np.linalg.svd((x - mean) / deviation, full_matrices=False)
    rotated = u.T @ (y - centre)

    def error(penalty: float) -> float:
        kept = s**2 / (s**2 + penalty)
        residuals = y - centre - u @ (kept[:, None] * rotated)
        return float((residuals**2).sum() / (1 - (kept.sum() + 1) / len(x)) ** 2)

    best = min(PENALTIES, key=error)
    weights = vt.T @ ((s / (s**2 + best))[:, None] * rotated)
    return (asked - mean) / deviation @ weights + centre
