"""The files of a trained model, and the choice of the fit for a day, which must be to earlier days only."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from power_forecaster import fitting, models, naive, trained
from power_forecaster.history import EXTERNAL, History
from power_forecaster.models import BOOSTED, RECURRENT, Recurrent
from power_forecaster.network import KIND, Network
from power_forecaster.panel import Panel
from power_forecaster.scale import Scale
from power_forecaster.trained import JUDGED, SERVED, Fit, Trained
from toolkit.failure import FatalError

DAYS = 80
UNITS = 4


def panel() -> Panel:
    generator = np.random.default_rng(0)
    hours = 24 * DAYS
    prices = 30 + 10 * np.sin(2 * np.pi * np.arange(hours) / 24) + generator.normal(0, 2, hours)
    feeds = {"load": generator.normal(1000, 50, hours), EXTERNAL: prices + 1}
    return Panel.of(History(455_832, prices, feeds, "UTC"))


def fit(found: Panel, before: int) -> Fit:
    generator = np.random.default_rng(before)
    inputs = 24 + 24 + 7  # prices, load, weekday
    shapes = [(inputs, 4 * UNITS), (UNITS, 4 * UNITS), (4 * UNITS,), (UNITS + 7, 24), (24,)]
    weights = Network(*(generator.normal(0, 0.3, shape) for shape in shapes))
    recurrent = Recurrent(weights, Scale(30, 10), {"load": (1000.0, 50.0)})
    shares = {BOOSTED: 0.4, RECURRENT: 0.3, models.EXTERNAL: 0.1, "linear, 56 days": 0.1, "persistence": 0.1}
    day = int(found.days.dates[before])
    return Fit(day, fitting.boosted(found, before, 0), recurrent, shares)


@pytest.fixture(scope="module")
def model() -> Trained:
    found = panel()
    card = {"version": "1", "zone": "UTC"}
    return Trained(card, {"HUB": {SERVED: fit(found, 70), JUDGED: fit(found, 50)}})


def test_model_forecasts_the_same_from_its_files(model: Trained, tmp_path: Path) -> None:
    # given a model, and a copy that was written to files and read again
    trained.write(model, tmp_path)
    again = trained.read(tmp_path)
    # when both models forecast a day
    found = panel()
    for name, each in model.locations["HUB"].items():
        ours, theirs = (fit.forecast(found, 75) for fit in (each, again.locations["HUB"][name]))
        # then the forecasts are identical, and close to the prices
        assert (ours == theirs).all()
        assert np.abs(ours - found.prices[75]).mean() < 15


def test_day_is_judged_by_a_fit_of_earlier_days(model: Trained) -> None:
    dates = panel().days.dates
    befores = {day: getattr(model.unseen("HUB", int(dates[day])), "before", None) for day in (49, 50, 69, 70)}
    judged, served = (model.locations["HUB"][name].before for name in (JUDGED, SERVED))
    assert befores == {49: None, 50: judged, 69: judged, 70: served}


def test_missing_forecasts_leave_their_weight_to_the_others(model: Trained) -> None:
    # given a day without an external forecast
    found = panel()
    assert found.external is not None
    found.external[75] = np.nan
    forecast = model.locations["HUB"][SERVED].forecast(found, 75)
    assert np.isfinite(forecast).all()


@pytest.mark.parametrize("broken", ["model.json", "HUB/served/boosting.txt", "HUB/judged/network.npz"])
def test_incomplete_model_files_are_refused(model: Trained, broken: str, tmp_path: Path) -> None:
    trained.write(model, tmp_path)
    (tmp_path / broken).unlink()
    with pytest.raises(FatalError, match=r"could not read the model from model\.json and its other files"):
        trained.read(tmp_path)


def with_fields(folder: Path, **fields: Any) -> None:
    """Change fields of `model.json`; None removes one."""
    card = json.loads((folder / "model.json").read_text()) | fields
    card = {name: value for name, value in card.items() if value is not None}
    (folder / "model.json").write_text(json.dumps(card))


@pytest.mark.parametrize(
    ("fields", "got"),
    [({"kind": "another"}, "got another and 1"), ({"format": 2}, f"got {KIND} and 2")],
)
def test_model_of_another_kind_is_refused(
    model: Trained, fields: dict[str, Any], got: str, tmp_path: Path
) -> None:
    trained.write(model, tmp_path)
    with_fields(tmp_path, **fields)
    with pytest.raises(
        FatalError, match=f"could not read the champion from .*: kind and format must .*{got}"
    ):
        trained.read(tmp_path, "champion")


def test_model_without_a_kind_is_an_lstm(
    model: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a model.json without the fields `kind` and `format`, as in earlier versions
    trained.write(model, tmp_path)
    with_fields(tmp_path, kind=None, format=None)
    # then a package with the LSTM reads it, and a package with another network does not
    monkeypatch.setattr(trained, "KIND", "lstm")
    assert trained.read(tmp_path).version == model.version
    monkeypatch.setattr(trained, "KIND", "another")
    with pytest.raises(FatalError, match="must be another and 1, got lstm and 1"):
        trained.read(tmp_path)


def test_model_with_other_arrays_is_refused(model: Trained, tmp_path: Path) -> None:
    trained.write(model, tmp_path)
    path = tmp_path / "HUB" / SERVED / trained.NETWORK
    with np.load(path) as arrays:
        np.savez(path, **arrays, hidden=np.zeros(3))
    with pytest.raises(FatalError, match=r"network\.npz must have the arrays bias, .*, got bias, .*hidden"):
        trained.read(tmp_path)


def test_model_with_weights_of_unknown_forecasts_is_refused(model: Trained, tmp_path: Path) -> None:
    fits = {name: replace(each, shares={"perceptron": 1.0}) for name, each in model.locations["HUB"].items()}
    trained.write(replace(model, locations={"HUB": fits}), tmp_path)
    with pytest.raises(
        FatalError, match=r"weights must be for the forecasts boosted trees, .*, got perceptron"
    ):
        trained.read(tmp_path)


def test_fit_is_naive_only_if_no_learned_model_has_weight(model: Trained) -> None:
    fit = model.locations["HUB"][SERVED]
    shares = dict.fromkeys(naive.names(), 0.25)
    assert replace(fit, shares=shares).naive_only
    assert replace(fit, shares=shares | {BOOSTED: 0.0}).naive_only
    assert not replace(fit, shares=shares | {BOOSTED: 0.25}).naive_only
