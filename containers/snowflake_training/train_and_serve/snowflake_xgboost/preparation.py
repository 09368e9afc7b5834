"""Preprocessing of a table's columns to features, the same in training and in serving.

Numbers are unchanged. Text becomes a category, by a dictionary that is the same on all hosts. If two columns
are coordinates, the rotated coordinates are added as features, because trees split along axes and the
directions of a map are arbitrary. Rows with missing values are kept, and XGBoost learns a default side for
them at each split; if the hyperparameter `blanks` is `drop`, they are dropped.

`Preparation.encode` is the only place where a value is trimmed, treated as missing, looked up, converted or
rejected. Training passes columns to it as Snowflake stores them, and serving passes cells as a client
sends them.
"""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute defines its functions at import.

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from toolkit.failure import FatalError

from .identifiers import find
from .settings import Settings
from .split import Split
from .table import Table

if TYPE_CHECKING:
    from snowflake.connector import SnowflakeConnection

MOST_CATEGORIES = 255
"""Maximum number of distinct values of a text column. More values are names or prose, not categories."""

MOST_SPELLINGS = 10_000
"""Maximum number of distinct values, as stored and not yet trimmed, that are read from a text column."""

WHITESPACE = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008"
    "\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
"""Characters trimmed from both ends of a text: white space in Unicode and Python."""

MISSING = r"^([+-]?[nN][aA][nN])?$"
NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
"""Patterns of a missing number and of a number, in trimmed text."""

LARGEST = float(np.finfo(np.float32).max)
USABLE = "a finite number of at most 3.4e38"

ANGLES = tuple(angle for angle in range(10, 180, 10) if angle != 90)
"""Degrees by which coordinates are rotated; 0 and 90 are the coordinates themselves."""


class CellError(FatalError):
    """A value cannot be encoded: in row `row`, counted from 0, `column` is not `expected`."""

    def __init__(self, column: str, row: int, expected: str):
        self.column, self.row, self.expected = column, row, expected
        super().__init__(f"column {column} holds a value that is not {expected}")


@dataclass(frozen=True)
class Preparation:
    """Parameters of the preprocessing, stored with the model in `preparation.json`.

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
        """Names of the features, in order."""
        return [*self.kinds, *(f"{'~'.join(self.coordinates)} {angle}°" for angle in self._angles)]

    @property
    def types(self) -> list[str]:
        """XGBoost's type of each feature: q for a quantity, c for a category."""
        own = ["c" if kind == "text" else "q" for kind in self.kinds.values()]
        return own + ["q"] * len(self._angles)

    @property
    def _angles(self) -> tuple[int, ...]:
        return ANGLES if self.coordinates else ()

    def encode(self, rows: pa.Table) -> np.ndarray:
        """Encode Arrow columns, named as in the source, as float32 [rows, features]; missing values are NaN.

        The Arrow type of a text column is `string`; that of a column of numbers or booleans is `double`, or
        `string` if a client sent text. Text that is not in the dictionary is a missing value. Raises
        `CellError` for an invalid value.
        """
        result = np.empty((rows.num_rows, len(self.features)), dtype=np.float32)
        for i, (name, kind) in enumerate(self.kinds.items()):
            result[:, i] = (
                self._codes(rows[name], name) if kind == "text" else _numbers(rows[name], name, kind)
            )
        if self.coordinates:
            y, x = (_numbers(rows[name], name, "number") for name in self.coordinates)
            for i, angle in enumerate(self._angles, start=len(self.kinds)):
                result[:, i] = x * math.cos(math.radians(angle)) + y * math.sin(math.radians(angle))
        return result

    def _codes(self, column: pa.ChunkedArray, name: str) -> np.ndarray:
        dictionary = trimmed(pa.array(self.categories[name], pa.string()))
        codes = pc.call_function("index_in", [trimmed(column)], pc.SetLookupOptions(dictionary))
        return codes.cast(pa.float64()).to_numpy(zero_copy_only=False)

    def save(self, folder: Path) -> None:
        (folder / "preparation.json").write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, folder: Path) -> Preparation:
        """Read `preparation.json` in a model's folder. Raises `FatalError` if it is absent or invalid."""
        path = folder / "preparation.json"
        if not path.exists():
            raise FatalError(
                f"folder {folder.name} must have a model of this container, but has no preparation.json"
            )
        try:
            return cls.from_dict(json.loads(path.read_text()))
        except (ValueError, TypeError, KeyError):
            raise FatalError(
                f"preparation.json in folder {folder.name} must be written by this container"
            ) from None

    @classmethod
    def from_dict(cls, found: dict) -> Preparation:
        split = found["split"]
        found["split"] = Split(tuple(split["columns"]), split["seed"], split["fraction"])
        found["coordinates"] = tuple(found["coordinates"])
        return cls(**found)


