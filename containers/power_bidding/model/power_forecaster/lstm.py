"""Training of the recurrent network, by TensorFlow's Keras. `network.py` forecasts with its weights."""

from __future__ import annotations

import keras
import numpy as np

from .history import HOURS, Doubles
from .network import Network

UNITS = 48
EPOCHS = 60
BATCH = 32
RATE = 2e-3
DROPOUT = 0.2


def fit(sequences: Doubles, weekdays: Doubles, means: Doubles, targets: Doubles, seed: int) -> Network:
    """Fit the network to scaled prices [n, 24]; see `network.inputs` for the other shapes."""
    keras.utils.set_random_seed(seed)
    sequence = keras.Input(sequences.shape[1:])
    weekday, mean = keras.Input(weekdays.shape[1:]), keras.Input(means.shape[1:])
    recurrent = keras.layers.LSTM(UNITS)
    hidden = keras.layers.Dropout(DROPOUT)(recurrent(sequence))
    head = keras.layers.Dense(HOURS, kernel_initializer="zeros")
    output = head(keras.layers.Concatenate()([hidden, weekday])) + mean
    model = keras.Model([sequence, weekday, mean], output)
    model.compile(keras.optimizers.Adam(RATE), "mae")
    model.fit([sequences, weekdays, means], targets, epochs=EPOCHS, batch_size=BATCH, verbose=0)
    arrays = [np.asarray(array, np.float64) for array in (*recurrent.get_weights(), *head.get_weights())]
    keras.backend.clear_session()
    return Network(*arrays)
