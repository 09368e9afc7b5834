"""The preprocessed rows of a host, on disk.

XGBoost reads the rows several times: once for the quantiles, and once to assign the values to bins. But the
rows should be read from Snowflake only once, and should not all be in memory together. So each Arrow batch is
appended to a file as float32 rows, and XGBoost reads the file in pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xgboost as xgb

from toolkit.failure import FatalError

from .preparation import LARGEST, USABLE, Preparation
from .source import Batch

PIECE = 65_536
"""Number of rows in a piece."""


class Shelf:
    """A file of float32 rows [label, features...]."""

    def __init__(self, path: Path, features: int):
        self.path, self.width, self.rows = path, features + 1, 0
        path.write_bytes(b"")

    def append(self, features: np.ndarray, labels: np.ndarray) -> None:
        with self.path.open("ab") as file:
            np.column_stack([labels.astype(np.float32), features]).tofile(file)
        self.rows += len(labels)

    def pieces(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield features [n, f] and labels [n] in pieces; a single empty piece if there are no rows."""
        with self.path.open("rb") as file:
            for _ in range(max(1, -(-self.rows // PIECE))):
                rows = np.fromfile(file, dtype=np.float32, count=PIECE * self.width)
                rows = rows.reshape(-1, self.width)
                yield rows[:, 1:], rows[:, 0]

    def labels(self) -> np.ndarray:
        return np.concatenate([labels for _, labels in self.pieces()])


class Pieces(xgb.DataIter):
    """Iterator over the pieces of a `Shelf`, in the form that XGBoost requires."""

    def __init__(self, shelf: Shelf, types: list[str]):
        super().__init__(release_data=True)
        self.shelf, self.types, self.left = shelf, types, shelf.pieces()

    def next(self, input_data: Callable[..., Any]) -> bool:
        for features, labels in self.left:
            input_data(data=features, label=labels, feature_types=self.types)
            return True
        return False

    def reset(self) -> None:
        self.left = self.shelf.pieces()


@dataclass
class Share:
    """The preprocessed rows of a host, and counts of its rows.

    `pulled`: number of rows that were read. `blank_target`: number of rows without a target, which are
    dropped. `blank_features`: number of rows with a target and a missing feature, which are dropped if the
    hyperparameter `blanks` is `drop`.
    """

    preparation: Preparation
    train: Shelf
    validation: Shelf
    hashes: np.ndarray
    pulled: int = 0
    blank_target: int = 0
    blank_features: int = 0

    @property
    def counts(self) -> dict[str, int]:
        return {
            "rows_pulled": self.pulled,
            "rows_train": self.train.rows,
            "rows_validation": self.validation.rows,
            "rows_blank_target": self.blank_target,
            "rows_blank_features": self.blank_features,
        }

    def matrices(self, threads: int) -> tuple[xgb.QuantileDMatrix, xgb.QuantileDMatrix]:
        """Return the matrices for training and validation, with the same bins.

        All hosts must call this at the same time, because they compute the quantiles of the whole table
        together.

        :param threads: number of threads; 0: all
        """
        types = self.preparation.types
        some = threads or None  # None: all
        train = xgb.QuantileDMatrix(Pieces(self.train, types), enable_categorical=True, nthread=some)
        validation = xgb.QuantileDMatrix(
            Pieces(self.validation, types), ref=train, enable_categorical=True, nthread=some
        )
        return train, validation


def collect(batches: Iterable[Batch], preparation: Preparation, folder: Path, record: bool = False) -> Share:
    """Preprocess batches and write their rows to `folder`.

    :param record: whether the result has the hash of each row
    """
    width = len(preparation.features)
    folder.mkdir(parents=True, exist_ok=True)
    share = Share(
        preparation,
        Shelf(folder / "train", width),
        Shelf(folder / "validation", width),
        np.empty(0, np.int64),
    )
    hashes = []
    for batch in batches:
        rows, labels, kept = usable(batch, preparation, share)
        held_out = preparation.split.held_out(batch.hashes)[kept]
        share.train.append(rows[~held_out], labels[~held_out])
        share.validation.append(rows[held_out], labels[held_out])
        if record:
            hashes.append(batch.hashes)
    share.hashes = np.concatenate(hashes) if hashes else share.hashes
    return share


def usable(
    batch: Batch, preparation: Preparation, counts: Share
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features [k, f] and labels [k] of a batch's k usable rows, and which rows are usable, bool [n].

    Updates the counts in `counts`. Raises `FatalError` for a target that is too large.
    """
    if np.any(np.abs(batch.target) > LARGEST):
        raise FatalError(
            f"target {preparation.target} of table {preparation.table} must be {USABLE} in each row"
        )
    labelled = ~np.isnan(batch.target)
    rows = preparation.encode(batch.columns)
    whole = ~np.isnan(rows).any(axis=1)
    kept = labelled & whole if preparation.blanks == "drop" else labelled
    counts.pulled += len(labelled)
    counts.blank_target += int((~labelled).sum())
    counts.blank_features += int((labelled & ~whole).sum())
    return rows[kept], batch.target[kept], kept
