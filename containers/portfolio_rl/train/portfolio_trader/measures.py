"""Value and risk of a policy on some episodes, and paired comparisons of two policies on the same episodes.

The episodes of a price history are overlapping windows: `overlap` consecutive windows have prices in common
and count as one episode. So a confidence interval is as wide as if only every `overlap`th window
had been traded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

from .values import Run


@dataclass(frozen=True)
class Ratio:
    """A ratio of two means, or a mean difference in dollars, with its 95 % confidence interval."""

    value: float
    low: float
    high: float


def ratio(ours: Any, theirs: Any, overlap: int = 1) -> Ratio:
    """Return mean(ours) / mean(theirs) of paired values, [E] each, with an interval by the delta method."""
    value = float(ours.mean() / theirs.mean())
    return _interval(value, (ours - value * theirs) / abs(theirs.mean()), overlap)


def gain(ours: Any, theirs: Any, overlap: int = 1) -> Ratio:
    """Return the mean of the paired difference in dollars, with its 95 % interval."""
    difference = ours - theirs
    return _interval(float(difference.mean()), difference, overlap)


def _interval(value: float, deviations: Any, overlap: int) -> Ratio:
    """Return `value` with its 95 % interval by Student's t; at least two episodes must not overlap."""
    episodes = len(deviations) / overlap
    error = float(deviations.std() / np.sqrt(episodes - 1) * student.ppf(0.975, episodes - 1))
    return Ratio(value, value - error, value + error)


def summary(run: Run, start: float, overlap: int = 1, tail: float = 0.05) -> dict[str, float]:
    """Return value, risk and cost of a policy's trades.

    `sharpe`: mean gain of an episode divided by its standard deviation, not annualized.
    `cvar_5`: mean of the lowest twentieth of the final values, in dollars.
    `drawdown`: mean over episodes of the largest fall from a previous peak, as a share of that peak.
    `turnover`: mean over episodes of the value traded in an episode, as a share of its mean total value.
    """
    final = run.final
    deviation = float(final.std(ddof=1)) if len(final) > 1 else 0.0
    peak = np.maximum.accumulate(run.values, axis=1)
    worst = np.sort(final)[: max(1, int(tail * len(final)))]
    return {
        "mean": float(final.mean()),
        "standard_error": deviation / float(np.sqrt(len(final) / overlap)),
        "deviation": deviation,
        "sharpe": float((final - start).mean() / deviation) if deviation else 0.0,
        "cvar_5": float(worst.mean()),
        "drawdown": float((1 - run.values / peak).max(1).mean()),
        "turnover": float((run.traded / run.values.mean(1)).mean()),
        "fees": float(run.fees.mean()),
    }
