"""Day-ahead forecasts: families of models, each fitted to earlier days, and their combination.

There is no look-ahead: a forecast for day D uses prices before D, feeds before D-1, and an external forecast
for D that was available when the bids for D were due.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from . import fitting
from .ensemble import weights
from .history import Doubles
from .models import BOOSTED, EXTERNAL, RECURRENT, External, Model, blended, linear_families
from .panel import LEAST, WINDOW, Panel

TRAILING, PRIOR = 91, 30.0
"""Number of past days from which the families' weights are learned, and weight, in days, of the prior that
all weights are equal.

Of 12 pairs of these two values, this pair had the highest capture on ERCOT's prices of 2021 at three hubs;
the 12 captures differed by at most .002."""
LEAST_TRAILING = 14
TREES_EVERY, NETWORK_EVERY = 7, 28
"""Days between two fits in a backtest. Fitting the network more often did not help on the prices of 2021."""
EPOCHS = 15
"""Training epochs of the network. More epochs did not help on the prices of 2021."""


@dataclass(frozen=True)
class Family:
    """A kind of model, and the frequency of its fits."""

    name: str
    every: int
    """Days between two fits"""
    fit: Callable[[Panel, int], Model]
    """Returns a model fitted to the days of a panel before the day with a given index"""


def families(
    seed: int,
    panel: Panel,
    trees_every: int = TREES_EVERY,
    network_every: int = NETWORK_EVERY,
    epochs: int = EPOCHS,
) -> list[Family]:
    """Return the families for a panel, with an external forecast only if the panel has one."""

    def unfitted(model: Model) -> Callable[[Panel, int], Model]:
        return lambda *_: model

    found = [Family(name, 1, unfitted(model)) for name, model in linear_families().items()]
    found.append(Family(BOOSTED, trees_every, partial(fitting.boosted, seed=seed)))
    found.append(Family(RECURRENT, network_every, partial(fitting.recurrent, seed=seed, epochs=epochs)))
    if panel.external is not None:
        found.append(Family(EXTERNAL, len(panel.days), unfitted(External())))
    return found


@dataclass(frozen=True)
class Walk:
    """A family's forecasts, each by a model that was fitted to earlier days."""

    forecasts: Doubles
    """[D, 24] dollars per MWh; NaN on days that are not forecast"""
    models: dict[int, Model]
    """Models by their first forecast day; each model was fitted to the days before its first forecast day"""


def walk(panel: Panel, family: Family, begin: int, end: int) -> Walk:
    """Forecast the days `begin` to `end`, and refit the model every `family.every` days."""
    found, models = np.full_like(panel.prices, np.nan), {}
    for first in range(max(begin, LEAST), end, family.every):
        last = min(first + family.every, end)
        models[first] = family.fit(panel, first)
        found[first:last] = models[first](panel, first, last)
    return Walk(found, models)


def shares(
    panel: Panel,
    forecasts: dict[str, Doubles],
    day: int,
    trailing: int = TRAILING,
    prior: float = PRIOR,
    at: int | None = None,
) -> dict[str, float]:
    """Return the weights of the families for a day, learned on the days before it.

    A family gets no weight if it has no forecast for the day, or too few forecasts for the days before. The
    other families get equal weights if fewer than `LEAST_TRAILING` days before have forecasts of all of them.

    :param at: the day for which forecasts must exist; None: `day`
    """
    at = day if at is None else at
    past = np.arange(max(0, day - trailing), day)
    known = {
        name: np.isfinite(each[past]).all(1)
        for name, each in forecasts.items()
        if np.isfinite(each[at]).all()
    }
    most = max(each.sum() for each in known.values())
    least = max(LEAST_TRAILING, most / 2)
    names = [name for name, each in known.items() if each.sum() >= least] or list(known)
    common = past[np.all([known[name] for name in names], axis=0)]
    found = np.full(len(names), 1 / len(names))
    if len(common) >= LEAST_TRAILING:
        scale = panel.scale(slice(max(0, day - WINDOW), day))
        every = np.stack([forecasts[name][common] for name in names])
        found = weights(scale.scaled(every), scale.scaled(panel.prices[common]), prior)
    return dict(zip(names, found.tolist(), strict=True))


def combined(panel: Panel, forecasts: dict[str, Doubles], begin: int, end: int) -> Doubles:
    """Return the combined forecasts for the days `begin` to `end`, [D, 24] dollars per MWh.

    The weights for a day are learned on the days before it. Rows of other days are NaN.
    """
    found = np.full_like(panel.prices, np.nan)
    for day in range(begin, end):
        scale = panel.scale(slice(max(0, day - WINDOW), day))
        of_day = {name: each[day] for name, each in forecasts.items()}
        found[day] = blended(scale, of_day, shares(panel, forecasts, day))
    return found
