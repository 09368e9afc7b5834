"""The recurrent network in NumPy computes the same results as Keras, and learns."""

from __future__ import annotations

import numpy as np

from power_forecaster import network
from power_forecaster.decision_loss import DecisionLoss
from power_forecaster.history import History
from power_forecaster.scale import Scale
from power_forecaster.storage import Asset


def test_numpy_gives_the_forecasts_of_keras() -> None:
    import keras

    # given an LSTM layer and a linear layer of Keras with random weights
    keras.utils.set_random_seed(0)
    generator = np.random.default_rng(0)
    sequences = generator.normal(size=(20, network.SEQUENCE, 40)).astype(np.float32)
    weekdays, means = np.eye(7)[generator.integers(7, size=20)], generator.normal(size=(20, 24))
    recurrent, head = keras.layers.LSTM(16), keras.layers.Dense(24, bias_initializer="random_normal")
    hidden = recurrent(sequences)
    expected = head(keras.ops.concatenate([hidden, weekdays.astype(np.float32)], axis=1)) + means
    # when NumPy computes with the same weights, then the results are the same in single precision
    ours = network.Network(*recurrent.get_weights(), *head.get_weights())(sequences, weekdays, means)
    assert np.abs(ours - np.asarray(expected)).max() < 1e-5


def test_training_beats_the_mean_of_the_last_week() -> None:
    from power_forecaster import lstm

    # given days whose prices alternate, so that the mean of a week does not forecast them
    days = 160
    shape = np.sin(np.arange(24))
    prices = np.stack([shape if day % 2 else -shape for day in range(days)]).ravel()
    prices += np.random.default_rng(0).normal(0, 0.1, len(prices))
    found = History(455_832, prices, {}, "UTC")
    scaled = found.days.grid(found.prices)
    sequences, weekdays, means = network.inputs(found.days, scaled, {})
    past, later = slice(network.SEQUENCE, 120), slice(120, days)
    # when the network is fitted twice to the first 120 days
    models = [lstm.fit(sequences[past], weekdays[past], means[past], scaled[past], 0, 60) for _ in range(2)]
    model, again = models
    assert (model.kernel == again.kernel).all()
    # then the network forecasts the later days better than the mean of the last week
    error = np.abs(model(sequences[later], weekdays[later], means[later]) - scaled[later]).mean()
    assert error < 0.5 * np.abs(means[later] - scaled[later]).mean()


def test_decision_loss_falls_where_it_is_trained() -> None:
    from power_forecaster import lstm

    # given days with a price peak at a random hour, and a few price spikes
    generator = np.random.default_rng(0)
    peaks = generator.integers(6, 21, 90)[:, np.newaxis]
    prices = 30 + 40 * np.exp(-((np.arange(24) - peaks) ** 2) / 8) + generator.normal(0, 3, (90, 24))
    prices[generator.integers(90, size=5), 18] += 1_000
    found = History(455_832, prices.ravel(), {}, "UTC")
    scale = Scale.of(prices)
    scaled, past = scale.scaled(prices), slice(network.SEQUENCE, 90)
    given = [each[past] for each in network.inputs(found.days, scaled, {})]
    loss = DecisionLoss(prices[past], scale, Asset())
    days = np.arange(90 - network.SEQUENCE)
    # when three networks are trained: without the decision loss, with it, and again without it
    error, decision, again = (lstm.fit(*given, scaled[past], 0, 15, each) for each in (None, loss, None))
    # then the second network has a lower decision loss than the first
    assert loss(decision(*given), days)[0].mean() < 0.9 * loss(error(*given), days)[0].mean()
    # and the third network equals the first
    assert all((getattr(again, name) == value).all() for name, value in vars(error).items())
