"""Selection of a real-time policy by the revenue that each one would have earned on the previous days."""

from __future__ import annotations

import numpy as np

from . import replay
from .prices import Outlook, day_begin, day_of
from .real_time import ERROR_DAYS, TRAILING_DAYS, chosen
from .replay import DAY, Market
from .request import CURVE, Request

ROLLING, SCHEDULE = "rolling", "schedule"
"""`ROLLING` offers the MW of the best schedule for the next hours, `SCHEDULE` the MW of the best schedule
for the market day."""
PUBLISHED = 14
"""Hour of the day from which the day-ahead prices of the next day are considered known: CAISO and ERCOT
publish them at 13:00 and 13:30."""


def policy_of(request: Request, found: Outlook) -> str:
    """Return the policy, `CURVE`, `ROLLING` or `SCHEDULE`, that earned most in the last `TRAILING_DAYS`.

    Each policy is replayed separately, from the lowest level of the store, on the hourly prices of whole past
    market days. For an hour without a real-time price, the day-ahead price is used. If no day can be
    replayed, the result is `CURVE`.

    Hourly means hide price spikes of a few minutes, so the revenue of curves is underestimated: see
    benchmarks/README.md.
    """
    end = min(day_begin(day_of(request.now, found.history.zone), found.history.zone), found.published)
    days = max(min((end - found.start) // DAY, TRAILING_DAYS + ERROR_DAYS), 0)
    day_ahead = found.between(end - DAY * days, end)
    missing = np.flatnonzero(~np.isfinite(day_ahead))
    days -= int(missing[-1]) // DAY + 1 if len(missing) else 0
    begin = end - DAY * days
    day_ahead = found.between(begin, end)
    real_time = request.real_time[begin - found.start : end - found.start]
    real_time = np.pad(real_time, (0, len(day_ahead) - len(real_time)), constant_values=np.nan)
    known = np.isfinite(real_time)
    if not known.any():
        return CURVE
    market = Market(np.where(known, real_time, day_ahead)[:, None], day_ahead, PUBLISHED)
    asset, terms = request.asset, request.market
    policies = {
        CURVE: replay.by_water_value(market, asset, terms),
        ROLLING: replay.rolling(asset, terms),
        SCHEDULE: replay.self_schedule(market, asset, terms),
    }
    return chosen(
        {name: replay.replay(market, asset, each, 0, DAY * days).daily for name, each in policies.items()}
    )