def prepare(connection: SnowflakeConnection, table: Table, settings: Settings) -> Preparation:
    """Return the preprocessing of a table. Raises `FatalError` if no usable feature is left."""
    from .source import distinct  # imported here, because serving starts faster without Snowflake's connector

    kinds, dictionary, left_out = {}, {}, dict(table.left_out)
    for name, kind in table.kinds.items():
        if table.filled[name] == 0:
            left_out[name] = "blank in all rows"
            continue
        if kind == "text":
            spellings = distinct(connection, table, name, MOST_SPELLINGS)
            values = sorted(set(trimmed(pa.array(spellings, pa.string())).to_pylist()) - {"", None})
            if len(spellings) > MOST_SPELLINGS or len(values) > MOST_CATEGORIES:
                left_out[name] = f"text with more than {MOST_CATEGORIES} distinct values"
                continue
            if not values:
                left_out[name] = "blank in all rows"
                continue
            dictionary[name] = values
        kinds[name] = kind
    if not kinds:
        reasons = "; ".join(f"{name}: {why}" for name, why in left_out.items())
        raise FatalError(
            f"table {table.name} must have a usable feature besides target {table.target},"
            f" got none ({reasons})"
        )
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
    name = find(wanted, list(kinds))
    if name is None or kinds[name] != "number":
        raise FatalError(
            f"hyperparameter coordinates must name columns of numbers of table {table.name}, got {wanted}"
        )
    return name


def trimmed(column: Any) -> Any:
    """Trim white space from both ends of each value of an Arrow text column."""
    return pc.utf8_trim(column, characters=WHITESPACE)


def _numbers(column: pa.ChunkedArray, name: str, kind: str) -> np.ndarray:
    """Return a column of numbers or booleans as float64 [rows], missing values as NaN. Raises `CellError`."""
    if pa.types.is_string(column.type):
        column = _read(column, name, kind)
    values = column.to_numpy()
    if kind == "boolean":
        _refuse(~np.isnan(values) & (values != 0) & (values != 1), name, "true or false")
    _refuse(np.abs(values) > LARGEST, name, USABLE)
    return values


def _read(column: pa.ChunkedArray, name: str, kind: str) -> pa.ChunkedArray:
    """Parse a column of numbers or booleans from text. Raises `CellError`."""
    text = trimmed(column)
    if kind == "boolean":
        lower = pc.utf8_lower(text)
        for word, digit in (("true", "1"), ("false", "0")):
            text = pc.if_else(pc.equal(lower, word), digit, text)
    missing = pc.match_substring_regex(text, MISSING)
    known = pc.or_(missing, pc.match_substring_regex(text, NUMBER))
    expected = "true or false" if kind == "boolean" else "a number"
    _refuse(~known.fill_null(True).to_numpy().astype(bool), name, expected)
    return pc.if_else(missing, pa.scalar(None, pa.string()), text).cast(pa.float64())


def _refuse(wrong: np.ndarray, name: str, expected: str) -> None:
    """Raise `CellError` for the first row that is true in `wrong`, if there is one."""
    if wrong.any():
        raise CellError(name, int(wrong.argmax()), expected)
