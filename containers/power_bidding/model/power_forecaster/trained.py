"""A trained model as files: `model.json`, and for each location the fits of trees and network.

model.json
HB_NORTH/served/boosting.txt, network.npz     fitted to all days
HB_NORTH/judged/...                           fitted to the days before the judged days
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from toolkit import sagemaker
from toolkit.failure import FatalError

from . import naive
from .history import EPOCH, Doubles
from .models import (
    BOOSTED,
    EXTERNAL,
    RECURRENT,
    Boosted,
    External,
    Model,
    Recurrent,
    blended,
    linear_families,
)
from .network import KIND, Network
from .panel import WINDOW, Panel
from .scale import Scale

CARD = "model.json"
TREES, NETWORK = "boosting.txt", "network.npz"
SERVED, JUDGED = "served", "judged"
FORMAT = 1
"""Version of the files' layout. Increase it when the layout changes."""
FIRST = {"kind": "lstm", "format": 1}
"""Kind and format of models that were trained before `model.json` had these fields."""
FORECASTS = {*naive.names(), *linear_families(), BOOSTED, RECURRENT, EXTERNAL}
"""Names of all forecasts that may have a weight."""


@dataclass(frozen=True)
class Fit:
    """Models and weights, fitted to the days before the day `before`."""

    before: int
    """Days since 1970-01-01"""
    boosted: Boosted
    recurrent: Recurrent
    shares: dict[str, float]
    """Weights of the families of models, by name"""

    @property
    def naive_only(self) -> bool:
        """Whether all weight is on naive forecasts, as after training on a short history."""
        return {name for name, share in self.shares.items() if share > 0} <= set(naive.names())

    def forecast(self, panel: Panel, day: int) -> Doubles:
        """Return the forecast of a day of the panel from the days before it, [24] dollars per MWh.

        Linear models are fitted to these days; naive forecasts need no fit.
        """
        models: dict[str, Model] = linear_families() | {
            BOOSTED: self.boosted,
            RECURRENT: self.recurrent,
            EXTERNAL: External(),
        }
        found = {name: each[day] for name, each in naive.naive(panel.prices).items()}
        for name in self.shares:
            if name in models:
                found[name] = models[name](panel, day, day + 1)[0]
        return blended(panel.scale(slice(max(0, day - WINDOW), day)), found, self.shares)


@dataclass(frozen=True)
class Trained:
    """The model of all locations."""

    card: dict[str, Any]
    locations: dict[str, dict[str, Fit]]
    """For each location, its fits by name: `served` and `judged`"""

    @property
    def version(self) -> str:
        return self.card["version"]

    @property
    def zone(self) -> str:
        return self.card["zone"]

    def unseen(self, location: str, day: int) -> Fit | None:
        """Return the newest fit that uses only days before `day`, which is in days since 1970-01-01."""
        found = [fit for fit in self.locations[location].values() if fit.before <= day]
        return max(found, key=lambda fit: fit.before, default=None)


def write(trained: Trained, folder: Path) -> None:
    """Write the files of a model, and `model.json` last."""
    described: dict[str, Any] = {}
    for location, fits in trained.locations.items():
        described[location] = {}
        for name, fit in fits.items():
            described[location][name] = _described(fit)
            sagemaker.write_bytes(folder / location / name / TREES, fit.boosted.text.encode())
            arrays = io.BytesIO()
            np.savez(
                arrays, **{each.name: getattr(fit.recurrent.network, each.name) for each in fields(Network)}
            )
            sagemaker.write_bytes(folder / location / name / NETWORK, arrays.getvalue())
    made = {"kind": KIND, "format": FORMAT}
    sagemaker.write_json(folder / CARD, trained.card | made | {"fits": described})


def _described(fit: Fit) -> dict[str, Any]:
    return {
        "before": date.fromordinal(EPOCH + fit.before).isoformat(),
        "weights": fit.shares,
        "trees": {
            "scale": [fit.boosted.scale.median, fit.boosted.scale.width],
            "feeds": list(fit.boosted.feeds),
        },
        "network": {
            "scale": [fit.recurrent.scale.median, fit.recurrent.scale.width],
            "feeds": {name: list(each) for name, each in fit.recurrent.feeds.items()},
        },
    }


def read(folder: Path, what: str = "model") -> Trained:
    """Read the files of a model. Raises `FatalError` if they are not a valid model of this package's kind.

    :param what: name of the model in the error, such as `champion`
    """
    try:
        card = FIRST | json.loads((folder / CARD).read_text())
        if (card["kind"], card["format"]) != (KIND, FORMAT):
            raise ValueError(
                f"kind and format must be {KIND} and {FORMAT}, got {card['kind']} and {card['format']}"
            )
        locations = {
            location: {name: _fit(folder / location / name, each) for name, each in fits.items()}
            for location, fits in card["fits"].items()
        }
        found = Trained(card, locations)
        if not (
            locations and found.version and found.zone and all(SERVED in each for each in locations.values())
        ):
            raise ValueError("the model must have a version, a zone, and a fit `served` for each location")
    except Exception as error:  # invalid files may cause any exception
        raise FatalError(f"could not read the {what} from {CARD} and its other files: {error}") from None
    return found


def _fit(folder: Path, described: dict[str, Any]) -> Fit:
    trees, network = described["trees"], described["network"]
    boosted = Boosted((folder / TREES).read_text(), Scale(*trees["scale"]), tuple(trees["feeds"]))
    with np.load(folder / NETWORK, allow_pickle=False) as arrays:
        names = {each.name for each in fields(Network)}
        if set(arrays.files) != names:
            raise ValueError(f"{NETWORK} must have the arrays {_list(names)}, got {_list(arrays.files)}")
        weights = Network(**{name: arrays[name] for name in names})
    if unknown := set(described["weights"]) - FORECASTS:
        raise ValueError(f"weights must be for the forecasts {_list(FORECASTS)} only, got {_list(unknown)}")
    standards = {name: (mean, deviation) for name, (mean, deviation) in network["feeds"].items()}
    return Fit(
        date.fromisoformat(described["before"]).toordinal() - EPOCH,
        boosted,
        Recurrent(weights, Scale(*network["scale"]), standards),
        {name: float(share) for name, share in described["weights"].items()},
    )


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
