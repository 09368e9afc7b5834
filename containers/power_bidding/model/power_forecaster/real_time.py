"""The curve of the next real-time hour."""

from __future__ import annotations

from .history import Doubles
from .storage import Asset, Scheduler


def curve(
    asset: Asset,
    prices: Doubles,
    state_of_charge: float,
    *,
    floor: float,
    cap: float,
    most_segments: int,
    least_mw: float,
    awards: Doubles | None,
) -> list[tuple[float, float]]:
    """Return the schedule's MW of the first hour as a curve of one segment.

    :param prices: [h] expected dollars per MWh from the hour of the curve on
    :param state_of_charge: MWh at the begin of that hour
    """
    mw = Scheduler(asset, len(prices)).solve(prices, state_of_charge).net[0]
    return [(round(float(int(mw / least_mw + (1e-6 if mw > 0 else -1e-6)) * least_mw), 6), floor)]
