"""The hyperparameters of a training job."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any
from zoneinfo import ZoneInfo

from toolkit.failure import FatalError
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
    except FatalError:
        raise ValueError from None


BATTERY = Asset()
ERROR, DECISION = "error", "decision"


@dataclass(frozen=True)
class Settings(Options):
    """Hyperparameters."""

    time_zone: str = option(_zone, "the time zone of the market's days, such as America/Chicago")
    price_column: str = text("the name of the price's column", default="price")
    asset: Asset = option(_asset, "an asset's fields as a JSON object", default=BATTERY)  # noqa: RUF009 - a field
    """The asset whose revenue measures the forecasts"""
    judged_days: int = whole(14, 56, default=28)
    """Number of days at the end of the history on which the fit `judged` is evaluated; it is not fitted to
    them"""
    trailing_days: int = whole(14, 364, default=TRAILING)
    """Number of days from which a fit's weights are learned: the days before the judged days for the fit
    `judged`, the last days of the history for the fit `served`"""
    refit_days: int = whole(1, 56, default=28)
    """Days between two fits of trees and network, for the forecasts from which the weights are learned"""
    prior_days: float = number(0, 1000, default=PRIOR)
    """Weight, in days, of the prior that all weights are equal"""
    epochs: int = whole(1, 1000, default=EPOCHS)
    """Epochs of the network"""
    network_loss: str = choice(ERROR, DECISION, default=ERROR)
    """Loss of the network. `error`: the absolute error; `decision`: the absolute error, and after it the
    asset's decision loss"""
    seed: int = whole(0, 2**31 - 1, default=0)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
