"""A recurrent network's forecasts in NumPy, so that the endpoint starts without TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .features import WEEK, lagged, mean_before
from .history import Days, Doubles

KIND = "lstm"
"""Kind of the network, in `model.json`. Change it whenever the arrays of `Network` or the result of
`inputs` change: `evaluate` does not compare models of different kinds."""
SEQUENCE = 14
"""Number of days that the network reads. The last one is the day before the forecast day."""


@dataclass(frozen=True)
class Network:
    """An LSTM layer of U units (Hochreiter and Schmidhuber, 1997) and a linear layer on top.

    The weekday is a further input of the linear layer. The output of this layer is added to the mean prices
    of the last seven days.
    """

    kernel: Doubles
    """[F, 4U] gates in Keras's order: input, forget, cell, output"""
    recurrent: Doubles
    """[U, 4U]"""
    bias: Doubles
    """[4U]"""
    head: Doubles
    """[U + 7, 24]"""
    head_bias: Doubles
    """[24]"""

    def __call__(self, sequences: Any, weekdays: Any, means: Any) -> Doubles:
        """Return scaled prices [n, 24].

        :param sequences: [n, SEQUENCE, F] from `inputs`
        :param weekdays: [n, 7] one-hot
        :param means: [n, 24] scaled
        """
        units = self.recurrent.shape[0]
        hidden = cell = np.zeros((len(sequences), units))
        for step in range(sequences.shape[1]):
            gates = sequences[:, step] @ self.kernel + hidden @ self.recurrent + self.bias
            let_in, keep, new, out = (gates[:, units * k : units * (k + 1)] for k in range(4))
            cell = _sigmoid(keep) * cell + _sigmoid(let_in) * np.tanh(new)
            hidden = _sigmoid(out) * np.tanh(cell)
        return np.concatenate([hidden, weekdays], axis=1) @ self.head + self.head_bias + means


def _sigmoid(values: Doubles) -> Doubles:
    return 0.5 * (1 + np.tanh(0.5 * values))


def inputs(days: Days, scaled: Doubles, feeds: dict[str, Doubles]) -> tuple[Doubles, Doubles, Doubles]:
    """Return sequences [D, SEQUENCE, F], weekdays [D, 7] and means [D, 24] of every day.

    The sequences of the first `SEQUENCE` days are NaN. In each row of a sequence, feeds are one day older
    than prices.

    :param scaled: [D, 24] prices
    :param feeds: [D, 24] by name, standardized, without missing values
    """
    weekdays = np.eye(WEEK)[days.weekday]
    rows = np.concatenate([scaled, *(lagged(feed, 1) for feed in feeds.values()), weekdays], axis=1)
    sequences = np.full((len(rows), SEQUENCE, rows.shape[1]), np.nan)
    if len(rows) > SEQUENCE:
        windows = np.lib.stride_tricks.sliding_window_view(rows[:-1], SEQUENCE, axis=0)
        sequences[SEQUENCE:] = windows.swapaxes(1, 2)
    return sequences, weekdays, mean_before(scaled, WEEK)
