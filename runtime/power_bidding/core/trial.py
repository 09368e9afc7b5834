"""Trial of a new endpoint with a request as in `make_bids` for every asset, with an empty battery."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from power_bidding.core import answers, readings
from power_bidding.core.assets import AssetSettings, MarketSettings
from power_bidding.core.bid_ports import Datasets, HistoryTable, Models
from power_bidding.core.offers import real_time


@dataclass(frozen=True)
class Trial:
    assets: Mapping[str, AssetSettings]
    market: MarketSettings
    history: HistoryTable
    datasets: Datasets
    models: Models

    def attempt(self, endpoint: str, run: int) -> None:
        """Send the requests and check the answers. Raises `EndpointThrottledError` and `ModelAnswerError`."""
        for asset in self.assets.values():
            values = readings.gathered(self.history, self.datasets, asset.location, run, None)
            level = asset.battery.lowest
            body = self.models.ask(
                endpoint, readings.request(asset, self.market, run, values, level, {}, None)
            )
            answers.checked(body, [real_time(run, self.market)], asset, self.market, level)
