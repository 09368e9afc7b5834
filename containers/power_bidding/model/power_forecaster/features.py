"""Features of a market day, from values that are known when its bids are due.

Bids for day D are sent on D-1. Day-ahead prices are known up to the end of D-1, because the market published
them on D-2. Feeds are known up to the end of D-2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .history import Days, Doubles

LAGS = (1, 2, 3, 7)
"""Lags of prices, in days."""
FEED_LAGS = (2, 7)
WEEK = 7


def lagged(grid: Doubles, days: int) -> Doubles:
    """Return a grid [D, ...] with, for each day, the row `days` before it; NaN at the beginning."""
    found = np.full_like(grid, np.nan)
    found[days:] = grid[:-days]
    return found


def mean_before(grid: Doubles, days: int) -> Doubles:
    """Return for each day the mean of the `days` rows before it, [D, 24]; NaN if there are fewer rows."""
    found = np.full_like(grid, np.nan)
    if len(grid) > days:
        windows = np.lib.stride_tricks.sliding_window_view(grid[:-1], days, axis=0)
        found[days:] = windows.mean(-1)
    return found


def daily(days: Days, scaled: Doubles, feeds: dict[str, Doubles]) -> Doubles:
    """Return a row for each day, [D, F], for a model that forecasts its 24 hours together.

    :param scaled: [D, 24] prices, scaled by `Scale`
    :param feeds: [D, 24] by name
    """
    yesterday = lagged(scaled, 1)
    parts: list[Any] = [lagged(scaled, back) for back in LAGS]
    parts += [mean_before(scaled, WEEK), _extremes(yesterday), np.eye(WEEK)[days.weekday]]
    for feed in feeds.values():
        parts += [_extremes(lagged(feed, back)) for back in FEED_LAGS]
    return carried(np.concatenate(parts, axis=1))


def hourly(days: Days, scaled: Doubles, feeds: dict[str, Doubles]) -> Doubles:
    """Return a row for each hour of each day, [D, 24, F], for a model that forecasts hours one by one."""
    shape = scaled.shape
    yesterday = lagged(scaled, 1)
    parts: list[Any] = [np.arange(shape[1]), days.weekday[:, None]]
    parts += [lagged(scaled, back) for back in (*LAGS, 2 * WEEK)]
    parts += [mean_before(scaled, span) for span in (WEEK, 4 * WEEK)]
    parts += [np.roll(yesterday, hours, axis=1) for hours in (-2, -1, 1, 2)]
    parts += [column[:, None] for column in _extremes(yesterday).T]
    parts += [yesterday[:, hour, None] for hour in (7, 18, 23)]
    parts += [lagged(scaled, back).mean(1, keepdims=True) for back in (2, WEEK)]
    for feed in feeds.values():
        parts += [lagged(feed, back) for back in FEED_LAGS]
    return np.stack([np.broadcast_to(part, shape) for part in parts], axis=-1)


def _extremes(grid: Doubles) -> Doubles:
    return np.stack([grid.mean(1), grid.max(1), grid.min(1)], axis=1)


def carried(rows: Doubles) -> Doubles:
    """Return rows [D, F]. A missing value is replaced by the column's last earlier value, or by 0."""
    known = np.isfinite(rows)
    last = np.maximum.accumulate(np.where(known, np.arange(len(rows))[:, None], -1), axis=0)
    found = np.take_along_axis(rows, np.maximum(last, 0), axis=0)
    return np.where(last >= 0, found, 0.0)
