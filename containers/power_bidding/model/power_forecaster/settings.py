"""The hyperparameters of a training job."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any
from zoneinfo import ZoneInfo

from toolkit.failure import Failure
from toolkit.options import Options, choice, number, option, text, whole

from .day_ahead import EPOCHS, PRIOR, TRAILING
from .storage import Asset, asset_of


def _zone(given: str) -> str:
    try:
        return ZoneInfo(given).key
    except OSError:
        raise ValueError from None


def _asset(given: str) -> Asset:
    try:
        return asset_of(json.loads(given), "asset")
    except Failure:
        raise ValueError from None


BATTERY = Asset()
ERROR, DECISION = "error", "decision"


@dataclass(frozen=True)
class Settings(Options):
    """Hyperparameters."""

    time_zone: str = option(_zone, "the time zone of the market's days, such as America/Chicago")
    price_column: str = text("the name of the price's column", default="price")
    asset: Asset = option(_asset, "an asset's fields as a JSON object", default=BATTERY)  # noqa: RUF009 - a field
    """The asset whose revenue judges the forecasts"""
    judged_days: int = whole(14, 56, default=28)
    """Last days of the history, which the judged fit has not seen"""
    trailing_days: int = whole(14, 364, default=TRAILING)
    """Days before the judged ones, and before the end, that the weights are learnt on"""
    refit_days: int = whole(1, 56, default=28)
    """Days from one fit of trees and network to the next, for the forecasts that the weights are learnt on"""
    prior_days: float = number(0, 1000, default=PRIOR)
    """Days that equal weights count for"""
    epochs: int = whole(1, 1000, default=EPOCHS)
    """Passes of the network over its days"""
    network_loss: str = choice(ERROR, DECISION, default=ERROR)
    """Loss of the network: `error`, the absolute error, or `decision`, then also the asset's decision loss"""
    seed: int = whole(0, 2**31 - 1, default=0)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
