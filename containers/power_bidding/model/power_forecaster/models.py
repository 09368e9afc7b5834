"""Fitted models and their forecasts, in NumPy only. `fitting.py` fits them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from . import features, linear, network
from .history import Doubles
from .network import Network
from .panel import Panel
from .scale import Scale
from .trees import Trees

LINEAR_WINDOWS = (56, 91, 182, 364)
"""Numbers of past days to which linear models are fitted, one model for each number. A combination
of such models is better than a single one (Marcjasz et al., 2018)."""
BOOSTED, RECURRENT, EXTERNAL = "boosted trees", "recurrent network", "external forecast"


class Model(Protocol):
    def __call__(self, panel: Panel, begin: int, end: int) -> Doubles:
        """Return the forecasts of the days `begin` to `end`, [days, 24] dollars per MWh; NaN if missing."""
        ...


@dataclass(frozen=True)
class Linear:
    """Ridge regression. It is refitted for each forecast, which takes milliseconds."""

    window: int
    """Number of days to which it is fitted"""

    def __call__(self, panel: Panel, begin: int, end: int) -> Doubles:
        past = panel.past(begin, self.window)
        scale = panel.scale(past)
        scaled = scale.scaled(panel.prices)
        x = features.daily(panel.days, scaled, panel.feeds_known(past))
        return scale.prices(linear.ridge(x[past], scaled[past], x[begin:end]))


@dataclass(frozen=True)
class Boosted:
    """Gradient-boosted trees."""

    text: str
    """The trees in LightGBM's text format"""
    scale: Scale
    feeds: tuple[str, ...]

    @cached_property
    def trees(self) -> Trees:
        return Trees.read(self.text)

    def __call__(self, panel: Panel, begin: int, end: int) -> Doubles:
        scaled = self.scale.scaled(panel.prices)
        x = features.hourly(panel.days, scaled, panel.feeds_named(self.feeds))[begin:end]
        return self.scale.prices(self.trees(x.reshape(-1, x.shape[-1])).reshape(x.shape[:-1]))


@dataclass(frozen=True)
class Recurrent:
    """The recurrent network."""

    network: Network
    scale: Scale
    feeds: Mapping[str, tuple[float, float]]
    """Mean and standard deviation of each feed, by name"""

    def __call__(self, panel: Panel, begin: int, end: int) -> Doubles:
        given = inputs(panel, self.scale, self.feeds)
        return self.scale.prices(self.network(*(each[begin:end] for each in given)))


def inputs(
    panel: Panel, scale: Scale, standards: Mapping[str, tuple[float, float]]
) -> tuple[Doubles, Doubles, Doubles]:
    """Return the network's inputs for all days, see `network.inputs`.

    A missing value of a feed is replaced by the feed's last earlier value or, without one, by its mean.
    """
    feeds = panel.feeds_named(standards)
    for name, (mean, deviation) in standards.items():
        feeds[name] = features.carried((feeds[name] - mean) / deviation)
    return network.inputs(panel.days, scale.scaled(panel.prices), feeds)


@dataclass(frozen=True)
class External:
    """The external forecast in the history."""

    def __call__(self, panel: Panel, begin: int, end: int) -> Doubles:
        if panel.external is None:
            return np.full_like(panel.prices[begin:end], np.nan)
        return panel.external[begin:end]


def linear_families() -> dict[str, Model]:
    """Return the models that are refitted for each forecast, by name."""
    return {f"linear, {window} days": Linear(window) for window in LINEAR_WINDOWS}


def blended(scale: Scale, forecasts: Mapping[str, Doubles], shares: Mapping[str, float]) -> Doubles:
    """Return the weighted mean of forecasts, [24] dollars per MWh, computed with scaled prices.

    A forecast with a missing value is omitted, and the weights of the other forecasts increase. Raises
    ValueError if no forecast remains.
    """
    known = [name for name in shares if np.isfinite(forecasts[name]).all()]
    total = sum(shares[name] for name in known)
    if not total > 0:
        raise ValueError("forecasts must include one without missing values")
    mean = sum(shares[name] / total * scale.scaled(forecasts[name]) for name in known)
    return scale.prices(mean)
