"""Fitting of the models in `models.py`."""

from __future__ import annotations

import numpy as np

from . import features
from .decision_loss import DecisionLoss
from .models import Boosted, Recurrent, inputs
from .network import SEQUENCE
from .panel import Panel
from .storage import Asset


def boosted(panel: Panel, begin: int, seed: int) -> Boosted:
    """Fit gradient-boosted trees to the days before `begin`."""
    from . import boosting

    past = panel.past(begin)
    scale, feeds = panel.scale(past), panel.feeds_known(past)
    scaled = scale.scaled(panel.prices)
    x = features.hourly(panel.days, scaled, feeds)
    model = boosting.fit(x[past], scaled[past], seed)
    return Boosted(model.model_to_string(), scale, tuple(feeds))


def recurrent(panel: Panel, begin: int, seed: int, epochs: int, asset: Asset | None = None) -> Recurrent:
    """Fit the recurrent network to the days before `begin`.

    :param asset: continue training with this asset's decision loss, see `lstm.fit`; None: absolute error only
    """
    from . import lstm

    past = panel.past(begin, lags=SEQUENCE)
    known = slice(past.start, past.stop - 1)
    scale = panel.scale(past)
    standards = {
        name: (float(np.nanmean(feed[known])), float(np.nanstd(feed[known])) + 1e-9)
        for name, feed in panel.feeds_known(past).items()
    }
    sequences, weekdays, means = (each[past] for each in inputs(panel, scale, standards))
    loss = DecisionLoss(panel.prices[past], scale, asset) if asset else None
    network = lstm.fit(sequences, weekdays, means, scale.scaled(panel.prices)[past], seed, epochs, loss)
    return Recurrent(network, scale, standards)
