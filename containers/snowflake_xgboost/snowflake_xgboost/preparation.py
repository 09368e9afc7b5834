"""From a table's columns to the numbers that XGBoost sees, the same in training and in serving.

Numbers stay as they are. Text becomes a category, by a dictionary that all hosts agree on. Two
columns that are coordinates also appear rotated: a tree cuts along its axes, and a map has no axes.
Blanks are left to XGBoost, which learns a side for them at each cut, or their rows are dropped.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .failure import Failure
from .settings import Settings
from .split import Split, named

if TYPE_CHECKING:
    from snowflake.connector import SnowflakeConnection

    from .source import Table

MOST_CATEGORIES = 255
"""A text column with more distinct values is a name or prose, not a category."""

ANGLES = tuple(angle for angle in range(10, 180, 10) if angle != 90)
"""Degrees by which coordinates are rotated; 0 and 90 are the coordinates themselves."""


@dataclass(frozen=True)
class Preparation:
    """What has to be known to prepare a row; kept beside the model in `preparation.json`.

    `kinds`: number, text or boolean by source column, in the order that serving expects.
    `categories`: the dictionary of each text column. `left_out`: columns not used, and why.
    """

    table: str
    target: str
    kinds: dict[str, str]
    categories: dict[str, list[str]]
    coordinates: tuple[str, ...]
    blanks: str
    split: Split
    left_out: dict[str, str]

    @property
    def features(self) -> list[str]:
        """Names of what XGBoost sees, in order."""
        return [*self.kinds, *(f"{'~'.join(self.coordinates)} {angle}°" for angle in self._angles)]

    @property
    def types(self) -> list[str]:
        """XGBoost's type of each feature: q a quantity, c a category."""
        own = ["c" if kind == "text" else "q" for kind in self.kinds.values()]
        return own + ["q"] * len(self._angles)

    @property
    def _angles(self) -> tuple[int, ...]:
        return ANGLES if self.coordinates else ()

    def encode(self, rows: pa.Table) -> np.ndarray:
        """Arrow columns by source name → float32 [rows, features]; blank, and text not in the
        dictionary: NaN. Raises `Failure` for a number that is infinite, or too large for float32."""
        result = np.empty((rows.num_rows, len(self.features)), dtype=np.float32)
        for i, (name, kind) in enumerate(self.kinds.items()):
            result[:, i] = self._text(rows[name], name) if kind == "text" else _number(rows[name], name)
        if self.coordinates:
            y, x = (_number(rows[name], name) for name in self.coordinates)
            for i, angle in enumerate(self._angles, start=len(self.kinds)):
                result[:, i] = x * math.cos(math.radians(angle)) + y * math.sin(math.radians(angle))
        return result

    def _text(self, column: pa.ChunkedArray, name: str) -> np.ndarray:
        dictionary = pa.array(self.categories[name], pa.string())
        codes = pc.call_function("index_in", [column], pc.SetLookupOptions(dictionary))
        return codes.cast(pa.float64()).to_numpy()

    def save(self, folder: Path) -> None:
        (folder / "preparation.json").write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, folder: Path) -> Preparation:
        """Raises `Failure` when the folder holds no model of this container's."""
        path = folder / "preparation.json"
        if not path.exists():
            raise Failure(f"{folder.name} holds no preparation.json: it is not a model of this container")
        try:
            return cls.from_dict(json.loads(path.read_text()))
        except (ValueError, TypeError, KeyError):
            raise Failure(f"{folder.name}'s preparation.json is not of this container") from None

    @classmethod
    def from_dict(cls, found: dict) -> Preparation:
        split = found["split"]
        found["split"] = Split(tuple(split["columns"]), split["seed"], split["fraction"])
        found["coordinates"] = tuple(found["coordinates"])
        return cls(**found)


def prepare(connection: SnowflakeConnection, table: Table, settings: Settings) -> Preparation:
    """Decide how this table is prepared. Raises `Failure` when no usable feature is left."""
    from .source import categories  # here, for serving starts faster without Snowflake

    kinds, dictionary, left_out = {}, {}, dict(table.left_out)
    for name, kind in table.kinds.items():
        if table.filled[name] == 0:
            left_out[name] = "blank in all rows"
            continue
        if kind == "text":
            values = categories(connection, table, name, MOST_CATEGORIES)
            if values is None:
                left_out[name] = f"text of more than {MOST_CATEGORIES} distinct values"
                continue
            if not values:
                left_out[name] = "blank in all rows"
                continue
            dictionary[name] = values
        kinds[name] = kind
    if not kinds:
        reasons = "; ".join(f"{name}: {why}" for name, why in left_out.items())
        raise Failure(f"table {table.name} has no usable feature beside target {table.target} ({reasons})")
    coordinates = tuple(_coordinate(name, kinds, table) for name in settings.coordinates)
    split = Split.of(table, settings.seed, settings.validation_fraction)
    return Preparation(
        table.name,
        table.target,
        kinds,
        dictionary,
        coordinates,
        settings.blanks,
        split,
        left_out,
    )


def _coordinate(wanted: str, kinds: dict[str, str], table: Table) -> str:
    name = named(wanted, list(kinds))
    if name is None or kinds[name] != "number":
        raise Failure(
            f"{wanted} of hyperparameter coordinates is not a column of numbers of table {table.name}"
        )
    return name


def _number(column: pa.ChunkedArray, name: str) -> np.ndarray:
    """float64 [rows], blank as NaN."""
    values = column.to_numpy()
    if np.any(np.abs(values) > np.finfo(np.float32).max):
        raise Failure(f"column {name} holds a number that is infinite or larger than 3.4e38")
    return values
