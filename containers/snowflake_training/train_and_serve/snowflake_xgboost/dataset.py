"""The rows of one host, prepared, on disk between Snowflake and XGBoost.

XGBoost reads the rows several times (once to find the quantiles, once to put every value into its
bin), Snowflake should be read once, and memory should hold neither. So each Arrow batch becomes
float32 rows at the end of a file, and XGBoost gets the file in pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xgboost as xgb

from toolkit.failure import Failure

from .preparation import LARGEST, USABLE, Preparation
from .source import Batch

PIECE = 65_536
"""Rows handed to XGBoost at a time."""


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
        """(features [n, f], labels [n]) until the end; one piece of no rows when there are none."""
        with self.path.open("rb") as file:
            for _ in range(max(1, -(-self.rows // PIECE))):
                rows = np.fromfile(file, dtype=np.float32, count=PIECE * self.width)
                rows = rows.reshape(-1, self.width)
                yield rows[:, 1:], rows[:, 0]

    def labels(self) -> np.ndarray:
        return np.concatenate([labels for _, labels in self.pieces()])


class Pieces(xgb.DataIter):
    """A shelf as XGBoost wants to be fed."""

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
    """What one host holds. `pulled` counts every row that came; `blank_target` those dropped for want
    of a target, `blank_features` those with a blank feature, dropped too when `blanks` is drop."""

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
        """Train and validation, binned alike. All hosts must call this together: they find the
        quantiles of the whole table with each other."""
        types = self.preparation.types
        some = threads or None  # None: all there are
        train = xgb.QuantileDMatrix(Pieces(self.train, types), enable_categorical=True, nthread=some)
        validation = xgb.QuantileDMatrix(
            Pieces(self.validation, types), ref=train, enable_categorical=True, nthread=some
        )
        return train, validation


def collect(batches: Iterable[Batch], preparation: Preparation, folder: Path, record: bool = False) -> Share:
    """Prepare what is pulled and put it into `folder`. `record` keeps each row's hash as well."""
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
    """(features [k, f], labels [k], kept bool [n]) of the k rows of a batch that can be used."""
    if np.any(np.abs(batch.target) > LARGEST):
        raise Failure(
            f"target {preparation.target} of table {preparation.table} holds a value that is not {USABLE}"
        )
    labelled = ~np.isnan(batch.target)
    rows = preparation.encode(batch.columns)
    whole = ~np.isnan(rows).any(axis=1)
    kept = labelled & whole if preparation.blanks == "drop" else labelled
    counts.pulled += len(labelled)
    counts.blank_target += int((~labelled).sum())
    counts.blank_features += int((labelled & ~whole).sum())
    return rows[kept], batch.target[kept], kept
