"""The examples for the lines of a manifest: scaled pictures, or rows of a table.

/opt/ml/processing/pictures/    the objects below the S3 prefix of the input `pictures`
/opt/ml/processing/table/       Parquet files with a column `source` and columns of numbers
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image, ImageOps

from toolkit.failure import FatalError

from .manifests import Line
from .settings import Settings

log = logging.getLogger(__name__)

PICTURES, TABLE = "pictures", "table"
SOURCE = "source"
"""Name of a table's column with the items' sources"""
NAMED = 5
"""Maximum number of unreadable items that an error or a log message names"""


@dataclass(frozen=True)
class Examples:
    lines: Sequence[Line]
    features: Any
    """float32 [n, d]"""
    columns: Sequence[str]
    """Names of a table's columns; empty for pictures"""
    pictures: Any | None
    """uint8 [n, side, side, channels]; None for a table"""
    digests: Sequence[bytes]
    """Equal for items of equal content"""
    unreadable: Sequence[str]
    """Sources of items that were skipped"""


def read(base: Path, prefix: str, lines: Sequence[Line], settings: Settings) -> Examples:
    """Read the pictures or the table of a manifest's lines.

    :param base: folder of the job's inputs
    :param prefix: S3 URI of the input `pictures`

    Raises `FatalError` for invalid input, and if more than `most_unreadable` items are unreadable.
    """
    present = [name for name in (PICTURES, TABLE) if (base / name).is_dir()]
    if len(present) != 1:
        raise FatalError(
            f"the job must have either input {PICTURES} or input {TABLE},"
            f" got {' and '.join(present) or 'neither'}"
        )
    if present[0] == PICTURES:
        return _pictures(base / PICTURES, prefix, lines, settings)
    return _table(base / TABLE, lines, settings)


def _pictures(folder: Path, prefix: str, lines: Sequence[Line], settings: Settings) -> Examples:
    if not prefix:
        raise FatalError(f"input {PICTURES} must have an S3Uri in processingjobconfig.json")
    arrays: list[Any] = []
    digests: list[bytes] = []
    kept: list[Line] = []
    unreadable: list[str] = []
    for line in lines:
        try:
            array, digest = _decoded(folder / _place(line.source, prefix), settings)
        except Exception:  # decoders raise many types of errors for damaged files
            _leave_out(line, unreadable, settings)
            continue
        arrays.append(array)
        digests.append(digest)
        kept.append(line)
    pictures = np.stack(arrays) if arrays else np.zeros((0, 0, 0, 0), np.uint8)
    features = pictures.reshape(len(kept), -1).astype(np.float32) / 255
    return _checked(Examples(kept, features, (), pictures, digests, unreadable))


def _place(source: str, prefix: str) -> PurePosixPath:
    """Return an object's path relative to `prefix`. Raises ValueError if the object is elsewhere."""
    path = PurePosixPath(source.removeprefix(prefix.rstrip("/") + "/"))
    if str(path) == source or path.is_absolute() or ".." in path.parts:
        raise ValueError(source)
    return path


def _decoded(path: Path, settings: Settings) -> tuple[Any, bytes]:
    """Return a picture as uint8 [side, side, channels], and the digest of its pixels before scaling."""
    with Image.open(path) as opened:
        picture = ImageOps.exif_transpose(opened).convert("L" if settings.grey else "RGB")
    digest = hashlib.sha256(f"{picture.size}".encode() + picture.tobytes()).digest()
    scaled = np.asarray(picture.resize((settings.side, settings.side), Image.Resampling.LANCZOS))
    return scaled.reshape(settings.side, settings.side, -1), digest


def _table(folder: Path, lines: Sequence[Line], settings: Settings) -> Examples:
    columns, rows = _rows(folder)
    kept: list[Line] = []
    unreadable: list[str] = []
    for line in lines:
        if line.source in rows:
            kept.append(line)
        else:
            _leave_out(line, unreadable, settings)
    features = np.array([rows[line.source] for line in kept], np.float32).reshape(len(kept), len(columns))
    spread = features.std(0, dtype=np.float64) if len(kept) else 1.0
    scaled = (features - features.mean(0, dtype=np.float64)) / np.where(spread, spread, 1)
    digests = [row.tobytes() for row in features]
    return _checked(Examples(kept, scaled.astype(np.float32), columns, None, digests, unreadable))


def _rows(folder: Path) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the names of the columns of numbers, and each row's numbers by source."""
    columns: tuple[str, ...] | None = None
    rows: dict[str, Any] = {}
    for path in sorted(folder.rglob("*.parquet")):
        try:
            table = pyarrow.parquet.read_table(path)
        except (OSError, pyarrow.ArrowException) as error:
            raise FatalError(f"{path.name} must be a Parquet file: {error}") from None
        names = tuple(name for name in table.column_names if name != SOURCE)
        if SOURCE not in table.column_names or not names:
            raise FatalError(
                f"{path.name} must have a column {SOURCE} and columns of numbers, got"
                f" {', '.join(table.column_names) or 'none'}"
            )
        if columns is not None and names != columns:
            raise FatalError(f"{path.name} must have columns {', '.join(columns)}, got {', '.join(names)}")
        columns = names
        numbers = np.stack([_numbers(path.name, name, table[name]) for name in names], 1)
        for number, source in enumerate(table[SOURCE].to_pylist()):
            if source in rows:
                raise FatalError(f"{path.name} row {number}: {SOURCE} {source!r} must have one row, got two")
            rows[source] = numbers[number]
    if columns is None:
        raise FatalError(f"folder {folder.name} must hold Parquet files, got none")
    return columns, rows


def _numbers(file: str, name: str, column: Any) -> Any:
    """Return a column of numbers as float32 [n]. Raises `FatalError` for another type or a missing value."""
    kind, types = column.type, pyarrow.types
    if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
        raise FatalError(f"{file}: column {name} must have numbers, got {kind}")
    values = np.array([np.nan if each is None else each for each in column.to_pylist()], np.float32)
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise FatalError(f"{file} row {wrong[0]}: {name} must be a finite number, got {values[wrong[0]]}")
    return values


def _leave_out(line: Line, unreadable: list[str], settings: Settings) -> None:
    unreadable.append(line.source)
    if len(unreadable) > settings.most_unreadable:
        raise FatalError(
            f"at most {settings.most_unreadable} items may be missing or unreadable (most_unreadable),"
            f" got more, the first: {', '.join(unreadable[:NAMED])}"
        )


def _checked(examples: Examples) -> Examples:
    if examples.unreadable:
        log.warning(
            "left out %d items that are missing or unreadable: %s",
            len(examples.unreadable),
            ", ".join(examples.unreadable[:NAMED]),
        )
    counts: dict[str, int] = {}
    for line in examples.lines:
        counts[line.class_name] = counts.get(line.class_name, 0) + 1
    few = [name for name, count in counts.items() if count < 2]
    if few or len(counts) < 2:
        raise FatalError(
            "the manifest must have at least 2 classes, each with at least 2 readable items, got"
            f" {', '.join(f'{name} ({count})' for name, count in counts.items()) or 'none'}"
        )
    return examples
