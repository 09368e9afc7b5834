"""`train`: fit the models of all locations, learn their weights, evaluate them on days used for neither.

Channel `history`: one CSV file for each location, `LOCATION.csv`, see the README.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from dataclasses import replace
from functools import partial
from importlib.metadata import distributions
from typing import Any

from toolkit import sagemaker
from toolkit.failure import FatalError
from toolkit.stopping import Interruption

from . import day_ahead, evaluate, fitting, locations, naive, trained
from .day_ahead import LEAST_TRAILING, Walk
from .locations import Location
from .models import BOOSTED, RECURRENT, Boosted, Model, Recurrent
from .panel import LEAST
from .request import hour_text
from .settings import DECISION, Settings
from .trained import JUDGED, SERVED, Fit, Trained

log = logging.getLogger(__name__)


def run(settings: Settings) -> None:
    """Train, and write the model and its evaluation. Metrics go to the log as `name=value`."""
    stop = Interruption()
    given = locations.read(sagemaker.CHANNELS / "history", settings.price_column, settings.time_zone)
    card = _card(given, settings)
    started = time.process_time()
    fits = {name: _fitted(name, each, settings, stop) for name, each in given.items()}
    seconds = time.process_time() - started
    card["cpu_seconds"] = round(seconds, 1)
    result = evaluate.compared(given, Trained(card, fits), None, 0.0)
    model = Trained(card | {"judged": result}, fits)
    trained.write(model, sagemaker.MODEL)
    sagemaker.write_json(sagemaker.OUTPUT / "evaluation.json", result)
    log.info("trained %s in %.1f CPU seconds", model.version, seconds)
    log.info("validation:capture=%.4f", result["capture"]["candidate"])
    log.info("validation:loss=%.4f", result["loss"]["candidate"])


def _card(given: dict[str, Location], settings: Settings) -> dict[str, Any]:
    digests = {name: each.digest for name, each in given.items()}
    trained_to = hour_text(min(each.known_to for each in given.values()))
    identity = hashlib.sha256(json.dumps([digests, settings.as_dict()]).encode()).hexdigest()[:12]
    return {
        "version": f"{trained_to}-{identity}",
        "trained_to": trained_to,
        "zone": settings.time_zone,
        "settings": settings.as_dict(),
        "data": digests,
        "packages": dict(sorted((each.name, each.version) for each in distributions())),
    }


def _fitted(name: str, location: Location, settings: Settings, stop: Interruption) -> dict[str, Fit]:
    """Return the fits of a location: one to all days, and one to the days before the judged days.

    The forecasts from which weights are learned are made as in production, by models fitted to earlier days.
    """
    panel, end = location.panel, location.end
    judged = end - settings.judged_days
    least = LEAST + LEAST_TRAILING + settings.judged_days
    if end < least:
        raise FatalError(f"{name}.csv must have at least {least} whole market days with prices, got {end}")
    # one of the refits falls on the first judged day, so that it uses exactly the days before the judged days
    steps = -(-min(settings.trailing_days, judged - LEAST) // settings.refit_days)
    begin = max(judged - steps * settings.refit_days, LEAST + (judged - LEAST) % settings.refit_days)
    families = day_ahead.families(
        settings.seed, panel, settings.refit_days, settings.refit_days, settings.epochs
    )
    if settings.network_loss == DECISION:
        network = partial(fitting.recurrent, seed=settings.seed, epochs=settings.epochs, asset=settings.asset)
        families = [replace(each, fit=network) if each.name == RECURRENT else each for each in families]
    walks = {each: Walk(forecast, {}) for each, forecast in naive.naive(panel.prices).items()}
    models: dict[str, Model] = {}
    for family in families:
        stop.check()
        walks[family.name] = day_ahead.walk(panel, family, begin, end)
        if family.name in (BOOSTED, RECURRENT):
            models[family.name] = family.fit(panel, end)
        log.info("%s: %s fitted", name, family.name)
    forecasts = {each: found.forecasts for each, found in walks.items()}

    def fit(before: int, trees: Model, network: Model) -> Fit:
        assert isinstance(trees, Boosted)  # noqa: S101 - the model of the family BOOSTED
        assert isinstance(network, Recurrent)  # noqa: S101
        shares = day_ahead.shares(
            panel, forecasts, before, settings.trailing_days, settings.prior_days, at=before - 1
        )
        first = int(panel.days.dates[before - 1]) + 1
        return Fit(first, trees, network, shares)

    return {
        SERVED: fit(end, models[BOOSTED], models[RECURRENT]),
        JUDGED: fit(judged, walks[BOOSTED].models[judged], walks[RECURRENT].models[judged]),
    }
