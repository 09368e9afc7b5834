"""Tables of numbers in Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pyarrow.types

from toolkit.failure import FatalError

LABEL = "label"


def numbers(path: Path, table: pyarrow.parquet.ParquetFile) -> tuple[tuple[str, ...], Any, list[str]]:
    """Return the names of the columns except `label`, their values as float32 [n, columns], and the labels.

    Raises `FatalError` for columns of other types than numbers, and for missing or infinite values.
    """
    schema = table.schema_arrow
    names = tuple(name for name in schema.names if name != LABEL)
    for name in names:
        if not _numeric(schema.field(name).type):
            raise FatalError(f"{path.name}: column {name} must hold numbers, got {schema.field(name).type}")
    content = table.read()
    labels = content[LABEL].to_pylist()
    if None in labels:
        raise FatalError(f"{path.name} row {labels.index(None)} must have a label")
    columns = [content[name].cast(pyarrow.float64()).to_numpy() for name in names]
    with np.errstate(over="ignore"):
        values = np.stack(columns, axis=1).astype(np.float32)
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = bad[0].tolist()
        raise FatalError(f"{path.name} row {row}: {names[column]} must be a finite number")
    return names, values, [str(label) for label in labels]


def _numeric(kind: Any) -> bool:
    types = pyarrow.types
    return types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
