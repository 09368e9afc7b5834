"""Value and risk of a run, and paired comparisons of two runs on the same prices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .values import Run

Z = 1.96
"""Standard errors on each side of a 95 % interval."""


@dataclass(frozen=True)
class Ratio:
    """A ratio of two means over the same episodes, with its 95 % interval."""

    value: float
    low: float
    high: float


def ratio(ours: Any, theirs: Any) -> Ratio:
    """Return mean(ours) / mean(theirs) over paired episodes, [E] each, by the delta method."""
    value = float(ours.mean() / theirs.mean())
    error = float((ours - value * theirs).std(ddof=1) / np.sqrt(len(ours)) / abs(theirs.mean()))
    return Ratio(value, value - Z * error, value + Z * error)


def gain(ours: Any, theirs: Any) -> Ratio:
    """Return the mean of the paired difference in dollars, with its 95 % interval."""
    difference = ours - theirs
    error = float(difference.std(ddof=1) / np.sqrt(len(difference)))
    value = float(difference.mean())
    return Ratio(value, value - Z * error, value + Z * error)


def summary(run: Run, start: float, tail: float = 0.05) -> dict[str, float]:
    """Return value, risk and cost of a run.

    `sharpe`: mean gain of an episode over its standard deviation, not annualized.
    `cvar_5`: mean of the lowest twentieth of the final values, in dollars.
    `drawdown`: mean over episodes of the largest fall from a previous peak, as a share of that peak.
    `turnover`: mean of what is traded in an episode over the mean total value of the episode.
    """
    final = run.final
    deviation = float(final.std(ddof=1)) if len(final) > 1 else 0.0
    peak = np.maximum.accumulate(run.values, axis=1)
    worst = np.sort(final)[: max(1, int(tail * len(final)))]
    return {
        "mean": float(final.mean()),
        "standard_error": deviation / float(np.sqrt(len(final))),
        "deviation": deviation,
        "sharpe": float((final - start).mean() / deviation) if deviation else 0.0,
        "cvar_5": float(worst.mean()),
        "drawdown": float((1 - run.values / peak).max(1).mean()),
        "turnover": float((run.traded / run.values.mean(1)).mean()),
        "fees": float(run.fees.mean()),
    }
