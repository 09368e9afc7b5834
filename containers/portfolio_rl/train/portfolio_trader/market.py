"""Prices: the price model of the AWS sample that this architecture follows, and a user's price history.

Each of the two is a `Market`, from which episodes of T time steps are drawn. A trader decides at the first
T-1 steps; the holdings are valued at the last step.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from toolkit.failure import FatalError

from .rules import shortened

Prices = np.ndarray[Any, np.dtype[np.float32]]
LOWEST_PRICE = 0.01
HIGHEST_PRICE = 1e9


class Episodes(NamedTuple):
    """E episodes of T time steps, for N assets."""

    prices: Prices
    """[E, T, N] dollars per unit"""
    signals: Prices
    """[E, T, Z] signals that a trader knows at each step in addition to the prices; Z may be 0"""


class Market(Protocol):
    """A source of episodes."""

    @property
    def steps(self) -> int:
        """Number of time steps in an episode, T."""
        ...

    @property
    def assets(self) -> int: ...

    @property
    def signals(self) -> int:
        """Number of signals per step, Z."""
        ...

    def draw(self, generator: np.random.Generator, count: int) -> Episodes:
        """Return `count` episodes."""
        ...


@dataclass(frozen=True)
class Curves:
    """Independent prices, normally distributed around mean curves."""

    means: np.ndarray[Any, np.dtype[np.float64]]
    """[T, N] dollars"""
    deviations: np.ndarray[Any, np.dtype[np.float64]]
    """[N] standard deviations in dollars"""

    @property
    def steps(self) -> int:
        return self.means.shape[0]

    @property
    def assets(self) -> int:
        return self.means.shape[1]

    @property
    def signals(self) -> int:
        return 0

    def draw(self, generator: np.random.Generator, count: int) -> Episodes:
        drawn = generator.standard_normal((count, *self.means.shape), dtype=np.float32)
        drawn *= self.deviations.astype(np.float32)
        drawn += self.means.astype(np.float32)
        np.maximum(drawn, LOWEST_PRICE, out=drawn)
        return Episodes(drawn, np.empty((*drawn.shape[:2], 0), np.float32))


def source_curves(first_is_on_the_curve: bool = True) -> Curves:
    """Return the price model of aws-samples/amazon-sagemaker-rl-action-masking (src/trading.py).

    The sample uses its variances 4, 2 and 7 as standard deviations, and so does this model. The sample's
    `reset` draws the first prices around 40, 35 and 48 dollars, which are not on its mean curves.

    :param first_is_on_the_curve: True: the first prices are drawn around the mean curves; False: around the
        means in the sample's `reset`
    """
    t = np.arange(20)
    means = np.stack(
        [
            40 + 0.4 * t + 4 * np.cos(2 * np.pi * t / 16),
            35 + 0.1 * t,
            48 + 0.3 * t - 6 * np.sin(2 * np.pi * t / 7),
        ],
        axis=1,
    )
    if not first_is_on_the_curve:
        means[0] = (40, 35, 48)
    return Curves(means.astype(np.float64), np.array([4.0, 2.0, 7.0]))


@dataclass(frozen=True)
class Scales:
    """Means and standard deviations of the raw signals of a price history, fixed when a policy is trained."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]


LOOK_BACK = 20
"""Number of earlier prices from which, with the current price, the signals of a decision are computed."""


def raw_signals(prices: Any) -> Any:
    """Return two signals for each asset from its last prices.

    :param prices: [..., LOOK_BACK + 1, N] dollars; the last one is the price at the decision
    :return: float64 [..., 2N]: for each asset, the logarithm of the last price minus that of the price before
        it; then for each asset, the logarithm of the last price minus the mean of all earlier logarithms
    """
    logs = np.log(np.asarray(prices, np.float64))
    last = logs[..., -1, :] - logs[..., -2, :]
    return np.concatenate([last, logs[..., -1, :] - logs[..., :-1, :].mean(-2)], axis=-1)


@dataclass(frozen=True)
class History:
    """Observed prices, of which each window is an episode, drawn with equal probability.

    The first `LOOK_BACK` prices are only used for signals.
    """

    prices: np.ndarray[Any, np.dtype[np.float64]]
    """[rows, N] dollars, oldest first"""
    scales: Scales
    """Scales of the history on which a policy is trained, also used for the signals of later prices."""
    steps: int = 20

    @staticmethod
    def scales_of(prices: Any) -> Scales:
        """Return the scales of a history, [rows, N]."""
        found = raw_signals(_windows(prices, LOOK_BACK + 1))
        return Scales(tuple(found.mean(0).tolist()), tuple(np.maximum(found.std(0), 1e-9).tolist()))

    @property
    def assets(self) -> int:
        return self.prices.shape[1]

    @property
    def signals(self) -> int:
        return 2 * self.assets

    def every(self) -> Episodes:
        """Return all windows, oldest first."""
        found = raw_signals(_windows(self.prices, LOOK_BACK + 1))
        found = (found - self.scales.mean) / self.scales.deviation
        prices = _windows(self.prices[LOOK_BACK:], self.steps)
        return Episodes(prices.astype(np.float32), _windows(found, self.steps).astype(np.float32))

    def draw(self, generator: np.random.Generator, count: int) -> Episodes:
        known = self.every()
        rows = generator.integers(len(known.prices), size=count)
        return Episodes(known.prices[rows], known.signals[rows])


def _windows(rows: Any, length: int) -> Any:
    """Return every window of `length` rows, [rows - length + 1, length, columns]."""
    return np.lib.stride_tricks.sliding_window_view(rows, length, axis=0).swapaxes(1, 2)


def read_prices(path: Path, names: tuple[str, ...], least: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Read a CSV file with one row for each time, oldest first, and a column for each of `names`.

    Other columns, such as a date, are ignored. Returns float64 [rows, N]. Raises `FatalError` that names the
    invalid line and column.

    :param least: minimum number of rows
    """
    with path.open(newline="", encoding="utf-8-sig") as handle:
        reader = csv.reader(handle)
        try:
            header = [name.strip() for name in next(reader, [])]
            for name in names:
                if header.count(name) != 1:
                    shown = shortened(", ".join(header))
                    raise FatalError(f"{path.name} must have one column {name!r}, its columns are {shown}")
            columns = [header.index(name) for name in names]
            rows = [
                [_price(row, column, f"{path.name} line {line}") for column in columns]
                for line, row in enumerate(reader, start=2)
                if row
            ]
        except UnicodeDecodeError as error:
            raise FatalError(f"{path.name} must be a CSV file in UTF-8, got {error.reason}") from None
        except csv.Error as error:
            raise FatalError(
                f"{path.name} line {reader.line_num} must be a row of a CSV file: {error}"
            ) from None
    if len(rows) < least:
        raise FatalError(f"{path.name} must have at least {least} rows of prices, got {len(rows)}")
    return np.array(rows, np.float64)


def _price(row: list[str], column: int, where: str) -> float:
    text = row[column].strip() if column < len(row) else ""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not LOWEST_PRICE <= value <= HIGHEST_PRICE:
        raise FatalError(
            f"{where} column {column + 1} must be a price of at least {LOWEST_PRICE} and at most"
            f" {HIGHEST_PRICE:g}, got {shortened(repr(text))}"
        )
    return value
