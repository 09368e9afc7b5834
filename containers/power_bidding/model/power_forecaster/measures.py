"""Capture, which is revenue divided by the revenue of perfect foresight, with block-bootstrap intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .history import Doubles

BLOCK = 7
"""Length of a bootstrap block in days; more than 1, because price spikes and weather last for days."""
RESAMPLES = 2_000
SEED = 20_260_101


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


def capture(revenue: Doubles, foresight: Doubles) -> Interval:
    """Return sum(revenue) / sum(foresight) over the same days, [D] dollars each."""
    sums = _resampled(np.stack([revenue, foresight], axis=1))
    return _interval(float(revenue.sum() / foresight.sum()), sums[:, 0] / sums[:, 1])


def difference(ours: Doubles, theirs: Doubles, foresight: Doubles) -> Interval:
    """Return the difference of two captures on the same days."""
    sums = _resampled(np.stack([ours - theirs, foresight], axis=1))
    return _interval(float((ours - theirs).sum() / foresight.sum()), sums[:, 0] / sums[:, 1])


def _resampled(days: Doubles) -> Doubles:
    """Return sums over resampled days, [RESAMPLES, columns], by the circular block bootstrap (Politis and
    Romano, 1992).

    :param days: [D, columns]
    """
    count = len(days)
    blocks = -(-count // BLOCK)
    cumulated = np.concatenate(
        [np.zeros((1, days.shape[1])), np.cumsum(np.concatenate([days, days]), axis=0)]
    )
    starts = np.random.default_rng(SEED).integers(count, size=(RESAMPLES, blocks))
    lengths = np.full(blocks, BLOCK)
    lengths[-1] = count - BLOCK * (blocks - 1)
    return (cumulated[starts + lengths] - cumulated[starts]).sum(1)


def _interval(value: float, resampled: Doubles) -> Interval:
    low, high = np.quantile(resampled, (0.025, 0.975))
    return Interval(value, float(low), float(high))
