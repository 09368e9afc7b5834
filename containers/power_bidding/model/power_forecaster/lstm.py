"""Training of the recurrent network with TensorFlow's Keras. `network.py` makes forecasts from its
weights."""

from __future__ import annotations

import contextlib
import os
from functools import cache
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # set before the import, which already logs

import keras
import numpy as np
import tensorflow as tf

from .decision_loss import DecisionLoss, clipped
from .history import HOURS, Doubles
from .network import SEQUENCE, Network

UNITS = 48
BATCH = 32
RATE = 2e-3
DROPOUT = 0.2

with contextlib.suppress(RuntimeError):  # raised if TensorFlow has already been initialized
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


class Trainer:
    """The network for F features of a day and its compiled training step.

    Compiling takes longer than a fit, so one object makes all fits of a job. Keras's own `fit` would take
    five times as long for a network of this size.
    """

    def __init__(self, features: int):
        sequence = keras.Input((SEQUENCE, features))
        weekday, mean = keras.Input((7,)), keras.Input((HOURS,))
        self.recurrent = keras.layers.LSTM(UNITS, unroll=True)
        self.dropout = keras.layers.Dropout(DROPOUT, seed=0)
        self.head = keras.layers.Dense(HOURS, kernel_initializer="zeros")
        hidden = self.dropout(self.recurrent(sequence))
        output = self.head(keras.layers.Concatenate()([hidden, weekday])) + mean
        self.model = keras.Model([sequence, weekday, mean], output)
        self.optimizer = keras.optimizers.Adam(RATE)
        self.optimizer.build(self.model.trainable_variables)
        self._fresh = [np.zeros(each.shape) for each in self.optimizer.variables]
        self._fresh[[each.name for each in self.optimizer.variables].index("learning_rate")] = np.array(RATE)
        self._epoch = tf.function(self._train, reduce_retracing=True)
        self._loss: DecisionLoss | None = None
        self._decision_epoch = tf.function(self._train_decision, reduce_retracing=True)

    def _train(self, data: Any, order: Any) -> None:
        """Train on the batches in sequence.

        :param data: sequences, weekdays, means and targets of n days
        :param order: [batches, BATCH] indices of days
        """
        for batch in order:
            *given, targets = (tf.gather(each, batch) for each in data)
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.abs(self.model(given, training=True) - targets))
            variables = self.model.trainable_variables
            self.optimizer.apply(tape.gradient(loss, variables), variables)

    def _train_decision(self, data: Any, order: Any) -> None:
        """Train with the decision loss, batch by batch. The parameters are those of `_train`."""
        for batch in order:
            given = [tf.gather(each, batch) for each in data[:-1]]
            with tf.GradientTape() as tape:
                output = self.model(given, training=True)
            gradient = tf.numpy_function(self._gradient, [output, batch], tf.float32)
            gradient.set_shape(output.shape)
            variables = self.model.trainable_variables
            self.optimizer.apply(tape.gradient(output, variables, gradient), variables)

    def _gradient(self, output: Any, batch: Any) -> Any:
        """Return the clipped gradient of a batch's mean decision loss with regard to `output` [BATCH, 24]."""
        assert self._loss is not None  # noqa: S101 - set by `fit`
        _, gradients = self._loss(output, batch)
        return (clipped(gradients) / len(batch)).astype(np.float32)

    def _start(self, seed: int) -> None:
        """Initialize the weights and the optimizer, independent of earlier fits."""
        units, features = UNITS, self.recurrent.cell.kernel.shape[0]
        bias = np.zeros(4 * units)
        bias[units : 2 * units] = 1  # bias of the forget gate (Jozefowicz et al., 2015)
        self.recurrent.set_weights(
            [
                np.asarray(keras.initializers.GlorotUniform(seed)((features, 4 * units))),
                np.asarray(keras.initializers.Orthogonal(seed=seed)((units, 4 * units))),
                bias,
            ]
        )
        self.head.set_weights([np.zeros(each.shape) for each in self.head.get_weights()])
        for variable, value in zip(self.optimizer.variables, self._fresh, strict=True):
            variable.assign(value)
        self.dropout.seed_generator.state.assign([seed, 0])

    def fit(self, arrays: tuple[Doubles, ...], seed: int, epochs: int, loss: DecisionLoss | None) -> Network:
        self._start(seed)
        self._loss = loss
        data = tuple(tf.constant(each, tf.float32) for each in arrays)
        count = len(arrays[0])
        size = min(BATCH, count)
        generator = np.random.default_rng(seed)
        for epoch in [self._epoch, self._decision_epoch] if loss else [self._epoch]:
            for _ in range(epochs):
                order = generator.permutation(count)[: count // size * size].reshape(-1, size)
                epoch(data, tf.constant(order))
        weights = (*self.recurrent.get_weights(), *self.head.get_weights())
        return Network(*(np.asarray(each, np.float64) for each in weights))


@cache
def trainer(features: int) -> Trainer:
    return Trainer(features)


def fit(
    sequences: Doubles,
    weekdays: Doubles,
    means: Doubles,
    targets: Doubles,
    seed: int,
    epochs: int,
    loss: DecisionLoss | None = None,
) -> Network:
    """Fit the network to scaled prices [n, 24]; see `network.inputs` for the other arrays.

    :param epochs: epochs of training with the absolute error
    :param loss: decision loss of the n days, used in as many further epochs; None: no further epochs
    """
    return trainer(sequences.shape[-1]).fit((sequences, weekdays, means, targets), seed, epochs, loss)
